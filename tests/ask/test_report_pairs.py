"""What a report says of near duplicates: pairs on both sides of the bound, groups and distances of the whole pool."""

from __future__ import annotations

from collections import Counter
from itertools import combinations
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.ask.report import pairs
from curate.ask.report.closest import Points, closest, edges_of
from curate.ask.report.compared import find_compared, in_the_pool
from curate.ask.report.contamination import Contamination, EvalSetFound
from curate.ask.report.duplicates import duplicates_section
from curate.ask.report.figures import Embedded
from curate.ask.report.found import Found, Histogram, InPool, NearPairs, Threshold
from curate.ask.report.gather import gather
from curate.ask.report.margins import find_steps
from curate.ask.report.page import draw
from curate.ask.report.shards import Ground
from curate.pool.pool import Pool
from filters.decontaminate import Decontaminate
from filters.keep_one import KeepOne
from filters.semdedup import SemDeDup
from filters.where import Where
from stages.base import Column, fact
from stages.eval_sets import EvalSet
from stages.kmeans import Clusters
from stages.near_hashes import NearHashes
from stages.vectors import as_column
from tests import pools
from tests.ask import report_runs, reports
from tests.ask.pages import Page
from tests.ask.report_runs import everything, facts, run, small_pool
from tests.tiny import jpeg

BASES = [0x0F1E2D3C4B5A6978 ^ (i * 0x9E3779B97F4A7C15 % 2**63) for i in range(30)]
HASHES = [base ^ bits for base in BASES for bits in (0, 0b11, 0b111111 << 20)]  # 2 bits apart; 6 and 8 bits apart


DIGESTS = [f"{i:02x}" * 32 for i in range(90)]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Pool, str]:
    """Three shards of 30 samples in families of three: one of each goes, two stay."""
    pool = small_pool(str(tmp_path_factory.mktemp("pool") / "pool"), rows=30, phash64=HASHES, sha256=DIGESTS)
    filters = {
        "near": KeepOne(over="survivors", by=fact("phash64"), distance=4),
        "equal": KeepOne(over="pool", by=fact("sha256")),
    }
    return pool, run(pool, filters)


def apart(a: int, b: int) -> int:
    return (a ^ b).bit_count()


# ---------------------------------------------------------------- pairs of a pick


def test_dropped_pairs_are_those_farthest_apart_beside_who_stayed(finished: tuple[Pool, str]) -> None:
    pool, pick = finished
    (near,) = gather(pool, pick).near_pairs
    hashes = dict(zip(*facts(pool, ["uid", "phash64"]).values(), strict=True))
    assert len(near.dropped) == pairs.PAIRS
    for lost, stays, words in near.dropped:
        assert stays is not None
        assert (apart(hashes[lost.uid], hashes[stays.uid]), words) == (2, "2 bits apart")
        assert lost.dup_of in (None, stays.uid)


def test_kept_pairs_are_those_nearest_to_the_bound(finished: tuple[Pool, str]) -> None:
    pool, pick = finished
    (near,) = gather(pool, pick).near_pairs
    known = facts(pool, ["uid", "phash64"])
    kept = dict(zip(known["uid"], everything(pool, pick, ["times"])["times"], strict=True))
    hashes = dict(zip(known["uid"], known["phash64"], strict=True))
    nearest = sorted(apart(hashes[a], hashes[b]) for a, b in combinations([u for u in kept if kept[u]], 2))
    shown = [apart(hashes[a.uid], hashes[b.uid]) for a, b, _ in near.kept]
    assert shown == sorted(shown)
    assert shown == nearest[: pairs.PAIRS]  # families share no sample here
    assert min(shown) > 4
    assert len({s.uid for a, b, _ in near.kept for s in (a, b)}) == 2 * len(near.kept)


def test_the_spread_counts_every_pair_once(finished: tuple[Pool, str]) -> None:
    pool, pick = finished
    (near,) = gather(pool, pick).near_pairs
    assert near.spread is not None
    known = facts(pool, ["phash64"])["phash64"]
    kept = everything(pool, pick, ["times"])["times"]
    both, one = Counter(), Counter()
    for i, j in combinations(range(len(known)), 2):
        (both if kept[i] and kept[j] else one)[apart(known[i], known[j])] += 1
    shown = range(len(near.spread.kept))
    assert near.spread.edges == tuple(range(10))
    assert near.spread.kept == tuple(both[d] for d in shown)
    assert near.spread.lost == tuple(one[d] for d in shown)
    assert near.spread.lost[2] == 30
    assert [(t.value, t.label) for t in near.spread.thresholds] == [(5.0, "distance 4")]
    assert (near.looked_at, near.drawn) == (90, False)


def test_a_pool_too_large_to_compare_is_drawn_and_says_so(
    finished: tuple[Pool, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pool, pick = finished
    monkeypatch.setattr("curate.ask.report.closest.BUDGET", 64 * 40**2)
    first = gather(pool, pick).near_pairs
    monkeypatch.setattr("curate.ask.report.shards.THREADS", 1)
    assert gather(pool, pick).near_pairs == first
    assert (first[0].looked_at, first[0].drawn) == (40, True)
    assert first[0].dropped == gather(pool, pick).near_pairs[0].dropped


def test_removed_samples_stand_in_no_pair(tmp_path: Path) -> None:
    pool = small_pool(str(tmp_path / "pool"), rows=30, phash64=HASHES, sha256=DIGESTS)
    pick = run(pool, {"near": KeepOne(over="survivors", by=fact("phash64"), distance=4)})
    (before,) = gather(pool, pick).near_pairs
    gone = {before.dropped[0][0].uid, before.dropped[1][1].uid, before.kept[0][0].uid}  # type: ignore[union-attr]
    pool.remove(pa.array(sorted(gone), pa.binary(16)), "takedown")
    (after,) = gather(Pool.open(pool.storage.url), pick).near_pairs
    shown = [s for a, b, _ in (*after.dropped, *after.kept) for s in (a, b) if s is not None]
    assert not gone & {s.uid for s in shown}
    assert before.dropped[1][0].uid in {a.uid for a, b, _ in after.dropped if b is None}


def test_who_goes_for_any_better_one_stands_beside_that(tmp_path: Path) -> None:
    pool = small_pool(str(tmp_path / "pool"), rows=30, phash64=HASHES, sha256=DIGESTS)
    found = gather(pool, run(pool, {"near": KeepOne(over="pool", by=fact("phash64"), distance=4, rule="local")}))
    page = Page(duplicates_section(found, Embedded(), None))
    roles = Counter(w.strip() for w in page.words if w.strip() in ("dropped", "stays", "better"))
    (near,) = found.near_pairs
    assert roles["better"] == len(near.dropped) + len(found.groups)
    assert roles["stays"] == 2 * len(near.kept)


def test_filters_that_drop_equal_ones_alone_have_no_bound(finished: tuple[Pool, str]) -> None:
    pool, pick = finished
    about = pool.about(pick)
    ground = Ground(pool, pick, find_steps(pool, about), sorted(about["shards"]))
    assert [(c.step.id, c.column, c.bound) for c in find_compared(ground)] == [("near", ("pixels", "phash64"), 4.0)]
    assert in_the_pool(pool, ground.steps[1]) is None


def test_filters_that_keep_none_of_several_have_no_pairs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Though they read a near barrier's groups: to drop large ones, or what is near an evaluation picture."""
    pool = small_pool(str(tmp_path / "pool"), rows=30, phash64=HASHES, sha256=DIGESTS)
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "0.jpg").write_bytes(jpeg(1))
    near = NearHashes(by=fact("phash64"), distance=4)
    group, size = Column(near, near.group), Column(near, f"{near.group}_size")
    monkeypatch.setattr(report_runs, "default_fields", lambda: {size.field: size})
    exam = EvalSet(name="exam", path=str(tmp_path / "set"))
    pick = run(
        pool,
        {
            "clean": Decontaminate(sets=(exam,), distance=None, components=group, over="pool"),
            "few": Where(sql=f"{size.field} < 10"),
            "near": KeepOne(over="survivors", by=fact("phash64"), distance=4),
        },
    )
    about = pool.about(pick)
    ground = Ground(pool, pick, find_steps(pool, about), sorted(about["shards"]))
    assert all(in_the_pool(pool, step) for step in ground.steps), "each of them reads the barrier"
    assert [(c.step.id, c.bound) for c in find_compared(ground)] == [("near", 4.0)]
    found = gather(pool, pick)
    assert [p.step for p in found.near_pairs] == [p.step for p in found.in_pool] == ["near"]


def test_what_the_barrier_found_in_the_whole_pool(finished: tuple[Pool, str]) -> None:
    (found,) = gather(*finished).in_pool
    assert (found.step, found.groups, found.largest, found.pairs) == ("near", 30, 2, 30)
    assert found.distances == ((2, 30),)


def test_vectors_whose_filter_says_cosines(tmp_path: Path) -> None:
    """Rows turn further and further; every second goes for the next one."""
    angles = np.cumsum(np.tile([0.1, 0.15], 10))
    pool = pools.empty_pool(tmp_path / "pool", [2])
    for shard in range(2):
        pools.write_photos(pool, shard, [jpeg(1)] * 10, ["x"] * 10)

    def vectors(shard: int, uid: pa.Array) -> pa.Table:
        mine = angles[10 * shard : 10 * shard + 10]
        return pa.table({"emb": as_column(np.stack([np.cos(mine), np.sin(mine)], axis=1).astype(np.float16))})

    def verdict(shard: int, uid: pa.Array) -> pa.Table:
        keep = np.arange(10) % 2 == 1
        of = [None if k else uid[i + 1].as_py() for i, k in enumerate(keep)]
        similarity = pa.array(np.full(10, np.cos(0.15)), pa.float32(), mask=keep)
        reason = pa.array(np.where(keep, None, "semantic_duplicate").tolist(), pa.string())
        return pa.table(
            {"keep": keep, "reason": reason, "similarity": similarity, "dup_of": pa.array(of, pa.binary(16))}
        )

    column = pools.add_column(pool, "embedding", vectors)
    chosen = SemDeDup(vectors=fact("emb"), clusters=Clusters(k=2), epsilon=0.02, over="pool")
    folder = pools.add_verdict(pool, "semdedup", verdict)
    pools.about(pool, folder, identity=chosen.identity(), reads=[f"{column}:emb"])
    (near,) = gather(pool, pools.add_pick(pool, "test", [("semantic", folder)])).near_pairs
    assert {words for *_, words in near.dropped} == {"cosine 0.9888"}  # as the verdict says
    assert near.spread is not None
    counted = Counter(round(float(angles[j] - angles[i]), 2) for i, j in combinations(range(20), 2))
    within = {d: n for d, n in counted.items() if 1 - np.cos(d) <= 0.04}
    assert within.keys() == {0.1, 0.15, 0.25}
    assert sum(near.spread.lost) + sum(near.spread.kept) == sum(within.values())
    said = [float(words.removeprefix("cosine ")) for *_, words in near.kept]
    assert said == pytest.approx([np.cos(0.25)] * len(said), abs=1e-3)  # what stays is 0.25 apart; fp16
    assert said
    assert (near.looked_at, near.drawn) == (20, False)


# ---------------------------------------------------------------- the search


@settings(max_examples=25, deadline=None)
@given(st.integers(2, 40), st.sampled_from([8, 64]), st.integers(1, 6), st.integers(0, 2**32))
def test_bits_are_all_compared_in_tiles_of_any_size(n: int, bits: int, bound: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    x = (rng.random((n, bits)) < 0.2).astype(np.float32) * 2 - 1
    kept = rng.random(n) < 0.6
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("curate.ask.report.closest.TILE", int(rng.integers(1, 50)))
        found = closest(Points(x, kept, True), bound, 3)
    expected = np.zeros_like(found.counts)
    both = []
    for i, j in combinations(range(n), 2):
        distance = int((x[i] != x[j]).sum())
        if distance < found.edges[-1]:
            expected[distance, 0 if kept[i] and kept[j] else 1] += 1
            if kept[i] and kept[j]:
                both.append((abs(distance - bound), distance, i, j))
    assert found.counts.tolist() == expected.tolist()
    if both:
        assert found.kept[0] == min(both)[1:]
    used = [i for _, *pair in found.kept for i in pair]
    assert len(used) == len(set(used)) <= 6


def test_vectors_are_compared_by_cosine() -> None:
    angles = np.array([0.0, 0.02, 0.3, 0.45, 2.0])
    x = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    found = closest(Points(x, np.array([True, False, True, True, True]), False), 0.02, 3)
    cosines = {(i, j): 1 - np.cos(angles[j] - angles[i]) for i, j in combinations(range(5), 2)}
    near = {pair: d for pair, d in cosines.items() if d <= 0.04}
    assert near.keys() == {(0, 1), (1, 2), (2, 3)}
    assert found.counts.sum(axis=0).tolist() == [1, 2]  # 2 and 3 both stay
    ((apart, i, j),) = found.kept
    assert (i, j) == (2, 3)
    assert apart == pytest.approx(near[2, 3], abs=1e-6)
    assert 0.02 in edges_of(0.02, bits=False)


# ---------------------------------------------------------------- the page


def page_of(near: NearPairs, pool: InPool | None = None) -> str:
    found: Found = reports.found(near_pairs=[near], in_pool=[pool] if pool else [])
    return duplicates_section(found, Embedded(), None)


def test_the_page_shows_both_sides_with_their_distances_and_escapes_every_word() -> None:
    a, b, c, d = (reports.shown(n) for n in range(70, 74))
    spread = Histogram(
        "bits between two hashes", tuple(range(10)), (0,) * 6 + (3, 0, 1), (0, 0, 7) + (0,) * 6, (0,) * 9,
        (Threshold(5, "above", "distance 4"),), words=("pairs that both stay", "pairs of which one goes", ""),
    )  # fmt: skip
    near = NearPairs("near", ((a, b, "4 bits apart"), (a, None, "2 bits apart")), ((c, d, "6 bits apart"),), spread,
                     1000, True)  # fmt: skip
    source = page_of(near, InPool("near", 30, 1200, 17, 12345, ((2, 20), (1200, 1)), ((2, 12000), (4, 345))))
    page = Page(source)
    words = " ".join(page.text.split())
    assert "In the whole pool, whoever was asked about: 30 groups, the largest of 1,200; 12,345 near pairs." in words
    assert "has 17 samples" in words
    assert "among 1,000 samples, drawn" in words
    assert "dropped by others" not in words
    roles = [w.strip() for w in page.words if w.strip() in ("dropped", "stays")]
    assert roles[:5] == ["dropped", "stays", "dropped", "stays", "stays"]
    assert "2 bits apart" in words
    assert "6 bits apart" in words
    assert "<script" not in source
    assert 'onerror="' not in source
    assert not [t for t, a in page.tags if t == "script" or any(k.startswith("on") for k in a)]


def test_the_whole_page_has_both_sections() -> None:
    exam = EvalSetFound("exam <b>", 3, 0, 0, 0, {"sha256": 0, "phash256": 0, "phash64": 0, "vectors": 0}, ())
    page = Page(draw(reports.found(contamination=[Contamination("size", ("the same bytes",), False, (exam,))])))
    anchors = [a["id"] for t, a in page.tags if t == "section"]
    assert anchors.index("duplicates") + 1 == anchors.index("evaluation")
    assert {"#duplicates", "#evaluation"} <= {a.get("href") for t, a in page.tags if t == "a"}
    assert "exam <b>" in page.text


def test_a_search_that_found_nothing_says_so() -> None:
    words = " ".join(Page(page_of(NearPairs("near", (), (), None, 12, False))).text.split())
    assert "among 12 samples: all that this filter compares" in words
    assert "No two samples that both stayed are near to the bound." in words
