"""Runs in processes of their own: worlds of two over gloo, and one that is to be killed."""

from __future__ import annotations

import multiprocessing
import os
import signal
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from training_smoke import checkpoint
from training_smoke import train as loop
from training_smoke.config import Config, Optimiser, Towers
from training_smoke.packs import Pack
from training_smoke.writers import read_metrics

SMALL = Config(
    towers=Towers("tiny-conv", image_size=16, context=8),
    optimiser=Optimiser(lr=1e-3, warmup=16),
    samples=16 * 8,
    batch=16,
    log_every=2,
    save_every=2,
)
TOLD = ("step", "samples", "loss", "lr", "grad_norm", "scale")  # of a line of metrics: all but the speed


@dataclass(frozen=True)
class Job:
    """A run to be done; cut: leave it after so many steps; again: go on then."""

    folder: Path
    config: Config
    cut: int | None = None
    again: bool = True


class Cut(Exception):
    pass


def run(job: Job, pack: str) -> None:
    """The run of a job, on the CPU."""
    torch.set_num_threads(1)
    packs = {Pack.open(pack): 1.0}
    if job.cut is not None:
        _cut_off(job, packs)
    if job.again:
        loop.train(job.folder, job.config, packs, device="cpu")


def in_two_processes(jobs: list[Job], pack: str, store: Path) -> None:
    """Every job by a world of two, one after another."""
    arguments = (jobs, pack, str(store), os.environ["CURATE_CACHE"])
    forkserver()
    mp.start_processes(_be_rank, args=arguments, nprocs=2, start_method="forkserver")


def started(job: Job, pack: str) -> BaseProcess:
    """A process that does the job."""
    process = forkserver().Process(target=_be_alone, args=(job, pack, os.environ["CURATE_CACHE"]))
    process.start()
    return process


def told(folder: Path) -> list[dict[str, Any]]:
    return [{name: line[name] for name in TOLD} for line in read_metrics(folder)]


def last_state(folder: Path) -> dict[str, Any]:
    state = checkpoint.load_newest(folder / "checkpoints")
    assert state is not None
    return state


def flat(state: Any, name: str = "") -> dict[str, Any]:
    """Leaves of a checkpoint by their paths."""
    if isinstance(state, dict):
        items = state.items()
    elif isinstance(state, list | tuple):
        items = enumerate(state)
    else:
        return {name: state}
    return {path: leaf for key, value in items for path, leaf in flat(value, f"{name}/{key}").items()}


def check_same(a: Path, b: Path) -> None:
    """Two runs' last checkpoints are equal to the bit, optimiser, guard and all, and so are their metrics."""
    ours, theirs = flat(last_state(a)), flat(last_state(b))
    assert ours.keys() == theirs.keys()
    different = [name for name in ours if not _equal(ours[name], theirs[name])]
    assert different == []
    assert told(a) == told(b)


def _equal(a: Any, b: Any) -> bool:
    return torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b


def forkserver() -> multiprocessing.context.ForkServerContext:
    """Children of a process that has only imported: imports would take longer than all the rest."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["torch._dynamo", "torch.distributed.fsdp", "training_smoke.train"])
    return context


def _be_rank(rank: int, jobs: list[Job], pack: str, store: str, cache: str) -> None:
    os.environ |= {"CURATE_CACHE": cache, "GLOO_SOCKET_IFNAME": "lo"}
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
    for job in jobs:
        run(job, pack)
    dist.destroy_process_group()


def be_killed_once(job: Job, pack: str, cache: str) -> None:
    """A worker of torchrun; rank 1 of the first attempt is killed, as by the kernel, before its ninth step."""
    os.environ |= {"CURATE_CACHE": cache, "GLOO_SOCKET_IFNAME": "lo"}
    rank, attempt = os.environ["RANK"], os.environ["TORCHELASTIC_RESTART_COUNT"]
    if (rank, attempt) != ("1", "0"):
        run(job, pack)
        return
    plain, steps = loop.one_step, iter(range(8))

    def one_step(*arguments: Any) -> Any:
        if next(steps, None) is None:
            (job.folder / "killed").write_text(f"rank {rank}, attempt {attempt}")
            os.kill(os.getpid(), signal.SIGKILL)
        return plain(*arguments)

    loop.one_step = one_step  # type: ignore[assignment]
    run(job, pack)


def _be_alone(job: Job, pack: str, cache: str) -> None:
    os.environ["CURATE_CACHE"] = cache
    run(job, pack)


def _cut_off(job: Job, packs: dict[Pack, float]) -> None:
    plain, steps = loop.one_step, 0

    def one_step(*arguments: Any) -> Any:
        nonlocal steps
        steps += 1
        if steps > (job.cut or 0):
            raise Cut
        return plain(*arguments)

    loop.one_step = one_step  # type: ignore[assignment]
    try:
        loop.train(job.folder, job.config, packs, device="cpu")
        raise AssertionError("it was not cut off")
    except Cut:
        pass
    finally:
        loop.one_step = plain
