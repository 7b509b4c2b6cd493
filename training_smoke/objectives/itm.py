"""ITM: does this text belong to this picture? Asked of true pairs, and of wrong ones that look alike."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor

from training_smoke.families.base import token_mean
from training_smoke.objectives.gather import Shards
from training_smoke.objectives.itc import Contrast
from training_smoke.objectives.pairs import false_negatives, wide

NO_PAIR = -100
"""The label of a row that says nothing to the loss: there was no negative to be had."""


class Negatives(NamedTuple):
    """images: where in the global batch the wrong picture of each text lies, int64 [batch]; texts: the wrong text of
    each picture. labels: int64 [3 batch], of true pairs, of texts with wrong pictures, of pictures with wrong texts.
    """

    images: Tensor
    texts: Tensor
    labels: Tensor


def hard_negatives(
    contrast: Contrast,
    uniform: Tensor,
    *,
    groups: Tensor | None = None,
    floor: float = 1e-4,
    world: dist.ProcessGroup | None = None,
) -> Negatives:
    """A wrong picture for each text of this process and a wrong text for each picture, out of the global batch.

    Args:
        contrast: similarities, of `itc_loss`
        uniform: float [batch, 2] in [0, 1): draws for the pictures and for the texts
        groups: int64 [batch]; a duplicate is no negative
        floor: as of `negative_weights`
        world: the processes over which the global batch lies; None: all of it is here

    >>> similarity = torch.tensor([[2.0, 1, 0], [0, 2, 1], [1, 0, 2]])
    >>> contrast = Contrast(torch.tensor(0.0), similarity, similarity.T)
    >>> hard_negatives(contrast, torch.tensor([[0.0, 0.0], [0.9, 0.9], [0.5, 0.5]]))
    Negatives(images=tensor([2, 2, 1]), texts=tensor([1, 0, 0]), labels=tensor([1, 1, 1, 0, 0, 0, 0, 0, 0]))
    """
    shards = Shards(world)
    rows = shards.row_numbers(uniform)
    all_groups = None if groups is None else shards.gather(groups)

    def partners(similarity: Tensor, draws: Tensor) -> tuple[Tensor, Tensor]:
        weights = negative_weights(similarity, rows, groups=groups, all_groups=all_groups, floor=floor)
        found, there = drawn(weights, draws)
        return found, torch.where(there, 0, NO_PAIR)

    images, of_texts = partners(contrast.text_to_image, uniform[:, 0])
    texts, of_images = partners(contrast.image_to_text, uniform[:, 1])
    return Negatives(images, texts, torch.cat([torch.ones_like(rows), of_texts, of_images]))


def negative_weights(
    similarity: Tensor,
    row_numbers: Tensor,
    *,
    groups: Tensor | None = None,
    all_groups: Tensor | None = None,
    floor: float = 1e-4,
) -> Tensor:
    """How likely each candidate is to be drawn as the wrong partner of a row, before normalising.

        weight_ij = softmax(similarity_i)_j + floor, and 0 where j is i or a duplicate of it

    The more alike, the likelier; the floor keeps a softmax that sees one candidate only from leaving no other. Li et
    al. 2021 (ALBEF, arXiv:2107.07651), section 3.2, "contrastive similarity"; the floor is of BLIP's code (ALBEF: 0).

    Args:
        similarity: [batch, global batch], over temperature, as the contrastive loss has it; any float type
        row_numbers: int64 [batch], where these rows lie in the global batch
        groups, all_groups: int64 [batch] and [global batch]: samples of one group are duplicates; None: there are none
        floor: at least 0

    Returns:
        [batch, global batch], at least fp32, without gradient; a row of zeros where all others are duplicates.

    Raises:
        ValueError: shapes that do not belong together

    >>> similarity = torch.tensor([[2.0, 1, 0], [0, 2, 1], [1, 0, 2]])
    >>> [round(weight, 6) for weight in negative_weights(similarity, torch.arange(3))[0].tolist()]
    [0.0, 0.244828, 0.090131]
    """
    if similarity.ndim != 2 or row_numbers.shape != similarity.shape[:1]:
        raise ValueError(f"similarity {list(similarity.shape)} must have a row for each of {list(row_numbers.shape)}")
    weights = wide(similarity.detach()).softmax(dim=1) + floor
    if groups is not None and all_groups is not None:
        if groups.shape != row_numbers.shape or all_groups.shape != similarity.shape[1:]:
            raise ValueError(f"groups {list(groups.shape)} of {list(all_groups.shape)} must be one for each sample")
        weights = weights.masked_fill(false_negatives(groups, all_groups, row_numbers), 0)
    return weights.scatter(1, row_numbers[:, None], 0)


def drawn(weights: Tensor, uniform: Tensor) -> tuple[Tensor, Tensor]:
    """One candidate for each row, with the probability of its weight: where the cumulative weight passes a draw.

    Candidates are gone through from the heaviest, so that what is drawn does not depend on their order in the batch.

    Args:
        weights: float [batch, candidates], at least 0, any sum. uniform: float [batch], in [0, 1): the draws.

    Returns:
        (int64 [batch], bool [batch]): the candidate, never one of weight 0; whether there was any to draw.

    >>> drawn(torch.tensor([[0.0, 3, 1], [0, 0, 0]]), torch.tensor([0.8, 0.8]))
    (tensor([2, 0]), tensor([ True, False]))
    """
    heaviest, order = weights.double().sort(dim=1, descending=True, stable=True)  # [batch, candidates] both
    upto = heaviest.cumsum(dim=1)
    total = upto[:, -1:]
    there = total.squeeze(1) > 0
    place = torch.searchsorted(upto, uniform.double()[:, None] * total, right=True)  # [batch, 1]
    return order.gather(1, place.masked_fill(~there[:, None], 0)).squeeze(1), there


def itm_loss(logits: Tensor, labels: Tensor, *, world: dist.ProcessGroup | None = None) -> Tensor:
    """Cross-entropy of matching, the mean over all pairs of the global batch, true and wrong ones alike.

        loss = 1/M sum_m -log softmax(logits_m)[label_m]

    Li et al. 2021 (ALBEF, arXiv:2107.07651), eq. 4. With a hard negative text for each picture and a hard negative
    picture for each text, a third of the pairs are true.

    Args:
        logits: [pairs, 2], of (no, yes); any float type, the loss is computed in at least fp32
        labels: int64 [pairs]: 1 a true pair, 0 a wrong one, NO_PAIR (-100) none
        world: the processes over which the global batch lies, with any number of pairs; None: all is here

    Returns:
        Scalar; 0 without any pair. Its mean over the ranks of `world` is the loss of the global batch, and so with
        gradients.

    Raises:
        ValueError: labels that are not of these logits

    >>> logits = torch.tensor([[-1.0, 1], [0.5, -0.5], [2, 0]])
    >>> round(itm_loss(logits, torch.tensor([1, 0, 0])).item(), 6)
    0.189039
    """
    if logits.ndim != 2 or logits.shape[1] != 2 or labels.shape != logits.shape[:1]:
        raise ValueError(f"logits must be [pairs, 2], not {list(logits.shape)} with labels {list(labels.shape)}")
    with torch.autocast(logits.device.type, enabled=False):
        sums = F.cross_entropy(wide(logits), labels, ignore_index=NO_PAIR, reduction="sum")
        return token_mean(sums, (labels != NO_PAIR).sum(), world)


def balanced(logits: Tensor) -> Tensor:
    """Logits [n, 2] of (no, yes) -> the probability of yes where as many pairs are true as are wrong: float32 [n].

    In training two are wrong for each true one, so that the softmax of a model that cannot tell them is 1/3.

    >>> [round(p, 4) for p in balanced(torch.tensor([[2.0, 1.0], [1.0, 1.0]]).log()).tolist()]
    [0.5, 0.6667]
    """
    yes, no = logits.float().unbind(dim=1)[::-1]
    return (yes - no + math.log(2)).sigmoid()
