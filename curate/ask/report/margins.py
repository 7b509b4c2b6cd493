"""The quantities that a pick's filters bound, and their values shard by shard.

asked = find_steps(pool, about)                # the filters as their notes describe them, with their margins
values = Values(asked[0]).of(tables)           # float64 (rows,) a margin, NaN where there is none

A pool is data: its notes may name any module. A user's own filter has margins here only where this process has loaded
its module before, as it does by reading the recipe.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa

from curate.ask.types import quoted
from curate.catalog import FILTERS, load
from curate.errors import UserError
from curate.pool.layout import PIXELS
from curate.pool.pool import Pool
from filters.base import Filter, Margin
from filters.sql_guard import check_predicate


@dataclass(frozen=True)
class Asked:
    """A filter of a pick. places: column that its margins name -> (folder, field); PIXELS holds the facts."""

    number: int
    id: str
    folder: str
    margins: tuple[Margin, ...] = ()
    places: Mapping[str, tuple[str, str]] = field(default_factory=dict)


def find_steps(pool: Pool, about: Mapping[str, Any]) -> list[Asked]:
    """The filters of a pick, by the notes beside their verdicts; those that cannot be made again have no margins."""
    found = []
    for number, step in enumerate(s for s in about["steps"] if s["folder"]):
        note = pool.about(step["folder"])
        chosen = remade(note.get("identity") or {})
        margins = chosen.margins() if chosen else ()
        places = _places(pool, about, note, step["folder"], chosen) if chosen and margins else {}
        used = {c: places[c] for m in margins for c in _columns(step["id"], m, places)}
        found.append(Asked(number, step["id"], step["folder"], margins, used))
    return found


def _columns(step: str, margin: Margin, places: Mapping[str, tuple[str, str]]) -> tuple[str, ...]:
    """The columns that a margin names.

    Raises:
        UserError: it is no expression over the columns of its filter.
    """
    try:
        return check_predicate(margin.value, list(places))
    except ValueError as e:
        raise UserError(f"filter {step}: margins(): {margin.name}: {e}") from e


def remade(identity: Mapping[str, Any]) -> Filter | None:
    """The filter that an identity stands for.

    None: of another version; with parameters that name files (notes have digests in their place); or a user's own
    whose module is not loaded.
    """
    name = identity.get("name")
    if not isinstance(name, str) or identity.get("files"):
        return None
    if name not in FILTERS and name.partition(":")[0] not in sys.modules:
        return None
    try:
        made = load(name, FILTERS)
        chosen = made(**identity.get("parameters", {}))
    except (ValueError, TypeError):  # made by an older program: its parameters are not today's
        return None
    return chosen if isinstance(chosen, Filter) and made.version == identity.get("version") else None


def _places(
    pool: Pool, about: Mapping[str, Any], note: Mapping[str, Any], verdicts: str, chosen: Filter
) -> dict[str, tuple[str, str]]:
    """Where the filter read its columns: as its note says, else (older pools) as the pick's note does."""
    places = {name: (verdicts, name) for name in chosen.extra_verdicts().names}
    if "reads" in note:
        for entry in note["reads"]:
            home, _, name = entry.rpartition(":")
            places[name] = (PIXELS if home == "fact" else _last_phase(pool, home), name)
        return places
    for name in (c if isinstance(c, str) else c.field for c in chosen.reads()):
        made = about.get("columns", {}).get(name, {})
        places[name] = (made.get("folder") or PIXELS, made.get("field") or name)
    return places


def _last_phase(pool: Pool, folder: str) -> str:
    """The folder with files row-aligned with shards: of a barrier, that of its last phase."""
    return f"{folder}/{pool.about(folder)['last']}" if folder.startswith("barriers/") else folder


@dataclass
class Values:
    """Works out the margins of one filter, in DuckDB, which the filter's SQL is written for. One thread uses it."""

    step: Asked

    @cached_property
    def _connection(self) -> Any:
        import duckdb

        connection = duckdb.connect(":memory:")
        connection.execute("SET threads = 1")
        connection.execute("SET TimeZone = 'UTC'")
        connection.execute("SET enable_external_access = false")
        return connection

    def of(self, columns: Mapping[str, pa.Array]) -> list[pa.Array]:
        """Of each margin an array of numbers, in which NULL, or an expression that fails, is null.

        Args:
            columns: by the names that the margins use, all of one length.

        Raises:
            UserError: a margin cannot be asked of these columns, or is no number.
        """
        import duckdb

        margins = self.step.margins
        asked = ", ".join(f"try({m.value}) AS {quoted(f'v{i}')}" for i, m in enumerate(margins))
        self._connection.register("batch", pa.table(dict(columns)))
        try:
            table = self._connection.sql(f"SELECT {asked} FROM batch").to_arrow_table()
        except duckdb.Error as e:
            raise UserError(f"filter {self.step.id}: margins(): {e}") from e
        finally:
            self._connection.unregister("batch")
        return [_numbers(self.step, m, c.combine_chunks()) for m, c in zip(margins, table.columns, strict=True)]


def _numbers(step: Asked, margin: Margin, values: pa.Array) -> pa.Array:
    kind = values.type
    if pa.types.is_decimal(kind) or pa.types.is_boolean(kind) or pa.types.is_null(kind):
        return values.cast(pa.float64())
    if pa.types.is_integer(kind) or pa.types.is_floating(kind):
        return values
    raise UserError(f"filter {step.id}: margins(): {margin.name} is {kind}, not a number: {margin.value}")


def as_doubles(values: pa.Array) -> np.ndarray:
    """float64 (rows,): null is NaN."""
    return np.asarray(values.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False), np.float64)


def in_words(value: float) -> str:
    """A value as a person reads it: whole numbers with commas, others with six digits."""
    return f"{value:,.0f}" if float(value).is_integer() and abs(value) < 1e15 else f"{value:.6g}"
