"""The bars of the judge's other families: `python bench/families.py [--quick] [--only NAME,...]`.

A table for people and, last, one JSON line. A full run (hours on two cores; it goes on where it was stopped) measures
every bar and is kept in bench/families.json, where `--only` replaces the bars that it measures again; `--quick` takes
smaller sizes, null for what it does not measure. `python bench/families_learn.py --write`, `..._learn_others.py`
and `..._compare.py` write the tables of docs/families.md. On a GPU: `--only gpu`, which is null where there is none.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parent), str(Path(__file__).resolve().parent.parent)]

from parts import run  # noqa: E402

PARTS = {
    "step": ("families_step", True),
    "tiny": ("families_tiny", True),
    "learn": ("families_learn", False),
    "learn_others": ("families_learn_others", False),
    "compare": ("families_compare", False),
    "resume": ("families_resume", False),
    "gpu": ("families_gpu", True),
}
TESTS = {
    "objectives_by_a_second_implementation": ["tests/training_smoke/objectives"],
    "sharded_resumed_frozen_learned_by_heart": ["tests/training_smoke/families/test_every_family.py"],
    "checkpoints_load_there_and_here": [
        "tests/training_smoke/families",
        "--ignore=tests/training_smoke/families/test_every_family.py",
    ],
    "hype_equals_its_oracle": ["tests/recipes", "-k", "hype"],
}

if __name__ == "__main__":
    run(__doc__, "families", PARTS, TESTS)
