"""One pool for all recipes of a session, what is known of its rows without curate, and runs of recipes over it.

chosen = world.run("datacomp_basic")
chosen.times["139e..."], chosen.dropped_by["139e..."], chosen.column("lang")
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from string import Formatter
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image, ImageOps

import curate
from curate.recipe import Recipe, load_recipe
from curate.run.job import Job
from curate.run.progress import Progress
from tests.recipes.planted import Row, write_list

SHARD = 300  # seven shards: what a shard decides alone is seen


@dataclass(frozen=True)
class Chosen:
    """What a recipe made of the pool. `rows`: see `World.rows`; oracles get this, and read of the pool by `column`."""

    rows: pd.DataFrame
    picks: pd.DataFrame
    pool: Path
    pick: str
    recipe: Recipe

    @property
    def times(self) -> pd.Series:
        """uid -> copies; 0 where dropped."""
        return self.picks["times"]

    def dropped(self) -> dict[str, int]:
        """Step -> how many samples it dropped first."""
        return {str(k): int(v) for k, v in self.picks["dropped_by"].value_counts().items()}

    def column(self, name: str) -> pd.Series:
        """A column as this recipe names it, by uid in the order of `rows`: vectors, hashes, what large models say."""
        found = _ask(self.pool, self.pick, f'SELECT uid, "{name}" AS value FROM samples')
        return pd.Series([r["value"] for r in found], [r["uid"] for r in found]).reindex(self.rows.index)

    def model(self, kind: str, phase: str, **parameters: Any) -> pa.Table:
        """What a barrier or filter fitted, as weights are: the file of a phase with the one part "all"."""
        return pq.read_table(self._folder(kind, parameters) / phase / "all.parquet")

    def answers(self, kind: str, phase: str, **parameters: Any) -> pd.DataFrame:
        """What a barrier says of every row, by uid in the order of `rows`: groups and clusters, no scores."""
        return self._aligned(self._folder(kind, parameters) / phase)

    def verdicts(self, kind: str) -> pd.DataFrame:
        """What a filter noted of every row beside its decision."""
        (folder,) = (self.pool / "verdicts").glob(f"{kind}@*")
        return self._aligned(folder)

    def _aligned(self, folder: Path) -> pd.DataFrame:
        found = []
        for facts in sorted((self.pool / "pixels").glob("*.parquet")):
            uids = [u.hex() for u in pq.read_table(facts, columns=["uid"]).column("uid").to_pylist()]
            found.append(pd.DataFrame(pq.read_table(folder / facts.name).to_pydict(), uids))
        return pd.concat(found).reindex(self.rows.index)

    def _folder(self, kind: str, parameters: dict[str, Any]) -> Path:
        found = []
        for folder in sorted((self.pool / "barriers").glob(f"{kind}@*")):
            about = folder / "about.json"
            given = json.loads(about.read_text())["identity"]["parameters"] if about.is_file() else {}
            if all(given[n] == v for n, v in parameters.items()):
                found.append(folder)
        assert len(found) == 1, f"{len(found)} folders of {kind} with {parameters}"
        return found[0]

    def vectors(self, name: str) -> np.ndarray:
        """float64 (rows, dim); NaN where the pool has none."""
        values = self.column(name)
        dim = next(len(v) for v in values if v is not None)
        return np.array([[np.nan] * dim if v is None else v for v in values], np.float64)


class World:
    """The pool. `given` has what a user gives: name -> path of weights and lists."""

    def __init__(self, folder: Path, rows: Sequence[Row], given: dict[str, str], shard: int = SHARD) -> None:
        self.folder, self.planted, self.given, self.shard = folder, rows, given, shard
        write_list(rows, folder / "list.parquet")

    @cached_property
    def rows(self) -> pd.DataFrame:
        """uid -> kind, url, text, image, width, height, nbytes, format, sha256; all from the list itself."""
        facts = [_facts(r) for r in self.planted]
        columns = {
            n: pd.Series([f[n] for f in facts], dtype=object if n in ("text", "image") else None) for n in facts[0]
        }
        found = pd.DataFrame(columns).set_index("uid").rename_axis(None)
        assert found.index.is_unique
        return found

    def recipe(self, name: str, more: Sequence[str] = ()) -> Recipe:
        """A built-in recipe over the list of this world."""
        ours = [
            f"pool={self.folder / 'pool'}",
            f"source.path={self.folder / 'list.parquet'}",
            f"shard_size={self.shard}",
            "ingest.resize=none",
            "run.executor=inline",
        ]
        lacks = {field for m in more for _, field, _, _ in Formatter().parse(m) if field} - self.given.keys()
        if lacks:
            pytest.skip(f"{name}: no {', '.join(sorted(lacks))} could be made: a package is not installed")
        return load_recipe(name, [*ours, *(m.format(**self.given) for m in more)])

    def run(self, name: str, more: Sequence[str] = ()) -> Chosen:
        """Run it; `more` are --set, in which {name} is a path of `given`."""
        recipe = self.recipe(name, more)
        with Progress(None, "a test", io.StringIO()) as progress:
            outcome = Job(recipe).run(progress)
        assert not outcome.failed
        pick = outcome.pick.removeprefix("picks/")
        asked = _ask(self.folder / "pool", pick, "SELECT uid, times, dropped_by, reason FROM samples")
        picks = pd.DataFrame(asked).set_index("uid").reindex(self.rows.index)
        assert len(picks) == len(asked) == outcome.rows
        return Chosen(self.rows, picks, self.folder / "pool", pick, recipe)


def _ask(pool: Path, pick: str, query: str) -> list[dict[str, Any]]:
    return list(curate.open(str(pool), pick).sql(query).to_arrow().to_pylist())


def _facts(row: Row) -> dict[str, Any]:
    with Image.open(io.BytesIO(row.image)) as image:
        format = str(image.format).lower()
        width, height = ImageOps.exif_transpose(image).size
    sha256 = hashlib.sha256(row.image).hexdigest()
    seen = {"width": width, "height": height, "nbytes": len(row.image), "format": format, "sha256": sha256}
    return {"uid": row.uid, "kind": row.kind, "url": row.url, "text": row.text, "image": row.image, **seen}
