"""Image-text retrieval in both directions, where an image may have several texts.

    found = retrieve(image_features, text_features, image_of_text)
    found.metrics()                           # {"image_retrieval_recall@1": ..., "text_retrieval_recall@1": ..., ...}

Recall@k is that of CLIP's papers: 1 if any matching item is among the first k, averaged over queries. Image retrieval
asks with texts, text retrieval with images; names as in CLIP_benchmark (metrics/zeroshot_retrieval.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from training_smoke.errors import TrainingError
from training_smoke.evaluate.ranks import ROWS, ranks, require_finite

RECALLS = (1, 5, 10)


@dataclass(frozen=True)
class Retrieved:
    """How many items come before the best matching one; 0 is best.

    images: int64 [texts], asked by each text. texts: int64 [images], asked by each image.
    """

    images: np.ndarray
    texts: np.ndarray

    def metrics(self, recalls: Sequence[int] = RECALLS) -> dict[str, float]:
        """Recalls, mean and median rank (from 1) each way, and mean_recall@1, the mean of both directions."""
        found: dict[str, float] = {}
        for what, places in (("image", self.images), ("text", self.texts)):
            found |= {f"{what}_retrieval_recall@{k}": float((places < k).mean()) for k in recalls}
            found[f"{what}_retrieval_mean_rank"] = float(places.mean()) + 1
            found[f"{what}_retrieval_median_rank"] = float(np.median(places)) + 1
        found["mean_recall@1"] = float((self.images < 1).mean() + (self.texts < 1).mean()) / 2
        return found


def retrieve(image_features: Tensor, text_features: Tensor, image_of_text: Tensor | np.ndarray) -> Retrieved:
    """Ranks by inner product, ties to the lower index.

    Example: with similarities [[.9, .1, .3, .2], [.2, .8, .7, .1], [.6, .4, .5, .3], [.1, .2, .6, .4]] of four images
    and their texts, images find texts at 0, 0, 1, 1 and texts find images at 0, 0, 2, 0.

    Args:
        image_features: float [images, dim].
        text_features: float [texts, dim].
        image_of_text: int64 [texts]: the image that each text belongs to.

    Raises:
        TrainingError: an image without a text or a text without an image, or features that are not finite.
    """
    owner = torch.as_tensor(image_of_text, device=image_features.device)
    images = len(image_features)
    if len(owner) != len(text_features) or not torch.equal(owner.unique(), torch.arange(images, device=owner.device)):
        raise TrainingError(f"{len(owner)} texts do not belong to exactly the {images} images: some have no partner")
    return Retrieved(
        images=_places_of_images(image_features, text_features, owner).cpu().numpy(),
        texts=_places_of_texts(image_features, text_features, owner).cpu().numpy(),
    )


def _places_of_images(image_features: Tensor, text_features: Tensor, owner: Tensor) -> Tensor:
    """int64 [texts]"""
    queries = zip(text_features.split(ROWS), owner.split(ROWS), strict=True)
    return torch.cat([ranks(rows @ image_features.T, image) for rows, image in queries])


def _places_of_texts(image_features: Tensor, text_features: Tensor, owner: Tensor) -> Tensor:
    """int64 [images]: of the matching texts, the one that comes first counts."""
    places = []
    numbers = torch.arange(len(image_features), device=owner.device)
    for rows, number in zip(image_features.split(ROWS), numbers.split(ROWS), strict=True):
        scores = rows @ text_features.T  # [rows, texts]
        require_finite(scores)
        matching = owner == number.unsqueeze(1)
        best = scores.masked_fill(~matching, -torch.inf).argmax(1)  # of equally good matches the first
        places.append(ranks(scores, best))
    return torch.cat(places)
