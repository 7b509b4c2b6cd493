"""One step of a training, up to its gradients: of two towers under an objective, or of a family.

    learner = learner_of(config, world)                  # built, frozen as asked, not yet wrapped
    losses = learner.backward(batch, moment)             # adds to .grad

The loop knows no more of what it trains than this.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from training_smoke.config import Config
from training_smoke.distributed import World
from training_smoke.errors import TrainingError
from training_smoke.families.base import Family, Losses, Moment
from training_smoke.loader import Batch
from training_smoke.models import Model, build_model
from training_smoke.objectives import OBJECTIVES, Objective, cached_step
from training_smoke.optimiser import freeze
from training_smoke.towers import TwoTowers


class Learner(ABC):
    """modules: all that has parameters, by the name before theirs. model: what is trained, as it was built."""

    model: Model
    modules: Mapping[str, nn.Module]

    def __init__(self, config: Config, world: World) -> None:
        self.config, self.world = config, world
        self._low = config.precision == "bf16"

    @property
    def kept(self) -> dict[str, Any]:
        """What a checkpoint has, by its name there."""
        return {name or "towers": module for name, module in self.modules.items()}

    def wrap(self) -> None:
        """Put the model where it computes, with gradients averaged over the processes."""
        self.wrapped = self.world.wrap(self.model, self.config.sharding)
        self.run: Any = torch.compile(self.wrapped) if self.config.compile else self.wrapped

    def backward(self, batch: Batch, moment: Moment) -> Losses:
        """Losses of the global batch, detached; gradients are added to the parameters'."""
        batch = batch.to(self.world.device)
        if self.config.blind:
            batch = replace(batch, images=grey(batch.images))
        losses = self._backward(batch, moment)
        return dict(zip(losses, self.world.mean(torch.stack(list(losses.values()))), strict=True))

    @abstractmethod
    def _backward(self, batch: Batch, moment: Moment) -> Losses: ...

    def rate(self, samples: int) -> float:
        """The learning rate of the step that ends after so many samples."""
        settings = self.config.optimiser
        return settings.lr * settings.multiple(samples, self.config.samples)

    def before_update(self, moment: Moment) -> None:
        """Called between gradients and the optimiser."""

    @abstractmethod
    def after_step(self, moment: Moment) -> None:
        """Called when the optimiser has changed the parameters."""

    @abstractmethod
    def told(self) -> dict[str, float]:
        """Learned scales and the like, for the log."""

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.world.device.type, torch.bfloat16, enabled=self._low)


class PairLearner(Learner):
    """Two towers whose vectors an objective compares; large batches by caching them."""

    def __init__(self, config: Config, world: World) -> None:
        super().__init__(config, world)
        built = build_model(config)
        assert isinstance(built, TwoTowers)
        self.model: TwoTowers = built.to(world.device)
        self.objective = begun(config.objective, self.model).to(world.device)
        self.modules = {"": self.model, "objective": self.objective}
        freeze(self.modules, config.optimiser)

    def _backward(self, batch: Batch, moment: Moment) -> Losses:
        def features(part: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
            with self._autocast():
                image_features, text_features = self.run(*part)
            return image_features, text_features

        def loss_of(image_features: Tensor, text_features: Tensor) -> Tensor:
            return self.objective(image_features, text_features, batch.groups, self.world.group)  # type: ignore[no-any-return]

        rows = (self.config.micro_batch or self.config.batch) // self.world.size
        parts = list(zip(batch.images.split(rows), batch.tokens.split(rows), strict=True))
        return {"loss": cached_step(features, parts, loss_of, no_sync=lambda: self.world.held_back(self.wrapped))}

    def after_step(self, moment: Moment) -> None:
        self.objective.after_step()

    def told(self) -> dict[str, float]:
        """The learned scale, as a factor, and bias."""
        return self.objective.told()


class FamilyLearner(Learner):
    """A family, whole; micro-batches where its loss is a mean over samples."""

    def __init__(self, config: Config, world: World) -> None:
        super().__init__(config, world)
        built = build_model(config)
        assert isinstance(built, Family)
        self.model: Family = built.to(world.device)
        self.modules = {"": self.model}
        if config.micro_batch is not None and not built.separable:
            raise TrainingError(
                f"micro_batch: {config.objective} compares samples of a batch with each other, so that the mean of "
                "small batches' losses is another objective: leave it out, or train with more processes"
            )
        freeze(self.modules, config.optimiser)

    def _backward(self, batch: Batch, moment: Moment) -> Losses:
        rows = (self.config.micro_batch or self.config.batch) // self.world.size
        batch = replace(batch, tokens=self.model.read(batch.tokens, moment))
        if rows == len(batch.tokens):
            return self._part(batch, moment, None)
        parts = self._parts(batch, rows)
        weights = self.world.mean(torch.stack([self.model.weight(part.tokens).float() for part in parts]))
        shares = weights / weights.sum().clamp(min=torch.finfo(weights.dtype).tiny)  # 0, where nothing is learned
        total: Losses = {}
        for number, part in enumerate(parts):
            now = replace(moment, part=number, parts=len(parts))
            if number < len(parts) - 1:
                with self.world.held_back(self.wrapped):
                    found = self._part(part, now, shares[number])
            else:
                found = self._part(part, now, shares[number])
            total = {name: total.get(name, 0) + value * shares[number] for name, value in found.items()}
        return total

    def _parts(self, batch: Batch, rows: int) -> list[Batch]:
        """Micro-batches; of texts of like length where that saves padding."""
        lengths = self.model.lengths(batch.tokens)
        order = torch.arange(len(batch.tokens)) if lengths is None else lengths.cpu().argsort(stable=True)
        order = order.to(batch.tokens.device)
        return [
            replace(
                batch,
                images=batch.images[some],
                tokens=batch.tokens[some],
                groups=None if batch.groups is None else batch.groups[some],
            )
            for some in order.split(rows)
        ]

    def _part(self, part: Batch, moment: Moment, share: Tensor | None) -> Losses:
        with self._autocast():
            losses: Losses = self.run(part.images, part.tokens, part.groups, moment)
        (losses["loss"] if share is None else losses["loss"] * share).backward()
        return {name: value.detach() for name, value in losses.items()}

    def rate(self, samples: int) -> float:
        return self.model.rate(self.config.optimiser, samples, self.config.samples)

    def before_update(self, moment: Moment) -> None:
        for parameter in self.model.held(moment):
            parameter.grad = None  # the optimiser passes over what has no gradient

    def after_step(self, moment: Moment) -> None:
        self.model.after_step(moment)

    def told(self) -> dict[str, float]:
        return self.model.told()


def learner_of(config: Config, world: World) -> Learner:
    """
    Raises:
        TrainingError: no such towers, weights or settings, or micro-batches that the objective does not allow.
    """
    return PairLearner(config, world) if config.objective in OBJECTIVES else FamilyLearner(config, world)


def begun(name: str, towers: TwoTowers) -> Objective:
    """The objective, at the scale and bias that weights were trained with, where some were loaded."""
    objective: Objective = OBJECTIVES[name]()
    state = objective.state_dict()
    there, asked = towers.learned.keys(), state.keys()
    # A scale without the bias asked for is of another objective; one beside a curvature is of distances, no cosines.
    if asked <= there and there - asked <= {"logit_bias"}:
        objective.load_state_dict({n: torch.tensor(towers.learned[n]) for n in state})
    return objective


def grey(images: Tensor) -> Tensor:
    """Pictures that show nothing, in place of these: bytes of 127, or zeros where they are features."""
    return torch.full_like(images, 127 if images.dtype == torch.uint8 else 0)
