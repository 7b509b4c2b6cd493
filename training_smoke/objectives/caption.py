"""Captions: the next token of a text, from a picture and what was said before it."""

from __future__ import annotations

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from training_smoke.families.base import token_mean
from training_smoke.objectives.pairs import wide

IGNORED = -100
"""The label of a place that says nothing to the loss, as torch and transformers have it."""

HELD = 2**28
"""Logits that are there at a time where a loss makes them itself: 1 GB in fp32."""


def caption_loss(
    logits: Tensor, labels: Tensor, *, smoothing: float = 0.0, world: dist.ProcessGroup | None = None
) -> Tensor:
    """Cross-entropy of tokens, the mean over all labelled places of the global batch.

        loss = -1/M sum_m [ (1 - e) log p_m(label_m) + e/V sum_v log p_m(v) ],    p = softmax(logits),  e = smoothing

    so that a token of a long caption counts as much as one of a short one, and a rank with short captions less than
    another. Vinyals et al. 2015 (arXiv:1411.4555), eq. 2; smoothing of Szegedy et al. 2016 (arXiv:1512.00567), section
    7, as BLIP has it (e = 0.1).

    Args:
        logits: [..., vocabulary], of the token that stands in `labels`: whoever has texts shifts them (`next_labels`);
            any float type, the loss is computed in at least fp32
        labels: int64 [...]; IGNORED (-100) where there is nothing to predict
        smoothing: the share of the target that is spread over the whole vocabulary, in [0, 1)
        world: the processes over which the global batch lies, with any number of labelled places; None: all is here

    Returns:
        Scalar; 0 where no place is labelled. Its mean over the ranks of `world` is the loss of the global batch, and so
        with gradients.

    Raises:
        ValueError: labels that are not of these logits

    >>> logits = torch.tensor([[2.0, 1, 0, -1, 0], [0, 3, 0, 0, 1], [1, 1, 1, 1, 1]])
    >>> round(caption_loss(logits, torch.tensor([0, 1, -100])).item(), 6)
    0.387133
    >>> round(caption_loss(logits, torch.tensor([0, 1, -100]), smoothing=0.1).item(), 6)
    0.577133
    """
    _check(logits, labels)
    sums = _sum(logits, labels, smoothing)
    with torch.autocast(logits.device.type, enabled=False):
        return token_mean(sums, (labels != IGNORED).sum(), world)


def caption_loss_of(
    hidden: Tensor,
    head: nn.Linear,
    labels: Tensor,
    *,
    smoothing: float = 0.0,
    world: dist.ProcessGroup | None = None,
    held: int = HELD,
) -> Tensor:
    """`caption_loss` of head(hidden), of whose logits no more than `held` are there at a time: where they are more,
    they are made again for the gradient. (4,096 texts of 63 tokens, 32,768 words: 34 GB a copy in fp32.)

    Args:
        hidden: [..., width]; head: to logits, with the vocabulary as out_features; labels: int64 [...]

    >>> head = nn.Linear(3, 5)
    >>> hidden, labels = torch.randn(4, 2, 3), torch.tensor([[0, 1], [2, -100], [3, 4], [-100, -100]])
    >>> whole, parts = caption_loss(head(hidden), labels), caption_loss_of(hidden, head, labels, held=15)
    >>> torch.allclose(whole, parts)
    True
    """
    rows, wanted = hidden.flatten(0, -2), labels.flatten()
    at_once = max(1, held // head.out_features)
    if len(rows) <= at_once:
        return caption_loss(head(rows), wanted, smoothing=smoothing, world=world)
    sums = [
        checkpoint(_sum_of, some, head, said, smoothing, use_reentrant=False)
        for some, said in zip(rows.split(at_once), wanted.split(at_once), strict=True)
    ]
    return token_mean(torch.stack(sums).sum(), (labels != IGNORED).sum(), world)


def _sum_of(hidden: Tensor, head: nn.Linear, labels: Tensor, smoothing: float) -> Tensor:
    return _sum(head(hidden), labels, smoothing)


def _sum(logits: Tensor, labels: Tensor, smoothing: float) -> Tensor:
    with torch.autocast(logits.device.type, enabled=False):
        return F.cross_entropy(
            wide(logits).flatten(0, -2),
            labels.flatten(),
            ignore_index=IGNORED,
            reduction="sum",
            label_smoothing=smoothing,
        )


def caption_losses(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Of each text: (minus its log likelihood in nats, float [n]; how many tokens that is the sum over, int64 [n]).

    Args:
        logits: [n, t, vocabulary]; any float type, computed in at least fp32
        labels: int64 [n, t]; IGNORED where there is nothing to predict

    Raises:
        ValueError: labels that are not of these logits

    >>> logits = torch.tensor([[[2.0, 1, 0, -1, 0], [0, 3, 0, 0, 1], [1, 1, 1, 1, 1]]])
    >>> sums, counts = caption_losses(logits, torch.tensor([[0, 1, -100]]))
    >>> round(sums.item(), 4), counts.item()
    (0.7743, 2)
    """
    _check(logits, labels)
    with torch.autocast(logits.device.type, enabled=False):
        each = F.cross_entropy(wide(logits).transpose(1, 2), labels, ignore_index=IGNORED, reduction="none")
    return each.sum(dim=1), (labels != IGNORED).sum(dim=1)


def next_labels(tokens: Tensor, pad: int) -> Tensor:
    """What each place but the last has to say: the token after it, IGNORED where that is `pad`.

    Args:
        tokens: int64 [n, t], what is behind a text's end is `pad`, which is no token of any text

    Returns:
        int64 [n, t - 1], for the logits of places 0 to t - 2
    """
    after = tokens[:, 1:]
    return after.masked_fill(after == pad, IGNORED)


def _check(logits: Tensor, labels: Tensor) -> None:
    places = logits.shape[:-1]
    if not places or places != labels.shape:
        raise ValueError(f"labels must be {list(places)}, one for each row of logits, not {list(labels.shape)}")
