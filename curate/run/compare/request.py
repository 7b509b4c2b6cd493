"""What is to be compared: recipes over one pool, how each is trained, and what decides. Fixed before anything runs.

    request = make_request([load_recipe("a.yaml"), load_recipe("b.yaml")], Said(scale="tiny", seeds=5))

Each value is what the command line says, else the recipes' `judge:` section, else the scale's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from curate.errors import UserError
from curate.recipe_models import Captions, Judge

if TYPE_CHECKING:
    from curate.recipe import Recipe
    from training_smoke.config import Config

SMALL = ("feature", "tiny")  # scales of one CPU thread a run: as many sums in one order, however many cores there are
CONTROLS = ("no_filter", "random", "a_a")


@dataclass(frozen=True)
class Said:
    """What the command line says; None: nothing. first_seed: of the replicates, which have it and those that follow."""

    scale: str | None = None
    seeds: int | None = None
    family: str | None = None
    evaluate: tuple[str, ...] = ()
    primary: str | None = None
    samples_seen: int | None = None
    controls: tuple[str, ...] | None = None
    gpus: int | None = None
    first_seed: int = 0
    probe: bool = False


@dataclass(frozen=True)
class Request:
    """Everything that decides the numbers, but the pool.

    config: without seeds; each replicate has its own. gpus: of one training. probe: linear probes too.
    """

    recipes: tuple[Recipe, ...]
    scale: str
    config: Config
    seeds: tuple[int, ...]
    controls: tuple[str, ...]
    evaluate: tuple[str, ...]
    primary: str
    gpus: int
    probe: bool = False

    @property
    def pool(self) -> str:
        return self.recipes[0].pool


def make_request(recipes: Sequence[Recipe], said: Said) -> Request:
    """
    Raises:
        UserError: recipes of several pools or of one name, an unknown scale, family or control, nothing to evaluate
            on, a setting that training does not have.
    """
    _check_recipes(recipes)
    judge = next((r.judge for r in recipes if r.judge is not None), Judge())
    scale = said.scale or judge.scale
    controls = judge.controls if said.controls is None else said.controls
    config = _config(scale, judge, said)
    if unknown := set(controls) - set(CONTROLS):
        raise UserError(f"--controls {', '.join(sorted(unknown))}: there are {', '.join(CONTROLS)}")
    evaluate = said.evaluate or judge.evaluate
    if not evaluate:
        raise UserError(
            "nothing to evaluate on: name folders in CLIP_benchmark's layout, with --evaluate DIR or as `judge: "
            "{evaluate: [DIR]}`; a folder of held-out pairs of yours will do (docs/judging.md says how to make one)"
        )
    gpus = said.gpus if said.gpus is not None else int(scale not in SMALL)
    if gpus > 1 and scale in SMALL:
        raise UserError(f"--gpus {gpus}: a run of scale {scale} is too small for more than one")
    seeds = tuple(range(said.first_seed, said.first_seed + (said.seeds or judge.seeds)))
    return Request(
        tuple(recipes), scale, config, seeds, tuple(controls), evaluate, said.primary or judge.primary, gpus, said.probe
    )


def _check_recipes(recipes: Sequence[Recipe]) -> None:
    pools = dict.fromkeys(r.pool.rstrip("/") for r in recipes)
    if len(pools) > 1:
        raise UserError(
            f"recipes of several pools cannot be compared: {', '.join(pools)}; give all one pool with --pool"
        )
    names = [r.name for r in recipes]
    if twice := sorted({n for n in names if names.count(n) > 1}):
        raise UserError(f"several recipes are called {', '.join(twice)}: `recipe:` must tell them apart")
    judges = {r.name: r.judge for r in recipes if r.judge is not None}
    first = next(iter(judges), "")
    if differing := [name for name, judge in judges.items() if judge != judges[first]]:
        raise UserError(
            f"`judge:` of {', '.join(differing)} is not that of {first}: recipes are compared under one; make them "
            "equal, or leave it to one of them"
        )
    for recipe in recipes:
        if recipe.name == "no_filter" and (recipe.steps or recipe.captions != Captions()):
            raise UserError("a recipe called no_filter has filters or captions: that name is the control's")
        if recipe.pack is not None and recipe.pack.format != "webdataset":
            raise UserError(f"recipe {recipe.name} packs parquet; training reads `pack: {{format: webdataset}}`")


def _config(scale: str, judge: Judge, said: Said) -> Config:
    from training_smoke.config import SCALES
    from training_smoke.config import scale as scale_of
    from training_smoke.errors import TrainingError
    from training_smoke.families import NAMES

    if scale not in SCALES:
        raise UserError(f"--scale {scale}: there are {', '.join(SCALES)}")
    family = said.family or judge.family
    if family not in NAMES:
        raise UserError(f"family {family}: the judge trains {', '.join(NAMES)}")
    if "objective" in judge.parameters:
        raise UserError("judge: parameters: objective: say `family:`")
    changes: dict[str, Any] = dict(judge.parameters)
    towers = {n: v for n, v in (("name", judge.model), ("weights", judge.pretrained)) if v is not None}
    if towers:
        changes["towers"] = {**towers, **changes.get("towers", {})}
    seen = said.samples_seen or judge.samples_seen
    try:
        config = scale_of(scale, family).but(**changes)
        if seen is not None:
            config = config.but(samples=max(config.batch, seen // config.batch * config.batch))
    except (TrainingError, TypeError) as e:
        raise UserError(f"judge: {e}") from e
    return config
