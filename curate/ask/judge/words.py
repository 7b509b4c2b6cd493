"""A comparison's numbers in words, the same on the page and in the terminal.

    of_score(metric, 0.4691)              # "46.9 %"
    gain(metric, c), interval(metric, c)  # "+12.5", "+10.1 to +14.9"

Shares are said in percent and their differences in points; other measures as they are. Differences are turned so that
above zero is better, also where a smaller value is.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Literal

from curate.ask.report.words import brief
from curate.run.compare.found import Entry, Metric
from curate.run.states import duration
from training_smoke.statistics import LEVEL, PairedComparison

Outcome = Literal["better", "worse", "noise", "unknown"]
NO_INTERVAL = "no interval from one seed"
EVERY_SET = "all sets together"


def outcome(c: PairedComparison) -> Outcome:
    """What the comparison shows after Holm's correction; of one replicate nothing can be known."""
    if c.n < 2:
        return "unknown"
    if c.within_noise:
        return "noise"
    return "better" if c.mean > 0 else "worse"


OUTCOMES: dict[Outcome, str] = {
    "better": "better",
    "worse": "worse",
    "noise": "within noise",
    "unknown": "one seed: not shown",
}


def judged(c: PairedComparison, p: str = "Holm p") -> str:
    """``better; 4/4 wins, Holm p 0.012``. p: what p_holm is called, where nothing was corrected."""
    word = OUTCOMES[outcome(c)]
    return word if c.n < 2 else f"{word}; {wins(c)} wins, {p} {of_p(c.p_holm)}"


def gain_and_interval(metric: Metric, c: PairedComparison) -> str:
    """``+12.5 points (+10.1 to +14.9)``."""
    by = f"{gain(metric, c)}{unit(metric)}"
    return by if c.n < 2 else f"{by} ({interval(metric, c)})"


def uncorrected(c: PairedComparison) -> bool:
    """Its own interval leaves zero out, but the correction for many comparisons takes that back."""
    return outcome(c) == "noise" and not c.low <= 0 <= c.high


def of_score(metric: Metric, value: float) -> str:
    """``46.9 %``; of other measures ``5.123``, ``210.5``, ``12,346``."""
    if metric.percent:
        return f"{minus(f'{100 * value:.1f}')} %"
    return minus(f"{value:,.0f}" if abs(value) >= 10_000 else f"{value:.4g}")


def of_spread(metric: Metric, sd: float | None) -> str:
    """A standard deviation, in points where scores are in percent."""
    if sd is None:
        return "–"
    points = 100 * sd if metric.percent else sd
    return f"{points:.2f}" if metric.percent and points < 10 else f"{points:.3g}"


def gain(metric: Metric, c: PairedComparison) -> str:
    """``+12.5``, without its unit."""
    return _signed(metric, c, c.mean)


def interval(metric: Metric, c: PairedComparison) -> str:
    """``+10.1 to +14.9``."""
    if not math.isfinite(c.low):
        return NO_INTERVAL
    return f"{_signed(metric, c, c.low)} to {_signed(metric, c, c.high)}"


def unit(metric: Metric) -> str:
    return " points" if metric.percent else ""


def _signed(metric: Metric, c: PairedComparison, value: float) -> str:
    """With as many digits as the interval's half width gives sense to: the same for mean, low and high."""
    scale, half = 100 if metric.percent else 1, (c.high - c.low) / 2
    size = scale * (half if math.isfinite(half) and half > 0 else abs(c.mean))
    digits = -math.floor(math.log10(size)) if size else 0
    digits = max(digits, 1) if metric.percent else max(digits + 1, 0)
    said = f"{scale * value:+,.{min(digits, 6)}f}"
    return minus("0" + said[2:] if float(said.replace(",", "")) == 0 else said)


def minus(number: str) -> str:
    """With the sign that is as wide as a plus."""
    return number.replace("-", "−")


def of_p(p: float) -> str:
    return "<0.001" if p < 0.001 else f"{p:.2g}"


def wins(c: PairedComparison) -> str:
    return f"{c.wins}/{c.n}"


def repeats(entry: Entry) -> str:
    """``2.7``: how often each sample is seen; two digits are enough."""
    r = entry.repeats
    return f"{r:,.0f}" if r >= 10 else f"{r:.1f}" if r >= 1 else f"{r:.2g}"


def scoring(entry: Entry) -> str:
    """What the columns cost that its filters read, in time and in samples that could have been trained on."""
    if entry.scoring_s is None:
        return "not noted"
    if not entry.scoring_s:
        return "none"
    worth = "" if entry.scoring_samples is None else f" = {_counted(entry.scoring_samples)} samples"
    return f"{duration(entry.scoring_s)}{worth}" if entry.scoring_s >= 1 else f"under 1 s{worth}"


def _counted(samples: float) -> str:
    return f"{samples:,.0f}" if samples < 1e6 else brief(samples)


def set_and_measure(metric: str) -> tuple[str, str]:
    """("cifar10", "acc1") of "cifar10/acc1"; what stands for no set belongs to all."""
    of, _, name = metric.rpartition("/")
    return of or EVERY_SET, name


def listed(names: Iterable[str], most: int = 6) -> str:
    """``a, b and c``; long lists end in a number."""
    found = list(names)
    if len(found) > most:
        return f"{', '.join(found[:most])} and {len(found) - most:,} more"
    return " and ".join([", ".join(found[:-1]), found[-1]] if len(found) > 1 else found)


def percent_level() -> str:
    return f"{LEVEL:.0%}".replace("%", " %")
