"""Kill -9 of a run that captions: none is asked for twice but those whose part was in flight, and none is lost."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
from run.caption_parts import Captioned, captioned

from curate.pool.columns import read_table
from curate.run.reader import AFAR, BATCH

ROOT = Path(__file__).resolve().parents[2]
ROWS = 5 * BATCH - 100
RECIPE = """captions:
  make:
    - run.caption_parts:SAYS: {notes: %s, pause: 0.3}
    - run.caption_parts:Length: {text: said, name: said_length}
  emit: [{texts: [{source: said}], where: "said_length > 0"}]
"""


def start(case: Captioned, captioner: str = "Says") -> subprocess.Popen[bytes]:
    case.recipe(RECIPE.replace("SAYS", captioner) % case.notes)
    paths = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
    command = [sys.executable, "-m", "curate.cli", "run", str(case.folder / "r.yaml"), "--executor", "inline"]
    with (case.folder / "log.txt").open("ab") as out:
        return subprocess.Popen(
            [*command, "--no-report", "--quiet"],
            stdout=out,
            stderr=out,
            env={**os.environ, "PYTHONPATH": paths},
            cwd=case.folder,
        )


def kill_when(case: Captioned, running: subprocess.Popen[bytes], asked: int) -> None:
    """Kill the run once the captioner was asked about so many samples."""
    while running.poll() is None and len(case.asked()) < asked:
        time.sleep(0.01)
    assert running.poll() is None, (case.folder / "log.txt").read_text()
    running.kill()
    running.wait()


def parts(case: Captioned, stage: str) -> list[str]:
    """uids that the parts of a stage have, as often as they have them."""
    (folder,) = (f for f in case.pool.storage.folders("columns") if stage in f)
    names = [e.name for e in case.pool.storage.list(f"columns/{folder}") if e.name.endswith(".parquet")]
    found = [read_table(case.pool.storage, f"columns/{folder}/{n}", ["uid"])[0] for n in names]
    return [u.hex() for t in found for u in t.column("uid").to_pylist()]


@pytest.mark.slow
def test_killed_again_and_again_no_caption_is_asked_for_twice_but_those_in_flight(tmp_path: Path) -> None:
    case = captioned(tmp_path, [f"picture {i}" for i in range(ROWS)])
    for kills, seen in enumerate((BATCH + 1, 3 * BATCH + 1), start=1):
        kill_when(case, start(case), seen)
        twice = [n for n in Counter(case.asked()).values() if n > 1]
        assert len(twice) <= (kills - 1) * BATCH
    assert start(case).wait(120) == 0, (case.folder / "log.txt").read_text()
    asked, said = Counter(case.asked()), parts(case, "Says")
    assert len(asked) == len(said) == len(set(said)) == ROWS, "each has one caption"
    assert sum(asked.values()) - ROWS <= 2 * BATCH, "one part was in flight at each kill"
    assert sorted(parts(case, "Length")) == sorted(said)


@pytest.mark.slow
def test_of_a_captioner_on_another_machine_four_small_parts_are_in_flight(tmp_path: Path) -> None:
    """One whose answers are awaited, two behind it in the queue, and one that waits for its place there."""
    rows = 4 * BATCH + 100
    case = captioned(tmp_path, [f"picture {i}" for i in range(rows)])
    for kills, more in enumerate((5, 6), start=1):
        kill_when(case, start(case, "Slowly"), len(case.asked()) + more * AFAR + 1)
        assert sum(n - 1 for n in Counter(case.asked()).values()) <= (kills - 1) * 4 * AFAR
    assert start(case, "Slowly").wait(120) == 0, (case.folder / "log.txt").read_text()
    asked, said = Counter(case.asked()), parts(case, "Slowly")
    assert len(asked) == len(said) == len(set(said)) == rows, "each has one caption"
    assert 0 < sum(asked.values()) - rows <= 2 * 4 * AFAR, "four parts were in flight at each kill"
