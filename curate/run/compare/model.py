"""The models that can be evaluated, however they are named.

open_model("filter/filter.pt")                       # of `curate train-filter`; towers.pt of a comparison
open_model("runs/a")                                 # a run's folder: its last checkpoint
open_model("ViT-B-32:laion2b_s34b_b79k")             # open_clip's, by tag or by file
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from curate.pool.layout import short_hash
from curate.run.prints import file_digest
from training_smoke import checkpoint
from training_smoke.config import Config, Towers
from training_smoke.errors import TrainingError
from training_smoke.evaluate.encoders import Able, TowerEncoders, able
from training_smoke.evaluate.hyperbolic import HyperbolicEncoders, on_hyperboloid
from training_smoke.objectives import MERU, OBJECTIVES, Objective
from training_smoke.towers import OURS, build
from training_smoke.towers_file import load_model, read_file, whole_in


@dataclass(frozen=True)
class Model:
    """digest: of its weights. objective: as it was learned, where the file says; without it no held-out loss."""

    name: str
    digest: str
    encoders: Able | HyperbolicEncoders
    objective: Objective | None


def open_model(said: str, device: str, precision: str = "fp32") -> Model:
    """
    Args:
        said: a file of towers, a run's folder, or NAME:WEIGHTS of open_clip.

    Raises:
        TrainingError: it is none of these.
    """
    path = whole_in(Path(said).expanduser())
    if path.is_dir():
        return Model(said, _newest(path), *_of_run(path, device, precision))
    if path.is_file():
        return Model(said, file_digest(str(path)), *model_of(path, device, precision))
    name, colon, weights = said.partition(":")
    name = name.replace("/", "-")
    if not colon or not weights or name in OURS:
        raise TrainingError(
            f"{said}: no such file or folder. A model is a file (filter.pt of `curate train-filter`, towers.pt of "
            "`curate compare`), the folder of a run, or NAME:WEIGHTS of open_clip, as ViT-B-32:laion2b_s34b_b79k"
        )
    towers = build(Towers(name, weights), seed=0)
    digest = file_digest(weights) if Path(weights).is_file() else short_hash(["open_clip", name, weights])
    return Model(said, digest, TowerEncoders(towers, device, precision), None)


def model_of(file: Path, device: str, precision: str) -> tuple[Able | HyperbolicEncoders, Objective | None]:
    """The model of a file, and of two towers the objective as they have learned it, where the file says.

    Raises:
        TrainingError: it is no file of towers.
    """
    model = able(load_model(file), device, precision)
    about = read_file(file)["about"]
    if not {"config", "objective"} <= about.keys() or about["config"]["objective"] not in OBJECTIVES:
        return model, None
    return _measured(model, _objective(about["config"]["objective"], about["objective"]))


def _of_run(folder: Path, device: str, precision: str) -> tuple[Able | HyperbolicEncoders, Objective | None]:
    model = able(load_model(folder), device, precision)
    state, name = checkpoint.load_newest(folder / "checkpoints"), Config.load(folder / "config.json").objective
    assert state is not None  # its towers were loaded
    return _measured(model, _objective(name, state["objective"])) if name in OBJECTIVES else (model, None)


def _measured(model: Able, objective: Objective) -> tuple[Able | HyperbolicEncoders, Objective]:
    """Both as `evaluate` takes them: what was trained in hyperbolic space is compared there."""
    if isinstance(objective, MERU) and isinstance(model, TowerEncoders):
        return on_hyperboloid(model, objective)
    return model, objective


def _newest(folder: Path) -> str:
    found = checkpoint.checkpoints(folder / "checkpoints")
    if not found:
        raise TrainingError(f"{folder} has neither filter.pt nor towers.pt nor a checkpoint: there is no model in it")
    return file_digest(str(found[-1]))


def _objective(name: str, learned: Mapping[str, Any]) -> Objective:
    objective: Objective = OBJECTIVES[name]()
    objective.load_state_dict({n: torch.as_tensor(v) for n, v in learned.items()})
    return objective
