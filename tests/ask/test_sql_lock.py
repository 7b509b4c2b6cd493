"""A query only asks: it cannot read outside the pool, write, install, load, attach, configure or crash."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pytest

import curate
from curate.ask.local import LocalFiles
from curate.errors import UserError
from tests import pools


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("locked") / "pool"
    pools.synthetic(root, [5, 5])
    (root.parent / "secret.csv").write_text("word\nhush\n")
    return root


def fingerprint(folder: Path) -> dict[str, str]:
    files = sorted(p for p in folder.rglob("*") if p.is_file())
    return {str(p): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


NO_FILES = r"refused: a query (asks the views and )?opens no file by name"

READS_OUTSIDE = [
    "SELECT * FROM read_text('/etc/passwd')",
    "SELECT * FROM read_blob('/proc/self/environ')",
    "SELECT * FROM read_csv('{root}/../secret.csv')",
    "SELECT * FROM '{root}/../secret.csv'",
    "SELECT * FROM read_csv('{parent}/secret.csv')",
    "SELECT * FROM glob('{parent}/*')",
    "SELECT * FROM glob('/etc/*')",
    "SELECT * FROM sniff_csv('{parent}/secret.csv')",
    "SELECT * FROM '{root}-other/x.parquet'",
    "SELECT * FROM 'https://example.com/x.parquet'",
    "SELECT * FROM read_parquet('s3://bucket/x.parquet')",
    "SELECT * FROM read_json('/etc/hosts')",
    "SELECT (SELECT content FROM read_text('/etc/passwd'))",
    "WITH x AS (SELECT * FROM read_text('/etc/passwd')) SELECT * FROM x",
    "DESCRIBE SELECT * FROM read_csv('/etc/passwd')",
    "SUMMARIZE SELECT * FROM read_csv('/etc/passwd')",
    "EXPLAIN ANALYZE SELECT * FROM read_text('/etc/passwd')",
]


@pytest.mark.parametrize("attack", READS_OUTSIDE)
def test_reading_outside_the_pool(root, attack):
    query = attack.format(root=root, parent=root.parent)
    with pytest.raises(UserError, match=NO_FILES):
        curate.open(str(root)).sql(query).fetchall()


@pytest.mark.parametrize("attack", READS_OUTSIDE)
def test_the_connection_itself_reads_nothing_outside(root, attack):
    """Behind the judge of queries DuckDB is locked as well: what slips past the one meets the other."""
    handle = curate.open(str(root))
    with pytest.raises(duckdb.Error, match=r"disabled by configuration|Cannot access|not allowed"):
        handle._session.internal(attack.format(root=root, parent=root.parent))


READS_INSIDE = [
    "SELECT * FROM read_parquet('{root}/pixels/00000000.parquet')",
    "SELECT * FROM '{root}/pixels/00000000.parquet'",
    "SELECT * FROM read_text('{root}/pool.json')",
    "SELECT * FROM parquet_metadata('{root}/pixels/*.parquet')",
    "SELECT * FROM parquet_kv_metadata('{root}/pixels/00000000.parquet')",
    "SELECT * FROM glob('{root}/**')",
    "SELECT * FROM samples.parquet",
    'SELECT * FROM "a"."b"."c.csv"',
    "DESCRIBE '{root}/pixels/00000000.parquet'",
    "SUMMARIZE '{root}/pixels/00000000.parquet'",
    "SELECT * FROM hidden.removed_uids",
]


@pytest.mark.parametrize("attack", READS_INSIDE)
def test_the_views_alone_decide_what_is_read(root, attack):
    """Reading the pool's files by name would show removed samples, and follow links."""
    with pytest.raises(UserError, match=NO_FILES):
        curate.open(str(root)).sql(attack.format(root=root)).fetchall()


ONLY_ASK = "Allowed are SELECT, WITH, FROM"
TABLE = r"table function \w+\(\) is refused"

WRITES = {
    "COPY (SELECT 1) TO '{root}/out.csv'": f"COPY is refused.*{ONLY_ASK}",
    "COPY samples TO '/tmp/curate-attack.parquet' (FORMAT parquet)": f"COPY is refused.*{ONLY_ASK}",
    "COPY samples FROM '/etc/passwd'": f"COPY is refused.*{ONLY_ASK}",
    "EXPLAIN ANALYZE COPY (SELECT 1) TO '{root}/out.csv'": "EXPLAIN is for queries only",
    "EXPLAIN (ANALYZE, FORMAT json) COPY (SELECT 1) TO '{root}/out.csv'": "EXPLAIN is for queries only",
    "EXPLAIN /* ( */ ANALYZE COPY (SELECT 1) TO '{root}/out.csv'": "syntax error",
    "EXPORT DATABASE '{root}/export'": "EXPORT is refused",
    "IMPORT DATABASE '{root}/export'": "is refused",
    "ATTACH '{root}/x.db'": "ATTACH is refused",
    "ATTACH '{root}/pool.json' AS x": "ATTACH is refused",
    "DETACH memory": "DETACH is refused",
    "CREATE TABLE t AS SELECT 1": "CREATE is refused",
    "CREATE OR REPLACE TEMP VIEW samples AS SELECT 1": "CREATE is refused",
    "CREATE TEMP MACRO clip_text(x) AS 1": "CREATE is refused",
    "CREATE SECRET s (TYPE s3)": "CREATE is refused",
    "DROP SECRET s": "DROP is refused",
    "INSERT INTO hidden.removed_uids SELECT NULL": "INSERT is refused",
    "DELETE FROM hidden.removed_uids": "DELETE is refused",
    "TRUNCATE hidden.removed_uids": "is refused",
    "DROP VIEW samples": "DROP is refused",
    "ALTER VIEW samples RENAME TO x": "ALTER is refused",
    "UPDATE samples SET width = 1": "UPDATE is refused",
    "WITH x AS (DELETE FROM hidden.removed_uids RETURNING *) SELECT * FROM x": "refused, also inside WITH",
    "WITH x AS (INSERT INTO hidden.removed_uids VALUES (NULL) RETURNING *) SELECT * FROM x": "refused, also inside",
    "WITH x AS (COPY (SELECT 1) TO '{root}/out.csv') SELECT * FROM x": "refused, also inside WITH",
    "SELECT * FROM (WITH x AS (COPY (SELECT 1) TO '{root}/out.csv') SELECT * FROM x)": "refused, also inside WITH",
    "SELECT (WITH x AS (COPY (SELECT 1) TO '{root}/out.csv') SELECT count(*) FROM x)": "refused, also inside WITH",
    "EXPLAIN ANALYZE WITH x AS (COPY (SELECT 1) TO '{root}/out.csv') SELECT * FROM x": "refused, also inside WITH",
    "SUMMARIZE WITH x AS (COPY (SELECT 1) TO '{root}/out.csv') SELECT * FROM x": "refused",
    "SELECT 1; COPY (SELECT 1) TO '{root}/out.csv'": "one statement at a time; this has 2",
    "SELECT * FROM query('COPY (SELECT 1) TO ''{root}/out.csv''')": TABLE,
    "SELECT * FROM query('SELECT 1')": TABLE,
    "SELECT * FROM query_table('samples')": TABLE,
    "SELECT * FROM json_execute_serialized_sql(json_serialize_sql('SELECT 1'))": TABLE,
    "SELECT * FROM enable_logging(storage = 'file', storage_path = '{root}/log')": TABLE,
    "CALL enable_logging(storage = 'file', storage_path = '{root}/log')": "CALL is refused",
    "CALL pragma_version()": "CALL is refused",
    "SELECT * FROM enable_profiling(save_location = '{root}/profile')": TABLE,
    "SELECT * FROM checkpoint()": TABLE,
    "INSTALL httpfs": "LOAD is refused",
    "LOAD httpfs": "LOAD is refused",
    "LOAD '/tmp/evil.so'": "LOAD is refused",
    "FORCE INSTALL spatial FROM community": "LOAD is refused",
    "UPDATE EXTENSIONS": "refused",
    "SET enable_external_access = true": "SET is refused",
    "SET lock_configuration = false": "SET is refused",
    "SET memory_limit = '1TB'": "SET is refused",
    "SET VARIABLE x = 1": "SET is refused",
    "RESET allowed_directories": "SET is refused",
    "PRAGMA enable_profiling": "refused",
    "PRAGMA database_list": "refused",
    "USE hidden": "SET is refused",
    "PREPARE x AS SELECT 1": "PREPARE is refused",
    "EXECUTE x": "EXECUTE is refused",
    "BEGIN TRANSACTION": "TRANSACTION is refused",
    "VACUUM": "VACUUM is refused",
    "PIVOT samples ON width USING count(*)": "refused",
    "SELECT * FROM arrow_scan(1, 2, 3)": TABLE,
    "SELECT * FROM (SELECT * FROM pandas_scan(1))": TABLE,
    "SELECT * FROM python_map_function(1)": TABLE,
    "SELECT * FROM seq_scan('x')": TABLE,
    "SELECT * FROM read_duckdb('{root}/pool.json')": TABLE,
    "SELECT * FROM duckdb_secrets()": TABLE,
    "SELECT * FROM which_secret('s3://x', 's3')": TABLE,
    "SELECT * FROM duckdb_extensions()": TABLE,
    "SELECT write_log('x')": r"write_log\(\) is refused: it leaves something behind",
    "SELECT setval('s', 1)": r"setval\(\) is refused",
    "SELECT setseed(0.5)": r"setseed\(\) is refused",
    "SELECT getenv('HOME')": "Scalar Function with name getenv does not exist",
    "SELECT clip_text(content) FROM read_text('/etc/passwd')": "refused",
    "SELECT temp.main.clip_text('x')": "clip_text needs a CLIP",
    "": "one statement at a time; this has 0",
    "-- nothing": "one statement at a time; this has 0",
}


@pytest.mark.parametrize(("attack", "why"), WRITES.items())
def test_doing_more_than_asking(root, attack, why):
    before = fingerprint(root.parent)
    handle = curate.open(str(root))
    with pytest.raises(UserError, match=f"(?s){why}"):
        handle.sql(attack.format(root=root)).fetchall()
    assert fingerprint(root.parent) == before
    assert not Path("/tmp/curate-attack.parquet").exists()
    assert handle.sql("SELECT count(*) FROM samples").fetchall() == [(10,)]


# ---------------------------------------------------------------- pools that a stranger made


@pytest.mark.parametrize("what", ["file", "folder", "column"])
def test_a_link_in_the_pool_does_not_lead_out(tmp_path, what):
    """A file of another place, of the very shape that is expected, is not shown as a column of this pool."""
    root, other = tmp_path / "pool", tmp_path / "secret"
    for path, sign in ((root, 1), (other, -1)):
        pool = pools.synthetic(path, [4, 4])
        made = pools.add_column(pool, "score", lambda s, u, k=sign: pa.table({"v": k * (1 + np.arange(len(u)))}))
    link = {"file": "pixels/00000000.parquet", "folder": "pixels", "column": f"{made}/00000000.parquet"}[what]
    shutil.rmtree(root / link) if what == "folder" else (root / link).unlink()
    (root / link).symlink_to(other / link)
    handle = curate.open(str(root))
    if what == "folder":
        with pytest.raises(UserError, match=r"is a link that leads out of the pool, to .*secret.*: SQL reads the pool"):
            handle.sql("SELECT v, text FROM samples").fetchall()
    else:  # what is no file of the pool is not there
        assert handle.sql("SELECT v FROM samples WHERE v IS NOT NULL").fetchall() == [(1,), (2,), (3,), (4,)]
    files = LocalFiles(pools.Pool.open(str(root)).storage)
    with pytest.raises(UserError, match=r"is a link that leads out of the pool, to .*secret"):
        files.sql([f"{link}/00000000.parquet" if what == "folder" else link])


def test_a_pool_that_is_reached_by_a_link_is_read(tmp_path):
    pools.synthetic(tmp_path / "pool", [4, 3])
    (tmp_path / "link").symlink_to(tmp_path / "pool")
    assert curate.open(str(tmp_path / "link")).sql("SELECT count(width) FROM samples").fetchall() == [(7,)]


@pytest.mark.parametrize("name", ["*", "[0-9]*", "?0000000.0", "x'); DROP VIEW samples; --", "\x1b[2J", "lang=en"])
def test_files_with_hostile_names(tmp_path, name):
    """Only names that curate gives are read from fetch/; what DuckDB would expand is refused elsewhere."""
    pool = pools.synthetic(tmp_path / "pool", [4])
    pools.add_fetches(pool, 0, ["ok"] * 4)
    log = next((tmp_path / "pool" / "fetch").iterdir())
    (log.parent / f"{name}.parquet").write_bytes(log.read_bytes())
    handle = curate.open(str(tmp_path / "pool"))
    assert handle.sql("SELECT count(*) FROM fetches").fetchall() == [(4,)]
    removed = tmp_path / "pool" / "removed"
    removed.mkdir()
    (removed / f"{name}.parquet").write_bytes(log.read_bytes())
    handle = curate.open(str(tmp_path / "pool"))
    if set(name) & set("*?["):
        with pytest.raises(UserError, match="no name that curate gives; delete this file"):
            handle.sql("SELECT count(*) FROM samples")
    else:
        assert handle.sql("SELECT count(*) FROM samples").fetchall() == [(0,)]


@pytest.mark.parametrize("name", ['x" ; DROP', "it's", "a]b", "\x1b(31m", "-- x", "SELECT", "ü 犬"])
def test_columns_and_folders_with_hostile_names(tmp_path, name):
    pool = pools.synthetic(tmp_path / "pool", [4])
    pools.add_column(pool, name, lambda s, u: pa.table({name: np.arange(len(u))}))
    handle = curate.open(str(tmp_path / "pool"))
    assert name in handle.views()["samples"]
    quoted = name.replace('"', '""')
    assert handle.sql(f'SELECT sum("{quoted}") AS s FROM samples').fetchall() == [(6,)]
    assert "\x1b" not in repr(handle.sql("FROM samples"))


def test_python_variables_are_not_tables(root):
    secret = pools.facts_table(0, 3)  # noqa: F841 (DuckDB would find it by its name)
    with pytest.raises(UserError, match="secret does not exist"):
        curate.open(str(root)).sql("SELECT * FROM secret")


@pytest.mark.parametrize(
    "query",
    [
        "FROM samples",
        "SELECT count(*) FROM samples",
        "WITH x AS (SELECT width FROM samples) SELECT max(width) FROM x",
        "VALUES (1), (2)",
        "DESCRIBE samples",
        "SUMMARIZE samples",
        "SHOW TABLES",
        "SHOW samples",
        "EXPLAIN SELECT width FROM samples",
        "EXPLAIN ANALYZE SELECT width FROM samples",
        "EXPLAIN (FORMAT json) SELECT width FROM samples",
        "SELECT * FROM range(3)",
        "SELECT s.width AS w, count(*) AS n FROM samples s GROUP BY ALL ORDER BY n DESC, w",
        "SELECT unnest([1, 2])",
        "-- a note\nSELECT 1 /* and another */;",
    ],
)
def test_what_is_allowed(root, query):
    assert len(curate.open(str(root)).sql(query)) > 0


def test_a_refusal_says_what_is_allowed(root):
    handle = curate.open(str(root))
    with pytest.raises(UserError, match=r"COPY is refused.*SELECT, WITH, FROM"):
        handle.sql("COPY samples TO 'x.csv'")
    with pytest.raises(UserError, match="one statement at a time; this has 2"):
        handle.sql("SELECT 1; SELECT 2")
    with pytest.raises(UserError, match=r"arrow_scan\(\) is refused"):
        handle.sql("FROM arrow_scan(1, 2, 3)")
    with pytest.raises(UserError, match=r'"widht" not found.*\n?.*"width"'):
        handle.sql("SELECT widht FROM samples")
