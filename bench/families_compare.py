"""The same recipes under CLIP, SigLIP, CoCa, BLIP and LLaVA: one `curate compare` each, over a pool with known faults.

    python bench/families_compare.py [--quick] [--write]     # --write: the tables go to docs/families.md

The pool, its faults and the network that filters are those of bench/judge_compare_recipes.py, drawn by another seed.
Recipes: none; `filtered`, one copy of each picture and of these the half that the network scores best; `random`, as
many rows as that; `oracle`, what is known to be clean. All was fixed here before anything ran. Stopped and started
again it goes on where it was, as `curate compare` does.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import chdir
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from common import ROOT, SHARED, WORK, Bar, at_least, bar, environment, finish
from families_data import CAPTIONS, FOLDER, QUESTIONS, chance, digest, questions
from families_page import NONE, document, of, put_into
from judge_compare_pool import NETWORK, make
from judge_compare_recipes import POOL, ran, recipe_file
from judge_data import split

HERE = FOLDER / "compare"
FIRST, SEEDS = 5000, 3
FILTERED: dict[str, Any] = {
    "columns": [{"clip_score": {"weights": "filter/filter.pt"}}],
    "filters": [
        {"id": "copies", "keep_one": {"by": "phash64", "distance": 4, "over": "survivors"}},
        {"id": "network", "top_fraction": {"column": "clip_score", "fraction": 0.5, "over": "survivors"}},
    ],
}
ORACLE: dict[str, Any] = {"filters": [{"where": "truth = 'clean'"}]}
RECIPES = ("random", "filtered", "oracle")
POOL_MAKERS = ("bench/judge_compare_pool.py", "bench/judge_compare_recipes.py")


@dataclass(frozen=True)
class Judged:
    """What decides under a family, of which set; sets: all that it is evaluated on."""

    primary: str
    sets: tuple[str, ...] = (CAPTIONS,)


FAMILIES: Mapping[str, Judged] = {
    "clip": Judged(f"{CAPTIONS}/positive_rank"),
    "siglip": Judged(f"{CAPTIONS}/positive_rank"),
    "coca": Judged(f"{CAPTIONS}/cider"),
    "blip": Judged(f"{CAPTIONS}/cider"),
    "llava": Judged(f"{QUESTIONS}/exact_match_other", (CAPTIONS, QUESTIONS)),  # yes and no are chance at this size
}


def measure(quick: bool) -> dict[str, Bar]:
    """quick: CLIP and CoCa for a few steps of one seed: that it runs, not what it says."""
    if not SHARED.is_dir():
        print(f"no real data at {SHARED}: nothing is compared")
        return {"families_compared": bar(None, "data at ../shared/data", None)}
    os.environ |= {"CURATE_CACHE": str(WORK / "cache")}
    prepared()
    found = {name: compared(name, quick) for name in (("clip", "coca") if quick else FAMILIES)}
    text = document(found, HERE / "pool")
    print(text)
    if "--write" in sys.argv and not quick:
        put_into(ROOT / "docs" / "families.md", "compare", text)
    whole = sum(is_whole(f, 1 if quick else SEEDS) for f in found.values())
    bars = {"families_compared": bar(whole, 5, None) if quick else at_least(whole, len(FAMILIES), 0)}
    for family, f in found.items():
        for recipe in RECIPES:
            bars[f"{family}_{recipe}_over_none"] = bar(told(f, recipe), None, None)
    return bars


# ---------------------------------------------------------------- pool, network, recipes


def prepared(folder: Path = HERE) -> None:
    """Pool, network, held-out sets and recipes in the folder; made once, and anew with all trainings where what makes
    them has changed."""
    made_by, source = folder / "made_by", made_of()
    if not made_by.exists() or made_by.read_text() != source:
        shutil.rmtree(folder, ignore_errors=True)
        counts = make(SHARED, folder, FIRST).counts
        print(f"pool: {counts}", flush=True)
        with chdir(folder):
            ran(recipe_file("everything", POOL))
            train_network()
            questions(Path("held_out"), chance(split("flickr8k", SHARED)[0]))
            write_recipes()
        made_by.write_text(source)


def made_of() -> str:
    """What decides pool, network, recipes and trainings: their code, and what is asked of it here."""
    from training_smoke.provenance import source_digest

    said = json.dumps([FIRST, POOL, NETWORK, FILTERED, ORACLE, RECIPES], sort_keys=True, default=str)
    return f"{source_digest()} {digest(POOL_MAKERS)} {hashlib.sha256(said.encode()).hexdigest()[:16]}"


def train_network() -> None:
    """filter/filter.pt, of a clean quarter of the pictures that is not in the pool."""
    from training_smoke.config import SCALES
    from training_smoke.filter_network import Plan, train_filter
    from training_smoke.packs import Pack

    clean = {"pool": "clean", "source": POOL["source"] | {"path": "clean.parquet", "name": "clean"}}
    manifest = ran(recipe_file("clean", POOL | clean))
    config = SCALES["tiny"].but(init_seed=FIRST, order_seed=FIRST, **NETWORK)
    train_filter(Path("filter"), Plan(config, {Pack.open(f"clean/{manifest['folder']}"): 1.0}))


def write_recipes() -> None:
    """`random` keeps as many rows as `filtered` does."""
    kept = ran(recipe_file("filtered", POOL | FILTERED))["counts"]["kept"]
    ran(recipe_file("oracle", POOL | ORACLE))
    ran(recipe_file("random", POOL | {"filters": [{"random_subset": {"over": "pool", "samples": kept}}]}))


# ---------------------------------------------------------------- comparisons


def compared(family: str, quick: bool) -> dict[str, Any]:
    """What `curate compare --json` finds under a family."""
    seeds, seen = (1, 512) if quick else (SEEDS, None)
    done = subprocess.run(
        command(family, seeds, seen), capture_output=True, text=True, env=environment(), cwd=HERE, check=False
    )
    if done.returncode:
        raise RuntimeError(f"curate compare under {family} gave {done.returncode}:\n{done.stderr[-3000:]}")
    found: dict[str, Any] = json.loads(done.stdout)
    seconds = [r["seconds"] for e in found["entries"] for r in e["runs"] if r.get("seconds")]
    print(f"{family}: {len(seconds)} runs of {sum(seconds) / max(1, len(seconds)):.0f} s of training", flush=True)
    return found


def command(family: str, seeds: int, seen: int | None, sets: Sequence[str] = ()) -> list[str]:
    """
    Args:
        seen: samples; None: the scale's. sets: folders in place of the family's.
    """
    judged = FAMILIES[family]
    evaluated = sets or [f"held_out/{name}" for name in judged.sets]
    return [
        sys.executable, "-m", "curate.cli", "compare", *(f"{name}.yaml" for name in RECIPES), "--family", family,
        "--scale", "tiny", "--seeds", str(seeds), "--first-seed", str(FIRST), "--controls", "no_filter",
        "--primary", judged.primary, *(word for path in evaluated for word in ("--evaluate", path)),
        *(("--samples-seen", str(seen)) if seen else ()), "--json", "--quiet", "--out", f"{family}.html",
    ]  # fmt: skip


def is_whole(found: Mapping[str, Any], seeds: int) -> bool:
    """Has every recipe, and no filter, a score for every seed? A training that diverged has none."""
    scores = {e["name"]: len(of(e)) for e in found["entries"]}
    return scores == dict.fromkeys([*RECIPES, NONE], seeds)


def told(found: Mapping[str, Any], recipe: str) -> str:
    pair = next(d for d in found["differences"] if (d["a"], d["b"]) == (recipe, NONE))
    c = pair["comparison"]
    interval = "" if c["low"] is None else f" [{c['low']:+.3g}, {c['high']:+.3g}]"
    return f"{c['mean']:+.3g}{interval}"


if __name__ == "__main__":
    WORK.mkdir(parents=True, exist_ok=True)
    finish(measure("--quick" in sys.argv), None)
