"""Cuts of a pack against sorting everything in one place."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.run.pack import cuts
from curate.run.pack.cuts import KEY, find_cuts, in_order


def shards_of(rows: list[tuple[int, int, int, int]], parts: list[int], count: int) -> list[np.ndarray]:
    """The rows, each in the shard that `parts` says, sorted within it."""
    keys, home = np.array(rows, KEY), np.array(parts) % count
    return [(k := keys[home == i])[in_order(k)] for i in range(count)]


ROW = st.tuples(st.sampled_from([0, 1, 2**63, 2**64 - 1]), st.integers(0, 2), st.integers(0, 2), st.integers(0, 2))


@settings(deadline=None)
@given(st.lists(ROW, min_size=1, max_size=80, unique=True), st.integers(1, 5), st.integers(1, 30), st.data())
def test_equal_hashes_are_cut_as_a_full_sort_would(rows: list, count: int, per_file: int, data: st.DataObject) -> None:
    parts = data.draw(st.lists(st.integers(0, 4), min_size=len(rows), max_size=len(rows)))
    shards = shards_of(rows, parts, count)
    check(shards, sorted(rows), per_file)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 4000), st.integers(1, 700))
def test_many_bins(seed: int, total: int, per_file: int) -> None:
    rng = np.random.default_rng(seed)
    rows = [(int(h), i, i, 0) for i, h in enumerate(rng.integers(0, 2**64, total, np.uint64))]
    check(shards_of(rows, rng.integers(0, 7, total).tolist(), 7), sorted(rows), per_file)


def check(shards: list[np.ndarray], whole: list[tuple[int, ...]], per_file: int) -> None:
    walked = 0

    def walk() -> list[np.ndarray]:
        nonlocal walked
        walked += 1
        return shards

    found = find_cuts(walk, len(whole), per_file)
    assert found.files == -(-len(whole) // per_file)
    assert walked in (0, 2)
    sizes = [found.size(k) for k in range(found.files)]
    assert sum(sizes) == len(whole)
    assert max(sizes) - min(sizes) <= 1
    for file in range(found.files):
        got = []
        for keys in shards:
            got += keys[found.position(keys, file) : found.position(keys, file + 1)].tolist()
        assert sorted(got) == whole[found.start(file) : found.start(file + 1)]


def test_memory_is_for_bins_and_candidates_not_for_samples() -> None:
    hashes = np.sort(np.random.default_rng(0).integers(0, 2**64, 300_000, np.uint64))
    keys = np.zeros(len(hashes), KEY)
    keys["hash"] = hashes
    seen: list[int] = []
    real = cuts.in_order

    def watched(some: np.ndarray) -> np.ndarray:
        seen.append(len(some))
        return real(some)

    cuts.in_order = watched
    try:
        find_cuts(lambda: [keys], len(keys), 10_000)
    finally:
        cuts.in_order = real
    assert seen[0] < 30 * 4 * cuts.BIN  # a few bins for 29 cuts
