"""ITM: values of the specification's table, how often which negative is drawn, and what is none."""

from __future__ import annotations

import doctest
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from objective_parts import unit_rows

from training_smoke.objectives import itm
from training_smoke.objectives.itc import Contrast
from training_smoke.objectives.itm import NO_PAIR, drawn, hard_negatives, itm_loss, negative_weights

SIMILARITY = torch.tensor([[2, 1, 0], [0, 2, 1], [1, 0, 2]], dtype=torch.float64)
LOGITS = torch.tensor([[-1, 1], [0.5, -0.5], [2, 0]], dtype=torch.float64)


def test_value() -> None:
    assert itm_loss(LOGITS, torch.tensor([1, 0, 0])).item() == pytest.approx(0.189039, abs=5e-7)
    assert itm_loss(torch.zeros(5, 2), torch.tensor([1, 0, 0, 1, 0])).item() == pytest.approx(0.693147, abs=5e-7)


def test_value_by_hand() -> None:
    """-log of the right answer's share, in plain Python; a row without a pair counts for nothing."""
    rows, labels = LOGITS.tolist(), [1, 0, 0]
    expected = [-math.log(math.exp(row[y]) / sum(map(math.exp, row))) for row, y in zip(rows, labels, strict=True)]
    assert sum(expected) / 3 == pytest.approx(0.189039, abs=5e-7)
    assert itm_loss(LOGITS, torch.tensor(labels)).item() == pytest.approx(sum(expected) / 3, rel=1e-12)
    assert -math.log(math.exp(0) / (math.exp(0) + math.exp(0))) == pytest.approx(0.693147, abs=5e-7)  # zero logits
    found = itm_loss(LOGITS, torch.tensor([1, NO_PAIR, 0])).item()
    assert found == pytest.approx((expected[0] + expected[2]) / 2, rel=1e-12)


def test_without_a_pair_there_is_no_loss_and_a_gradient_of_zero() -> None:
    logits = LOGITS.clone().requires_grad_()
    loss = itm_loss(logits, torch.full((3,), NO_PAIR))
    loss.backward()
    assert loss.item() == 0
    assert logits.grad is not None
    assert not logits.grad.any()


def test_weights() -> None:
    found = negative_weights(SIMILARITY, torch.arange(3))
    expected = torch.tensor([[0, 0.244828, 0.090131], [0.090131, 0, 0.244828], [0.244828, 0.090131, 0]]).double()
    torch.testing.assert_close(found, expected, rtol=0, atol=5e-7)
    shares = found / found.sum(dim=1, keepdim=True)
    torch.testing.assert_close(shares[0, 1:].tolist(), [0.730921, 0.269079], atol=5e-7, rtol=0)
    # Without the floor they are softmax alone, as ALBEF has it.
    bare = negative_weights(SIMILARITY, torch.arange(3), floor=0.0)
    torch.testing.assert_close(
        (bare / bare.sum(1, keepdim=True))[0, 1:].tolist(), [0.731059, 0.268941], atol=5e-7, rtol=0
    )


def test_weights_by_hand() -> None:
    own, harder, other = (math.exp(s) for s in (2, 1, 0))
    by_hand = [odds / (own + harder + other) + 1e-4 for odds in (harder, other)]
    assert by_hand == pytest.approx([0.244828, 0.090131], abs=5e-7)
    assert [weight / sum(by_hand) for weight in by_hand] == pytest.approx([0.730921, 0.269079], abs=5e-7)
    for i, row in enumerate(SIMILARITY.tolist()):
        odds = [math.exp(s) for s in row]
        for j, weight in enumerate(negative_weights(SIMILARITY, torch.arange(3))[i].tolist()):
            assert weight == pytest.approx(0 if i == j else odds[j] / sum(odds) + 1e-4, rel=1e-12)


def test_rows_of_a_rank_are_rows_of_the_batch() -> None:
    groups = torch.tensor([5, 1, 1, 5])
    similarity = unit_rows(4, 3, 0) @ unit_rows(4, 3, 1).T
    whole = negative_weights(similarity, torch.arange(4), groups=groups, all_groups=groups)
    half = negative_weights(similarity[2:], torch.tensor([2, 3]), groups=groups[2:], all_groups=groups)
    torch.testing.assert_close(half, whole[2:])
    assert ((whole == 0) == torch.tensor([[1, 0, 0, 1], [0, 1, 1, 0], [0, 1, 1, 0], [1, 0, 0, 1]]).bool()).all()


def test_negatives_come_as_often_as_they_weigh() -> None:
    """Over evenly spaced draws, shares are exact to the spacing."""
    weights, n = torch.tensor([0.1, 0.0, 0.6, 0.3]), 10_000
    found, there = drawn(weights.expand(n, 4), (torch.arange(n) + 0.5) / n)
    assert there.all()
    torch.testing.assert_close(found.bincount(minlength=4) / n, weights, rtol=0, atol=2e-4)


@settings(max_examples=50, deadline=None)
@given(batch=st.integers(1, 8), kinds=st.integers(1, 8), seed=st.integers(0, 2**32 - 3))
def test_a_negative_is_never_a_duplicate(batch: int, kinds: int, seed: int) -> None:
    draws = torch.Generator().manual_seed(seed)
    groups = torch.randint(kinds, (batch,), generator=draws)
    similarity = 30 * unit_rows(batch, 3, seed) @ unit_rows(batch, 3, seed + 1).T
    contrast = Contrast(torch.tensor(0.0), similarity, similarity.T)
    images, texts, labels = hard_negatives(contrast, torch.rand(batch, 2, generator=draws), groups=groups)
    assert (labels[:batch] == 1).all()
    for found, said in ((images, labels[batch : 2 * batch]), (texts, labels[2 * batch :])):
        for i in range(batch):
            if (groups == groups[i]).all():
                assert said[i] == NO_PAIR
            else:
                assert said[i] == 0
                assert groups[found[i]] != groups[i]


def test_negatives_are_of_pairs_and_not_of_places() -> None:
    """Another order of the batch, with its draws: the same partners."""
    similarity, draws = 5 * unit_rows(6, 4, 0) @ unit_rows(6, 4, 1).T, torch.rand(6, 2, generator=torch.Generator())
    order = torch.tensor([3, 5, 0, 1, 4, 2])
    contrast = Contrast(torch.tensor(0.0), similarity, similarity.T)
    moved = Contrast(torch.tensor(0.0), *(s[order][:, order] for s in contrast[1:]))
    for expected, found in zip(
        hard_negatives(contrast, draws)[:2], hard_negatives(moved, draws[order])[:2], strict=True
    ):
        assert order[found].tolist() == expected[order].tolist()


def test_the_harder_is_the_likelier() -> None:
    similarity = torch.tensor([[0.0, 9.0, 1.0]]).expand(3, 3)
    found = hard_negatives(Contrast(torch.tensor(0.0), similarity, similarity), torch.full((3, 2), 0.5))
    assert found.images.tolist() == found.texts.tolist() == [1, 2, 1]


@pytest.mark.parametrize(("logits", "labels"), [((3,), (3,)), ((3, 3), (3,)), ((3, 2), (2,))])
def test_what_is_no_question_is_refused(logits: tuple[int, ...], labels: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"must be \[pairs, 2\]"):
        itm_loss(torch.zeros(logits), torch.zeros(labels, dtype=torch.int64))


def test_similarities_of_other_rows_are_refused() -> None:
    with pytest.raises(ValueError, match="must have a row"):
        negative_weights(SIMILARITY, torch.arange(2))
    with pytest.raises(ValueError, match="one for each sample"):
        negative_weights(SIMILARITY, torch.arange(3), groups=torch.arange(3), all_groups=torch.arange(2))


def test_examples_in_the_docstrings() -> None:
    found = doctest.testmod(itm)
    assert found.failed == 0
    assert found.attempted >= 4
