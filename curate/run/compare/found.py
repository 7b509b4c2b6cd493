"""What a comparison found: runs, their scores, and paired differences between recipes. All that page and table need.

found = compare(request)
found.entry("demo").mean, found.difference("demo", "no_filter").comparison.low
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from training_smoke.statistics import PairedComparison

Kind = Literal["recipe", "no_filter", "random", "a_a"]
CONTROLS = ("_blind", "_shuffled")  # what names end with of scores that no picture was looked at for
SEEN = "_seen"  # of a score, how much it lies above that with another's picture
WRITTEN = ("cider", "exact_match")  # what names begin with of metrics that texts alone go far in


def is_written(metric: str) -> bool:
    """Of "<set>/<metric>"."""
    return metric.rpartition("/")[2].startswith(WRITTEN)


@dataclass(frozen=True)
class RunFound:
    """One training of one entry.

    seed: of the replicate; all entries share it. folder: where its files lie. score: the primary metric. scores: all
    metrics by name, "<set>/<metric>", higher is better but where `Metric.lower` says otherwise. curve: (samples seen,
    training loss). seconds: of training, of its last attempt. samples_per_s: of training. controls: of the same model
    shown grey pictures ("<set>/<metric>_blind") or another's ("<set>/<metric>_shuffled").
    """

    seed: int
    folder: str
    score: float
    scores: Mapping[str, float]
    curve: tuple[tuple[int, float], ...]
    seconds: float
    samples_per_s: float
    controls: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Entry:
    """A recipe or a control, packed and trained once a replicate.

    of: the recipes whose size a random subset has, joined by ", ". pick, pack: folders below the pool. kept: different
    samples. samples: in the pack, copies counted. seen: samples seen by a training, equal for all entries. scoring_s:
    worker-seconds that the columns cost which its filters read, over the whole pool; None where no run has noted them.
    scoring_samples: the samples that could have been trained on in that time, at this comparison's own rate. diverged:
    (seed, why) of runs that have no scores; the seeds of `runs` are the others.
    """

    name: str
    kind: Kind
    of: str | None
    pick: str
    pack: str
    kept: int
    samples: int
    seen: int
    scoring_s: float | None
    scoring_samples: float | None
    runs: tuple[RunFound, ...]
    diverged: tuple[tuple[int, str], ...] = ()

    @property
    def repeats(self) -> float:
        """How often each sample is seen, over its copies together; the mean, where a recipe gives weights."""
        return self.seen / self.kept

    def scores(self, metric: str | None = None) -> list[float]:
        """Of the runs, by seed; None: the primary metric."""
        return [r.score if metric is None else r.scores[metric] for r in self.runs]

    @property
    def mean(self) -> float:
        return statistics.fmean(self.scores())

    @property
    def sd(self) -> float | None:
        """Over replicates; None for one."""
        return statistics.stdev(self.scores()) if len(self.runs) > 1 else None


@dataclass(frozen=True)
class Metric:
    """One measure. lower: smaller is better (losses, ranks); percent: a share, said as percent."""

    name: str
    lower: bool = False
    percent: bool = True


@dataclass(frozen=True)
class Difference:
    """a - b in one metric over replicates. For metrics where lower is better the sign is turned: above zero, a wins."""

    a: str
    b: str
    metric: str
    comparison: PairedComparison


@dataclass(frozen=True)
class EvaluationSet:
    """A set that all runs were evaluated on. in_pool: how many of its pictures are in the pool (by bytes, or a
    perceptual hash within `near` bits of 256; near -1: the pool has no such hashes)."""

    name: str
    path: str
    task: str
    n: int
    in_pool: int
    near: int


@dataclass(frozen=True)
class Comparison:
    """Everything found.

    config: the training configuration without seeds. primary: the metric that decides, or "mean" over `sets` of their
    main metrics. differences: of the primary metric, Holm-corrected in two families, those with controls and those of
    recipes among themselves; the A/A control stands apart in `a_a`. others: the same in every other metric, each
    metric's corrected by itself. missing: sets that were asked
    for and are not there, with the reason. command: says it again. environment: of one run; mixed: what
    of it differs among runs, so that a difference may be of that.
    """

    pool: str
    scale: str
    config: Mapping[str, Any]
    seeds: tuple[int, ...]
    primary: str
    metrics: tuple[Metric, ...]
    entries: tuple[Entry, ...]
    differences: tuple[Difference, ...]
    a_a: Difference | None
    others: tuple[Difference, ...]
    sets: tuple[EvaluationSet, ...]
    missing: Mapping[str, str] = field(default_factory=dict)
    environment: Mapping[str, Any] = field(default_factory=dict)
    mixed: tuple[str, ...] = ()
    command: str = ""

    def entry(self, name: str) -> Entry:
        return next(e for e in self.entries if e.name == name)

    def difference(self, a: str, b: str) -> Difference:
        """Of the primary metric."""
        return next(d for d in self.differences if (d.a, d.b) == (a, b))

    def metric(self, name: str) -> Metric:
        return next(m for m in self.metrics if m.name == name)

    @property
    def recipes(self) -> tuple[Entry, ...]:
        return tuple(e for e in self.entries if e.kind == "recipe")
