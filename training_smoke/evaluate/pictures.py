"""A part of an evaluation set with its pixels in memory, the same part for every model, and the controls of it.

    some = part(folder.samples(), model.image_size, most=500)
    some.images, some.answers, some.keys
    grey(some.images), rolled(some.images)                        # pictures that say nothing, or are others'

What generates is given each picture several times (greedily, by chance, as a control), so that the pixels are kept.
"""

from __future__ import annotations

import heapq
import io
from collections.abc import Collection, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import numpy as np
import torch
import xxhash
from PIL import Image
from torch import Tensor

from training_smoke.errors import TrainingError
from training_smoke.evaluate.encode import pixels
from training_smoke.evaluate.folders import Sample

BATCH = 128
GREY = 127
FEWEST = 4  # pictures that a part needs for controls: a picture, another one, and a third

Numbered = tuple[int, Sample]
T = TypeVar("T", Tensor, list[Any], list[str], np.ndarray)


@dataclass(frozen=True)
class Pictures:
    """images: uint8 [n, 3, size, size] in main memory. answers: of each. keys: its number in the set; what draws for a
    picture are named by. samples: as they were read. total: pictures of the set that this is a part of."""

    images: Tensor
    answers: list[Any]
    keys: list[str]
    samples: list[Sample]
    total: int = 0

    @property
    def numbers(self) -> np.ndarray:
        """int64 [n]: each picture's number in the set."""
        return np.array(self.keys, np.int64)

    def __len__(self) -> int:
        return len(self.keys)

    def batches(self, images: Tensor | None = None) -> Iterator[tuple[slice, Tensor]]:
        """(rows, their pictures), of these or of others in their place."""
        images = self.images if images is None else images
        for start in range(0, len(self), BATCH):
            rows = slice(start, min(start + BATCH, len(self)))
            yield rows, images[rows]


def part(samples: Iterable[Sample], size: int, most: int, of: str = "the evaluation set") -> Pictures:
    """At most so many pictures, spread over the set, in its order.

    Args:
        of: what errors call the set.

    Raises:
        TrainingError: the set has fewer than FEWEST, or one of those taken cannot be decoded.
    """
    some, total = chosen(samples, most, of)
    return decoded(some, size, total)


class Samples(Protocol):
    """An evaluation set that can be read more than once."""

    def samples(self, split: str = "test") -> Iterator[Sample]: ...


def at(source: Samples, split: str, size: int, numbers: Collection[int]) -> dict[int, Tensor]:
    """Pixels of the pictures with these numbers: uint8 [3, size, size] each."""
    wanted = set(numbers)
    found = decoded([(i, s) for i, s in enumerate(source.samples(split)) if i in wanted], size)
    return {int(key): image for key, image in zip(found.keys, found.images, strict=True)}


def spread(count: int, most: int) -> list[int]:
    """At most so many of 0 .. count - 1, in order; of the same ones for every count, as far as it has them."""
    return sorted(heapq.nsmallest(most, range(count), key=place))


def place(number: int) -> int:
    """Of a picture's number in an order that has nothing to do with it, the same everywhere."""
    return xxhash.xxh3_64_intdigest(str(number).encode())


def chosen(samples: Iterable[Sample], most: int, of: str = "the evaluation set") -> tuple[list[Numbered], int]:
    """(as `spread`, of samples that can be read once and are too many to keep; how many they are).

    Raises:
        TrainingError: fewer than FEWEST.
    """
    total = 0
    kept: list[tuple[int, int, Sample]] = []  # (-place, number, sample): the last in the order on top
    for number, sample in enumerate(samples):
        total = number + 1
        entry = (-place(number), number, sample)
        if len(kept) < most:
            heapq.heappush(kept, entry)
        elif entry[0] > kept[0][0]:
            heapq.heapreplace(kept, entry)
    if len(kept) < FEWEST:
        raise TrainingError(
            f"{of}: {len(kept)} pictures are too few to tell what a model says of them from what it says of others: "
            f"it takes {FEWEST}; add some, or leave the set out"
        )
    return sorted(((number, sample) for _, number, sample in kept), key=lambda s: s[0]), total


def decoded(some: Sequence[Numbered], size: int, total: int = 0) -> Pictures:
    """
    Raises:
        TrainingError: a picture cannot be decoded.
    """
    with ThreadPoolExecutor(torch.get_num_threads()) as pool:
        images = torch.from_numpy(np.stack(list(pool.map(lambda entry: pixels(entry[1], size), some))))
    samples = [sample for _, sample in some]
    return Pictures(images, [s.answer for s in samples], [str(number) for number, _ in some], samples, total)


# ---------------------------------------------------------------------------------------------- controls


def grey(images: Tensor) -> Tensor:
    """As many pictures of the same size that show nothing: what is still right was known from the texts alone."""
    return torch.full_like(images, GREY)


def grey_sample(size: int) -> Sample:
    """Such a picture as it would be read."""
    stream = io.BytesIO()
    Image.new("RGB", (size, size), (GREY, GREY, GREY)).save(stream, "PNG")
    return Sample("grey", stream.getvalue(), ())


def others(count: int, away: int) -> np.ndarray:
    """For each of so many the one that stands so many places further in an order that has nothing to do with theirs
    (`place`), past the last the first again: int64 [count], each once, and none itself where `away` is no multiple of
    the count.

    Many sets have an order: by class, or the classes in turn, or scenes with one another. A fixed shift of it would
    meet the same class again.
    """
    order = np.array(sorted(range(count), key=place), np.int64)
    found = np.empty(count, np.int64)
    found[order] = np.roll(order, -away)
    return found


def rolled(items: T) -> T:
    """Of each another's, half of a random order away: what is still right would be right of any picture. Of classes
    the control's expectation is chance, not 0: another picture may be of the same class."""
    other = others(len(items), len(items) // 2)
    if isinstance(items, Tensor):
        return items[torch.from_numpy(other)]
    if isinstance(items, np.ndarray):
        return items[other]
    return [items[i] for i in other]
