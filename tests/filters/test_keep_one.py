"""Keep-one: the declared best of each group stays, among survivors, however the pool is cut."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

import stages.shuffle as shuffle
from filters.keep_one import KeepOne
from stages.components import component_labels
from tests.filters.keep_one_parts import BASE, KEPT, NOT_ASKED, SAME, Row, answers, kept, lost, pool_of, row


def test_the_largest_stays_then_the_smallest_uid() -> None:
    rows = [row(1, **SAME), row(2, **SAME, original_width=101), row(3, **SAME, original_width=101), row(4)]
    found = answers(pool_of(rows, 2), KeepOne(over="pool", by="sha256"))
    assert found == {1: lost(2, 0, 1), 2: KEPT, 3: lost(2, 0, 1), 4: KEPT}


@pytest.mark.parametrize("order", ["asc", "desc"])
def test_missing_and_nan_are_worst_either_way(order: str) -> None:
    rows = [row(n, **SAME, score=s) for n, s in enumerate([None, float("nan"), -5.0], 1)]
    assert kept(answers(pool_of(rows), KeepOne(over="pool", by="sha256", prefer=(f"score {order}",)))) == {3}


def test_scores_closer_than_the_rounding_are_equal() -> None:
    rows = [row(1, **SAME, score=0.50000), row(2, **SAME, score=0.50001), row(3, **SAME, score=0.4)]
    prefer = KeepOne(over="pool", by="sha256", prefer=("score desc",))
    assert kept(answers(pool_of(rows), prefer)) == {1}
    rows[1]["score"] = 0.5002
    assert kept(answers(pool_of(rows), prefer)) == {2}


def test_columns_are_preferred_in_turn() -> None:
    rows = [row(1, **SAME, score=0.1), row(2, **SAME, score=0.9), row(3, **SAME, score=1.0, original_width=7)]
    prefer = ("original_width * original_height desc", "score desc")
    assert kept(answers(pool_of(rows), KeepOne(over="pool", by="sha256", prefer=prefer))) == {2}


def test_a_dropped_sample_neither_keeps_nor_connects() -> None:
    """1 - 2 - 3 in steps of 4 bits; 2 is gone, so 1 and 3 are not duplicates; 4 and 5 are equal to it and remain."""
    rows = [row(1, phash64=BASE), row(2, phash64=BASE ^ 0xF, asked=False), row(3, phash64=BASE ^ 0xFF)]
    for rule in ("greedy", "component"):
        chosen = KeepOne(over="survivors", by="phash64", distance=4, rule=rule)
        found = answers(pool_of(rows), chosen)
        assert kept(found) == {1, 3}
        assert found[2] == NOT_ASKED


def test_equal_hashes_stay_duplicates_when_their_smallest_uid_is_gone() -> None:
    rows = [row(1, phash64=BASE, asked=False), row(2, phash64=BASE), row(3, phash64=BASE)]
    for distance in (0, 4):
        found = answers(pool_of(rows), KeepOne(over="survivors", by="phash64", distance=distance))
        assert found[3] == lost(2, 0, 2)
        assert kept(found) == {2}


def test_chain_greedy_keeps_every_other_and_component_one() -> None:
    """A ~ B ~ C, A and C apart: greedy drops B only."""
    rows = [row(n + 1, phash64=BASE ^ (1 << 4 * n) - 1) for n in range(3)]
    greedy = answers(pool_of(rows), KeepOne(over="pool", by="phash64", distance=4))
    assert kept(greedy) == {1, 3}
    assert greedy[2] == lost(1, 4, 1)
    component = answers(pool_of(rows), KeepOne(over="pool", by="phash64", distance=4, rule="component"))
    assert kept(component) == {1}
    assert component[3] == lost(1, 8, 1, "component")
    local = answers(pool_of(rows), KeepOne(over="pool", by="phash64", distance=4, rule="local"))
    assert kept(local) == {1}
    assert local[3] == lost(2, 4, 1, "local")


POOLS = st.lists(
    st.tuples(
        st.lists(st.integers(0, 63), max_size=5),  # bits that differ from the base
        st.sampled_from([0.1, 0.5, 0.50001, None, float("nan")]),
        st.booleans() | st.just(True),
    ),
    max_size=40,
)


@settings(max_examples=80, deadline=None)
@given(
    drawn=POOLS,
    distance=st.sampled_from([0, 2, 4, 5]),
    shards=st.integers(1, 5),
    size=st.integers(1, 30),
    seed=st.integers(0, 2**32 - 1),
)
def test_rules_hold_for_any_cut(drawn: list[Any], distance: int, shards: int, size: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    uids = rng.permutation(500)[: len(drawn)].tolist()
    rows = [
        row(u, phash64=BASE ^ sum({1 << b for b in bits}), score=score, asked=asked)
        for u, (bits, score, asked) in zip(uids, drawn, strict=True)
    ]
    hashes = {u: r["phash64"] for u, r in zip(uids, rows, strict=True)}

    def key(r: Row) -> tuple[int, bytes]:
        score = r["score"]
        return (2**63 if score is None or score != score else -round(score * 1e4), r["uid"])

    asked = [int.from_bytes(r["uid"], "big") for r in sorted(rows, key=key) if r["asked"]]  # best first
    found = {}
    for rule in ("greedy", "component"):
        chosen = KeepOne(over="survivors", by="phash64", distance=distance, rule=rule, prefer=("score desc",))
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(shuffle, "ROWS", size)
            cut = answers(pool_of(rows, shards, rng), chosen, seed)
        assert cut == answers(pool_of(rows), chosen)
        found[rule] = cut

    def near(a: int, b: int) -> bool:
        return (hashes[a] ^ hashes[b]).bit_count() <= distance

    expected: list[int] = []
    for uid in asked:
        if not any(near(uid, other) for other in expected):
            expected.append(uid)
    assert kept(found["greedy"]) == set(expected)
    edges = [(i, j) for i in range(len(asked)) for j in range(i) if near(asked[i], asked[j])]
    ends = np.array(edges, np.int64).reshape(-1, 2)
    labels = component_labels(len(asked), ends[:, 0], ends[:, 1])
    assert kept(found["component"]) == {asked[i] for i in set(labels.tolist())}
    assert kept(found["component"]) <= kept(found["greedy"])
    for rule, verdicts in found.items():
        for uid, verdict in verdicts.items():
            if uid not in asked:
                assert verdict == NOT_ASKED
            elif verdict["keep"]:
                assert verdict == KEPT
            else:
                assert (verdict["reason"], verdict["rule"]) == ("duplicate", rule)
                mine = labels[asked.index(uid)]
                assert verdict["component"] == min(u for i, u in enumerate(asked) if labels[i] == mine)
                assert verdict["dup_of"] in kept(verdicts)
                assert verdict["distance"] == (hashes[uid] ^ hashes[verdict["dup_of"]]).bit_count()
                if rule == "greedy":
                    best = min((k for k in kept(verdicts) if near(uid, k)), key=asked.index)
                    assert verdict["dup_of"] == best
                else:
                    assert verdict["dup_of"] == asked[labels[asked.index(uid)]]
        for uid in kept(verdicts):  # whoever is touched either stays or goes
            mine = {u for i, u in enumerate(asked) if labels[i] == labels[asked.index(uid)]}
            gone = {u for u, v in verdicts.items() if v["component"] == min(mine)}
            assert gone == mine - kept(verdicts)
    again = [r for r in rows if int.from_bytes(r["uid"], "big") in expected]
    assert kept(answers(pool_of(again), chosen.model_copy(update={"rule": "greedy"}))) == set(expected)


def test_one_large_component() -> None:
    """Ten thousand hashes, each two bits from the next: greedy keeps a cover, component a single one."""
    n = 10_000
    number = np.arange(n, dtype=np.uint64)
    gray = number ^ (number >> np.uint64(1))
    bits = [((gray >> np.uint64(b)) & np.uint64(1)) * np.uint64(0b11 << 4 * b) for b in range(14)]
    hashes = np.stack(bits).sum(axis=0, dtype=np.uint64).tolist()
    rows = [row(i, phash64=h ^ BASE) for i, h in enumerate(hashes)]
    pool = pool_of(rows, 3)
    found = answers(pool, KeepOne(over="pool", by="phash64", distance=2))
    stay = kept(found)
    assert 0 in stay
    assert all(v["distance"] == 2 and v["dup_of"] in stay for u, v in found.items() if u not in stay)
    assert kept(answers(pool, KeepOne(over="pool", by="phash64", distance=2, rule="component"))) == {0}


def test_groups_are_asked_for_with_the_same_parameters() -> None:
    chosen = KeepOne(over="pool", by="phash64", distance=4, min_quality=30)
    (barrier,) = chosen.barriers()
    assert barrier == chosen.groups()
    assert [getattr(c, "field", c) for c in chosen.reads()] == [
        "phash64_group", "phash64_node", "original_width", "original_height",
    ]  # fmt: skip
    assert KeepOne(over="pool", by="url").barriers() == ()


@pytest.mark.parametrize("entry", ["score", "score down", "score + 1 desc", "-score", ""])
def test_an_order_that_says_no_direction(entry: str) -> None:
    with pytest.raises(ValidationError, match="desc"):
        KeepOne(over="pool", by="url", prefer=(entry,))


def test_text_cannot_be_ranked() -> None:
    with pytest.raises(ValueError, match="'sha256' is string"):
        answers(pool_of([row(1, **SAME), row(2, **SAME)]), KeepOne(over="pool", by="sha256", prefer=("sha256 asc",)))


NEAR = {"vectors": "clip_image", "epsilon": 0.05}


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({}, "give `by`"),
        ({"by": "sha256", "near": NEAR}, "give `by`"),
        ({"by": "sha256", "distance": 2}, "how long the hashes are"),
        ({"by": "phash64", "distance": 12}, "at most 10"),
        ({"by": "url", "min_quality": 10}, "go with perceptual hashes"),
        ({"near": NEAR, "distance": 4, "bands": 8}, "distance, bands: with `by` only"),
        ({"by": "phash256", "bands": 8}, "bands: with a distance or `verify` only"),
        ({"by": "phash64", "bits": 64}, "bits: with a distance or `verify` only"),
        ({"near": NEAR, "rule": "reference"}, "within_clusters: true"),
        ({"by": "phash64", "distance": 4, "rule": "reference"}, "within_clusters: true"),
    ],
)
def test_parameters_that_do_not_go_together(given: Any, words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        KeepOne(over="pool", **given)


@pytest.mark.parametrize(
    "given",
    [
        {"by": "phash64", "distance": 4, "min_quality": 30},
        {"by": "phash256", "distance": 48, "verify": ({"column": "colours", "within": 6, "measure": "l1"},)},
        {"near": NEAR | {"within_clusters": True}, "rule": "reference"},
    ],
)
def test_it_can_be_made_again_from_what_it_says_of_itself(given: Any) -> None:
    chosen = KeepOne(over="pool", **given)
    assert KeepOne(**chosen.identity()["parameters"]) == chosen
