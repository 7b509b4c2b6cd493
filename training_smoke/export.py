"""A trained model as other programs know it: a folder that open_clip or transformers loads with no code of ours.

    export_model("runs/a", "exported")           # a run's folder, or a file of towers
    open_clip.create_model_and_transforms("local-dir:exported")

A family knows its library (`Family.export`). Two towers made of open_clip's parts become a model of open_clip, the
learned scale and bias inside.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch

from training_smoke import checkpoint
from training_smoke.config import Config, Towers
from training_smoke.errors import TrainingError
from training_smoke.families.base import Family
from training_smoke.open_clip_files import write_model
from training_smoke.towers import LEARNED, OpenClip
from training_smoke.towers_file import config_of, load_model, read_file, whole_in


def export_model(path: str | Path, out: str | Path) -> Path:
    """Write the model of a run's folder, or of a file (towers.pt, filter.pt), into a new folder, which appears whole;
    its path.

    Args:
        path: of a folder with such a file in it (of `curate train-filter`, of a run of a comparison) it is that file's.

    Raises:
        TrainingError: no such model, no other program knows its kind, or the folder has files.
    """
    path, out = whole_in(path), Path(out)
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise TrainingError(f"{out} is there already: a model is written into a new folder")
    model = load_model(path)
    with _beside(out) as part:
        if isinstance(model, Family):
            model.export(part)
        elif isinstance(model, OpenClip):
            towers, learned = _learned(path)
            _write_towers(model, towers, learned, path, part)
        else:
            raise TrainingError(
                f"{path} has towers that curate alone knows ({type(model).__name__}): no library has such. Train "
                "with towers of open_clip (`towers: {name: ViT-B-32}`), or evaluate the file with `curate evaluate`"
            )
    return out


@contextmanager
def _beside(out: Path) -> Iterator[Path]:
    """A folder to be written, not there yet; at the end it takes the place of `out`, or goes where something failed."""
    out = out.absolute()
    part = out.with_name(f"{out.name}.part-{os.getpid()}")
    shutil.rmtree(part, ignore_errors=True)
    try:
        yield part
        part.replace(out)  # which is not there, or an empty folder
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _learned(path: Path) -> tuple[Towers, dict[str, float]]:
    """What two towers are made of, and what the objective learned with them."""
    if path.is_dir():
        config, state = Config.load(path / "config.json"), checkpoint.load_newest(path / "checkpoints")
        assert state is not None  # it was loaded
        learned = {name: float(value) for name, value in state["objective"].items()}
        return config.towers, learned
    said = read_file(path)
    return config_of(said).towers, {name: float(v) for name, v in said["about"].get("objective", {}).items()}


def _write_towers(model: OpenClip, towers: Towers, learned: Mapping[str, float], path: Path, out: Path) -> None:
    if "logit_scale" not in learned or set(learned) - set(LEARNED):
        what = ", ".join(learned) or "nothing"
        raise TrainingError(
            f"{path}: open_clip's models compare cosines by a learned scale (and bias), and with these towers was "
            f"learned: {what}"
        )
    state = {name: value for name, value in model.model.state_dict().items() if name not in LEARNED}
    state |= {name: torch.tensor(value) for name, value in learned.items()}
    tokenizer: Any = _tokenizer(towers, model.context)
    mean, std = (values.flatten().tolist() for values in (model.mean, model.std))
    config = _configuration(model, towers, learned)
    write_model(out, config, state, mean, std, getattr(tokenizer, "save_pretrained", None))


def _configuration(model: OpenClip, towers: Towers, learned: Mapping[str, float]) -> dict[str, Any]:
    import open_clip

    config: dict[str, Any] = deepcopy(open_clip.get_model_config(towers.name))
    config["vision_cfg"]["image_size"], config["text_cfg"]["context_length"] = model.image_size, model.context
    config.pop("init_logit_bias", None)
    if "logit_bias" in learned:  # a model has a place for a bias where it starts with one
        config["init_logit_bias"] = learned["logit_bias"]
    return config


def _tokenizer(towers: Towers, context: int) -> object:
    import open_clip

    return open_clip.get_tokenizer(towers.name, context_length=context)
