"""Momentum encoders move as the formula says; queues hold the last pairs, first in, first out."""

from __future__ import annotations

import doctest

import pytest
import torch
from torch import nn

from training_smoke.families import momentum
from training_smoke.families.momentum import Queue, follow, slow_copy


@pytest.mark.parametrize(("steps", "expected"), [(1, 1.005), (3, 1.014925125)])
def test_value(steps: int, expected: float) -> None:
    slow, model = (nn.Linear(1, 1, bias=False, dtype=torch.float64) for _ in range(2))
    slow.weight.data.fill_(1)
    model.weight.data.fill_(2)
    by_hand = 1.0
    for _ in range(steps):
        follow(slow, model, 0.995)
        by_hand = 0.995 * by_hand + 0.005 * 2.0
    assert slow.weight.item() == pytest.approx(expected, abs=1e-12)
    assert by_hand == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(("share", "stays"), [(1.0, True), (0.0, False)])
def test_at_one_it_stands_still_and_at_nothing_it_copies(share: float, stays: bool) -> None:
    model = nn.Sequential(nn.Linear(3, 2), nn.LayerNorm(2))
    slow = slow_copy(model)
    before = [p.clone() for p in slow.parameters()]
    for p in model.parameters():
        p.data.add_(torch.randn_like(p))
    follow(slow, model, share)
    expected = before if stays else list(model.parameters())
    assert all(torch.equal(a, b) for a, b in zip(slow.parameters(), expected, strict=True))


def test_a_copy_is_equal_and_its_own_and_has_no_gradient() -> None:
    model = nn.Linear(3, 2)
    slow = slow_copy(model)
    assert torch.equal(slow.weight, model.weight)
    assert slow.weight.data_ptr() != model.weight.data_ptr()
    assert not any(p.requires_grad for p in slow.parameters())
    assert all(p.requires_grad for p in model.parameters())


def test_what_the_copy_does_not_have_is_passed_over() -> None:
    model = nn.ModuleDict({"kept": nn.Linear(2, 2), "dropped": nn.Linear(2, 2)})
    slow = slow_copy(model)
    del slow["dropped"]
    model["kept"].weight.data.zero_()
    follow(slow, model, 0.0)
    assert not slow["kept"].weight.any()


def test_a_queue_begins_with_unit_vectors() -> None:
    queue = Queue(5, 4)
    for rows in (queue.images, queue.texts):
        torch.testing.assert_close(rows.norm(dim=1), torch.ones(5))
    assert not torch.equal(queue.images, queue.texts)
    assert {"images", "texts", "place"} == queue.state_dict().keys()


@pytest.mark.parametrize("batches", [[2], [2, 2, 2], [3, 3, 3], [1, 4, 2, 3], [5], [7], [12, 1], [2, 13]])
def test_a_queue_holds_the_last_pairs(batches: list[int]) -> None:
    """Against a list: whatever the batch, and also where it is no divisor of the size, or larger."""
    queue, size, kept = Queue(5, 1), 5, []
    kept = [(a, b) for a, b in zip(queue.images.flatten().tolist(), queue.texts.flatten().tolist(), strict=True)]
    for step, n in enumerate(batches):
        rows = torch.arange(n, dtype=torch.float32)[:, None] + 100 * (step + 1)
        queue.push(rows, -rows)
        kept += [(r, -r) for r in rows.flatten().tolist()]
    first = int(queue.place)
    order = [(first + i) % size for i in range(size)]  # from the oldest
    found = [(queue.images[i].item(), queue.texts[i].item()) for i in order]
    assert found == kept[-size:]
    assert not queue.images.requires_grad


def test_a_queue_takes_values_and_no_graph() -> None:
    queue, rows = Queue(4, 2), torch.randn(3, 2, dtype=torch.bfloat16, requires_grad=True)
    queue.push(rows, rows)
    assert queue.images.dtype == torch.float32
    assert not queue.images.requires_grad
    torch.testing.assert_close(queue.images[:3], rows.detach().float())


def test_an_empty_queue_stays_empty() -> None:
    queue = Queue(0, 2)
    queue.push(torch.ones(3, 2), torch.ones(3, 2))
    assert queue.images.shape == (0, 2)


def test_example_in_the_docstring() -> None:
    found = doctest.testmod(momentum)
    assert found.failed == 0
    assert found.attempted >= 4
