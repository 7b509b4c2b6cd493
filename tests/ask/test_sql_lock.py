"""A query only asks: it cannot read outside the pool, write, install, load, attach, configure or crash."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

import curate
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
    with pytest.raises(UserError, match=r"file system operations are disabled|Cannot access|refused"):
        curate.open(str(root)).sql(query).fetchall()


WRITES = [
    "COPY (SELECT 1) TO '{root}/out.csv'",
    "COPY samples TO '/tmp/curate-attack.parquet' (FORMAT parquet)",
    "EXPLAIN ANALYZE COPY (SELECT 1) TO '{root}/out.csv'",
    "EXPLAIN (ANALYZE, FORMAT json) COPY (SELECT 1) TO '{root}/out.csv'",
    "EXPLAIN /* ( */ ANALYZE COPY (SELECT 1) TO '{root}/out.csv'",
    "EXPORT DATABASE '{root}/export'",
    "ATTACH '{root}/x.db'",
    "ATTACH '{root}/pool.json' AS x",
    "CREATE TABLE t AS SELECT 1",
    "CREATE OR REPLACE TEMP VIEW samples AS SELECT 1",
    "CREATE SECRET s (TYPE s3)",
    "INSERT INTO hidden.removed_uids SELECT NULL",
    "DELETE FROM hidden.removed_uids",
    "DROP VIEW samples",
    "UPDATE samples SET width = 1",
    "WITH x AS (DELETE FROM hidden.removed_uids RETURNING *) SELECT * FROM x",
    "WITH x AS (INSERT INTO hidden.removed_uids VALUES (NULL) RETURNING *) SELECT * FROM x",
    "WITH x AS (COPY (SELECT 1) TO '{root}/out.csv') SELECT * FROM x",
    "SELECT * FROM (WITH x AS (COPY (SELECT 1) TO '{root}/out.csv') SELECT * FROM x)",
    "SELECT (WITH x AS (COPY (SELECT 1) TO '{root}/out.csv') SELECT count(*) FROM x)",
    "EXPLAIN ANALYZE WITH x AS (COPY (SELECT 1) TO '{root}/out.csv') SELECT * FROM x",
    "SUMMARIZE WITH x AS (COPY (SELECT 1) TO '{root}/out.csv') SELECT * FROM x",
    "SELECT 1; COPY (SELECT 1) TO '{root}/out.csv'",
    "SELECT * FROM query('COPY (SELECT 1) TO ''{root}/out.csv''')",
    "SELECT * FROM query('SELECT 1')",
    "SELECT * FROM json_execute_serialized_sql(json_serialize_sql('SELECT 1'))",
    "SELECT * FROM enable_logging(storage = 'file', storage_path = '{root}/log')",
    "CALL enable_logging(storage = 'file', storage_path = '{root}/log')",
    "SELECT * FROM enable_profiling(save_location = '{root}/profile')",
    "SELECT * FROM checkpoint()",
    "INSTALL httpfs",
    "LOAD httpfs",
    "LOAD '/tmp/evil.so'",
    "FORCE INSTALL spatial FROM community",
    "SET enable_external_access = true",
    "SET lock_configuration = false",
    "SET memory_limit = '1TB'",
    "RESET allowed_directories",
    "PRAGMA enable_profiling",
    "PRAGMA database_list",
    "USE hidden",
    "PREPARE x AS SELECT 1",
    "EXECUTE x",
    "BEGIN TRANSACTION",
    "VACUUM",
    "PIVOT samples ON width USING count(*)",
    "SELECT * FROM arrow_scan(1, 2, 3)",
    "SELECT * FROM (SELECT * FROM pandas_scan(1))",
    "SELECT * FROM python_map_function(1)",
    "SELECT * FROM seq_scan('x')",
    "SELECT * FROM read_duckdb('{root}/pool.json')",
    "",
    "-- nothing",
]


@pytest.mark.parametrize("attack", WRITES)
def test_doing_more_than_asking(root, attack):
    before = fingerprint(root.parent)
    handle = curate.open(str(root))
    with pytest.raises(UserError):
        handle.sql(attack.format(root=root)).fetchall()
    assert fingerprint(root.parent) == before
    assert not Path("/tmp/curate-attack.parquet").exists()
    assert handle.sql("SELECT count(*) FROM samples").fetchall() == [(10,)]


def test_a_link_in_the_name_does_not_lead_out(root):
    """`removed` and the like are looked up below the pool only; a name cannot climb."""
    with pytest.raises(UserError):
        curate.open(str(root)).sql(f"SELECT * FROM read_text('{root}/pixels/../../secret.csv')").fetchall()


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
