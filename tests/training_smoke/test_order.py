"""The order of training: every sample its turns, whoever asks, at any step, in any world."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace
from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from training_smoke.errors import TrainingError
from training_smoke.order import PERIOD, Order, Shape, pick_texts, shuffled

SIZES = st.lists(st.integers(1, 12), min_size=1, max_size=9)
SEEDS = st.integers(0, 2**40)


def shape(sizes: list[int], weights: list[int] | None = None) -> Shape:
    return Shape(np.array(sizes), None if weights is None else np.array(weights))


def samples(order: Order, steps: range) -> list[int]:
    return np.concatenate([order.draw(step).sample for step in steps]).tolist()


# ------------------------------------------------------------------------------------------------ keyed orders


@given(st.integers(1, 3000), SEEDS)
@settings(max_examples=40, deadline=None)
def test_a_keyed_order_has_each_number_once(n: int, seed: int) -> None:
    assert np.sort(shuffled(n, seed, "test", 2)).tolist() == [list(range(n))] * 2


@pytest.mark.parametrize("n", [2, 3, 4])
def test_all_orders_of_a_few_are_equally_likely(n: int) -> None:
    draws = 12_000
    found = Counter(map(tuple, shuffled(n, 0, "test", draws).tolist()))
    expected = draws / math.factorial(n)
    assert set(found) == set(permutations(range(n)))
    assert all(abs(count - expected) < 4.5 * math.sqrt(expected) for count in found.values())


def test_neighbours_are_strangers_after_a_shuffle() -> None:
    (places,) = shuffled(10_000, 0, "test")
    assert abs(np.corrcoef(places[:-1], places[1:])[0, 1]) < 0.04
    assert abs(np.corrcoef(np.arange(10_000), places)[0, 1]) < 0.04


# ------------------------------------------------------------------------------------------------ epochs


@given(SIZES, SEEDS, st.integers(1, 40), st.data())
@settings(max_examples=80, deadline=None)
def test_every_sample_has_its_turns_in_each_epoch(
    sizes: list[int], seed: int, window: int, data: st.DataObject
) -> None:
    total = sum(sizes)
    weights = data.draw(st.none() | st.lists(st.integers(1, 5), min_size=total, max_size=total))
    own = shape(sizes, weights)
    order = Order((own,), seed=seed, batch=data.draw(st.integers(1, 2 * own.epoch)), window=window)
    steps = math.ceil(3 * own.epoch / order.batch)
    read = samples(order, range(steps))
    for epoch in range(3):
        turns = np.bincount(read[epoch * own.epoch : (epoch + 1) * own.epoch], minlength=total)
        assert turns.tolist() == (weights or [1] * total)


def test_epochs_and_seeds_differ() -> None:
    order = Order((shape([10] * 20),), batch=200)
    first, second = (samples(order, range(e, e + 1)) for e in (0, 1))
    other = samples(replace(order, seed=1), range(1))
    assert len({tuple(first), tuple(second), tuple(other), tuple(range(200))}) == 4


@given(SIZES, SEEDS, st.integers(1, 5), st.integers(0, 50))
@settings(max_examples=40, deadline=None)
def test_one_two_and_four_ranks_read_the_same_batches(sizes: list[int], seed: int, part: int, step: int) -> None:
    packs, shares = (shape(sizes), shape([5, 5])), (0.7, 0.3)
    whole = Order(packs, shares, seed, batch=4 * part).draw(step)
    for world in (2, 4):
        ranks = [Order(packs, shares, seed, 4 * part, rank, world).draw(step) for rank in range(world)]
        for name in ("turn", "pack", "sample"):
            assert np.concatenate([getattr(d, name) for d in ranks]).tolist() == getattr(whole, name).tolist()


def test_a_run_that_goes_on_reads_what_one_without_a_break_reads() -> None:
    packs = (shape([7, 8, 7]), shape([30]))
    order, again = (Order(packs, (1, 2), seed=3, batch=16, window=25) for _ in range(2))
    assert samples(order, range(13)) + samples(again, range(13, 40)) == samples(order, range(40))


def test_a_step_costs_no_more_in_a_pack_of_a_billion() -> None:
    order = Order((shape([10_000] * 100_000),), batch=64)
    found = order.draw(10**8 + 1).sample
    assert len(set(found.tolist())) == 64
    assert 0 <= found.min() < found.max() < 10**9


@given(st.lists(st.integers(5, 15), min_size=8, max_size=30), SEEDS, st.integers(10, 60), st.integers(1, 16))
@settings(max_examples=40, deadline=None)
def test_what_is_read_is_near_and_near_is_little(sizes: list[int], seed: int, window: int, batch: int) -> None:
    own = shape(sizes)
    order = Order((own,), seed=seed, batch=batch, window=window)
    ends = np.cumsum(sizes)
    for step in range(2 * own.epoch // batch):
        near = {shard for _, shard in order.near(step)}
        assert sum(sizes[shard] for shard in near) <= 2 * (window + max(sizes))
        first = order.draw(step).sample[0]
        assert int(np.searchsorted(ends, first, side="right")) in near


# ---------------------------------------------------------------------------------------- mixtures, weights, texts


def test_a_mixture_has_its_shares_to_the_sample_in_each_period_and_by_chance_in_each_batch() -> None:
    shares = (0.5, 0.3, 0.2)
    order = Order((shape([1000]), shape([50]), shape([9, 9])), shares, seed=5, batch=1024)
    draws = [order.draw(step) for step in range(2 * PERIOD // 1024)]
    for period in (draws[: len(draws) // 2], draws[len(draws) // 2 :]):
        counts = np.bincount(np.concatenate([d.pack for d in period]))
        assert np.abs(counts - PERIOD * np.array(shares)).max() < 1
    for draw in draws:
        counts = np.bincount(draw.pack, minlength=3)
        sigma = np.sqrt(1024 * np.array(shares) * (1 - np.array(shares)))
        assert (np.abs(counts - 1024 * np.array(shares)) < 4.5 * sigma).all()


def test_each_pack_of_a_mixture_goes_through_its_own_epochs() -> None:
    order = Order((shape([40, 50]), shape([7])), (3, 1), seed=5, batch=PERIOD)
    draw = order.draw(2)
    for pack, total in enumerate((90, 7)):
        counts = np.bincount(draw.sample[draw.pack == pack], minlength=total)
        assert counts.max() - counts.min() <= 2


def test_weights_are_frequencies_from_the_first_part_of_an_epoch_on() -> None:
    weights = np.random.default_rng(0).integers(1, 20, 400)
    order = Order((Shape(np.array([100, 300]), weights),), seed=1, batch=500, window=10**6)
    drawn = np.bincount(samples(order, range(2)), minlength=400)
    p = weights / weights.sum()
    sigma = np.sqrt(1000 * p * (1 - p))
    assert (np.abs(drawn - 1000 * p) < 4 * sigma + 1).all()


def test_texts_come_as_often_as_they_are_probable() -> None:
    texts = [("often", 0.7), ("never", 0.0), ("seldom", 0.3)]
    turn = np.arange(10_000)
    found = Counter(pick_texts(3, turn, [texts] * len(turn)))
    assert set(found) == {"often", "seldom"}
    assert abs(found["often"] - 7000) < 4 * math.sqrt(10_000 * 0.21)
    assert pick_texts(3, turn[100:110], [texts] * 10) == pick_texts(3, turn, [texts] * len(turn))[100:110]
    assert pick_texts(4, turn, [texts] * len(turn)) != pick_texts(3, turn, [texts] * len(turn))


def test_probabilities_need_not_sum_to_one() -> None:
    found = Counter(pick_texts(0, np.arange(3000), [[("a", 2.0), ("b", 1.0)]] * 3000))
    assert abs(found["a"] - 2000) < 4 * math.sqrt(3000 * 2 / 9)


# ------------------------------------------------------------------------------------------------ what is refused


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"world": 3}, "rank 0 of 3 cannot take its part of a batch of 16"),
        ({"rank": 2, "world": 2}, "rank 2 of 2"),
        ({"batch": 0}, "a batch of 0"),
        ({"shares": (1.0, 1.0)}, "1 packs and 2 shares"),
        ({"shapes": (), "shares": ()}, "0 packs"),
        ({"shares": (0.0,)}, "each must be above"),
        ({"shares": (float("nan"),)}, "each must be above"),
        ({"shapes": (shape([3]), shape([3])), "shares": (1.0, 1e-9)}, "each must be above"),
        ({"window": 0}, "holds nothing"),
    ],
)
def test_what_cannot_be_an_order_is_refused(change: dict[str, object], words: str) -> None:
    with pytest.raises(TrainingError, match=words):
        replace(Order((shape([3]),), batch=16), **change)


@pytest.mark.parametrize("weights", [[1, 1], [1, 0, 1], [1, -1, 1]])
def test_weights_must_be_whole_turns_of_all_samples(weights: list[int]) -> None:
    with pytest.raises(TrainingError, match="3 samples need as many weights, all of 1 or more"):
        shape([2, 1], weights)


def test_an_empty_pack_is_refused() -> None:
    with pytest.raises(TrainingError, match="without samples"):
        shape([0])
