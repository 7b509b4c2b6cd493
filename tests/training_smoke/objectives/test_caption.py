"""The caption loss: values of the specification's table, the definition as loops, and several processes."""

from __future__ import annotations

import doctest
import math

import pytest
import torch
from torch import Tensor

import training_smoke.objectives.caption as caption
from training_smoke.objectives.caption import caption_loss, caption_loss_of, caption_losses, next_labels

LOGITS = torch.tensor([[2, 1, 0, -1, 0], [0, 3, 0, 0, 1], [1, 1, 1, 1, 1]], dtype=torch.float64)
LABELS = torch.tensor([0, 1, -100])


def by_loops(logits: Tensor, labels: Tensor, smoothing: float = 0.0) -> tuple[float, int]:
    """(sum, count) over labelled places, from the definition: minus the log of a share of exponentials."""
    total, count = 0.0, 0
    for row, label in zip(logits.flatten(0, -2).tolist(), labels.flatten().tolist(), strict=True):
        if label == -100:
            continue
        whole = sum(math.exp(x) for x in row)
        surprise = [-math.log(math.exp(x) / whole) for x in row]
        total += (1 - smoothing) * surprise[label] + smoothing * sum(surprise) / len(row)
        count += 1
    return total, count


def random_case(seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(4, 7, 9, dtype=torch.float64, generator=generator)
    labels = torch.randint(0, 9, (4, 7), generator=generator)
    return logits, labels.masked_fill(torch.rand(4, 7, generator=generator) < 0.4, -100)


@pytest.mark.parametrize(("smoothing", "expected"), [(0.0, 0.387133), (0.1, 0.577133)])
def test_value(smoothing: float, expected: float) -> None:
    total, count = by_loops(LOGITS, LABELS, smoothing)
    assert total / count == pytest.approx(expected, abs=5e-7)
    assert caption_loss(LOGITS, LABELS, smoothing=smoothing).item() == pytest.approx(expected, abs=5e-7)


def test_three_copies_cost_the_same() -> None:
    """As in the specification's case of CoCa, where twice this is added."""
    three = caption_loss(LOGITS.expand(3, 3, 5), LABELS.expand(3, 3))
    assert 2 * three.item() == pytest.approx(0.774267, abs=5e-7)


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.5])
def test_the_definition(smoothing: float) -> None:
    for seed in range(5):
        logits, labels = random_case(seed)
        total, count = by_loops(logits, labels, smoothing)
        assert caption_loss(logits, labels, smoothing=smoothing).item() == pytest.approx(total / count, rel=1e-12)


def test_of_each_text() -> None:
    logits, labels = random_case()
    sums, counts = caption_losses(logits, labels)
    for row in range(len(logits)):
        total, count = by_loops(logits[row], labels[row])
        assert (sums[row].item(), counts[row].item()) == (pytest.approx(total, rel=1e-12), count)
    assert (sums.sum() / counts.sum()).item() == pytest.approx(caption_loss(logits, labels).item(), rel=1e-12)


def test_places_without_a_label_have_no_gradient() -> None:
    logits, labels = random_case()
    logits.requires_grad_()
    caption_loss(logits, labels, smoothing=0.1).backward()
    assert logits.grad is not None
    assert (logits.grad.abs().sum(dim=2) > 0).equal(labels != -100)


def test_no_label_at_all_is_no_loss() -> None:
    logits = LOGITS.clone().requires_grad_()
    loss = caption_loss(logits, torch.full((3,), -100))
    loss.backward()
    assert loss.item() == 0
    assert logits.grad is not None
    assert not logits.grad.any()


def test_low_precision_is_widened() -> None:
    logits, labels = random_case()
    low = logits.to(torch.bfloat16)
    with torch.autocast("cpu", torch.bfloat16):
        loss = caption_loss(low, labels)
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(caption_loss(low.double(), labels).item(), rel=1e-6)


def test_labels_are_the_tokens_after() -> None:
    tokens = torch.tensor([[1, 7, 8, 2, 0, 0], [1, 2, 0, 0, 0, 0]])
    assert next_labels(tokens, pad=0).tolist() == [[7, 8, 2, -100, -100], [2, -100, -100, -100, -100]]


def test_shapes_that_do_not_fit() -> None:
    with pytest.raises(ValueError, match=r"labels must be \[3\], one for each row of logits, not \[2\]"):
        caption_loss(LOGITS, LABELS[:2])
    with pytest.raises(ValueError, match="labels must be"):
        caption_losses(LOGITS[None], LABELS)


def test_examples() -> None:
    found = doctest.testmod(caption)
    assert found.attempted >= 4
    assert not found.failed


@pytest.mark.parametrize(("held", "heads"), [(10**6, 1), (7 * 11, 3), (1, 20)])
def test_logits_a_part_at_a_time_are_those_at_once(held: int, heads: int) -> None:
    """Loss and gradients in double precision; how often the head is asked in the forward pass."""
    draws = torch.Generator().manual_seed(0)
    hidden = torch.randn(5, 4, 3, generator=draws, dtype=torch.float64, requires_grad=True)
    labels = torch.randint(0, 11, (5, 4), generator=draws).masked_fill(torch.rand(5, 4, generator=draws) < 0.3, -100)
    head = torch.nn.Linear(3, 11).double()
    asked: list[int] = []
    head.register_forward_hook(lambda module, given, out: asked.append(out.numel()))
    found = caption_loss_of(hidden, head, labels, smoothing=0.1, held=held)
    assert len(asked) == heads
    assert max(asked) <= max(held, 11)
    whole = caption_loss(head(hidden), labels, smoothing=0.1)
    torch.testing.assert_close(found, whole, rtol=0, atol=1e-14)
    of = (hidden, *head.parameters())
    for a, b in zip(torch.autograd.grad(found, of), torch.autograd.grad(whole, of), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-14)
