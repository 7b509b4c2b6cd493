"""The views: right under missing columns, grown pools, clashes of names, takedowns and sparse stages."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import curate
from curate.ask.samples import find, tell
from curate.ask.sources import find_facts, find_sources
from curate.ask.views import Views, grouped
from curate.errors import UserError
from curate.pool.columns import write_parquet
from curate.pool.index import FolderIndex
from curate.pool.layout import part_file, short_hash
from curate.pool.pool import Pool
from stages.base import shard_name
from tests import pools


def numbers(shard: int, uid: pa.Array) -> pa.Table:
    """A column whose value says where it belongs."""
    return pa.table({"place": pa.array(shard * 1_000_000 + np.arange(len(uid)))})


def rows(handle: curate.ask.handle.Handle, query: str) -> list[tuple]:
    return handle.sql(query).fetchall()


# ---------------------------------------------------------------- joins by position


@settings(max_examples=25, deadline=None)
@given(
    sizes=st.lists(st.integers(0, 40), min_size=1, max_size=5),
    has=st.lists(st.integers(0, 31), min_size=3, max_size=3),
    cut=st.integers(0, 5),
    seed=st.integers(0, 1000),
)
def test_samples_agree_with_pandas(tmp_path_factory, sizes, has, cut, seed):
    """Random pools: any number of lists and rows, each column there for any subset of shards."""
    cut = min(cut, len(sizes))
    claims = [c for c in (cut, len(sizes) - cut) if c]
    pool = pools.synthetic(tmp_path_factory.mktemp("pool") / "pool", sizes, seed, claims)
    expected = pd.DataFrame(
        [
            (u.hex(), s, r, w)
            for s in pool.shards()
            for r, (u, w) in enumerate(zip(*uid_and_width(pool, s), strict=True))
        ],
        columns=["uid", "shard", "row", "width"],
    )
    for number, bits in enumerate(has):
        chosen = [s for s in range(len(sizes)) if bits >> s & 1]
        pools.add_column(pool, f"c{number}", lambda s, u, n=number: column(n, s, u), chosen)
        there = expected["shard"].isin(chosen) & any(sizes[s] for s in chosen)
        expected[f"v{number}"] = (expected["shard"] * 1000 + expected["row"] + number * 1e6).where(there)
    handle = curate.open(pool.storage.url)
    written = [n for n, bits in enumerate(has) if any(bits >> s & 1 for s in range(len(sizes)))]
    for n in written:
        asked = handle.sql(f"SELECT uid, shard, row, width, v{n} FROM samples ORDER BY shard, row").to_pandas()
        pd.testing.assert_frame_equal(
            asked, expected[["uid", "shard", "row", "width", f"v{n}"]], check_dtype=False, check_exact=True
        )
        total = handle.sql(f"SELECT count(*), count(v{n}), sum(v{n}) FROM samples").fetchall()[0]
        known = expected[f"v{n}"].dropna()
        assert total == (len(expected), len(known), known.sum() if len(known) else None)
    if len(written) == 3:
        asked = handle.sql("SELECT v0, v1, v2 FROM samples").to_pandas().sort_values(["v0", "v1", "v2"])
        rest = expected[["v0", "v1", "v2"]].sort_values(["v0", "v1", "v2"])
        np.testing.assert_array_equal(asked.to_numpy(float), rest.to_numpy(float))
        found = handle.sql("SELECT uid FROM samples WHERE v0 > 5 AND v1 IS NOT NULL AND (v2 IS NULL OR row % 2 = 1)")
        keep = (expected.v0 > 5) & expected.v1.notna() & (expected.v2.isna() | (expected.row % 2 == 1))
        assert sorted(u for (u,) in found.fetchall()) == sorted(expected.uid[keep])


def uid_and_width(pool: Pool, shard: int) -> tuple[list[bytes], list[int]]:
    table, _ = pool.facts(shard, ["uid", "width"])
    return table.column("uid").to_pylist(), table.column("width").to_pylist()


def column(number: int, shard: int, uid: pa.Array) -> pa.Table:
    return pa.table({f"v{number}": pa.array(shard * 1000 + np.arange(len(uid)) + number * 1e6)})


# What DuckDB's optimiser could push below a positional join: each would shift one side against the other.
PUSHED = [
    "WHERE place = 2000007",
    "WHERE other = 5000123",
    "WHERE shard = 4 AND row BETWEEN 10 AND 20",
    "WHERE width < 100",
    "JOIN (VALUES (3000001), (7000002)) AS t(w) ON place = w",
    "JOIN (SELECT max(other) AS m FROM samples) ON place = m",
    "WHERE place IN (SELECT unnest([1, 2, 9000007]))",
    "WHERE width IN (SELECT max(width) FROM samples)",
    "ANTI JOIN (SELECT unnest([1000001]) AS w) AS t ON place = w",
    "ORDER BY width LIMIT 50",
    "ORDER BY other DESC LIMIT 50",
    "LIMIT 30 OFFSET 1234",
    "USING SAMPLE 100",
    "WHERE place IS NULL",
]


@pytest.fixture(scope="module")
def wide(tmp_path_factory) -> curate.ask.handle.Handle:
    """Ten shards of 900 rows, two columns that agree on every row."""
    pool = pools.synthetic(tmp_path_factory.mktemp("wide") / "pool", [900 + s for s in range(10)])
    pools.add_column(pool, "one", numbers)
    pools.add_column(pool, "two", lambda s, u: numbers(s, u).rename_columns(["other"]))
    return curate.open(pool.storage.url)


@pytest.mark.parametrize("clause", PUSHED)
def test_nothing_is_pushed_below_a_positional_join(wide, clause):
    inner = f"SELECT place, other, shard, row FROM samples {clause}"
    n, wrong = rows(
        wide, f"SELECT count(*), count_if(place <> other OR place <> shard * 1000000 + row) FROM ({inner})"
    )[0]
    assert not wrong  # null: no row at all
    assert (n > 0) is ("IS NULL" not in clause)


def test_only_folders_that_a_query_names_are_opened(wide, monkeypatch):
    opened: list[str] = []
    read = Views.read
    monkeypatch.setattr(Views, "read", lambda self, s, *a: opened.append(s.folder.split("@")[0]) or read(self, s, *a))
    fresh = curate.open(wide.pool.storage.url)
    assert rows(fresh, "SELECT count(*) FROM samples") == [(9045,)]
    assert set(opened) == {"pixels"}
    opened.clear()
    fresh.sql("SELECT max(place) AS m FROM samples ORDER BY m")
    assert set(opened) == {"columns/one"}
    opened.clear()
    fresh.sql("SELECT max(place) FROM samples WHERE width > 0")
    assert set(opened) == {"pixels", "columns/one"}
    for everything in ("SELECT * FROM samples", "FROM samples", "SELECT s FROM samples s", "DESCRIBE samples"):
        opened.clear()
        curate.open(wide.pool.storage.url).sql(everything)
        assert set(opened) == {"pixels", "columns/one", "columns/two"}, everything


# ---------------------------------------------------------------- what may be missing, stale or in the way


def test_a_grown_pool_shows_null_where_nobody_looked_yet(tmp_path):
    pool = pools.synthetic(tmp_path / "pool", [10, 10])
    pools.add_column(pool, "score", numbers)
    pools.add_barrier(pool, "groups", lambda s, u: pa.table({"group": pa.array(np.arange(len(u)))}))
    assert rows(curate.open(str(tmp_path / "pool")), 'SELECT count("group") FROM samples') == [(20,)]

    pools.add_claims(pool, [1], first=2)
    pools.write_facts(pool, 2, pools.facts_table(2, 5))
    handle = curate.open(str(tmp_path / "pool"))
    assert rows(handle, "SELECT count(*), count(place), sum((shard = 2)::INT) FROM samples") == [(25, 20, 5)]
    # The old answer is not the answer for the pool as it is: it has lost the plain name.
    (old,) = [n for n in handle.views()["samples"] if n.startswith("group")]
    assert old.startswith("group@")
    assert rows(handle, f'SELECT count("{old}") FROM samples') == [(20,)]

    pools.add_barrier(pool, "groups", lambda s, u: pa.table({"group": pa.array(np.arange(len(u)) + 100)}))
    assert rows(curate.open(str(tmp_path / "pool")), 'SELECT count("group"), min("group") FROM samples') == [(25, 100)]


def test_lists_with_different_extra_columns(tmp_path):
    pool = pools.synthetic(tmp_path / "pool", [3, 4], claims=[1, 1])
    for shard, extra in ((0, pa.array([1, 2, 3])), (1, pa.array([0.5, 1.5, 2.5, 3.5]))):
        table = pools.facts_table(shard, len(extra)).append_column("Weight", extra)
        pools.write_facts(pool, shard, table.append_column(f'only "{shard}"', pa.array(["x"] * len(extra))))
    handle = curate.open(str(tmp_path / "pool"))
    assert handle.views()["samples"]["Weight"] == "DOUBLE"
    asked = 'SELECT sum(weight), count("only ""0"""), count("only ""1""") FROM samples'
    assert rows(handle, asked) == [(14.0, 3, 4)]


def test_fields_of_several_folders_are_named_in_full_unless_a_recipe_says(tmp_path):
    pool = pools.synthetic(tmp_path / "pool", [6])
    one = pools.add_column(pool, "clip", lambda s, u: pa.table({"Score": pa.array([1.0] * len(u))}), parameters="a")
    two = pools.add_column(pool, "clip", lambda s, u: pa.table({"score": pa.array([2.0] * len(u))}), parameters="b")
    verdict = pools.add_verdict(pool, "where", lambda s, u: np.ones(len(u), bool))
    pick = pools.add_pick(pool, "demo", [("w", verdict)], {"score": {"folder": two, "field": "score"}})
    names = curate.open(str(tmp_path / "pool")).views()["samples"]
    first, second = f"Score@{one[-12:]}", f"score@{two[-12:]}"
    assert {first, second} <= names.keys()
    assert "score" not in {n.lower() for n in names}
    assert {f"error@{one[-12:]}", f"error@{two[-12:]}"} <= names.keys()

    under = curate.open(str(tmp_path / "pool"), "demo")
    assert rows(under, f'SELECT sum(score), sum("{first}") FROM samples') == [(12.0, 6.0)]
    assert second not in under.views()["samples"]
    assert curate.open(str(tmp_path / "pool"), pick).views()["samples"] == under.views()["samples"]


def test_a_field_named_like_a_fact_does_not_hide_it(tmp_path):
    pool = pools.synthetic(tmp_path / "pool", [4])
    folder = pools.add_column(pool, "odd", lambda s, u: pa.table({"width": [-1] * len(u), "shard": [-2] * len(u)}))
    found = rows(
        curate.open(str(tmp_path / "pool")),
        f'SELECT min(width) > 0, min(shard), min("width@{folder[-12:]}") FROM samples',
    )
    assert found == [(True, 0, -1)]


def test_a_file_of_other_rows_is_refused(tmp_path):
    pool = pools.synthetic(tmp_path / "pool", [5, 5])
    folder = pools.add_column(pool, "score", numbers)
    bad = part_file(folder, shard_name(1))
    pools.write(pool, bad, write_parquet(pa.table({"place": [1] * 5}), {"rows": 5, "uid_digest": "of others"}))
    with pytest.raises(
        UserError, match=rf"{bad}: has 5 rows and uid digest 'of others', shard 1 has 5 .* delete this file"
    ):
        curate.open(str(tmp_path / "pool")).sql("SELECT place FROM samples")


def test_only_files_that_a_query_reads_are_looked_at(tmp_path, monkeypatch):
    """A pool has a footer a shard of each of its many columns: all of them cost each question a third of a second."""
    pool = pools.synthetic(tmp_path / "pool", [5, 5])
    asked = pools.add_column(pool, "score", numbers)
    others = pools.add_column(pool, "other", lambda s, u: pa.table({"odd": [1] * len(u)}))
    seen = []
    plain = FolderIndex.describe
    monkeypatch.setattr(FolderIndex, "describe", lambda self, s: seen.append(self.folder) or plain(self, s))
    assert rows(curate.open(str(tmp_path / "pool")), "SELECT count(place) FROM samples") == [(10,)]
    assert asked in seen
    assert others not in seen
    (uid,) = rows(curate.open(str(tmp_path / "pool")), "SELECT uid FROM samples WHERE shard = 1 AND row = 2")[0]
    bad = part_file(others, shard_name(1))
    pools.write(pool, bad, write_parquet(pa.table({"odd": [1] * 5}), {"rows": 5, "uid_digest": "of others"}))
    handle = curate.open(str(tmp_path / "pool"))
    found = find(handle, [uid])
    with pytest.raises(UserError, match=f"{bad}: .* it belongs to other rows"):
        tell(handle, found)


def test_removed_uids_are_in_no_view(tmp_path):
    pool = pools.synthetic(tmp_path / "pool", [5, 5])
    pools.add_fetches(pool, 0, ["ok"] * 5 + ["dns"])
    verdict = pools.add_verdict(pool, "where", lambda s, u: np.arange(len(u)) > 1)
    pools.add_pick(pool, "demo", [("w", verdict)])
    gone = pool.facts(0, ["uid"])[0].column("uid").to_pylist()[3]
    pool.remove(pa.array([gone], pa.binary(16)), "takedown")
    handle = curate.open(str(tmp_path / "pool"))
    assert rows(handle, "SELECT * FROM removed") == [(gone.hex(),)]
    for view, left in (("samples", 9), ("picks", 9), ("fetches", 5)):
        assert rows(handle, f"SELECT count(*), count_if(uid = '{gone.hex()}') FROM {view}") == [(left, 0)]


def test_sparse_parts_tell_never_asked_from_failed(tmp_path):
    pool = pools.synthetic(tmp_path / "pool", [4, 4])
    uid = pool.facts(1, ["uid"])[0].column("uid").to_pylist()
    schema = pa.schema([("uid", pa.binary(16)), ("caption", pa.string()), ("error", pa.string())])
    parts = [
        pa.table([[uid[0], uid[2]], ["a dog", None], [None, "time-out"]], schema),
        pa.table([[uid[2], uid[3]], ["late", "a cat"], [None, None]], schema),  # two drivers asked at once
    ]
    folder = pools.add_sparse(pool, "captioner", 1, parts)
    handle = curate.open(str(tmp_path / "pool"))
    asked = f'SELECT row, asked, caption, "error@{folder[-12:]}" FROM samples WHERE shard = 1 ORDER BY row'
    assert rows(handle, asked) == [
        (0, True, "a dog", None),
        (1, False, None, None),
        (2, True, None, "time-out"),
        (3, True, "a cat", None),
    ]
    assert rows(handle, "SELECT count(*), count_if(asked) FROM samples") == [(8, 3)]


def test_compacted_files_are_read_instead_and_say_the_same(tmp_path, monkeypatch):
    monkeypatch.setattr("curate.pool.index.COMPACT_FROM", 6)
    monkeypatch.setattr("curate.pool.index.INDEX_FROM", 2)
    for module in ("curate.pool.index", "curate.ask.views"):
        monkeypatch.setattr(f"{module}.COMPACT", 4)
    sizes = [5, 0, 7, 3, 6, 6, 1, 0, 2]
    pool = pools.synthetic(tmp_path / "pool", sizes)
    folder = pools.add_column(pool, "score", numbers)
    query = "SELECT shard, row, place, uid FROM samples ORDER BY shard, row"
    before = rows(curate.open(str(tmp_path / "pool")), query)
    assert before == [(s, r, s * 1_000_000 + r, u) for s, r, _, u in before]
    assert len(before) == sum(sizes)
    for name in ("pixels", folder):
        index = FolderIndex.load(pool.storage, name)
        index.save(range(9))
        for group in index.uncompacted(range(9)):
            index.compact(group)
    handle = curate.open(str(tmp_path / "pool"))
    assert rows(handle, query) == before
    assert [len(s) for s in handle._session.views.facts.compact] == [4, 4, 1]
    # A plain file that is gone is not missed: the compacted copies were read.
    (tmp_path / "pool" / part_file(folder, shard_name(5))).unlink()
    assert rows(curate.open(str(tmp_path / "pool")), query) == before


def test_groups_cover_each_shard_once(tmp_path):
    pool = pools.synthetic(tmp_path / "pool", [2] * 7, claims=[3, 4])
    pools.add_column(pool, "a", numbers, [0, 2, 4])
    facts = find_facts(pool)
    groups = grouped(facts, find_sources(pool, facts))
    assert sorted(s for shards, _ in groups for s in shards) == list(range(7))
    assert {tuple(shards): len(have) for shards, have in groups} == {(0, 2): 1, (1,): 0, (3, 5, 6): 0, (4,): 1}


# ---------------------------------------------------------------- funnel, picks, fetches, the empty pool


def test_funnel_counts_first_and_alone(tmp_path):
    pool = pools.synthetic(tmp_path / "pool", [10, 10])
    small = pools.add_verdict(pool, "small", lambda s, u: np.arange(len(u)) >= 4)
    odd = pools.add_verdict(pool, "odd", lambda s, u: np.arange(len(u)) % 2 == 0)
    pools.add_pick(pool, "demo", [("small", small), ("odd", odd)])
    handle = curate.open(str(tmp_path / "pool"))
    found = rows(handle, "SELECT step, id, asked, dropped_first, dropped_alone, left_after FROM funnel ORDER BY step")
    assert found == [(0, "all", 20, 0, 0, 20), (1, "small", 20, 8, 8, 12), (2, "odd", 20, 6, 10, 6)]
    assert rows(handle, "SELECT dropped_by, reason, count(*) FROM picks GROUP BY ALL ORDER BY 3") == [
        (None, None, 6),
        ("odd", "not_odd", 6),
        ("small", "not_small", 8),
    ]
    joined = "SELECT count(*) FROM samples JOIN picks USING (uid) WHERE samples.row = picks.row AND dropped_by IS NULL"
    assert rows(handle, joined) == [(6,)]


def test_a_pick_is_found_by_name_or_the_choice_is_named(tmp_path):
    pool = pools.synthetic(tmp_path / "pool", [3])
    verdicts = [pools.add_verdict(pool, "where", lambda s, u: np.ones(len(u), bool), key) for key in "ab"]
    folders = [pools.add_pick(pool, "demo", [("w", v)]) for v in verdicts]
    with pytest.raises(UserError, match="'demo' has 2 picks, name one in full: " + ", ".join(sorted(folders))):
        curate.open(str(tmp_path / "pool"), "demo")
    with pytest.raises(UserError, match="no pick of 'demi'; picks: "):
        curate.open(str(tmp_path / "pool"), "demi")
    handle = curate.open(str(tmp_path / "pool"), folders[1])
    assert rows(handle, "SELECT DISTINCT pick FROM picks") == [(folders[1].removeprefix("picks/"),)]


def test_fetches_of_all_attempts(tmp_path):
    pool = pools.synthetic(tmp_path / "pool", [2])
    pools.add_fetches(pool, 0, ["ok", "ok", "dns", "timeout"])
    pools.add_fetches(pool, 0, ["ok"], attempt=1)
    handle = curate.open(str(tmp_path / "pool"))
    found = rows(handle, "SELECT outcome, attempt, shard, count(*) FROM fetches GROUP BY ALL ORDER BY ALL")
    assert found == [("dns", 0, 0, 1), ("ok", 0, 0, 2), ("ok", 1, 0, 1), ("timeout", 0, 0, 1)]


def test_an_empty_pool_has_all_views(tmp_path):
    pools.empty_pool(tmp_path / "pool", [])
    handle = curate.open(str(tmp_path / "pool"))
    for view, columns in handle.views().items():
        assert columns
        assert rows(handle, f"SELECT * FROM {view}") == []


def test_no_pool_no_handle(tmp_path):
    with pytest.raises(UserError, match="there is no pool here"):
        curate.open(str(tmp_path))


def test_a_folder_name_that_duckdb_would_expand(tmp_path):
    for name in ("lang=en", 'it\'s "here"', "ünï codé"):
        pools.synthetic(tmp_path / name, [3])
        handle = curate.open(str(tmp_path / name))
        assert rows(handle, "SELECT count(*) FROM samples") == [(3,)]
        assert "lang" not in handle.views()["samples"]
    pools.synthetic(tmp_path / "a[b]", [3])
    with pytest.raises(UserError, match="rename the folder"):
        curate.open(str(tmp_path / "a[b]")).sql("SELECT count(*) FROM samples")


def test_short_hashes_name_folders(tmp_path):
    """The full name of a column ends in the hash that names its folder."""
    pool = pools.synthetic(tmp_path / "pool", [1])
    assert pools.add_column(pool, "x", numbers).endswith(short_hash(["x", ""]))
