"""Kill -9 in a comparison, again and again: the rerun ends with the numbers of an undisturbed one, nothing lives on.

A moment is a number of files in the pool, drawn from those that an undisturbed comparison makes, and up to a second.
"""

from __future__ import annotations

import json
import random
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from common import SHARED, Bar, bar, environment, fresh, wait_until
from jobs import count_files, family, leftovers
from judge_demo import RECIPES, Case, prepared

CASE = Case("cifar10", "feature", ("clip",), 0)
TIMED = ("seconds", "samples_per_s", "scoring_s", "scoring_samples", "cautions", "environment", "command")
"""What differs from run to run: clocks, rates and what is said of them. All else of a comparison must not."""
KILLS = 3  # of one comparison, before it is left to end
JITTER_S = 1.0


def measure(quick: bool) -> dict[str, Bar]:
    if not SHARED.is_dir():
        return {"comparisons_identical_after_kills": bar(None, "data at ../shared/data", None)}
    held_out = prepared(CASE).held_out
    trials = {"inline": 1} if quick else {"inline": 4, "ray": 3}
    leaked: list[str] = []
    same = hit = 0
    for executor, count in trials.items():
        whole = folder_of("undisturbed", executor)
        expected = numbers(end(whole, start(whole, executor, held_out)))
        files = count_files(whole / "pool")
        for trial in range(count):
            folder, draw = folder_of(f"{trial}", executor), random.Random(f"{executor} {trial}")
            for _ in range(KILLS):
                there = count_files(folder / "pool")
                if there >= files:
                    break  # the last kill came when all was done but for the end
                moment = draw.randrange(there, files)
                hit += kill(folder, start(folder, executor, held_out), moment, draw.random() * JITTER_S, leaked)
            found = numbers(end(folder, start(folder, executor, held_out)))
            same += found == expected
            print(f"{executor} {trial}: {'same' if found == expected else 'DIFFERENT'}, {hit} kills", flush=True)
            shutil.rmtree(folder)
    done = sum(trials.values())
    return {
        "comparison_kills": bar(hit, f"at least {done}", hit >= done),
        "comparisons_identical_after_kills": bar(f"{same}/{done}", "all", same == done),
        "comparison_left_running_after_kill": bar(len(leaked), 0, not leaked),
    }


def folder_of(name: str, executor: str) -> Path:
    """A folder with list and network, as the comparison expects them; its pool is not there yet."""
    folder = fresh(f"judge-crash-{executor}-{name}")
    shutil.copytree(CASE.folder / "filter", folder / "filter")
    shutil.copy(CASE.folder / "pool.parquet", folder / "pool.parquet")
    return folder


def start(folder: Path, executor: str, held_out: Path) -> subprocess.Popen[bytes]:
    files = [str(RECIPES / f"{name}.yaml") for name in ("score50", "oracle")]
    command = [
        sys.executable, "-m", "curate.cli", "compare", *files, "--scale", "feature", "--seeds", "2", "--json",
        "--evaluate", str(held_out), "--executor", executor, "--quiet",
    ]  # fmt: skip
    with (folder / "found.json").open("wb") as out, (folder / "log.txt").open("ab") as log:
        return subprocess.Popen(command, stdout=out, stderr=log, env=environment(), cwd=folder)


def kill(folder: Path, process: subprocess.Popen[bytes], moment: int, jitter: float, leaked: list[str]) -> bool:
    """Kill -9 of the driver once the pool has so many files, and a little later; whether it was still at work."""
    wait_until(lambda: process.poll() is not None or count_files(folder / "pool") >= moment, 600, 0.01)
    time.sleep(jitter)
    alive = process.poll() is None
    started = family(process.pid)
    process.kill()
    process.wait()
    leaked += leftovers(started, 180)
    return alive


def end(folder: Path, process: subprocess.Popen[bytes]) -> Any:
    """What a comparison that is left alone says."""
    if process.wait(900):
        raise RuntimeError(f"the comparison gave {process.returncode}: {(folder / 'log.txt').read_text()[-3000:]}")
    return json.loads((folder / "found.json").read_text())


def numbers(said: Any) -> Any:
    """A comparison without its clocks."""
    if isinstance(said, dict):
        return {k: numbers(v) for k, v in said.items() if k not in TIMED}
    return [numbers(v) for v in said] if isinstance(said, list) else said
