"""Judge a query before it runs: one statement that only asks, by functions that only answer.

A query may be SELECT, FROM, WITH, VALUES, DESCRIBE, SUMMARIZE, SHOW or EXPLAIN. What it mentions tells which
files have to be opened for it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from curate.errors import UserError

ALLOWED = "SELECT, WITH, FROM, VALUES, DESCRIBE, SUMMARIZE, SHOW and EXPLAIN"

# Functions that make a table. Those that take addresses in memory, run other SQL or change the database are not here.
TABLE_FUNCTIONS = frozenset(
    [
        "generate_series",
        "range",
        "unnest",
        "repeat",
        "json_each",
        "json_tree",
        "histogram",
        "histogram_values",
        "summary",
        "glob",
        "read_parquet",
        "parquet_scan",
        "parquet_schema",
        "parquet_metadata",
        "parquet_file_metadata",
        "parquet_kv_metadata",
        "read_csv",
        "read_csv_auto",
        "sniff_csv",
        "read_json",
        "read_json_auto",
        "read_ndjson",
        "read_ndjson_auto",
        "read_text",
        "read_blob",
        "duckdb_columns",
        "duckdb_functions",
        "duckdb_keywords",
        "duckdb_settings",
        "duckdb_tables",
        "duckdb_types",
        "duckdb_views",
        "pg_timezone_names",
        "icu_calendar_names",
        "pragma_version",
    ]
)

# DuckDB 2 lets a WITH clause delete, insert, update and copy to files: those nodes have other names.
QUERY_NODES = frozenset({"SELECT_NODE", "SET_OPERATION_NODE", "RECURSIVE_CTE_NODE", "CTE_NODE"})

_EXPLAIN = re.compile(r"(?is)^\s*explain\b(\s+analyze\b)?(\s*\([^()]*\))?\s*")


@dataclass(frozen=True)
class Query:
    """A query that may run. `names`: the lower-case identifiers in it, or None where it may mean any column."""

    statement: Any  # duckdb.Statement
    names: frozenset[str] | None
    tables: frozenset[str] | None


def judged(connection: Any, text: str) -> Query:
    """Parse and judge; nothing is run.

    Raises:
        UserError: it does not parse, is more than one statement, or would do more than ask.
    """
    statement = _only_statement(connection, text)
    kind = statement.type.name
    if kind == "EXPLAIN":
        inner = _EXPLAIN.sub("", statement.query, count=1)
        if inner == statement.query or _only_statement(connection, inner).type.name != "SELECT":
            raise UserError("EXPLAIN is for queries only; give it a SELECT")
        return Query(statement, *_mentions(connection, inner))
    if kind != "SELECT":
        raise UserError(f"{kind.replace('_', ' ')} is refused: a pool is only read here. Allowed are {ALLOWED}")
    return Query(statement, *_mentions(connection, statement.query))


def _only_statement(connection: Any, text: str) -> Any:
    import duckdb

    try:
        statements = connection.extract_statements(text)
    except duckdb.Error as e:
        raise UserError(str(e)) from e
    if len(statements) != 1:
        raise UserError(f"one statement at a time; this has {len(statements)}")
    return statements[0]


def _mentions(connection: Any, text: str) -> tuple[frozenset[str] | None, frozenset[str] | None]:
    """(identifiers, tables) of a query, as `Query` has them."""
    ((answer,),) = connection.execute("SELECT json_serialize_sql(?)", [text]).fetchall()
    tree = json.loads(answer)
    if tree.get("error"):
        raise UserError(f"this form of query is refused ({tree.get('error_message')}); allowed are {ALLOWED}")
    nodes = list(_nodes(tree))
    for node in nodes:
        kind = str(node.get("type", ""))
        if kind.endswith("_NODE") and kind not in QUERY_NODES:
            name = kind.removesuffix("_NODE").removesuffix("_QUERY")
            raise UserError(f"{name} is refused, also inside WITH: a pool is only read here. Allowed are {ALLOWED}")
        if kind == "TABLE_FUNCTION":
            name = str(node["function"].get("function_name", "")).lower()
            if name not in TABLE_FUNCTIONS:
                raise UserError(
                    f"table function {name}() is refused; a query may use: {', '.join(sorted(TABLE_FUNCTIONS))}"
                )
    tables = {str(n.get("table_name", "")).lower() for n in nodes if n.get("type") in ("BASE_TABLE", "SHOW_REF")}
    if any(n.get("type") == "SHOW_REF" and n.get("table_name") for n in nodes):
        return None, None  # SHOW TABLES, SHOW samples
    return (None if _means_any_column(nodes) else frozenset(_strings(tree))), frozenset(tables)


def _means_any_column(nodes: list[dict[str, Any]]) -> bool:
    """Stars, natural joins, pivots, renamed or whole rows: columns that the text does not name."""
    row_names = {str(n[k]).lower() for n in nodes if "sample" in n for k in ("table_name", "alias") if n.get(k)}
    for n in nodes:
        star = n.get("class") == "STAR" or n.get("type") in ("PIVOT", "SHOW_REF")
        positional = n.get("type") == "JOIN" and n.get("ref_type") == "NATURAL"
        whole = n.get("class") == "COLUMN_REF" and str(n["column_names"][-1]).lower() in row_names
        if star or positional or whole or n.get("column_name_alias"):
            return True
    return False


def _nodes(tree: Any) -> Iterator[dict[str, Any]]:
    if isinstance(tree, dict):
        yield tree
        tree = list(tree.values())
    if isinstance(tree, list):
        for child in tree:
            yield from _nodes(child)


def _strings(tree: Any) -> Iterator[str]:
    if isinstance(tree, str):
        yield tree.lower()
    elif isinstance(tree, dict):
        for child in tree.values():
            yield from _strings(child)
    elif isinstance(tree, list):
        for child in tree:
            yield from _strings(child)
