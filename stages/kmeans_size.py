"""How many centroids k-means makes of n vectors, and what machine, how long and how many parts that takes.

    count_of("min(max(n/128, 1000), 100000)")(12_800_000)          # 100000
    machine(100_000, "cpu")                                        # Need(1, 0, 7.3, 86400)
    parts_for(25_600_000, 100_000)                                 # 36 parts of about an hour each

Memory and time are reckoned for vectors of 1024 dimensions.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable

from stages.base import Need
from stages.vectors import Device

DIM = 1024
SPEED = {"cpu": 2e7, "cuda": 2e9}
"""Vectors compared with centroids in a second: 40 Gflop/s on one core (100 were measured on one), 4 Tflop/s on a GPU
(not measured)."""

HOUR, DAY = 3_600, 86_400
COPIES = 32
"""Bytes for each coordinate of a centroid: as read, as searched, sums in float64, and a table of such sums."""

Count = Callable[[int], int]


def count_of(text: str) -> Count:
    """What a text for k says, as a function of n that never falls.

    text: "n/128", or min(..., ...) and max(..., ...) of such, of n and of numbers, in one another as one likes.

    Raises:
        ValueError: it says nothing of the kind.
    """
    found = _read(text)
    if found is None or "n" not in re.findall(r"\bn\b", text) or text.strip() == "n":
        raise ValueError(
            'k: write a number above 0, "n/128", "max(n/128, 1000)" or "min(max(n/128, 1000), 100000)"; n is the '
            "number of vectors"
        )
    return found


def _read(text: str) -> Count | None:
    text = text.strip()
    if re.fullmatch(r"[1-9]\d*", text):
        return lambda _: int(text)
    if match := re.fullmatch(r"n(?:/([1-9]\d*))?", text):
        return lambda n, by=int(match[1] or 1): n // by  # type: ignore[misc]
    if not (match := re.fullmatch(r"(min|max)\((.*)\)", text)):
        return None
    inner = [_read(part) for part in _arguments(match[2])]
    known = [count for count in inner if count is not None]
    if len(known) < max(len(inner), 2):
        return None
    choose = min if match[1] == "min" else max
    return lambda n: choose(count(n) for count in known)


def _arguments(text: str) -> list[str]:
    """What stands between the commas that are in no brackets; nothing where brackets do not match."""
    depth, parts = 0, [""]
    for letter in text:
        depth += (letter == "(") - (letter == ")")
        if depth < 0:
            return []
        if letter == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += letter
    return parts if depth == 0 else []


def machine(k: int, device: Device, pairs: float = 0) -> Need:
    """A worker that holds a span of vectors, and k centroids several times over.

    Args:
        pairs: vectors times centroids that its longest part compares.
    """
    memory = round(4 + k * DIM * COPIES * 1e-9, 1)
    return Need(1, 1 if device == "cuda" else 0, memory, max(DAY, 4 * seconds(pairs, device)))


def seconds(pairs: float, device: Device) -> float:
    """How long it takes to compare vectors with centroids, `pairs` in all."""
    return pairs / SPEED[device]


def parts_for(vectors: float, k: int) -> int:
    """Parts that share one iteration, so that each takes about an hour on a core.

    The same for any device: a run that goes on elsewhere finds the parts that are done.
    """
    return math.ceil(seconds(vectors * k, "cpu") / HOUR)
