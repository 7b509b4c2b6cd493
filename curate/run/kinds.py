"""Actors that hold GPUs are shared: a captioner, the score of its captions and an embedding live in one process.

Ray has one kind of actor for each need. With needs of their own, stages on one GPU would end each other's actors and
load their weights anew for every shard; with one need for all, an actor keeps the weights of all of them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from curate.errors import UserError
from curate.run.engine import Pass
from curate.run.executors import Executor
from stages.base import Need


def share_actors(passes: Sequence[Pass], executor: Executor) -> None:
    """Give passes that ask for as many GPUs the same need, in place, where each has as many workers with it.

    What fits nowhere keeps its need, which the engine will name; what has nothing to do is in nobody's way.
    """
    alike: dict[tuple[float, int], list[Pass]] = defaultdict(list)
    for p in passes:
        if p.items and p.need.gpus:
            alike[p.need.gpus, _workers(executor, p.need)].append(p)
    for (_, workers), some in alike.items():
        together, differ = joint([p.need for p in some]), len({p.need for p in some}) > 1
        if differ and workers and _workers(executor, together) == workers:
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
