"""MLM: the words that were hidden, with a momentum model's opinion of them beside the truth."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor

from training_smoke.families.base import token_mean
from training_smoke.objectives.pairs import wide

SEEN = -100
"""The label of a place that was not hidden."""


class Hidden(NamedTuple):
    """tokens: what the model is shown; labels: what it has to say, SEEN elsewhere. Both int64, as the texts."""

    tokens: Tensor
    labels: Tensor


def hidden(tokens: Tensor, keep: Tensor, uniform: Tensor, *, mask: int, vocabulary: int, share: float = 0.15) -> Hidden:
    """Hide some tokens: of those 8 in 10 behind `mask`, 1 in 10 behind any token, and 1 in 10 not at all.

    Devlin et al. 2018 (BERT, arXiv:1810.04805), section 3.1, task 1.

    Args:
        tokens: int64 [batch, t]
        keep: bool [batch, t], places that are never hidden
        uniform: float [batch, t, 3], in [0, 1): whether, how, and which token
        mask: the token that hides
        vocabulary: how many tokens there are
        share: of tokens that are hidden

    >>> draws = torch.tensor([[[0.9, 0, 0], [0.1, 0.5, 0], [0.1, 0.85, 0.5], [0.1, 0.95, 0]]])
    >>> hidden(torch.tensor([[1, 7, 8, 9]]), torch.zeros(1, 4).bool(), draws, mask=3, vocabulary=40)
    Hidden(tokens=tensor([[ 1,  3, 20,  9]]), labels=tensor([[-100,    7,    8,    9]]))
    """
    chosen = (uniform[..., 0] < share) & ~keep
    masked, swapped = uniform[..., 1] < 0.8, uniform[..., 1] < 0.9
    any_token = (uniform[..., 2] * vocabulary).long().clamp(max=vocabulary - 1)
    shown = torch.where(masked, mask, torch.where(swapped, any_token, tokens))
    return Hidden(torch.where(chosen, shown, tokens), tokens.masked_fill(~chosen, SEEN))


def mlm_loss(
    logits: Tensor,
    labels: Tensor,
    opinion: Tensor | None = None,
    *,
    alpha: float = 0.0,
    world: dist.ProcessGroup | None = None,
) -> Tensor:
    """Cross-entropy of hidden tokens with the truth and with a momentum model's opinion, the mean over hidden tokens of
    the global batch.

        loss = -1/M sum_m [ (1 - alpha) log p_m(label_m) + alpha sum_v q_m(v) log p_m(v) ],    p, q = softmax of both

    Li et al. 2021 (ALBEF, arXiv:2107.07651), eq. 3 and 7. No gradient goes into the opinion.

    Args:
        logits: [..., vocabulary]; any float type, the loss is computed in at least fp32
        labels: int64 [...]; SEEN (-100) where nothing was hidden
        opinion: logits of the momentum model at the same places, [..., vocabulary]; None: alpha counts for nothing
        alpha: in [0, 1]
        world: the processes over which the global batch lies, with any number of hidden tokens; None: all is here

    Returns:
        Scalar; 0 where nothing was hidden. Its mean over the ranks of `world` is the loss of the global batch, and so
        with gradients.

    Raises:
        ValueError: shapes that do not belong together, an alpha outside of [0, 1]

    >>> logits = torch.tensor([[2.0, 1, 0, -1, 0], [0, 3, 0, 0, 1], [1, 1, 1, 1, 1]])
    >>> labels = torch.tensor([0, 1, -100])
    >>> round(mlm_loss(logits, labels).item(), 6)
    0.387133
    >>> round(mlm_loss(logits, labels, torch.zeros(3, 5), alpha=0.5).item(), 6)
    1.337133
    """
    if logits.shape[:-1] != labels.shape or (opinion is not None and opinion.shape != logits.shape):
        raise ValueError(f"logits {list(logits.shape)} must have a row for each of labels {list(labels.shape)}")
    if not 0 <= alpha <= 1:
        raise ValueError(f"alpha must lie in [0, 1], not {alpha}")
    with torch.autocast(logits.device.type, enabled=False):
        there = labels != SEEN
        log_odds = wide(logits).log_softmax(dim=-1)
        hard = -log_odds.gather(-1, labels.clamp(min=0)[..., None]).squeeze(-1)  # [...]
        each = hard
        if opinion is not None and alpha > 0:
            soft = -(wide(opinion.detach()).softmax(dim=-1) * log_odds).sum(dim=-1)
            each = alpha * soft + (1 - alpha) * hard
        return token_mean(each.masked_fill(~there, 0).sum(), there.sum(), world)
