"""What a family of models is to the loop, to evaluation and to files.

    class Blip(Family):
        Settings = BlipSettings            # a frozen dataclass of numbers: its part of a run's configuration
        ...

A family is one module: `forward` goes from pixels and tokens to losses, so that DDP and FSDP wrap it whole. What it can
do once trained is said by the methods that it has (see `training_smoke.abilities`): `encode_images` and `encode_texts`,
`caption`, `match`, `answer`.
"""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import UnionType
from typing import Any, ClassVar, Literal, Union, get_args, get_origin, get_type_hints

import torch
import torch.distributed as dist
import xxhash
from torch import Tensor, nn
from torch.distributed import ProcessGroup

from training_smoke.config import Optimiser, Towers
from training_smoke.errors import TrainingError
from training_smoke.normalised import Normalised

Losses = dict[str, Tensor]
"""Scalars by name. "loss" is what is minimised, the others are its parts. The mean of each over the processes is that
of the global batch, and so with gradients."""


@dataclass(frozen=True)
class Moment:
    """Where in a run a step stands. step: from 0; steps: of the run; seed: of its order; world: its processes. part: of
    so many equal parts of a process's rows, this one is run through (micro-batches)."""

    step: int
    steps: int
    seed: int
    world: ProcessGroup | None = None
    part: int = 0
    parts: int = 1

    @property
    def share(self) -> float:
        """Of the run that lies behind, in [0, 1)."""
        return self.step / self.steps

    def uniform(self, salt: str, rows: int, width: int = 1, device: torch.device | str = "cpu") -> Tensor:
        """Draws for this process's rows, the same for a row of the global batch whatever number of processes.

        Args:
            rows: of this process, in this part; each process has equally many.

        Returns:
            float32 [rows, width] in [0, 1).
        """
        rank, size = (0, 1) if self.world is None else (dist.get_rank(self.world), dist.get_world_size(self.world))
        first = (rank * self.parts + self.part) * rows
        key = xxhash.xxh3_64_intdigest(f"{self.seed}/{self.step}/{salt}".encode()) >> 1
        draws = torch.rand(size * self.parts * rows, width, generator=torch.Generator().manual_seed(key))
        return draws[first : first + rows].to(device)


@dataclass(frozen=True)
class NoSettings:
    """Of a family without any."""


class Family(Normalised, ABC):
    """A model with its loss.

    image_size: pixels a side; context: tokens a text. Settings: frozen dataclass of what else decides a training.
    separable: the loss is a mean over `weight`, no sample meets another: micro-batches are exact, but for dropout,
    which draws for each of them and on each process anew.
    scales: for each scale (`training_smoke.config.SCALES`), what is other than in the table, as `Config.but` takes it;
    a scale that is not here does not exist for the family.
    """

    Settings: ClassVar[type] = NoSettings
    scales: ClassVar[Mapping[str, Mapping[str, Any]]] = {}
    separable: ClassVar[bool] = False
    image_size: int
    context: int
    settings: Any
    group_steps: int = 1  # of so many steps the samples are put together by `lengths`
    low: bool = False  # whether `inference` computes in bfloat16

    # ------------------------------------------------------------------------------------------ how it is made

    @classmethod
    def build(cls, towers: Towers, settings: Mapping[str, Any], seed: int) -> Family:
        """The family with weights drawn by `seed`, or loaded; torch's global generator is left as it was.

        Raises:
            TrainingError: no such towers, weights or settings.
        """
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            made = cls.make(towers, cls.checked(settings))
        return made

    @classmethod
    @abstractmethod
    def make(cls, towers: Towers, settings: Any) -> Family:
        """As `build`, drawing from torch's generator as it stands.

        towers.name: "tiny", a size that the family knows by name, or a configuration of the library that it is made of;
        towers.weights: a file or folder in that library's format, or a name on its hub; None: random.
        Parameters that are not trained have no `requires_grad` when this returns.
        """

    @classmethod
    def again(cls, towers: Towers, settings: Any, about: Tensor) -> Family:
        """A shell for weights of ours that began with a model from elsewhere, which may be gone: the buffer `about` of
        their state, uint8 [n], says what that was. A family that has such a buffer makes itself of it."""
        raise TrainingError(f"{cls.__name__} says nothing about where it comes from: this is no file of its weights")

    @classmethod
    def checked(cls, settings: Mapping[str, Any]) -> Any:
        """
        Raises:
            TrainingError: an unknown setting, or a value that is none.
        """
        fields = {f.name: f for f in dataclasses.fields(cls.Settings)}
        if unknown := sorted(settings.keys() - fields.keys()):
            there = ", ".join(fields) or "none"
            raise TrainingError(f"{cls.__name__} has no settings {', '.join(unknown)}; there are {there}")
        values = {n: tuple(v) if isinstance(v, list) else v for n, v in settings.items()}
        hints = get_type_hints(cls.Settings)
        for name, value in values.items():
            if not _fits(value, hints[name]):
                raise TrainingError(f"settings of {cls.__name__}: {name} is {value!r}, and no {fields[name].type}")
        try:
            return cls.Settings(**values)
        except (TypeError, ValueError) as e:
            raise TrainingError(f"settings of {cls.__name__}: {e}") from e

    # ------------------------------------------------------------------------------------------ how it is trained

    @abstractmethod
    def tokenize(self, texts: Sequence[str]) -> Tensor:
        """Texts as the loader hands them on: int64 [n, ...], the same trailing shape for all texts."""

    @abstractmethod
    def forward(self, images: Tensor, tokens: Tensor, groups: Tensor | None, moment: Moment) -> Losses:
        """Losses of a batch. It changes nothing of the module but through gradients: see `after_step`.

        Args:
            images: uint8 [batch, 3, size, size]. tokens: of `tokenize`. groups: int64 [batch] or None: samples of one
            group are no negatives of each other. moment: draws come from it, or from torch's generators where other
            draws on another number of processes are no harm.
        """

    def read(self, tokens: Tensor, moment: Moment) -> Tensor:
        """Of what `tokenize` made, what this step trains on; `forward` takes either. Here all of it; other where stages
        of a run read a text differently."""
        return tokens

    def weight(self, tokens: Tensor) -> Tensor:
        """How much a part of a batch counts in the loss of a separable family: a scalar, of a batch's parts the sum
        counts. Default: samples."""
        return torch.tensor(float(len(tokens)), device=tokens.device)

    def lengths(self, tokens: Tensor) -> Tensor | None:
        """int64 [batch], where a short text costs less: micro-batches are then made of texts of like length, and so are
        the batches of `group_steps` steps. The loss of a separable family's batch stays the same. None: all cost the
        same."""
        return None

    def rate(self, settings: Optimiser, samples: int, horizon: int) -> float:
        """The learning rate of the step that ends after so many samples of the horizon; here warm-up and half a cosine
        over the whole run."""
        return settings.lr * settings.multiple(samples, horizon)

    def held(self, moment: Moment) -> Iterable[nn.Parameter]:
        """Parameters that this step leaves as they are, to the bit, moments of the optimiser included: those which a
        stage of a run does not train. What no step trains has no `requires_grad` instead."""
        return ()

    @torch.no_grad()
    def after_step(self, moment: Moment) -> None:
        """Called when the optimiser has changed the parameters: clamp scales, move momentum encoders, fill queues."""

    def blocks(self) -> Iterator[nn.Module] | None:
        """Modules that FSDP gathers one by one, no parameter in two of them; None: as it finds stacks of layers."""
        return None

    def told(self) -> dict[str, float]:
        """Learned scales, for the log."""
        return {}

    # ------------------------------------------------------------------------------------------ how it is used

    def normalised(self, images: Tensor) -> Tensor:
        """uint8 [n, 3, size, size] -> float [n, 3, size, size] on this module's device."""
        return (images.to(self.mean.device).to(self.mean.dtype) / 255 - self.mean) / self.std

    @contextmanager
    def inference(self) -> Iterator[None]:
        """Without gradient and dropout, in bfloat16 where `low` says so."""
        before = self.training
        self.eval()
        try:
            with torch.no_grad(), torch.autocast(self.mean.device.type, torch.bfloat16, enabled=self.low):
                yield
        finally:
            self.train(before)

    def export(self, folder: Path) -> None:
        """Write the model as the library that it is made of loads it, without any code of ours.

        Raises:
            TrainingError: no library knows such a model.
        """
        raise TrainingError(f"no library has models like {type(self).__name__}: use towers.pt with curate")


def _fits(value: Any, hint: Any) -> bool:
    """Is a value of a configuration file of this type? An integer is a number too, and a truth value is none."""
    if get_origin(hint) in (Union, UnionType):
        return any(_fits(value, one) for one in get_args(hint))
    if get_origin(hint) is Literal:
        return value in get_args(hint)
    kind = get_origin(hint) or hint
    if kind in (int, float):
        return isinstance(value, int | kind) and not isinstance(value, bool)
    return kind is Any or isinstance(value, kind)


def token_mean(sums: Tensor, count: Tensor, world: ProcessGroup | None) -> Tensor:
    """sum / count where both lie over processes: a scalar whose mean over them is the mean of the global batch.

    Args:
        sums: scalar, with gradient, of this process's targets. count: scalar, how many they are.
    """
    if world is None:
        return sums / count.clamp(min=1)
    everywhere = count.detach().clone().to(sums.dtype)
    dist.all_reduce(everywhere, group=world)
    return sums * dist.get_world_size(world) / everywhere.clamp(min=1)
