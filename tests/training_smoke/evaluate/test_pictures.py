"""Which part of a set is asked, and that its controls are controls."""

from __future__ import annotations

import numpy as np
import torch

from tests.training_smoke.evaluate.evalsets import picture
from training_smoke.evaluate.encode import pixels
from training_smoke.evaluate.folders import Sample
from training_smoke.evaluate.pictures import GREY, chosen, decoded, grey, grey_sample, part, rolled, spread


def samples(count: int) -> list[Sample]:
    return [Sample(f"somewhere/{i}", picture((i, 0, 0)), (f"text {i}",)) for i in range(count)]


def test_a_part_is_spread_and_in_order() -> None:
    some = [number for number, _ in chosen(iter(samples(100)), 20)]
    assert some == sorted(some) == spread(100, 20)
    assert len(set(some)) == 20
    assert max(some) > 80  # not the first
    assert min(some) < 20


def test_a_greater_part_has_the_smaller() -> None:
    assert set(spread(100, 10)) < set(spread(100, 20)) < set(spread(100, 100)) == set(range(100))
    assert spread(3, 10) == [0, 1, 2]


def test_pictures_keep_their_answers_and_numbers() -> None:
    some = part(samples(40), 8, 10)
    for image, answer, key, sample in zip(some.images, some.answers, some.keys, some.samples, strict=True):
        assert answer == (f"text {key}",)
        assert sample.name == f"somewhere/{key}"
        assert int(image[0, 0, 0]) == int(key)
    rows = [(rows.start, rows.stop, len(images)) for rows, images in some.batches()]
    assert rows == [(0, 10, 10)]


def test_controls() -> None:
    images = decoded(list(enumerate(samples(5))), 8).images
    assert grey(images).unique().tolist() == [GREY]
    np.testing.assert_array_equal(pixels(grey_sample(8), 8), grey(images)[0])
    assert torch.equal(rolled(images)[2:], images[:3])
    assert rolled(list(range(5))) == [3, 4, 0, 1, 2]
    assert rolled(np.arange(5)).tolist() == rolled(torch.arange(5)).tolist() == [3, 4, 0, 1, 2]
    assert rolled([1]) == [1]
