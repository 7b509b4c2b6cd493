"""CapFilt from end to end: two halves of a BLIP, the recipe that they work in, and what came of it.

    capfilt(Asked(Start.of("blip.pt"), Web.of("web.yaml"), Pack.open("packs/coco"), out=Path("out")))

    out/
        captioner.pt, filter.pt      the halves; captioner/, filter/: how they were trained
        capfilt.yaml                 the recipe: `curate run out/capfilt.yaml`
        pool/                        of the recipe, unless another is named
        summary.json                 how many texts of either kind were rejected

Every step is found again and not done twice, so that the same command goes on wherever it was stopped.

Li et al. 2022, "BLIP: Bootstrapping Language-Image Pre-training" (arXiv:2201.12086), section 3.3 and table 1: a
captioner and a filter from one pre-trained model, fine-tuned apart on clean pairs (LM; ITC and ITM), one caption a web
picture by nucleus sampling with p = 0.9, texts kept where the filter says "match". A new model is then trained on all.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from curate.errors import UserError
from curate.recipe import load_recipe, recipe_from
from curate.run.capfilt.known import refuse_known
from curate.run.capfilt.recipe import RECIPE, CapFilt, Web, write_recipe
from curate.run.capfilt.start import KINDS, Start
from curate.run.capfilt.summary import summary
from curate.run.capfilt.tune import tuned
from curate.run.main import run_recipe
from curate.run.progress import Telling
from training_smoke.checkpoint import alone
from training_smoke.packs import Pack

SUMMARY, POOL = "summary.json", "pool"


@dataclass(frozen=True)
class Asked:
    """pool: where the recipe works; None: out/pool. epochs: of fine-tuning; None: BLIP's. p, threshold: as of
    `CapFilt`."""

    start: Start
    web: Web
    clean: Pack
    out: Path
    pool: str | None = None
    epochs: int | None = None
    p: float = 0.9
    threshold: float = 0.5
    seed: int = 0


def prepare(asked: Asked, *, quiet: bool = True) -> Path:
    """Fine-tune both halves and write the recipe; its path.

    Raises:
        TrainingError: as `tuned`. UserError: as `write_recipe` and `refuse_known`, or there are no pictures to work on.
    """
    if asked.pool is None and not asked.web.sources:
        raise UserError(f"{asked.web.name} has no `source:`: say with --pool in which pool its pictures are")
    out = asked.out.absolute()
    captioner, judge = (str(out / f"{kind}.pt") for kind in KINDS)
    chosen = CapFilt(
        asked.pool or str(out / POOL), asked.clean.url, captioner, judge, asked.clean.digest,
        p=asked.p, threshold=asked.threshold, seed=asked.seed, gpu=torch.cuda.is_available(),
    )  # fmt: skip
    recipe_from(chosen.sections(asked.web))  # what is wrong with it is said before hours of training
    refuse_known(chosen.pool, chosen.source)
    with alone(out):
        for kind in KINDS:
            tuned(out, kind, asked.start, asked.clean, epochs=asked.epochs, seed=asked.seed, quiet=quiet)
        write_recipe(out / RECIPE, chosen, asked.web)
    return out / RECIPE


def capfilt(
    asked: Asked,
    executor: str | None = None,
    workers: int | None = None,
    *,
    report: Path | None = None,
    command: str = "curate capfilt",
    telling: Telling | None = None,
) -> dict[str, Any]:
    """All of it; what `summary` says, and the folder of the pack that a new model is to be trained on.

    Raises:
        As `prepare` and `run_recipe`.
    """
    telling = telling or Telling("text", True)
    path = prepare(asked, quiet=telling.quiet)
    recipe = load_recipe(str(path))
    outcome = run_recipe(recipe, executor, workers, pack=True, report=report, command=command, telling=telling)
    refuse_known(recipe.pool, recipe.raw["source"][0])  # in the hours between, another run may have brought them
    found = summary(recipe.pool, str(path), asked.threshold) | {"pick": outcome.pick}
    _write(path.with_name(SUMMARY), json.dumps(found, indent=1) + "\n")
    return found


def _write(path: Path, text: str) -> None:
    part = path.with_name(f"{path.name}.part-{os.getpid()}")
    part.write_text(text)
    part.replace(path)
