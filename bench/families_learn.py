"""Does each family learn what pictures show? Against itself trained without pictures, and with other pictures' texts.

    python bench/families_learn.py [--quick] [--write]     # also a part of bench/families.py; --write: docs/families.md

Each is trained from random weights at `tiny` on Flickr8k, with three seeds, and measured on held-out pictures. Two
controls: *blind*, the same training with all pictures grey, whose score is the better of those with grey and with real
pictures; and *shuffled*, the trained model whose pictures are another's. Differences are taken within a seed, with
Student's 95 % interval over seeds. Claims, metrics and seeds were fixed before anything ran.
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from common import ROOT, SHARED, WORK, Bar, bar, finish
from families_page import put_into
from families_runs import CAPTIONS, FIRST, QUESTIONS, Case, Found, gathered

from training_smoke.markdown import table
from training_smoke.statistics import PairedComparison, paired

SEEDS = 3
RECALL, CIDER = f"{CAPTIONS}/mean_recall@10", f"{CAPTIONS}/cider"
ITM, ITM_PAIR = f"{CAPTIONS}/itm_accuracy", f"{CAPTIONS}/itm_pair_accuracy"
"""Whether a pair belongs together, at p >= 0.5; and which of two captions is a picture's."""
ANSWERS = f"{QUESTIONS}/exact_match"
CLAIMS: Mapping[str, Sequence[str]] = {
    "clip": (RECALL,),
    "siglip": (RECALL,),
    "meru": (RECALL,),
    "siglip_caption": (CIDER, RECALL),
    "caption": (CIDER,),
    "coca": (CIDER, RECALL),
    "blip": (CIDER, ITM, ITM_PAIR, RECALL),
    "albef": (ITM, ITM_PAIR, RECALL),
    "blip2": (ITM, ITM_PAIR, RECALL),
    "blip2_generate": (CIDER,),
    "llava": (ANSWERS, CIDER),
    "simvlm": (CIDER,),
}
"""Family -> what it must do better than its controls; all are better when higher."""
DISTINCT = 0.5  # of captions drawn for held-out pictures
HEADS = ["", "by", "score", "blind", "shuffled", "− blind", "− shuffled", "CPU s", "distinct"]
ABOUT = """\
`python bench/families_learn.py --write` writes this table: {n} seeds from {first}, differences with 95 % t intervals
over seeds. CPU seconds are of one training and its evaluation; "distinct" is how many of the captions differ, drawn
(p = 0.9) / likeliest.

"""


@dataclass(frozen=True)
class Shown:
    """One claim: mean over seeds of the score and its controls, and the differences."""

    score: float
    blind: float
    shuffled: float
    over_blind: PairedComparison
    over_shuffled: PairedComparison


def measure(quick: bool) -> dict[str, Bar]:
    """quick: coca after a few steps, one seed: that it runs, not what it says."""
    if not SHARED.is_dir():
        print(f"no real data at {SHARED}: nothing is shown")
        return {"learned": bar(None, "data at ../shared/data", None)}
    families = ("coca",) if quick else tuple(CLAIMS)
    seeds = range(FIRST, FIRST + (1 if quick else SEEDS))
    cases = [Case(name, seed, blind, quick) for seed in seeds for name in families for blind in (False, True)]
    found = dict(gathered(cases))
    bars: dict[str, Bar] = {}
    rows: list[list[str]] = []
    for family in families:
        runs = [(found[Case(family, s, False, quick)], found[Case(family, s, True, quick)]) for s in seeds]
        said = {metric: shown(metric, runs) for metric in CLAIMS[family]}
        bars |= claimed(family, said, quick) | distinct(family, [run for run, _ in runs], quick)
        rows += told_rows(family, said, [run for run, _ in runs])
    text = table(HEADS, rows)
    print(text)
    if "--write" in sys.argv and not quick:
        put_into(ROOT / "docs" / "families.md", "learn", ABOUT.format(n=SEEDS, first=FIRST) + text)
    return bars


def shown(metric: str, runs: Sequence[tuple[Found, Found]]) -> Shown:
    """
    Args:
        runs: of each seed, the training that saw pictures and the one that did not.
    """
    score = [run.metrics[metric] for run, _ in runs]
    blind = [max(blind.metrics[metric], blind.metrics[f"{metric}_blind"]) for _, blind in runs]
    shuffled = [run.metrics[f"{metric}_shuffled"] for run, _ in runs]
    means = (sum(values) / len(values) for values in (score, blind, shuffled))
    return Shown(*means, paired(score, blind), paired(score, shuffled))


def claimed(family: str, said: Mapping[str, Shown], quick: bool) -> dict[str, Bar]:
    bars = {}
    for metric, claim in said.items():
        for control, c in (("blind", claim.over_blind), ("shuffled", claim.over_shuffled)):
            name = f"{family}_{metric.split('/')[1]}_over_{control}"
            bars[name] = bar(told(c), "above 0", None if quick else c.low > 0)
    return bars


def distinct(family: str, runs: Sequence[Found], quick: bool) -> dict[str, Bar]:
    """Of the seed that repeats itself most: one nucleus draw a picture counts, the likeliest captions stand beside."""
    if f"{CAPTIONS}/distinct" not in runs[0].metrics:
        return {}
    least, greedy = (
        min(run.metrics[f"{CAPTIONS}/{name}"] for run in runs) for name in ("distinct", "distinct_likeliest")
    )
    return {
        f"{family}_distinct": bar(round(least, 3), DISTINCT, None if quick else least >= DISTINCT),
        f"{family}_distinct_likeliest": bar(round(greedy, 3), None, None),
    }


def told_rows(family: str, said: Mapping[str, Shown], runs: Sequence[Found]) -> list[list[str]]:
    """A row a claim; what is of the whole run stands in the first."""
    about = [f"{statistics.fmean(run.cpu_s for run in runs):.0f}", "–"]
    if f"{CAPTIONS}/distinct" in runs[0].metrics:
        shares = (
            statistics.fmean(r.metrics[f"{CAPTIONS}/{n}"] for r in runs) for n in ("distinct", "distinct_likeliest")
        )
        about[1] = " / ".join(f"{share:.0%}" for share in shares)
    rows = []
    for number, (metric, c) in enumerate(said.items()):
        means = (f"{x:.3f}" for x in (c.score, c.blind, c.shuffled))
        rows.append([family if number == 0 else "", metric.split("/")[1], *means, told(c.over_blind)])
        rows[-1] += [told(c.over_shuffled), *(about if number == 0 else ["", ""])]
    return rows


def told(c: PairedComparison) -> str:
    return f"{c.mean:+.3f} [{c.low:+.3f}, {c.high:+.3f}]"


if __name__ == "__main__":
    WORK.mkdir(parents=True, exist_ok=True)
    finish(measure("--quick" in sys.argv), None)
