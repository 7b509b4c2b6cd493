"""Near groups by hash against plain Python over all pairs; no cut into shards, buckets or partitions shows."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

import stages.near_hash_phases as phases
import stages.shuffle as shuffle
from stages.base import Column, fact
from stages.fingerprints import Fingerprints
from stages.hash_groups import HashGroups
from stages.near_hashes import Agreement, NearHashes
from stages.phash import PHash
from tests.phase_runner import PhaseRunner
from tests.stages.near_hash_pools import CENTRES, WIDE, Row, bits_apart, edges, groups, plain, pool_of, row


def able(r: Row) -> bool:
    if r.get("phash64") is None or r["phash_quality"] is None:
        return False
    return r["phash_quality"] >= 50 and bool((r["phash64"] ^ 1 << 63).bit_count() > 14)


def expected(rows: list[Row], distance: int) -> Any:
    return plain(rows, lambda a, b: bits_apart(a, b, "phash64") <= distance, able)


def test_near_hashes_chain_into_one_group_that_is_named_after_its_smallest_uid() -> None:
    rows = [row(100 - i, phash64=CENTRES[0] ^ (1 << 4 * i) - 1) for i in range(10)]
    assert set(groups(pool_of(rows, 3), NearHashes(by="phash64", distance=4)).values()) == {(91, 10)}
    assert set(groups(pool_of(rows, 3), NearHashes(by="phash64", distance=2)).values()) == {(None, 1)}


def test_edges_have_their_group_and_distance_and_nodes_are_hashes() -> None:
    rows = [row(2, phash64=CENTRES[0]), row(1, phash64=CENTRES[0] ^ 0b11), row(3, phash64=CENTRES[0] ^ 0b11), row(4)]
    barrier = NearHashes(by="phash64", distance=4)
    runner = PhaseRunner(pool_of(rows))
    (answer,) = runner.run(barrier).values()
    a, b = sorted([CENTRES[0], CENTRES[0] ^ 0b11])
    assert edges(runner, barrier) == {(0, 1, a, b, 2)}
    assert list(runner.stats(barrier, "edges").values()) == [{"edges": 1, "distances": {"2": 1}}]
    assert list(runner.stats(barrier, "labels").values()) == [{"groups": 1, "largest": 3, "sizes": {"3": 1}}]
    assert [s["nodes"] for s in runner.stats(barrier, "nodes").values()] == [3]
    assert answer.column("phash64_node").to_pylist() == [CENTRES[0], *2 * [CENTRES[0] ^ 0b11], None]
    assert answer.column("phash64_group_size").to_pylist() == [3, 3, 3, 1]


@pytest.mark.parametrize("distance", [0, 2, 4])
def test_pictures_without_structure_are_paired_with_nothing(distance: int) -> None:
    flat = 1 << 63
    rows = [row(1, phash64=flat), row(2, phash64=flat), row(3, phash64=flat | 0b111)]
    rows += [row(n, phash64=CENTRES[0], phash_quality=49) for n in (4, 5)]
    rows += [row(n, phash_quality=None) for n in (6, 7)]
    rows += [row(n, phash64=CENTRES[1], phash_quality=50) for n in (8, 9)]
    found = groups(pool_of(rows), NearHashes(by="phash64", distance=distance))
    assert {uid for uid, (group, _) in found.items() if group is not None} == {8, 9}
    lax = groups(pool_of(rows), NearHashes(by="phash64", distance=distance, min_quality=0))
    assert {uid for uid, (group, _) in lax.items() if group is not None} == {4, 5, 8, 9}


def test_flat_hashes_of_256_bits_are_paired_with_nothing() -> None:
    flat = 1 << 255
    bent = flat ^ sum(1 << b for b in range(0, 168, 3))  # 56 bits away: as far as 14 of 64
    rows = [row(1, phash256=flat), row(2, phash256=flat), row(3, phash256=bent), row(4, phash256=bent)]
    rows += [row(n, phash256=bent ^ 1 << 254) for n in (5, 6)]
    found = groups(pool_of(rows), NearHashes(by="phash256", distance=2))
    assert {uid for uid, (group, _) in found.items() if group is not None} == {5, 6}


HASHES = st.builds(
    lambda centre, bits: centre ^ sum({1 << b for b in bits}),
    st.sampled_from(CENTRES),
    st.lists(st.integers(0, 63), max_size=5),
)


@settings(max_examples=60, deadline=None)
@given(
    hashes=st.lists(HASHES | st.none() | st.just((1 << 63) + 5), max_size=40),
    distance=st.integers(0, 6),
    shards=st.integers(1, 5),
    size=st.integers(1, 30),
    seed=st.integers(0, 2**32 - 1),
)
def test_any_cut_gives_the_components(
    hashes: list[int | None], distance: int, shards: int, size: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    uids = rng.permutation(1000)[: len(hashes)].tolist()
    rows = [row(u, phash64=h, phash_quality=int(rng.choice([20, 80]))) for u, h in zip(uids, hashes, strict=True)]
    barrier = NearHashes(by="phash64", distance=distance)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shuffle, "ROWS", size)
        pool = pool_of([*rows, row(5000, phash64=CENTRES[0] ^ 0xFF << 40)], shards, rng)  # one at least has a hash
        assert groups(pool, barrier, PhaseRunner(pool, seed)) == expected(rows, distance) | {5000: (None, 1)}


def random_rows(field: str, bits: int, count: int, seed: int = 5) -> list[Row]:
    """Copies of a third as many hashes, of which some bits flipped."""
    rng = np.random.default_rng(seed)
    centres = [int.from_bytes(rng.bytes(bits // 8), "big") for _ in range(count // 3)]
    flips = [sum({1 << int(b) for b in rng.integers(0, bits, rng.integers(0, 4))}) for _ in range(count)]
    return [row(u, **{field: centres[u % len(centres)] ^ flips[u]}) for u in range(count)]


def many(pool_rows: list[Row], barrier: NearHashes, monkeypatch: pytest.MonkeyPatch) -> None:
    """One part and many partitions, with numbers of nodes for a tree of forests: the same groups and edges."""
    pool = pool_of(pool_rows, 2)
    whole = PhaseRunner(pool)
    assert "spread" not in [p.name for p in barrier.phases(whole.shape)]
    found = groups(pool, barrier, whole)
    monkeypatch.setattr(shuffle, "ROWS", 12)
    monkeypatch.setattr(phases, "TOGETHER", {64: 1, 256: 1})
    pool = pool_of(pool_rows, 7, np.random.default_rng(1))
    cut = PhaseRunner(pool, seed=1)
    assert {"spread", "joins"} <= {p.name for p in barrier.phases(cut.shape)}
    assert groups(pool, barrier, cut) == found
    assert edges(cut, barrier) == edges(whole, barrier)
    assert any(size > 1 for _, size in found.values())


def test_partitions_of_choices_of_blocks_give_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = random_rows("phash64", 64, 500)
    many(rows, NearHashes(by="phash64", distance=2), monkeypatch)


def test_partitions_of_bands_give_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = random_rows("phash256", 256, 120)
    many(rows, NearHashes(by="phash256", distance=7), monkeypatch)


def test_bands_find_all_pairs_of_fewer_bits_than_bands() -> None:
    rows = random_rows("phash256", 256, 240, seed=8)
    barrier = NearHashes(by="phash256", distance=7)
    runner = PhaseRunner(pool_of(rows, 3))
    found = groups(runner.pool, barrier, runner)
    assert found == plain(rows, lambda a, b: bits_apart(a, b, "phash256") <= 7, lambda _: True)
    assert all(s["exact_to"] == 7 for s in runner.stats(barrier, "pairs").values())


def test_bands_lose_pairs_beyond_and_say_so() -> None:
    spoiled = sum(1 << 32 * band for band in range(8))  # one bit in each band
    rows = [row(1, phash256=WIDE[0]), row(2, phash256=WIDE[0] ^ spoiled), row(3, phash256=WIDE[0] ^ (1 << 60) - 1)]
    barrier = NearHashes(by="phash256", distance=60, bands=8)
    runner = PhaseRunner(pool_of(rows))
    assert groups(runner.pool, barrier, runner) == {1: (1, 2), 2: (None, 1), 3: (1, 2)}
    told = {(s["exact_to"], s["share_at_distance"]) for s in runner.stats(barrier, "pairs").values()}
    assert told == {(7, 0.0008)}


def test_thirty_thousand_copies_make_no_pairs() -> None:
    n = 30_000
    uid = pa.py_buffer(np.arange(n, dtype=">u8").repeat(2).tobytes())
    table = {"uid": pa.FixedSizeBinaryArray.from_buffers(pa.binary(16), n, [None, uid])}
    table |= {"phash64": np.full(n, CENTRES[0], np.uint64), "phash_quality": np.full(n, 99, np.uint8)}
    barrier = NearHashes(by="phash64", distance=4)
    runner = PhaseRunner({0: pa.table(table)})
    assert set(runner.run(barrier)[0].column("phash64_group_size").to_pylist()) == {n}
    assert {s["pairs"] for s in runner.stats(barrier, "pairs").values()} == {0}


@pytest.mark.parametrize("by", ["phash64", "phash256"])
@pytest.mark.parametrize("verify", [(), (Agreement(column="colours", within=2, measure="l1"),)])
def test_a_pool_without_hashes_is_refused_before_anything_is_joined(by: str, verify: tuple[Agreement, ...]) -> None:
    barrier = NearHashes(by=by, distance=4, verify=verify)
    runner = PhaseRunner(pool_of([row(1), row(2)], 2))
    with pytest.raises(ValueError, match=rf"none of 2 samples has a {by}, .*phash: true, or .*`fingerprints`"):
        runner.run(barrier)
    assert {phase for phase, _ in runner.ran} == {"nodes", "counted", "checked"}
    assert groups({3: pool_of([])[0]}, barrier) == {}


def test_a_pool_without_qualities_is_refused_unless_none_is_asked_for() -> None:
    pool = pool_of([row(n, phash64=CENTRES[0], phash_quality=None) for n in range(2)])
    with pytest.raises(ValueError, match="quality: none of 2 samples has a phash_quality"):
        PhaseRunner(pool).run(NearHashes(by="phash64", distance=4))
    assert groups(pool, NearHashes(by="phash64", distance=4, min_quality=0)) == {0: (0, 2), 1: (0, 2)}


def test_footers_say_who_could_not_be_compared() -> None:
    rows = [row(1, phash64=CENTRES[0]), row(2), row(3), row(4, phash64=CENTRES[0], phash_quality=None)]
    rows += [row(n, phash64=CENTRES[0], phash_quality=49) for n in (5, 6, 7)] + [row(8, phash64=1 << 63)]
    barrier, runner = NearHashes(by="phash64", distance=4), PhaseRunner(pool_of(rows, 3))
    runner.run(barrier)
    told = {"samples": 8, "without_hash": 2, "without_quality": 1, "low_quality": 4}
    assert list(runner.stats(barrier, "checked").values()) == [told]
    assert list(runner.stats(barrier, "counted").values()) == [told]


KINDS: tuple[Any, ...] = ("phash256_dihedral", "pdq", "phash64")


@pytest.mark.parametrize(
    ("field", "quality"),
    [("phash256_dihedral", "phash_quality_stored"), ("phash64_stored", "phash_quality_stored"), ("pdq", "pdq_quality")],
)
def test_the_quality_of_a_hash_is_that_of_its_stage(field: str, quality: str) -> None:
    owner = Fingerprints(kinds=KINDS)
    by = Column(owner, field)
    assert NearHashes(by=by, distance=2).reads() == (by, Column(owner, quality))
    named = NearHashes(by=by, distance=2, quality="phash_quality")
    assert named.reads() == (by, fact("phash_quality"))
    exact = HashGroups(by=by)
    assert exact.reads() == (by, Column(owner, quality))
    assert HashGroups(by=by, quality="mine").reads() == (by, fact("mine"))
    assert NearHashes(by=Column(PHash(), "phash64_stored"), distance=2).quality_read.field == "phash_quality_stored"
    assert NearHashes(by="phash64", distance=2).quality_read == fact("phash_quality")


def test_columns_of_stages_say_their_length_and_those_of_the_input_do_not() -> None:
    stored = PHash()
    assert NearHashes(by=Column(stored, "phash64_stored"), distance=4).width == 64
    wide = NearHashes(by=Column(stored, "phash256_stored"), distance=31, name="near")
    assert (wide.width, wide.label) == (256, "near")
    assert NearHashes(by="mine", distance=4, bits=256).width == 256
    with pytest.raises(ValidationError, match="add bits: 64 or 256"):
        NearHashes(by="mine", distance=4)
    with pytest.raises(ValidationError, match="have 64, not 256"):
        NearHashes(by="phash64", distance=4, bits=256)
    with pytest.raises(ValidationError, match="at most 10"):
        NearHashes(by="phash64", distance=11)
    with pytest.raises(ValidationError, match="bands go with"):
        NearHashes(by="phash64", distance=4, bands=8)


def test_a_column_of_another_length_is_refused() -> None:
    rows = pa.table({"uid": [bytes(16)], "mine": [b"1234"], "phash_quality": [99]})
    rows = rows.set_column(0, "uid", pa.array([bytes(16)], pa.binary(16)))
    with pytest.raises(ValueError, match="mine has binary of 32 bits, not 256"):
        PhaseRunner({0: rows}).run(NearHashes(by="mine", distance=4, bits=256))


def test_a_barrier_can_be_made_again_from_what_it_says_of_itself() -> None:
    barrier = NearHashes(by="phash256", distance=31, verify=({"column": "colours", "within": 6, "measure": "l1"},))
    assert NearHashes(**barrier.identity()["parameters"]) == barrier
    assert {c.field for c in barrier.reads()} == {"phash256", "phash_quality", "colours"}
    assert barrier.reads()[0] == fact("phash256")
