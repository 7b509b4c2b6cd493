"""What a predicate in a recipe may be: one scalar boolean expression over one row's columns, and nothing else.

    check_predicate("n_words >= 3 AND lang = 'en'", ["lang", "n_words"])      # ("n_words", "lang")

The text is parsed by DuckDB itself and its tree is walked against lists of what is allowed; nothing is matched by
pattern, and what nobody thought of is refused. Functions are listed by name, because DuckDB's catalogue also calls
`age`, `version` and `current_localtime` consistent. Left out are those that read the clock, the session or files,
those that differ between releases (`hash`), and those that make a long value of a short one (`repeat`, `lpad`).
"""

from __future__ import annotations

import difflib
import json
import math
from collections.abc import Collection, Iterable, Iterator, Mapping
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Any

import pyarrow as pa

if TYPE_CHECKING:
    import duckdb

MAX_CHARS = 100_000

CLOCK_NAMES = frozenset({"current_date", "current_time", "current_timestamp", "localtime", "localtimestamp"})
"""Words that SQL reads as the time of day where no column has that name."""

NODES = frozenset(
    {"BETWEEN", "CASE", "CAST", "COLLATE", "COLUMN_REF", "COMPARISON", "CONJUNCTION", "CONSTANT", "FUNCTION"}
    | {"LAMBDA", "OPERATOR", "TYPE"}
)
REFUSED_NODES = {
    "SUBQUERY": "a subquery (also in ANY and ALL)",
    "WINDOW": "a window function",
    "PARAMETER": "a parameter",
    "STAR": "* or COLUMNS(...)",
    "POSITIONAL_REFERENCE": "a position (#1)",
    "DEFAULT": "DEFAULT",
}
OPERATORS = frozenset(
    {"ARRAY_CONSTRUCTOR", "ARRAY_EXTRACT", "ARRAY_SLICE", "COMPARE_IN", "COMPARE_NOT_IN", "OPERATOR_COALESCE"}
    | {"OPERATOR_IS_NOT_NULL", "OPERATOR_IS_NULL", "OPERATOR_NOT", "OPERATOR_NULLIF", "OPERATOR_TRY", "STRUCT_EXTRACT"}
)
NUMBERS = frozenset(
    {"TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT", "UTINYINT", "USMALLINT", "UINTEGER", "UBIGINT", "UHUGEINT"}
    | {"FLOAT", "DOUBLE", "BIGNUM"}
)
_NAMES = """
    + - * / // % ** ^ & | ~ << >> || ~~ !~~ ~~* !~~* ~~~ ^@ @ @> <@ &&
    abs ceil ceiling floor round round_even trunc sign sqrt cbrt exp ln log log2 log10 pow power mod divide fmod fdiv
    multiply add subtract sin cos tan asin acos atan atan2 radians degrees pi gcd lcm even
    isnan isinf isfinite signbit greatest least nullif if bit_count xor
    lower upper lcase ucase length len char_length character_length strlen length_grapheme octet_length bit_length
    contains starts_with ends_with prefix suffix position instr strpos left right substr substring substring_grapheme
    trim ltrim rtrim replace translate reverse strip_accents nfc_normalize unicode ascii ord chr concat concat_ws
    split split_part string_split str_split string_to_array string_split_regex str_split_regex regexp_split_to_array
    regexp_matches regexp_full_match regexp_extract regexp_extract_all regexp_replace regexp_escape
    like_escape not_like_escape ilike_escape not_ilike_escape
    levenshtein editdist3 damerau_levenshtein hamming mismatches jaccard jaro_similarity jaro_winkler_similarity
    md5 md5_number md5_number_lower md5_number_upper sha1 sha256 hex to_hex unhex from_hex encode decode
    url_decode url_encode parse_filename parse_path parse_dirname parse_dirpath
    list_value list_pack array_value row struct_pack map array_length list_contains list_has array_contains array_has
    list_has_any list_has_all array_has_any array_has_all list_position list_indexof array_position
    list_extract list_element array_extract list_slice array_slice list_distinct list_unique list_sort
    list_reverse_sort list_reverse list_concat list_cat list_intersect list_filter list_transform list_apply
    list_reduce list_zip list_where list_select flatten list_first list_last list_min list_max list_sum list_avg
    list_median list_count list_bool_and list_bool_or list_cosine_similarity list_cosine_distance list_distance
    list_inner_product list_dot_product array_cosine_similarity array_cosine_distance array_distance
    array_inner_product array_dot_product array_to_string
    struct_extract struct_extract_at struct_keys struct_values element_at map_extract map_extract_value map_keys
    map_values map_contains map_entries cardinality
    json_extract json_extract_string json_extract_path json_extract_path_text json_value json_exists json_contains
    json_type json_valid json_keys json_array_length ->>
    date_part datepart date_trunc datetrunc date_diff datediff date_sub datesub date_add year month day hour minute
    second millisecond microsecond quarter week weekofyear yearweek dayofweek dayofmonth dayofyear isodow isoyear
    weekday dayname monthname last_day days_in_month epoch epoch_ms epoch_us epoch_ns make_date make_timestamp
    strptime try_strptime strftime to_years to_months to_weeks to_days to_hours to_minutes to_seconds
    to_milliseconds to_microseconds to_quarters to_decades to_centuries to_millennia typeof
"""
FUNCTIONS = frozenset(_NAMES.split())
"""Scalar functions of one row that give the same answer on every machine and every day."""


def check_predicate(sql: str, columns: Mapping[str, pa.DataType] | Iterable[str] | None = None) -> tuple[str, ...]:
    """The columns that a predicate reads, each once, in the order in which they stand in it.

    Args:
        sql: a boolean expression in DuckDB's dialect. Names are case-sensitive, as everywhere in a recipe.
        columns: the names there are; with their types, the type of the expression is checked too. None: any name.

    Raises:
        ValueError: it is no such expression, or reads a column that is not there; says what is wrong.
    """
    found = _columns_read(sql)
    known = None if columns is None else tuple(columns)
    for name in found:
        _check_column(name, known)
    if isinstance(columns, Mapping):
        _check_type(sql, {name: columns[name] for name in found})
    return found


@lru_cache(maxsize=256)  # a filter is asked what it reads for each shard and each phase
def _columns_read(sql: str) -> tuple[str, ...]:
    """
    Raises:
        ValueError: it is no expression that a predicate may be.
    """
    try:
        found = _columns_of(_parse(sql))
    except RecursionError:
        raise ValueError(f"{_shown(sql)} is nested too deeply") from None
    if not found:
        raise ValueError(f"{_shown(sql)} reads no column: it would say the same of every sample")
    return found


def tree_of(sql: str) -> Any:
    """DuckDB's tree of an expression that `check_predicate` has passed: dicts and lists; each node has a `class`."""
    return _parse(sql)


def sql_of(tree: Any) -> str:
    """The SQL of a tree or of a part of one, as DuckDB writes it: names quoted where they must be."""
    query = _statement("1", "SELECT {}")
    whole = {"error": False, "statements": [{"node": query | {"select_list": [tree]}, "named_param_map": []}]}
    row = _connection().execute("SELECT json_deserialize_sql($1::JSON)", [json.dumps(whole)]).fetchone()
    return str(row[0]).removeprefix("SELECT ")  # type: ignore[index]


def number_of(tree: Any) -> float | None:
    """The value of an expression without columns; None where it is no finite number."""
    row = _connection().execute(f"SELECT typeof(x), try(x)::VARCHAR FROM (SELECT {sql_of(tree)} AS x)").fetchone()
    kind, value = row  # type: ignore[misc]
    if value is None or not (kind in NUMBERS or kind.startswith("DECIMAL")):
        return None
    return float(value) if math.isfinite(float(value)) else None


def _check_column(name: str, known: Collection[str] | None) -> None:
    if known is None:
        if name.lower() in CLOCK_NAMES:
            raise ValueError(f"{name} is another one every day: a predicate gives the same answer whenever it is asked")
    elif name not in known:
        near = difflib.get_close_matches(name, known, n=3)
        hint = f"did you mean {' or '.join(near)}?" if near else f"there are: {', '.join(sorted(known))}"
        raise ValueError(f"no column {name!r}; {hint}")


def _check_type(sql: str, columns: Mapping[str, pa.DataType]) -> None:
    """Bind the expression over an empty table of these columns."""
    import duckdb

    with _connection().cursor() as connection:
        try:
            # not schema.empty_table(), which takes a second to import pandas
            connection.register("samples", pa.Table.from_batches([], pa.schema(list(columns.items()))))
            found = connection.execute(f"DESCRIBE SELECT ({sql}) FROM samples").fetchall()
        except duckdb.Error as e:
            raise ValueError(f"{_shown(sql)} does not fit its columns: {_first_line(e)}") from e
        finally:
            connection.unregister("samples")
    if found[0][1] != "BOOLEAN":
        raise ValueError(f"{_shown(sql)} is a {found[0][1]}, not true or false: compare it with something")


# ---------------------------------------------------------------------------------------------- text to tree


def _parse(sql: str) -> Any:
    """DuckDB's tree of the expression, without positions.

    A text can close the bracket that we open and open another: ``a) OR (b``, ``1=1) UNION SELECT (1``. No text can do
    that inside two kinds of brackets, so it is read in both, and both trees must be ours with one expression in it.
    """
    import duckdb

    if not sql.strip():
        raise ValueError("the predicate is empty")
    if len(sql) > MAX_CHARS:
        raise ValueError(f"a predicate of {len(sql):,} characters; at most {MAX_CHARS:,}: put long lists into a column")
    if any(kind == duckdb.token_type.comment for _, kind in duckdb.tokenize(sql)):
        raise ValueError(f"{_shown(sql)} has an SQL comment: write it as a comment of the recipe")
    expression = _statement(sql, "SELECT 1 FROM t WHERE ({})").get("where_clause")
    hole = _with_hole("SELECT 1 FROM t WHERE ({})")["where_clause"]
    for bracket in ("SELECT 1 FROM t WHERE ({})", "SELECT [{}] FROM t"):
        ours = _filled(_with_hole(bracket), hole, _bare(expression))
        if _bare(_statement(sql, bracket)) != ours:
            raise ValueError(f"{_shown(sql)} is not one expression by itself")
    return expression


@cache
def _with_hole(bracket: str) -> Any:
    """The bare tree of a bracket around '?'; nobody changes it."""
    return _bare(_statement("'?'", bracket))


def _statement(sql: str, bracket: str) -> dict[str, Any]:
    query = bracket.format(sql)
    row = _connection().execute("SELECT json_serialize_sql($1::VARCHAR)", [query]).fetchone()
    parsed = json.loads(row[0])  # type: ignore[index]
    if parsed["error"]:
        raise ValueError(f"{_shown(sql)} is not an SQL expression: {_first_line(parsed['error_message'])}")
    if len(parsed["statements"]) != 1:
        raise ValueError(f"{_shown(sql)} holds more than one statement")
    return parsed["statements"][0]["node"]


def _bare(tree: Any) -> Any:
    """The tree without places in the text."""
    if isinstance(tree, dict):
        return {key: _bare(value) for key, value in tree.items() if not key.startswith("query_location")}
    return [_bare(item) for item in tree] if isinstance(tree, list) else tree


def _filled(tree: Any, hole: Any, expression: Any) -> Any:
    """The tree with `expression` in the place of `hole`."""
    if tree == hole:
        return expression
    if isinstance(tree, dict):
        return {key: _filled(value, hole, expression) for key, value in tree.items()}
    return [_filled(item, hole, expression) for item in tree] if isinstance(tree, list) else tree


@cache
def _connection() -> duckdb.DuckDBPyConnection:
    """DuckDB with nothing in it and no way out."""
    import duckdb

    return duckdb.connect(
        config={
            "enable_external_access": "false",
            "autoload_known_extensions": "false",
            "autoinstall_known_extensions": "false",
            "threads": "1",
            "lock_configuration": "true",
        }
    )


# ------------------------------------------------------------------------------------------- what the tree may hold


def _columns_of(expression: Any) -> tuple[str, ...]:
    found = sorted(_columns(expression, frozenset()))
    return tuple(dict.fromkeys(name for _, name in found))


def _columns(tree: Any, bound: frozenset[str]) -> Iterator[tuple[int, str]]:
    """(place in the text, name) of columns; `bound` are the names that lambdas around the tree gave."""
    if isinstance(tree, list):
        for item in tree:
            yield from _columns(item, bound)
    elif isinstance(tree, dict):
        kind = tree.get("class")
        if kind is not None:
            _check_node(tree)
        if kind == "COLUMN_REF":
            if tree["column_names"][0] not in bound:
                yield tree["query_location"], tree["column_names"][0]
        elif kind == "LAMBDA":
            names = {name for _, name in _columns(tree["lhs"], frozenset())}
            yield from _columns(tree["expr"], bound | names)
        else:
            for value in tree.values():
                yield from _columns(value, bound)


def _check_node(node: Mapping[str, Any]) -> None:
    kind = node["class"]
    if kind not in NODES or (kind == "OPERATOR" and node["type"] not in OPERATORS):
        what = REFUSED_NODES.get(kind, str(node["type"]).lower().replace("_", " "))
        raise ValueError(f"a predicate cannot use {what}: it sees the columns of one row")
    if kind == "FUNCTION":
        _check_function(node)
    if kind == "LAMBDA" and node.get("syntax_type") != "LAMBDA_KEYWORD":
        raise ValueError(
            "-> is ambiguous: write `lambda x: ...` for a function of list elements, json_extract for JSON"
        )


def _check_function(node: Mapping[str, Any]) -> None:
    name = node["function_name"]
    if node["schema"] or node["catalog"]:
        raise ValueError(f"functions are written without a dot: {name}(...), not {node['schema']}.{name}(...)")
    if name.lower() not in FUNCTIONS:
        raise ValueError(f"a predicate cannot use {_described(name.lower())}")
    if node["distinct"] or node["filter"] or node["order_bys"]["orders"]:
        raise ValueError(f"DISTINCT, FILTER and ORDER BY belong to aggregates: {name} sees one row")


def _described(name: str) -> str:
    """The function and why not, or what it may have been meant to be."""
    rows = _connection().execute(
        "SELECT DISTINCT function_type FROM duckdb_functions() WHERE function_name = $1", [name]
    )
    kinds = {kind for (kind,) in rows.fetchall()}
    if kinds & {"scalar", "macro"}:
        return f"{name}(): it is not on the list of functions that give the same answer everywhere and always"
    if kinds & {"aggregate", "window"} or name == "unnest":
        return f"{name}(): it makes one value of many rows or many of one, and a predicate sees one row"
    if kinds:
        return f"{name}(): it reads a table or a file"
    near = difflib.get_close_matches(name, FUNCTIONS, n=3)
    return f"{name}(): there is no such function" + (f"; did you mean {' or '.join(near)}?" if near else "")


def _shown(sql: str) -> str:
    return f"`{sql}`" if len(sql) <= 200 else f"`{sql[:200]}...`"


def _first_line(error: object) -> str:
    return str(error).strip().partition("\n")[0]
