"""`curate compare`: pack each recipe and the controls, train and evaluate each in every replicate, set them against
each other.

    found = compare(request, executor=None, workers=None, telling=Telling(), command="curate compare a.yaml b.yaml")

Everything lands in the pool under names made of what decides it (picks, packs, judge/), so the same command goes on
where it was stopped, and a comparison with one recipe more trains that one only.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from curate.errors import UserError
from curate.pool.pool import Pool
from curate.run.choice import ExecutorChoice
from curate.run.compare.able import able_sets, check_primary, check_probe
from curate.run.compare.entries import Packed, pack_entries
from curate.run.compare.found import Comparison
from curate.run.compare.gather import gather
from curate.run.compare.overlap import CountWork, count_overlap, print_set
from curate.run.compare.request import SMALL, Request
from curate.run.compare.sets import EvalSet, open_sets
from curate.run.compare.work import Training, TrainWork, train_one
from curate.run.engine import Engine, Pass, Rules
from curate.run.prints import file_digest
from curate.run.progress import Progress, Telling
from stages.base import Need

if TYPE_CHECKING:
    from training_smoke.config import Towers

MONTH_S = 30 * 86400.0
SECONDS_A_SAMPLE = 0.001  # of training at the small scales, to decide whether Ray's start is worth paying


def compare(
    request: Request, executor: str | None, workers: int | None, *, telling: Telling, command: str
) -> Comparison:
    """
    Raises:
        UserError: something in recipes, sets or settings is to be mended. PartialFailure: shards or runs failed for
            good.
    """
    _need_torch()
    sets, missing = open_sets(request.evaluate)  # before anything costs time
    family = request.config.objective
    sets, missing = able_sets(family, sets, missing)
    check_primary(request.primary, family, sets, missing, request.probe)
    if request.probe:
        check_probe(family, sets)
    _check_towers(request.config.towers)
    choice = ExecutorChoice(executor or request.recipes[0].run.executor, workers or request.recipes[0].run.workers)
    with Progress(None, command, telling=telling) as progress:
        try:
            entries = pack_entries(request, choice, progress)
            pool = Pool.open(request.pool)
            work = train_work(request, pool, entries, sets)
            counted = CountWork.of(pool, sets)
            # Sets first, alone: one that is not whole is told before anything is trained.
            for step in (*_counting(counted, pool), _training(request, work, pool)):
                if step.items:
                    seconds = request.config.samples * SECONDS_A_SAMPLE * len(step.items)
                    Engine([step], choice([step], seconds), progress, Rules(tries=request.recipes[0].run.tries)).run()
        finally:
            choice.close()
    return gather(request, pool, entries, sets, missing, work, counted, command)


def train_work(request: Request, pool: Pool, entries: Sequence[Packed], sets: Sequence[EvalSet]) -> TrainWork:
    """All runs by their items' names, "<entry>/<seed>"."""
    from training_smoke.errors import TrainingError
    from training_smoke.packs import Pack

    runs: dict[str, Training] = {}
    asked, weights = request.config, None
    begun = asked.towers.weights
    if begun is not None and Path(begun).is_file():
        weights = file_digest(begun)
        asked = asked.but(towers={"weights": str(Path(begun).absolute())})  # workers have other working directories
    device: Literal["cpu", "cuda"] = "cuda" if request.gpus else "cpu"
    for entry in entries:
        try:
            digest = Pack.open(f"{pool.storage.url}/{entry.pack}").digest
        except TrainingError as e:
            raise UserError(str(e)) from e
        for replicate in request.seeds:
            seed = entry.seed(replicate)
            config = asked.but(init_seed=seed, order_seed=seed)
            assert item(entry, replicate) not in runs, "two entries of one name would share their scores"
            runs[item(entry, replicate)] = Training(entry.pack, digest, config, weights, device)
    threads = 1 if request.scale in SMALL and not request.gpus else os.cpu_count() or 1
    return TrainWork(pool.storage.url, runs, tuple(sets), threads, max(1, request.gpus), request.gpus, request.probe)


def item(entry: Packed, replicate: int) -> str:
    return f"{entry.name}/{replicate}"


def _training(request: Request, work: TrainWork, pool: Pool) -> Pass:
    """Runs that lack something; of equal ones the first. One replicate of all entries comes before the next."""
    first: dict[str, str] = {}
    order = sorted(work.runs, key=lambda name: int(name.rsplit("/", 1)[1]))
    for name in order:
        if work.missing(name, pool.storage):
            first.setdefault(work.runs[name].folder, name)
    small = request.scale in SMALL and not request.gpus
    need = Need(cpus=1, memory_gb=2, deadline_s=MONTH_S) if small else _large(request)
    return Pass("judge", train_one, work, list(first.values()), need, pure=False)


def _large(request: Request) -> Need:
    return Need(cpus=request.config.workers * max(1, request.gpus), gpus=request.gpus, memory_gb=32, deadline_s=MONTH_S)


def _counting(work: CountWork, pool: Pool) -> tuple[Pass, Pass]:
    need = Need(memory_gb=2, deadline_s=MONTH_S)
    return (
        Pass("sets", print_set, work, work.to_print(pool.storage), need),
        Pass("overlap", count_overlap, work, work.to_count(pool.storage), need),
    )


def _check_towers(towers: Towers) -> None:
    """Weights that are not there, or do not fit, are told before the pool is looked at."""
    from training_smoke.errors import TrainingError
    from training_smoke.open_clip_towers import check
    from training_smoke.towers import OURS

    if towers.weights is None or towers.name in OURS:  # names are checked where they are built, which takes a moment
        return
    try:
        check(towers)
    except TrainingError as e:
        raise UserError(f"judge: {e}") from e


def _need_torch() -> None:
    try:
        import torch  # noqa: F401 - asked for before anything costs time
    except ImportError as e:
        raise UserError(f"the judge trains with torch, which is not here: pip install 'curate[models]' ({e})") from e
