"""Recipes over real photos, run as a person's would be, and what they left, read back by other means than curate's."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

import curate
from curate.ask.handle import Handle
from curate.recipe import Recipe, load_recipe
from curate.recipe_yaml import dump
from curate.run.job import Job, Outcome
from curate.run.progress import Progress


@dataclass
class Done:
    """A finished run: the recipe, its outcome, the manifest of its pack if any, and the lines that it said."""

    recipe: Recipe
    outcome: Outcome
    manifest: dict[str, Any]
    said: list[str] = field(default_factory=list)

    @property
    def pool(self) -> Path:
        return Path(self.recipe.pool)

    def ask(self) -> Handle:
        """The pool, with the plain names of this recipe."""
        return curate.open(str(self.pool), self.recipe.name)

    def rows(self, query: str) -> list[dict[str, Any]]:
        return list(self.ask().sql(query).to_arrow().to_pylist())


def run(recipe: dict[str, Any], folder: Path, executor: str = "inline", workers: int | None = None) -> Done:
    """Write the recipe as YAML, run it, and pack where it says so."""
    file = folder / f"{recipe['recipe']}.yaml"
    file.write_text(dump(recipe))
    loaded = load_recipe(str(file))
    said = io.StringIO()
    job = Job(loaded, executor, workers)
    with Progress(None, "a test", said) as progress:
        try:
            outcome = job.run(progress)
            manifest = job.pack(progress, outcome.pick) if loaded.pack else {}
        finally:
            job.choice.close()
    return Done(loaded, outcome, manifest, said.getvalue().splitlines())


def stored(pool: Path) -> dict[str, bytes]:
    """uid -> picture, from the members of all tars of pixels, whatever the facts say."""
    found: dict[str, bytes] = {}
    for path in sorted((pool / "pixels").glob("*.tar")):
        with tarfile.open(path) as tar:
            for member in tar:
                file = tar.extractfile(member)
                assert file is not None
                assert member.name[:32] not in found
                found[member.name[:32]] = file.read()
    return found


@dataclass
class Packed:
    """One sample of a pack, as a reader of tars sees it."""

    image: bytes
    text: str
    about: dict[str, Any]


def packed(folder: Path) -> dict[str, Packed]:
    """Key -> sample, of all tars of a pack."""
    found: dict[str, dict[str, bytes]] = {}
    for path in sorted(folder.glob("*.tar")):
        with tarfile.open(path) as tar:
            for member in tar:
                key, _, suffix = member.name.partition(".")
                file = tar.extractfile(member)
                assert file is not None
                assert suffix not in found.setdefault(key, {})
                found[key][suffix] = file.read()
    samples = {}
    for key, parts in found.items():
        (image,) = (v for k, v in parts.items() if k not in ("txt", "json"))
        samples[key] = Packed(image, parts["txt"].decode(), json.loads(parts["json"]))
    return samples


def files_of(pool: Path, folders: Sequence[str]) -> dict[str, bytes]:
    """Relative path -> bytes of everything below these folders of a pool."""
    found = (p for f in folders for p in (pool / f).rglob("*") if p.is_file())
    return {str(p.relative_to(pool)): p.read_bytes() for p in found}


def listed_again(pool: Path) -> list[dict[str, Any]]:
    """Every row of every list shard, in the order of the list."""
    return [row for p in sorted((pool / "lists").rglob("*.parquet")) for row in pq.read_table(p).to_pylist()]
