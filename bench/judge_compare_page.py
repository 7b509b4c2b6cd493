"""docs/recipes-compared.md: what bench/judge_compare_recipes.py found, as tables."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from judge_compare_pool import SHARES

import curate
from training_smoke.markdown import table

KINDS = ("clean", *SHARES, "copy")

HEAD = """\
# Published recipes, compared by training

`python bench/judge_compare_recipes.py --write` writes this page: {n} seeds from {first}, scale `{scale}`,
{seen:,} samples seen by each training, on {device}. What decides is `{primary}`, the mean rank of the right
partner among held-out pairs, both ways: less is better. It was fixed beforehand, as were recipes and seeds.

The pool is Flickr8k with planted faults: {faults} of the pictures, and a fifth of the rows are copies. No held-out
picture is near to one of the pool. All CLIPs are one small network, trained on a clean quarter: the tables say how
methods work with such a score, not what they did with OpenAI's, and they rank no recipe for a pool of yours.

{headline}

## What each kept

Shares are of what was kept; the best score comes first.
"""

DIFFERENCES = """\
## Against no filter, and against as many samples at random

Above zero the first is better. All of these are one family for Holm's correction.
"""

OTHER = """\
## What is other than in recipes/

CLIPs are the network. {overrides}
"""


def document(
    found: Mapping[str, Any], pool: Path, left_out: Mapping[str, str], asked: Mapping[str, Sequence[str]]
) -> str:
    """The whole page.

    Args:
        found: what `curate compare --json` says. left_out: recipe -> why. asked: recipe -> what was set otherwise.
    """
    first = found["entries"][0]
    head = HEAD.format(
        n=len(found["seeds"]), first=found["seeds"][0], scale=found["scale"], seen=first["seen"],
        device=found["environment"]["device"], primary=found["primary"], headline=found["verdict"]["headline"],
        faults=", ".join(f"{share:.0%} {kind}" for kind, share in SHARES.items()),
    )  # fmt: skip
    sentences = [f"- {s}" for s in (*found["verdict"]["findings"], *found["verdict"]["cautions"])]
    overrides = "; ".join(f"`{name}`: `{' '.join(said)}`" for name, said in asked.items() if said)
    parts = [
        head,
        entries(found, pool),
        DIFFERENCES,
        differences(found),
        "## What the numbers show\n",
        "\n".join(sentences) + "\n",
        OTHER.format(overrides=f"Numbers that are meant for billions of samples: {overrides}." if overrides else ""),
        *(f"Left out: `{name}`: {why}\n" for name, why in left_out.items()),
    ]
    return "\n".join(parts)


def entries(found: Mapping[str, Any], pool: Path) -> str:
    """What each entry kept of each kind, how often it was seen, and how it scored."""
    scored = {e["name"]: [r["score"] for r in e["runs"]] for e in found["entries"]}
    rows = []
    for e in sorted(found["entries"], key=lambda e: statistics.fmean(scored[e["name"]])):
        of = kinds_kept(pool, e["pick"])
        shares = [f"{of.get(kind, 0) / max(1, sum(of.values())):.0%}" for kind in KINDS]
        sd = statistics.stdev(scored[e["name"]]) if len(found["seeds"]) > 1 else 0.0
        mean = statistics.fmean(scored[e["name"]])
        rows.append([e["name"], f"{e['kept']:,}", f"{e['seen'] / e['kept']:.1f}", *shares, f"{mean:.1f}", f"{sd:.1f}"])
    return table(["", "kept", "repeats", *KINDS, "rank", "sd"], rows) + "\n"


def kinds_kept(pool: Path, pick: str) -> dict[str, int]:
    """Kind of fault -> rows of a pick."""
    recipe = pick.split("/")[-1].split("@")[0]
    asked = "SELECT s.truth, count(*) FROM samples s JOIN picks p USING (uid) "
    where = f"WHERE p.recipe = '{recipe}' AND p.dropped_by IS NULL GROUP BY 1"
    found = curate.open(str(pool)).sql(asked + where).to_arrow()
    return dict(zip(found.column(0).to_pylist(), found.column(1).to_pylist(), strict=True))


def differences(found: Mapping[str, Any]) -> str:
    """Those with controls, in the order in which the recipes were asked for."""
    rows = []
    for d in found["differences"]:
        c = d["comparison"]
        if d["b"] != "no_filter" and not d["b"].startswith("random"):
            continue
        interval = "–" if c["low"] is None else f"{c['low']:+.1f} to {c['high']:+.1f}"
        told = "within noise" if c["p_holm"] >= 0.05 else "better" if c["mean"] > 0 else "worse"
        wins = f"{c['wins']}/{c['n']}"
        rows.append([d["a"], d["b"], f"{c['mean']:+.1f}", interval, wins, f"{c['p_holm']:.2g}", told])
    return table(["", "against", "ranks won", "95 %", "wins", "Holm p", ""], rows) + "\n"
