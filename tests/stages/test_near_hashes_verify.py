"""Near hashes that a second signal must confirm, against plain Python over all pairs; crowds; no cut shows."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import stages.near_hash_signals as signals
import stages.shuffle as shuffle
from stages.near_hashes import Agreement, NearHashes
from stages.verified_pairs import Signals, blocks
from tests.phase_runner import PhaseRunner
from tests.stages.near_hash_pools import CENTRES, WIDE, Row, bits_apart, edges, groups, plain, pool_of, row

COLOURS = Agreement(column="colours", within=2, measure="l1")
OTHER = Agreement(column="other", within=3, measure="bits")
VECTOR = Agreement(column="vector", within=0.1, measure="cosine")


def agree(a: Row, b: Row) -> bool:
    """Mean absolute difference of at most 2, and at most three bits."""
    difference = sum(abs(x - y) for x, y in zip(a["colours"], b["colours"], strict=True))
    return difference <= 2 * len(a["colours"]) and bits_apart(a, b, "other") <= 3


def able(r: Row) -> bool:
    return r.get("colours") is not None and r.get("other") is not None


def test_equal_and_near_hashes_must_agree_in_the_signal() -> None:
    red, dark, blue = b"\xf0\x10\x10", b"\xea\x10\x10", b"\x10\x10\xf0"
    rows = [row(1, phash64=CENTRES[0], colours=red), row(2, phash64=CENTRES[0], colours=dark)]
    rows += [row(3, phash64=CENTRES[0], colours=blue), row(4, phash64=CENTRES[0] ^ 3, colours=blue)]
    rows += [row(5, phash64=CENTRES[0] ^ 3, colours=None), row(6, phash64=CENTRES[0], colours=red)]
    barrier = NearHashes(by="phash64", distance=4, verify=(COLOURS,))
    runner = PhaseRunner(pool_of(rows, 2))
    assert groups(runner.pool, barrier, runner) == {1: (1, 3), 2: (1, 3), 6: (1, 3), 3: (3, 2), 4: (3, 2), 5: (None, 1)}
    assert sorted(e[4] for e in edges(runner, barrier)) == [0, 2]
    nodes = {n for t in runner.run(barrier).values() for n in t.column("phash64_node").to_pylist()}
    assert len(nodes) == 5  # four of hash and colours, and null


@pytest.mark.parametrize("agreement", [COLOURS, OTHER, VECTOR])
def test_the_bound_itself_agrees_and_what_lies_beyond_does_not(agreement: Agreement) -> None:
    values: dict[str, tuple[Any, Any, Any]] = {
        "colours": (b"\x10\x10\x10", b"\x12\x10\x14", b"\x12\x11\x14"),
        "other": (0b0, 0b111, 0b1111),
        "vector": ([1.0, 0, 0, 0], [9.0, 19**0.5, 0, 0], [0.89, (1 - 0.89**2) ** 0.5, 0, 0]),
    }
    first, at, beyond = values[agreement.column.field]
    for second, together in ((at, True), (beyond, False)):
        rows = [row(n, phash64=CENTRES[0], **{agreement.column.field: v}) for n, v in enumerate((first, second))]
        found = groups(pool_of(rows), NearHashes(by="phash64", distance=4, verify=(agreement,)))
        assert set(found.values()) == ({(0, 2)} if together else {(None, 1)})


HASHES = st.builds(
    lambda centre, bits: centre ^ sum({1 << b for b in bits}),
    st.sampled_from(CENTRES),
    st.lists(st.integers(0, 63), max_size=3),
)
VALUES = st.tuples(
    HASHES,
    st.none() | st.binary(min_size=2, max_size=2).map(lambda b: bytes(v % 8 for v in b)),
    st.integers(0, 15) | st.none(),
)


@settings(max_examples=60, deadline=None)
@given(
    values=st.lists(VALUES, max_size=40),
    distance=st.integers(0, 5),
    shards=st.integers(1, 5),
    size=st.integers(2, 30),
    seed=st.integers(0, 2**32 - 1),
)
def test_any_cut_gives_the_pairs_that_agree(
    values: list[Any], distance: int, shards: int, size: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    rows = [
        row(int(u), phash64=h, colours=c, other=o) for u, (h, c, o) in zip(rng.permutation(999), values, strict=False)
    ]
    barrier = NearHashes(by="phash64", distance=distance, verify=(COLOURS, OTHER))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shuffle, "ROWS", size)
        patch.setattr(signals, "CROWD", 1000)  # exact, however many values a hash has
        pool = pool_of(rows, shards, rng)
        found = groups(pool, barrier, PhaseRunner(pool, seed))
    assert found == plain(rows, lambda a, b: bits_apart(a, b, "phash64") <= distance and agree(a, b), able)


def test_long_hashes_are_verified_too_and_no_cut_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(3)
    rows = [
        row(
            u,
            phash256=WIDE[u % 3] ^ 1 << int(rng.integers(256)),
            colours=bytes(rng.integers(0, 5, 3).tolist()),
            other=u % 4,
        )
        for u in range(90)
    ]
    barrier = NearHashes(by="phash256", distance=7, verify=(COLOURS, OTHER))
    whole = PhaseRunner(pool_of(rows))
    found = groups(whole.pool, barrier, whole)
    assert found == plain(rows, lambda a, b: bits_apart(a, b, "phash256") <= 7 and agree(a, b), able)
    monkeypatch.setattr(shuffle, "ROWS", 11)
    cut = PhaseRunner(pool_of(rows, 5, rng), seed=2)
    assert groups(cut.pool, barrier, cut) == found
    assert edges(cut, barrier) == edges(whole, barrier)


def crowd(count: int, spread: int, seed: int = 0, hashes: int = 1) -> list[Row]:
    """So many samples of a few near hashes, with different colours around one."""
    rng = np.random.default_rng(seed)
    colours = 100 + rng.integers(-spread, spread + 1, (count, 48))
    return [row(u, phash64=CENTRES[0] ^ u % hashes, colours=bytes(c)) for u, c in enumerate(colours.tolist())]


def test_a_picture_in_thousands_of_encodings_has_few_edges(monkeypatch: pytest.MonkeyPatch) -> None:
    """4.5 million pairs of 3,000 encodings agree; sixteen stand for all, on eight hashes together."""
    barrier = NearHashes(by="phash64", distance=4, verify=(COLOURS,))
    rows = crowd(3000, 1, hashes=8)
    runner = PhaseRunner(pool_of(rows))
    assert set(groups(runner.pool, barrier, runner).values()) == {(0, 3000)}
    assert sum(s["in_crowds"] for s in runner.stats(barrier, "distinct").values()) == 3000 - 8 * 16
    assert len(edges(runner, barrier)) == 128 * 127 // 2
    nodes = pa.chunked_array([t.column("phash64_node") for t in runner.run(barrier).values()])
    assert len(nodes.unique()) == 128
    monkeypatch.setattr(shuffle, "ROWS", 200)
    cut = PhaseRunner(pool_of(rows, 7, np.random.default_rng(4)), seed=1)
    assert set(groups(cut.pool, barrier, cut).values()) == {(0, 3000)}
    assert edges(cut, barrier) == edges(runner, barrier)


def test_who_goes_by_anothers_name_agrees_with_all_of_that_name() -> None:
    barrier = NearHashes(by="phash64", distance=4, verify=(COLOURS,))
    rows = [r | {"colours": bytes(c + u % 6 for c in r["colours"])} for u, r in enumerate(crowd(400, 1))]
    runner = PhaseRunner(pool_of(rows))
    (answer,) = runner.run(barrier).values()
    nodes = np.array(answer.column("phash64_node").to_pylist(), np.uint64)
    named = [np.flatnonzero(nodes == n) for n in np.unique(nodes)]
    assert max(map(len, named)) > 5
    values = np.array([list(r["colours"]) for r in rows])
    for same in named:
        apart = np.abs(values[same][:, None] - values[same][None]).mean(axis=2)
        assert apart.max() <= 2


def test_a_crowd_that_does_not_agree_has_no_pairs() -> None:
    rng = np.random.default_rng(1)
    rows = [row(u, phash64=CENTRES[0], colours=rng.bytes(48)) for u in range(2000)]
    barrier = NearHashes(by="phash64", distance=4, verify=(COLOURS,))
    runner = PhaseRunner(pool_of(rows))
    assert set(groups(runner.pool, barrier, runner).values()) == {(None, 1)}
    assert edges(runner, barrier) == set()


def test_candidates_come_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stages.verified_pairs.CHUNK", 50)
    first, count, other, others = (np.array(v) for v in ([0, 3, 9], [3, 6, 0], [20, 40, 5], [100, 2, 7]))
    pieces = list(blocks(first, count, other, others))
    assert max(len(i) for i, _, _ in pieces) <= 100  # one row with all others at least
    found = {(int(a), int(b), int(n)) for i, j, of in pieces for a, b, n in zip(i, j, of, strict=True)}
    assert found == {(a, b, 0) for a in range(3) for b in range(20, 120)} | {
        (a, b, 1) for a in range(3, 9) for b in (40, 41)
    }
    assert sum(len(i) for i, _, _ in pieces) == len(found)


def test_half_of_what_is_allowed_of_a_third_is_all_of_it() -> None:
    rng = np.random.default_rng(7)
    x = rng.normal(0, 0.1, (60, 4)).astype(np.float32) + np.float32([1, 0, 0, 0])
    table = pa.table({"s0": pa.FixedSizeListArray.from_arrays(x.reshape(-1), 4)})
    found = Signals.of(table, (VECTOR,))
    i, j = (v.reshape(-1) for v in np.meshgrid(np.arange(60), np.arange(60)))
    near, half = (found.agree(i, j, half=h).reshape(60, 60) for h in (False, True))
    assert half.sum() > 60
    assert not (((half.astype(int) @ half.astype(int)) > 0) & ~near).any()


@pytest.mark.parametrize("kind", [pa.list_(pa.float32()), pa.large_list(pa.float16()), pa.list_(pa.float32(), 3)])
def test_a_shard_may_have_no_vector(kind: pa.DataType) -> None:
    rows = [row(n, phash64=CENTRES[0]) for n in range(6)]
    vectors = [None, None, [1.0, 0.0, 0.0], [1.0, 0.0, 0.125], None, [0.0, 1.0, 0.0]]
    whole = pool_of(rows)[0].drop_columns("vector").append_column("vector", pa.array(vectors).cast(kind))
    barrier = NearHashes(by="phash64", distance=4, verify=(VECTOR,))
    pool = {0: whole.slice(0, 2), 1: whole.slice(2)}
    assert groups(pool, barrier) == {0: (None, 1), 1: (None, 1), 2: (2, 2), 3: (2, 2), 4: (None, 1), 5: (None, 1)}


def test_signals_of_several_lengths_are_refused() -> None:
    rows = [row(1, phash64=CENTRES[0], colours=b"ab"), row(2, phash64=CENTRES[0], colours=b"abc")]
    with pytest.raises(ValueError, match="have one length"):
        PhaseRunner(pool_of(rows)).run(NearHashes(by="phash64", distance=4, verify=(COLOURS,)))
    with pytest.raises(ValueError, match="several lengths"):
        PhaseRunner(pool_of(rows, 2)).run(NearHashes(by="phash64", distance=4, verify=(COLOURS,)))
