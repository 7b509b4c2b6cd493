"""Ask a pool in SQL: a locked DuckDB connection over its views.

    session = Session(Views(pool))
    session.ask("SELECT outcome, count(*) FROM fetches GROUP BY 1").fetchall()

The connection reads the pool's files and nothing else, writes nothing, loads nothing; spills go to a temporary
folder of its own.
"""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from curate.ask.output import visible
from curate.ask.query import CLIP_TEXT, Query, judged
from curate.ask.scratch import own_folder
from curate.ask.views import REMOVED_TABLE, VIEWS, Views
from curate.errors import UserError

if TYPE_CHECKING:
    from curate.ask.clip import Clip

BATCH_ROWS = 100_000  # rows that a streamed answer hands out at once


def memory_limit() -> str:
    """Half of the machine's memory: sorts larger than that spill."""
    return f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') // 2}B"


def locked_connection(removed: str, folder: Path, spill: str) -> Any:
    """A connection that reads below `folder` only, its settings locked; `removed` is SQL for uids in a table."""
    import duckdb

    connection = duckdb.connect(":memory:")
    connection.execute(f"SET threads = {len(os.sched_getaffinity(0))}")
    connection.execute(f"SET memory_limit = '{memory_limit()}'")
    connection.execute("SET temp_directory = $1", [spill])
    connection.execute("SET allowed_directories = $1", [[f"{folder}/"]])
    connection.execute("SET TimeZone = 'UTC'")
    connection.execute("CREATE SCHEMA hidden")  # SHOW TABLES names the views alone
    connection.execute(f"CREATE TABLE {REMOVED_TABLE} AS {removed}")
    for name, value in (
        ("enable_external_access", "false"),
        ("allow_community_extensions", "false"),
        ("autoinstall_known_extensions", "false"),
        ("autoload_known_extensions", "false"),
        ("python_enable_replacements", "false"),
        ("preserve_insertion_order", "true"),  # positional joins depend on it
        ("enable_progress_bar", "false"),
        ("lock_configuration", "true"),
    ):
        connection.execute(f"SET {name} = {value}")
    return connection


@dataclass
class Session:
    """Questions to one pool. What it holds is looked up once, when the first question is asked.

    clip: what clip_text('...') asks; None: a query that has it is refused.
    """

    views: Views
    clip: Clip | None = None
    _running: Any = None  # the cursor of the newest question

    @cached_property
    def _spill(self) -> str:
        return str(own_folder(Path(tempfile.gettempdir()), "curate-sql-", self))

    @cached_property
    def connection(self) -> Any:
        return locked_connection(self.views.removed(), self.views.local.root, self._spill)

    def ask(self, text: str) -> Result:
        """Run a query.

        Raises:
            UserError: it would do more than ask, names what is not there, or fails.
        """
        import duckdb

        query = judged(self.connection, text)
        vectors = self._vectors(query)
        try:
            return self._run(query, query.names, vectors)
        except duckdb.BinderException as e:
            if query.names is None:
                raise UserError(self._explained(e, query, vectors)) from e
        except duckdb.CatalogException as e:
            known = f"\nThe views are {', '.join(VIEWS)}" if str(e).startswith("Catalog Error: Table") else ""
            raise UserError(_said(e) + known) from e
        except duckdb.Error as e:
            raise UserError(_said(e)) from e
        try:
            return self._run(query, None, vectors)  # so that the error names the nearest of all columns
        except duckdb.Error as e:
            raise UserError(self._explained(e, query, vectors)) from e

    def internal(self, query: str) -> list[tuple[Any, ...]]:
        """Rows of a query that no user wrote, and that may read the pool's files by name."""
        return list(self.connection.cursor().execute(query).fetchall())

    def interrupt(self) -> None:
        """End the newest question, from another thread: its reader gets a UserError."""
        if self._running is not None:
            self._running.interrupt()

    def _vectors(self, query: Query) -> Mapping[str, Any]:
        """What clip_text gives for the query's texts, known before anything of it runs."""
        if not query.clip_texts:
            return {}
        if self.clip is None:
            from curate.ask.clip import EXAMPLE, HOW

            raise UserError(f"clip_text needs a CLIP: {HOW}; {EXAMPLE}")
        return self.clip.vectors(query.clip_texts)

    def _run(self, query: Query, names: frozenset[str] | None, vectors: Mapping[str, Any]) -> Result:
        """Each query has a cursor with views made for it: they open only the files it needs."""
        cursor = self._running = self.connection.cursor()
        for view in VIEWS:
            if query.tables is None or view in query.tables:
                cursor.execute(f"CREATE TEMP VIEW {view} AS {self.views.sql(view, names)}")
        if vectors:
            from curate.ask.clip import macro

            cursor.execute(macro(vectors))
        return Result(cursor, cursor.sql(query.statement))

    def _explained(self, error: Exception, query: Query, vectors: Mapping[str, Any]) -> str:
        """DuckDB's words, and both lengths where a vector of the CLIP meets one of another length."""
        said = _said(error)
        if not vectors or "array" not in said.lower():
            return said
        length = len(next(iter(vectors.values())))
        columns = [
            f"{name} is {kind}"
            for name, kind in self.views.types.items()
            if re.fullmatch(r"\w+\[\d+\]", kind) and (query.names is None or name.lower() in query.names)
        ]
        if not columns:
            return said
        return (
            f"{said}\n{CLIP_TEXT} of {self.clip} is FLOAT[{length}]; {', '.join(columns)}: compare with a column that "
            "this CLIP made, or give the CLIP that made the column"
        )


class Result:
    """The answer to a query. It is computed when first read; `to_*` and `fetchall` may be called again."""

    def __init__(self, cursor: Any, relation: Any) -> None:
        self._cursor = cursor  # kept open: the relation lives in it
        self._relation = relation
        self._streamed = False

    @cached_property
    def _table(self) -> pa.Table:
        batches = self.batches()
        first = next(batches)
        return pa.Table.from_batches([first, *batches])

    def batches(self, rows: int = BATCH_ROWS) -> Iterator[pa.RecordBatch]:
        """The rows in batches of so many, the first of which is there even if empty. Streams: nothing is kept.

        Raises:
            UserError: the query fails on the way, or the answer was streamed before.
        """
        import duckdb

        if "_table" in self.__dict__:
            yield from self._table.to_batches() or [_empty(self._table.schema)]
            return
        if self._streamed:
            raise UserError("this answer was streamed already; ask again")
        self._streamed = True
        try:
            reader = self._relation.to_arrow_reader(rows)
            first = next(reader, None)
            yield _empty(reader.schema) if first is None else first
            yield from reader
        except (duckdb.Error, pa.ArrowException, OSError) as e:
            raise UserError(f"the query failed: {_said(e)}") from e

    def to_arrow(self) -> pa.Table:
        return self._table

    def to_pandas(self) -> Any:
        """pandas.DataFrame. Raises UserError where pandas is not installed."""
        _need("pandas")
        return self._table.to_pandas()

    def to_polars(self) -> Any:
        """polars.DataFrame. Raises UserError where polars is not installed."""
        return _need("polars").from_arrow(self._table)

    def fetchall(self) -> list[tuple[Any, ...]]:
        """All rows as tuples of Python values."""
        columns = [c.to_pylist() for c in self._table.columns]
        return list(zip(*columns, strict=True))

    def __len__(self) -> int:
        return self._table.num_rows

    def __repr__(self) -> str:
        from curate.ask.output import table_text

        return table_text(self._table)


def _said(error: Exception) -> str:
    """Its words, which may quote a caption: what could move a cursor is made visible."""
    return visible(str(error), keep="\n")


def _empty(schema: pa.Schema) -> pa.RecordBatch:
    return pa.RecordBatch.from_arrays([pa.array([], f.type) for f in schema], schema=schema)


def _need(module: str) -> Any:
    import importlib

    try:
        return importlib.import_module(module)
    except ImportError as e:
        raise UserError(f"{module} is not installed; pip install {module}, or use .to_arrow()") from e
