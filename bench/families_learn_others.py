"""What the other families learn: as bench/families_learn.py, whose runs, claims and controls these are.

python bench/families_learn_others.py [--write]     # also a part of bench/families.py
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from common import WORK, Bar, finish
from families_learn import METRICS, SHOWN, learned

OTHERS = tuple(name for name in METRICS if name not in SHOWN)


def measure(quick: bool) -> dict[str, Bar]:
    """quick: SimVLM after a few steps."""
    return learned(("simvlm",) if quick else OTHERS, "learn_others", quick)


if __name__ == "__main__":
    WORK.mkdir(parents=True, exist_ok=True)
    finish(measure("--quick" in sys.argv), None)
