"""Does each family learn what pictures show? Against itself trained without pictures, and with other pictures' texts.

    python bench/families_learn.py [--quick] [--write]     # also a part of bench/families.py; --write: docs/families.md

Each is trained from random weights at `tiny` on Flickr8k, with three seeds or more (`MORE_SEEDS`), and measured on
held-out pictures. Three controls: *blind*, the same training with all pictures grey, whose score is the better of those
with grey and with real pictures; *grey*, the trained model shown grey pictures; and *shuffled*, the trained model whose
pictures are another's. Differences are taken within a seed, with Student's 95 % interval over seeds. Claims and metrics
were fixed before these seeds ran, but for the control *grey*, which came when three seeds of each were there, and
`cider_nucleus`, CIDEr of the captions of which half differ, which came when nearly all were: of it nothing is
claimed over *grey*.

Here are the families that docs/families.md is first asked about; bench/families_learn_others.py has the rest.
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from common import ROOT, SHARED, WORK, Bar, bar, finish
from families_data import CAPTIONS, QUESTIONS
from families_page import put_into
from families_runs import FIRST, Case, Found, gathered

from training_smoke.markdown import table
from training_smoke.statistics import PairedComparison, holm_corrected, paired

SEEDS = 3
MORE_SEEDS = {"coca": 5, "llava": 5, "blip": 8, "albef": 8, "blip2": 8}
"""LLaVA's answers gain less over chance than captions do. The others' last two or five were begun after the first three
had been looked at: BLIP's captions over *grey*, and ALBEF's pairs, had intervals that reached below zero, and those of
CoCa's draws began at it."""
SHOWN = ("coca", "blip", "llava", "meru")
RECALL, CIDER = f"{CAPTIONS}/mean_recall@10", f"{CAPTIONS}/cider"
DRAWN = f"{CAPTIONS}/cider_nucleus"
MATCHING = tuple(f"{CAPTIONS}/itm_{name}" for name in ("accuracy", "pair_accuracy", "auroc"))
"""Whether a pair belongs together, at p >= 0.5; which of two captions is a picture's; and the order of all pairs."""
ANSWERS = tuple(f"{QUESTIONS}/exact_match{kind}" for kind in ("", "_other"))
"""Of all questions, and of open ones ("where is this?")."""
COUNTS = f"{QUESTIONS}/exact_match_number"
CLAIMS: Mapping[str, Sequence[str]] = {
    "coca": (CIDER, DRAWN),
    "blip": (CIDER, DRAWN, *MATCHING),
    "albef": MATCHING,
    "blip2": MATCHING,
    "llava": ANSWERS,
    "meru": (RECALL,),
}
"""Family -> what it must do better than its controls; all are better when higher."""
BESIDE: Mapping[str, Sequence[str]] = {
    "clip": (RECALL,),
    "siglip": (RECALL,),
    "siglip_caption": (CIDER, RECALL),
    "caption": (CIDER,),
    "coca": (RECALL,),
    "blip": (RECALL,),
    "albef": (RECALL,),
    "blip2": (RECALL,),
    "blip2_generate": (CIDER,),
    "llava": (COUNTS, CIDER),
    "simvlm": (CIDER,),
}
"""What is told in the same way, without a bar."""
METRICS = {name: (*CLAIMS.get(name, ()), *BESIDE.get(name, ())) for name in {**CLAIMS, **BESIDE}}
DISTINCT = 0.5  # of captions drawn for held-out pictures
HEADS = ["", "by", "score", "blind", "grey", "shuffled", "− blind", "− grey", "− shuffled", "CPU s", "distinct"]
ABOUT = """\
`--write` writes this table: {n} seeds from {first} ({more}), differences with 95 % t intervals over seeds.
Claimed are rows with a star, {claims} differences in all, not corrected for their number: of so many about {chance:.1f}
would lie above zero though nothing were learned. {above} do; after Holm's correction over them, {holm}. CPU seconds are
of one training and its evaluation. "Distinct" is how many of the captions differ: drawn (p = 0.9) / likeliest / drawn
by the blind training. That half of them differ is asked of draws, which differ where nothing is seen, too: that draws
are of the pictures is what `cider_nucleus` tells, their CIDEr, claimed of CoCa and BLIP over blind and shuffled alone;
`cider` is of the likeliest.

"""


@dataclass(frozen=True)
class Shown:
    """One claim: mean over seeds of the score; of each control its mean and what the score lies above it."""

    score: float
    controls: Mapping[str, tuple[float, PairedComparison]]


Pairs = Sequence[tuple[Found, Found]]
"""Of each seed, the training that saw pictures and the one that did not."""


def measure(quick: bool) -> dict[str, Bar]:
    """quick: coca after a few steps, one seed: that it runs, not what it says."""
    return learned(("coca",) if quick else SHOWN, "learn", quick)


def learned(families: Sequence[str], page: str, quick: bool) -> dict[str, Bar]:
    """page: between which marks of docs/families.md the table goes with --write."""
    if not SHARED.is_dir():
        print(f"no real data at {SHARED}: nothing is shown")
        return {"learned": bar(None, "data at ../shared/data", None)}
    runs = trained(families, quick)
    said = {name: {m: shown(m, runs[name]) for m in METRICS[name]} for name in families}
    text = table(HEADS, [row for name, of in said.items() for row in told_rows(name, of, runs[name])])
    print(text, flush=True)
    if "--write" in sys.argv and not quick:
        put_into(ROOT / "docs" / "families.md", page, about(said) + text)
    bars: dict[str, Bar] = {}
    for name, of in said.items():
        bars |= claimed(name, of, quick) | distinct(name, runs[name], quick)
    return bars


def seeds_of(family: str, quick: bool) -> range:
    return range(FIRST, FIRST + (1 if quick else MORE_SEEDS.get(family, SEEDS)))


def trained(families: Sequence[str], quick: bool) -> dict[str, Pairs]:
    seeds = {name: seeds_of(name, quick) for name in families}
    cases = [Case(name, seed, blind, quick) for name in families for seed in seeds[name] for blind in (False, True)]
    found = dict(gathered(cases))
    return {
        name: [(found[Case(name, s, False, quick)], found[Case(name, s, True, quick)]) for s in seeds[name]]
        for name in families
    }


def about(said: Mapping[str, Mapping[str, Shown]]) -> str:
    """What stands above the table: how many intervals there are, and what their number does to them."""
    claims = {
        (name, metric, control): c
        for name, of in said.items()
        for metric in CLAIMS.get(name, ())
        for control, (_, c) in of[metric].controls.items()
        if is_claimed(name, metric, control)
    }
    above = sum(c.low > 0 for c in claims.values())
    holm = sum(c.mean > 0 and not c.within_noise for c in holm_corrected(claims).values())
    more = ", ".join(f"{name}: {n}" for name, n in MORE_SEEDS.items() if name in said)
    return ABOUT.format(
        n=SEEDS, more=more, first=FIRST, claims=len(claims), chance=len(claims) / 40, above=above, holm=holm
    )


def shown(metric: str, runs: Pairs) -> Shown:
    score = [run.metrics[metric] for run, _ in runs]
    controls = {
        "blind": [max(blind.metrics[metric], blind.metrics[f"{metric}_blind"]) for _, blind in runs],
        "grey": [run.metrics[f"{metric}_blind"] for run, _ in runs],
        "shuffled": [run.metrics[f"{metric}_shuffled"] for run, _ in runs],
    }
    told = {name: (statistics.fmean(values), paired(score, values)) for name, values in controls.items()}
    return Shown(statistics.fmean(score), told)


def is_claimed(family: str, metric: str, control: str) -> bool:
    """Of draws nothing is claimed over *grey*: BLIP's are not shown to lie above, with all eight seeds."""
    return metric in CLAIMS.get(family, ()) and (metric, control) != (DRAWN, "grey")


def claimed(family: str, said: Mapping[str, Shown], quick: bool) -> dict[str, Bar]:
    """A bar for each difference; those that are not claimed have no limit."""
    bars = {}
    for metric, claim in said.items():
        for control, (_, c) in claim.controls.items():
            asked = is_claimed(family, metric, control)
            name = f"{family}_{metric.split('/')[1]}_over_{control}"
            bars[name] = bar(told(c), "above 0" if asked else None, c.low > 0 if asked and not quick else None)
    return bars


def distinct(family: str, runs: Pairs, quick: bool) -> dict[str, Bar]:
    """Of the seed that repeats itself most: one nucleus draw a picture counts. The likeliest captions stand beside, and
    draws of the training that saw nothing."""
    if f"{CAPTIONS}/distinct" not in runs[0][0].metrics:
        return {}
    least, greedy, blind = (min(values) for values in distincts(runs))
    return {
        f"{family}_distinct": bar(round(least, 3), DISTINCT, None if quick else least >= DISTINCT),
        f"{family}_distinct_likeliest": bar(round(greedy, 3), None, None),
        f"{family}_distinct_blind": bar(round(blind, 3), None, None),
    }


def distincts(runs: Pairs) -> tuple[list[float], list[float], list[float]]:
    """By seed: of captions drawn, of the likeliest, and of those that the blind training draws."""
    drawn, likeliest = f"{CAPTIONS}/distinct", f"{CAPTIONS}/distinct_likeliest"
    return (
        [run.metrics[drawn] for run, _ in runs],
        [run.metrics[likeliest] for run, _ in runs],
        [blind.metrics[drawn] for _, blind in runs],
    )


def told_rows(family: str, said: Mapping[str, Shown], runs: Pairs) -> list[list[str]]:
    """A row a metric, with a star where it is claimed; what is of the whole run stands in the first."""
    about = [f"{statistics.fmean(run.cpu_s for run, _ in runs):.0f}", "–"]
    if f"{CAPTIONS}/distinct" in runs[0][0].metrics:
        about[1] = " / ".join(f"{statistics.fmean(values):.0%}" for values in distincts(runs))
    rows = []
    for number, (metric, c) in enumerate(said.items()):
        means = (f"{x:.3f}" for x in (c.score, *(mean for mean, _ in c.controls.values())))
        by = f"{metric.split('/')[1]}{' *' if metric in CLAIMS.get(family, ()) else ''}"
        rows.append([family if number == 0 else "", by, *means, *(told(over) for _, over in c.controls.values())])
        rows[-1] += about if number == 0 else ["", ""]
    return rows


def told(c: PairedComparison) -> str:
    return f"{c.mean:+.3f} [{c.low:+.3f}, {c.high:+.3f}]"


if __name__ == "__main__":
    WORK.mkdir(parents=True, exist_ok=True)
    finish(measure("--quick" in sys.argv), None)
