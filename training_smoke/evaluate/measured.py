"""What a measurement gives: metrics, and for those that are means over items the numbers of the items."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Measured:
    """metrics: by name. items: of metrics that are means over items, one number an item, float64 [n], whose mean is the
    metric; macro-F1, average precision, corpus BLEU and worst groups are none."""

    metrics: dict[str, Any]
    items: Mapping[str, np.ndarray] = field(default_factory=dict)

    def __add__(self, other: Measured) -> Measured:
        """Both."""
        return Measured({**self.metrics, **other.metrics}, {**self.items, **other.items})
