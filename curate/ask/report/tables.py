"""The report's tables of values, asked in SQL: a column that is not there has no table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from curate.ask.report.found import Counts
from curate.ask.sql import Session
from curate.ask.types import quoted

MOST = 12  # values of a table; the rest is one row

SHORTER = "if(original_width + original_height IS NULL, NULL, least(original_width, original_height))"
SHAPE = "greatest(original_width / original_height, original_height / original_width)"
SPACES = r"\s+"
WORDS = rf"len(list_filter(string_split_regex(text, '{SPACES}'), lambda w: w <> ''))"


@dataclass(frozen=True)
class Table:
    """value: SQL over `needs`, text. ordered: values are "<letter>: <words>", and stand in the order of the letters."""

    title: str
    needs: tuple[str, ...]
    value: str
    ordered: bool = False


def _steps(value: str, bounds: Sequence[tuple[float, str]], last: str) -> str:
    """A CASE that names the first bound which the value is under; NULL is "unknown", at the end."""
    cases = [f"WHEN {value} < {bound} THEN '{chr(97 + i)}: {words}'" for i, (bound, words) in enumerate(bounds)]
    return f"CASE {' '.join(cases)} WHEN {value} IS NULL THEN 'z: unknown' ELSE 'y: {last}' END"


SIDES = ((64, "under 64"), (128, "64 to 127"), (256, "128 to 255"), (512, "256 to 511"), (1024, "512 to 1,023"))
SHAPES = ((1.1, "square (under 1.1)"), (1.5, "1.1 to 1.5"), (2, "1.5 to 2"), (3, "2 to 3"))
LENGTHS = ((1, "none"), (3, "1 or 2"), (6, "3 to 5"), (11, "6 to 10"), (21, "11 to 20"), (41, "21 to 40"))
SIZE = ("original_width", "original_height")

TABLES = (
    Table("language", ("lang",), "coalesce(lang, 'none')"),
    Table("shorter side as received, pixels", SIZE, _steps(SHORTER, SIDES, "1,024 and more"), True),
    Table("longer to shorter side", SIZE, _steps(SHAPE, SHAPES, "3 and more"), True),
    Table("format as received", ("received_format",), "coalesce(received_format, 'none')"),
    Table("words in the caption", ("text",), _steps(WORDS, LENGTHS, "41 and more"), True),
    Table("host", ("host",), "coalesce(host, 'none')"),
    Table("list", ("list",), "coalesce(list, 'none')"),
)
LICENCES = (
    *("license", "licence", "license_name", "licence_name", "license_title", "license_id", "license_url"),
    *("license_type", "licenses", "rights", "usage_rights", "copyright"),
)
"""Names under which lists carry the licence along; the first that a pool has is shown."""


def tables(session: Session) -> list[Counts]:
    """Those of the tables whose columns the pool has; samples that the pick did not see are in none."""
    names = {n.lower(): n for n in session.views.names} | ({"host": "host"} if session.views.has_host else {})
    chosen = [t for t in TABLES if names.keys() >= set(t.needs)]
    licence = next((names[n] for n in LICENCES if n in names), None)
    if licence:
        value = f"coalesce(nullif(trim(CAST({quoted(licence)} AS VARCHAR)), ''), 'none')"
        chosen.append(Table(f"licence (column {licence})", (licence,), value))
    return [Counts(t.title, tuple(_count(session, t))) for t in chosen]


def _count(session: Session, table: Table) -> list[tuple[str, int, int]]:
    asked = f"SELECT {table.value} AS value, count(*) AS n, count_if(times > 0)::BIGINT AS kept FROM samples"
    grouped = f"{asked} WHERE times IS NOT NULL GROUP BY 1"
    if table.ordered:
        return [(value[3:], n, kept) for value, n, kept in session.ask(f"{grouped} ORDER BY value").fetchall()]
    in_all = "count(*) OVER () AS values, sum(n) OVER ()::BIGINT AS of_n, sum(kept) OVER ()::BIGINT AS of_kept"
    found = session.ask(f"SELECT *, {in_all} FROM ({grouped}) ORDER BY n DESC, value LIMIT {MOST}").fetchall()
    rows = [(value, n, kept) for value, n, kept, *_ in found]
    if found and found[0][3] > MOST:
        _, _, _, values, n, kept = found[0]
        others = (n - sum(r[1] for r in rows), kept - sum(r[2] for r in rows))
        rows.append((f"{values - MOST:,} others", *others))
    return rows
