"""SQL over 10 million rows in 1,000 shards: filter and count over three columns, in under 1 s and 400 MB.

    python bench/sql_speed.py [--rows 10000] [--shards 1000] [--pool /tmp/curate-sql-speed]

The pool is made once and kept. Each measurement is a process of its own: import and opening are told apart
from the query, whose time is the median of five; peak memory is that of the whole process.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

FILTER = "SELECT count(*) FROM samples WHERE clip > 0.3 AND sharpness < 0.7 AND lang = 'en'"
BARS = {"seconds": 1.0, "megabytes": 400.0}


def build(path: Path, shards: int, rows: int, gap: int) -> None:
    """Facts and three columns; of `sharpness` every `gap`th shard lacks its file (0: none)."""
    from tests import pools

    pool = pools.synthetic(path, [rows] * shards)
    draw = lambda shard, salt: np.random.default_rng([shard, salt])  # noqa: E731

    def lang(shard: int, uid: pa.Array) -> pa.Table:
        words = pa.array(["en", "de", "zh", "ar"]).take(pa.array(draw(shard, 3).integers(0, 4, len(uid))))
        return pa.table({"lang": words, "lang_prob": draw(shard, 4).random(len(uid), np.float32)})

    there = [s for s in range(shards) if not gap or s % gap]
    pools.add_column(pool, "clip", lambda s, u: pa.table({"clip": draw(s, 1).random(len(u), np.float32)}))
    pools.add_column(
        pool, "facts", lambda s, u: pa.table({"sharpness": draw(s, 2).random(len(u), np.float32)}), shards=there
    )
    pools.add_column(pool, "language", lang)
    for folder in ("pixels", *(f"columns/{n}" for n in pool.storage.folders("columns"))):
        index = pool.index(folder)
        done = sorted(index.finished(range(shards)))
        index.save(done)
        for group in index.uncompacted(done):
            index.compact(group)


def expected(shards: int, rows: int, gap: int) -> int:
    """The answer, from the same draws."""
    total = 0
    for s in range(shards):
        if gap and not s % gap:
            continue
        clip = np.random.default_rng([s, 1]).random(rows, np.float32)
        sharp = np.random.default_rng([s, 2]).random(rows, np.float32)
        english = np.random.default_rng([s, 3]).integers(0, 4, rows) == 0
        total += int(((clip > np.float32(0.3)) & (sharp < np.float32(0.7)) & english).sum())
    return total


def measure(path: Path) -> dict[str, object]:
    import curate

    start = time.perf_counter()
    handle = curate.open(str(path))
    handle.sql("SELECT count(*) FROM range(1)").fetchall()
    _ = handle._session.views.names
    opened = time.perf_counter() - start
    times, cpu = [], time.process_time()
    for _ in range(5):
        start = time.perf_counter()
        answer = handle.sql(FILTER).fetchall()[0][0]
        times.append(time.perf_counter() - start)
    cpu = time.process_time() - cpu
    return {
        "answer": answer,
        "open_s": opened,
        "first_s": times[0],
        "median_s": statistics.median(times),
        "cpu_s": cpu / 5,
        "peak_mb": peak_mb(),
    }


def peak_mb() -> float:
    """Peak memory of this process since it was started (ru_maxrss would count its parent's, too)."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--shards", type=int, default=1_000)
    parser.add_argument("--pool", type=Path, default=Path("/tmp/curate-sql-speed"))
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.measure:
        print(json.dumps(measure(given.measure)))
        return 0
    missed = 0
    for name, gap in (("whole", 0), ("with gaps", 7)):
        path = given.pool / f"{given.shards}x{given.rows}.{gap}"
        if not (path / "built").exists():
            shutil.rmtree(path, ignore_errors=True)
            build(path, given.shards, given.rows, gap)
            (path / "built").touch()
        command = [sys.executable, __file__, "--measure", str(path)]
        found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        right = found["answer"] == expected(given.shards, given.rows, gap)
        good = right and found["median_s"] < BARS["seconds"] and found["peak_mb"] < BARS["megabytes"]
        missed += not good
        print(
            f"{name}: {found['answer']:,} rows ({'right' if right else 'WRONG'}), opened in {found['open_s']:.2f} s, "
            f"first query {found['first_s']:.2f} s, median {found['median_s']:.2f} s "
            f"({found['cpu_s']:.2f} CPU-s), peak {found['peak_mb']:.0f} MB: "
            f"{'within' if good else 'MISSES'} the bars of {BARS['seconds']} s and {BARS['megabytes']:.0f} MB"
        )
    return int(missed > 0)


if __name__ == "__main__":
    sys.exit(main())
