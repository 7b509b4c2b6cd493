"""How many workers this machine, or --workers, gives to each kind of work; no executor is started to know it."""

from __future__ import annotations

import glob
import os
from dataclasses import dataclass

from curate.errors import UserError
from curate.run.choice import EXECUTORS, RAY_WORTH_S
from stages.base import Need

RAY_MEMORY = 0.7  # of the machine's; Ray keeps the rest for its object store


@dataclass(frozen=True)
class Machine:
    """What the work runs on. slots are None on a cluster of unknown size: then times are those of one worker."""

    name: str
    workers: int | None
    cpus: float
    gpus: float
    memory_gb: float
    cluster: bool = False

    def slots(self, need: Need) -> int | None:
        """Pieces of such work at a time; None where that is not known; 0 where no such worker fits here."""
        if self.name == "inline":
            return 1
        if self.cluster:
            return self.workers
        wanted = ((self.cpus, need.cpus), (self.gpus, need.gpus), (self.memory_gb, need.memory_gb))
        count = int(min((have / asked for have, asked in wanted if asked), default=1))
        return min(count, self.workers or count)

    def __str__(self) -> str:
        if self.name == "inline":
            return "inline: in this process, one shard at a time"
        if self.cluster:
            known = f"{self.workers} workers" if self.workers else "of unknown size: give --workers"
            return f"ray: the cluster of RAY_ADDRESS, {known}"
        gpus = f", {self.gpus:g} GPU{'s' * (self.gpus != 1)}" if self.gpus else ""
        return f"ray: this machine, {self.cpus:g} CPUs{gpus}"


def machine(name: str, workers: int | None, seconds: float) -> Machine:
    """The machine of an executor by name; `auto` is settled by the worker-seconds of the plan, as a run would.

    Raises:
        UserError: no executor of that name.
    """
    if name not in EXECUTORS:
        raise UserError(f"--executor {name}: it is one of {', '.join(EXECUTORS)}")
    cluster = bool(os.environ.get("RAY_ADDRESS"))
    if name == "auto":
        small = seconds < RAY_WORTH_S and not cluster
        name = "inline" if small or (workers or os.cpu_count() or 1) == 1 else "ray"
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 1e9
    return Machine(name, workers, float(workers or os.cpu_count() or 1), gpus(), memory * RAY_MEMORY, cluster)


def gpus() -> int:
    """GPUs that are visible here, by their device files: nothing is loaded to know it."""
    shown = os.environ.get("CUDA_VISIBLE_DEVICES")
    found = len(glob.glob("/dev/nvidia[0-9]*"))
    return found if shown is None else min(found, len([d for d in shown.split(",") if d.strip() not in ("", "-1")]))
