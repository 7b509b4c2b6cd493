"""Pools and finished picks for tests of what a report gathers: real filters, run as the engine runs them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from curate.catalog import default_fields
from curate.pool.columns import read_table
from curate.pool.pool import Pool
from curate.run.engine import Rules
from curate.run.graph import asked
from curate.run.job import walk_recipe
from curate.run.pick import Emit
from curate.run.progress import Progress
from curate.run.walk import ExecutorChoice, Ground, Walk
from filters.base import Filter
from stages.base import Column, fact
from tests.tiny import PIXELS_SETTINGS, add_shard, jpeg, sample

WORDS = ("one", "two", "three", "four", "five", "six", "seven")
IMAGES = [jpeg(i) for i in range(8)]


def small_pool(url: str, shards: int = 3, rows: int = 40, **more: Sequence[Any]) -> Pool:
    """Samples with sizes, captions and hashes that vary; `more`: facts by row of the whole pool, in turn."""
    pool = Pool.create(url, PIXELS_SETTINGS, rows)
    for shard in range(shards):
        samples = []
        for n in range(shard * rows, (shard + 1) * rows):
            facts = {name: values[n % len(values)] for name, values in more.items()}
            sized = {"original_width": 20 + (n * 37) % 400, "original_height": 20 + (n * 53) % 300}
            words = " ".join(WORDS[: 1 + n % len(WORDS)])
            samples.append(sample(n, image=IMAGES[n % 8], **{**sized, "text": f"{words} {n}", **facts}))
        add_shard(pool, shard, samples)
    return Pool.open(url)


def run(pool: Pool, filters: dict[str, Filter]) -> str:
    """Run these filters over the pool and pick; returns the pick's folder."""
    fields = default_fields()

    def column(name: str) -> Column:
        return fields.get(name) or fact(name)

    ground = Ground(pool, Progress(None, "test"), ExecutorChoice("inline"), Rules(tries=1))
    walk = Walk(ground, pool.claimed(), None, dry=False)
    steps = [asked(i, f, column) for i, f in filters.items()]
    walk_recipe(walk, steps, ())
    said = {i: {"filter": f.method(), "over": getattr(f, "over", None)} for i, f in filters.items()}
    more = {"yaml": "# test\n", "columns": [], "steps": said}
    return walk.choose("test", (Emit(1, (("web", 1.0),)),), {"web": fact("text")}, more)


def everything(pool: Pool, folder: str, names: Sequence[str]) -> dict[str, list[Any]]:
    """Columns of one row-aligned folder, over all shards."""
    tables = [read_table(pool.storage, f"{folder}/{s:08d}.parquet", names)[0] for s in pool.shards()]
    whole = pa.concat_tables(tables)
    return {n: whole.column(n).to_pylist() for n in names}


def facts(pool: Pool, names: Sequence[str]) -> dict[str, list[Any]]:
    whole = pa.concat_tables([pool.facts(s, list(names))[0] for s in pool.shards()])
    return {n: whole.column(n).to_pylist() for n in names}


def numbers(values: Sequence[float | None]) -> np.ndarray:
    """float64, NaN for None."""
    return np.array([np.nan if v is None else v for v in values], float)
