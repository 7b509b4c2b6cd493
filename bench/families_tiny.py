"""How long one training at `tiny` and its evaluation take, of every family: one recipe and seed, this machine's cores.

    python bench/families_tiny.py [--quick]         # also a part of bench/families.py

Runs are those of bench/families_learn.py, on one thread each, two at a time, as `curate compare` has them. The bar is
of CPU seconds: what one thread takes that has a core, whatever else the machine has to do in the hours of that bench.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from common import SHARED, WORK, Bar, at_most, bar, finish
from families_runs import Case, gathered

from training_smoke.families import NAMES

LIMIT_S = 240
LINE = "{:<16} {:>8} {:>10} {:>10} {:>10}"


def measure(quick: bool) -> dict[str, Bar]:
    """quick: that each family trains and is evaluated, in a few steps; no bar."""
    if not SHARED.is_dir():
        print(f"no real data at {SHARED}: nothing is trained")
        return {"tiny_s": bar(None, "data at ../shared/data", None)}
    found = dict(gathered([Case(name, quick=quick) for name in NAMES]))
    print(LINE.format("family", "train s", "evaluate s", "CPU s", "last loss"))
    for case, f in found.items():
        print(LINE.format(case.family, *(f"{x:.1f}" for x in (f.train_s, f.evaluate_s, f.cpu_s)), f"{f.loss:.3f}"))
    if quick:
        return {f"tiny_{c.family}_cpu_s": bar(round(f.cpu_s, 1), f"{LIMIT_S}, whole", None) for c, f in found.items()}
    return {f"tiny_{c.family}_cpu_s": at_most(f.cpu_s, LIMIT_S, 1) for c, f in found.items()}


if __name__ == "__main__":
    WORK.mkdir(parents=True, exist_ok=True)
    finish(measure("--quick" in sys.argv), None)
