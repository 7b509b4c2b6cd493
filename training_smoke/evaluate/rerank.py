"""Does asking whether they match improve what retrieval by vectors found?

found = reranked(model, pairs, fetch, Effort())
found.metrics["reranked_mean_recall@1"], found.metrics["retrieved_mean_recall@1"]
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from training_smoke.abilities import Matcher
from training_smoke.evaluate.effort import Effort
from training_smoke.evaluate.matching import probabilities
from training_smoke.evaluate.measured import Measured
from training_smoke.evaluate.pictures import grey, rolled, spread

Pixels = Mapping[int, Tensor]
"""By number of the picture: uint8 [3, size, size]."""
Fetch = Callable[[Collection[int]], Pixels]


@dataclass(frozen=True)
class Pairs:
    """A set as vectors: images float32 [pictures, dim]; texts float32 [texts, dim]; captions: the texts themselves;
    image_of_text: int64 [texts], rising from 0; blind: float32 [dim], of a grey picture."""

    images: Tensor
    texts: Tensor
    captions: Sequence[str]
    image_of_text: np.ndarray
    blind: Tensor


def reranked(model: Matcher, pairs: Pairs, fetch: Fetch, effort: Effort) -> Measured:
    """Recall at 1 when the first k by vectors are ordered by the probability that they match, of equal ones the nearer
    by vectors: as ALBEF (Li et al. 2021, arXiv:2107.07651, section 4). Some pictures ask, and the first caption of
    each; the candidates are those of the whole set. `retrieved_...` is of the same questions, before.

    Controls: all of it, vectors and matches, when every picture shows what another does (`rolled`), or nothing (then
    the order of the set decides among pictures). Items are the pictures that ask, each with its caption.
    """
    asking = np.array(spread(len(pairs.images), effort.queries))
    caption = np.searchsorted(pairs.image_of_text, asking)  # the first of each
    texts = _nearest(pairs.images[asking], pairs.texts, effort.k)  # [queries, k]
    images = _nearest(pairs.texts[caption], pairs.images, effort.k)
    pixels = fetch({*asking.tolist(), *images.ravel().tolist()})
    owner = pairs.image_of_text[_best(model, pairs, pixels, asking[:, None], texts, choice=texts)]
    image = _best(model, pairs, pixels, images, caption[:, None], choice=images)
    blind = _when_blind(model, pairs, pixels, effort.k)
    shown = rolled(np.arange(len(pairs.images)))  # int64 [pictures]: when rolled, picture i shows what shown[i] did
    found = {  # by pictures that ask, and by texts: is it the right one?
        "reranked_mean_recall@1": (owner == asking, image == asking),
        "retrieved_mean_recall@1": (pairs.image_of_text[texts[:, 0]] == asking, images[:, 0] == asking),
        "reranked_mean_recall@1_shuffled": (shown[owner] == asking, image == shown[asking]),
        "reranked_mean_recall@1_blind": (blind == asking, asking == 0),
    }
    items = {name: np.stack(both).mean(0) for name, both in found.items()}
    by_picture, by_text = (float(side.mean()) for side in found["reranked_mean_recall@1"])
    metrics = {"reranked_text_retrieval_recall@1": by_picture, "reranked_image_retrieval_recall@1": by_text}
    metrics |= {name: float(values.mean()) for name, values in items.items()}
    return Measured(metrics | {"n_reranked": len(asking)}, items).of(asking)


def _nearest(queries: Tensor, candidates: Tensor, k: int) -> np.ndarray:
    """int64 [queries, k]: the nearest first, of equally near ones the lower index."""
    order = (queries @ candidates.T).argsort(dim=1, descending=True, stable=True)
    return order[:, :k].numpy()


def _best(
    model: Matcher, pairs: Pairs, pixels: Pixels, images: np.ndarray, texts: np.ndarray, *, choice: np.ndarray
) -> np.ndarray:
    """Of each row of `choice`, what belongs to the pair that matches best: int64 [queries].

    Args:
        images, texts: numbers, one of them [queries, 1] and the other [queries, k].
    """
    images, texts = np.broadcast_arrays(images, texts)
    shown = torch.stack([pixels[int(i)] for i in images.ravel()])
    p = probabilities(model, shown, [pairs.captions[t] for t in texts.ravel()]).reshape(images.shape)
    return choice[np.arange(len(choice)), p.argmax(1)]


def _when_blind(model: Matcher, pairs: Pairs, pixels: Pixels, k: int) -> int:
    """The picture whose text is found for a grey one."""
    texts = _nearest(pairs.blind[None], pairs.texts, k)[0]
    nothing = grey(next(iter(pixels.values()))).expand(len(texts), -1, -1, -1)
    p = probabilities(model, nothing, [pairs.captions[t] for t in texts])
    return int(pairs.image_of_text[texts[p.argmax()]])
