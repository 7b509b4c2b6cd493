"""What the benchmarks share: real photos as a list, recipes, commands in processes of their own, bars.

A bar is {"value", "limit", "ok"}; ok is null where a quick run did not measure it.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import psutil
import pyarrow as pa
import pyarrow.parquet as pq

ROOT = Path(__file__).resolve().parent.parent
SHARED = ROOT.parent / "shared" / "data"
WORK = Path(os.environ.get("CURATE_BENCH", "/tmp/curate-bench"))

Bar = dict[str, Any]
T = TypeVar("T")
R = TypeVar("R")


def bar(value: Any, limit: Any, ok: bool | None) -> Bar:
    return {"value": value, "limit": limit, "ok": ok}


def at_most(value: float, limit: float, digits: int = 3) -> Bar:
    return bar(round(value, digits), limit, value <= limit)


def at_least(value: float, limit: float, digits: int = 3) -> Bar:
    return bar(round(value, digits), limit, value >= limit)


NOT_MEASURED = bar(None, None, None)


def fresh(name: str) -> Path:
    """An empty folder of this name for one measurement."""
    folder = WORK / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def photos(rows: int) -> Path:
    """A parquet of `rows` photos with captions (bytes inside): real ones where they are, else drawn scenes."""
    path = WORK / f"photos-{rows}.parquet"
    if path.exists():
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    if SHARED.is_dir():
        tables = [pq.read_table(f, columns=["image", "captions"]) for f in sorted(SHARED.glob("images/pairs_flickr*"))]
        found = pa.concat_tables(tables)
        images = found.column("image").to_pylist()
        texts = [c[0] for c in found.column("captions").to_pylist()]
    else:
        from curate.demo.draw import drawn_photos

        images, texts = drawn_photos(min(rows, 2000))
    # Repeats get captions of their own, so that each row is a sample of its own.
    n = len(images)
    data = {
        "image": pa.array([images[i % n] for i in range(rows)], pa.binary()),
        "caption": [f"{texts[i % n]}" if i < n else f"{texts[i % n]} ({i // n})" for i in range(rows)],
    }
    temporary = path.with_suffix(".part")
    pq.write_table(pa.table(data), temporary, row_group_size=1000)
    temporary.replace(path)
    return path


def curate(*args: str, env: dict[str, str] | None = None, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Run the command line in a process of its own."""
    command = [sys.executable, "-m", "curate.cli", *args]
    done = subprocess.run(command, capture_output=True, text=True, env=environment(env), cwd=WORK)
    if check and done.returncode:
        raise RuntimeError(f"{' '.join(command)} gave {done.returncode}:\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}")
    return done


def environment(more: dict[str, str] | None = None) -> dict[str, str]:
    paths = os.pathsep.join([str(ROOT), str(ROOT / "tests"), str(ROOT / "bench")])
    inherited = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}  # as installed
    return {**inherited, "PYTHONPATH": paths, "CURATE_CACHE": str(WORK / "cache"), **(more or {})}


def tree_cpu() -> float:
    """CPU-seconds of this process and all below it, those that ended included."""
    me = psutil.Process()
    total = 0.0
    for process in [me, *me.children(recursive=True)]:
        try:
            t = process.cpu_times()
        except psutil.NoSuchProcess:
            continue
        total += t.user + t.system + t.children_user + t.children_system
    return total


def alternated(contenders: dict[str, Callable[[int], float]], passes: int = 5) -> dict[str, float]:
    """Medians of `passes` alternated measurements of each contender."""
    found: dict[str, list[float]] = {name: [] for name in contenders}
    for i in range(passes):
        for name, measure in contenders.items():
            found[name].append(measure(i))
    return {name: statistics.median(values) for name, values in found.items()}


def each(work: Callable[[T], R], cases: Sequence[T], processes: int = 2) -> Iterator[tuple[T, R]]:
    """So many processes of one thread each, that take case after case; answers in the order of the cases."""
    os.environ |= {"OMP_NUM_THREADS": "1", "CURATE_CACHE": str(WORK / "cache")}
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        yield from zip(cases, pool.imap(work, cases), strict=True)


def table(rows: Sequence[tuple[str, Bar]]) -> None:
    """Bars for people."""
    print(f"\n{'bar':<44} {'value':>24} {'limit':>24}  ok")
    for name, b in rows:
        shown = {True: "yes", False: "NO", None: "-"}[b["ok"]]
        print(f"{name:<44} {b['value']!s:>24} {b['limit']!s:>24}  {shown}")


def finish(bars: dict[str, Bar], save: Path | None) -> None:
    """The table, then one JSON line; exit status 1 where a bar failed."""
    table(list(bars.items()))
    ok = all(b["ok"] is not False for b in bars.values())
    line = json.dumps({"bars": bars, "ok": ok})
    if save is not None:
        save.write_text(line + "\n")
    print(line)
    sys.exit(0 if ok else 1)


def wait_until(what: Callable[[], bool], seconds: float, gap: float = 0.05) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if what():
            return True
        time.sleep(gap)
    return False
