"""Published recipes compared by training, over a pool of real pictures with planted faults: `curate compare` at `tiny`.

    python bench/judge_compare_recipes.py [--quick] [--write]     # --write: the table goes to docs/recipes-compared.md

Which recipes, how each is fitted to so small a pool, seeds and the metric that decides are fixed in this file before
anything runs. All CLIPs that recipes ask for are one network, which `curate train-filter` trains on a clean quarter of
the pictures: fractions keep their meaning under it, thresholds of OpenAI's CLIP do not, so recipes by threshold are not
here. The oracle keeps what is known to be clean.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import chdir
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import yaml
from common import ROOT, SHARED, WORK, Bar, at_least, bar, environment, finish
from judge_compare_page import document
from judge_compare_pool import NETWORK, give, make
from judge_demo import JUDGED

FOLDER = WORK / "judge" / "recipes"
POOL: dict[str, Any] = {
    "pool": "pool",
    "shard_size": 1000,
    "source": {"path": "pool.parquet", "name": "pool", "uid": "uid", "text": "caption", "url": None},
    "ingest": {"resize": "short", "side": 64, "format": "png"},
    "pack": {"samples": 1000},
}
FIRST, SEEDS = 3000, 5  # nothing was settled on these
SEEN = 10_240
PRIMARY = "flickr8k/positive_rank"
ORACLE = {"filters": [{"where": "truth = 'clean'"}]}
RECIPES: Mapping[str, Sequence[str]] = {
    "web_default": (),
    "datacomp_basic": (),
    "datacomp_l14": (),
    "datacomp_1b": ("columns.cluster_match.clusters.k=64",),
    "dfn": (),
    "ncl_norm_sim": ("columns.neg_clip_loss.batch=1024",),
    "tmars": (),
    "devil": (),
    "m_flyt_scs": ("columns.neg_clip_loss.batch=1024", "filters.copies.batch=50"),
    "d4": ("filters.duplicates.clusters.k=8", "filters.prototypes.k=8"),
    "metaclip_400m": ("filters.balance.t=20",),
    "dsir": (),
}
"""Recipe -> what is other than in recipes/: numbers that are meant for billions of samples."""


def measure(quick: bool) -> dict[str, Bar]:
    """quick: at `feature`, two seeds, three recipes: that it runs, not what it says."""
    if not SHARED.is_dir():
        print(f"no real data at {SHARED}: nothing is compared")
        return {"recipes_compared": bar(None, "data at ../shared/data", None)}
    os.environ |= {"CURATE_CACHE": str(WORK / "cache")}
    asked = dict(list(RECIPES.items())[:3]) if quick else RECIPES
    scale, seeds = ("feature", 2) if quick else ("tiny", SEEDS)
    prepared()
    with chdir(FOLDER):
        files = {name: written(name, overrides, scale, seeds) for name, overrides in asked.items()}
        files["oracle"] = written("oracle", (), scale, seeds)
        there, left_out = that_run(files)
        found = compared([files[name] for name in there], scale)
    text = document(found, FOLDER / "pool", left_out, asked)
    print(text)
    if "--write" in sys.argv and not quick:
        (ROOT / "docs" / "recipes-compared.md").write_text(text)
    return bars(found, quick)


# ---------------------------------------------------------------- pool and network


def prepared() -> None:
    """The lists, a pool of every row, the network of the clean quarter, and what recipes are given. Made anew."""
    from training_smoke.config import SCALES
    from training_smoke.filter_network import Plan, train_filter
    from training_smoke.packs import Pack

    shutil.rmtree(FOLDER, ignore_errors=True)
    counts = make(SHARED, FOLDER, FIRST).counts
    print(f"pool: {counts}", flush=True)
    with chdir(FOLDER):
        everything = recipe_file("everything", POOL)
        clean = {"pool": "clean", "source": POOL["source"] | {"path": "clean.parquet", "name": "clean"}}
        ran(everything)
        manifest = ran(recipe_file("clean", POOL | clean))
        config = SCALES["tiny"].but(init_seed=FIRST, order_seed=FIRST, **NETWORK)
        network = train_filter(Path("filter"), Plan(config, {Pack.open(f"clean/{manifest['folder']}"): 1.0}))
        give(SHARED, FOLDER, network)
        learn_mixer()


def learn_mixer() -> None:
    """given/mixer.json: M-FLYT's layer, from labelled pairs that are not in the pool."""
    import curate as package
    from stages.mixer_learning import learn

    raw = written_for_network("m_flyt_scs", RECIPES["m_flyt_scs"])
    mixer = next(c["linear_mixer"] for c in raw["columns"] if "linear_mixer" in c)
    source = POOL["source"] | {"path": "labelled.parquet", "name": "labelled"}
    columns = [c for c in raw["columns"] if "linear_mixer" not in c]
    ran(recipe_file("labelled", {**POOL, "pool": "labelled", "source": source, "columns": columns}))
    asked = f"SELECT {', '.join(mixer['columns'])}, matches FROM samples"
    table = package.open("labelled", "labelled").sql(asked).to_arrow()
    learnt = learn(table, mixer["columns"], good="matches")
    print(f"mixer: {learnt.learned}", flush=True)
    learnt.save("given/mixer.json")


def recipe_file(name: str, said: Mapping[str, Any]) -> Path:
    path = Path(f"{name}.yaml")
    path.write_text(yaml.safe_dump({"recipe": name, **said}, sort_keys=False, allow_unicode=True))
    return path


def ran(path: Path) -> dict[str, Any]:
    """Run and pack a recipe in this process; the pack's manifest."""
    from curate.recipe import load_recipe
    from curate.run.job import Job
    from curate.run.progress import Progress, Telling

    job = Job(load_recipe(str(path)), "inline")
    with Progress(None, "bench", telling=Telling(quiet=True)) as progress:
        try:
            manifest: dict[str, Any] = job.pack(progress, job.run(progress).pick)
        finally:
            job.choice.close()
    return manifest


# ---------------------------------------------------------------- recipes


def written(name: str, overrides: Sequence[str], scale: str, seeds: int) -> Path:
    """A built-in recipe over this pool, under this judge, its CLIPs being the network."""
    said = ORACLE if name == "oracle" else written_for_network(name, overrides)
    judge = {"scale": scale, "seeds": seeds, "primary": PRIMARY, "samples_seen": SEEN, "parameters": JUDGED}
    return recipe_file(name, {**POOL, **said, "judge": judge})


def written_for_network(name: str, overrides: Sequence[str]) -> dict[str, Any]:
    """What a recipe decides, without `model:` beside weights that are given: the file says itself what it is of."""
    from curate.recipe import load_recipe

    raw = load_recipe(name, list(overrides)).raw
    kept = {key: value for key, value in raw.items() if key in ("seed", "columns", "filters", "captions")}
    found: dict[str, Any] = network_for_clip(kept)
    return found


def network_for_clip(said: Any) -> Any:
    if isinstance(said, list | tuple):
        return [network_for_clip(s) for s in said]
    if not isinstance(said, dict):
        return said
    of_clip = str(said.get("weights", "")).startswith("given/")
    return {k: network_for_clip(v) for k, v in said.items() if not (of_clip and k == "model")}


def that_run(files: Mapping[str, Path]) -> tuple[list[str], dict[str, str]]:
    """(those that keep something of this pool, the others with the reason)."""
    from curate.errors import UserError

    there, left_out = [], {}
    for name, path in files.items():
        try:
            kept = ran(path)["counts"]["kept"]
            print(f"{name}: {kept:,} kept", flush=True)
            there.append(name)
        except UserError as e:
            left_out[name] = str(e).splitlines()[0]
            print(f"{name}: left out: {left_out[name]}", flush=True)
    return there, left_out


def compared(files: Sequence[Path], scale: str) -> dict[str, Any]:
    """What `curate compare --json` finds, run in this folder, from which recipes name their files; the page lies in
    WORK."""
    page = WORK / f"recipes-{scale}.html"
    command = [
        sys.executable, "-m", "curate.cli", "compare", *map(str, files), "--evaluate", "held_out/flickr8k", "--json",
        "--first-seed", str(FIRST), "--quiet", "--out", str(page),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, env=environment(), check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} gave {done.returncode}:\n{done.stderr[-3000:]}")
    print(f"page: {page}", flush=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def bars(found: Mapping[str, Any], quick: bool) -> dict[str, Bar]:
    """That the comparison is one: eight recipes, equal samples seen, and controls that show what they must."""
    recipes = [e for e in found["entries"] if e["kind"] == "recipe" and e["name"] != "oracle"]
    oracle = next(d for d in found["differences"] if (d["a"], d["b"]) == ("oracle", "no_filter"))["comparison"]
    again = found["a_a"]["comparison"]
    shown = f"{oracle['mean']:+.1f} [{oracle['low']:+.1f}, {oracle['high']:+.1f}]"
    return {
        "recipes_compared": bar(len(recipes), 8, None) if quick else at_least(len(recipes), 8, 0),
        "recipes_oracle_over_none": bar(shown, "above 0", None if quick else oracle["low"] > 0),
        "recipes_a_a": bar(f"p {again['p']:.2g}", "at least 0.05", None if quick else again["p"] >= 0.05),
    }


if __name__ == "__main__":
    WORK.mkdir(parents=True, exist_ok=True)
    finish(measure("--quick" in sys.argv), None)
