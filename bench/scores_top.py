"""The best 30 % of 100 million float32 scores, exactly: time and memory of the filter's phases on two processes.

Scores lie on disk as shards do, with uids; every phase reads and writes its files. The answer is checked against one
sort of everything, whose time and memory are told beside.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

sys.path[:0] = [str(Path(__file__).resolve().parent), str(Path(__file__).resolve().parent.parent)]

from common import WORK, Bar, at_most, bar, fresh  # noqa: E402

from curate.pool.columns import read_table, write_groups  # noqa: E402
from curate.pool.storage import Storage  # noqa: E402
from filters.top_fraction import TopFraction  # noqa: E402
from stages.base import Input, Inputs, Output, Shape, ShardColumns  # noqa: E402

ROWS_OF_SHARD = 1_000_000
CHOSEN = TopFraction(over="pool", column="score", fraction=0.3, on_missing="drop")
LIMIT_S, LIMIT_MB = 30, 2000


def measure(quick: bool) -> dict[str, Bar]:
    shards = 5 if quick else 100
    folder = made(shards)
    found = subprocess.run(
        [sys.executable, __file__, str(folder), str(shards)], capture_output=True, text=True, check=True
    ).stdout.split()
    seconds, megabytes, kept = float(found[0]), float(found[1]), int(found[2])
    right = check(folder, shards, kept)
    print(f"top fraction of {shards} million: {seconds:.1f} s, {megabytes:.0f} MB in all; kept {kept:,}: {right}")
    if quick:
        return {"top_fraction_s": bar(round(seconds, 1), f"{LIMIT_S} at 100 million", None),
                "top_fraction_mb": bar(round(megabytes), LIMIT_MB, None),
                "top_fraction_is_exact": bar(right, "as one sort says", right)}  # fmt: skip
    return {
        "top_fraction_s": at_most(seconds, LIMIT_S, 1),
        "top_fraction_mb": at_most(megabytes, LIMIT_MB, 0),
        "top_fraction_is_exact": bar(right, "as one sort says", right),
    }


def made(shards: int) -> Path:
    """A folder of shards: uid and a score like a cosine's, rounded to 1e-4; some are missing, some -0.0."""
    folder = WORK / f"scores-{shards}"
    if not (folder / "made").exists():
        folder = fresh(folder.name)
        for shard in range(shards):
            rng = np.random.default_rng(shard)
            scores = np.round(rng.normal(0.2, 0.08, ROWS_OF_SHARD), 4).astype(np.float32)
            scores[::1009] = np.nan
            scores[1::1013] = -0.0
            uid = pa.Array.from_buffers(
                pa.binary(16), ROWS_OF_SHARD, [None, pa.py_buffer(rng.bytes(16 * ROWS_OF_SHARD))]
            )
            pq.write_table(pa.table({"uid": uid, "score": scores}), folder / f"{shard:08d}.parquet", compression="zstd")
        (folder / "made").touch()
    return folder


def check(folder: Path, shards: int, kept: int) -> bool:
    """Is every score that is kept at least every one that is not, and are they so many?"""
    least, most = np.inf, -np.inf
    for shard in range(shards):
        scores = pq.read_table(folder / f"{shard:08d}.parquet", columns=["score"]).column("score").to_numpy()
        keep = pq.read_table(folder / "out" / "verdict" / f"{shard:08d}.parquet").column("keep").to_numpy()
        least = min(least, float(np.nanmin(scores[keep], initial=np.inf)))
        most = max(most, float(np.nanmax(scores[~keep], initial=-np.inf)))
        if np.isnan(scores[keep]).any():
            return False
    return kept == int(CHOSEN.fraction * shards * ROWS_OF_SHARD) and least >= most


# ---------------------------------------------------------------- the work, in a process of its own


def part(folder: str, shards: int, number: int, name: str) -> tuple[int, float]:
    """One part of one phase, from file to file; (rows kept, peak MB of this process)."""
    phase = CHOSEN.phases(shape(shards))[number]
    storage = Storage.at(folder)
    load = lambda key: _load(folder, storage, key)  # noqa: E731
    output = CHOSEN.run(phase.name, name, Inputs(phase.inputs(name), load))
    tables = [output.tables] if isinstance(output.tables, pa.Table) else output.tables
    storage.commit(f"out/{phase.name}/{name}.parquet", write_groups(tables, {}))
    return int(_stat(output, "kept")), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _stat(output: Output, name: str) -> Any:
    return (output.stats or {}).get(name, 0)


def _load(folder: str, storage: Storage, key: Input) -> pa.Table:
    if isinstance(key, ShardColumns):
        table = pq.read_table(f"{folder}/{key.shard:08d}.parquet")
        return table.append_column("asked", pa.array(np.ones(table.num_rows, bool)))
    return read_table(storage, f"out/{key.phase}/{key.part}.parquet", group=key.bucket)[0]


def shape(shards: int) -> Shape:
    return Shape(tuple(range(shards)), (ROWS_OF_SHARD,) * shards)


def main(folder: str, shards: int) -> None:
    import shutil

    shutil.rmtree(Path(folder) / "out", ignore_errors=True)
    pa.set_cpu_count(1)
    began, kept, peaks = time.monotonic(), 0, {}
    with ProcessPoolExecutor(min(2, os.cpu_count() or 1), get_context("forkserver")) as workers:
        for number, phase in enumerate(CHOSEN.phases(shape(shards))):
            assert not callable(phase.parts)
            found = workers.map(_part, [(folder, shards, number, p) for p in phase.parts])
            for of_part, peak, pid in found:
                kept += of_part
                peaks[pid] = max(peak, peaks.get(pid, 0.0))
    own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(time.monotonic() - began, own + sum(peaks.values()), kept)


def _part(given: tuple[str, int, int, str]) -> tuple[int, float, int]:
    return (*part(*given), os.getpid())


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
