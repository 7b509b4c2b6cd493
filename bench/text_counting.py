"""Counting over a pool: texts a second on one core, and the most memory that a process of it holds.

Texts are of Zipf's law over a large vocabulary, in shards on disk, and every phase reads and writes its files, each
part in turn in one process. What is held must not grow with the pool: twice the texts, the same spans and buckets.
"""

from __future__ import annotations

import resource
import subprocess
import sys
import time
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parent), str(Path(__file__).resolve().parent.parent)]

import numpy as np  # noqa: E402
import pyarrow as pa  # noqa: E402
import pyarrow.parquet as pq  # noqa: E402
from common import WORK, Bar, at_least, at_most, bar, fresh  # noqa: E402

import stages.shuffle as shuffle  # noqa: E402
from stages.base import Barrier, Input, Inputs, Output, Phase, Shape, ShardColumns  # noqa: E402
from stages.key_counts import KeyCounts  # noqa: E402
from stages.ngram_rarity import NgramRarity  # noqa: E402

ROWS_OF_SHARD = 10_000
WORDS = 200_000
SPAN = 1 << 18  # rows; a small one, so that a few million rows are many spans
BARRIERS = {"key_counts": KeyCounts(by="text_clean"), "ngram_rarity": NgramRarity(vocabulary=1_000_000)}
LEAST = {"key_counts": 100_000, "ngram_rarity": 40_000}


def measure(quick: bool) -> dict[str, Bar]:
    sizes = (20,) if quick else (60, 120)
    bars: dict[str, Bar] = {}
    for name in BARRIERS:
        found = {shards: in_a_process(name, shards) for shards in sizes}
        for shards, (pace, megabytes) in found.items():
            print(f"{name}: {shards * ROWS_OF_SHARD:,} texts, {pace:,.0f} a second on one core, {megabytes:,.0f} MB")
        pace, megabytes = found[sizes[-1]]
        bars[f"{name}_texts_per_s"] = at_least(pace, LEAST[name], 0)
        grown = bar(None, 1.3, None) if quick else at_most(megabytes / found[sizes[0]][1], 1.3, 2)
        bars[f"{name}_memory_of_twice_the_pool"] = grown
    return bars


def in_a_process(name: str, shards: int) -> tuple[float, float]:
    """(texts a CPU-second, peak megabytes) in a process of its own."""
    folder = made(shards)
    command = [sys.executable, __file__, name, str(folder), str(shards)]
    pace, megabytes = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    return float(pace), float(megabytes)


def made(shards: int) -> Path:
    """A folder of shards of texts of some ten words; one text in twenty is one of a few that all share."""
    folder = WORK / f"text-counting-{shards}"
    if not (folder / "made").exists():
        folder = fresh(folder.name)
        words = np.array([f"w{i:x}" for i in range(WORDS)])
        for shard in range(shards):
            rng = np.random.default_rng(shard)
            drawn = words[np.minimum(rng.zipf(1.3, (ROWS_OF_SHARD, 10)) - 1, WORDS - 1)]
            texts = [" ".join(row) for row in drawn]
            texts[::20] = [f"logo {i % 7}" for i in range(len(texts[::20]))]
            pq.write_table(pa.table({"text": texts}), folder / f"{shard:08d}.parquet")
        (folder / "made").touch()
    return folder


# ---------------------------------------------------------------- the work, in a process of its own


class Files:
    """Phases of a barrier over shards on disk, one part after another."""

    def __init__(self, pool: Path, out: Path, barrier: Barrier, shape: Shape) -> None:
        self.pool, self.out, self.barrier, self.shape = pool, out, barrier, shape

    def run(self) -> None:
        for phase in self.barrier.phases(self.shape):
            parts = phase.parts
            assert not callable(parts)
            for part in parts:
                self._part(phase, part)

    def _part(self, phase: Phase, part: str) -> None:
        done = self.barrier.run(phase.name, part, Inputs(phase.inputs(part), self._load))
        self._write(phase.name, part, done)

    def _write(self, phase: str, part: str, done: Output) -> None:
        folder = self.out / phase / part
        folder.mkdir(parents=True)
        tables = [done.tables] if isinstance(done.tables, pa.Table) else list(done.tables)
        for i, table in enumerate(tables):
            if table.num_rows or i == 0:
                pq.write_table(table, folder / f"{i}.parquet")
        (folder / "tables").write_text(str(len(tables)))

    def _load(self, key: Input) -> pa.Table:
        if isinstance(key, ShardColumns):
            return pq.read_table(self.pool / f"{key.shard:08d}.parquet", columns=["text"])
        folder = self.out / key.phase / key.part
        file = folder / f"{key.bucket or 0}.parquet"
        return pq.read_table(file) if file.exists() else pq.read_schema(folder / "0.parquet").empty_table()


def main(name: str, pool: Path, shards: int) -> None:
    shuffle.ROWS = SPAN
    shape = Shape(tuple(range(shards)), (ROWS_OF_SHARD,) * shards)
    began = time.process_time()
    Files(pool, fresh(f"text-counting-{name}"), BARRIERS[name], shape).run()
    pace = shape.total / (time.process_time() - began)
    print(pace, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))
