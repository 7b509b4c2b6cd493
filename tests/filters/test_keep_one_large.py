"""Keep-one where a bucket's samples, a component, or its edges are more than a worker holds."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import filters.keep_edges as keep_edges
import filters.keep_entries as keep_entries
import stages.shuffle as shuffle
from filters.keep_one import KeepOne
from tests.filters.keep_one_parts import BASE, KEPT, SAME, Row, answers, kept, pool_of, row
from tests.phase_runner import PhaseRunner

HASHES = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 9)), min_size=1, max_size=60)


def chains(drawn: list[Any], rng: np.random.Generator) -> list[Row]:
    """Samples of six chains of ten hashes each, two bits from one to the next."""
    centres = np.random.default_rng(1).integers(0, 2**62, 6).tolist()
    uids = rng.permutation(1000)[: len(drawn)].tolist()
    return [
        row(u, phash64=centres[c] ^ (1 << 2 * n) - 1, score=float(rng.integers(3)))
        for u, (c, n) in zip(uids, drawn, strict=True)
    ]


@settings(max_examples=60, deadline=None)
@given(drawn=HASHES, rule=st.sampled_from(["greedy", "component", "local"]), seed=st.integers(0, 2**32 - 1))
def test_a_bucket_that_is_read_again_and_again_says_the_same(drawn: Any, rule: Any, seed: int) -> None:
    rng = np.random.default_rng(seed)
    rows = chains(drawn, rng)
    for by in ({"by": "phash64", "distance": 2}, {"by": "phash64"}):
        chosen = KeepOne(over="pool", rule=rule, prefer=("score desc",), **by)
        wanted = answers(pool_of(rows), chosen)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(keep_entries, "HELD", 5)
            patch.setattr(keep_edges, "HELD", 3)
            patch.setattr(shuffle, "ROWS", int(rng.integers(1, 40)))
            assert answers(pool_of(rows, 3, rng), chosen, seed) == wanted


@settings(max_examples=60, deadline=None)
@given(drawn=HASHES, seed=st.integers(0, 2**32 - 1), size=st.integers(1, 40))
def test_of_a_large_component_the_best_stays_however_the_pool_is_cut(drawn: Any, seed: int, size: int) -> None:
    """More than four hashes, of equal ones two at most, are many."""
    rng = np.random.default_rng(seed)
    rows = chains(drawn, rng)
    chosen = KeepOne(over="pool", by="phash64", distance=2, prefer=("score desc",))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(keep_entries, "HELD", 5)
        patch.setattr(keep_entries, "EQUAL", 2)
        whole = answers(pool_of(rows), chosen)
        patch.setattr(keep_entries, "LARGEST", 4)
        patch.setattr(keep_entries, "HELD", 1)
        found = answers(pool_of(rows), chosen)
        patch.setattr(shuffle, "ROWS", size)
        assert answers(pool_of(rows, 3, rng), chosen, seed) == found

    groups: dict[int, list[Row]] = {}
    runner = PhaseRunner(pool_of(rows))
    (table,) = runner.run(chosen.groups()).values()
    by_uid = {r["uid"]: r for r in rows}
    for uid, group in zip(runner.pool[0].column("uid").to_pylist(), table.column(0).to_pylist(), strict=True):
        groups.setdefault(int.from_bytes(group or uid, "big"), []).append(by_uid[uid])
    for group, members in groups.items():
        hashes = [r["phash64"] for r in members]
        many = sum(min(hashes.count(h), 2) for h in set(hashes)) > 4
        best = min(members, key=lambda r: (-r["score"], r["uid"]))
        for r in members:
            uid = int.from_bytes(r["uid"], "big")
            if not many:
                assert found[uid] == whole[uid]
            elif r is best:
                assert found[uid] == KEPT
            else:
                why = {"reason": "large_component", "rule": "component", "distance": None}
                named = {"dup_of": int.from_bytes(best["uid"], "big"), "component": group}
                assert found[uid] == {"keep": False} | why | named


@pytest.mark.parametrize("held", [1, 100, keep_entries.HELD])
@pytest.mark.parametrize("size", [7, 1000])
def test_a_component_is_large_in_one_span_as_in_many(held: int, size: int) -> None:
    """Four hashes of 50 samples each are a hundred nodes: a span has four entries of them, many spans up to two
    hundred; ten hashes of one sample each, in the same bucket, are ten nodes."""
    rows = [row(n, phash64=BASE ^ (1 << 2 * (n % 4)) - 1) for n in range(200)]
    rows += [row(1000 + n, phash64=~BASE % 2**64 ^ (1 << 2 * n) - 1) for n in range(10)]
    chosen = KeepOne(over="pool", by="phash64", distance=2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(keep_entries, "EQUAL", 25)
        patch.setattr(keep_entries, "LARGEST", 99)
        patch.setattr(keep_entries, "HELD", held)
        patch.setattr(shuffle, "ROWS", size)
        found = answers(pool_of(rows, 8), chosen)
        reasons = [found[uid]["reason"] for uid in range(200)]
        assert (reasons.count("large_component"), reasons.count(None)) == (199, 1)
        assert {found[1000 + n]["reason"] for n in range(10)} == {None, "duplicate"}
        patch.setattr(keep_entries, "LARGEST", 100)
        assert "large_component" not in [f["reason"] for f in answers(pool_of(rows, 8), chosen).values()]


def test_copies_of_one_picture_are_one_entry_a_span_and_no_large_component() -> None:
    rows = [row(n, phash64=BASE, **SAME) for n in range(300)]
    for chosen in (KeepOne(over="pool", by="sha256"), KeepOne(over="pool", by="phash64", distance=4)):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(shuffle, "ROWS", 64)
            patch.setattr(keep_entries, "LARGEST", 100)
            patch.setattr(keep_entries, "HELD", 1)
            pool = pool_of(rows, 4)
            runner = PhaseRunner(pool)
            verdicts = runner.run(chosen)
        assert sum(s["entries"] for s in runner.stats(chosen, "touched").values()) == 4
        assert sum(t.column("keep").to_pylist().count(True) for t in verdicts.values()) == 1
        assert {r for t in verdicts.values() for r in t.column("reason").to_pylist()} == {None, "duplicate"}


def test_footers_say_what_was_decided() -> None:
    rows = chains([(0, n) for n in range(10)] + [(1, 0), (1, 1)], np.random.default_rng(0))
    rows = [r | {"score": -float(n)} for n, r in enumerate(rows)]
    runner = PhaseRunner(pool_of(rows))
    chosen = KeepOne(over="pool", by="phash64", distance=2, rule="local", prefer=("score desc",))
    verdicts = runner.run(chosen)[0]
    (stats,) = runner.stats(chosen, "decide").values()
    assert stats == {"large": 0, "nodes": 12, "kept": 2, "components": 2, "orphans": 8}
    assert verdicts.column("keep").to_pylist().count(True) == 2
    assert len(kept(answers(pool_of(rows), chosen))) == 2
