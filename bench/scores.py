"""The bars of features and filters: `python bench/scores.py [--quick] [--only NAME,...]`.

A table for people and, last, one JSON line. A full run measures every bar and is kept in bench/scores.json, where
`--only` replaces the bars that it measures again; `--quick` takes smaller sizes, null for what it does not measure.
On a GPU: bench/embed_gpu.py.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parent), str(Path(__file__).resolve().parent.parent)]

from parts import run  # noqa: E402

PARTS = {
    "match": ("scores_match", True),
    "top": ("scores_top", True),
    "embed": ("scores_embed", True),
    "text": ("scores_text", True),
    "recipes": ("scores_recipes", False),
    "real": ("scores_real", False),
}
TESTS = {
    "recipes_equal_their_oracles": ["tests/recipes"],
    "order_shards_and_workers_change_nothing": ["tests/filters", "tests/stages/test_kmeans.py"],
}

if __name__ == "__main__":
    run(__doc__, "scores", PARTS, TESTS)
