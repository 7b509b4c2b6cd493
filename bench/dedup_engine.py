"""The near barrier for hashes from file to file on two processes: a million and ten million hashes, d <= 4, exact.

Shards lie on disk as in a pool; every part of every phase reads and writes its files. The same pool is cut in two ways,
with buckets of the default size and of a quarter of it, and is worked on by one and by two processes: groups and edges
must be the same bytes. The pairs are counted again in another way; those that footers say were left out of a crowd
count. Beside them, a million hashes of 256 bits (d <= 31, by bands), a million of 64 whose 192 bytes of colours must
agree.

    python bench/dedup_engine.py --hashes 1000000         # one pool, with [seconds, CPU seconds, parts] by phase
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

sys.path[:0] = [str(Path(__file__).resolve().parent), str(Path(__file__).resolve().parent.parent)]

from common import Bar, at_most, bar, environment  # noqa: E402
from dedup_engine_data import BARRIERS, counted, made, shape_of  # noqa: E402

import stages.shuffle as shuffle  # noqa: E402
from curate.pool.columns import read_table, write_groups  # noqa: E402
from curate.pool.storage import Storage  # noqa: E402
from stages.base import Input, Inputs, Phase, Shape, ShardColumns, shard_name  # noqa: E402

LIMITS = {("64", 1_000_000): 3, ("64", 10_000_000): 120, ("256", 1_000_000): None, ("verified", 1_000_000): None}
PEAK_MB = 2000
Found = dict[str, Any]
CASES = (("default", 1, 2), ("quarter", 4, 2), ("one_worker", 1, 1), ("quarter_one_worker", 4, 1))
"""(name, into how many times more buckets than by default, workers)"""


def measure(quick: bool) -> dict[str, Bar]:
    bars: dict[str, Bar] = {}
    for kind, hashes in [(k, 100_000) for k in BARRIERS] if quick else LIMITS:
        made(kind, hashes)
        finer = 16 if quick else 1  # small pools have one bucket else
        runs = {name: run(kind, hashes, cut * finer if cut > 1 else 1, workers) for name, cut, workers in CASES}
        bars |= bars_of(kind, hashes, runs)
    return bars


def bars_of(kind: str, hashes: int, runs: dict[str, Found]) -> dict[str, Bar]:
    name, answers = f"engine_{kind}_{hashes:.0e}".replace("+0", ""), {r["answer"] for r in runs.values()}
    peak = max(r["peak_mb"] for r in runs.values())
    what = "groups" if kind == "verified" else "edges"
    right = {r[what] for r in runs.values()} == {counted(kind, made(kind, hashes))}
    bars = {f"{name}_same_bytes": bar(f"{len(answers)} of {len(runs)} runs", "1", len(answers) == 1),
            f"{name}_right": bar(f"{what} counted: {right}", "as another way", right),
            f"{name}_peak_mb_a_worker": at_most(peak, PEAK_MB, 0)}  # fmt: skip
    limit = LIMITS.get((kind, hashes))
    for case in ("default", "quarter"):
        seconds, join = runs[case]["seconds"], runs[case]["join_seconds"]
        print(
            f"{hashes:,} of {kind}, {case}: {seconds:.1f} s, of which {join:.1f} to the pairs; {runs[case]['phases']}"
        )
        ok = None if limit is None else seconds <= limit
        bars[f"{name}_{case}_s"] = bar(round(seconds, 1), limit or "told", ok)
        bars[f"{name}_{case}_to_pairs_s"] = bar(round(join, 1), "told", None)
    return bars


def run(kind: str, hashes: int, cut: int, workers: int) -> Found:
    """All phases in a process tree of its own."""
    numbers = ["--hashes", str(hashes), "--cut", str(cut), "--workers", str(workers)]
    command = [sys.executable, __file__, "--kind", kind, *numbers]
    done = subprocess.run(command, capture_output=True, text=True, env=environment({"OMP_NUM_THREADS": "1"}))
    if done.returncode:
        raise RuntimeError(done.stderr[-3000:])
    found: Found = json.loads(done.stdout.splitlines()[-1])
    return found


# ---------------------------------------------------------------- the work, in processes of its own


def one_part(given: tuple[str, str, str, int, str, str]) -> tuple[int, float, float, dict[str, Any]]:
    """(process, its peak MB, CPU seconds of the part, statistics)"""
    kind, folder, out, cut, of, name = given
    shuffle.ROWS = DEFAULT // cut
    began = time.process_time()
    barrier = BARRIERS[kind]
    phase = {p.name: p for p in barrier.phases(shape(folder))}[of]
    storage = Storage.at(folder)
    output = barrier.run(of, name, Inputs(phase.inputs(name), lambda key: _load(folder, storage, out, key)))
    tables = [output.tables] if isinstance(output.tables, pa.Table) else output.tables
    storage.commit(f"{out}/{of}/{name}.parquet", write_groups(tables, {}))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return os.getpid(), peak, time.process_time() - began, dict(output.stats or {})


DEFAULT = shuffle.ROWS


@cache
def shape(folder: str) -> Shape:
    return shape_of(Path(folder))


def _load(folder: str, storage: Storage, out: str, key: Input) -> pa.Table:
    if isinstance(key, ShardColumns):
        return pq.read_table(f"{folder}/{shard_name(key.shard)}.parquet")
    return read_table(storage, f"{out}/{key.phase}/{key.part}.parquet", group=key.bucket)[0]


def all_phases(kind: str, hashes: int, cut: int, workers: int) -> Found:
    folder, out = made(kind, hashes), f"out-{cut}-{workers}"
    shutil.rmtree(folder / out, ignore_errors=True)
    shuffle.ROWS = DEFAULT // cut
    phases = BARRIERS[kind].phases(shape(str(folder)))
    pa.set_cpu_count(1)
    with ProcessPoolExecutor(
        workers, get_context("forkserver"), initializer=_ready, initargs=(kind, str(folder))
    ) as pool:
        list(pool.map(_awake, range(4 * workers)))  # imports and compiled code are loaded before the clock starts
        told = _timed(pool, phases, (kind, str(folder), out, cut))
    answer = answer_of(folder / out, phases)
    shutil.rmtree(folder / out)
    return told | {"answer": answer}


def _timed(pool: ProcessPoolExecutor, phases: tuple[Phase, ...], where: tuple[str, str, str, int]) -> Found:
    told: dict[str, list[float]] = {}
    peaks: dict[int, float] = {}
    counts, join, began = dict.fromkeys(("pairs", "labels", "left_out"), 0), 0.0, time.monotonic()
    for phase in phases:
        start, cpu = time.monotonic(), 0.0
        parts = parts_of(phase)
        for pid, peak, used, stats in pool.map(one_part, [(*where, phase.name, part) for part in parts]):
            peaks[pid], cpu = max(peak, peaks.get(pid, 0.0)), cpu + used
            if phase.name in counts:
                counts[phase.name] += stats["groups" if phase.name == "labels" else "pairs"]
            if phase.name == "pairs":
                counts["left_out"] += stats.get("left_out", 0)
        told[phase.name] = [round(time.monotonic() - start, 2), round(cpu, 2), len(parts)]
        join = time.monotonic() - began if phase.name == "pairs" else join
    seconds = time.monotonic() - began
    found = {"edges": counts["pairs"] + counts["left_out"], "groups": counts["labels"], "phases": told}
    return found | {"seconds": seconds, "join_seconds": join, "peak_mb": max(peaks.values())}


def parts_of(phase: Phase) -> list[str]:
    assert not callable(phase.parts)
    return list(phase.parts)


def _ready(kind: str, folder: str) -> None:
    """Imports and compiled code are there before the clock starts, as in a worker that has done a part before."""
    import stages.near_vector_kernels  # noqa: F401  thinning of crowds
    from stages.components import components
    from stages.hamming import pairs_within
    from stages.hamming_bands import band_pairs

    pa.set_cpu_count(1)
    few = np.arange(3, dtype=np.uint64)
    pairs_within(few, 2)
    band_pairs(np.stack([few] * 4, axis=1), 2)
    components(few, few)
    storage, first = Storage.at(folder), shape(folder).shards[0]
    table = _load(folder, storage, "", ShardColumns(first)).slice(0, 100)
    BARRIERS[kind].nodes_of(table)
    write_groups([table], {})


def _awake(_: int) -> None:
    time.sleep(0.2)


def answer_of(out: Path, phases: tuple[Phase, ...]) -> str:
    """A digest of the files of the groups and of all edges in one order."""
    digest = hashlib.sha256()
    for part in parts_of(phases[-1]):
        digest.update((out / "groups" / f"{part}.parquet").read_bytes())
    for column in _edges(out):
        digest.update(column.tobytes())
    return digest.hexdigest()


def _edges(out: Path) -> Iterator[np.ndarray]:
    table = pa.concat_tables([pq.read_table(f) for f in sorted((out / "edges").glob("*.parquet"))])
    columns = {n: table.column(n).to_numpy() for n in table.column_names}
    order = np.lexsort((columns["b"], columns["a"]))
    return (columns[n][order] for n in sorted(columns))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kind", choices=list(BARRIERS), default="64")
    parser.add_argument("--hashes", type=int, default=1_000_000)
    parser.add_argument("--cut", type=int, default=1, help="times as many buckets as by default")
    parser.add_argument("--workers", type=int, default=2)
    given = parser.parse_args()
    print(json.dumps(all_phases(given.kind, given.hashes, given.cut, given.workers)))


if __name__ == "__main__":
    main()
