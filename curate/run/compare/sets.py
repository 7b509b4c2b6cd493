"""The sets that runs are evaluated on, and what is missing of them.

    sets, missing = open_sets(["evalsets", "held_out/flickr8k"])

A path is a set in CLIP_benchmark's layout, or a folder with several; in the latter DataComp's 38 are known by their
names and evaluated by their own main metric, and those that are not there are named as missing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import fsspec

from curate.errors import UserError
from curate.pool.layout import short_hash
from curate.run.prints import file_digest

if TYPE_CHECKING:
    from training_smoke.evaluate.run import Source


@dataclass(frozen=True)
class EvalSet:
    """One set: what tables call it, where it lies, its name among DataComp's 38, and the digest of that and of all
    its files. probed: it has classes and a part to train on, for linear probes and nearest neighbours."""

    name: str
    path: str
    task: str | None
    digest: str
    probed: bool = False

    def open(self) -> Source:
        """
        Raises:
            TrainingError: it is not whole.
        """
        from training_smoke.evaluate.folders import Folder
        from training_smoke.evaluate.run import find
        from training_smoke.evaluate.tasks import TASKS

        return Folder.open(self.path) if self.task is None else find(TASKS[self.task], self.path.rsplit("/", 1)[0])


def open_sets(paths: Sequence[str]) -> tuple[list[EvalSet], dict[str, str]]:
    """
    Raises:
        UserError: a path that holds no set, or two sets of one name.
    """
    sets: list[EvalSet] = []
    missing: dict[str, str] = {}
    for path in paths:
        fs, below = fsspec.url_to_fs(path.rstrip("/"))
        if fs.exists(f"{below}/test/nshards.txt"):
            sets.append(_set(path.rstrip("/")))
            continue
        found, lacking = _below(path.rstrip("/"), fs, below)
        if not found:
            raise UserError(
                f"{path}: no evaluation set: there is no test/nshards.txt in it or in a folder of it (the layout of "
                "CLIP_benchmark's webdatasets; docs/judging.md)"
            )
        sets += found
        missing |= lacking
    names = [s.name for s in sets]
    if twice := sorted({n for n in names if names.count(n) > 1}):
        raise UserError(f"several evaluation sets are called {', '.join(twice)}: rename a folder")
    return sets, missing


def _below(root: str, fs: fsspec.AbstractFileSystem, below: str) -> tuple[list[EvalSet], dict[str, str]]:
    from training_smoke.errors import TrainingError
    from training_smoke.evaluate.run import find
    from training_smoke.evaluate.tasks import TASKS

    found: dict[str, EvalSet] = {}
    missing: dict[str, str] = {}
    for task in TASKS.values():
        try:
            path = find(task, root).path
        except TrainingError as e:
            missing[task.name] = str(e)
            continue
        found[path] = _set(path, task.name, task.name)
    known = len(found)
    for entry in sorted(fs.ls(below, detail=False)) if fs.exists(below) else []:
        path = f"{root}/{entry.rstrip('/').rsplit('/', 1)[-1]}"
        if path not in found and fs.exists(f"{entry}/test/nshards.txt"):
            found[path] = _set(path)
    return list(found.values()), missing if known else {}  # a folder of one's own sets is not DataComp's


def _set(path: str, name: str | None = None, task: str | None = None) -> EvalSet:
    fs, below = fsspec.url_to_fs(path)
    files = fs.find(below, detail=True)
    content = sorted((rel[len(below) :], _content(rel, about)) for rel, about in files.items())
    where = path if "://" in path else str(Path(path).absolute())  # workers have other working directories
    there = {rel for rel, _ in content}
    probed = {"/classnames.txt", "/train/nshards.txt"} <= there and not _says_another_kind(path)
    return EvalSet(name or path.rsplit("/", 1)[-1], where, task, short_hash([task, content]), probed)


def _says_another_kind(path: str) -> bool:
    from training_smoke.errors import TrainingError
    from training_smoke.evaluate.folders import Folder

    try:
        return Folder.open(path).kind != "classification"
    except TrainingError:  # told when it is evaluated
        return True


def _content(rel: str, about: Mapping[str, Any]) -> list[Any]:
    """What changes when the file does: a digest of it here, an object store's tag or time elsewhere."""
    if Path(rel).is_file():
        return [file_digest(rel)]
    tags = ("ETag", "etag", "md5Hash", "LastModified", "mtime", "created")
    return [about["size"], *(str(about[tag]) for tag in tags if about.get(tag))][:2]
