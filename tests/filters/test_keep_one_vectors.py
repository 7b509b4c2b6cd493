"""Keep-one on near vectors, and on long or verified hashes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import stages.shuffle as shuffle
from filters.keep_one import KeepOne
from stages.near_hashes import Agreement
from tests.filters.keep_one_parts import KEPT, Row, answers, kept, lost, pool_of, row

ONE = {"k": 1}


def turned(degrees: float, size: float = 1.0) -> list[float]:
    """A vector of the plane, so that cosines are those of the differences of angles."""
    angle = np.deg2rad(degrees)
    return [size * float(np.cos(angle)), size * float(np.sin(angle)), 0.0]


def near(**more: Any) -> KeepOne:
    return KeepOne(
        over="pool", near={"vectors": "vector", "epsilon": 0.05, "clusters": ONE, **more.pop("near", {})}, **more
    )


@pytest.mark.parametrize(("rule", "stay"), [("greedy", {1, 3}), ("component", {1}), ("local", {1}), ("reference", {1})])
def test_a_chain_of_three(rule: Any, stay: set[int]) -> None:
    """filters.md, 10.7: cos(A, B) = .970, cos(B, C) = .961, cos(A, C) = .866 at epsilon .05."""
    rows = [row(1, vector=turned(0)), row(2, vector=turned(14, 3.5)), row(3, vector=turned(30)), row(4)]
    found = answers(pool_of(rows, 2), near(rule=rule, near={"within_clusters": rule == "reference"}))
    assert kept(found) == stay | {4}
    assert found[1] == found[4] == KEPT
    apart = {n: 1 - float(np.cos(np.deg2rad(d))) for n, d in (("12", 14), ("23", 16))}
    assert found[2]["distance"] == pytest.approx(apart["12"], abs=2e-6)
    assert (found[2]["dup_of"], found[2]["component"], found[2]["rule"]) == (1, 1, rule)
    if rule == "component":
        assert found[3] == lost(1, None, 1, rule)
    elif rule != "greedy":
        assert found[3]["dup_of"] == 2  # the best of its near ones, which goes itself
        assert found[3]["distance"] == pytest.approx(apart["23"], abs=2e-6)


def test_equal_vectors_are_duplicates_at_no_distance() -> None:
    rows = [row(n, vector=turned(5), original_width=100 + n) for n in range(4)] + [row(9, vector=None)]
    found = answers(pool_of(rows, 3), near(near={"epsilon": 0.0}))
    assert kept(found) == {3, 9}
    assert found[0] == lost(3, 0.0, 0)


def test_margins_are_in_cosines() -> None:
    (margin,) = near().margins()
    assert (margin.name, margin.value) == ("1 - cosine", "distance")
    assert margin.bounds == ((pytest.approx(0.050001), "above", "epsilon 0.05"),)


def test_who_is_best_may_hang_on_what_the_barrier_says() -> None:
    chosen = near(prefer=("vector_group_size desc", "score desc"))
    assert [getattr(c, "field", c) for c in chosen.reads()] == [
        "vector_group",
        "vector_node",
        "vector_group_size",
        "score",
    ]
    rows = [row(n, vector=turned(n), score=n / 10) for n in range(3)]
    assert kept(answers(pool_of(rows), chosen)) == {2}


@settings(max_examples=25, deadline=None)
@given(
    degrees=st.lists(st.integers(0, 120), min_size=1, max_size=25),
    rule=st.sampled_from(["greedy", "component", "local"]),
    seed=st.integers(0, 2**32 - 1),
    size=st.integers(3, 40),
)
def test_any_cut_of_vectors_gives_the_same(degrees: list[int], rule: Any, seed: int, size: int) -> None:
    rng = np.random.default_rng(seed)
    uids = rng.permutation(200)[: len(degrees)].tolist()
    rows = [row(u, vector=turned(3 * d), score=float(rng.integers(3))) for u, d in zip(uids, degrees, strict=True)]
    chosen = near(rule=rule, prefer=("score desc",))
    wanted = answers(pool_of(rows), chosen)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shuffle, "ROWS", size)
        assert answers(pool_of(rows, 3, rng), chosen, seed) == wanted
    by_uid = {int.from_bytes(r["uid"], "big"): r for r in rows}
    order = sorted(by_uid, key=lambda u: (-by_uid[u]["score"], u))
    angle = dict(zip(uids, (3 * d for d in degrees), strict=True))
    close = {(a, b) for a in uids for b in uids if np.cos(np.deg2rad(angle[a] - angle[b])) > 0.95}
    stay: list[int] = []
    for u in order:
        if not any((u, v) in close for v in (stay if rule == "greedy" else order[: order.index(u)])):
            stay.append(u)
    if rule != "component":
        assert kept(wanted) == set(stay)
    for u, verdict in wanted.items():
        if not verdict["keep"] and verdict["distance"] is not None:
            exact = 1 - np.cos(np.deg2rad(angle[u] - angle[verdict["dup_of"]]))
            assert verdict["distance"] == pytest.approx(exact, abs=2e-6)


def long_hash(*bits: int) -> bytes:
    return (int.from_bytes(b"\x5a\x3c\x96\x0f" * 8, "big") ^ sum(1 << b for b in bits)).to_bytes(32, "big")


def test_long_hashes_say_how_far_all_of_a_component_are() -> None:
    rows = [row(n, phash256=long_hash(*range(8 * n))) for n in range(1, 4)]
    found = answers(pool_of(rows, 6), KeepOne(over="pool", by="phash256", distance=8, rule="component"))
    assert found == {1: KEPT, 2: lost(1, 8, 1, "component"), 3: lost(1, 16, 1, "component")}
    found = answers(pool_of(rows), KeepOne(over="pool", by="phash256", distance=8))
    assert found == {1: KEPT, 2: lost(1, 8, 1), 3: KEPT}


@pytest.mark.parametrize("distance", [0, 8])
def test_pictures_whose_colours_differ_are_no_duplicates(distance: int) -> None:
    verify = (Agreement(column="colours", within=4, measure="l1"),)
    chosen = KeepOne(over="pool", by="phash256", distance=distance, verify=verify)
    red, blue, pink = bytes([200, 10]), bytes([10, 200]), bytes([203, 12])
    rows: list[Row] = [row(1, phash256=long_hash(), colours=red), row(2, phash256=long_hash(), colours=blue)]
    rows += [row(3, phash256=long_hash(*range(distance)), colours=pink), row(4, phash256=long_hash(), colours=None)]
    found = answers(pool_of(rows, 2), chosen)
    assert kept(found) == {1, 2, 4}
    assert found[3] == lost(1, distance, 1)
