"""What `curate evaluate` is asked for and what it finds.

how = How(probe=True, pictures=1000)
found.one("products").score, found.one("products").interval
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from curate.errors import UserError

if TYPE_CHECKING:
    from training_smoke.evaluate import Effort
    from training_smoke.statistics import Interval

OPTIONS = {name: f"--{name}" for name in ("pictures", "beams", "questions", "pairs")} | {"second": "--clipscore"}


@dataclass(frozen=True)
class OneSet:
    """main: name of the main metric; score: its value. n: items. metrics: all of them, probes too. other: the main
    metric of the other model. interval: of the score, difference: of score - other, over the choice of items; None
    where the metric is no mean over items. Where one of two models was measured on a part of the set, score, other and
    n are of the pictures that both were asked about; metrics stay those of the first model alone."""

    name: str
    task: str
    main: str
    score: float
    n: int
    metrics: Mapping[str, Any]
    interval: Interval | None = None
    other: float | None = None
    difference: Interval | None = None


@dataclass(frozen=True)
class Evaluation:
    """model, against: as they were named. missing: what has no score (sets of DataComp's that are not there or not
    whole, what the model is not able to do), with the reason. datacomp: its score and the parts of it for which all
    tasks are there, as "DataComp/average". useless: options that made no difference on any set."""

    model: str
    digest: str
    against: str | None
    sets: tuple[OneSet, ...]
    missing: Mapping[str, str] = field(default_factory=dict)
    datacomp: Mapping[str, float] = field(default_factory=dict)
    useless: tuple[str, ...] = ()

    def one(self, name: str) -> OneSet:
        return next(s for s in self.sets if s.name == name)


@dataclass(frozen=True)
class How:
    """probe: also a linear probe and nearest neighbours, on sets with a train/. seed: of the bootstrap and of what a
    probe holds out. out: results as lines of JSON; sets that have a line of this model there are not done again.

    Of models that write, match and answer: pictures: at most so many are captioned, matched, or classified by
    likelihood; beams: 1 writes greedily; questions: answered at most; pairs: of pictures and prompts, scored at most
    where classes are told by likelihood; None: as `training_smoke.evaluate.Effort`. clipscore: another model, whose
    vectors score the captions."""

    probe: bool = False
    seed: int = 0
    device: str | None = None
    out: Path | None = None
    pictures: int | None = None
    beams: int | None = None
    clipscore: str | None = None
    questions: int | None = None
    pairs: int | None = None

    def bounds(self) -> dict[str, int]:
        """Those of `Effort` that were said."""
        said = {"pictures": self.pictures, "beams": self.beams, "questions": self.questions, "pairs": self.pairs}
        return {name: value for name, value in said.items() if value is not None}

    def effort(self) -> Effort:
        """
        Raises:
            UserError: a bound under which nothing would be measured.
        """
        from training_smoke.errors import TrainingError
        from training_smoke.evaluate import Effort

        try:
            return Effort(**self.bounds())
        except TrainingError as e:
            raise UserError(str(e)) from e
