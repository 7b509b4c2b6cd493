"""Fine-tuning of one half of a BLIP on clean pairs, to a file that stages name.

out/captioner/       config.json, packs.json, environment.json, metrics.jsonl: how it was trained
out/captioner.pt     the weights, a model of the family "blip"
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from curate.run.capfilt.half import halves
from curate.run.capfilt.start import Kind, Start, whole
from training_smoke.config import Config
from training_smoke.errors import TrainingError
from training_smoke.packs import Pack
from training_smoke.towers_file import read_file, save_model
from training_smoke.train import train


def tuned(
    out: Path, kind: Kind, start: Start, clean: Pack, *, epochs: int | None = None, seed: int = 0, quiet: bool = True
) -> Path:
    """The file of one half's weights, trained now or where it was stopped; one that is there is not made again.

    Args:
        out: the folder of it all. epochs: over the clean pairs; default: BLIP's.

    Raises:
        TrainingError: the folder has a half of other weights or pairs, there are several processes, or as `train`.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise TrainingError("captioner and filter are fine-tuned by one process: start without torchrun")
    config, path = _as_begun(out / kind, start.config(kind, clean, epochs, seed)), out / f"{kind}.pt"
    about = {"capfilt": kind, "began": start.digest, "digest": clean.digest, "tuned": config.as_json()}
    about = json.loads(json.dumps(about))
    if path.exists():
        _check_same(path, about)
    else:
        with halves():
            model = train(out / kind, config, {clean: 1.0}, quiet=quiet)
        save_model(path, model, whole(config), about)
    for left in (out / kind / "checkpoints").glob("*"):  # the weights are in the file: going on is over
        left.unlink(missing_ok=True)
    return path


def _as_begun(folder: Path, config: Config) -> Config:
    """With the precision of the training that was begun there, so that a machine without its GPU goes on with it."""
    path = folder / "config.json"
    return config.but(precision=Config.load(path).precision) if path.exists() else config


def _check_same(path: Path, about: dict[str, Any]) -> None:
    """Raises: TrainingError: the file is of other weights, pairs or settings; what the machine decides is none."""
    said, wanted = ({**a, "tuned": _settings(a.get("tuned", {}))} for a in (read_file(path)["about"], about))
    differing = sorted(key for key in wanted if said.get(key) != wanted[key])
    if differing:
        raise TrainingError(
            f"{path} is of another fine-tuning (another {', '.join(differing)}): give another --out, or remove it"
        )


def _settings(config: dict[str, Any]) -> dict[str, Any]:
    """A configuration without precision, and where its weights lie: their digest stands beside it."""
    towers = {key: value for key, value in config.get("towers", {}).items() if key not in ("name", "weights")}
    return {**config, "precision": None, "towers": towers}
