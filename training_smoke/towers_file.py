"""A trained model as one file, which other programs load by its path; and those of a run's folder.

save_model("towers.pt", model, config, about={"pack": "..."})
model = load_model("towers.pt")                # or load_model("runs/a"), the last checkpoint of a run
towers = load_towers("filter.pt")              # where nothing but two towers will do
"""

from __future__ import annotations

import dataclasses
import os
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from training_smoke import checkpoint
from training_smoke.config import Config, Towers
from training_smoke.errors import TrainingError
from training_smoke.families import FAMILIES, family
from training_smoke.models import Model, build_model
from training_smoke.towers import TwoTowers

FORMAT = "curate towers 1"
WHOLE = ("filter.pt", "towers.pt")
"""Names of files of models in the folders of `curate train-filter` and of a comparison's runs, whose checkpoints are
gone."""


def whole_in(path: str | Path) -> Path:
    """The file of a model that lies in this folder; the path itself, where it is a file, or a folder without one."""
    path = Path(path)
    return next((path / name for name in WHOLE if (path / name).is_file()), path)


def save_towers(path: str | Path, towers: Model, config: Towers, about: Mapping[str, Any]) -> None:
    """Write weights, what they are weights of, and where they come from; the file appears whole.

    Args:
        about: JSON values: packs, digests, configuration; under "objective", the scale and bias that it learned.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # Weights that the towers began with are in the state: who loads the file needs no other.
    alone = dataclasses.replace(config, weights=None)
    state = {name: value.detach().cpu() for name, value in towers.state_dict().items()}
    part = path.with_name(f"{path.name}.part-{os.getpid()}")
    try:
        with part.open("wb") as file:
            said = {"format": FORMAT, "towers": dataclasses.asdict(alone), "about": dict(about), "state": state}
            torch.save(said, file)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def load_towers(path: str | Path, device: str | torch.device | None = None) -> TwoTowers:
    """Towers in evaluation mode.

    Args:
        path: a file of `save_towers`, or the folder of a run that has a checkpoint.

    Raises:
        TrainingError: neither, or of a family that has no two towers.
    """
    model = load_model(path, device)
    if not isinstance(model, TwoTowers):
        raise TrainingError(f"{path} has a model of another family ({type(model).__name__}), and no two towers")
    return model


def save_model(path: str | Path, model: Model, config: Config, about: Mapping[str, Any]) -> None:
    """As `save_towers`, of any model.

    Args:
        config: of its training; about: see there, and the configuration is in it too, as "config".
    """
    save_towers(path, model, config.towers, {**about, "config": config.as_json()})


def load_model(path: str | Path, device: str | torch.device | None = None) -> Model:
    """A model in evaluation mode, of whatever family.

    Args:
        path: a file of `save_model` or `save_towers`, or the folder of a run that has a checkpoint.

    Raises:
        TrainingError: neither.
    """
    path = Path(path)
    if path.is_dir():
        config, state = Config.load(path / "config.json"), checkpoint.load_newest(path / "checkpoints")
        if state is None:
            raise TrainingError(f"{path} has no checkpoint yet: train it to its end first")
        return _built(config.but(towers={"weights": None}), state["towers"], path, device)
    said = read_file(path)
    return _built(config_of(said), said["state"], path, device)


def config_of(said: Mapping[str, Any]) -> Config:
    """What decides the shape of a file's model: towers, objective and settings. Of the rest it has what files say."""
    asked = said["about"].get("config", {})
    return Config(
        objective=asked.get("objective", "clip"),
        settings=asked.get("settings") or {},
        towers=Towers(**said["towers"]),
    )


def begun_from(towers: Towers) -> TwoTowers | None:
    """Towers with the weights of the file that `towers.weights` names; None: the file is another program's.

    Raises:
        TrainingError: they are weights of other towers.
    """
    path = Path(str(towers.weights))
    if not is_ours(path):
        return None
    said = read_file(path)
    config = Towers(**said["towers"])
    asked = {"name": towers.name, "image_size": towers.image_size, "context": towers.context}
    for what, value in asked.items():
        if value is not None and value != getattr(config, what):
            raise TrainingError(f"{path} has towers of {what} {getattr(config, what)!r}, and {value!r} is asked for")
    config = dataclasses.replace(config, checkpointing=towers.checkpointing)
    built = _built(config_of(said).but(towers=dataclasses.asdict(config)), said["state"], path, None)
    if not isinstance(built, TwoTowers):
        raise TrainingError(f"{path} has a model of another family ({type(built).__name__}), and no two towers")
    found = built.train()
    found.learned = {name: float(value) for name, value in said["about"].get("objective", {}).items()}
    return found


def is_ours(path: Path) -> bool:
    """Is this a file of `save_towers`, and not a checkpoint of open_clip or others?"""
    try:
        _opened(path)
    except TrainingError:
        return False
    return True


def read_file(path: str | Path) -> dict[str, Any]:
    """The file of `save_towers`: format, towers, about, state.

    Raises:
        TrainingError: there is none, it is another file, or one that this version cannot read.
    """
    said = _opened(Path(path))
    lacking = [name for name in ("towers", "about", "state") if not isinstance(said.get(name), Mapping)]
    if lacking:
        raise TrainingError(f"{path} lacks its part {' and '.join(lacking)}: it was not written whole")
    if unknown := sorted(said["towers"].keys() - {f.name for f in dataclasses.fields(Towers)}):
        raise TrainingError(f"{path} says {', '.join(unknown)} of its towers: it is of another version of curate")
    return said


def _opened(path: Path) -> dict[str, Any]:
    try:
        said = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except FileNotFoundError:
        raise TrainingError(f"{path}: no such file; `curate train-filter` makes one") from None
    except (OSError, RuntimeError, ValueError, EOFError, pickle.UnpicklingError) as e:
        raise TrainingError(f"{path} is no file of towers: {str(e).splitlines()[0]}") from e
    if not isinstance(said, dict) or said.get("format") != FORMAT:
        raise TrainingError(f"{path} is a checkpoint of something else: expected a file of `curate train-filter`")
    return said


def _built(config: Config, state: Mapping[str, Any], path: Path, device: str | torch.device | None) -> Model:
    model = _shell(config, state)
    try:
        model.load_state_dict(state)
    except RuntimeError as e:
        what = f"{config.objective}, towers {config.towers.name}"
        raise TrainingError(f"{path}: weights do not fit {what}: {str(e).splitlines()[0]}") from e
    return model.to(device or "cpu").eval()


def _shell(config: Config, state: Mapping[str, Any]) -> Model:
    """A model for weights to be put into. What began with a folder or a name on a hub needs it no more: its shape and
    tokenizer lie beside the weights."""
    about = state.get("about")
    if config.objective not in FAMILIES or about is None or not len(about):
        return build_model(config)
    kind = family(config.objective)
    with torch.random.fork_rng(devices=[]):
        return kind.again(config.towers, kind.checked(config.settings), about)
