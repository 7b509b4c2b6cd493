"""Passes that hold weights on as many GPUs share their actors; others keep needs of their own."""

from __future__ import annotations

import pytest

from curate.errors import UserError
from curate.run.engine import Pass
from curate.run.executors import InlineExecutor
from curate.run.kinds import joint, share_actors
from stages.base import Need


class Machine(InlineExecutor):
    """A cluster with so much memory."""

    def __init__(self, memory_gb: float) -> None:
        super().__init__()
        self.memory_gb = memory_gb

    def capacity(self, need: Need) -> int:
        if need.memory_gb > self.memory_gb:
            raise UserError("add a node")
        return 1


class Cluster(InlineExecutor):
    """A machine with so much memory and so many GPUs, on which as many workers go as fit."""

    def __init__(self, memory_gb: float, gpus: int) -> None:
        super().__init__()
        self.memory_gb, self.gpus = memory_gb, gpus

    def capacity(self, need: Need) -> int:
        found = min(int(self.memory_gb // need.memory_gb), int(self.gpus // need.gpus))
        if not found:
            raise UserError("add a node")
        return found


def passes(*needs: Need) -> list[Pass]:
    return [Pass(str(i), len, None, ["00000000"], need) for i, need in enumerate(needs)]


CAPTION, SCORE = Need(cpus=4, gpus=1, memory_gb=20, deadline_s=9000), Need(cpus=1, gpus=1, memory_gb=4)
TWO, PLAIN = Need(gpus=2, memory_gb=60), Need(memory_gb=2)


def test_one_need_for_all_that_ask_for_as_many_gpus() -> None:
    found = passes(CAPTION, PLAIN, SCORE, TWO)
    share_actors(found, Machine(100))
    together = Need(cpus=4, gpus=1, memory_gb=24, deadline_s=9000)
    assert [p.need for p in found] == [together, PLAIN, together, TWO]
    assert joint([SCORE]) == SCORE


@pytest.mark.parametrize("memory", [23, 20])
def test_what_does_not_fit_together_stays_apart(memory: float) -> None:
    found = passes(CAPTION, SCORE)
    share_actors(found, Machine(memory))
    assert [p.need for p in found] == [CAPTION, SCORE]


def test_gpus_are_not_left_idle_so_that_actors_are_shared() -> None:
    """Eight GPUs: together two workers would fit, apart four and more."""
    large, larger = Need(gpus=1, memory_gb=80), Need(gpus=1, memory_gb=107)
    found = passes(large, larger)
    share_actors(found, Cluster(memory_gb=512, gpus=8))
    assert [p.need for p in found] == [large, larger]
    share_actors(found, Cluster(memory_gb=800, gpus=4))
    assert [p.need for p in found] == [joint([large, larger])] * 2


@pytest.mark.parametrize("other", [600, 215], ids=["fits nowhere", "leaves room for two workers"])
def test_a_large_need_takes_no_worker_from_a_small_one(other: float) -> None:
    small, large = Need(gpus=1, memory_gb=40), Need(gpus=1, memory_gb=other)
    found = passes(small, large)
    share_actors(found, Cluster(memory_gb=512, gpus=8))
    assert [p.need for p in found] == [small, large]


def test_beside_a_large_need_the_small_ones_share() -> None:
    small, smaller, large = (Need(gpus=1, memory_gb=gb) for gb in (40, 20, 600))
    found = passes(small, large, smaller)
    share_actors(found, Cluster(memory_gb=512, gpus=8))
    assert [p.need for p in found] == [joint([small, smaller]), large, joint([small, smaller])]


def test_what_has_nothing_to_do_neither_shares_nor_hinders() -> None:
    idle = passes(Need(gpus=1, memory_gb=70))
    idle[0].items = []
    busy = passes(CAPTION, SCORE)
    share_actors([*idle, *busy], Machine(90))
    assert [p.need for p in (*idle, *busy)] == [Need(gpus=1, memory_gb=70), *[joint([CAPTION, SCORE])] * 2]


def test_equal_needs_share_already() -> None:
    found = passes(SCORE, SCORE)
    share_actors(found, Machine(100))
    assert [p.need for p in found] == [SCORE, SCORE]
