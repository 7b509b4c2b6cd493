"""The bars of the engine: `python bench/engine.py [--quick] [--only NAME,...]`.

A table for people and, last, one JSON line. A full run (about forty minutes on two cores) measures every bar and is
kept in bench/engine.json, where `--only` replaces the bars that it measures again; `--quick` (under two minutes) takes
smaller sizes, null for what it does not measure.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parent), str(Path(__file__).resolve().parent.parent)]

from parts import run  # noqa: E402

PARTS = {
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

if __name__ == "__main__":
    run(__doc__, "engine", PARTS, TESTS)
