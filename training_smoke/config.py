"""Everything that decides a training run, in three frozen tables; a run's folder keeps them as config.json.

    config = Config.load("runs/a/config.json")
    config = SCALES["tiny"].but(seed=3, samples=40_000)

A configuration says what is computed and nothing of where: batch is the global one, the horizon is in samples, and the
number of processes, which has to divide the batch, changes neither the order of samples nor the loss.
"""

from __future__ import annotations

import dataclasses
import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from training_smoke.errors import TrainingError
from training_smoke.families import NAMES, PAIRS, family

Precision = Literal["fp32", "bf16"]


@dataclass(frozen=True)
class Towers:
    """What the network is made of: two encoders, or what a family has in their place.

    name: "feature-mlp", "tiny-conv", "tiny-vit", or any configuration of open_clip ("ViT-B-32"); of a family: "tiny",
    or a size that it knows.
    weights: for open_clip: a tag ("laion2b_s34b_b79k"), or a file; None: random, by the run's seed.
    image_size, context: pixels a side, tokens a text; None: what the configuration says. Smaller ones cost less.
    """

    name: str = "tiny-conv"
    weights: str | None = None
    image_size: int | None = None
    context: int | None = None
    checkpointing: bool = False


@dataclass(frozen=True)
class Optimiser:
    """AdamW with linear warm-up and cosine decay to zero; gains, biases and scales have no weight decay.

    groups: (regular expression over parameter names, multiple of the learning rate), the first that is found in a name
    counts; 0 freezes. clip_norm: of the whole gradient; None: not clipped.
    """

    lr: float = 1e-3
    betas: tuple[float, float] = (0.9, 0.98)
    eps: float = 1e-6
    weight_decay: float = 0.2
    warmup: int = 0  # samples
    clip_norm: float | None = None
    groups: tuple[tuple[str, float], ...] = ()

    def multiple(self, samples: int, horizon: int) -> float:
        """Of the learning rate, after so many samples of a horizon: in (0, 1] while warming up, then a half cosine."""
        if samples < self.warmup:
            return samples / self.warmup
        return 0.5 * (1 + math.cos(math.pi * (samples - self.warmup) / max(1, horizon - self.warmup)))


@dataclass(frozen=True)
class Config:
    """One run.

    samples: the horizon, samples seen, whatever the size of the pack. batch: global. micro_batch: samples whose
    activations are held at a time, by caching features: loss and gradient stay those of the batch; None: all.
    objective: what is trained: two towers under one of `training_smoke.objectives`, or a family of
    `training_smoke.families`. settings: the family's own.
    blind: all pictures are grey, in training: what is learned then was in the texts alone. A control.
    init_seed, order_seed: of the weights, and of the order of samples and texts.
    mask_duplicates: samples of one duplicate group are no negatives of each other.
    spike: a loss so many times the running mean ends the run, as NaN does; None: only NaN does.
    """

    objective: str = "clip"
    settings: dict[str, Any] = field(default_factory=dict)
    blind: bool = False
    towers: Towers = field(default_factory=Towers)
    optimiser: Optimiser = field(default_factory=Optimiser)
    samples: int = 40_192
    batch: int = 256
    micro_batch: int | None = None
    init_seed: int = 0
    order_seed: int = 0
    mask_duplicates: bool = False
    precision: Precision = "fp32"
    compile: bool = False
    sharding: Literal["ddp", "fsdp"] = "ddp"
    resident: bool = True
    workers: int = 2
    log_every: int = 20
    save_every: int | None = None
    spike: float | None = 5.0

    def __post_init__(self) -> None:
        if self.objective not in NAMES:
            raise TrainingError(f"objective {self.objective!r}: there are {', '.join(NAMES)}")
        if min(self.batch, self.log_every, self.workers, 1 if self.micro_batch is None else self.micro_batch) < 1:
            raise TrainingError("batch, micro_batch, log_every and workers must be at least 1")
        if self.samples < self.batch or self.samples % self.batch:
            raise TrainingError(f"samples ({self.samples}) must be a multiple of batch ({self.batch})")
        if self.micro_batch is not None and self.batch % self.micro_batch:
            raise TrainingError(f"micro_batch ({self.micro_batch}) must divide batch ({self.batch})")

    @property
    def steps(self) -> int:
        return self.samples // self.batch

    def but(self, **changes: Any) -> Config:
        """This configuration with other values; `towers`, `optimiser`, `settings`: as a dict of what changes there."""
        for name in ("towers", "optimiser"):
            if isinstance(changes.get(name), dict):
                changes[name] = dataclasses.replace(getattr(self, name), **changes[name])
        if "settings" in changes:
            changes["settings"] = {**self.settings, **(changes["settings"] or {})}
        try:
            return dataclasses.replace(self, **changes)
        except TypeError as e:
            raise TrainingError(f"no such setting: {e}; there are {', '.join(self.__dataclass_fields__)}") from None

    def as_json(self) -> dict[str, Any]:
        """What `load` reads. Settings that runs of two towers have not are left out where they say nothing, so that a
        folder from before there were families is still its run's."""
        said = dataclasses.asdict(self)
        return {name: value for name, value in said.items() if value or name not in ("settings", "blind")}

    @classmethod
    def load(cls, path: str | Path) -> Config:
        """
        Raises:
            TrainingError: no such file, or it is none of ours; named.
        """
        try:
            said = json.loads(Path(path).read_text())
            optimiser = said.pop("optimiser", {})
            optimiser["groups"] = tuple((str(p), float(m)) for p, m in optimiser.get("groups", ()))
            optimiser["betas"] = tuple(optimiser.get("betas", Optimiser.betas))
            return cls(towers=Towers(**said.pop("towers", {})), optimiser=Optimiser(**optimiser), **said)
        except (OSError, ValueError, TypeError, AttributeError) as e:
            raise TrainingError(f"{path} is no configuration of a training run: {e}") from e


def _datacomp(name: str, samples: int, batch: int, lr: float, warmup: int, beta2: float = 0.98) -> Config:
    """DataComp's scales (mlfoundations/datacomp, scale_configs.py): warm-up in steps there; beta2 of ViTs 0.98."""
    return Config(
        towers=Towers(name),
        optimiser=Optimiser(lr=lr, betas=(0.9, beta2), warmup=warmup * batch),
        samples=samples // batch * batch,
        batch=batch,
        precision="bf16",
        compile=True,
        resident=False,
        workers=8,
        save_every=1000,
    )


SCALES = {
    "feature": Config(
        towers=Towers("feature-mlp", image_size=32, context=32),
        optimiser=Optimiser(lr=2e-3, weight_decay=0.1, warmup=1_280, clip_norm=0.5),
        samples=30_208,
    ),
    "tiny": Config(
        towers=Towers("tiny-conv", image_size=32, context=16),
        optimiser=Optimiser(lr=1e-3, weight_decay=0.1, warmup=2_560, clip_norm=0.5),
        samples=40_192,
    ),
    "debug": _datacomp("ViT-B-32", 128_000, 1024, 1e-4, 500),
    "small": _datacomp("ViT-B-32", 12_800_000, 4096, 5e-4, 500),
    "medium": _datacomp("ViT-B-32", 128_000_000, 4096, 5e-4, 500),
    "large": _datacomp("ViT-B-16", 1_280_000_000, 8192, 5e-4, 500),
    "xlarge": _datacomp("ViT-L-14", 12_800_000_000, 90_112, 1e-3, 10_000, 0.95),
}
"""Samples seen, model and batch by name: CPU seconds, CPU minutes, and DataComp's, for GPUs.

The small ones clip: logits are at first of random features, magnified 14 times, and Adam would remember gradients 30
times those that follow for half of so short a run (`tiny` on CIFAR-10, half of the captions wrong: 26 % right without
clipping, 34 with it).
"""


def scale(name: str, objective: str | None = None) -> Config:
    """The configuration of a scale, with what a family changes in it; None: the scale's own objective.

    Raises:
        TrainingError: no such scale, or the family has none of this name.
    """
    if name not in SCALES:
        raise TrainingError(f"scale {name!r}: there are {', '.join(SCALES)}")
    config = SCALES[name] if objective is None else SCALES[name].but(objective=objective)
    if config.objective in PAIRS:
        return config
    changes = family(config.objective).scales
    if name not in changes:
        there = ", ".join(changes) or "none"
        raise TrainingError(f"{config.objective} is not trained at scale {name}; it has {there}")
    return config.but(**changes[name])
