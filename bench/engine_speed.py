"""Bars that have a script of their own: SQL over ten million rows, and packs against `cat`."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

from common import ROOT, WORK, Bar, at_least, bar, environment

sys.path.insert(0, str(ROOT))
import sql_speed


def sql(quick: bool) -> dict[str, Bar]:
    """Filter and count over three columns, with all files and with one column missing for some shards."""
    shards, rows = (100, 10_000) if quick else (1000, 10_000)
    bars: dict[str, Bar] = {}
    for name, gap in (("", 0), ("_with_gaps", 7)):
        path = WORK / f"sql-{shards}x{rows}.{gap}"
        if not (path / "built").exists():
            shutil.rmtree(path, ignore_errors=True)
            sql_speed.build(path, shards, rows, gap)
            (path / "built").touch()
        command = [sys.executable, str(Path(sql_speed.__file__)), "--measure", str(path)]
        done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment())
        found = json.loads(done.stdout)
        right = found["answer"] == sql_speed.expected(shards, rows, gap)
        print(f"sql{name}: {shards * rows:,} rows, {found}")
        fast, small = found["median_s"] < 1.0, found["peak_mb"] < 400
        bars[f"sql{name}_right"] = bar(right, True, right)
        bars[f"sql{name}_seconds"] = bar(round(found["median_s"], 3), 1.0, None if quick else fast)
        bars[f"sql{name}_mb"] = bar(round(found["peak_mb"]), 400, None if quick else small)
    return bars


def pack(quick: bool) -> dict[str, Bar]:
    """MB/s of a pack over MB/s of `cat`, both to the disk."""
    command = [sys.executable, str(ROOT / "bench" / "pack_speed.py"), *(["--quick"] if quick else [])]
    done = subprocess.run(command, capture_output=True, text=True, env=environment(), check=False)
    print(done.stdout.strip())
    found = re.search(r"ratio ([0-9.]+)", done.stdout)
    if found is None:
        raise RuntimeError(done.stderr[-2000:])
    measured = at_least(float(found.group(1)), 0.60)
    return {"pack_over_cat": measured | ({"ok": None} if quick else {})}


def measure(quick: bool) -> dict[str, Bar]:
    return sql(quick) | pack(quick)


if __name__ == "__main__":
    print(measure("--quick" in sys.argv))
