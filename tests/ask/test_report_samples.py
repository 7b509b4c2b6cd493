"""The samples that a report shows: drawn, nearest to a bound, duplicates beside what stayed; never removed ones."""

from __future__ import annotations

import json
import signal
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curate.ask.pictures import LARGE, Shown, small
from curate.ask.report.candidates import Candidate, Rows, in_turn, score
from curate.ask.report.found import Found
from curate.ask.report.gather import FEWEST, GROUPS, MEMBERS, SHEETS, gather, sheet_size
from curate.ask.report.margins import remade
from curate.errors import UserError
from curate.pool.layout import ABOUT
from curate.pool.pool import Pool
from filters.base import Filter, Margin, RowFilter
from filters.image_size import ImageSize
from filters.keep_one import KeepOne
from filters.top_fraction import TopFraction
from filters.where import Where
from tests import pools
from tests.ask.report_runs import everything, facts, run, small_pool
from tests.tiny import jpeg

BASE = 0x0F1E2D3C4B5A6978
HASHES = [BASE ^ (i * 0x9E3779B97F4A7C15 % 2**63) for i in range(60)]
NEAR = [h ^ bits for h in HASHES for bits in (0, 0b11)]  # pairs, two bits apart
SIZE = Where(sql="received_bytes >= 900")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Pool, str]:
    """Of 120 samples half are too small; then pairs of near hashes lose one; five share one sha256."""
    root = tmp_path_factory.mktemp("pool") / "pool"
    pool = small_pool(
        str(root),
        received_bytes=[500 + (7919 * i) % 997 for i in range(120)],
        phash64=NEAR,
        sha256=[f"{0 if i % 11 == 0 else i:032x}" * 2 for i in range(120)],
    )
    filters: dict[str, Filter] = {
        "bytes": SIZE,
        "best": TopFraction(over="survivors", column="original_width", fraction=0.9),
        "equal": KeepOne(over="survivors", by="sha256"),
        "near": KeepOne(over="survivors", by="phash64", distance=4),
    }
    return pool, run(pool, filters)


def lost_by(pool: Pool, pick: str, step: str) -> set[bytes]:
    made, uid = everything(pool, pick, ["dropped_by"]), facts(pool, ["uid"])["uid"]
    return {u for u, by in zip(uid, made["dropped_by"], strict=True) if by == step}


def uids(shown: list[Shown]) -> list[bytes]:
    return [s.uid for s in shown]


def all_shown(found: Found) -> list[Shown]:
    sheets = [s for f in found.filters.values() for s in (*f.lost, *f.kept, *f.borderline)]
    groups = [s for g in found.groups for s in (g.keeper, *g.lost) if s is not None]
    return [*sheets, *groups, *found.final, *found.keepers.values()]


# ---------------------------------------------------------------- sheets


def test_sheets_hold_who_was_lost_kept_and_picked(finished: tuple[Pool, str]) -> None:
    pool, pick = finished
    found = gather(pool, pick, samples=200)
    uid, times = facts(pool, ["uid"])["uid"], everything(pool, pick, ["times"])["times"]
    assert set(uids(found.final)) == {u for u, n in zip(uid, times, strict=True) if n}
    left = set(uid)
    for step in found.pick.steps:
        shown = found.filters[step.id]
        assert set(uids(shown.lost)) == lost_by(pool, pick, step.id)
        left -= lost_by(pool, pick, step.id)
        assert set(uids(shown.kept)) == left
        assert {s.reason for s in shown.lost} == set(step.reasons)
        assert {s.reason for s in shown.kept} <= {None}
    assert all(s.thumbnail for s in all_shown(found))


def test_a_sample_says_what_the_filter_measured(finished: tuple[Pool, str]) -> None:
    pool, pick = finished
    known = dict(zip(*facts(pool, ["uid", "received_bytes"]).values(), strict=True))
    shown = gather(pool, pick).filters["bytes"]
    for sample in (*shown.lost, *shown.kept, *shown.borderline):
        assert sample.score == f"received_bytes {known[sample.uid]:,} (received_bytes >= 900)"
    best = gather(pool, pick).filters["best"].borderline
    assert all(s.score.endswith(f"(top 90 %: {best[-1].score.split(': ')[1]}") for s in best)


def test_lost_samples_name_the_bounds_that_they_violate() -> None:
    margins = ImageSize(min_side=200, max_aspect=3).margins()
    assert score(margins, (150.0, 2.0), lost=True) == "shorter side 150 (min_side 200)"
    assert score(margins, (250.0, 2.5), lost=False) == (
        "shorter side 250 (min_side 200), longer by shorter side 2.5 (max_aspect 3)"
    )
    assert score(margins, (float("nan"), 4.0), lost=True) == "longer by shorter side 4 (max_aspect 3)"
    assert score((Margin("n", "n"),), (3.0,), lost=True) == ""


def test_the_nearest_to_the_bound_stand_on_both_sides(finished: tuple[Pool, str]) -> None:
    pool, pick = finished
    known = facts(pool, ["uid", "received_bytes"])
    times = everything(pool, pick, ["times"])["times"]
    rows = list(zip(known["uid"], known["received_bytes"], times, strict=True))
    below = sorted((900 - n, u) for u, n, _ in rows if n < 900)[:12]
    picked = sorted((n - 900, u) for u, n, t in rows if n >= 900 and t)[:12]
    shown = gather(pool, pick).filters["bytes"].borderline
    assert uids(shown) == [u for _, u in (*below, *picked)]
    assert [s.reason for s in shown] == ["where"] * len(below) + [None] * len(picked)


def test_where_the_pick_has_too_few_those_that_the_filter_kept_stand_in(tmp_path: Path) -> None:
    pool = small_pool(str(tmp_path / "pool"), shards=1, rows=20, received_bytes=list(range(20)))
    pick = run(pool, {"a": Where(sql="received_bytes >= 5"), "b": Where(sql="received_bytes IN (10, 19)")})
    shown = gather(pool, pick).filters["a"].borderline
    values = [int(s.score.split()[1]) for s in shown]
    assert values == [4, 3, 2, 1, 0, 10, 19, 5, 6, 7, 8, 9, 11, 12, 13, 14, 15]


def test_ties_go_to_the_smaller_uid(tmp_path: Path) -> None:
    pool = small_pool(str(tmp_path / "pool"), received_bytes=[100, 100, 50])
    shown = gather(pool, run(pool, {"a": Where(sql="received_bytes > 50")})).filters["a"].borderline
    known = facts(pool, ["uid", "received_bytes"])
    rows = sorted(zip(known["uid"], known["received_bytes"], strict=True))
    assert uids(shown) == [u for u, n in rows if n == 50][:12] + [u for u, n in rows if n == 100][:12]


@given(st.lists(st.integers(0, 5), min_size=1, max_size=50), st.integers(1, 10))
def test_nearest_is_a_sort(distances: list[int], size: int) -> None:
    uid = pools.uids(3, len(distances))
    rows = np.flatnonzero(np.arange(len(distances)) % 4 != 1)
    found = Rows(3, uid).nearest(np.array(distances, float)[rows], rows, size)
    keys = sorted((distances[r], uid[int(r)].as_py(), int(r)) for r in rows)
    assert [c.row for c in found] == [row for *_, row in keys[:size]]


def test_bounds_take_turns_and_no_sample_stands_twice() -> None:
    a, b, c = (Candidate((0,), 0, row) for row in range(3))
    assert in_turn([[a, b], [a, c], []], 9) == [a, b, c]
    assert in_turn([[a, b], [c]], 2) == [a, c]
    assert in_turn([], 3) == []


@pytest.mark.parametrize("filters", [0, 1, 6, 12, 40])
def test_many_filters_have_smaller_sheets(filters: int) -> None:
    size = sheet_size(24, filters)
    assert FEWEST <= size <= 24
    assert size == 24 or 4 * size * filters + GROUPS * (MEMBERS + 1) + 24 <= SHEETS * 24 or size == FEWEST
    assert sheet_size(240, filters) >= size
    assert sheet_size(2, filters) == 2


# ---------------------------------------------------------------- duplicates


def test_groups_are_keepers_with_all_that_were_dropped_for_them(finished: tuple[Pool, str]) -> None:
    pool, pick = finished
    found = gather(pool, pick)
    folders = {s["id"]: s["folder"] for s in pool.about(pick)["steps"]}
    expected: dict[str, Counter[bytes]] = {}
    for step in ("equal", "near"):
        verdicts = everything(pool, folders[step], ["keep", "dup_of"])
        expected[step] = Counter(of for k, of in zip(*verdicts.values(), strict=True) if k is False)
    sizes = {g.step: dict(g.sizes) for g in found.group_sizes}
    assert sizes == {step: dict(Counter(n + 1 for n in of.values())) for step, of in expected.items()}
    assert [g.size for g in found.groups] == sorted((g.size for g in found.groups), reverse=True)
    largest = found.groups[0]
    assert (largest.step, largest.size) == ("equal", max(expected["equal"].values()) + 1)
    assert {g.step for g in found.groups[1:]} == {"near"}
    for group in found.groups:
        assert group.keeper is not None
        assert group.size == expected[group.step][group.keeper.uid] + 1
        assert len(group.lost) == min(group.size - 1, MEMBERS)
        assert {s.dup_of for s in group.lost} == {group.keeper.uid}
        assert group.keeper == found.keepers[group.keeper.uid]


def test_every_lost_duplicate_has_its_keeper(finished: tuple[Pool, str]) -> None:
    found = gather(*finished)
    lost = [s for step in ("equal", "near") for s in found.filters[step].lost]
    assert lost
    for sample in lost:
        assert sample.dup_of is not None
        assert found.keepers[sample.dup_of].uid == sample.dup_of


def test_of_a_large_group_those_least_alike_are_shown(tmp_path: Path) -> None:
    pool = pools.empty_pool(tmp_path / "pool", [2])
    for shard in range(2):
        pools.write_photos(pool, shard, [jpeg(1)] * 30, ["x"] * 30)
    keeper = pool.facts(0, ["uid"])[0].column("uid")[0]

    def verdict(shard: int, uid: pa.Array) -> pa.Table:
        keep = [shard == 0 and i == 0 for i in range(30)]
        apart = [None if k else (i % 5) for i, k in enumerate(keep)]
        of = pa.array([None if k else keeper.as_py() for k in keep], pa.binary(16))
        why = pa.array([None if k else "duplicate" for k in keep])
        return pa.table({"keep": keep, "reason": why, "dup_of": of, "distance": pa.array(apart, pa.int16())})

    pick = pools.add_pick(pool, "test", [("one", pools.add_verdict(pool, "own", verdict))])
    (group,) = gather(pool, pick).groups
    assert group.size == 60
    assert {s.row % 5 for s in group.lost} == {4}
    assert len(group.lost) == 12


# ---------------------------------------------------------------- always


def test_the_same_pick_tells_the_same_in_any_order(finished: tuple[Pool, str], monkeypatch: pytest.MonkeyPatch) -> None:
    pool, pick = finished
    first = gather(pool, pick)
    about = pool.about(pick)
    turned = {**about, "shards": about["shards"][::-1]}
    monkeypatch.setattr("curate.ask.report.shards.THREADS", 1)
    again = Pool.open(pool.storage.url)
    monkeypatch.setattr(again, "about", lambda folder: turned if folder == pick else pool.about(folder))
    second = gather(again, pick)
    assert second.about.pop("shards") == about["shards"][::-1]
    first.about.pop("shards")
    assert second == first


def test_removed_samples_are_never_shown(tmp_path: Path) -> None:
    pool = small_pool(str(tmp_path / "pool"), sha256=[f"{0 if i % 3 else i:032x}" * 2 for i in range(120)])
    pick = run(pool, {"size": ImageSize(min_side=100), "equal": KeepOne(over="survivors", by="sha256")})
    before = gather(pool, pick)
    keeper = before.groups[0].keeper
    assert keeper is not None
    gone = {keeper.uid, *uids(before.final[:3]), *uids(before.filters["size"].borderline[:3])}
    pool.remove(pa.array(sorted(gone), pa.binary(16)), "takedown")
    found = gather(Pool.open(pool.storage.url), pick)
    assert not gone & {s.uid for s in all_shown(found)}
    assert not {u.hex() for u in gone} & {u for x in found.uid_lists for u in x.uids or ()}
    assert found.groups[0].keeper is None
    assert found.groups[0].size == before.groups[0].size
    assert len(found.final) == len(before.final) or len(before.final) < 24


def test_ctrl_c_is_no_error_of_a_query(finished: tuple[Pool, str], monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(session: Any) -> None:
        """As DuckDB answers Ctrl-C."""
        try:
            signal.raise_signal(signal.SIGINT)
        except KeyboardInterrupt:
            raise RuntimeError("Query interrupted") from None

    monkeypatch.setattr("curate.ask.report.gather.tables", interrupted)
    with pytest.raises(KeyboardInterrupt):
        gather(*finished)


def test_a_damaged_verdict_is_told(tmp_path: Path) -> None:
    pool = small_pool(str(tmp_path / "pool"), shards=2)
    pick = run(pool, {"size": ImageSize(min_side=100)})
    folder = Path(pool.storage.url) / pool.about(pick)["steps"][0]["folder"]
    (folder / "00000001.parquet").write_bytes((folder / "00000000.parquet").read_bytes())
    with pytest.raises(UserError, match=r"00000001\.parquet: does not belong to shard 1 as it is now"):
        gather(pool, pick)


def test_an_empty_pool_and_one_where_nothing_is_left(tmp_path: Path) -> None:
    empty = pools.synthetic(tmp_path / "empty", [0])
    pick = pools.add_pick(empty, "e", [("w", pools.add_verdict(empty, "where", lambda s, u: np.ones(0, bool)))])
    found = gather(empty, pick)
    assert (found.final, found.groups, found.uid_lists, found.downloads) == ([], [], [], None)
    assert found.filters["w"].lost == []
    pool = small_pool(str(tmp_path / "pool"), shards=1, rows=3)
    found = gather(pool, run(pool, {"none": Where(sql="received_bytes < 0")}))
    assert (found.pick.kept, found.final, len(found.filters["none"].borderline)) == (0, [], 3)
    (shown,) = found.filters["none"].histograms
    assert sum(shown.kept) == 0
    assert shown.thresholds[0].value <= 0


# ---------------------------------------------------------------- filters behind a pick


class Bright(RowFilter):
    """A user's own filter, with a margin."""

    at_least: float

    def reads(self) -> tuple[str, ...]:
        return ("received_bytes",)

    def rules(self) -> dict[str, str]:
        return {"dark": f"received_bytes >= {self.at_least}"}

    def margins(self) -> tuple[Margin, ...]:
        return (Margin("brightness", "received_bytes / 10", ((self.at_least / 10, "above", "at_least"),)),)


class Wrong(Bright):
    def margins(self) -> tuple[Margin, ...]:
        return (Margin("brightness", "sharpness"),)


def test_a_filter_of_ones_own_has_histograms_too(tmp_path: Path) -> None:
    pool = small_pool(str(tmp_path / "pool"), shards=1, rows=10, received_bytes=list(range(0, 100, 10)))
    found = gather(pool, run(pool, {"bright": Bright(at_least=50)}))
    (shown,) = found.filters["bright"].histograms
    assert (shown.title, sum(shown.lost), sum(shown.kept)) == ("brightness", 5, 5)
    assert found.filters["bright"].borderline[0].score == "brightness 4 (at_least)"
    with pytest.raises(UserError, match=r"filter wrong: margins\(\): brightness: no column 'sharpness'"):
        gather(pool, run(pool, {"wrong": Wrong(at_least=50)}))


def test_notes_of_a_pool_load_no_code() -> None:
    ours: dict[str, Any] = ImageSize(min_side=3).identity()
    assert remade(ours) == ImageSize(min_side=3)
    assert remade({**ours, "version": 99}) is None
    assert remade({**ours, "parameters": {"min_sides": 3}}) is None
    assert remade({"name": "antigravity:Filter", "version": 1, "parameters": {}}) is None
    assert remade({"name": "os:system", "version": 1, "parameters": {}}) is None
    assert remade({}) is None
    assert remade(json.loads(json.dumps(Bright(at_least=3).identity()))) == Bright(at_least=3)


def test_older_notes_that_do_not_say_what_was_read(tmp_path: Path) -> None:
    pool = small_pool(str(tmp_path / "pool"), shards=1)
    pick = run(pool, {"size": ImageSize(min_side=100)})
    before = gather(pool, pick)
    note = Path(pool.storage.url) / pool.about(pick)["steps"][0]["folder"] / ABOUT
    old = json.loads(note.read_text())
    assert old.pop("reads")
    note.write_text(json.dumps(old))
    assert gather(pool, pick) == before


def test_values_of_barriers_and_of_stages_that_asked_only_survivors(tmp_path: Path) -> None:
    pool = pools.empty_pool(tmp_path / "pool", [2])
    for shard in range(2):
        pools.write_photos(pool, shard, [jpeg(1)] * 10, ["x"] * 10)
    uid = pool.facts(0, ["uid"])[0].column("uid").combine_chunks()
    parts = [pa.table({"uid": uid[a:b], "length": list(range(a, b))}) for a, b in ((6, 9), (2, 4))]
    sparse = pools.add_sparse(pool, "captioner", 0, parts)
    ranked = pools.add_barrier(pool, "rank", lambda shard, uid: pa.table({"rank": [shard * 10 + i for i in range(10)]}))
    steps = []
    for name, sql, read in (("long", "length >= 3", f"{sparse}:length"), ("first", "rank < 15", f"{ranked[:-7]}:rank")):
        keep = pools.add_verdict(pool, "where", lambda s, u: np.arange(len(u)) % 2 == 0, name)
        pools.about(pool, keep, identity=Where(sql=sql, on_missing="drop").identity(), reads=[read])
        steps.append((name, keep))
    found = gather(pool, pools.add_pick(pool, "test", steps)).filters
    (length,) = found["long"].histograms
    assert (length.missing, sum(length.lost), sum(length.kept)) == (15, 2, 3)  # 3 and 7; 2, 6 and 8
    assert [s.score for s in found["long"].borderline if s.row == 7] == []  # lost, though within its bound: not near it
    (rank,) = found["first"].histograms
    assert (rank.missing, sum(rank.kept), rank.thresholds[0].value) == (0, 10, 15.0)


def test_a_pool_in_an_object_store(s3_root: str, tmp_path: Path) -> None:
    pool = small_pool(f"{s3_root}/pool", shards=2, rows=10)
    pick = run(pool, {"size": ImageSize(min_side=100)})
    here = small_pool(str(tmp_path / "pool"), shards=2, rows=10)
    there, same = gather(pool, pick), gather(here, run(here, {"size": ImageSize(min_side=100)}))
    assert (there.filters, there.final, there.counts) == (same.filters, same.final, same.counts)


def test_thumbnails_of_noise_are_encoded_smaller() -> None:
    thumbnail, _ = small(jpeg(1, side=400))
    assert thumbnail is not None
    assert len(thumbnail) <= LARGE
