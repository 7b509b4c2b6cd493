"""Judge a query before it runs: one statement that only asks, of the views, by functions that only answer.

A query may be SELECT, FROM, WITH, VALUES, DESCRIBE, SUMMARIZE, SHOW or EXPLAIN. It names no file: the views alone
decide what is opened, so a link in the pool leads nowhere and a removed sample stays removed. What a query mentions
tells which files have to be opened for it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from curate.ask.output import visible
from curate.errors import UserError

ALLOWED = "SELECT, WITH, FROM, VALUES, DESCRIBE, SUMMARIZE, SHOW and EXPLAIN"

# Functions that make a table of their arguments or of DuckDB's own notes. Those that open files, take addresses in
# memory, run other SQL or change the database are not here.
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

# Functions of values that leave something behind.
SCALAR_REFUSED = frozenset({"write_log", "nextval", "setval", "setseed"})

SCHEMAS = frozenset({"", "main", "temp", "memory", "information_schema", "pg_catalog", "system"})
CLIP_TEXT = "clip_text"
LONGEST_TEXT = 10_000  # characters given to clip_text: far more than any CLIP reads

# DuckDB 2 lets a WITH clause delete, insert, update and copy to files: those nodes have other names.
QUERY_NODES = frozenset({"SELECT_NODE", "SET_OPERATION_NODE", "RECURSIVE_CTE_NODE", "CTE_NODE"})

_EXPLAIN = re.compile(r"(?is)^\s*explain\b(\s+analyze\b)?(\s*\([^()]*\))?\s*")


@dataclass(frozen=True)
class Query:
    """A query that may run.

    names: the lower-case identifiers in it, or None where it may mean any column. tables: likewise.
    clip_texts: what it gives to clip_text, in order, each once.
    """

    statement: Any  # duckdb.Statement
    names: frozenset[str] | None
    tables: frozenset[str] | None
    clip_texts: tuple[str, ...] = ()


def judged(connection: Any, text: str) -> Query:
    """Parse and judge; nothing is run.

    Raises:
        UserError: it does not parse, is more than one statement, or would do more than ask.
    """
    statement = _only_statement(connection, text)
    kind = _kind(statement)
    if kind == "EXPLAIN":
        inner = _EXPLAIN.sub("", statement.query, count=1)
        if inner == statement.query or _kind(_only_statement(connection, inner)) != "SELECT":
            raise UserError("EXPLAIN is for queries only; give it a SELECT")
        return _query(connection, statement, inner)
    if kind != "SELECT":
        raise UserError(f"{kind.replace('_', ' ')} is refused: a pool is only read here. Allowed are {ALLOWED}")
    return _query(connection, statement, statement.query)


def _only_statement(connection: Any, text: str) -> Any:
    import duckdb

    try:
        statements = connection.extract_statements(text)
    except duckdb.Error as e:
        raise UserError(visible(str(e), keep="\n")) from e
    if len(statements) != 1:
        raise UserError(f"one statement at a time; this has {len(statements)}")
    return statements[0]


def _kind(statement: Any) -> str:
    """SELECT, COPY, ...; what DuckDB's Python does not know the name of is OTHER."""
    try:
        return str(statement.type.name)
    except ValueError:
        return "OTHER"


def _query(connection: Any, statement: Any, text: str) -> Query:
    """The query with what it mentions, from the tree that DuckDB makes of it."""
    ((answer,),) = connection.execute("SELECT json_serialize_sql(?)", [text]).fetchall()
    tree = json.loads(answer)
    if tree.get("error"):
        raise UserError(f"this form of query is refused ({tree.get('error_message')}); allowed are {ALLOWED}")
    nodes = list(_nodes(tree))
    for node in nodes:
        _refuse(node)
    texts = tuple(dict.fromkeys(_clip_text(n) for n in nodes if _function(n) == CLIP_TEXT))
    if any(n.get("type") == "SHOW_REF" and n.get("table_name") for n in nodes):
        return Query(statement, None, None, texts)  # SHOW TABLES, SHOW samples
    tables = frozenset(str(n.get("table_name", "")).lower() for n in nodes if n.get("type") == "BASE_TABLE")
    return Query(statement, None if _means_any_column(nodes) else frozenset(_strings(tree)), tables, texts)


def _refuse(node: dict[str, Any]) -> None:
    """Raises: UserError, if this node of a query's tree would do more than ask the views."""
    kind = str(node.get("type", ""))
    if kind.endswith("_NODE") and kind not in QUERY_NODES:
        name = kind.removesuffix("_NODE").removesuffix("_QUERY")
        raise UserError(f"{name} is refused, also inside WITH: a pool is only read here. Allowed are {ALLOWED}")
    if kind == "TABLE_FUNCTION":
        name = str(node["function"].get("function_name", "")).lower()
        if name not in TABLE_FUNCTIONS:
            allowed = ", ".join(sorted(TABLE_FUNCTIONS))
            raise UserError(
                f"table function {name}() is refused: a query asks the views and opens no file by name, runs no other "
                f"SQL and changes no setting; it may use: {allowed}"
            )
    elif _function(node) in SCALAR_REFUSED:
        raise UserError(f"function {_function(node)}() is refused: it leaves something behind, and a query only asks")
    elif kind in ("BASE_TABLE", "SHOW_REF"):
        _refuse_file(node)


def _refuse_file(node: dict[str, Any]) -> None:
    """FROM 'x.parquet', FROM x.parquet and FROM 'https://...' would open what they name."""
    table = str(node.get("table_name", ""))
    around = [str(node.get(k) or "").lower() for k in ("catalog_name", "schema_name")]
    if any(c in table for c in "/\\.:*?[") or not set(around) <= SCHEMAS:
        named = ".".join(n for n in (*around, table) if n)
        raise UserError(
            f"{named!r} as a table is refused: a query opens no file by name and no hidden table; "
            "it asks samples, fetches, picks, funnel and removed (DESCRIBE samples shows the columns of one)"
        )


def _function(node: dict[str, Any]) -> str:
    """Lower-case name of the function that a node calls; empty if it calls none."""
    return str(node.get("function_name", "")).lower() if node.get("class") in ("FUNCTION", "WINDOW") else ""


def _clip_text(node: dict[str, Any]) -> str:
    """The text that a call of clip_text is given."""
    given = [a.get("expression", a) for a in node.get("arguments") or node.get("children") or ()]
    literal = given[0].get("literal", {}) if len(given) == 1 else {}
    if literal.get("kind") != "STRING":
        raise UserError("clip_text takes one text in single quotes, such as clip_text('a dog on a beach')")
    text = str(literal["text"])
    if len(text) > LONGEST_TEXT:
        raise UserError(f"clip_text: a text of {len(text):,} characters; at most {LONGEST_TEXT:,} (a CLIP reads fewer)")
    return text


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
