"""The bars of the engine: `python bench/engine.py [--quick] [--only NAME,...]`.

A table for people and, last, one JSON line. A full run (about forty minutes on two cores) measures every bar and is
kept in bench/engine.json, where `--only` replaces the bars that it measures again; `--quick` (under two minutes) takes
smaller sizes, null for what it does not measure.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parent), str(Path(__file__).resolve().parent.parent)]

from common import ROOT, WORK, Bar, bar, environment, finish  # noqa: E402

# name -> module with `measure(quick)`, and whether a quick run has the time for it
PARTS: dict[str, tuple[str, bool]] = {
    "overhead": ("engine_overhead", False),
    "speed": ("engine_speed", True),
    "scale": ("engine_scale", True),
    "readers": ("engine_readers", True),
    "same": ("engine_same", False),
    "crash": ("engine_crash", False),
}
TESTS = {
    "walls_hold_without_touching_curate": ["tests/run/test_walk.py"],
    "bad_input_clear_message_nothing_lost": ["tests/test_bad_input.py"],
    "main_job_on_real_photos": ["tests/real"],
}


def by_tests(files: list[str]) -> Bar:
    """A bar that tests decide: passed of all."""
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *files]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment(), check=False)
    last = done.stdout.strip().splitlines()[-1] if done.stdout.strip() else done.stderr[-200:]
    return bar(last.strip("= "), "all pass", done.returncode == 0)


def measured(name: str, module: str, quick: bool) -> dict[str, Bar]:
    began = time.monotonic()
    print(f"--- {name}", flush=True)
    found: dict[str, Bar] = import_module(module).measure(quick)
    print(f"--- {name}: {time.monotonic() - began:.0f} s", flush=True)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--only", default="", help="parts by name: " + ", ".join([*PARTS, *TESTS]))
    given = parser.parse_args()
    only = set(filter(None, given.only.split(",")))
    WORK.mkdir(parents=True, exist_ok=True)
    wanted: Callable[[str], bool] = lambda name: not only or name in only  # noqa: E731
    bars: dict[str, Bar] = {}
    for name, (module, in_quick) in PARTS.items():
        if wanted(name) and (in_quick or not given.quick):
            bars |= measured(name, module, given.quick)
            WORK.joinpath("engine-so-far.json").write_text(json.dumps(bars))
        elif wanted(name):
            bars[name] = bar(None, None, None)
    for name, files in TESTS.items():
        if wanted(name):
            bars[name] = bar(None, "all pass", None) if given.quick else by_tests(files)
    saved = ROOT / "bench" / "engine.json"
    if only and not given.quick and saved.exists():  # parts measured again take the place of what they were
        bars = json.loads(saved.read_text())["bars"] | bars
    finish(bars, None if given.quick else saved)


if __name__ == "__main__":
    main()
