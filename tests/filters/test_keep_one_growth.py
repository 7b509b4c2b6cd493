"""Keep-one over a pool that grows: who stayed stays."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import stages.shuffle as shuffle
from filters.keep_one import KeepOne
from tests.filters.keep_one_parts import BASE, KEPT, SAME, Row, answers, kept, lost, pool_of, row

ROWS = st.lists(
    st.tuples(st.lists(st.integers(0, 40), max_size=4), st.sampled_from([0.1, 0.5, 0.9])), min_size=1, max_size=20
)


@settings(max_examples=60, deadline=None)
@given(
    lists=st.lists(ROWS, min_size=2, max_size=3),
    rule=st.sampled_from(["greedy", "component", "local"]),
    distance=st.sampled_from([0, 2, 4]),
    seed=st.integers(0, 2**32 - 1),
    size=st.integers(4, 60),
)
def test_old_verdicts_stay(lists: list[Any], rule: Any, distance: int, seed: int, size: int) -> None:
    rng = np.random.default_rng(seed)
    uids = iter(rng.permutation(500).tolist())
    chosen = KeepOne(over="survivors", by="phash64", distance=distance, rule=rule, prefer=("score desc",))
    pool: dict[int, Any] = {}
    generations: dict[int, int] = {}
    before: dict[int, Row] = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shuffle, "ROWS", size)
        for number, drawn in enumerate(lists):
            rows = [row(next(uids), phash64=BASE ^ sum({1 << b for b in bits}), score=score) for bits, score in drawn]
            new = pool_of(rows, 2, rng, first=100 * number)
            pool |= new
            generations |= dict.fromkeys(new, number)
            found = answers(pool, chosen, seed, generations)
            for uid, verdict in before.items():
                now = {n: v for n, v in found[uid].items() if n != "component"}  # it may be joined with an older one
                assert now == {n: v for n, v in verdict.items() if n != "component"}
            assert {v["dup_of"] for v in found.values() if v["dup_of"] is not None} <= kept(found) or rule == "local"
            before = found


def test_a_better_new_copy_yields_unless_asked_otherwise() -> None:
    old, new = pool_of([row(5, **SAME)]), pool_of([row(3, **SAME, original_width=900)], first=10)
    pool, generations = old | new, {0: 0, 10: 1}
    old_first = answers(pool, KeepOne(over="pool", by="sha256"), generations=generations)
    assert old_first == {5: KEPT, 3: lost(5, 0, 3)}
    best_first = answers(pool, KeepOne(over="pool", by="sha256", old_first=False), generations=generations)
    assert best_first == {3: KEPT, 5: lost(3, 0, 3)}


def test_a_sample_that_joins_two_old_components_leaves_their_keepers() -> None:
    """1 and 9 lie eight bits apart, 4 in the middle."""
    old = pool_of([row(1, phash64=BASE), row(9, phash64=BASE ^ 0xFF), row(7, phash64=BASE ^ 0xFF)])
    new = pool_of([row(4, phash64=BASE ^ 0xF, original_width=900)], first=4)
    chosen = KeepOne(over="pool", by="phash64", distance=4, rule="component")
    found = answers(old | new, chosen, generations={0: 0, 4: 1})
    assert found == {1: KEPT, 7: KEPT, 9: lost(7, 0, 1, "component"), 4: lost(1, 4, 1, "component")}
    at_once = answers(old | new, chosen)
    assert kept(at_once) == {4}
