"""Groups by hash against plain Python over the whole pool; no cut into shards, buckets or partitions shows."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

import stages.shuffle as shuffle
from stages.hash_groups import HashGroups
from tests.phase_runner import PhaseRunner

SCHEMA = pa.schema(
    [
        ("uid", pa.binary(16)),
        ("url", pa.string()),
        ("text", pa.string()),
        ("sha256", pa.string()),
        ("phash64", pa.uint64()),
        ("phash_quality", pa.uint8()),
    ]
)
Row = dict[str, Any]
CENTRES = (0x0F1E2D3C4B5A6978, 0xFFFF0000FFFF0000, 0x8888888877777777)


def row(number: int, **more: Any) -> Row:
    facts = {"url": f"http://x/{number}", "text": f"text {number}", "sha256": f"{number:064x}", "phash64": number}
    return {"uid": number.to_bytes(16, "big"), "phash_quality": 100} | facts | more


def pool_of(rows: list[Row], shards: int = 1, rng: np.random.Generator | None = None) -> dict[int, pa.Table]:
    """The rows in any order, cut anywhere into shards with gaps between their numbers."""
    if rng is None:
        return {s: pa.Table.from_pylist(rows[s::shards], SCHEMA) for s in range(shards)}
    order = rng.permutation(len(rows))
    home = rng.integers(0, shards, len(rows))
    numbers = np.sort(rng.choice(50, shards, replace=False)).tolist()
    return {
        number: pa.Table.from_pylist([rows[i] for i in order if home[i] == s], SCHEMA)
        for s, number in enumerate(numbers)
    }


def groups(pool: dict[int, pa.Table], barrier: HashGroups, seed: int | None = None) -> dict[int, tuple[Any, int]]:
    """uid -> (uid of the group or None, size), as numbers"""
    found = {}
    for shard, table in PhaseRunner(pool, seed).run(barrier).items():
        named = (pool[shard].column("uid"), table.column(0), table.column(1))
        for uid, group, size in zip(*(c.to_pylist() for c in named), strict=True):
            found[int.from_bytes(uid, "big")] = (None if group is None else int.from_bytes(group, "big"), size)
    return found


def plain(rows: list[Row], distance: int, min_quality: int = 50) -> dict[int, tuple[Any, int]]:
    """Components of the near graph, by walking it."""
    able = {
        int.from_bytes(r["uid"], "big"): r["phash64"]
        for r in rows
        if r["phash64"] is not None and r["phash_quality"] >= min_quality and (r["phash64"] ^ 1 << 63).bit_count() > 14
    }
    found: dict[int, tuple[Any, int]] = {int.from_bytes(r["uid"], "big"): (None, 1) for r in rows}
    left = set(able)
    while left:
        members, queue = set(), [min(left)]
        while queue:
            node = queue.pop()
            if node in left:
                left.discard(node)
                members.add(node)
                queue += [o for o in left if (able[o] ^ able[node]).bit_count() <= distance]
        if len(members) > 1:
            found |= {m: (min(members), len(members)) for m in members}
    return found


@pytest.mark.parametrize("by", ["sha256", "url", "text"])
def test_equal_values_are_a_group(by: Any) -> None:
    same = {"sha256": "ab" * 32, "url": "http://same", "text": "Same"}[by]
    rows = [row(9, **{by: same}), row(5), row(3, **{by: same}), row(7, **{by: same})]
    assert groups(pool_of(rows, 2), HashGroups(by=by)) == {9: (3, 3), 3: (3, 3), 7: (3, 3), 5: (None, 1)}


def test_image_and_text_together() -> None:
    same = {"sha256": "ab" * 32}
    rows = [row(1, **same, text="a"), row(2, **same, text="b"), row(3, **same, text="a"), row(4, **same, text=None)]
    rows.append(row(5, **same, text=None))
    found = groups(pool_of(rows), HashGroups(by="image_text"))
    assert found == {1: (1, 2), 3: (1, 2), 2: (None, 1), 4: (4, 2), 5: (4, 2)}


@pytest.mark.parametrize(("by", "value"), [("sha256", None), ("url", None), ("url", ""), ("text", None), ("text", "")])
def test_nothing_equals_nothing(by: Any, value: Any) -> None:
    rows = [row(1, **{by: value}), row(2, **{by: value})]
    assert groups(pool_of(rows), HashGroups(by=by)) == {1: (None, 1), 2: (None, 1)}


def test_texts_differ_by_case_and_form() -> None:
    rows = [row(i, text=t) for i, t in enumerate(["Caf\u00e9", "Cafe\u0301", "caf\u00e9", "Caf\u00e9 "], 1)]
    assert set(groups(pool_of(rows), HashGroups(by="text")).values()) == {(None, 1)}


@pytest.mark.parametrize("distance", [0, 2, 4])
def test_pictures_without_structure_are_paired_with_nothing(distance: int) -> None:
    flat = 1 << 63
    rows = [row(1, phash64=flat), row(2, phash64=flat), row(3, phash64=flat | 0b111)]
    rows += [row(n, phash64=CENTRES[0], phash_quality=49) for n in (4, 5)]
    rows += [row(n, phash64=None, phash_quality=None) for n in (6, 7)]
    rows += [row(n, phash64=CENTRES[1], phash_quality=50) for n in (8, 9)]
    found = groups(pool_of(rows), HashGroups(by="phash64", distance=distance))
    assert {uid for uid, (group, _) in found.items() if group is not None} == {8, 9}
    lax = groups(pool_of(rows), HashGroups(by="phash64", distance=distance, min_quality=0))
    assert {uid for uid, (group, _) in lax.items() if group is not None} == {4, 5, 8, 9}


def test_near_hashes_chain_into_one_component() -> None:
    chain = [CENTRES[0] ^ (1 << i) - 1 for i in range(0, 40, 4)]
    rows = [row(100 - i, phash64=h) for i, h in enumerate(chain)]
    found = groups(pool_of(rows, 3), HashGroups(by="phash64", distance=4))
    assert set(found.values()) == {(91, 10)}
    assert set(groups(pool_of(rows, 3), HashGroups(by="phash64", distance=2)).values()) == {(None, 1)}


def test_edges_are_kept_with_their_group_and_distance() -> None:
    rows = [row(2, phash64=CENTRES[0]), row(1, phash64=CENTRES[0] ^ 0b11), row(3, phash64=CENTRES[0] ^ 0b11)]
    barrier = HashGroups(by="phash64", distance=4)
    runner = PhaseRunner(pool_of(rows))
    runner.run(barrier)
    (output,) = runner.files[barrier]["edges"].values()
    edges = pa.concat_tables(output.tables).to_pylist()
    a, b = sorted([CENTRES[0], CENTRES[0] ^ 0b11])
    assert edges == [{"high": 0, "low": 1, "a": a, "b": b, "distance": 2}]
    assert output.stats == {"edges": 1, "distances": [0, 0, 1]}
    (labels,) = runner.files[barrier]["labels"].values()
    assert labels.stats == {"groups": 1, "largest": 3}


HASHES = st.builds(
    lambda centre, bits: centre ^ sum({1 << b for b in bits}),
    st.sampled_from(CENTRES),
    st.lists(st.integers(0, 63), max_size=5),
)


@settings(max_examples=80, deadline=None)
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
    barrier = HashGroups(by="phash64", distance=distance)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shuffle, "ROWS", size)
        assert groups(pool_of(rows, shards, rng), barrier, seed) == plain(rows, distance)


def test_partitions_of_choices_of_blocks_give_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small buckets make a pool of 600 take the way of a billion: spread, a part a partition, a tree of forests."""
    rng = np.random.default_rng(5)
    hashes = [int(h) for h in rng.integers(0, 2**64, 200, dtype=np.uint64)]
    rows = [
        row(int(u), phash64=hashes[int(i)] ^ (1 << int(b))) for u, (i, b) in enumerate(rng.integers(0, 64, (600, 2)))
    ]
    barrier = HashGroups(by="phash64", distance=2)
    whole = groups(pool_of(rows, 2), barrier)
    monkeypatch.setattr(shuffle, "ROWS", 8)
    pool = pool_of(rows, 7, rng)
    phases = [p.name for p in barrier.phases(PhaseRunner(pool).shape)]
    assert {"spread", "forest-1"} <= set(phases)
    assert groups(pool, barrier, seed=1) == whole == plain(rows, 2)


def test_thirty_thousand_copies_make_no_pairs() -> None:
    n = 30_000
    uid = np.arange(n, dtype=">u8").repeat(2).tobytes()
    table = pa.table(
        {
            "uid": pa.FixedSizeBinaryArray.from_buffers(pa.binary(16), n, [None, pa.py_buffer(uid)]),
            "phash64": np.full(n, CENTRES[0], np.uint64),
            "phash_quality": np.full(n, 99, np.uint8),
        }
    )
    barrier = HashGroups(by="phash64", distance=4)
    runner = PhaseRunner({0: table})
    assert set(runner.run(barrier)[0].column("phash64_group_size").to_pylist()) == {n}
    assert [s["pairs"] for s in runner.stats(barrier, "pairs").values()] == [0]


def test_distance_goes_with_phash_only() -> None:
    with pytest.raises(ValidationError, match="go with by: phash64"):
        HashGroups(by="url", distance=2)
    with pytest.raises(ValidationError, match="go with by: phash64"):
        HashGroups(by="sha256", min_quality=10)


def test_a_barrier_can_be_made_again_from_what_it_says_of_itself() -> None:
    for barrier in (HashGroups(by="url"), HashGroups(by="phash64", distance=4)):
        assert HashGroups(**barrier.identity()["parameters"]) == barrier
