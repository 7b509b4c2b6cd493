"""How long whole comparisons take on this machine: `curate compare`, from a pool and a network to the page.

Recipes are counted as people count them: those that are compared, no filter among them. The random subsets of their
sizes and the same pool again are trained besides, in the same time.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from pathlib import Path

from common import SHARED, WORK, Bar, at_most, bar, environment
from judge_demo import RECIPES, Case, prepared

EIGHT = ("dedup", "score70", "score50", "score30", "score10", "matched", "oracle")  # and no filter
FIVE = ("dedup", "score50", "score30", "oracle")
LIMITS = {"feature": (EIGHT, 10, 240), "tiny": (FIVE, 3, 720)}
"""Scale -> recipes besides no filter, seeds, seconds."""


def measure(quick: bool) -> dict[str, Bar]:
    if not SHARED.is_dir():
        return {f"{scale}_comparison_s": bar(None, "data at ../shared/data", None) for scale in LIMITS}
    case = Case("cifar10", "feature", ("clip",), 0)
    held_out = prepared(case).held_out
    return {
        f"{scale}_{len(recipes) + 1}_recipes_{seeds}_seeds_s": at_most(compared(case.folder, held_out, scale), limit, 1)
        for scale, (recipes, seeds, limit) in LIMITS.items()
    }


def compared(folder: Path, held_out: Path, scale: str) -> float:
    """Seconds of the command, nothing of it being there before but the pool's pictures and the network."""
    recipes, seeds, _ = LIMITS[scale]
    for left in ("judge", "packs", "picks", "verdicts", "columns"):
        shutil.rmtree(folder / "pool" / left, ignore_errors=True)
    files = [str(RECIPES / f"{name}.yaml") for name in recipes]
    began = time.monotonic()
    command = [
        sys.executable, "-m", "curate.cli", "compare", *files, "--scale", scale, "--seeds", str(seeds), "--quiet",
        "--evaluate", str(held_out), "--out", str(WORK / f"judge-{scale}.html"),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, env=environment(), cwd=folder)
    seconds = time.monotonic() - began
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} gave {done.returncode}: {done.stderr[-3000:]}")
    print(done.stdout)
    return seconds
