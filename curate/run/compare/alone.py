"""One model on evaluation sets, or two of them set against each other item by item: `curate evaluate`.

found = evaluate_model("filter/filter.pt", ["evalsets", "held_out/products"], against="runs/other")
found.sets[0].score, found.sets[0].interval, found.sets[0].difference

What the choice of test items leaves open is told by a bootstrap over them. It says nothing about training again with
another seed: for that there is `curate compare`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from curate.errors import UserError
from curate.pool.layout import short_hash
from curate.run.compare.alone_found import OPTIONS, Evaluation, How, OneSet
from curate.run.compare.gather import of_datacomp
from curate.run.compare.sets import EvalSet, open_sets

if TYPE_CHECKING:
    from curate.run.compare.model import Model
    from training_smoke.abilities import Encoders
    from training_smoke.evaluate.run import Evaluated
    from training_smoke.statistics import Interval


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
    how.effort()  # before anything costs time
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
    useless = tuple(OPTIONS[name] for name in found.said if name not in found.used)
    return Evaluation(model, ours.digest, against, tuple(found.sets), {**missing, **found.lacking}, means, useless)


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
    """What has been found so far, here and in the file of results.

    said: what was asked for beyond the usual; used: what of that made a difference; lacking: probes that the model does
    not allow."""

    def __init__(self, ours: Model, theirs: Model | None, how: How, second: tuple[Encoders, str] | None) -> None:
        from training_smoke.errors import TrainingError
        from training_smoke.evaluate import read_results
        from training_smoke.evaluate.kinds import abilities_of

        self.ours, self.theirs, self.how, self.second = ours, theirs, how, second
        self.said: dict[str, int | str] = {**how.bounds(), **({} if second is None else {"second": second[1]})}
        self.used: set[str] = set()
        self.lacking: dict[str, str] = {}
        self.looked_at = bool({"vectors", "looks"} & abilities_of(ours.encoders))
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

        if self.how.probe and chosen.probed and not self.looked_at:
            self.lacking[f"{chosen.name}/lp_acc1"] = "probes look at vectors of pictures, and the model has none"
        try:
            for model in (self.ours, self.theirs):
                self.used |= set() if model is None else self._asked(model, chosen).keys()
            self.sets.append(self._known(chosen) or self._new(chosen))
        except TrainingError as e:
            if chosen.task is None and (alone or not isinstance(e, NotAble)):
                raise UserError(f"evaluation set {chosen.name}: {e}") from e
            return str(e)
        return None

    def _new(self, chosen: EvalSet) -> OneSet:
        mine = self._evaluated(self.ours, chosen)
        record = dict(mine.record)
        if (interval := self._bootstrap(mine.items)) is not None:
            record["interval"] = [interval.low, interval.high, self.how.seed]
        self._keep(chosen, record)
        if self._probed(chosen):
            record["metrics"] |= self._probe(chosen)
            self._keep(chosen, record)
        one = _one(chosen, record)
        return one if self.theirs is None else self._against(self.theirs, chosen, one, mine)

    def _probe(self, chosen: EvalSet) -> dict[str, Any]:
        """What probes give; why they give nothing is noted, as the set's score stands without them."""
        from training_smoke.errors import TrainingError
        from training_smoke.evaluate.run import evaluate_probe

        try:
            return evaluate_probe(self.ours.encoders, chosen.path, seed=self.how.seed)
        except TrainingError as e:
            self.lacking[f"{chosen.name}/lp_acc1"] = str(e)
            return {}

    def _against(self, theirs: Model, chosen: EvalSet, one: OneSet, mine: Evaluated) -> OneSet:
        """Beside the other model, in the main metric that both have, on the pictures that both were asked about.

        Raises:
            NotAble: they have no metric, or no pictures, in common.
        """
        from training_smoke.evaluate.kinds import MAIN, NotAble

        other = self._evaluated(theirs, chosen)
        ours, others = mine.record["metrics"], other.record["metrics"]
        main = next((name for name in (one.main, *MAIN) if name in ours and name in others), None)
        if main is None:
            raise NotAble(f"{self.ours.name} is measured by {one.main}, which {theirs.name} does not have")
        same = main == one.main
        one = replace(one, main=main, score=float(ours[main]), other=float(others[main]))
        if main not in mine.every or main not in other.every:
            return one
        a, b = _shared(mine, other, main)
        if not len(a):
            raise NotAble(f"{self.ours.name} and {theirs.name} were asked about different pictures: raise --pairs")
        one = replace(one, interval=self._bootstrap(a), difference=self._bootstrap(a, b))
        if len(a) == len(mine.every[main]) == len(b) == len(other.every[main]):
            return one if same else replace(one, n=len(a))
        whole = max(int(metrics.get("n_set", metrics["n"])) for metrics in (ours, others))
        return replace(
            one, score=float(a.mean()), other=float(b.mean()), n=len(a), metrics={**one.metrics, "n_set": whole}
        )

    def _known(self, chosen: EvalSet) -> OneSet | None:
        """The line of an earlier time, where it says all that is asked for; single items stand in no line."""
        if self.theirs is not None:
            return None
        for record in self.records:
            probed = not self._probed(chosen) or "lp_acc1" in record["metrics"]
            if self._same(record, chosen) and probed and record.get("interval", [self.how.seed])[-1] == self.how.seed:
                return _one(chosen, record)
        return None

    def _keep(self, chosen: EvalSet, record: Mapping[str, Any]) -> None:
        from training_smoke.evaluate.aggregate import write_results

        if self.how.out is not None:
            others = [r for r in self.records if not self._same(r, chosen)]
            said = self._asked(self.ours, chosen)
            asked = {"asked": short_hash(sorted(said.items()))} if said else {}
            self.records = [*others, {**record, "checkpoint": self.ours.digest, "set": chosen.digest, **asked}]
            write_results(self.how.out, self.records)

    def _same(self, record: Mapping[str, Any], chosen: EvalSet) -> bool:
        said = self._asked(self.ours, chosen)
        asked = short_hash(sorted(said.items())) if said else None
        known = (record.get("checkpoint"), record.get("set"), record.get("asked"))
        return known == (self.ours.digest, chosen.digest, asked)

    def _asked(self, model: Model, chosen: EvalSet) -> dict[str, int | str]:
        """What of that which was said makes a difference for this model on this set.

        Raises:
            TrainingError: the set is not whole.
        """
        from training_smoke.evaluate.folders import Folder
        from training_smoke.evaluate.kinds import abilities_of, used

        if chosen.task is not None or not self.said:
            return {}
        counts = used(abilities_of(model.encoders), Folder.open(chosen.path).kind)
        return {name: value for name, value in self.said.items() if name in counts}

    def _probed(self, chosen: EvalSet) -> bool:
        return self.how.probe and chosen.probed and self.looked_at

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


def _shared(mine: Evaluated, other: Evaluated, main: str) -> tuple[np.ndarray, np.ndarray]:
    """Of the pictures that both were asked about, what each has: float64 [n] twice."""
    a, b = (one.every[main] for one in (mine, other))
    of_a, of_b = (one.numbers.get(main, np.arange(len(one.every[main]))) for one in (mine, other))
    _, in_a, in_b = np.intersect1d(of_a, of_b, return_indices=True)
    return a[in_a], b[in_b]


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
