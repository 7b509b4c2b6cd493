"""What a file of towers trained with MERU says of its space: curvature, and the factors before vectors are lifted.

about = space("filters/meru/filter.pt")
about.curvature, about.image, about.text            # floats
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from math import exp, sqrt
from pathlib import Path

import numpy as np

from stages.clip_weights import settled, weights_file, width

LEARNED = ("log_curvature", "image_scale", "text_scale")
MAKE = "`curate train-filter --objective meru` makes one"


@dataclass(frozen=True)
class Space:
    """curvature: c, where the space has -c. image, text: factors of the towers' vectors. dim: their length."""

    curvature: float
    image: float
    text: float
    dim: int

    def same(self, other: Space) -> bool:
        """Equal but for the last digits, in which exp differs between machines."""
        ours, theirs = (np.array([s.curvature, s.image, s.text]) for s in (self, other))
        return self.dim == other.dim and np.allclose(ours, theirs, rtol=1e-12, atol=0)


def space(weights: str) -> Space:
    """
    Raises:
        ValueError: no such file, or it was not trained with MERU; says what to do.
    """
    path = weights_file(None, settled(weights))
    about = path.stat()
    return _space(str(path), about.st_size, about.st_mtime_ns)


@lru_cache(maxsize=16)
def _space(path: str, size: int, changed: int) -> Space:
    """By the file as it is now; `size` and `changed` only tell files apart."""
    from training_smoke.towers_file import read_file

    about = read_file(path)["about"]
    objective, learned = about.get("config", {}).get("objective"), about.get("objective", {})
    if objective != "meru" or not set(LEARNED) <= learned.keys():
        raise ValueError(f"hype: {Path(path)} is of towers trained with {objective or 'nothing it tells'}; {MAKE}")
    dim = width(None, path)
    assert dim is not None  # the file is there
    curvature, image, text = (exp(float(learned[name])) for name in LEARNED)
    return Space(curvature, image / sqrt(dim), text / sqrt(dim), dim)
