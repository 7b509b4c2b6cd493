"""Sharded is unsharded, in the loss and in every gradient: towers under real DDP, over gloo, in double precision.

The loss alone proves nothing: without gradient through the gather it is right, and what is learned is wrong.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.multiprocessing as mp
from objective_parts import CASES, Case, be_rank, step_alone


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> list[dict[int, dict[str, Any]]]:
    """What each of four ranks found, by the size of the world; they are started once for all cases."""
    folder = tmp_path_factory.mktemp("ranks")
    # Ranks are forked from a process that has only imported torch: four imports of it would take longer than the rest.
    mp.get_context("forkserver").set_forkserver_preload(["torch._dynamo", "training_smoke.objectives"])
    mp.start_processes(be_rank, args=(folder,), nprocs=4, start_method="forkserver")
    return [torch.load(folder / f"{rank}.pt") for rank in range(4)]


@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize("world", [1, 2, 4])
def test_sharded_is_unsharded(found: list[dict[int, dict[str, Any]]], world: int, case: Case) -> None:
    expected = step_alone(case)
    for of_rank in found:
        got = of_rank[world][str(case)]
        assert got.keys() == expected.keys()
        for name, value in expected.items():
            torch.testing.assert_close(got[name], value, rtol=0, atol=1e-13, msg=lambda m, name=name: f"{name}: {m}")


def test_the_cases_have_gradients_to_compare() -> None:
    for case in CASES:
        assert all(value.abs().max() > 1e-3 for value in step_alone(case).values())
