"""SemDeDup: values of the specification, both semantics against plain loops, and no cut into shards shows."""

from __future__ import annotations

import tracemalloc
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

import filters.near_rows as near_rows
import filters.semdedup as module
import stages.near_vector_rows as vector_rows
from filters.combined import Union
from filters.near_rows import bound_of, cosines, nearest_earlier, nearest_kept
from filters.semdedup import SemDeDup
from stages.base import Column
from stages.draws import hash64_halves
from stages.kmeans import Clusters
from stages.near_vector_tiles import UNIT
from stages.vectors import on_grid, unit
from tests.phase_runner import PhaseRunner
from tests.stages.vector_parts import (
    CUTS,
    answers,
    as_stored,
    by_number,
    clumps,
    directions,
    kept,
    keys,
    plain_lists,
    pool_of,
    vectors,
)


def chain() -> np.ndarray:
    """A, B, C with cosines AB .97, BC .96, AC .50: more than length three has room for, so in five dimensions."""
    gram = np.array([[1, 0.97, 0.88], [0.97, 1, 0.96], [0.88, 0.96, 1]])
    return np.asarray(np.linalg.cholesky(gram))


def semdedup(**more: Any) -> SemDeDup:
    clusters = Clusters(**more.pop("clusters", {"k": 1}))
    bound = {} if "keep_rate" in more else {"epsilon": 0.05}
    return SemDeDup(**{"vectors": "v", "clusters": clusters, "over": "pool", **bound, **more})


def plainly(s: np.ndarray, epsilon: float, reference: bool) -> list[int]:
    """Rows that stay, in order, by a loop over rounded cosines."""
    stay: list[int] = []
    for j in range(len(s)):
        earlier = range(j) if reference else stay
        if not any(round(float(s[i, j]), 6) > round(1 - epsilon, 6) for i in earlier):
            stay.append(j)
    return stay


def test_a_chain_by_both_semantics() -> None:
    x = on_grid(chain())
    for find, stays in ((nearest_earlier, [0]), (lambda x: nearest_kept(x, bound_of(0.05)), [0, 2])):
        level, at = find(x)
        assert np.flatnonzero(level <= bound_of(0.05)).tolist() == stays
        assert at[1] == 0
        assert level[1] == 970_000
    assert nearest_earlier(x)[0].tolist() == [-UNIT, 970_000, 960_000]
    assert nearest_kept(x, bound_of(0.05))[0].tolist() == [-UNIT, 970_000, 880_000]


def test_the_values_of_the_specification(monkeypatch: pytest.MonkeyPatch) -> None:
    """AB .97, BC .96, AC .50 are the cosines of no three vectors, so the rule is asked about them as a matrix."""
    s = np.array([[1, 0.97, 0.50], [0.97, 1, 0.96], [0.50, 0.96, 1]])
    monkeypatch.setattr(near_rows, "cosines", lambda *_: np.rint(s * UNIT).astype(np.int64))
    rows = np.zeros((3, 1), np.float32)
    assert (nearest_earlier(rows)[0] > bound_of(0.05)).tolist() == [False, True, True]
    assert (nearest_kept(rows, bound_of(0.05))[0] > bound_of(0.05)).tolist() == [False, True, False]


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 999),
    n=st.integers(0, 40),
    epsilon=st.sampled_from([0, 0.01, 0.05, 0.2, 0.6, 2]),
    block=st.integers(1, 9),
)
def test_rows_are_dropped_as_by_a_loop(seed: int, n: int, epsilon: float, block: int) -> None:
    x = on_grid(clumps(5, 8, 6, 0.6, seed)[np.random.default_rng(seed).permutation(40)[:n]])
    s = cosines(x, x) / 1e6
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(near_rows, "BLOCK", block)
        bound = bound_of(epsilon)
        assert np.flatnonzero(nearest_earlier(x)[0] <= bound).tolist() == plainly(s, epsilon, reference=True)
        level, at = nearest_kept(x, bound)
        assert np.flatnonzero(level <= bound).tolist() == plainly(s, epsilon, reference=False)
    dropped = np.flatnonzero(level > bound)
    assert (level[at[dropped]] <= bound).all()
    assert (np.rint(s[dropped, at[dropped]] * 1e6) == level[dropped]).all()


@pytest.mark.parametrize("held", [1 << 27, 0])
@pytest.mark.parametrize("find", [nearest_earlier, lambda x: nearest_kept(x, bound_of(0.05))])
def test_memory_is_the_rows_and_some_blocks(find: Any, held: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many rows a cluster has: a block of cosines with all earlier ones would be 2 MB several times over."""
    x = on_grid(clumps(8, 500, 8, 0.6))
    whole = find(x)
    monkeypatch.setattr(near_rows, "BLOCK", 64)
    monkeypatch.setattr(near_rows, "HELD", held)
    tracemalloc.start()
    found = find(x)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1_000_000
    assert all(np.array_equal(a, b) for a, b in zip(found, whole, strict=True))


def test_equal_rows_leave_one() -> None:
    x, _ = unit(vectors(np.repeat(directions(30, 48), 4, axis=0)), "test")
    for find in (nearest_earlier, lambda x: nearest_kept(x, bound_of(1e-6))):
        level, _ = find(x)
        assert (level > bound_of(1e-6)).sum() == 90
        assert (level > bound_of(0)).sum() == 0


def pool(shards: int = 1, seed: int | None = None, null: Sequence[int] = ()) -> dict[int, pa.Table]:
    return pool_of({"v": vectors(clumps(8, 10, 6, 0.4), null=null)}, shards, seed)


@pytest.mark.parametrize("order", ["hard", "easy", "random"])
@pytest.mark.parametrize("semantics", ["greedy", "reference"])
def test_the_whole_way(order: Any, semantics: Any) -> None:
    """One cluster, so that the rest is plain; distances as the columns say them."""
    chosen = semdedup(order=order, semantics=semantics, epsilon=0.03)
    runner = PhaseRunner(pool())
    found = by_number(pool(), runner.run(chosen))
    assigned = {int(p): o.tables for p, o in runner.files[chosen.kmeans()]["assign"].items()}
    far = np.array([d for _, d, _ in by_number(pool(), assigned)])
    if order == "random":
        first = np.argsort(hash64_halves(0, "semdedup", *keys(80)))
    else:
        first = np.lexsort((np.arange(80), far if order == "easy" else -far))
    x = as_stored(clumps(8, 10, 6, 0.4))[first]
    assert kept(found) == sorted(first[plainly(x @ x.T, 0.03, semantics == "reference")].tolist())
    assert 40 <= len(kept(found)) < 70
    for number, (keep, reason, similarity, dup_of) in enumerate(found):
        assert (reason, dup_of is None) == ((None, True) if keep else ("semantic_duplicate", False))
        if not keep:
            other = int.from_bytes(dup_of, "big")
            exact = as_stored(clumps(8, 10, 6, 0.4))
            assert similarity == pytest.approx(exact[number] @ exact[other], abs=2e-6)
            assert similarity > 0.97
            assert semantics == "reference" or found[other][0]


@pytest.mark.parametrize("rows", [1 << 17, 11])
def test_no_cut_shows(rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ROWS", rows)
    for chosen in (
        semdedup(clusters={"k": 6}, epsilon=0.05),
        semdedup(clusters={"k": "n/9", "spherical": True}, keep_rate=0.4, semantics="reference"),
        semdedup(clusters={"k": 3}, epsilon=0.2, order="random", seed=4),
    ):
        first, *others = (answers(pool(shards, seed), chosen, seed) for shards, seed in CUTS)
        assert all(other == first for other in others)
        assert 0 < len(kept(first)) < 80


@pytest.mark.parametrize("held_bytes", [1 << 29, 0])
@pytest.mark.parametrize("held", [6 * 50, 6 * 16])
def test_clusters_that_memory_does_not_hold_give_the_same(
    held: int, held_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Several clusters loaded together, or one in chunks, from memory or from files: 80 rows of 6 coordinates."""
    many = (
        semdedup(clusters={"k": 6}, epsilon=0.05),
        semdedup(clusters={"k": 1}, epsilon=0.2, order="random"),
        semdedup(clusters={"k": 2}, keep_rate=0.4, semantics="reference"),
    )
    whole = [answers(pool(3, 1), chosen) for chosen in many]
    monkeypatch.setattr(vector_rows, "HELD", held)
    monkeypatch.setattr(vector_rows, "HELD_BYTES", held_bytes)
    monkeypatch.setattr(near_rows, "BLOCK", 3)
    assert [answers(pool(3, 1), chosen) for chosen in many] == whole


def test_of_equally_far_rows_the_smaller_uid_stays() -> None:
    """Copies in shuffled shards: their distances are equal, and rows lie in any order."""
    x = np.tile(directions(12, 6), (3, 1))
    for shards, seed in CUTS:
        found = answers(pool_of({"v": vectors(x)}, shards, seed), semdedup(epsilon=0.001, clusters={"k": 2}), seed)
        assert kept(found) == list(range(12))


def test_clusters_are_compared_apart() -> None:
    one, many = (len(kept(answers(pool(), semdedup(clusters={"k": k}, epsilon=0.3)))) for k in (1, 40))
    assert one < many


def test_fewer_are_kept_by_a_larger_epsilon() -> None:
    sizes = [
        len(kept(answers(pool(), semdedup(epsilon=e, semantics="reference")))) for e in (0, 0.01, 0.05, 0.2, 0.9, 2)
    ]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[0] == 80
    assert sizes[-1] == 1


@pytest.mark.parametrize("keep_rate", [0.1, 0.33, 0.5, 1.0])
def test_the_epsilon_is_found_for_a_rate(keep_rate: float) -> None:
    chosen = semdedup(keep_rate=keep_rate, semantics="reference", clusters={"k": 4})
    runner = PhaseRunner(pool())
    found = kept(by_number(pool(), runner.run(chosen)))
    (stats,) = runner.stats(chosen, "epsilon").values()
    assert stats["kept"] == len(found) >= keep_rate * 80
    same = semdedup(epsilon=stats["epsilon"], semantics="reference", clusters={"k": 4})
    assert kept(answers(pool(), same)) == found
    more = semdedup(epsilon=stats["epsilon"] + 1e-4, semantics="reference", clusters={"k": 4})
    assert stats["epsilon"] == 2 or len(kept(answers(pool(), more))) < keep_rate * 80


def test_only_those_asked_count() -> None:
    x = vectors(clumps(8, 10, 6, 0.4))
    asked = [i % 10 < 5 for i in range(80)]
    table = pool_of({"v": x, "asked": pa.array(asked)}, 3, 1)
    found = answers(table, semdedup(over="survivors", epsilon=0.2))
    assert [keep is not None for keep, *_ in found] == asked
    assert all(found[int.from_bytes(dup, "big")][0] for keep, _, _, dup in found if keep is False)


@pytest.mark.parametrize(("policy", "expected"), [("drop", (False, "missing")), ("keep", (True, None))])
def test_missing_vectors_follow_the_policy(policy: Any, expected: tuple[bool, str | None]) -> None:
    found = answers(pool(2, 1, null=[7]), semdedup(on_missing=policy))
    assert found[7] == (*expected, None, None)


def test_what_cannot_be_is_said() -> None:
    with pytest.raises(ValueError, match=r"sample 0{31}7 has no 'v'.*on_missing: drop"):
        answers(pool(2, 1, null=[7]), semdedup())
    for bounds in ({}, {"epsilon": 0.1, "keep_rate": 0.5}):
        with pytest.raises(ValidationError, match="give epsilon or keep_rate"):
            SemDeDup(vectors="v", clusters=Clusters(k=1), over="pool", **bounds)
    with pytest.raises(ValidationError, match="keep_rate goes with `semantics: reference`"):
        semdedup(keep_rate=0.5)


def test_shards_of_plain_lists_may_have_no_vectors(monkeypatch: pytest.MonkeyPatch) -> None:
    table = pool(null=range(20, 50))[0]
    chosen = semdedup(on_missing="drop", clusters={"k": 3})
    expected = answers({0: table}, chosen)
    for rows in (1 << 17, 20):
        monkeypatch.setattr(module, "ROWS", rows)
        assert answers(plain_lists(table, (0, 20, 40, 50, 50, 80)), chosen) == expected
    assert set(answers(plain_lists(table.slice(20, 30), (0, 20, 30)), chosen)) == {(False, "missing", None, None)}


def test_two_in_a_union_name_their_clusters() -> None:
    """Their columns are told apart by name, which changes no answer."""
    coarse, fine = (semdedup(clusters={"k": k, "name": name}) for k, name in ((2, "coarse"), (9, "fine")))
    both = Union(members=(coarse, fine), over="pool")
    names = [c.field for c in both.reads() if isinstance(c, Column)]
    assert sorted(set(names)) == sorted(names)
    assert "coarse_cluster" in names
    one, other = (set(kept(answers(pool(), chosen))) for chosen in (coarse, fine))
    assert set(kept(answers(pool(), both))) == one | other
    assert one != one | other or other != one | other
    assert kept(answers(pool(), semdedup(clusters={"k": 2}))) == sorted(one)
