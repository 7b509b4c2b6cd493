"""One process or many: all that a loop needs to know of it, from RANK, WORLD_SIZE and LOCAL_RANK.

torchrun, Ray Train and Slurm's launchers set these alike, so that the same file runs under each.

    with World.join() as world:
        model = world.wrap(model, "ddp")
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from types import TracebackType
from typing import Literal

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed import ProcessGroup

from training_smoke.errors import TrainingError


@dataclass(frozen=True)
class World:
    """group: None where there is one process; `ours`: whether leaving ends it (Ray Train's own goes on)."""

    rank: int
    size: int
    device: torch.device
    group: ProcessGroup | None
    ours: bool = False

    @classmethod
    def join(cls, device: str | None = None) -> World:
        """This process's place; joins the others where there are any. device: default cuda where it is, else cpu.

        Raises:
            TrainingError: the environment names a world but not our place in it.
        """
        kind = device or ("cuda" if torch.cuda.is_available() else "cpu")
        if dist.is_initialized():
            return cls(dist.get_rank(), dist.get_world_size(), _device(kind), dist.group.WORLD)
        size = _number("WORLD_SIZE", 1)
        if size == 1:
            return cls(0, 1, _device(kind), None)
        rank = _number("RANK", None)
        here = _device(kind)
        dist.init_process_group("nccl" if here.type == "cuda" else "gloo", rank=rank, world_size=size)
        return cls(rank, size, here, dist.group.WORLD, ours=True)

    @property
    def first(self) -> bool:
        """Whether this process writes and speaks for all."""
        return self.rank == 0

    def wrap(self, model: nn.Module, how: Literal["ddp", "fsdp"]) -> nn.Module:
        """The model on our device, its gradients averaged over the world; fsdp: its parameters spread too (FSDP2)."""
        model = model.to(self.device)
        if self.group is None:
            return model
        if how == "ddp":
            ids = [self.device.index] if self.device.type == "cuda" else None
            return nn.parallel.DistributedDataParallel(model, device_ids=ids)
        from torch.distributed.fsdp import fully_shard

        for layer in model.modules():
            if isinstance(layer, nn.ModuleList | nn.Sequential):
                for block in layer:
                    if any(True for _ in block.parameters()):
                        fully_shard(block)
        fully_shard(model)
        return model

    def held_back(self, model: nn.Module) -> AbstractContextManager[object]:
        """Gradients of what happens inside stay here: they travel with the next backward pass outside of it."""
        if isinstance(model, nn.parallel.DistributedDataParallel):
            return model.no_sync()
        if hasattr(model, "set_requires_gradient_sync"):  # FSDP2
            return _unsynced(model)
        return nullcontext()

    def mean(self, value: Tensor) -> Tensor:
        """Over all processes, of a number that each has."""
        if self.group is not None:
            value = value.clone()
            dist.all_reduce(value, group=self.group)
            value /= self.size
        return value

    def wait(self) -> None:
        if self.group is not None:
            dist.barrier(group=self.group)

    def __enter__(self) -> World:
        return self

    def __exit__(self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None) -> None:
        if self.ours:
            dist.destroy_process_group()


@contextmanager
def _unsynced(model: nn.Module) -> Iterator[None]:
    model.set_requires_gradient_sync(False)  # type: ignore[operator]
    try:
        yield
    finally:
        model.set_requires_gradient_sync(True)  # type: ignore[operator]


def _number(name: str, default: int | None) -> int:
    value = os.environ.get(name, default)
    try:
        return int(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        raise TrainingError(f"WORLD_SIZE says that there are others, but {name} is {value!r}: use torchrun") from None


def _device(kind: str) -> torch.device:
    if kind != "cuda":
        return torch.device(kind)
    here = torch.device("cuda", _number("LOCAL_RANK", 0))
    torch.cuda.set_device(here)
    return here
