"""Tables of docs/families.md: what bench/families_compare.py found. They stand between two marks in the page."""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from families_data import CAPTIONS
from judge_compare_page import kinds_kept
from judge_compare_pool import SHARES
from scipy.stats import kendalltau

from curate.run.compare.found import CONTROLS, SEEN, is_written
from training_smoke.markdown import table
from training_smoke.statistics import paired

NONE = "no_filter"
RANK = f"{CAPTIONS}/positive_rank"
KINDS = ("clean", *SHARES, "copy")
WORDS = {1: "better", -1: "worse", 0: "within noise"}
Found = Mapping[str, Any]

HEAD = """\
`python bench/families_compare.py --write` writes this part: {n} seeds from {first}, scale `tiny`, on {device}. The pool
is Flickr8k with planted faults ({faults} of the pictures; a fifth of the rows are copies). What decides under each
family was fixed beforehand: {primaries}. `random` keeps as many rows as `filtered`, at the same samples seen.
"""


def document(found: Mapping[str, Found], pool: Path) -> str:
    """
    Args:
        found: family -> what `curate compare --json` says.
    """
    one = next(iter(found.values()))
    head = HEAD.format(
        n=len(one["seeds"]), first=one["seeds"][0], device=one["environment"]["device"],
        faults=", ".join(f"{share:.0%} {kind}" for kind, share in SHARES.items()),
        primaries="; ".join(f"`{family}` by `{f['primary']}`" for family, f in found.items()),
    )  # fmt: skip
    parts = [
        head,
        "What each kept; shares are of its rows:\n",
        kept(one, pool),
        "Scores, mean (sd) over seeds; in brackets how many samples each training saw:\n",
        scores(found),
        "Differences, 95 % interval, above zero is better; corrected after Holm among those with controls (no filter, "
        "random) and among recipes:\n",
        differences(found),
        "The same models shown a grey picture / another's, mean over seeds; a star where the score is not above it by "
        "an interval:\n",
        unseen(found),
        "What was seen, score less that with another's picture, mean (sd):\n",
        scores({family: f for family, f in found.items() if is_written(f["primary"])}, SEEN),
        f"By `{RANK}` of the same models, where a family has vectors (smaller is better), mean (sd):\n",
        scores(ranking(found), metric=RANK),
        "Where families differ:\n",
        "\n".join(f"- {sentence}" for sentence in sentences(found)) + "\n",
    ]
    return "\n".join(parts)


def put_into(page: Path, name: str, text: str) -> None:
    """In place of what stands between <!-- NAME: begin --> and <!-- NAME: end -->.

    Raises:
        ValueError: the page has not one of each.
    """
    said, begin, end = page.read_text(), f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    if said.count(begin) != 1 or said.count(end) != 1:
        raise ValueError(f"{page} has not one {begin} and one {end}")
    page.write_text(f"{said.split(begin)[0]}{begin}\n{text.strip()}\n{end}{said.split(end)[1]}")


# ---------------------------------------------------------------- tables


def kept(one: Found, pool: Path) -> str:
    rows = []
    for e in one["entries"]:
        of = kinds_kept(pool, e["pick"])
        shares = [f"{of.get(kind, 0) / max(1, sum(of.values())):.0%}" for kind in KINDS]
        rows.append([e["name"], f"{e['kept']:,}", *shares])
    return table(["", "rows", *KINDS], rows) + "\n"


def scores(found: Mapping[str, Found], end: str = "", metric: str | None = None) -> str:
    """By the primary metric and `end`, or by `metric`."""
    names = [e["name"] for e in next(iter(found.values()))["entries"]]
    columns = {family: {e["name"]: e for e in f["entries"]} for family, f in found.items()}
    heads = [f"{family} ({next(iter(own.values()))['seen']:,})" for family, own in columns.items()]
    asked = {family: metric or f["primary"] + end for family, f in found.items()}
    rows = [[name, *(spread(of(own[name], asked[family])) for family, own in columns.items())] for name in names]
    return table(["", *heads], rows) + "\n"


def spread(values: Sequence[float]) -> str:
    sd = f" ({statistics.stdev(values):.2g})" if len(values) > 1 else ""
    return f"{statistics.fmean(values):.3g}{sd}"


def of(entry: Mapping[str, Any], metric: str | None = None) -> list[float]:
    """Scores of the seeds that did not diverge; None: in the primary metric."""
    runs = [r for r in entry["runs"] if r["score"] is not None]
    return [r["score"] if metric is None else r["scores"][metric] for r in runs]


def ranking(found: Mapping[str, Found]) -> dict[str, Found]:
    """Families whose models were ranked by vectors, too."""
    return {family: f for family, f in found.items() if RANK in {m["name"] for m in f["metrics"]}}


def unseen(found: Mapping[str, Found]) -> str:
    written = {family: f for family, f in found.items() if is_written(f["primary"])}
    rows = []
    for place, e in enumerate(next(iter(found.values()))["entries"]):
        rows.append([e["name"], *(controlled(f["entries"][place], f["primary"]) for f in written.values())])
    return table(["", *written], rows) + "\n"


def controlled(entry: Mapping[str, Any], metric: str) -> str:
    """``0.123* / 0.067``"""
    said = []
    for control in CONTROLS:
        values = [r["controls"][metric + control] for r in entry["runs"]]
        star = "" if len(values) > 1 and paired(of(entry), values).low > 0 else "*"
        said.append(f"{statistics.fmean(values):.3g}{star}")
    return " / ".join(said)


def differences(found: Mapping[str, Found]) -> str:
    rows = []
    for a, b in pairs(next(iter(found.values()))):
        cells = [shown(difference(f, a, b)) for f in found.values()]
        rows.append([f"{a} − {b}", *cells])
    return table(["", *found], rows) + "\n"


def pairs(one: Found) -> list[tuple[str, str]]:
    """Those with no filter first."""
    every = [(d["a"], d["b"]) for d in one["differences"]]
    return sorted(every, key=lambda pair: pair[1] != NONE)


def difference(found: Found, a: str, b: str) -> Mapping[str, Any]:
    pair: Mapping[str, Any] = next(d for d in found["differences"] if (d["a"], d["b"]) == (a, b))["comparison"]
    return pair


def shown(c: Mapping[str, Any]) -> str:
    interval = "" if c["low"] is None else f" [{c['low']:+.3g}, {c['high']:+.3g}]"
    return f"{c['mean']:+.3g}{interval} {WORDS[verdict(c)]}"


def verdict(c: Mapping[str, Any]) -> int:
    if c["p_holm"] >= 0.05:
        return 0
    return 1 if c["mean"] > 0 else -1


# ---------------------------------------------------------------- sentences


def sentences(found: Mapping[str, Found]) -> list[str]:
    """What the tables say, nothing else: by what each recipe does to no filter, and how families order recipes."""
    said = []
    for a, b in pairs(next(iter(found.values()))):
        by = {family: verdict(difference(f, a, b)) for family, f in found.items()}
        groups = [
            f"{WORDS[v]} under {', '.join(x for x, w in by.items() if w == v)}" for v in (1, 0, -1) if v in by.values()
        ]
        every = f"{WORDS[by[next(iter(by))]]} under every family"
        said.append(f"`{a}` against `{b}`: {every if len(groups) == 1 else '; '.join(groups)}.")
    for family, f in found.items():
        said.append(f"{family} orders them {order(f)}{also(f)}.")
    for a, b in itertools.combinations(found, 2):
        said.append(f"Agreement of {a} and {b} over the order of recipes: Kendall's tau {agreement(found, a, b):+.2f}.")
    return said


def also(found: Found) -> str:
    """The order by other measures of the same models."""
    names = {m["name"] for m in found["metrics"]} - {found["primary"]}
    by = {"what was seen": found["primary"] + SEEN, f"`{RANK}`": RANK}
    return "".join(f"; by {words}, {order(found, metric)}" for words, metric in by.items() if metric in names)


def order(found: Found, metric: str | None = None) -> str:
    """Recipes, best first, by means over seeds; None: in the primary metric."""
    good = goods(found, metric)
    return " > ".join(sorted(good, key=good.__getitem__, reverse=True))


def goods(found: Found, metric: str | None = None) -> dict[str, float]:
    """Mean score of each entry, higher is better."""
    lower = next(m["lower"] for m in found["metrics"] if m["name"] == (metric or found["primary"]))
    return {e["name"]: (-1 if lower else 1) * statistics.fmean(of(e, metric)) for e in found["entries"]}


def agreement(found: Mapping[str, Found], a: str, b: str) -> float:
    first, second = goods(found[a]), goods(found[b])
    names: Sequence[str] = list(first)
    return float(kendalltau([first[n] for n in names], [second[n] for n in names])[0])
