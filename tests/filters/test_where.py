"""Predicates: the honest ones decide as SQL does, all others are refused with the reason."""

from __future__ import annotations

import duckdb
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from filters.sql_guard import CLOCK_NAMES, FUNCTIONS, check_predicate
from filters.where import Where
from tests.filters.run_rules import reasons

TYPES = {
    "n_words": pa.int32(),
    "sharpness": pa.float32(),
    "blank": pa.bool_(),
    "lang": pa.string(),
    "text": pa.string(),
    "tags": pa.list_(pa.string()),
    "meta": pa.struct([("width", pa.int32()), ("source", pa.string())]),
    "A b": pa.int32(),
}

HONEST = {
    "n_words >= 3 AND lang = 'en'": ("n_words", "lang"),
    "lang = 'en' AND n_words >= 3 AND lang <> 'de'": ("lang", "n_words"),
    "NOT blank": ("blank",),
    "blank IS NOT TRUE": ("blank",),
    "sharpness BETWEEN 50 AND 1e4": ("sharpness",),
    "lang IN ('en', 'de') OR lang IS NULL": ("lang",),
    "CASE WHEN lang = 'en' THEN n_words > 2 ELSE n_words > 4 END": ("lang", "n_words"),
    "text NOT LIKE '%stock photo%' AND text !~ '^IMG_[0-9]+'": ("text",),
    "text ILIKE 'a%' ESCAPE '!'": ("text",),
    "lower(text) SIMILAR TO '.*car.*'": ("text",),
    "text GLOB 'a*' AND starts_with(text, 'a')": ("text",),
    "'dog' IN tags AND len(tags) < 9": ("tags",),
    "tags[1] = 'a' OR len(tags[1:2]) = 2": ("tags",),
    "meta.width > 3 AND meta['source'] = 'x' AND (meta).width < 9": ("meta",),
    "len(list_filter(tags, lambda t: t = lang)) > 0": ("tags", "lang"),
    "len([t FOR t IN tags IF t <> 'a']) > 0": ("tags",),
    "list_reduce([n_words, 2], lambda a, b: a + b) > 3": ("n_words",),
    '"A b" % 2 = 0': ("A b",),
    "TRY_CAST(text AS INTEGER) > 3 AND text::VARCHAR <> ''": ("text",),
    "TRY(CAST(text AS INTEGER)) > 3": ("text",),
    "coalesce(nullif(n_words, 0), 1) / greatest(n_words, 1) > 0.5": ("n_words",),
    "text COLLATE NOCASE = 'abc'": ("text",),
    "extract(year FROM make_date(n_words, 1, 1)) > 3": ("n_words",),
    "position('-- not a comment; /* nor this */' IN text) = 0": ("text",),
    "md5(text) < '8'": ("text",),
    "text = 'it''s ) quoted ( and ]['": ("text",),
    "strptime(text, '%Y') >= DATE '2020-01-01' - INTERVAL 1 DAY": ("text",),
    "(n_words > 1) OR (blank)": ("n_words", "blank"),
}


@pytest.mark.parametrize("sql", HONEST)
def test_honest_predicates_name_their_columns_in_order(sql: str) -> None:
    assert check_predicate(sql) == check_predicate(sql, TYPES) == check_predicate(sql, list(TYPES)) == HONEST[sql]


ATTACKS = {
    # more than one expression, or one that ends early
    "": "the predicate is empty",
    " \n": "the predicate is empty",
    "n_words > 1; DROP TABLE t": "not an SQL expression",
    "n_words > 1); DROP TABLE t; SELECT (1": "more than one statement|not an SQL expression",
    "1=1) UNION SELECT (1": "not an SQL expression|not one expression",
    "1=1) UNION ALL SELECT 1 FROM read_csv('/etc/passwd') WHERE (1=1": "not an SQL expression|not one expression",
    "n_words > 1) OR (blank": "not an SQL expression|not one expression",
    "n_words > 1) AND (SELECT true": "not an SQL expression|not one expression",
    "blank) GROUP BY (lang": "not an SQL expression|not one expression",
    "blank) GROUP BY lang HAVING (true": "not an SQL expression|not one expression",
    "blank) ORDER BY (lang": "not an SQL expression|not one expression",
    "blank) LIMIT (1": "not an SQL expression|not one expression",
    "blank) QUALIFY (true": "not an SQL expression|not one expression",
    "blank] FROM t WHERE [true": "not an SQL expression|not one expression",
    "n_words > 1, blank": "not an SQL expression|not one expression",
    "blank AS keep": "not an SQL expression|not one expression",
    "n_words FOR n_words IN tags": "not an SQL expression|not one expression",
    "SELECT true": "not an SQL expression|not one expression|subquery",
    "FROM t": "not an SQL expression|subquery",
    # comments
    "blank -- and more": "SQL comment",
    "1=1) -- ": "SQL comment",
    "blank /* and more */": "SQL comment",
    "blank /* and more": "SQL comment",
    # subqueries and tables
    "(SELECT true)": "a subquery",
    "EXISTS (SELECT 1 FROM samples)": "a subquery",
    "n_words IN (SELECT 1)": "a subquery",
    "n_words = ANY([1, 2])": "a subquery",
    "n_words > ALL(SELECT 1)": "a subquery",
    "(WITH x AS (SELECT 1) SELECT * FROM x) = 1": "a subquery",
    "(FROM read_text('/etc/passwd')) = 1": "a subquery",
    "len(ARRAY(SELECT 1)) = 1": "a subquery",
    # many rows
    "count(*) > 3": r"count_star\(\): it makes one value of many rows",
    "sum(n_words) > 3": r"sum\(\): it makes one value of many rows",
    "sum(n_words) FILTER (WHERE blank) > 3": r"sum\(\)",
    "lower(DISTINCT text) = 'a'": "DISTINCT, FILTER and ORDER BY belong to aggregates",
    "lower(text ORDER BY lang) = 'a'": "DISTINCT, FILTER and ORDER BY belong to aggregates",
    "lower(text) FILTER (WHERE blank) = 'a'": "DISTINCT, FILTER and ORDER BY belong to aggregates",
    "row_number() OVER () < 10": "a window function",
    "rank() OVER (ORDER BY sharpness) < 10": "a window function",
    "sum(n_words) OVER () > 3": "a window function",
    "lag(n_words) OVER () > 3": "a window function",
    "unnest(tags) = 'a'": r"unnest\(\): it makes",
    "grouping(lang) = 1": "grouping",
    "list_aggregate([n_words], 'sum') > 1": r"list_aggregate\(\): it is not on the list",
    # chance, the clock, the session
    "random() < 0.5": r"random\(\): it is not on the list",
    "RANDOM() < n_words": r"random\(\): it is not on the list",
    "uuid()::VARCHAR < text": r"uuid\(\): it is not on the list",
    "gen_random_uuid()::VARCHAR < text": "not on the list",
    "now() > DATE '2026-01-01'": r"now\(\): it is not on the list",
    "today() > DATE '2026-01-01'": "not on the list",
    "age(DATE '2020-01-01') > INTERVAL 1 YEAR": r"age\(\): it is not on the list",
    "current_localtimestamp() > TIMESTAMP '2026-01-01'": "not on the list",
    "get_current_timestamp() IS NULL": "not on the list",
    "nextval('s') > 3": r"nextval\(\)",
    "setseed(0.5) IS NULL": r"setseed\(\)",
    "hash(text) % 2 = 0": r"hash\(\): it is not on the list",
    "version() = text": r"version\(\): it is not on the list",
    "current_setting('home_directory') = text": r"current_setting\(\): it is not on the list",
    "getvariable('x') = text": r"getvariable\(\)",
    "current_database() = text": r"current_database\(\)",
    "txid_current() = n_words": r"txid_current\(\)",
    "sleep_ms(100000) IS NULL": r"sleep_ms\(\)",
    "write_log(text) IS NULL": r"write_log\(\)",
    "error(text) IS NULL": r"error\(\)",
    # files, tables, the network, other code
    "read_text('/etc/passwd') = text": r"read_text\(\): it reads a table or a file",
    "read_csv('/etc/passwd') = text": r"read_csv\(\): it reads a table or a file",
    "read_parquet(text) = 1": r"read_parquet\(\): it reads",
    "glob('/etc/*') = text": r"glob\(\): it reads",
    "text.read_blob() IS NULL": r"without a dot: read_blob\(\.\.\.\), not text\.read_blob",
    "getenv('HOME') = text": r"getenv\(\): there is no such function",
    "query('SELECT 1') = 1": r"query\(\): it reads",
    "duckdb_settings() = text": r"duckdb_settings\(\): it reads",
    "pragma_version() = text": r"pragma_version\(\)",
    "json_execute_serialized_sql(text) = 1": r"json_execute_serialized_sql\(\)",
    "json_serialize_sql(text) = text": r"json_serialize_sql\(\): it is not on the list",
    "list_transform(tags, lambda t: read_text(t)) IS NULL": r"read_text\(\)",
    "list_transform(tags, lambda t: (SELECT content FROM read_text(t))) IS NULL": "a subquery",
    "system.main.lower(text) = 'a'": "without a dot",
    "main.random() < 0.5": "without a dot",
    # long values of short ones
    "repeat(text, 1000000000) = ''": r"repeat\(\)",
    "len(range(1000000000)) > n_words": r"range\(\)",
    "lpad(text, 1000000000, 'x') = ''": r"lpad\(\)",
    "printf('%1000000000d', n_words) = ''": r"printf\(\)",
    # what stands for something else
    "n_words > ?": "a parameter",
    "n_words > $1": "a parameter",
    "n_words > $threshold": "a parameter",
    "*": r"\*|not an SQL expression",
    "COLUMNS(*) > 3": r"\* or COLUMNS",
    "COLUMNS('n_.*') > 3": r"\* or COLUMNS",
    "#1 > 3": "a position",
    "n_words > DEFAULT": "DEFAULT|not an SQL expression",
    "list_filter(tags, t -> t = 'a') = tags": "-> is ambiguous",
    "text -> '$.a' = '1'": "-> is ambiguous",
    # nothing of the sample
    "true": "reads no column",
    "1 = 1": "reads no column",
    "len(list_filter([1, 2], lambda x: x > 1)) = 1": "reads no column",
}


@pytest.mark.parametrize("sql", ATTACKS)
@pytest.mark.parametrize("columns", [None, TYPES], ids=["any", "known"])
def test_attacks_are_refused_with_the_reason(sql: str, columns: dict[str, pa.DataType] | None) -> None:
    with pytest.raises(ValueError, match=ATTACKS[sql]):
        check_predicate(sql, columns)
    with pytest.raises(ValueError, match=ATTACKS[sql]):
        Where(sql=sql)


@pytest.mark.parametrize("word", sorted(CLOCK_NAMES))
def test_the_clock_is_no_column(word: str) -> None:
    sql = f"{word} IS NULL OR blank"
    with pytest.raises(ValueError, match=f"{word} is another one every day"):
        check_predicate(sql)
    with pytest.raises(ValueError, match=f"no column '{word}'"):
        check_predicate(sql, TYPES)


def test_unknown_columns_name_the_nearest() -> None:
    with pytest.raises(ValueError, match=r"no column 'sharpnes'; did you mean sharpness\?"):
        check_predicate("sharpnes > 3", TYPES)
    with pytest.raises(ValueError, match="no column 'zzz'; there are: A b, blank"):
        check_predicate("zzz > 3", TYPES)
    with pytest.raises(ValueError, match="no column 'Lang'; did you mean lang"):
        check_predicate("Lang = 'en'", list(TYPES))
    with pytest.raises(ValueError, match="no column 'samples'"):
        check_predicate("samples.blank", TYPES)
    with pytest.raises(ValueError, match="no column 'current_user'"):
        check_predicate("lang = current_user", TYPES)
    with pytest.raises(ValueError, match="no column 'rowid'"):
        check_predicate("rowid < 100", TYPES)


def test_unknown_functions_name_the_nearest() -> None:
    with pytest.raises(ValueError, match=r"lenght\(\): there is no such function; did you mean length"):
        check_predicate("lenght(text) > 3")


def test_types_are_checked_where_they_are_known() -> None:
    with pytest.raises(ValueError, match=r"`n_words` is a INTEGER, not true or false: compare it with something"):
        check_predicate("n_words", TYPES)
    with pytest.raises(ValueError, match=r"is a VARCHAR"):
        check_predicate("lower(text)", TYPES)
    with pytest.raises(ValueError, match=r"does not fit its columns: .*len"):
        check_predicate("len(n_words) > 3", TYPES)
    with pytest.raises(ValueError, match=r"does not fit its columns: .*nope"):
        check_predicate("n_words::nope > 3", TYPES)
    with pytest.raises(ValueError, match=r"does not fit its columns: Not implemented"):  # DuckDB has no halves
        check_predicate("vector IS NOT NULL", {"vector": pa.list_(pa.float16())})
    with pytest.raises(ValueError, match="does not fit its columns"):
        check_predicate("meta.height > 3", TYPES)
    assert check_predicate("n_words") == ("n_words",)


@pytest.mark.parametrize(
    "sql",
    ["(" * 3000 + "blank" + ")" * 3000, "NOT " * 3000 + "blank", "n_words" + " + 1" * 3000 + " > 0", "-" * 900 + "x>0"],
)
def test_deep_nesting_is_an_error_and_no_crash(sql: str) -> None:
    with pytest.raises(ValueError, match=r"depth|nested too deeply|SQL comment"):
        check_predicate(sql)


def test_long_lists_are_fine_up_to_the_limit() -> None:
    assert check_predicate(f"n_words IN ({', '.join(map(str, range(5000)))})") == ("n_words",)
    with pytest.raises(ValueError, match=r"a predicate of 100,0.. characters; at most 100,000"):
        check_predicate("blank OR " + "x" * 100_000)


PIECES = [
    "a",
    "b",
    "(",
    ")",
    "[",
    "]",
    " OR ",
    " AND ",
    " = ",
    "NOT ",
    ",",
    ";",
    "'",
    '"',
    "--",
    "/*",
    "*/",
    "\n",
    "\0",
]
PIECES += [" UNION ", "SELECT ", "$$", "?", "::", ".", ">", "1", "{", "}", "E'", "\\"]


@settings(max_examples=400, deadline=None)
@given(st.lists(st.sampled_from([*PIECES, *(["a", "b", "(", ")", " OR ", "NOT "] * 6)]), max_size=9).map("".join))
@example("a OR (b)")
@example("a) OR (b")
@example("a = (b)\n")
def test_what_passes_means_the_same_wherever_it_is_put(sql: str) -> None:
    """Any text either is refused, or stays one expression in every place that takes one."""
    types = {"a": pa.bool_(), "b": pa.bool_(), "ab": pa.bool_()}
    try:
        check_predicate(sql, types)
    except ValueError:
        return
    with duckdb.connect() as connection:
        connection.execute("CREATE TABLE t AS SELECT x = 1 AS a, x = 2 AS b, x = 3 AS ab FROM range(4) r(x)")
        places = (f"SELECT ({sql}) FROM t", f"SELECT CASE WHEN true THEN ({sql}) ELSE NULL END FROM t")
        one, other = (connection.execute(place).fetchall() for place in places)
    assert one == other
    assert len(one) == 4
    assert all(len(row) == 1 for row in one)


def test_listed_functions_exist_and_are_no_aggregates() -> None:
    """Names that this DuckDB has are scalar or macros over them, and none that it has is volatile."""
    query = "SELECT DISTINCT function_name, function_type, stability FROM duckdb_functions()"
    with duckdb.connect() as connection:
        rows = [row for row in connection.execute(query).fetchall() if row[0] in FUNCTIONS]
    scalar = {name for name, kind, _ in rows if kind in ("scalar", "macro")}
    assert len(scalar) > 0.95 * len(FUNCTIONS), sorted(FUNCTIONS - scalar)
    assert {stability for _, kind, stability in rows if kind == "scalar"} == {"CONSISTENT"}
    only_aggregates = {name for name, kind, _ in rows if kind == "aggregate"} - scalar
    assert only_aggregates == set()


# ---------------------------------------------------------------------------------------------------- the filter


def test_where_keeps_what_is_true() -> None:
    chosen = Where.from_scalar("sharpness >= 0.7 AND NOT blank")
    assert chosen.reads() == ("sharpness", "blank")
    table = pa.table(
        {"sharpness": pa.array([0.7, 0.6999, 9, 9], pa.float32()), "blank": pa.array([False, False, True, False])}
    )
    assert reasons(chosen, table) == [None, "where", "where", None]


def test_where_reads_as_one_whatever_stands_beside_it() -> None:
    (rule,) = Where(sql="a OR b").rules().values()
    with duckdb.connect() as connection:
        assert connection.execute(f"SELECT NOT {rule} FROM (SELECT false AS a, true AS b)").fetchone() == (False,)


def test_null_follows_the_policy() -> None:
    rows = pa.table({"n_words": pa.array([None, 1, 9], pa.int32())})
    with pytest.raises(ValueError, match="where is NULL"):
        reasons(Where(sql="n_words > 2"), rows)
    assert reasons(Where(sql="n_words > 2", on_missing="drop"), rows) == ["missing", "where", None]
    assert reasons(Where(sql="n_words > 2", on_missing="keep"), rows) == [None, "where", None]


def test_a_scalar_that_is_no_string() -> None:
    with pytest.raises(ValueError, match="where takes a predicate as a string, not 3"):
        Where.from_scalar(3)
