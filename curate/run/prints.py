"""Fingerprints: what names a folder of results, so that nothing is silently stale and nothing good is redone.

A fingerprint covers name, version, parameters, digests of the weights and lists that are read, and the
fingerprints of the columns that are read. What depends on all shards also covers the generation: the
digest of (shard, rows, uid digest) that it saw, and what only survivors have covers who was removed from them.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import xxhash

from curate.errors import UserError
from curate.pool.layout import folder_name, short_hash
from curate.run.sparse import is_sparse, over_survivors
from filters.base import Filter, GlobalFilter, RowFilter
from stages.base import Barrier, Column, Parameters, Stage


def file_digest(path: str) -> str:
    """xxh3_128 of a file or of all files below a folder; cached by path, size and time.

    Raises:
        UserError: there is no such file.
    """
    root = Path(path).expanduser()
    if not root.exists():
        raise UserError(f"{path}: no such file; a stage of the recipe needs it")
    files = sorted(f for f in root.rglob("*") if f.is_file()) if root.is_dir() else [root]
    said = "".join(f"{f.relative_to(root)}={_one_digest(f)};" for f in files)
    return xxhash.xxh3_128_hexdigest(said.encode(errors="surrogateescape"))


def _one_digest(path: Path) -> str:
    from curate.pool.objects import cache_root

    stat = path.stat()
    about = f"{path.absolute()}|{stat.st_size}|{stat.st_mtime_ns}"
    key = xxhash.xxh3_128_hexdigest(about.encode(errors="surrogateescape"))
    note = cache_root() / "digests" / key
    if note.exists():
        return note.read_text()
    hasher = xxhash.xxh3_128()
    with path.open("rb") as f:
        while chunk := f.read(1 << 22):
            hasher.update(chunk)
    note.parent.mkdir(parents=True, exist_ok=True)
    temporary = note.with_suffix(f".{uuid.uuid4().hex}")
    temporary.write_text(hasher.hexdigest())
    temporary.replace(note)
    return hasher.hexdigest()


@dataclass
class Prints:
    """Fingerprints and folders within one pool. `generation` is known once all shards are there.

    removed: digest of the removed uids; "" where there are none, so that their folders keep the names that they had.
    """

    generation: str | None = None
    above: dict[Barrier, tuple[str, ...]] = field(default_factory=dict)
    """What decides whom a barrier is asked about, of those that are asked about survivors: see `whose`."""
    removed: str = ""

    @cached_property
    def _digests(self) -> dict[str, str]:
        return {}

    def identity(self, owner: Parameters) -> dict[str, Any]:
        """The owner's identity with file names replaced by what is in the files.

        The digests also stand by themselves: a file that no parameter names literally ("~/w.pt", a default) counts too.

        Raises:
            UserError: weights or lists that it reads are not there.
        """
        digests: list[str] = []
        try:
            found, paths = owner.identity(), owner.files()
        except ValueError as e:
            raise UserError(str(e)) from e
        for path in paths:
            if path not in self._digests:
                self._digests[path] = file_digest(path)
            digests.append(self._digests[path])
            found = _replace(found, path, f"digest:{self._digests[path]}")
        return {**found, "files": digests} if digests else found

    def about(self, owner: Parameters, **more: Any) -> dict[str, Any]:
        """The note beside a folder of results; it names weights by what is in them, not by where they lie here."""
        return dict(json.loads(json.dumps({"identity": self.identity(owner), **more}, default=str)))

    def column(self, column: Column) -> str:
        if column.owner is None:
            return f"fact:{column.field}"
        return f"{self.owner(column.owner)}:{column.field}"

    def base(self, owner: Stage | Barrier) -> str:
        """Hash of a stage, or of what is local to a shard in a barrier."""
        reads = [self.column(c) for c in owner.reads()]
        return short_hash({"what": self.identity(owner), "reads": reads})

    def owner(self, owner: Stage | Barrier) -> str:
        """Hash of a stage; of a barrier, for the generation that it sees."""
        if isinstance(owner, Stage):
            return self.base(owner)
        what: dict[str, Any] = {"base": self.base(owner), "generation": self._now()}
        if over_survivors(owner):
            what["above"] = list(self.above[owner])
        return short_hash(what)

    def _now(self) -> str:
        if self.generation is None:
            raise AssertionError("a barrier has no fingerprint before all shards are there")
        return self.generation

    def leaves_out(self, owner: Barrier | Filter, reads: Sequence[Column]) -> bool:
        """Are removed samples none of the survivors that the owner is asked about?

        They are none where it hangs on when they were removed what is known of them: a captioner is not shown them.
        """
        sparse = any(c.owner is not None and is_sparse(c.owner) for c in reads)
        return sparse and (isinstance(owner, RowFilter) or over_survivors(owner))

    def whose(self, owner: Barrier | Filter, reads: Sequence[Column], above: Sequence[str]) -> tuple[str, ...]:
        """What decides who is a survivor: the verdict folders above, and who was removed if those are left out."""
        return (*above, *([f"removed@{self.removed}"] if self.removed and self.leaves_out(owner, reads) else []))

    def stage_folder(self, stage: Stage) -> str:
        digest = self.base(stage)  # first, since it says in words which weights are missing
        return folder_name("columns", stage.identity()["name"], digest)

    def phase_folder(self, owner: Barrier, phase: str, *, local: bool) -> str:
        digest = self.base(owner) if local and not over_survivors(owner) else self.owner(owner)
        return folder_name("barriers", owner.identity()["name"], digest) + f"/{phase}"

    def filter(self, chosen: Filter, reads: Sequence[Column], above: Sequence[str]) -> str:
        """Hash of a filter over these columns; `above` are the verdict folders of the filters before it, as `whose`."""
        what: dict[str, Any] = {"what": self.identity(chosen), "reads": [self.column(c) for c in reads]}
        if isinstance(chosen, RowFilter):
            what["rules"] = dict(chosen.rules())
            if asks_survivors(chosen, reads):
                what["above"] = list(above)
        if isinstance(chosen, GlobalFilter):
            what["barriers"] = [self.owner(b) for b in chosen.barriers()]
            what["generation"] = self._now()
            if over_survivors(chosen):
                what["above"] = list(above)
        return short_hash(what)


def asks_survivors(chosen: Filter, reads: Sequence[Column]) -> bool:
    """Is the filter asked about survivors only? A row filter is where a column of it is sparse."""
    if isinstance(chosen, GlobalFilter):
        return over_survivors(chosen)
    return any(c.owner is not None and is_sparse(c.owner) for c in reads)


def _replace(value: Any, old: str, new: str) -> Any:
    if isinstance(value, dict):
        return {k: _replace(v, old, new) for k, v in value.items()}
    if isinstance(value, list):
        return [_replace(v, old, new) for v in value]
    return new if value == old else value
