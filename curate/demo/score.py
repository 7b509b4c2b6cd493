"""Found against planted: what became of each URL of the demo's web, beside what had to become of it."""

from __future__ import annotations

from collections import Counter, defaultdict

import pyarrow as pa

from curate.demo.web import CLEAN, COPIES, KEPT, PLANTED

LOST = "no trace"  # the fate of a URL that no verdict names

SCORE = pa.schema(
    [
        ("kind", pa.string()),
        ("planted", pa.int64()),
        ("expected", pa.list_(pa.string())),  # fates that are right
        ("found", pa.int64()),  # had one of them
        ("missed", pa.int64()),  # had another; of clean samples: wrongly dropped
        ("elsewhere", pa.list_(pa.struct([("fate", pa.string()), ("count", pa.int64())]))),  # of what was missed
    ]
)


def found_against_planted(truth: pa.Table, verdicts: pa.Table) -> pa.Table:
    """One row a planted kind, and a last one for the clean samples, with the schema SCORE.

    Of a picture and its copies one must stay, whichever it is: they are right where one is kept and the others went
    as duplicates, also where a copy stands in for its original.

    Args:
        truth: as `curate.demo.web.TRUTH`.
        verdicts: url, outcome (of its last download), dropped_by (a filter's id, null: kept or never asked), reason.
            A URL that is not there has the fate "no trace".
    """
    fates = {row["url"]: _fate(row) for row in verdicts.to_pylist()}
    rows = [row | {"fate": fates.get(row["url"], LOST)} for row in truth.to_pylist()]
    families: dict[int, list[str]] = defaultdict(list)
    for row in rows:
        if row["kind"] in (CLEAN, *COPIES):
            families[row["scene"]].append(row["fate"])
    right, wrong = Counter[str](), defaultdict[str, Counter[str]](Counter)
    for row in rows:
        copied = row["kind"] in (CLEAN, *COPIES) and len(families[row["scene"]]) > 1
        if _one_stayed(families[row["scene"]]) if copied else row["fate"] in row["expected"]:
            right[row["kind"]] += 1
        else:
            wrong[row["kind"]][row["fate"]] += 1
    expected = {kind: fates for kind, (_, fates) in PLANTED.items()} | {CLEAN: (KEPT,)}
    lines = [
        {
            "kind": kind,
            "planted": right[kind] + wrong[kind].total(),
            "expected": list(expected[kind]),
            "found": right[kind],
            "missed": wrong[kind].total(),
            "elsewhere": [{"fate": f, "count": n} for f, n in sorted(wrong[kind].items())],
        }
        for kind in expected
    ]
    return pa.Table.from_pylist(lines, schema=SCORE)


def _fate(verdict: dict[str, str | None]) -> str:
    if verdict["outcome"] != "ok":
        return verdict["outcome"] or LOST
    return KEPT if verdict["dropped_by"] is None else f"{verdict['dropped_by']}: {verdict['reason']}"


def _one_stayed(family: list[str]) -> bool:
    duplicates = {fate for kind in COPIES for fate in PLANTED[kind][1]}
    return family.count(KEPT) == 1 and all(f == KEPT or f in duplicates for f in family)


def printed(score: pa.Table) -> str:
    """The score for people, and one line on the clean samples."""
    rows = [("planted", "count", "must end as", "found", "missed")]
    for line in score.to_pylist():
        elsewhere = ", ".join(f"{e['count']:,} {e['fate']}" for e in line["elsewhere"])
        missed = f"{line['missed']:,} ({elsewhere})" if elsewhere else "-"
        rows.append((line["kind"], f"{line['planted']:,}", " or ".join(line["expected"]), f"{line['found']:,}", missed))
    wide = [max(len(row[i]) for row in rows) for i in range(4)]
    shown = [f"{a:<{wide[0]}}  {b:>{wide[1]}}  {c:<{wide[2]}}  {d:>{wide[3]}}  {e}" for a, b, c, d, e in rows]
    clean = next(line for line in score.to_pylist() if line["kind"] == CLEAN)
    return "\n".join([*shown, f"clean samples wrongly dropped: {clean['missed']:,} of {clean['planted']:,}"])
