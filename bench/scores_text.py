"""Texts: languages told right, what text rules keep of real alt-texts, and what counting over a pool costs.

python bench/scores_text.py [--quick]        # also a part of bench/scores.py
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parent), str(Path(__file__).resolve().parent.parent)]

import text_counting  # noqa: E402
import text_kept  # noqa: E402
import text_lid  # noqa: E402
from common import SHARED, Bar, finish  # noqa: E402


def measure(quick: bool) -> dict[str, Bar]:
    """Bars of all three; those that need the real texts are left out where they are not."""
    bars = text_counting.measure(quick)
    if not SHARED.is_dir():
        print(f"no real texts at {SHARED}: languages and kept fractions are not measured")
        return bars
    return text_lid.measure(quick) | text_kept.measure(quick) | bars


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    finish(measure(parser.parse_args().quick), None)
