"""NormSim-2-D against a loop over the whole set; in memory and in files; no cut into shards shows."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

import filters.norm_sim_2d as module
from filters.norm_sim_2d import NormSim2D, bound_of
from stages.moments import Moments
from stages.vectors import on_grid
from tests.phase_runner import PhaseRunner
from tests.stages.vector_parts import CUTS, answers, as_stored, clumps, directions, kept, plain_lists, pool_of, vectors

ROWS = 90


def shrink(**more: Any) -> NormSim2D:
    return NormSim2D(**{"vectors": "v", "fraction": 0.3, "over": "pool", "steps": 5, **more})


def raw() -> np.ndarray:
    return np.vstack([clumps(2, 20, 8, 0.6), directions(50, 8, 4)])


def pool(
    shards: int = 1, seed: int | None = None, null: tuple[int, ...] = (), asked: bool = False
) -> dict[int, pa.Table]:
    columns = {"v": vectors(raw(), null=null)}
    if asked:
        columns["asked"] = pa.array([i % 3 > 0 for i in range(ROWS)])
    return pool_of(columns, shards, seed)


def plainly(x: np.ndarray, keep: int, steps: int) -> list[int]:
    """Slice by slice, in floats."""
    left = np.arange(len(x))
    for step in range(1, steps + 1):
        sigma = x[left].T @ x[left] / len(left)
        score = np.round(np.einsum("nd,de,ne->n", x[left], sigma, x[left]), 6)
        size = len(x) - step * (len(x) - keep) // steps
        order = left[np.lexsort((left, -score))]
        left = np.sort(order[:size])
    return left.tolist()


@pytest.mark.parametrize("steps", [1, 2, 5, 50])
@pytest.mark.parametrize("fraction", [0.02, 0.3, 1.0])
def test_slice_by_slice(steps: int, fraction: float) -> None:
    found = answers(pool(), shrink(steps=steps, fraction=fraction))
    assert kept(found) == plainly(as_stored(raw()), int(fraction * ROWS), steps)
    assert {r for keep, r, _ in found if not keep} <= {"off_direction"}


def test_many_steps_end_nearer_to_each_other() -> None:
    """What the greedy way is for: the kept vectors' second moment has a larger norm than after one ranking."""
    x = as_stored(raw())
    few, many = (x[kept(answers(pool(), shrink(steps=steps, fraction=0.2)))] for steps in (1, 9))
    assert len(few) == len(many) == 18
    assert np.linalg.norm(many.T @ many) > 1.02 * np.linalg.norm(few.T @ few) > 1.5 * np.linalg.norm(x.T @ x) / 5


def test_scores_of_the_last_step() -> None:
    x = as_stored(raw())
    found = answers(pool(), shrink(steps=1))
    sigma = x.T @ x / ROWS
    assert [s for *_, s in found] == pytest.approx(np.einsum("nd,de,ne->n", x, sigma, x), abs=3e-6)
    runner = PhaseRunner(pool())
    runner.run(shrink(steps=1))
    (stats,) = runner.stats(shrink(steps=1), "threshold").values()
    assert stats["threshold"] == pytest.approx(min(s for keep, _, s in found if keep), abs=1e-6)
    later = answers(pool(), shrink(steps=5))
    assert sum(s is None for *_, s in later) == pytest.approx(4 / 5 * 0.7 * ROWS, abs=1)
    assert all(s is not None for keep, _, s in later if keep)


@pytest.mark.parametrize("in_memory", [1 << 17, 1])
@pytest.mark.parametrize("rows", [1 << 17, 13])
def test_no_cut_shows(in_memory: int, rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = shrink(over="survivors", on_missing="drop", steps=4)
    whole = answers(pool(null=(5, 7), asked=True), chosen)
    monkeypatch.setattr(module, "ROWS", rows)
    monkeypatch.setattr(module, "IN_MEMORY", in_memory)
    for shards, seed in CUTS:
        assert answers(pool(shards, seed, (5, 7), asked=True), chosen, seed) == whole
    assert len(kept(whole)) == int(0.3 * 60)


@pytest.mark.parametrize(("policy", "expected"), [("drop", (False, "missing", None)), ("keep", (True, None, None))])
def test_missing_vectors_follow_the_policy(policy: Any, expected: tuple[bool, str | None, None]) -> None:
    assert answers(pool(2, 1, (7,)), shrink(on_missing=policy))[7] == expected
    with pytest.raises(ValueError, match=r"sample 0{31}7 has no 'v'.*on_missing: drop"):
        answers(pool(2, 1, (7,)), shrink())


@pytest.mark.parametrize("in_memory", [1 << 17, 1])
def test_nobody_is_asked(in_memory: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "IN_MEMORY", in_memory)
    columns = {"v": vectors(directions(4, 3)), "asked": pa.array([False] * 4)}
    assert answers(pool_of(columns, 2), shrink(over="survivors")) == [(None, None, None)] * 4


def test_the_bound_leaves_enough() -> None:
    level, rows = np.array([2, 5, 9]), np.array([4, 3, 2])
    assert [bound_of(level, rows, size) for size in (0, 1, 2, 3, 5, 6, 9)] == [9, 9, 9, 5, 5, 2, 2]
    assert bound_of(level[:0], rows[:0], 0) == 0


def test_moments_are_taken_out_exactly() -> None:
    x = on_grid(directions(60, 7))
    moments, rest = Moments.none(7), Moments.none(7)
    moments.add(x)
    moments.subtract(x[:35])
    rest.add(x[35:])
    assert moments.count == 25
    assert np.array_equal(moments.matrix(25), rest.matrix(25))


@pytest.mark.parametrize("in_memory", [1 << 17, 1])
def test_shards_of_plain_lists_may_have_no_vectors(in_memory: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "IN_MEMORY", in_memory)
    monkeypatch.setattr(module, "ROWS", 30)
    table = pool(null=tuple(range(30)))[0]
    chosen = shrink(on_missing="drop")
    assert answers(plain_lists(table, (0, 30, 60, 60, ROWS)), chosen) == answers({0: table}, chosen)
    nobody = plain_lists(table.slice(0, 30), (0, 10, 30))
    assert set(answers(nobody, chosen)) == {(False, "missing", None)}
