"""BLIP-2's contrast over queries: the specification's values, loops from the definition, duplicates and draws."""

from __future__ import annotations

import doctest
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from objective_parts import TEXTS, double, unit_rows
from torch import Tensor

import training_smoke.objectives.blip2 as blip2
from training_smoke.objectives.blip2 import hard_negatives, nearest, query_contrast

QUERIES = torch.tensor([[[0.6, 0.8], [1, 0]], [[1, 0], [0, 1]], [[0, 1], [-1, 0]]], dtype=torch.float64)
SEEDS = st.integers(0, 2**32 - 1)


def by_loops(queries: Tensor, texts: Tensor, tau: float, smoothing: float, groups: list[int]) -> float:
    """Number by number, in Python's floats."""
    n = len(queries)

    def similar(image: int, text: int) -> float:
        return max(sum(float(a) * float(b) for a, b in zip(q, texts[text], strict=True)) for q in queries[image])

    total = 0.0
    for swapped in (False, True):
        for i in range(n):
            candidates = [j for j in range(n) if j == i or groups[j] != groups[i]]
            odds = {j: math.exp((similar(j, i) if swapped else similar(i, j)) / tau) for j in candidates}
            for j in candidates:
                target = smoothing / len(candidates) + (1 - smoothing if j == i else 0)
                total -= target * math.log(odds[j] / sum(odds.values()))
    return total / (2 * n)


def several(batch: int, count: int, seed: int) -> Tensor:
    return unit_rows(batch * count, 4, seed).view(batch, count, 4)


def test_values_of_the_specification() -> None:
    found = query_contrast(QUERIES, TEXTS, double(0.07))
    assert found.loss.item() == pytest.approx(1.518935, abs=5e-7)
    assert by_loops(QUERIES, TEXTS, 0.07, 0.1, [0, 1, 2]) == pytest.approx(1.518935, abs=5e-7)
    expected = [[0.96, 0.989949, 0.141421], [0.8, 0.707107, 0.707107], [0.6, 0.707107, 0.707107]]
    torch.testing.assert_close(nearest(QUERIES, TEXTS), torch.tensor(expected, dtype=torch.float64), rtol=0, atol=5e-7)
    by_hand = [[max(q[0] * t[0] + q[1] * t[1] for q in own) for t in TEXTS.tolist()] for own in QUERIES.tolist()]
    for row, said in zip(by_hand, expected, strict=True):
        assert row == pytest.approx(said, abs=5e-7)
    torch.testing.assert_close(found.image_to_text * 0.07, nearest(QUERIES, TEXTS))
    torch.testing.assert_close(found.text_to_image, found.image_to_text.T)
    assert not found.image_to_text.requires_grad


@settings(max_examples=40, deadline=None)
@given(batch=st.integers(1, 6), kinds=st.integers(1, 6), count=st.integers(1, 3), seed=SEEDS)
def test_is_its_definition_pair_by_pair(batch: int, kinds: int, count: int, seed: int) -> None:
    queries, texts = several(batch, count, seed), unit_rows(batch, 4, seed + 1)
    groups = torch.randint(kinds, (batch,), generator=torch.Generator().manual_seed(seed))
    found = query_contrast(queries, texts, double(0.2), smoothing=0.3, groups=groups).loss
    assert found.item() == pytest.approx(by_loops(queries, texts, 0.2, 0.3, groups.tolist()), rel=1e-9, abs=1e-12)


def test_one_query_without_smoothing_is_clip() -> None:
    from training_smoke.objectives import clip_loss

    images = unit_rows(5, 4, 0)
    ours = query_contrast(images[:, None], unit_rows(5, 4, 1), double(0.07), smoothing=0.0).loss
    torch.testing.assert_close(ours, clip_loss(images, unit_rows(5, 4, 1), double(1 / 0.07).log()))


def test_only_the_nearest_query_learns() -> None:
    queries = QUERIES.clone().requires_grad_()
    nearest(queries[:1], TEXTS[:1]).sum().backward()
    assert queries.grad is not None
    assert queries.grad[0, 0].tolist() == TEXTS[0].tolist()
    assert queries.grad[0, 1].tolist() == [0, 0]


def test_order_of_pairs_does_not_matter_but_pairing_does() -> None:
    queries, texts, groups = several(8, 3, 0), unit_rows(8, 4, 1), torch.arange(8) // 2
    order = torch.randperm(8, generator=torch.Generator().manual_seed(0))

    def loss(q: Tensor, t: Tensor, g: Tensor) -> Tensor:
        return query_contrast(q, t, double(0.07), groups=g).loss

    expected = loss(queries, texts, groups)
    torch.testing.assert_close(loss(queries[order], texts[order], groups[order]), expected, rtol=0, atol=1e-12)
    assert abs(loss(queries.roll(1, 0), texts, groups) - expected) > 1e-6


def test_narrow_features_are_computed_in_fp32_whatever_autocast_says() -> None:
    queries, texts = several(16, 3, 0).bfloat16(), unit_rows(16, 4, 1).bfloat16()
    expected = query_contrast(queries.float(), texts.float(), torch.tensor([0.07])).loss
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = query_contrast(queries, texts, torch.tensor([0.07])).loss
    assert found.dtype == torch.float32
    assert torch.equal(found, expected)


# ------------------------------------------------------------------------------------------- negatives


def test_negatives_are_drawn_by_the_softmax_of_all_others() -> None:
    """The specification's row (2, 1, 0): its others have e and 1 of e + 1."""
    similarity = torch.tensor([[2.0, 1, 0], [0, 2, 1], [1, 0, 2]])
    draws = torch.linspace(0, 1, 20_001)[:-1]
    shares = [
        torch.stack([hard_negatives(similarity, u.expand(3))[0] for u in draws[::40]])[:, row].bincount(minlength=3)
        for row in range(3)
    ]
    e = math.e / (math.e + 1)
    expected = [[0, e, 1 - e], [1 - e, 0, e], [e, 1 - e, 0]]
    torch.testing.assert_close(torch.stack(shares) / 500, torch.tensor(expected), rtol=0, atol=0.004)
    assert e == pytest.approx(0.731059, abs=5e-7)  # 0.730921 with BLIP's floor of 1e-4


def test_a_row_is_never_its_own_negative_nor_its_duplicate() -> None:
    similarity = 1000 * torch.eye(4) + 500 * torch.ones(4, 4)  # a softmax that sees the positive only
    groups = torch.tensor([7, 7, 8, 8])
    for u in (0.0, 0.3, 0.999):
        places, there = hard_negatives(similarity, torch.full((4,), u), groups=groups)
        assert there.all()
        assert (groups[places] != groups).all()


def test_where_all_are_duplicates_there_is_none() -> None:
    _, there = hard_negatives(torch.zeros(3, 3), torch.full((3,), 0.5), groups=torch.ones(3, dtype=torch.int64))
    assert there.tolist() == [False] * 3


# ------------------------------------------------------------------------------------------- what is refused


def test_shapes_of_other_pairs_are_refused() -> None:
    with pytest.raises(ValueError, match=r"\[batch, queries, dim\]"):
        query_contrast(unit_rows(3, 4, 0), unit_rows(3, 4, 1), double(0.07))
    with pytest.raises(ValueError, match=r"groups must be \[3\]"):
        query_contrast(QUERIES, TEXTS, double(0.07), groups=torch.arange(2))
    with pytest.raises(ValueError, match="smoothing"):
        query_contrast(QUERIES, TEXTS, double(0.07), smoothing=1.0)


def test_examples_in_the_docstrings() -> None:
    assert doctest.testmod(blip2).failed == 0
    assert doctest.testmod(blip2).attempted >= 6
