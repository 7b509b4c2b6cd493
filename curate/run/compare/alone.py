"""One model on evaluation sets, or two of them set against each other item by item: `curate evaluate`.

found = evaluate_model("filter/filter.pt", ["evalsets", "held_out/products"], against="runs/other")
found.sets[0].score, found.sets[0].interval, found.sets[0].difference

What the choice of test items leaves open is told by a bootstrap over them. It says nothing about training again with
another seed: for that there is `curate compare`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from curate.errors import UserError
from curate.pool.layout import short_hash
from curate.run.compare.gather import of_datacomp
from curate.run.compare.sets import EvalSet, open_sets

if TYPE_CHECKING:
    from curate.run.compare.model import Model
    from training_smoke.abilities import Encoders
    from training_smoke.evaluate import Effort
    from training_smoke.evaluate.run import Evaluated
    from training_smoke.statistics import Interval


@dataclass(frozen=True)
class OneSet:
    """main: name of the main metric; score: its value. n: items. metrics: all of them, probes too. other: the main
    metric of the other model. interval: of the score, difference: of score - other, over the choice of items; None
    where the metric is no mean over items."""

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
    """model, against: as they were named. missing: sets of DataComp's that are not there or not whole, with the reason.
    datacomp: its score and the parts of it for which all tasks are there, as "DataComp/average"."""

    model: str
    digest: str
    against: str | None
    sets: tuple[OneSet, ...]
    missing: Mapping[str, str] = field(default_factory=dict)
    datacomp: Mapping[str, float] = field(default_factory=dict)

    def one(self, name: str) -> OneSet:
        return next(s for s in self.sets if s.name == name)


@dataclass(frozen=True)
class How:
    """probe: also a linear probe and nearest neighbours, on sets with a train/. seed: of the bootstrap and of what a
    probe holds out. out: results as lines of JSON; sets that have a line of this model there are not done again.

    Of models that write: pictures: at most so many are captioned or matched; beams: 1 writes greedily; None: as
    `training_smoke.evaluate.Effort`. clipscore: another model, whose vectors score the captions."""

    probe: bool = False
    seed: int = 0
    device: str | None = None
    out: Path | None = None
    pictures: int | None = None
    beams: int | None = None
    clipscore: str | None = None

    def effort(self) -> Effort:
        from training_smoke.evaluate import Effort

        said = {"pictures": self.pictures, "beams": self.beams}
        return Effort(**{name: value for name, value in said.items() if value is not None})


def evaluate_model(
    model: str,
    paths: Sequence[str],
    against: str | None = None,
    how: How | None = None,
    tell: Callable[[str], None] = lambda said: None,
) -> Evaluation:
    """
    Args:
        model, against: see `curate.run.compare.model.open_model`.
        paths: sets in CLIP_benchmark's layout, or folders of such.
        tell: is called with each set's name before it is evaluated.

    Raises:
        UserError: no such model, no sets, a set that was named and cannot be evaluated, a probe that no set allows.
    """
    how = how or How()
    sets, missing = open_sets(paths)
    if how.probe and not any(s.probed for s in sets):
        raise UserError(
            f"--probe: none of the sets has classes and a train/ beside test/: {', '.join(s.name for s in sets)}"
        )
    ours, theirs = (None if name is None else _opened(name, how) for name in (model, against))
    assert ours is not None
    found = _Found(ours, theirs, how, None if how.clipscore is None else _second(how.clipscore, how))
    for chosen in sets:
        tell(chosen.name)
        if reason := found.add(chosen, alone=len(sets) == 1):
            missing = {**missing, chosen.name: reason}
    if not found.sets:
        raise UserError(f"{model} cannot be evaluated on any of the sets: {'; '.join(map(': '.join, missing.items()))}")
    means = of_datacomp({"dataset": s.name, "metrics": {"main_metric": s.score}} for s in found.sets)
    return Evaluation(model, ours.digest, against, tuple(found.sets), missing, means)


def _opened(name: str, how: How) -> Model:
    import torch

    from curate.run.compare.model import open_model
    from training_smoke.errors import TrainingError

    device = how.device or ("cuda" if torch.cuda.is_available() else "cpu")
    if device not in ("cpu", "cuda") or (device == "cuda" and not torch.cuda.is_available()):
        raise UserError(f"--device {device}: it is cpu, or cuda where torch sees a GPU; here it sees {_gpus()}")
    try:
        return open_model(name, device, "bf16" if device == "cuda" else "fp32")
    except TrainingError as e:
        raise UserError(str(e)) from e


def _second(name: str, how: How) -> tuple[Encoders, str]:
    """A model whose cosines score captions, and its digest."""
    from training_smoke.abilities import Encoders

    model = _opened(name, how)
    if not isinstance(model.encoders, Encoders) or not getattr(model.encoders, "unit", True):
        raise UserError(f"--clipscore {name}: the model compares no pictures and texts by the cosine of their vectors")
    return model.encoders, model.digest


def _gpus() -> str:
    import torch

    return str(torch.cuda.device_count() or "none")


class _Found:
    """What has been found so far, here and in the file of results."""

    def __init__(self, ours: Model, theirs: Model | None, how: How, second: tuple[Encoders, str] | None) -> None:
        from training_smoke.errors import TrainingError
        from training_smoke.evaluate import read_results

        self.ours, self.theirs, self.how, self.second = ours, theirs, how, second
        asked = [how.pictures, how.beams, None if second is None else second[1]]
        self.asked = short_hash(asked) if any(asked) else None
        self.sets: list[OneSet] = []
        try:
            self.records = [] if how.out is None else read_results(how.out)
        except TrainingError as e:
            raise UserError(str(e)) from e

    def add(self, chosen: EvalSet, alone: bool) -> str | None:
        """Evaluate a set; why it has no score, where it is one of DataComp's, or one of several and asks for what the
        model is not able to do."""
        from training_smoke.errors import TrainingError
        from training_smoke.evaluate import NotAble

        try:
            self.sets.append(self._known(chosen) or self._new(chosen))
        except TrainingError as e:
            if chosen.task is None and (alone or not isinstance(e, NotAble)):
                raise UserError(f"evaluation set {chosen.name}: {e}") from e
            return str(e)
        return None

    def _new(self, chosen: EvalSet) -> OneSet:
        from training_smoke.evaluate.run import evaluate_probe

        mine = self._evaluated(self.ours, chosen)
        record = dict(mine.record)
        if self.how.probe and chosen.probed:
            record["metrics"] |= evaluate_probe(self.ours.encoders, chosen.path, seed=self.how.seed)
        if (interval := self._bootstrap(mine.items)) is not None:
            record["interval"] = [interval.low, interval.high, self.how.seed]
        self._keep(chosen, record)
        one = _one(chosen, record)
        return one if self.theirs is None else self._against(self.theirs, chosen, one, mine)

    def _against(self, theirs: Model, chosen: EvalSet, one: OneSet, mine: Evaluated) -> OneSet:
        """Beside the other model, in the main metric that both have.

        Raises:
            TrainingError: they have none in common.
        """
        from training_smoke.errors import TrainingError
        from training_smoke.evaluate.kinds import MAIN

        other = self._evaluated(theirs, chosen)
        ours, others = mine.record["metrics"], other.record["metrics"]
        main = next((name for name in (one.main, *MAIN) if name in ours and name in others), None)
        if main is None:
            raise TrainingError(f"{self.ours.name} is measured by {one.main}, which {theirs.name} does not have")
        a, b = mine.every.get(main), other.every.get(main)
        return replace(
            one,
            main=main,
            score=float(ours[main]),
            interval=one.interval if main == one.main else self._bootstrap(a),
            other=float(others[main]),
            difference=None if b is None else self._bootstrap(a, b),
        )

    def _known(self, chosen: EvalSet) -> OneSet | None:
        """The line of an earlier time, where it says all that is asked for; single items stand in no line."""
        if self.theirs is not None:
            return None
        for record in self.records:
            probed = not (self.how.probe and chosen.probed) or "lp_acc1" in record["metrics"]
            if self._same(record, chosen) and probed and record.get("interval", [self.how.seed])[-1] == self.how.seed:
                return _one(chosen, record)
        return None

    def _keep(self, chosen: EvalSet, record: Mapping[str, Any]) -> None:
        from training_smoke.evaluate.aggregate import write_results

        if self.how.out is not None:
            others = [r for r in self.records if not self._same(r, chosen)]
            asked = {} if self.asked is None else {"asked": self.asked}
            self.records = [*others, {**record, "checkpoint": self.ours.digest, "set": chosen.digest, **asked}]
            write_results(self.how.out, self.records)

    def _same(self, record: Mapping[str, Any], chosen: EvalSet) -> bool:
        said = (record.get("checkpoint"), record.get("set"), record.get("asked"))
        return said == (self.ours.digest, chosen.digest, self.asked)

    def _evaluated(self, model: Model, chosen: EvalSet) -> Evaluated:
        from training_smoke.evaluate.run import evaluated, evaluated_task
        from training_smoke.evaluate.tasks import TASKS

        if chosen.task is not None:
            return evaluated_task(model.encoders, TASKS[chosen.task], chosen.path.rsplit("/", 1)[0])
        return evaluated(
            model.encoders,
            chosen.path,
            name=chosen.name,
            objective=model.objective,
            effort=self.how.effort(),
            second=None if self.second is None else self.second[0],
        )

    def _bootstrap(self, a: np.ndarray | None, b: np.ndarray | float = 0.0) -> Interval | None:
        from training_smoke.statistics import bootstrap_items

        return None if a is None else bootstrap_items(a, np.broadcast_to(b, a.shape), seed=self.how.seed)


def _one(chosen: EvalSet, record: Mapping[str, Any]) -> OneSet:
    from training_smoke.statistics import Interval

    metrics = dict(record["metrics"])
    score = metrics.pop("main_metric")
    interval = None
    if "interval" in record:
        low, high, _ = record["interval"]
        interval = Interval(score, low, high, metrics["n"])
    return OneSet(chosen.name, record["task"], main_of(chosen, record), score, metrics["n"], metrics, interval)


def main_of(chosen: EvalSet, record: Mapping[str, Any]) -> str:
    """The name of the main metric."""
    from training_smoke.evaluate.kinds import MAIN
    from training_smoke.evaluate.tasks import TASKS

    if chosen.task is not None:
        return TASKS[chosen.task].main_metric
    return next(name for name in MAIN if name in record["metrics"])
