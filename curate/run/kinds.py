"""Actors that hold GPUs are shared: a captioner, the score of its captions and an embedding live in one process.

Ray has one kind of actor for each need. With needs of their own, stages on one GPU would end each other's actors and
load their weights anew for every shard; with one need for all, an actor keeps the weights of all of them.
"""

from __future__ import annotations

from collections.abc import Sequence

from curate.errors import UserError
from curate.run.engine import Pass
from curate.run.executors import Executor
from stages.base import Need


def share_actors(passes: Sequence[Pass], executor: Executor) -> None:
    """Give passes that ask for as many GPUs the same need, in place, where no GPU is idle for want of memory then."""
    for gpus in sorted({p.need.gpus for p in passes if p.need.gpus}):
        some = [p for p in passes if p.need.gpus == gpus]
        together = joint([p.need for p in some])
        needs = {p.need for p in some}
        if len(needs) > 1 and _workers(executor, together) >= min(_workers(executor, n) for n in needs):
            for p in some:
                p.need = together


def joint(needs: Sequence[Need]) -> Need:
    """What one process asks for that does one of these at a time and holds the weights of all."""
    return Need(
        cpus=max(n.cpus for n in needs),
        gpus=max(n.gpus for n in needs),
        memory_gb=sum(n.memory_gb for n in needs),
        deadline_s=max(n.deadline_s for n in needs),
    )


def _workers(executor: Executor, need: Need) -> int:
    """How many with this need the machines have room for; 0 where none has."""
    try:
        return executor.capacity(need)
    except UserError:
        return 0
