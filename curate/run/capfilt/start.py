"""The BLIP that CapFilt begins with, and how its halves are fine-tuned on clean pairs.

begun = Start.of("pools/mine/judge/0123456789ab", batch=None, rate=None)
begun.config("captioner", clean, epochs=None, seed=0)
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import torch

from curate.run.capfilt.half import JUDGING, LOSSES, OWN, VARY, WRITING
from stages import hub_weights
from training_smoke import checkpoint
from training_smoke.config import Config, scale
from training_smoke.errors import TrainingError
from training_smoke.families.blip_parts import SIZES
from training_smoke.packs import Pack
from training_smoke.towers_file import config_of, is_ours, read_file, whole_in

Kind = Literal["captioner", "filter"]
KINDS: tuple[Kind, ...] = ("captioner", "filter")
LEARNED = {"captioner": WRITING, "filter": JUDGING}
EPOCHS = {"captioner": 5, "filter": 6}
RATE, BATCH = 1e-5, 256
"""Of BLIP's fine-tuning on COCO for captions and for retrieval (salesforce/BLIP, configs/caption_coco.yaml,
configs/retrieval_coco.yaml; batch over all GPUs)."""
TINY_RATE = 0.3  # of the rate that a tiny model is trained with
TINY_FLOOR = 1.0
"""Of wrong pairs. What a tiny model finds alike is nearly at random, and of such pairs alone it does not learn to match
in so few steps; on the web a wrong text is any text. (Half of Flickr8k, swapped captions of the other half, a seed that
no table has: AUROC 0.661; pictures varied 0.705; with this 0.735.)"""
SAVES = 20  # checkpoints in a run


@dataclass(frozen=True)
class Start:
    """weights: where the BLIP lies; of a name on the hub the copy of one commit on this machine, so that both halves
    begin with the same. digest: of its files. base: how a model of its size is trained, with its sizes and settings."""

    weights: str
    digest: str
    base: Config

    @classmethod
    def of(cls, model: str, batch: int | None = None, rate: float | None = None) -> Start:
        """
        Args:
            model: a towers.pt or run of the family blip, a folder of `curate export-model`, one of transformers'
                BlipForImageTextRetrieval or BlipForConditionalGeneration, or its name on the hub, `@revision` behind
                it if wanted.
            batch, rate: samples of a step and learning rate, where not as in BLIP's fine-tuning.

        Raises:
            TrainingError: it is a model of another family, or none; a name that cannot be fetched.
        """
        if Path(model).exists():
            path = whole_in(model).absolute()
            files = list(_files(path))
        else:
            files = _fetched(model)
            path = files[0].parent
        weights, said = str(path), _said(path)
        if said is not None and said.objective != "blip":
            raise TrainingError(f"{model} has a model of {said.objective}: CapFilt begins with a BLIP, which does both")
        base = _published(weights) if said is None else _ours(said, weights)
        samples = batch or base.batch  # how many there will be is known with the clean pairs
        base = base.but(batch=samples, samples=samples, optimiser={} if rate is None else {"lr": rate})
        return cls(weights, _digest(files), base)

    def config(self, kind: Kind, clean: Pack, epochs: int | None = None, seed: int = 0) -> Config:
        """How a half is fine-tuned: a cosine from the rate to zero over some epochs of the clean pairs."""
        batch = min(self.base.batch, len(clean))
        steps = max(1, (epochs or EPOCHS[kind]) * len(clean) // batch)
        warmup = min(self.base.optimiser.warmup, steps * batch // 10)
        return self.base.but(
            batch=batch, samples=steps * batch, optimiser={"warmup": warmup},
            settings={LOSSES: list(LEARNED[kind]), VARY: True},
            init_seed=seed, order_seed=seed, save_every=max(1, steps // SAVES),
        )  # fmt: skip


def whole(config: Config) -> Config:
    """Of the model, as the family "blip" knows it: without settings that are the half's own."""
    return replace(config, settings={name: value for name, value in config.settings.items() if name not in OWN})


def _fetched(name: str) -> list[Path]:
    """Files of a name's snapshot, which is of one commit."""
    try:
        return [Path(file) for file in hub_weights.files(name)]
    except ValueError as e:
        raise TrainingError(str(e)) from e


def _said(path: Path) -> Config | None:
    """Towers, family and settings of a file or run of ours; None: it is another program's."""
    if (path / "checkpoints").is_dir():
        return Config.load(path / "config.json")
    return config_of(read_file(path)) if path.is_file() and is_ours(path) else None


def _ours(said: Config, weights: str) -> Config:
    tiny = said.towers.name == "tiny"
    base = scale("tiny", "blip") if tiny else _published(weights)
    # A model that was begun with another program's has that one's sizes, which no name of ours tells.
    name = said.towers.name if said.towers.name in ("tiny", *SIZES) else weights
    towers = {"name": name, "image_size": said.towers.image_size, "context": said.towers.context, "weights": weights}
    rate = {"lr": base.optimiser.lr * TINY_RATE} if tiny else {}
    settings = {key: value for key, value in said.settings.items() if key not in OWN}
    settings |= {"floor": TINY_FLOOR} if tiny else {}
    return base.but(towers=towers, settings=settings, optimiser=rate)


def _published(weights: str) -> Config:
    towers = {"name": weights, "weights": weights, "image_size": None, "context": None}
    config = scale("small", "blip").but(batch=BATCH, samples=BATCH, towers=towers, optimiser={"lr": RATE, "warmup": 0})
    return config if torch.cuda.is_available() else config.but(precision="fp32")


def _digest(files: Iterable[Path]) -> str:
    """sha256 over the files of a model, 16 hex digits."""
    found = hashlib.sha256()
    for file in files:
        with file.open("rb") as f:
            found.update(hashlib.file_digest(f, "sha256").digest())
    return found.hexdigest()[:16]


def _files(path: Path) -> Iterator[Path]:
    """Those of a model; of a run its last checkpoint."""
    if path.is_file():
        yield path
    elif (path / "checkpoints").is_dir():
        found = checkpoint.checkpoints(path / "checkpoints")
        if not found:
            raise TrainingError(f"{path} has no checkpoint yet: train it to its end first")
        yield found[-1]
    else:
        yield from sorted(p for p in path.rglob("*") if p.is_file())
