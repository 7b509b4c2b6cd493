"""What every benchmark script is: parts that measure bars, tests that are bars, a table, and one JSON line.

run(__doc__, "engine", PARTS, TESTS)
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from importlib import import_module

from common import NOT_MEASURED, ROOT, WORK, Bar, bar, environment, finish

Parts = Mapping[str, tuple[str, bool]]
"""name -> (module with `measure(quick) -> {bar name: Bar}`, whether a quick run has the time for it)"""


def run(about: str | None, name: str, parts: Parts, tests: Mapping[str, Sequence[str]]) -> None:
    """Measure, print, and keep the full run's JSON in bench/<name>.json; `--only` replaces parts of it there."""
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--only", default="", help="parts by name: " + ", ".join([*parts, *tests]))
    given = parser.parse_args()
    only = set(filter(None, given.only.split(",")))
    if only - {*parts, *tests}:
        parser.error(f"no part {', '.join(sorted(only - {*parts, *tests}))}; there are {', '.join([*parts, *tests])}")
    WORK.mkdir(parents=True, exist_ok=True)
    saved = ROOT / "bench" / f"{name}.json"
    bars: dict[str, Bar] = {}
    for part, (module, in_quick) in parts.items():
        if (not only or part in only) and (in_quick or not given.quick):
            bars |= measured(part, module, given.quick)
            (WORK / f"{name}-so-far.json").write_text(json.dumps(bars))
        elif not only:
            bars[part] = NOT_MEASURED
    for part, files in tests.items():
        if not only or part in only:
            bars[part] = bar(None, "all pass", None) if given.quick else by_tests(files)
    if only and not given.quick and saved.exists():  # parts measured again take the place of what they were
        bars = json.loads(saved.read_text())["bars"] | bars
    finish(bars, None if given.quick else saved)


def measured(part: str, module: str, quick: bool) -> dict[str, Bar]:
    began = time.monotonic()
    print(f"--- {part}", flush=True)
    found: dict[str, Bar] = import_module(module).measure(quick)
    print(f"--- {part}: {time.monotonic() - began:.0f} s", flush=True)
    return found


def by_tests(files: Sequence[str]) -> Bar:
    """A bar that tests decide: passed of all; not measured where all were skipped."""
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-m", "slow or not slow", *files]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment(), check=False)
    last = done.stdout.strip().splitlines()[-1] if done.stdout.strip() else done.stderr[-200:]
    ok = done.returncode == 0 if " passed" in last or done.returncode else None
    return bar(last.strip("= "), "all pass", ok)
