"""ITC: image-text contrast against a momentum encoder's features, of the batch and of a queue, with soft targets."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor

from training_smoke.objectives.gather import Shards
from training_smoke.objectives.pairs import false_negatives, paired, wide


class Contrast(NamedTuple):
    """loss: scalar. image_to_text, text_to_image: [batch, global batch], similarities / tau of this rank's rows with
    the momentum features of the global batch, without gradient: what hard negatives are drawn by."""

    loss: Tensor
    image_to_text: Tensor
    text_to_image: Tensor


def itc_loss(
    image_features: Tensor,
    text_features: Tensor,
    momentum_images: Tensor,
    momentum_texts: Tensor,
    tau: Tensor,
    *,
    alpha: float = 0.0,
    image_queue: Tensor | None = None,
    text_queue: Tensor | None = None,
    groups: Tensor | None = None,
    world: dist.ProcessGroup | None = None,
) -> Contrast:
    """Contrast of each picture with momentum features of texts, and of each text with those of pictures.

        loss = 1/2 [ mean_i H(q_i, softmax(I_i . T* / tau)) + mean_j H(r_j, softmax(T_j . I* / tau)) ]
        q_i  = alpha softmax(I'_i . T* / tau) + (1 - alpha) onehot(i),      T* = texts of the batch ', then the queue
        r_j  = alpha softmax(T'_j . I* / tau) + (1 - alpha) onehot(j),      I* = pictures likewise

    where ' are features of the momentum encoders and H(q, p) = -sum_k q_k log p_k. Li et al. 2021 (ALBEF,
    arXiv:2107.07651), eq. 1, 2 and 6; Li et al. 2022 (BLIP, arXiv:2201.12086), section 3.2. No gradient goes into ' and
    queues, nor through tau into q and r. The batch is the global one: the references take each rank's own.

    Args:
        image_features: [batch, dim], rows of unit length; any float type, the loss is computed in at least fp32
        text_features: [batch, dim], likewise; row i belongs to row i of image_features
        momentum_images, momentum_texts: [batch, dim], of the same pictures and texts
        tau: temperature, a scalar or [1], above 0
        alpha: how much of the target is the momentum encoders' own opinion, in [0, 1]
        image_queue, text_queue: [queue, dim], features of earlier batches: the same on all ranks; None: none
        groups: int64 [batch]; of two different samples of one group neither is a candidate of the other
        world: the processes over which the global batch lies, equally many rows on each; None: all of it is here

    Returns:
        `Contrast`. The mean of its loss over the ranks of `world` is that of the global batch, and so with gradients.

    Raises:
        ValueError: shapes that are not of the same pairs, an alpha outside of [0, 1]

    >>> from torch.nn.functional import normalize
    >>> images = torch.tensor([[0.6, 0.8], [1.0, 0.0], [0.0, 1.0]])
    >>> texts = normalize(torch.tensor([[0.8, 0.6], [1.0, 1.0], [-1.0, 1.0]]))
    >>> momentum_images = torch.tensor([[0.8, 0.6], [1.0, 0.0], [0.0, 1.0]])
    >>> momentum_texts = normalize(torch.tensor([[0.6, 0.8], [1.0, 1.0], [-1.0, 2.0]]))
    >>> queues = {"image_queue": torch.tensor([[-1.0, 0.0]]), "text_queue": torch.tensor([[0.0, -1.0]])}
    >>> tau = torch.tensor(0.07)
    >>> round(itc_loss(images, texts, momentum_images, momentum_texts, tau, alpha=0.4, **queues).loss.item(), 6)
    0.815146
    """
    images, texts = paired(image_features, text_features, groups)
    pairs = paired(momentum_images.detach(), momentum_texts.detach(), None)
    if pairs[0].shape != images.shape:
        raise ValueError(f"momentum features must be {list(images.shape)}, not {list(pairs[0].shape)}")
    if not 0 <= alpha <= 1:
        raise ValueError(f"alpha must lie in [0, 1], not {alpha}")
    shards = Shards(world)
    with torch.autocast(images.device.type, enabled=False):
        temperature = shards.replicated(wide(tau))
        positives = shards.row_numbers(images)  # [batch]
        left_out = None if groups is None else false_negatives(groups, shards.gather(groups), positives)

        def one_way(queries: Tensor, teacher: Tensor, others: Tensor, queue: Tensor | None) -> tuple[Tensor, Tensor]:
            batch = shards.gather(others)  # [global batch, dim]
            candidates = batch if queue is None else torch.cat([batch, wide(queue)])
            logits = _without(queries @ candidates.T / temperature, left_out)  # [batch, global batch + queue]
            opinion = _without(teacher @ candidates.T / temperature.detach(), left_out)
            loss = _soft_cross_entropy(logits, opinion, positives, alpha)
            return loss, logits.detach()[:, : len(batch)]

        image_loss, image_to_text = one_way(images, pairs[0], pairs[1], text_queue)
        text_loss, text_to_image = one_way(texts, pairs[1], pairs[0], image_queue)
        return Contrast((image_loss + text_loss) / 2, image_to_text, text_to_image)


def _without(logits: Tensor, left_out: Tensor | None) -> Tensor:
    """Logits [batch, candidates], -inf where left_out, bool [batch, the first so many candidates], says so."""
    if left_out is None:
        return logits
    beside = logits.shape[1] - left_out.shape[1]
    return logits.masked_fill(torch.nn.functional.pad(left_out, (0, beside)), -torch.inf)


def _soft_cross_entropy(logits: Tensor, opinion: Tensor, positives: Tensor, alpha: float) -> Tensor:
    """The mean over rows of cross-entropy with alpha softmax(opinion) + (1 - alpha) onehot(positives)."""
    log_odds = logits.log_softmax(dim=1)
    hard = -log_odds.gather(1, positives[:, None]).squeeze(1)  # [batch]
    if alpha == 0:
        return hard.mean()
    # What is left out is 0 in the target and -inf here: 0 times it would be NaN.
    soft = -(opinion.softmax(dim=1) * log_odds.masked_fill(logits == -torch.inf, 0)).sum(dim=1)
    return (alpha * soft + (1 - alpha) * hard).mean()
