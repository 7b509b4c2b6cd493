"""From the files that runs left to what a comparison found: scores, paired differences, what scoring cost."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from curate.errors import UserError
from curate.pool.pool import Pool
from curate.pool.storage import Storage
from curate.run.account import called
from curate.run.compare.entries import Packed
from curate.run.compare.found import (
    CONTROLS,
    SEEN,
    Comparison,
    Difference,
    Entry,
    EvaluationSet,
    Metric,
    RunFound,
    is_written,
)
from curate.run.compare.overlap import CountWork
from curate.run.compare.request import Request
from curate.run.compare.sets import EvalSet
from curate.run.compare.work import PROBE, RUN, TrainWork
from curate.run.graph import Owner, owners
from curate.run.job import Job
from curate.run.planning.rates import Rates
from stages.base import Barrier, Column, Shape

if TYPE_CHECKING:
    from training_smoke.statistics import PairedComparison

MEAN = "mean"
LOWER = ("loss", "rank")  # what such a metric's name ends with
DATACOMP = ("average", "imagenet", "imagenet_shifts", "vtab", "retrieval", "above_chance")
DECIDING = ("source", "packages", "device", "machine", "processes", "sharding")  # of an environment
NO_METRIC = ("n", "main_metric", "lp_strength", "lp_converged", "templates")
COUNTS = "n_"  # what such a name begins with is how many were asked
PLAIN = ("words",)  # no shares


def gather(
    request: Request,
    pool: Pool,
    packed: Sequence[Packed],
    sets: Sequence[EvalSet],
    missing: Mapping[str, str],
    work: TrainWork,
    counted: CountWork,
    command: str,
) -> Comparison:
    """
    Raises:
        UserError: the primary metric is none of those that the sets give; they are named.
    """
    told = {n: json.loads(pool.storage.read(f"{run.folder}/{RUN}")) for n, run in work.runs.items()}
    diverged = {n: said["diverged"] for n, said in told.items() if "diverged" in said}
    found = {n: _run(pool.storage, request, work, n, said, sets) for n, said in told.items() if n not in diverged}
    if lost := [p.name for p in packed if not any(f"{p.name}/{r}" in found for r in request.seeds)]:
        raise UserError(f"all runs of {', '.join(lost)} diverged: {next(iter(diverged.values()))}")
    metrics = _metrics(found)
    primary = request.primary
    if primary != MEAN and primary not in metrics:
        raise UserError(f"primary metric {primary}: there are {MEAN}, {', '.join(metrics)}")
    entries = tuple(_entry(request, pool, p, found, diverged) for p in packed)
    known = {MEAN: Metric(MEAN), **metrics}
    by_metric = {name: _differences(entries, known[name], name) for name in dict.fromkeys((primary, *metrics))}
    places = dict.fromkeys(run.folder for name, run in work.runs.items() if name in found)
    environments = [json.loads(pool.storage.read(f"{folder}/environment.json")) for folder in places]
    return Comparison(
        pool=request.pool,
        scale=request.scale,
        config=request.config.as_json(),
        seeds=request.seeds,
        primary=primary,
        metrics=tuple(metrics.values()),
        entries=entries,
        differences=by_metric[primary],
        a_a=_a_a(entries, known[primary], primary),
        others=tuple(d for name in metrics if name != primary for d in by_metric[name]),
        sets=tuple(_set(pool.storage, counted, i, s) for i, s in enumerate(sets)),
        missing=missing,
        environment=environments[0],
        mixed=tuple(key for key in DECIDING if any(e.get(key) != environments[0].get(key) for e in environments)),
        command=command,
    )


def _run(
    storage: Storage, request: Request, work: TrainWork, name: str, said: Mapping[str, Any], sets: Sequence[EvalSet]
) -> RunFound:
    folder = work.runs[name].folder
    read = {file: json.loads(storage.read(file)) for file in work.scores(name)}
    records = [record for file, record in read.items() if not file.endswith(PROBE)]
    main = [record["metrics"]["main_metric"] for record in records]
    scores = of_datacomp(record for record, chosen in zip(records, sets, strict=True) if chosen.task is not None)
    controls: dict[str, float] = {}
    for file, chosen in work.scores(name).items():
        scores |= {f"{chosen.name}/{n}": float(v) for n, v in read[file]["metrics"].items() if _counts(n, v)}
        controls |= {f"{chosen.name}/{n}": float(v) for n, v in read[file]["metrics"].items() if _is_control(n, v)}
    scores |= seen(scores, controls)
    primary = statistics.fmean(main) if request.primary == MEAN else scores.get(request.primary, math.nan)
    curve = tuple((int(s), float(loss)) for s, loss in said["curve"])
    seed = int(name.rsplit("/", 1)[1])
    return RunFound(seed, folder, primary, scores, curve, said["seconds"], said["samples_per_s"], controls)


def seen(scores: Mapping[str, float], controls: Mapping[str, float]) -> dict[str, float]:
    """Of what texts alone go far in, how much a score lies above that with another's picture: "set/cider_seen"."""
    shuffled = {name: controls.get(name + CONTROLS[1]) for name in scores if is_written(name)}
    return {name + SEEN: scores[name] - value for name, value in shuffled.items() if value is not None}


def of_datacomp(records: Iterable[dict[str, Any]]) -> dict[str, float]:
    """DataComp's score and its parts, each where all of its tasks are there."""
    from training_smoke.evaluate import summarise

    found = summarise(records)
    means = {name: getattr(found, name) for name in DATACOMP}
    return {f"DataComp/{name}": value for name, value in means.items() if value is not None}


def _counts(name: str, value: Any) -> bool:
    """Controls have no part in what is compared; they stand beside it."""
    asked = name in NO_METRIC or name.startswith(COUNTS)
    return not asked and not name.endswith(CONTROLS) and isinstance(value, int | float) and math.isfinite(value)


def _is_control(name: str, value: Any) -> bool:
    return name.endswith(CONTROLS) and isinstance(value, int | float) and math.isfinite(value)


def _metrics(found: Mapping[str, RunFound]) -> dict[str, Metric]:
    """Those that every run has."""
    names = [n for n in next(iter(found.values())).scores if all(n in run.scores for run in found.values())]
    return {n: Metric(n, lower=n.endswith(LOWER), percent=not n.endswith(LOWER + PLAIN)) for n in names}


def _entry(
    request: Request, pool: Pool, packed: Packed, found: Mapping[str, RunFound], diverged: Mapping[str, str]
) -> Entry:
    names = {r: f"{packed.name}/{r}" for r in request.seeds}
    runs = [found[name] for name in names.values() if name in found]
    scoring = scoring_seconds(pool, packed)
    rate = statistics.median(r.samples_per_s for r in runs)
    return Entry(
        name=packed.name,
        kind=packed.kind,
        of=", ".join(packed.of) or None,
        pick=packed.pick,
        pack=packed.pack,
        kept=packed.kept,
        samples=packed.samples,
        seen=request.config.samples,
        scoring_s=scoring,
        scoring_samples=None if scoring is None else scoring * rate,
        runs=tuple(runs),
        diverged=tuple((r, diverged[name]) for r, name in names.items() if name in diverged),
    )


def scoring_seconds(pool: Pool, packed: Packed) -> float | None:
    """Worker-seconds that the columns cost which the filters read, for the whole pool, at the rates of earlier runs.

    None where the rate of one of them was never measured.
    """
    from curate.pool.lists import claims

    job = Job(packed.recipe)
    known = claims(pool.storage)
    columns = [c for step in job.steps(known) for c in step.reads]
    columns += [Column(b, "") for step in job.steps(known) for b in step.barriers] + job.columns(known)
    rates = Rates.of_pool(pool.storage, "")
    shape, _ = pool.shape()
    total = 0.0
    for owner in owners(columns):
        found = _rate(rates, owner, shape)
        if found is None:
            return None
        total += found * sum(shape.rows)
    return total


def _rate(rates: Rates, owner: Owner, shape: Shape) -> float | None:
    """Seconds a sample; of a barrier, the sum over its phases."""
    name = called(owner)
    if not isinstance(owner, Barrier):
        rate = rates.method(name)
        return None if rate is None else rate.seconds
    phases = [phase.name for phase in owner.phases(shape)]
    found = [rates.phase(name, phase, phases[-1]) for phase in phases]
    return None if None in found else sum(rate.seconds for rate in found if rate is not None)


# ---------------------------------------------------------------------------------------------- differences


def _families(entries: Sequence[Entry]) -> list[list[tuple[str, str]]]:
    """Which differences are asked for: with controls (each recipe against no filter and its random subset, random
    subsets against no filter), and of recipes among themselves. Each family is corrected by itself, so that a recipe
    more takes no power from the question whether any helps."""
    recipes = [e for e in entries if e.kind == "recipe"]
    whole = [e.name for e in entries if e.kind == "no_filter"][:1]
    controls = [(e.name, w) for e in recipes for w in whole]
    for drawn in (e for e in entries if e.kind == "random"):
        controls += [(name, drawn.name) for name in (drawn.of or "").split(", ") if name]
        controls += [(drawn.name, w) for w in whole]
    return [controls, [(b.name, a.name) for i, a in enumerate(recipes) for b in recipes[i + 1 :]]]


def _differences(entries: Sequence[Entry], metric: Metric, name: str) -> tuple[Difference, ...]:
    from training_smoke.statistics import holm_corrected

    scores = {e.name: _scores(e, metric, name) for e in entries}
    families = [{(a, b): c for a, b in pairs if (c := _paired(scores[a], scores[b]))} for pairs in _families(entries)]
    return tuple(Difference(a, b, name, c) for family in families for (a, b), c in holm_corrected(family).items())


def _a_a(entries: Sequence[Entry], metric: Metric, name: str) -> Difference | None:
    """The control that must show nothing; corrected by nothing, so that it is not let off lightly."""
    again = next((e for e in entries if e.kind == "a_a"), None)
    if again is None:
        return None
    whole = next(e for e in entries if e.kind == "no_filter")
    found = _paired(_scores(again, metric, name), _scores(whole, metric, name))
    return None if found is None else Difference(again.name, whole.name, name, found)


def _scores(entry: Entry, metric: Metric, name: str) -> dict[int, float]:
    """By seed, with the sign that makes more better."""
    sign = -1 if metric.lower else 1
    return {r.seed: sign * (r.score if name == MEAN else r.scores[name]) for r in entry.runs}


def _paired(a: Mapping[int, float], b: Mapping[int, float]) -> PairedComparison | None:
    """Over the seeds that both have: where one diverged, none of the two counts."""
    from training_smoke.statistics import paired

    shared = [seed for seed in a if seed in b]
    return paired([a[s] for s in shared], [b[s] for s in shared]) if shared else None


def _set(storage: Storage, counted: CountWork, number: int, chosen: EvalSet) -> EvaluationSet:
    said = counted.found(storage, number)
    return EvaluationSet(chosen.name, chosen.path, said["task"], said["n"], said["in_pool"], said["near"])
