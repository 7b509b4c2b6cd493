"""The bars of the downloader: `python bench/download.py [--quick] [--only NAME,...] [--img2dataset PYTHON]`.

A table for people and, last, one JSON line. A full run measures every bar and is kept in bench/download.json, where
`--only` replaces the bars that it measures again; `--quick` (under two minutes) takes smaller sizes, null for what it
does not measure. What compares with img2dataset needs the python of an environment that has it (its pins fight with
ours): `python -m venv X; X/bin/pip install img2dataset 'setuptools<81'`, Python 3.12 at most.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parent), str(Path(__file__).resolve().parent.parent)]

from parts import run  # noqa: E402

PARTS = {
    "speed": ("download_speed", True),
    "web": ("download_web", False),
    "memory": ("download_memory", True),
    "polite": ("download_polite", False),
    "crash": ("download_crash", True),
    "fuzz": ("decode_fuzz", True),
}
TESTS = {"hostile_server": ["tests/run/test_hostile_web.py"]}

if __name__ == "__main__":
    if "--img2dataset" in sys.argv:
        at = sys.argv.index("--img2dataset")
        os.environ["CURATE_IMG2DATASET"] = sys.argv[at + 1]
        del sys.argv[at : at + 2]
    run(__doc__, "download", PARTS, TESTS)
