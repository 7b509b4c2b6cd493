"""A small pool of drawn scenes, half of them with another's caption, recipes over it, and held-out sets."""

from __future__ import annotations

import io
from pathlib import Path

from PIL import Image
from tiny import add_shard, sample

from curate.demo.draw import draw
from curate.demo.held_out import build_held_out
from curate.demo.scenes import english, scene
from curate.pool.pool import Pool
from curate.recipe import Recipe, load_recipe
from curate.run.fetch.spec import IngestSpec

SCENES = 240


def small(number: int, side: int = 40) -> bytes:
    picture = draw(scene(number)).resize((side, side), Image.Resampling.BOX)
    out = io.BytesIO()
    picture.save(out, "JPEG", quality=90)
    return out.getvalue()


def build_pool(folder: Path | str, scenes: int = SCENES) -> Path:
    """Odd scenes have the caption of another; the word `wrong` in their url says so."""
    pool = Pool.create(str(folder), IngestSpec(resize="none").pixels(), 100)
    for shard, start in enumerate(range(0, scenes, 100)):
        rows = []
        for number in range(start, min(start + 100, scenes)):
            wrong = number % 2 == 1
            text = english(scene(number + 1000 if wrong else number), number)
            url = f"http://127.0.0.1/{'wrong' if wrong else 'right'}/{number}.jpg"
            rows.append(sample(number, image=small(number), text=text, url=url, width=40, height=40))
        add_shard(pool, shard, rows)
    return Path(folder)


def recipe_file(folder: Path, name: str, pool: Path | str, where: str | None) -> Path:
    path = folder / f"{name}.yaml"
    filters = "[]" if where is None else f'[{{id: w, where: "{where}", on_missing: drop}}]'
    path.write_text(
        f"recipe: {name}\npool: {pool}\nshard_size: 100\ningest: {{resize: none}}\nfilters: {filters}\n"
        f"pack: {{samples: 100}}\n"
    )
    return path


def recipe(folder: Path, name: str, pool: Path | str, where: str | None) -> Recipe:
    return load_recipe(str(recipe_file(folder, name, pool, where)))


def held_out(folder: Path, scenes: int = 24) -> tuple[Path, Path]:
    return build_held_out(folder, scenes)
