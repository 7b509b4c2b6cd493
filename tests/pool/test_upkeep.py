"""gc takes left-overs of the dead and nothing else; purge takes samples out of everything that comes after."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny import jpeg, sample, tiny_pool

import curate
from curate.errors import UserError
from curate.pool.columns import read_table
from curate.pool.facts import UID
from curate.pool.layout import marker
from curate.pool.pool import Pool
from curate.pool.tar import members
from curate.pool.upkeep import FRESH_S, Leftover, collect, leftovers, parse_uids, purge
from curate.run.engine import Engine, Pass, Rules
from curate.run.graph import asked
from curate.run.job import walk_recipe
from curate.run.pack import PackSpec, pack
from curate.run.pick import Emit
from curate.run.progress import Progress
from curate.run.walk import ExecutorChoice, Ground, Walk
from filters.image_size import ImageSize
from stages.base import Column, fact
from stages.image_facts import ImageFacts

LONG_AGO = time.time() - 10 * 3600


@pytest.fixture
def pool(tmp_path: Path) -> Pool:
    return tiny_pool(str(tmp_path / "p"), shards=2, rows=5)


@pytest.fixture
def dead_pid() -> int:
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    return child.pid


@pytest.fixture
def living_pid() -> Iterator[int]:
    child = subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE)
    yield child.pid
    child.communicate()


def old(path: Path) -> Path:
    os.utime(path, (LONG_AGO, LONG_AGO))
    return path


def temporary(pool: Pool, name: str, *, aged: bool = True) -> Path:
    folder = Path(pool.storage.url) / "tmp" / name
    folder.mkdir(parents=True)
    (folder / "half").write_bytes(b"x" * 100)
    if aged:
        old(folder / "half")
        old(folder)
    return folder


def files(pool: Pool) -> set[str]:
    root = Path(pool.storage.url)
    return {str(f.relative_to(root)) for f in root.rglob("*") if f.is_file()}


def age_all(pool: Pool) -> None:
    for f in Path(pool.storage.url).rglob("*"):
        if "tmp" not in f.parts:
            old(f)


def add(pool: Pool, rel: str, data: bytes = b"data", *, aged: bool = True) -> Path:
    path = Path(pool.storage.url) / rel
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return old(path) if aged else path


def status(pool: Pool, pid: int, *, host: str = "", state: str = "running", updated: float | None = None) -> None:
    note = {"state": state, "host": host or socket.gethostname(), "pid": pid, "updated": updated or time.time()}
    add(pool, f"runs/{len(pool.storage.folders('runs'))}/status.json", json.dumps(note).encode())


def found(pool: Pool, older_than_s: float = 7200.0) -> dict[str, str]:
    return {i.rel: i.why for i in leftovers(pool, older_than_s)}


# ---------------------------------------------------------------- gc


def test_a_clean_pool_has_no_leftovers_however_old_it_is(pool: Pool) -> None:
    age_all(pool)
    before = files(pool)
    assert found(pool, 0) == {}
    collect(pool, leftovers(pool, 0))
    assert files(pool) == before


def test_temporaries_go_by_process_here_and_by_age_elsewhere(pool: Pool, dead_pid: int, living_pid: int) -> None:
    host = socket.gethostname()
    dead = temporary(pool, f"{host}-{dead_pid}-00000001", aged=False)
    living = temporary(pool, f"{host}-{living_pid}-00000002")
    own = temporary(pool, f"{host}-{os.getpid()}-00000003")
    far_old = temporary(pool, f"other-host-{dead_pid}-00000004")
    far_new = temporary(pool, f"other-host-{dead_pid}-00000005", aged=False)
    items = leftovers(pool)
    why = "temporary files of a dead process"
    assert {i.rel: (i.size, i.why) for i in items} == {f"tmp/{p.name}": (100, why) for p in (dead, far_old)}
    collect(pool, items)
    assert not dead.exists()
    assert not far_old.exists()
    assert all(p.exists() for p in (living, own, far_new))


def test_a_host_name_with_dashes_and_numbers_is_not_taken_for_a_process(
    pool: Pool, monkeypatch: pytest.MonkeyPatch, dead_pid: int, living_pid: int
) -> None:
    monkeypatch.setattr(socket, "gethostname", lambda: "node-7-12")
    temporary(pool, f"node-7-12-{dead_pid}-00000001", aged=False)
    temporary(pool, f"node-7-12-{living_pid}-00000002")
    temporary(pool, f"node-7-{dead_pid}-00000003", aged=False)
    assert set(found(pool)) == {f"tmp/node-7-12-{dead_pid}-00000001"}


def test_tars_that_no_marker_names_go_and_the_named_one_stays(pool: Pool) -> None:
    named = pool.facts(0, ["uid"])[1]["tar"]
    loser = add(pool, "pixels/00000000.deadbeef.tar")
    unmarked = add(pool, "pixels/00000007.deadbeef.tar")
    young = add(pool, "pixels/00000008.deadbeef.tar", aged=False)
    foreign = add(pool, "pixels/holiday.tar")
    age_all(pool)
    os.utime(young)
    assert found(pool) == {f"pixels/{p.name}": "a tar that no marker names" for p in (loser, unmarked)}
    collect(pool, leftovers(pool))
    assert not loser.exists()
    assert not unmarked.exists()
    assert {f"pixels/{named}", f"pixels/{young.name}", f"pixels/{foreign.name}"} <= files(pool)


def test_what_was_committed_minutes_ago_stays_whatever_age_is_asked_for(pool: Pool) -> None:
    tar = add(pool, "pixels/00000007.deadbeef.tar", aged=False)
    run = add(pool, "uids/list@0123.4567/00-ff.parquet", aged=False)
    assert found(pool, 0) == {}
    for path in (tar, run):
        os.utime(path, (time.time() - 2 * FRESH_S,) * 2)
    assert set(found(pool, 0)) == {"pixels/00000007.deadbeef.tar", "uids/list@0123.4567/00-ff.parquet"}
    assert found(pool) == {}, "younger than the default age"


def test_uid_runs_of_a_claim_stay_and_those_of_a_lost_one_go(pool: Pool) -> None:
    claimed, lost = "uids/list@0123.4567/00-ff.parquet", "uids/list@0123.89ab/00-ff.parquet"
    add(pool, claimed)
    add(pool, lost)
    claim = {"list": "list", "hash": "0123", "first": 2, "shards": 1, "rows": 5, "uid_runs": [claimed]}
    pool.storage.commit("lists/claims/00000002.json", json.dumps(claim).encode())
    assert found(pool) == {lost: "uids of a list that lost its claim"}
    collect(pool, leftovers(pool))
    assert pool.storage.exists(claimed)
    assert not pool.storage.exists(lost)


def test_while_a_run_lives_what_it_may_take_over_from_a_dead_one_stays(
    pool: Pool, living_pid: int, dead_pid: int
) -> None:
    loser = "pixels/00000000.deadbeef.tar"  # its shard has a marker: nobody will ever name this one
    waiting = {"pixels/00000007.deadbeef.tar", "uids/list@0123.4567/00-ff.parquet"}
    for rel in (loser, *waiting):
        add(pool, rel)
    everything = {loser, *waiting}
    status(pool, dead_pid)
    status(pool, living_pid, state="finished")
    status(pool, 1, host="elsewhere", updated=LONG_AGO)
    assert set(found(pool)) == everything, "dead, finished and silent runs hold nothing back"
    status(pool, 1, host="elsewhere")
    assert set(found(pool)) == {loser}, "a run on another machine wrote its status just now"


def test_a_living_process_that_has_not_begun_to_report_counts_as_a_run(pool: Pool, living_pid: int) -> None:
    add(pool, "uids/list@0123.4567/00-ff.parquet")
    temporary(pool, f"{socket.gethostname()}-{living_pid}-00000002")
    assert found(pool) == {}


def test_what_came_into_use_between_looking_and_removing_stays(pool: Pool) -> None:
    named = pool.facts(1, ["uid"])[1]["tar"]
    run = "uids/list@0123.4567/00-ff.parquet"
    add(pool, run)
    claim = {"list": "list", "hash": "0123", "first": 2, "shards": 1, "rows": 5, "uid_runs": [run]}
    pool.storage.commit("lists/claims/00000002.json", json.dumps(claim).encode())
    gone = "tmp/gone-1-00000000"
    collect(pool, [Leftover(f"pixels/{named}", 1, "stale"), Leftover(run, 1, "stale"), Leftover(gone, 1, "stale")])
    assert {f"pixels/{named}", run} <= files(pool)


@pytest.mark.parametrize("folder", ["pixels", "columns/x@1", "barriers/y@2/edges"])
def test_a_failure_is_forgotten_once_its_part_is_there(pool: Pool, folder: str) -> None:
    marker_bytes = pool.storage.read(marker(0))
    for name in ("00000000.failed.json", "00000007.failed.json"):
        pool.storage.put(f"{folder}/{name}", b"{}")
    if folder != "pixels":
        pool.storage.commit(f"{folder}/00000000.parquet", marker_bytes)
    found = leftovers(pool)
    assert [(f.rel, f.why) for f in found] == [(f"{folder}/00000000.failed.json", "a failure that was overcome")]
    collect(pool, found)
    assert not pool.storage.exists(f"{folder}/00000000.failed.json")
    assert pool.storage.exists(f"{folder}/00000007.failed.json"), "this one is still missing"
    assert pool.storage.read(marker(0)) == marker_bytes


def test_gc_on_an_object_store(s3_root: str) -> None:
    pool = tiny_pool(s3_root, shards=1, rows=2)
    pool.storage.put("pixels/00000009.deadbeef.tar", b"lost")
    assert found(pool) == {}, "just written"
    items = [Leftover("pixels/00000009.deadbeef.tar", 4, ""), Leftover(f"pixels/{pool.facts(0)[1]['tar']}", 4, "")]
    collect(pool, items)
    names = [e.name for e in pool.storage.list("pixels")]
    assert sorted(names) == sorted(["00000000.parquet", pool.facts(0)[1]["tar"]])


# ---------------------------------------------------------------- uids given by a person


def test_uids_are_hex_of_any_case_padded_with_blank_lines_and_a_byte_order_mark() -> None:
    got = parse_uids(["\ufeffFF", "", "  " + "0" * 31 + "1\r", "a" * 32])
    assert got.type == UID
    assert [u.hex() for u in got.to_pylist()] == ["00" * 15 + "ff", "00" * 15 + "01", "aa" * 16]


@pytest.mark.parametrize("bad", ["xyz", "a" * 33, "0x12", "ab cd", "١٢", "-1", "uid"])
def test_a_line_that_is_no_uid_is_named(bad: str) -> None:
    with pytest.raises(UserError, match=r"^line 3: .* is not a uid \(up to 32 hex digits\)$") as e:
        parse_uids(["aa", "", bad])
    assert repr(bad)[:40] in str(e.value)


@given(st.lists(st.binary(min_size=16, max_size=16)))
def test_what_sql_prints_is_read_back(uids: list[bytes]) -> None:
    assert parse_uids([u.hex() for u in uids]).to_pylist() == uids


# ---------------------------------------------------------------- purge


def walk_over(pool: Pool) -> tuple[Walk, str]:
    ground = Ground(pool, Progress(None, "test"), ExecutorChoice("inline"), Rules(tries=1))
    walk = Walk(ground, pool.claimed(), None, dry=False)
    columns = [Column(ImageFacts(), "mean")]
    walk_recipe(walk, [asked("all", ImageSize(min_side=1), fact)], columns)
    more = {"yaml": "", "columns": columns, "steps": {"all": {}}}
    return walk, walk.choose("test", (Emit(1, (("web", 1.0),)),), {"web": fact("text")}, more)


def dropped(pool: Pool, folder: str) -> list[str | None]:
    tables = [read_table(pool.storage, f"{folder}/{s:08d}.parquet")[0] for s in pool.claimed()]
    return pa.concat_tables(tables).column("dropped_by").to_pylist()


def test_purged_samples_are_blank_and_out_of_views_picks_and_packs(pool: Pool) -> None:
    root = Path(pool.storage.url)
    _, before = walk_over(pool)
    gone, unknown = [sample(1)["uid"], sample(7)["uid"]], b"\xff" * 16
    rows = [read_table(pool.storage, marker(s))[0] for s in (0, 1)]
    done = purge(pool, pa.array([*gone, gone[0], unknown], UID), "asked by the owner")
    assert (done.asked, done.blanked, done.not_in_pool, done.packs) == (3, 2, 1, [])

    for shard, numbers in ((0, range(5)), (1, range(5, 10))):
        tar = root / "pixels" / pool.facts(shard)[1]["tar"]
        data = tar.read_bytes()
        for member, number in zip(members(tar), numbers, strict=True):
            held = data[member.offset : member.offset + member.size]
            assert held == (bytes(member.size) if number in (1, 7) else jpeg(number))
    assert [read_table(pool.storage, marker(s))[0] for s in (0, 1)] == rows, "the rows stay"

    fresh = Pool.open(pool.storage.url)
    assert sorted(fresh.removed.to_pylist()) == sorted([*gone, unknown])
    walk, after = walk_over(fresh)
    assert after != before, "another set of removed uids is another pick"
    assert [i for i, by in enumerate(dropped(fresh, after)) if by == "removed"] == [1, 7]

    opened = curate.open(str(root))
    assert opened.sql("SELECT count(*) FROM samples").fetchall() == [(8,)]
    listed = opened.sql("SELECT url FROM samples ORDER BY url").fetchall()
    assert [u for (u,) in listed] == [f"http://127.0.0.1/{i}.jpg" for i in range(10) if i not in (1, 7)]

    def run(passes: list[Pass]) -> dict[str, dict[str, str]]:
        return Engine(passes, ExecutorChoice("inline")(passes, 0), Progress(None, "t"), Rules(tries=1)).run()

    manifest = pack(fresh, after, fresh.about(after), PackSpec(), 0, {"web": fact("text")}, walk.places, run)
    assert manifest["counts"]["samples"] == 8
    names = {m.name[:32] for t in (root / "packs").rglob("*.tar") for m in members(t)}
    assert len(names) == 8
    assert not names & {u.hex() for u in gone}
    again = purge(fresh, pa.array(gone, UID), "asked by the owner")
    assert again.blanked == 2, "a purge that was cut short can be repeated"
    assert again.packs == [p.name for p in (root / "packs").iterdir()], "packs written before still hold copies"


def test_columns_computed_after_a_purge_have_nulls_and_a_reason(pool: Pool) -> None:
    purge(pool, pa.array([sample(1)["uid"]], UID), "")
    walk, _ = walk_over(Pool.open(pool.storage.url))
    table = read_table(pool.storage, f"{walk.places[ImageFacts()]}/00000000.parquet")[0]
    assert [m is None for m in table.column("mean").to_pylist()] == [i == 1 for i in range(5)]
    assert table.column("error")[1].as_py()


def test_a_purge_of_nothing_writes_nothing(pool: Pool) -> None:
    before = files(pool)
    done = purge(pool, pa.array([], UID), "")
    assert (done.asked, done.blanked) == (0, 0)
    assert files(pool) == before


def test_purge_on_an_object_store(s3_root: str) -> None:
    pool = tiny_pool(s3_root, shards=1, rows=4)
    facts, footer = pool.facts(0)
    tar = f"pixels/{footer['tar']}"
    before = pool.storage.local(tar).read_bytes()
    assert purge(pool, pa.array([sample(2)["uid"]], UID), "").blanked == 1
    after = np.frombuffer(pool.storage.local(tar).read_bytes(), np.uint8)
    start, size = facts.column("tar_offset")[2].as_py(), facts.column("bytes")[2].as_py()
    expected = np.frombuffer(before, np.uint8).copy()
    expected[start : start + size] = 0
    assert (after == expected).all(), "also through the cache of downloads"
