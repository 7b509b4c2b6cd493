"""A comparison under each family, killed in its midst and begun again: it ends with the numbers of one that nobody
disturbed, and what had been trained is not trained again.

    python bench/families_resume.py [--quick]         # also a part of bench/families.py
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from common import SHARED, WORK, Bar, bar, environment, finish, wait_until
from families_compare import FAMILIES, HERE, command, prepared
from families_data import CAPTIONS, FOLDER, chance, questions
from jobs import family as family_of
from jobs import leftovers
from judge_crash import numbers
from judge_data import split, write_held_out

SEEN = 512
PICTURES = 24  # held out: evaluation is no part of what is shown


def measure(quick: bool) -> dict[str, Bar]:
    """quick: CoCa alone."""
    if not SHARED.is_dir():
        return {"comparisons_resumed": bar(None, "data at ../shared/data", None)}
    prepared()
    names = ("coca",) if quick else tuple(FAMILIES)
    same = {name: resumed(name) for name in names}
    return {f"{name}_comparison_resumed": bar("same" if ok else "DIFFERENT", "same", ok) for name, ok in same.items()}


def resumed(family: str) -> bool:
    """Whether a comparison that was killed ends as the other does, having kept the trainings that were done."""
    whole, cut = (laid_out(f"{family}-{name}") for name in ("whole", "cut"))
    expected = ended(whole, started(whole, family))
    process = started(cut, family)
    wait_until(lambda: process.poll() is not None or len(runs(cut)) >= 1, 600, 0.05)
    hit, below = process.poll() is None, family_of(process.pid)
    process.kill()
    process.wait()
    alive, before = leftovers(below, 180), runs(cut)
    found = ended(cut, started(cut, family))
    total = len(runs(cut))
    kept = all(runs(cut)[path] == time for path, time in before.items())
    apart = differing(decided(expected), decided(found))
    same = not apart
    for line in apart[:5]:
        print(f"{family}: {line}")
    print(
        f"{family}: killed with {len(before)} of {total} runs done, {'kept' if kept else 'LOST'}, "
        f"numbers {'same' if same else 'DIFFERENT'}",
        flush=True,
    )
    for folder in (whole, cut):
        shutil.rmtree(folder)
    return hit and not alive and kept and same and 0 < len(before) < total


def decided(found: Any) -> Any:
    """A comparison without its clocks, and without where its held-out sets lie."""
    said = numbers(found)
    return {**said, "sets": [{name: v for name, v in s.items() if name != "path"} for s in said["sets"]]}


def differing(a: Any, b: Any, where: str = "") -> list[str]:
    """Each place in which two JSON values are not the same, with both."""
    if isinstance(a, dict) and isinstance(b, dict) and a.keys() == b.keys():
        return [line for key in a for line in differing(a[key], b[key], f"{where}.{key}")]
    if isinstance(a, list) and isinstance(b, list) and len(a) == len(b):
        return [line for i, (x, y) in enumerate(zip(a, b, strict=True)) for line in differing(x, y, f"{where}[{i}]")]
    return [] if a == b else [f"{where}: {str(a)[:80]} and {str(b)[:80]}"]


def laid_out(name: str) -> Path:
    """A copy of the pool and all that its recipes name, without trainings, and a few held-out pictures."""
    folder = FOLDER / "resume" / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    shutil.copytree(HERE / "pool", folder / "pool", ignore=shutil.ignore_patterns("judge"))
    shutil.copytree(HERE / "filter", folder / "filter")
    for path in [*HERE.glob("*.yaml"), HERE / "pool.parquet"]:
        shutil.copy(path, folder)
    held = chance(split("flickr8k", SHARED)[0])[:PICTURES]
    write_held_out(folder / "held_out" / CAPTIONS, "flickr8k", held)
    questions(folder / "held_out", held)
    return folder


def started(folder: Path, family: str) -> subprocess.Popen[bytes]:
    with (folder / "found.json").open("wb") as out, (folder / "log.txt").open("ab") as log:
        return subprocess.Popen(command(family, 1, SEEN), stdout=out, stderr=log, env=environment(), cwd=folder)


def ended(folder: Path, process: subprocess.Popen[bytes]) -> Any:
    if process.wait(900):
        raise RuntimeError(f"the comparison gave {process.returncode}: {(folder / 'log.txt').read_text()[-3000:]}")
    return json.loads((folder / "found.json").read_text())


def runs(folder: Path) -> dict[Path, int]:
    """Trainings that are done, and when they were."""
    return {path: path.stat().st_mtime_ns for path in (folder / "pool" / "judge").glob("*/run.json")}


if __name__ == "__main__":
    WORK.mkdir(parents=True, exist_ok=True)
    finish(measure("--quick" in sys.argv), None)
