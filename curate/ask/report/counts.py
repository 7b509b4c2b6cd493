"""The report's tables of values, asked in SQL: a column that is not there has no table."""

from __future__ import annotations

from curate.ask.sql import Session

MOST = 12  # values of a table; the rest is one row

SIZES = """CASE WHEN {side} < 64 THEN '1: under 64' WHEN {side} < 128 THEN '2: 64 to 127'
    WHEN {side} < 256 THEN '3: 128 to 255' WHEN {side} < 512 THEN '4: 256 to 511'
    WHEN {side} < 1024 THEN '5: 512 to 1,023' ELSE '6: 1,024 and more' END"""
SHAPE = "(greatest(original_width, original_height) / least(original_width, original_height))"
SHAPES = f"""CASE WHEN {SHAPE} < 1.1 THEN '1: square (under 1.1)' WHEN {SHAPE} < 1.5 THEN '2: 1.1 to 1.5'
    WHEN {SHAPE} < 2 THEN '3: 1.5 to 2' WHEN {SHAPE} < 3 THEN '4: 2 to 3' ELSE '5: 3 and more' END"""
TABLES = {  # title -> (columns that it needs, expression, whether the values have an order)
    "language": (("lang",), "coalesce(lang, 'none')", False),
    "shorter side as received, pixels": (
        ("original_width", "original_height"),
        SIZES.format(side="least(original_width, original_height)"),
        True,
    ),
    "longer to shorter side": (("original_width", "original_height"), SHAPES, True),
    "format as received": (("received_format",), "coalesce(received_format, 'none')", False),
}


def counts(session: Session) -> dict[str, list[tuple[str, int, int]]]:
    """Title -> (value, samples, of them kept), for those of TABLES whose columns the recipe's pool has."""
    names = {n.lower() for n in session.views.names}
    return {
        title: _count(session, what, ordered) for title, (needs, what, ordered) in TABLES.items() if names >= set(needs)
    }


def _count(session: Session, what: str, ordered: bool) -> list[tuple[str, int, int]]:
    asked = f"SELECT {what} AS value, count(*) AS n, count_if(times > 0) AS kept FROM samples GROUP BY 1"
    found = session.ask(f"{asked} ORDER BY {'value' if ordered else 'n DESC, value'}").fetchall()
    if ordered:
        return [(value[3:], n, kept) for value, n, kept in found]
    rest = found[MOST:]
    others = [(f"{len(rest)} others", sum(r[1] for r in rest), sum(r[2] for r in rest))] if rest else []
    return [*found[:MOST], *others]


def outcomes(session: Session) -> list[tuple[str, int]]:
    """(outcome, uids) by the last attempt at each, most frequent first."""
    last = "SELECT uid, arg_max(outcome, attempt) AS outcome FROM fetches GROUP BY uid"
    return session.ask(f"SELECT outcome, count(*) AS n FROM ({last}) GROUP BY 1 ORDER BY n DESC, outcome").fetchall()
