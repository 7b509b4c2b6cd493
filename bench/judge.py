"""The bars of the judge: `python bench/judge.py [--quick] [--only NAME,...]`.

A table for people and, last, one JSON line. A full run (about an hour and a half on two cores) measures every bar and
is kept in bench/judge.json, where `--only` replaces the bars that it measures again; `--quick` (a few minutes) takes
smaller sizes, null for what it does not measure. On a GPU: bench/train_gpu.py.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parent), str(Path(__file__).resolve().parent.parent)]

from parts import run  # noqa: E402

PARTS = {
    "step": ("judge_step", True),
    "demo": ("judge_demo", True),
    "scales": ("judge_scales", False),
    "crash": ("judge_crash", False),
}
TESTS = {
    "objectives_sharded_and_whole": ["tests/training_smoke/objectives"],
    "resume_is_exact_and_survives_kill_9": ["tests/training_smoke/test_train.py", "tests/training_smoke/test_kill.py"],
    "many_processes_are_as_one": ["tests/training_smoke/test_train_distributed.py"],
    "evaluation_as_clip_benchmark": ["tests/training_smoke/evaluate"],
    "pools_with_known_faults": ["tests/real/test_judge_data.py"],
}

if __name__ == "__main__":
    run(__doc__, "judge", PARTS, TESTS)
