"""CapFilt over real pictures, for benches: half of Flickr8k's pictures clean, the others a web with half of its
captions swapped; a BLIP at `tiny` trained on the clean ones, `curate capfilt` from it, and the pool that comes of it.

    made = prepared(seed=6000)                  # a folder, made once; goes on where it was stopped
    made.folder / "capfilt" / "capfilt.yaml"
    python bench/captions_work.py 6000 [--quick]     # the same

Held out are Flickr8k's test and development pictures, as everywhere. The seed draws what is clean and what is swapped,
and is the trainings' own. Nothing was settled on seeds from FIRST on.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import chdir
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import xxhash
import yaml
from common import SHARED, WORK, environment
from judge_data import Picture, judged, pick, row, split, write_held_out, write_table

FIRST, SEEDS = 6000, 3
CLEAN, SWAPPED = 0.5, 0.5  # of free pictures; of the others' captions
QUICK = 240  # pictures
MAKERS = ("bench/captions_work.py", "bench/judge_data.py")
WEB: dict[str, Any] = {
    "pool": "capfilt/pool",
    "shard_size": 1000,
    "source": {"path": "web.parquet", "name": "web", "uid": "uid", "text": "caption", "url": None},
    "ingest": {"resize": "short", "side": 64, "format": "png"},
    "pack": {"samples": 1000},
}


@dataclass(frozen=True)
class Made:
    """folder: clean.parquet, web.parquet, judged.parquet, held_out/flickr8k, blip.pt, capfilt/."""

    folder: Path
    clean: int
    web: int

    @property
    def held_out(self) -> Path:
        return self.folder / "held_out" / "flickr8k"

    @property
    def recipe(self) -> str:
        """What capfilt has written, and run."""
        return str(self.folder / "capfilt" / "capfilt.yaml")

    def ask(self, query: str, recipe: str | None = None) -> list[dict[str, Any]]:
        """Rows of SQL over the pool of a recipe."""
        import curate
        from curate.recipe import load_recipe

        chosen = recipe or self.recipe
        with chdir(self.folder):
            found = curate.open(load_recipe(chosen).pool, chosen).sql(query)
            rows: list[dict[str, Any]] = found.to_arrow().to_pylist()
        return rows


def prepared(seed: int, quick: bool = False) -> Made:
    """All that one seed has, in WORK/captions; made anew where what makes it has changed."""
    from families_data import digest

    from training_smoke.provenance import source_digest

    folder = WORK / "captions" / f"{seed}{'-quick' if quick else ''}"
    marker, by = folder / "made.json", f"{source_digest()} {digest(MAKERS)}"
    if not marker.exists() or json.loads(marker.read_text())["by"] != by:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        counts = lists(folder, seed, quick)
        marker.write_text(json.dumps({"by": by, **counts}))
    said = json.loads(marker.read_text())
    made = Made(folder, said["clean"], said["web"])
    with chdir(folder):
        trained(folder / "blip.pt", clean_pack(folder), seed, quick)
        recipe_file(folder / "web.yaml", WEB)
        more = ("--epochs", "1") if quick else ()
        pack = str(clean_pack(folder))
        run_in(folder, "capfilt", "blip.pt", pack, "web.yaml", "--out", "capfilt", "--seed", str(seed), *more)
    return made


def all_prepared(seeds: Sequence[int], quick: bool = False) -> list[Made]:
    """Of all seeds, as many at a time as there are cores, each by one: models so small gain nothing by a second."""
    own = environment({"OMP_NUM_THREADS": "1"})
    words = ["--quick"] if quick else []

    def one(seed: int) -> None:
        subprocess.run([sys.executable, str(Path(__file__).resolve()), str(seed), *words], env=own, check=True)

    with ThreadPoolExecutor(os.cpu_count()) as workers:
        list(workers.map(one, seeds))
    return [prepared(seed, quick) for seed in seeds]


def lists(folder: Path, seed: int, quick: bool) -> dict[str, int]:
    """clean.parquet with every caption of its pictures, web.parquet with one each, of half another picture's."""
    held, free, _ = split("flickr8k", SHARED)
    rng = np.random.default_rng([seed, xxhash.xxh32_intdigest(b"captions")])
    order = rng.permutation(len(free))[: QUICK if quick else None]
    cut = round(CLEAN * len(order))
    clean, web = ([free[i] for i in part] for part in (order[:cut], order[cut:]))
    write_table(folder / "clean.parquet", [row(p, c, "clean") for p in clean for c in p.captions])
    write_table(folder / "web.parquet", swapped(web, rng))
    write_held_out(folder / "held_out" / "flickr8k", "flickr8k", held[:60] if quick else held)
    path = judged(SHARED, folder)
    if quick:
        pq.write_table(pq.read_table(path).slice(0, QUICK), path)
    return {"clean": len(clean), "web": len(web)}


def swapped(pictures: Sequence[Picture], rng: np.random.Generator) -> list[dict[str, Any]]:
    """Each with one caption; of every other one it is another picture's, which cannot be said of it."""
    rows = []
    for number, picture in enumerate(pictures):
        of = picture
        while number < SWAPPED * len(pictures) and (of is picture or picture.answers(of)):
            of = pictures[int(rng.integers(len(pictures)))]
        rows.append(row(picture, pick(rng, of), "clean" if of is picture else "mismatched", number=number))
    return [rows[i] for i in rng.permutation(len(rows))]


def clean_pack(folder: Path) -> Path:
    """The clean pairs as a pack, made once."""
    found = sorted((folder / "clean" / "packs").glob("*/manifest.json"))
    if not found:
        source = WEB["source"] | {"path": "clean.parquet", "name": "clean"}
        recipe_file(folder / "clean.yaml", WEB | {"pool": "clean", "source": source})
        run_in(folder, "run", "clean.yaml", "--executor", "inline", "--quiet")
        found = sorted((folder / "clean" / "packs").glob("*/manifest.json"))
    return found[0].parent


def trained(path: Path, pack: Path, seed: int, quick: bool) -> None:
    """A BLIP at `tiny`, of the clean pairs; its run goes on where it was stopped."""
    if path.exists():
        return
    from training_smoke.config import scale
    from training_smoke.packs import Pack
    from training_smoke.towers_file import save_model
    from training_smoke.train import train

    config = scale("tiny", "blip").but(init_seed=seed, order_seed=seed)
    if quick:
        config = config.but(batch=32, samples=64)
    model = train(path.with_name("blip"), config, {Pack.open(str(pack)): 1.0}, device="cpu")
    save_model(path, model, config, {})


def recipe_file(path: Path, said: Mapping[str, Any]) -> str:
    """Write it, under the name of the file."""
    path.write_text(yaml.safe_dump({"recipe": path.stem, **said}, sort_keys=False, allow_unicode=True))
    return str(path)


def run_in(folder: Path, *words: str) -> str:
    """A command of curate in the folder; what it printed.

    Raises:
        RuntimeError: it failed.
    """
    command = [sys.executable, "-m", "curate.cli", *words]
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder, env=environment(), check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(words)} gave {done.returncode}:\n{done.stdout[-2000:]}\n{done.stderr[-3000:]}")
    return done.stdout


if __name__ == "__main__":
    WORK.mkdir(parents=True, exist_ok=True)
    print(prepared(int(sys.argv[1]), "--quick" in sys.argv))
