"""Lines of a plan for the pack: what is there of it, and why the rest is not."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from curate.pool.pool import Pool
from curate.run.pack.drive import MANIFEST, pack_folder
from curate.run.pack.rank import RANKS
from curate.run.pack.write import NOTES
from curate.run.planned import UNKNOWN, Made, Planned
from curate.run.planning.differ import said
from curate.run.planning.reasons import AHEAD, NEVER
from curate.run.walk import Walk
from stages.base import Need, shard_name

if TYPE_CHECKING:
    from curate.recipe import Recipe

NOTHING = "the pick keeps no sample, as far as is known: there would be nothing to pack"
RANK, FILL = "pack: rank", "pack: fill"


def plan_pack(recipe: Recipe, pool: Pool, walk: Walk, pick: str, samples: int) -> tuple[str | None, list[Planned], str]:
    """(folder, lines, why it is not there); nothing where the recipe asks for no pack, or there is nothing to pack.

    Args:
        samples: copies that the pick keeps, about.
    """
    if recipe.pack is None or not walk.shards:
        return None, [], ""
    folder = pack_folder(pool, pick, recipe.name, recipe.pack, recipe.seed)
    storage, shards = pool.storage, [shard_name(s) for s in walk.shards]
    files = max(1, -(-samples // recipe.pack.samples))
    whole = storage.exists(f"{folder}/{MANIFEST}")
    if whole:
        files = len(json.loads(storage.read(f"{folder}/{MANIFEST}"))["files"])
        ranked, filled = set(shards), files
    else:
        ranked = {e.name.removesuffix(".parquet") for e in storage.list(f"{folder}/{RANKS}")}
        filled = len(storage.list(f"{folder}/{NOTES}"))
    todo = tuple(s for s in shards if s not in ranked)
    left = tuple(shard_name(n) for n in range(min(filled, files), files))
    lines = [
        Planned(RANK, "pack", folder, len(shards), len(todo), "", (Made(None, folder, todo),)),
        Planned(FILL, "pack", folder, files, len(left), "", (Made(None, folder, left),), Need(memory_gb=2)),
    ]
    why = "" if whole else _why(recipe, pool, walk, folder, pick, bool(ranked or filled))
    return folder, lines, why if samples or whole else NOTHING


def _why(recipe: Recipe, pool: Pool, walk: Walk, folder: str, pick: str, begun: bool) -> str:
    if begun:
        return "an interrupted run"
    if walk.prints.generation == UNKNOWN:
        return AHEAD
    assert recipe.pack is not None
    spec: dict[str, Any] = recipe.pack.model_dump() | {"seed": recipe.seed}
    others = [n for n in pool.storage.folders("packs") if n.rpartition("@")[0] == recipe.name]
    found: list[list[str]] = []
    for other in (f"packs/{n}" for n in others if f"packs/{n}" != folder):
        if not pool.storage.exists(f"{other}/{MANIFEST}"):
            continue
        manifest = json.loads(pool.storage.read(f"{other}/{MANIFEST}"))
        changed = [] if manifest["pick"] == pick else ["the pick changed"]
        before = manifest["pack"]
        changed += [f"`{k}`: {said(before.get(k))} -> {said(v)}" for k, v in spec.items() if before.get(k) != v]
        found.append(changed or ["samples were removed from the pool"])
    nearest: list[str] = min(found, key=lambda f: len(f), default=[NEVER])
    return "; ".join(nearest)
