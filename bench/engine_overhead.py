"""What the engine costs over a plain loop of the same function: CPU-seconds, inline and on Ray.

One pass: `describe` (a real stage, ImageFacts) over shards of more than a second each. The stage carries a
number so that each pass computes anew. Start-up is apart: Ray and its workers are warm.
"""

from __future__ import annotations

import time

from common import Bar, alternated, at_most, fresh, photos, tree_cpu

from curate.pool.layout import short_hash
from curate.pool.lists import listed, register
from curate.pool.pool import Pool
from curate.run.describe import Describe, describe
from curate.run.engine import Engine, Pass, Rules
from curate.run.executors import Executor, InlineExecutor, RayExecutor
from curate.run.fetch.spec import IngestSpec
from curate.run.ingest import ingest_shard
from curate.run.progress import Progress
from curate.run.sources import SourceSpec, open_source
from stages.base import Need, shard_name
from stages.image_facts import ImageFacts


class Numbered(ImageFacts):
    """ImageFacts under another fingerprint for each pass."""

    number: int = 0


def pool_of(rows: int, shard_size: int, name: str) -> Pool:
    """A pool of photos, made once."""
    folder = fresh(name)
    spec = IngestSpec(resize="none")
    pool = Pool.create(str(folder), spec.pixels(), shard_size)
    claim = register(pool.storage, open_source(SourceSpec(path=str(photos(rows)), url=None)), shard_size)
    for shard in claim.numbers:
        ingest_shard(pool.storage, listed(pool.storage, claim, shard), shard, "photos", spec, claim.bytes_column)
    return pool


def work_of(pool: Pool, number: int) -> Describe:
    stage = Numbered(number=number)
    return Describe(pool.storage.url, (stage,), {stage: f"columns/numbered@{short_hash(number)}"})


def through(executor: Executor, pool: Pool, number: int) -> float:
    """CPU-seconds of one pass through the engine."""
    items = [shard_name(s) for s in pool.shards()]
    watcher = Progress(pool.storage, "bench")
    began = tree_cpu()
    Engine([Pass("describe", describe, work_of(pool, number), items, Need())], executor, watcher, Rules()).run()
    time.sleep(0.2)  # workers account for their last slice
    return tree_cpu() - began


def plain(pool: Pool, number: int) -> float:
    """CPU-seconds of the bare loop."""
    work, began = work_of(pool, number), tree_cpu()
    for shard in pool.shards():
        describe(work, shard_name(shard))
    return tree_cpu() - began


def measure(quick: bool) -> dict[str, Bar]:
    rows, shard_size, passes = (6000, 1500, 3) if quick else (24_000, 3000, 5)
    pool = pool_of(rows, shard_size, "overhead")
    inline, ray = InlineExecutor(), RayExecutor(2)
    numbers = iter(range(10_000))
    plain(pool, next(numbers))  # caches and imports are warm before anything is measured
    through(ray, pool, next(numbers))
    took: dict[str, float] = alternated(
        {
            "plain": lambda _: plain(pool, next(numbers)),
            "inline": lambda _: through(inline, pool, next(numbers)),
            "ray": lambda _: through(ray, pool, next(numbers)),
        },
        passes,
    )
    began = time.monotonic()
    plain(pool, next(numbers))
    each = (time.monotonic() - began) / len(pool.shards())
    print(f"engine overhead: {len(pool.shards())} shards of {each:.2f} s; CPU-seconds {took}")
    ray.close()
    return {
        "inline_cpu_over_plain_loop": at_most(took["inline"] / took["plain"], 1.02),
        "ray_cpu_over_plain_loop": at_most(took["ray"] / took["plain"], 1.15),
    }


def main() -> None:
    import sys

    print(measure("--quick" in sys.argv))


if __name__ == "__main__":
    main()
