"""A data filtering network: a CLIP trained on pairs that are known to be good, to tell good pairs by its cosine.

    plan = Plan(SCALES["tiny"], {Pack.open("pools/clean/packs/clean@0123456789ab"): 1.0})
    train_filter(Path("filters/dfn"), plan)           # filters/dfn/filter.pt, filters/dfn/README.md

    filters/dfn/
        filter.pt            the weights, as `clip_score: {weights: filters/dfn/filter.pt}` loads them
        filter.json          what they were made of: packs and their digests, configuration, how they were averaged
        README.md            the card
        train/, fine-tune/   the folders of the runs; run again, each goes on from its last checkpoint

Fang et al. 2023, "Data Filtering Networks": train on clean pairs, fine-tune on cleaner ones, average the weights with
those from before, keep the pairs of the pool that score best (there 15 %). A little noise in the clean pairs costs more
than few of them; a filter's own accuracy does not say how well it filters.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from training_smoke import checkpoint
from training_smoke.average import Average, averaging
from training_smoke.card import filter_card
from training_smoke.config import Config
from training_smoke.errors import TrainingError
from training_smoke.families import PAIRS
from training_smoke.guard import Guard
from training_smoke.models import Model
from training_smoke.objectives import OBJECTIVES
from training_smoke.optimiser import adamw
from training_smoke.packs import Pack
from training_smoke.towers import TwoTowers, build
from training_smoke.towers_file import save_towers
from training_smoke.train import Packs, train

FILTER, ABOUT, CARD = "filter.pt", "filter.json", "README.md"
TRAIN, FINE_TUNE = "train", "fine-tune"
SAVES = 20  # checkpoints in a run whose configuration asks for none


@dataclass(frozen=True)
class FineTune:
    """A second, shorter training from where the first ends. samples: seen; rate: multiple of the first one's rate."""

    packs: Packs
    samples: int
    rate: float = 0.1


@dataclass(frozen=True)
class Plan:
    """What is trained.

    average: of the weights of the last training, see `training_smoke.average`. wise: with a fine-tune, the share of its
    weights in the filter's, the others being those from before (WiSE-FT, Wortsman et al. 2022); None: all of them.
    """

    config: Config
    packs: Packs
    fine_tune: FineTune | None = None
    average: Average | None = None
    wise: float | None = None

    def __post_init__(self) -> None:
        if self.config.objective not in PAIRS:
            raise TrainingError(
                f"a filter network has two towers, whose cosine scores pairs: objective {self.config.objective} has "
                f"none; train {', '.join(PAIRS)}"
            )
        if self.wise is not None and self.fine_tune is None:
            raise TrainingError("wise averages with the weights from before a fine-tune: it needs one")
        if self.wise is not None and not 0 < self.wise < 1:
            raise TrainingError(f"wise:{self.wise:g}: the share of the fine-tuned weights lies between 0 and 1")

    @property
    def first(self) -> Config:
        return _saved_often(self.config)

    @property
    def second(self) -> Config:
        """The fine-tune's: same towers and batch, fewer samples, a lower rate, other draws."""
        assert self.fine_tune is not None
        steps = max(1, self.fine_tune.samples // self.config.batch)
        samples = (steps + 1) * self.config.batch  # its first step is the training before it: see `begin_with`
        rate = self.config.optimiser.lr * self.fine_tune.rate
        warmup = min(self.config.optimiser.warmup, samples // 10)
        return _saved_often(
            self.config.but(
                samples=samples, order_seed=self.config.order_seed + 1, optimiser={"lr": rate, "warmup": warmup},
                save_every=None,
            )
        )  # fmt: skip

    def about(self) -> dict[str, Any]:
        """Everything that decides the weights, as JSON values."""
        tuned = self.fine_tune
        average = None if self.average is None else str(self.average)
        return {
            "packs": _told(self.packs),
            "config": self.first.as_json(),
            "fine_tune": None if tuned is None else {"packs": _told(tuned.packs), "config": self.second.as_json()},
            "average": average,
            "wise": self.wise,
        }


def train_filter(folder: Path, plan: Plan, *, device: str | None = None, quiet: bool = True) -> Path:
    """The file of weights. What was finished of the same plan in this folder is not done again.

    Raises:
        TrainingError: the folder is another plan's, there are several processes, or as `train`.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise TrainingError("a filter network is trained by one process: start it without torchrun")
    about = json.loads(json.dumps(plan.about()))
    if _finished(folder, about):
        return folder / FILTER
    final, config = folder / TRAIN, plan.first
    towers = _trained(final, config, plan.packs, None if plan.fine_tune else plan.average, device, quiet)
    if plan.fine_tune is not None:
        before, (final, config) = _weights(towers), (folder / FINE_TUNE, plan.second)
        begin_with(final, config, folder / TRAIN)
        towers = _trained(final, config, plan.fine_tune.packs, plan.average, device, quiet)
        if plan.wise is not None:
            towers.load_state_dict(interpolated(before, _weights(towers), plan.wise))
    scale = {name: value.item() for name, value in _last(final)["objective"].items()}
    save_towers(folder / FILTER, towers, config.towers, {**about, "objective": scale})
    _write(folder / ABOUT, json.dumps({**about, "objective": scale, FILTER: _sha256(folder / FILTER)}, indent=1) + "\n")
    _write(folder / CARD, filter_card(folder))
    return folder / FILTER


def begin_with(folder: Path, config: Config, before: Path) -> None:
    """Let a run begin with the weights and the scale of another: they become its checkpoint after a first step."""
    with checkpoint.alone(folder):
        if checkpoint.checkpoints(folder / "checkpoints"):
            return
        state = _last(before)
        towers, objective = build(config.towers, config.init_seed), OBJECTIVES[config.objective]()
        optimiser = adamw({"": towers, "objective": objective}, config.optimiser)
        guard = Guard(config.spike)
        (folder / "checkpoints").mkdir(exist_ok=True)
        kept = {"towers": state["towers"], "objective": state["objective"], "optimiser": optimiser.state_dict()}
        checkpoint.save(folder / "checkpoints", kept | {"step": 1, "guard": (guard.mean, guard.seen)})


def interpolated(a: Mapping[str, Tensor], b: Mapping[str, Tensor], share: float) -> dict[str, Tensor]:
    """(1 - share) a + share b, of each tensor; what is no float, as counters of batches, is b's."""
    return {
        name: torch.lerp(value.to(b[name].device), b[name], share) if value.is_floating_point() else b[name]
        for name, value in a.items()
    }


def _trained(
    folder: Path, config: Config, packs: Packs, average: Average | None, device: str | None, quiet: bool
) -> TwoTowers:
    """The towers after a run, or their average over it."""
    if average is None:
        return _towers(train(folder, config, packs, device=device, quiet=quiet))
    with averaging(folder, config, average) as mean:
        towers = _towers(train(folder, config, packs, device=device, quiet=quiet))
        mean.put_into(towers)
    return towers


def _towers(model: Model) -> TwoTowers:
    assert isinstance(model, TwoTowers)  # a plan has no other
    return model


def _finished(folder: Path, about: Mapping[str, Any]) -> bool:
    """Is the filter of this very plan there?"""
    path = folder / ABOUT
    if not path.exists():
        return False
    said = json.loads(path.read_text())
    differing = sorted(key for key in about if said.get(key) != about[key])
    if differing:
        raise TrainingError(
            f"{folder} has another filter (another {', '.join(differing)}): give another folder, or remove it"
        )
    return (folder / FILTER).exists() and _sha256(folder / FILTER) == said[FILTER] and (folder / CARD).exists()


def _saved_often(config: Config) -> Config:
    return config if config.save_every else config.but(save_every=max(1, config.steps // SAVES))


def _told(packs: Packs) -> list[dict[str, Any]]:
    return [
        {"pack": pack.url, "digest": pack.digest, "samples": len(pack), "share": share} for pack, share in packs.items()
    ]


def _weights(towers: TwoTowers) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in towers.state_dict().items()}


def _last(folder: Path) -> dict[str, Any]:
    state = checkpoint.load_newest(folder / "checkpoints")
    if state is None:
        raise TrainingError(f"{folder} has lost its checkpoints: remove it, and train again")
    return state


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _write(path: Path, text: str) -> None:
    part = path.with_name(f"{path.name}.part-{os.getpid()}")
    part.write_text(text)
    part.replace(path)


__all__ = ["Average", "FineTune", "Pack", "Plan", "begin_with", "interpolated", "train_filter"]
