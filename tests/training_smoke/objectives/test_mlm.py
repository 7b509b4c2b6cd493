"""MLM: which tokens are hidden and how, and the loss against its definition."""

from __future__ import annotations

import doctest
import math

import pytest
import torch

from training_smoke.objectives import mlm
from training_smoke.objectives.caption import caption_loss
from training_smoke.objectives.mlm import SEEN, hidden, mlm_loss

LOGITS = torch.tensor([[2, 1, 0, -1, 0], [0, 3, 0, 0, 1], [1, 1, 1, 1, 1]], dtype=torch.float64)
LABELS = torch.tensor([0, 1, SEEN])


def test_value() -> None:
    """The table's caption case, as without an opinion it is the same sum."""
    assert mlm_loss(LOGITS, LABELS).item() == pytest.approx(0.387133, abs=5e-7)
    torch.testing.assert_close(mlm_loss(LOGITS, LABELS), caption_loss(LOGITS, LABELS))


def test_an_opinion_of_nothing_is_smoothing() -> None:
    """Equal odds for all tokens: what label smoothing takes for its target."""
    found = mlm_loss(LOGITS, LABELS, torch.zeros(3, 5), alpha=0.1).item()
    assert found == pytest.approx(0.577133, abs=5e-7)


@pytest.mark.parametrize("alpha", [0.0, 0.3, 1.0])
def test_is_its_definition_by_hand(alpha: float) -> None:
    draws = torch.Generator().manual_seed(0)
    logits, opinion = (3 * torch.randn(2, 4, 6, dtype=torch.float64, generator=draws) for _ in range(2))
    labels = torch.tensor([[2, SEEN, 5, SEEN], [SEEN, 0, SEEN, SEEN]])
    total, count = 0.0, 0
    for row, other, label in zip(
        logits.view(-1, 6).tolist(), opinion.view(-1, 6).tolist(), labels.flatten().tolist(), strict=True
    ):
        if label != SEEN:
            p, q = ([math.exp(x) / sum(map(math.exp, some)) for x in some] for some in (row, other))
            soft = -sum(b * math.log(a) for a, b in zip(p, q, strict=True))
            total, count = total - (1 - alpha) * math.log(p[label]) + alpha * soft, count + 1
    assert mlm_loss(logits, labels, opinion, alpha=alpha).item() == pytest.approx(total / count, rel=1e-12)


def test_nothing_hidden_costs_nothing_and_an_opinion_learns_nothing() -> None:
    logits, opinion = LOGITS.clone().requires_grad_(), torch.zeros(3, 5).requires_grad_()
    assert mlm_loss(logits, torch.full((3,), SEEN)).item() == 0
    assert mlm_loss(logits[:0], LABELS[:0]).item() == 0
    mlm_loss(logits, LABELS, opinion, alpha=0.5).backward()
    assert opinion.grad is None
    assert logits.grad is not None
    assert not logits.grad[2].any()


def test_shares_of_what_is_hidden() -> None:
    """15 in 100 tokens; of those 80 masked, 10 another token, 10 as they were."""
    tokens, n = torch.full((1000, 40), 7), 40_000
    keep = torch.zeros(1000, 40, dtype=torch.bool)
    keep[:, 0] = True
    found = hidden(
        tokens, keep, torch.rand(1000, 40, 3, generator=torch.Generator().manual_seed(0)), mask=3, vocabulary=500
    )
    chosen = found.labels != SEEN
    assert not chosen[:, 0].any()
    assert chosen.sum().item() / (n * 39 / 40) == pytest.approx(0.15, abs=0.01)
    shown = found.tokens[chosen]
    assert (shown == 3).float().mean().item() == pytest.approx(0.8, abs=0.02)
    assert (shown == 7).float().mean().item() == pytest.approx(0.1, abs=0.02)
    assert len(shown.unique()) > 200
    assert (found.labels[chosen] == 7).all()
    assert torch.equal(found.tokens[~chosen], tokens[~chosen])


def test_what_does_not_belong_together_is_refused() -> None:
    with pytest.raises(ValueError, match="must have a row"):
        mlm_loss(LOGITS, LABELS[:2])
    with pytest.raises(ValueError, match="must have a row"):
        mlm_loss(LOGITS, LABELS, LOGITS[:2], alpha=0.5)
    with pytest.raises(ValueError, match="alpha must lie"):
        mlm_loss(LOGITS, LABELS, LOGITS, alpha=-0.1)


def test_examples_in_the_docstrings() -> None:
    found = doctest.testmod(mlm)
    assert found.failed == 0
    assert found.attempted >= 4
