"""What a measurement gives: metrics, and for those that are means over items the numbers of the items."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

Items = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Measured:
    """metrics: by name. items: of metrics that are means over items, one number an item, float64 [n], whose mean is the
    metric; macro-F1, average precision, corpus BLEU and worst groups are none. numbers: of metrics that were measured
    on a part of the set, which pictures the items are, int64 [n]; of all others items are the set, in its order."""

    metrics: dict[str, Any]
    items: Items = field(default_factory=dict)
    numbers: Items = field(default_factory=dict)

    def of(self, numbers: np.ndarray) -> Measured:
        """The same, its items said to be these pictures."""
        return Measured(self.metrics, self.items, dict.fromkeys(self.items, numbers))

    def __add__(self, other: Measured) -> Measured:
        """Both."""
        numbers = {**self.numbers, **other.numbers}
        return Measured({**self.metrics, **other.metrics}, {**self.items, **other.items}, numbers)
