"""Does a model tell whether a text belongs to a picture?

matching(model, some).metrics                       # itm_accuracy, itm_auroc, ..._blind, ..._shuffled
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from training_smoke.abilities import Matcher
from training_smoke.errors import TrainingError
from training_smoke.evaluate.continuous import auroc
from training_smoke.evaluate.measured import Measured
from training_smoke.evaluate.pictures import BATCH, Pictures, grey, others, rolled


def matching(model: Matcher, some: Pictures) -> Measured:
    """Each text stands once with its picture and once with another, so that nothing can be told from texts alone: at
    p >= 1/2 a model that sees nothing is right on half of them. Items are pictures.

    Right pairs are pictures with their first caption, wrong ones with that of another picture, a third of the set away
    in a random order (`others`); the pictures of the shuffled control are half of it away, and so belong to neither.
    itm_accuracy is at p >= 1/2 of `Matcher.match`, which answers for as many right pairs as wrong ones: families that
    learn from two wrong pairs for a right one take that out (`training_smoke.objectives.itm.balanced`).
    itm_pair_accuracy asks which of a picture's two texts is its own (equal ones count half), whatever the prior.

    Raises:
        TrainingError: probabilities that are none.
    """
    texts = [answers[0] for answers in some.answers]
    wrong = [texts[i] for i in others(len(some), -(len(some) // 3))]
    metrics, items = {}, {}
    for control, images in (("", some.images), ("_blind", grey(some.images)), ("_shuffled", rolled(some.images))):
        yes, no = (probabilities(model, images, said) for said in (texts, wrong))
        items[f"itm_accuracy{control}"] = ((yes >= 0.5).astype(np.float64) + (no < 0.5)) / 2
        items[f"itm_pair_accuracy{control}"] = (yes > no) + 0.5 * (yes == no)
        metrics[f"itm_auroc{control}"] = auroc(np.concatenate([yes, no]), np.arange(2 * len(some)) < len(some))
    metrics |= {name: float(values.mean()) for name, values in items.items()}
    return Measured(metrics | {"n_matched": len(some)}, items).of(some.numbers)


def probabilities(model: Matcher, images: Tensor, texts: Sequence[str]) -> np.ndarray:
    """That text i belongs to picture i: float64 [n].

    Args:
        images: uint8 [n, 3, size, size].

    Raises:
        TrainingError: one is no probability.
    """
    found = [model.match(images[i : i + BATCH], texts[i : i + BATCH]) for i in range(0, len(texts), BATCH)]
    p = torch.cat(found).double().numpy()
    if not ((p >= 0) & (p <= 1)).all():
        raise TrainingError("a match has no probability (NaN?): this model cannot be evaluated; see its loss")
    return p
