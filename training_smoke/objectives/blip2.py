"""BLIP-2's first stage: a picture is several queries' vectors, and the one that is nearest to a text speaks for it."""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor

from training_smoke.objectives.gather import Shards
from training_smoke.objectives.itc import Contrast
from training_smoke.objectives.itm import drawn, negative_weights
from training_smoke.objectives.pairs import false_negatives, wide

OUT_OF_THE_QUESTION = -10_000.0
"""The logit of what is not to be drawn, as in LAVIS: where nothing else is left, a softmax of it is no NaN."""


def query_contrast(
    query_features: Tensor,
    text_features: Tensor,
    tau: Tensor,
    *,
    smoothing: float = 0.1,
    groups: Tensor | None = None,
    world: dist.ProcessGroup | None = None,
) -> Contrast:
    """Contrast of pictures and texts in the batch, where a picture is as near to a text as its nearest query.

        loss = 1/2 [ mean_i H(q_i, softmax(s_i: / tau)) + mean_j H(q_j, softmax(s_:j / tau)) ]
        s_ij = max_k queries_ik . texts_j,    q_i = (1 - e) onehot(i) + e uniform(candidates),    e = smoothing

    where H(q, p) = -sum_k q_k log p_k. Li et al. 2023 (BLIP-2, arXiv:2301.12597), section 3.2; LAVIS,
    blip2_qformer.py, which takes other ranks' features without gradient: here they have theirs.

    Args:
        query_features: [batch, queries, dim], vectors of unit length; any float type, computed in at least fp32
        text_features: [batch, dim], likewise; row i belongs to row i of query_features
        tau: temperature, a scalar or [1], above 0
        smoothing: the share of the target that is spread over all candidates, the right one included, in [0, 1)
        groups: int64 [batch]; of two different samples of one group neither is a candidate of the other
        world: the processes over which the global batch lies, equally many rows on each; None: all of it is here

    Returns:
        `Contrast`: the loss, whose mean over the ranks of `world` is that of the global batch, and so with gradients;
        and what `hard_negatives` draws by.

    Raises:
        ValueError: shapes that are not of the same pairs, a smoothing outside of [0, 1)

    >>> from torch.nn.functional import normalize
    >>> queries = torch.tensor([[[0.6, 0.8], [1, 0]], [[1, 0], [0, 1]], [[0, 1], [-1, 0]]])
    >>> texts = normalize(torch.tensor([[0.8, 0.6], [1.0, 1.0], [-1.0, 1.0]]))
    >>> round(query_contrast(queries, texts, torch.tensor(0.07)).loss.item(), 6)
    1.518935
    """
    _check(query_features, text_features, groups, smoothing)
    queries, texts = wide(query_features), wide(text_features)
    shards = Shards(world)
    with torch.autocast(queries.device.type, enabled=False):
        temperature = shards.replicated(wide(tau))
        image_to_text = nearest(queries, shards.gather(texts)) / temperature  # [batch, global batch]
        # One process has all pairs in the first matrix; one of several has its own rows of two.
        everyone = image_to_text if world is None else nearest(shards.gather(queries), texts) / temperature
        text_to_image = everyone.T  # [batch, global batch]
        positives = shards.row_numbers(queries)  # [batch]
        left_out = torch.zeros_like(image_to_text, dtype=torch.bool)
        if groups is not None:
            left_out = false_negatives(groups, shards.gather(groups), positives)
        losses = [_smoothed(logits, positives, left_out, smoothing) for logits in (image_to_text, text_to_image)]
        return Contrast(torch.stack(losses).mean(), image_to_text.detach(), text_to_image.detach())


def nearest(query_features: Tensor, text_features: Tensor) -> Tensor:
    """The similarity of pictures and texts: the largest inner product of any of a picture's queries.

    Args:
        query_features: [images, queries, dim]. text_features: [texts, dim].

    Returns:
        [images, texts]

    >>> nearest(torch.tensor([[[0.6, 0.8], [1.0, 0.0]]]), torch.tensor([[0.8, 0.6]]))
    tensor([[0.9600]])
    """
    return (query_features @ text_features.T).amax(dim=1)


def hard_negatives(
    similarity: Tensor, uniform: Tensor, *, groups: Tensor | None = None, world: dist.ProcessGroup | None = None
) -> tuple[Tensor, Tensor]:
    """For each row a wrong partner out of the global batch, the likelier the more alike.

        p_ij = softmax over j of similarity_ij, without j = i and duplicates of i

    Li et al. 2021 (ALBEF, arXiv:2107.07651), section 3.2; LAVIS, blip2_qformer.py (no floor under the weights there).

    Args:
        similarity: [batch, global batch], over temperature, of `query_contrast`
        uniform: float [batch], in [0, 1): the draws
        groups: int64 [batch]; samples of one group are duplicates
        world: the processes over which the global batch lies; None: all of it is here

    Returns:
        (int64 [batch], bool [batch]): where the partner lies in the global batch; whether there is one.

    >>> hard_negatives(torch.tensor([[2.0, 1, 0], [0, 2, 1], [1, 0, 2]]), torch.tensor([0.7, 0.2, 0.74]))
    (tensor([1, 2, 1]), tensor([True, True, True]))
    """
    shards = Shards(world)
    rows = shards.row_numbers(similarity)  # [batch]
    every = None if groups is None else shards.gather(groups)  # [global batch]
    others = similarity.scatter(1, rows[:, None], OUT_OF_THE_QUESTION)
    if groups is not None and every is not None:
        others = others.masked_fill(false_negatives(groups, every, rows), OUT_OF_THE_QUESTION)
    return drawn(negative_weights(others, rows, groups=groups, all_groups=every, floor=0.0), uniform)


def _smoothed(logits: Tensor, positives: Tensor, left_out: Tensor, smoothing: float) -> Tensor:
    """The mean over rows [batch, candidates] of the cross-entropy with a target that `smoothing` spreads."""
    log_odds = logits.masked_fill(left_out, -torch.inf).log_softmax(dim=1)
    right = log_odds.gather(1, positives[:, None]).squeeze(1)  # [batch]
    # What is left out is 0 in the target and -inf here: 0 times it would be NaN.
    spread = log_odds.masked_fill(left_out, 0).sum(dim=1) / (~left_out).sum(dim=1)  # [batch]
    return -((1 - smoothing) * right + smoothing * spread).mean()


def _check(query_features: Tensor, text_features: Tensor, groups: Tensor | None, smoothing: float) -> None:
    images, texts = query_features.shape, text_features.shape
    if len(images) != 3 or len(texts) != 2 or not images[0] or (images[0], images[2]) != tuple(texts):
        raise ValueError(
            "query_features must be [batch, queries, dim] and text_features [batch, dim], not "
            f"{list(images)} and {list(texts)}"
        )
    if groups is not None and groups.shape != images[:1]:
        raise ValueError(f"groups must be [{images[0]}], one for each pair, not {list(groups.shape)}")
    if not 0 <= smoothing < 1:
        raise ValueError(f"smoothing must lie in [0, 1), not {smoothing}")
