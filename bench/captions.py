"""The bars of captions: `python bench/captions.py [--quick] [--only NAME,...]`.

A table for people and, last, one JSON line. A full run measures every bar and is kept in bench/captions.json, where
`--only` replaces the bars that it measures again; `--quick` takes smaller sizes, null for what it does not measure. On
a GPU: `--only gpu`, which is null where there is none.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parent), str(Path(__file__).resolve().parent.parent)]

from parts import run  # noqa: E402

PARTS = {
    "pace": ("captions_pace", True),
    "endpoint": ("captions_endpoint", True),
    "memory": ("captions_memory", True),
    "crash": ("captions_crash", True),
    "capfilt": ("captions_capfilt", False),
    "compare": ("captions_compare", False),
    "gpu": ("captions_gpu", True),
}
TESTS = {
    "texts_are_mixed_as_they_say": ["tests/run/test_captions.py", "tests/run/test_captions_packed.py"],
    "nobody_is_asked_twice": ["tests/run/test_captions_crash.py", "tests/run/test_parts.py"],
    "hostile_servers_and_texts": [
        "tests/stages/test_endpoint_blame.py",
        "tests/stages/test_endpoint_client.py",
        "tests/stages/test_endpoint_caption.py",
        "tests/stages/test_endpoint_recipe.py",
        "tests/stages/test_prompts.py",
    ],
    "capfilt_from_end_to_end": [
        "tests/run/test_capfilt.py",
        "tests/run/test_capfilt_halves.py",
        "tests/run/test_capfilt_recipe.py",
        "tests/run/test_capfilt_scenes.py",
        "tests/run/test_capfilt_vary.py",
        "tests/test_cli_capfilt.py",
    ],
    "recipes_equal_their_oracles": ["tests/recipes/test_caption_recipes.py"],
}

if __name__ == "__main__":
    run(__doc__, "captions", PARTS, TESTS)
