"""negCLIPLoss: values of the specification, invariants, batches of one size, and no cut into shards shows."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import stages.neg_clip_loss as module
from stages.draws import hash64_halves
from stages.neg_clip_loss import NegClipLoss, batches, neg_clip_loss
from tests.phase_runner import PhaseRunner
from tests.stages.vector_parts import (
    CUTS,
    answers,
    as_stored,
    clumps,
    directions,
    keys,
    plain_lists,
    pool_of,
    vectors,
)


def plainly(s: np.ndarray, tau: float) -> np.ndarray:
    """From a matrix of cosines, as the paper writes it, in long floats."""
    s = s.astype(np.longdouble)
    by_row, by_column = (np.log(np.exp(s / tau).sum(axis=axis)) for axis in (1, 0))
    return np.asarray(np.diag(s) - tau / 2 * (by_row + by_column), np.float64)


def pairs_with(s: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Vectors, not of length one, whose inner products are the matrix."""
    return np.eye(len(s), dtype=np.float32), s.T.astype(np.float32).copy()


@pytest.mark.parametrize(
    ("s", "expected"),
    [
        ([[0.30, 0.10], [0.28, 0.29]], (-0.000635, -0.001566)),
        ([[0.25, 0.05], [0.06, 0.20]], (0, 0)),
        ([[0.25, 0.25], [0.25, 0.25]], (-0.006931, -0.006931)),
        ([[0.3]], (0,)),
        ([[1.0, 0.99], [0.98, 1.0]], None),  # cosines above .887 overflow float32 without care
    ],
)
def test_values(s: list[list[float]], expected: tuple[float, ...] | None) -> None:
    matrix = np.array(s)
    found = neg_clip_loss(*pairs_with(matrix), 0.01)
    assert found == pytest.approx(plainly(matrix, 0.01) if expected is None else expected, abs=2e-6)


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 9999), n=st.integers(1, 40), tau=st.sampled_from([0.01, 0.07, 1.0]), block=st.integers(1, 50)
)
def test_invariants(seed: int, n: int, tau: float, block: int) -> None:
    rng = np.random.default_rng(seed)
    s = rng.uniform(-1, 1, (n, n))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "BLOCK", block)
        found = neg_clip_loss(*pairs_with(s), tau)
        assert found == pytest.approx(plainly(s, tau), abs=5e-6)
        assert (found <= 1e-6).all()
        order = rng.permutation(n)
        assert neg_clip_loss(*pairs_with(s[order][:, order]), tau) == pytest.approx(found[order], abs=2e-6)
        assert neg_clip_loss(*pairs_with(s - 0.3), tau) == pytest.approx(found, abs=5e-6)


@given(n=st.integers(0, 60), size=st.integers(1, 70))
def test_batches_have_one_size_and_score_each_once(n: int, size: int) -> None:
    order = np.random.default_rng(n).permutation(n)
    found = list(batches(order, size))
    assert {len(batch) for batch, _ in found} <= {min(size, n)}
    assert [i for batch, fresh in found for i in batch[:fresh]] == order.tolist()
    assert all(len(set(batch.tolist())) == len(batch) for batch, _ in found)


def pool(shards: int = 1, seed: int | None = None) -> dict[int, pa.Table]:
    image, text = clumps(6, 10, 8, 0.5), clumps(6, 10, 8, 0.5, seed=3)
    return pool_of({"image": vectors(image, null=[5]), "text": vectors(image + text, null=[5, 11])}, shards, seed)


def stage(**more: Any) -> NegClipLoss:
    return NegClipLoss(image="image", text="text", **more)


def test_one_batch_is_the_formula() -> None:
    image, text = clumps(6, 10, 8, 0.5), clumps(6, 10, 8, 0.5, seed=3)
    there = [i for i in range(60) if i not in (5, 11)]
    s = as_stored(image[there]) @ as_stored(image[there] + text[there]).T
    found = [score for (score,) in answers(pool(), stage())]
    assert found[5] is None
    assert found[11] is None
    assert [found[i] for i in there] == pytest.approx(plainly(s, 0.01), abs=6e-5)
    assert np.std([found[i] for i in there]) > 0.003


def test_the_last_batch_is_filled_up_and_scores_only_its_own() -> None:
    image, text = clumps(6, 10, 8, 0.5), clumps(6, 10, 8, 0.5, seed=3)
    there = np.array([i for i in range(60) if i not in (5, 11)])
    s = as_stored(image) @ as_stored(image + text).T
    expected = np.zeros(60)
    for repeat in range(2):
        drawn = hash64_halves(0, f"neg_clip_loss:{repeat}", *keys(60))
        order = there[np.argsort(drawn[there])]
        for batch, own in ((order[:24], 24), (order[24:48], 24), (np.append(order[48:], order[:14]), 10)):
            expected[batch[:own]] += plainly(s[np.ix_(batch, batch)], 0.01)[:own] / 2
    found = [score for (score,) in answers(pool(), stage(batch=24, repeats=2))]
    assert [found[i] for i in there] == pytest.approx(expected[there], abs=6e-5)


@pytest.mark.parametrize("rows", [1 << 17, 16])
def test_no_cut_shows(rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also with small groups, which shards spread over; a group has several batches then."""
    monkeypatch.setattr(module, "ROWS", rows)
    chosen = stage(batch=2 if rows < 99 else 7, repeats=3)
    first, *others = (answers(pool(shards, seed), chosen, seed) for shards, seed in CUTS)
    assert all(other == first for other in others)
    assert first != answers(pool(), stage(batch=chosen.batch, repeats=3, seed=1))


def test_the_mean_over_repeats_settles() -> None:
    few, many, other = (
        np.array([s for (s,) in answers(pool(), stage(batch=20, repeats=r, seed=seed)) if s is not None])
        for r, seed in ((1, 0), (60, 0), (60, 1))
    )
    assert np.abs(many - other).mean() < np.abs(few - other).mean() / 2


def test_nobody_has_vectors() -> None:
    none = {"image": vectors(directions(4, 3), null=range(4)), "text": vectors(directions(4, 3), null=range(4))}
    assert answers(pool_of(none, 2), stage()) == [(None,)] * 4


def test_shards_of_plain_lists_may_have_no_vectors(monkeypatch: pytest.MonkeyPatch) -> None:
    image, text = clumps(6, 10, 8, 0.5), clumps(6, 10, 8, 0.5, seed=3)
    table = {"image": vectors(image, null=range(20)), "text": vectors(image + text, null=range(10, 30))}
    expected = answers(pool_of(table), stage(batch=2))
    shards = plain_lists(pool_of(table)[0], (0, 10, 20, 30, 45, 60))
    assert answers(shards, stage(batch=2)) == expected
    monkeypatch.setattr(module, "ROWS", 8)  # then some spans and groups have nobody with both
    assert answers(shards, stage(batch=2)) == answers(pool_of(table, 3, 1), stage(batch=2))
    assert expected[:30] == [(None,)] * 30


def test_two_models_do_not_go_together() -> None:
    mixed = pool_of({"image": vectors(directions(4, 3)), "text": vectors(directions(4, 5))})
    with pytest.raises(ValueError, match="image has 3 dimensions and text has 5"):
        answers(mixed, stage())


def test_the_device_does_not_count() -> None:
    assert stage(device="cuda").identity() == stage().identity()
    assert {p.need.gpus for p in stage(device="cuda").phases(_shape())} == {0, 1}
    assert {p.need.gpus for p in stage().phases(_shape())} == {0}


def test_footers_say_what_computed_the_scores() -> None:
    """The identity does not name the device, and float32 sums differ in last bits."""
    runner = PhaseRunner(pool())
    runner.run(stage())
    (stats,) = runner.stats(stage(), "scores").values()
    assert stats["computed_by"].startswith("cpu: ")
    gpu = SimpleNamespace(cuda=SimpleNamespace(get_device_name=lambda: "NVIDIA H200"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "gpu_torch", lambda _: gpu)
        assert stage(device="cuda")._machine() == "cuda: NVIDIA H200"


def _shape() -> Any:
    from stages.base import Shape

    return Shape((0, 1), (5, 5))
