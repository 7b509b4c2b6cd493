"""One process or many: all that a loop needs to know of it, from RANK, WORLD_SIZE and LOCAL_RANK.

torchrun, Ray Train and Slurm's launchers set these alike, so that the same file runs under each.

    with World.join() as world:
        model = world.wrap(model, "ddp")
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from types import TracebackType
from typing import Literal

import torch
import torch.distributed as dist
import xxhash
from torch import Tensor, nn
from torch.distributed import ProcessGroup

from training_smoke.errors import TrainingError

_PARAMETERS = inspect.signature(nn.parallel.DistributedDataParallel.__init__).parameters
_SYNC_BUFFERS = "forward_sync_buffers" if "forward_sync_buffers" in _PARAMETERS else "broadcast_buffers"  # before 2.13


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
        """The model on our device, its gradients averaged over the world; fsdp: its parameters spread too (FSDP2).

        What is not to be trained must be frozen already.
        """
        model = model.to(self.device)
        if self.group is None:
            return model
        if how == "fsdp":
            return _spread(model, self.device)
        ids = [self.device.index] if self.device.type == "cuda" else None
        # Buffers of a family (queues) are made alike by every process: they need not travel at every step.
        travel = {_SYNC_BUFFERS: not hasattr(model, "blocks")}
        return nn.parallel.DistributedDataParallel(model, device_ids=ids, gradient_as_bucket_view=True, **travel)  # type: ignore[arg-type]

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

    def agreed(self, number: int) -> int:
        """What the first process says that it is."""
        if self.group is None:
            return number
        said = torch.tensor(number, device=self.device)
        dist.broadcast(said, 0, group=self.group)
        return int(said)

    def draw_by(self, seed: int, step: int) -> None:
        """Set torch's generators for a step: other draws on each process, the same whenever the step is done."""
        number = xxhash.xxh3_64_intdigest(f"{seed}/{step}/{self.rank}".encode())
        torch.default_generator.manual_seed(number)
        if self.device.type == "cuda":  # asked without one, torch notes the call and its traceback for later, each time
            torch.cuda.manual_seed(number)

    @contextmanager
    def own_draws(self) -> Iterator[None]:
        """Leave torch's generators as they were."""
        devices = [self.device] if self.device.type == "cuda" else []
        with torch.random.fork_rng(devices):
            yield

    def wait(self) -> None:
        if self.group is not None:
            dist.barrier(group=self.group)

    def __enter__(self) -> World:
        return self

    def __exit__(self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None) -> None:
        if self.ours:
            dist.destroy_process_group()


def _spread(model: nn.Module, device: torch.device) -> nn.Module:
    from torch.distributed.fsdp import fully_shard

    said = model.blocks() if hasattr(model, "blocks") else None  # type: ignore[operator]
    for block in _blocks(model) if said is None else said:
        fully_shard(block)
    fully_shard(model).set_force_sum_reduction_for_comms(device.type == "cpu")  # gloo knows no average
    return model


def _blocks(module: nn.Module) -> Iterator[nn.Module]:
    """Layers of the outermost stacks of like layers, which FSDP gathers one by one; never a part of such a layer."""
    for child in module.children():
        if isinstance(child, nn.ModuleList | nn.Sequential) and len({type(layer) for layer in child}) == 1:
            yield from (layer for layer in child if any(True for _ in layer.parameters()))
        else:
            yield from _blocks(child)


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
