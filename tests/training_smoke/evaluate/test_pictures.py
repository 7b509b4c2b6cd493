"""Which part of a set is asked, and that its controls are controls."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.training_smoke.evaluate.evalsets import picture
from training_smoke.errors import TrainingError
from training_smoke.evaluate.encode import pixels
from training_smoke.evaluate.folders import Sample
from training_smoke.evaluate.pictures import GREY, chosen, decoded, grey, grey_sample, others, part, rolled, spread


def samples(count: int) -> list[Sample]:
    return [Sample(f"somewhere/{i}", picture((i, 0, 0)), (f"text {i}",)) for i in range(count)]


def test_a_part_is_spread_and_in_order() -> None:
    kept, total = chosen(iter(samples(100)), 20)
    some = [number for number, _ in kept]
    assert total == part(samples(100), 8, 20).total == 100
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
    other = others(5, 2)
    assert torch.equal(rolled(images), images[torch.from_numpy(other)])
    assert rolled(list(range(5))) == rolled(np.arange(5)).tolist() == rolled(torch.arange(5)).tolist() == other.tolist()
    assert rolled([1]) == [1]


def test_others_are_all_of_them_and_never_oneself() -> None:
    for n in range(4, 80):
        shown, wrong = others(n, n // 2), others(n, -(n // 3))
        assert sorted(shown) == sorted(wrong) == list(range(n))
        assert not (shown == np.arange(n)).any()
        assert not (wrong == np.arange(n)).any()
        assert not (shown == wrong).any()  # a picture of the shuffled control has neither of matching's two texts


@pytest.mark.parametrize("away", [2, -3])
@pytest.mark.parametrize("period", [2, 3, 10, 200])
def test_the_order_of_a_set_does_not_decide_what_others_show(period: int, away: int) -> None:
    """Classes in turn, and sets sorted by class: the other one is of the same class as often as any is."""
    numbers = np.arange(1200)
    for classes in (numbers % period, numbers * period // 1200):
        same = float((classes == classes[others(1200, 1200 // away)]).mean())
        assert abs(same - 1 / period) < 0.06


def test_too_few_pictures_name_set_and_remedy() -> None:
    with pytest.raises(TrainingError, match=r"held_out/mine: 3 pictures are too few .*add some, or leave the set out"):
        part(samples(3), 8, 10, "held_out/mine")
