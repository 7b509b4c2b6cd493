"""`curate plan --sample N`: do a recipe's work on the first rows of N shards, in a scratch pool, and note what it took.

    measured = measure(recipe, pool, walk, present, ahead, 3)
    measured.before(rates)             # rates of the sample, and of earlier runs where it has none

The scratch pool lies outside of the pool and is removed. Columns that the pool has are taken over: only what is
missing, or was never measured, is done. Where nothing is fetched yet, the first rows of a list that brings its images
are ingested; nothing is ever fetched from the web. Left out: stages for survivors only (an endpoint may cost money),
those that need a GPU where there is none, and the filters that read these.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from curate.errors import UserError
from curate.pool.columns import read_table, uid_digest, write_parquet
from curate.pool.layout import PIXELS, marker, part_file
from curate.pool.lists import Claim, Findings, Rows, claims, commit_claim, register
from curate.pool.pool import Pool
from curate.run.account import called
from curate.run.choice import ExecutorChoice
from curate.run.engine import Engine, Pass, Rules
from curate.run.graph import Asked, is_sparse, owners
from curate.run.job import Job, step_notes, walk_recipe
from curate.run.pack import PackSpec, pack
from curate.run.pick import Emit
from curate.run.planning.lists import Unread
from curate.run.planning.machine import gpus
from curate.run.planning.rates import Rates, Run, add_pass
from curate.run.planning.shares import Shares, shares
from curate.run.planning.sizes import Sizes
from curate.run.states import PassState
from curate.run.walk import Ground, Walk
from curate.text import one_line, visible
from stages.base import Barrier, Column, Stage, fact, shard_name

if TYPE_CHECKING:
    from curate.recipe import Recipe

ROWS = 2048  # of each shard: enough for a rate, and a slow stage is through in minutes


@dataclass(frozen=True)
class Measured:
    """What a sample gave: a run's sums, bytes a row by folder ("tar": of images), share of rows with an image."""

    run: Run | None = None
    bytes: Mapping[str, float] = field(default_factory=dict)
    images: float | None = None
    shares: Shares | None = None
    words: str = ""

    def before(self, rates: Rates) -> Rates:
        """Rates of the sample first, then of earlier runs."""
        return rates if self.run is None else rates.after(self.run, "this sample")


def measure(
    recipe: Recipe, pool: Pool, walk: Walk, present: Sequence[int], ahead: Sequence[Unread], rates: Rates, count: int
) -> Measured:
    """Do the work that a dry walk found missing on a sample.

    Args:
        present: shards with images. ahead: lists that are not read, of which one is taken where `present` is empty.
        rates: of earlier runs.

    Raises:
        UserError: a stage or filter fails on the sample, as it would in a run.
    """
    own = next((u for u in ahead if u.has_images), None)
    if not present and own is None:
        return Measured(words="nothing is fetched yet, and a plan does not touch the web: run a small list first")
    with tempfile.TemporaryDirectory(prefix="curate-sample-") as folder:
        ready: list[Stage | Barrier] = []
        scratch = Pool.create(folder, recipe.ingest.pixels(), recipe.shard_size)
        if present:
            chosen = [present[i * len(present) // min(count, len(present))] for i in range(min(count, len(present)))]
            said = f"{len(chosen)} of {len(present)} shards, {ROWS:,} rows of each at most"
            ready = _ready(walk, rates)
            _copy(pool, [walk.places[o] for o in ready], chosen, scratch)
        else:
            assert own is not None
            said = f"the first {min(count * ROWS, own.claim.rows):,} rows of list {own.claim.list}"
            register(scratch.storage, _Head(own, count * ROWS), ROWS)
        print(visible(f"measuring on {said}"), file=sys.stderr)
        return _measured(recipe, scratch, walk, ready, said)


def _ready(walk: Walk, rates: Rates) -> list[Stage | Barrier]:
    """Dense stages whose columns are there for every shard, and whose rates are known: they are not done again."""
    missing = {m.folder for p in walk.planned for m in p.makes if m.todo}
    dense = [o for o in walk.places if isinstance(o, Stage) and not is_sparse(o)]
    return [o for o in dense if walk.places[o] not in missing and rates.method(called(o)) is not None]


def _measured(recipe: Recipe, scratch: Pool, walk: Walk, ready: Sequence[Stage | Barrier], said: str) -> Measured:
    """Walk the recipe over the scratch pool, pick and pack."""
    meter = Meter()
    job = Job(replace(recipe, file=recipe.file.model_copy(update={"pool": scratch.storage.url})), "inline")
    known = claims(scratch.storage)
    shards = [n for c in known for n in c.numbers]
    ground = Ground(scratch, meter, ExecutorChoice("inline"), Rules(tries=1))
    done = Walk(ground, shards, job.ingest_pass(scratch, known, shards), dry=False)
    steps = [s for s in job.steps(known) if not any(_left_out(o, ready) for o in _owners_of(s))]
    columns = [c for c in job.columns(known) if c.owner is None or not _left_out(c.owner, ready)]
    walk_recipe(done, steps, columns)
    more = {"yaml": recipe.resolved_yaml(settings=False), "columns": [], "steps": step_notes(steps)}
    pick = done.choose(recipe.name, (Emit(1, (("web", 1.0),)),), {"web": fact("text")}, more)
    assert done.shape is not None
    sizes = Sizes(scratch, dict(zip(done.shape.shards, done.shape.rows, strict=True)))
    found, left = _bytes(sizes, done, walk, pick), shares(scratch, done, pick)
    if recipe.pack is not None and left is not None and left.kept:
        _pack(recipe, scratch, done, pick, meter)
    images = done.shape.total / max(sum(c.rows for c in known), 1)
    return Measured(meter.run(), found, images, left, f"measured on {said}")


def _pack(recipe: Recipe, scratch: Pool, done: Walk, pick: str, meter: Meter) -> None:
    def run(passes: list[Pass]) -> dict[str, dict[str, str]]:
        return Engine(passes, done.ground.executor(passes, 0), meter, done.ground.rules).run()

    spec = recipe.pack or PackSpec()
    pack(scratch, pick, scratch.about(pick), spec, recipe.seed, {"web": fact("text")}, done.places, run)


def _owners_of(step: Asked) -> list[Stage | Barrier]:
    return [c.owner for c in step.reads if c.owner is not None] + list(step.barriers)


def _left_out(owner: Stage | Barrier, ready: Sequence[Stage | Barrier]) -> bool:
    """Is it, or what it reads, for survivors only, or for a GPU that is not here?"""
    chain = [o for o in owners([Column(owner, "")]) if o not in ready]
    on_gpu = any(o.need().gpus for o in chain if isinstance(o, Stage))
    return is_sparse(owner) or (on_gpu and not gpus())


def _bytes(sizes: Sizes, done: Walk, walk: Walk, pick: str) -> dict[str, float]:
    """Bytes a row by the folder that the plan would fill: over the whole pool, most names are others."""
    same = {folder: place for owner, place in walk.places.items() if (folder := done.places.get(owner))}
    ids = dict(walk.verdicts)
    same |= {folder: ids[id] for id, folder in done.verdicts}
    same |= {PIXELS: PIXELS, pick: walk.planned[-1].folder}
    found = {there: sizes.folder(here) for here, there in same.items()}
    found["tar"] = sizes.images()
    return {folder: size for folder, size in found.items() if size}


# ---------------------------------------------------------------- the scratch pool


def _copy(pool: Pool, ready: Sequence[str], shards: Sequence[int], scratch: Pool) -> None:
    """The first rows of these shards, and of the folders that are ready; images stay where they lie."""
    extra = {n: t for c in claims(pool.storage) for n, t in c.columns.items()}
    for shard in shards:
        facts, footer = read_table(pool.storage, marker(shard))
        facts = facts.slice(0, ROWS).combine_chunks()
        aligned = {"rows": facts.num_rows, "uid_digest": uid_digest(facts.column("uid"))}
        for rel in (part_file(f, shard_name(shard)) for f in ready):
            table, note = read_table(pool.storage, rel)
            scratch.storage.commit(rel, write_parquet(table.slice(0, ROWS).combine_chunks(), note | aligned))
        link = Path(scratch.storage.url) / PIXELS / footer["tar"]
        link.parent.mkdir(exist_ok=True)
        link.symlink_to(pool.storage.local(f"{PIXELS}/{footer['tar']}"))
        scratch.storage.commit(marker(shard), write_parquet(facts, footer | aligned))
        claim = Claim(list="sample", hash=f"{shard:012x}", first=shard, shards=1, rows=facts.num_rows, columns=extra)
        commit_claim(scratch.storage, claim)


@dataclass(frozen=True)
class _Head:
    """The first rows of a list, as a list."""

    of: Unread
    limit: int
    hash: str = "0" * 12

    @property
    def name(self) -> str:
        return self.of.source.name

    @property
    def about(self) -> dict[str, Any]:
        return self.of.source.about

    def survey(self, findings: Findings) -> Iterator[Rows]:
        yield from self._first(self.of.source.survey(findings))
        findings.columns = dict(self.of.columns)

    def rows(self, findings: Findings) -> Iterator[Rows]:
        yield from self._first(self.of.source.rows(findings))

    def _first(self, readings: Iterator[Rows]) -> Iterator[Rows]:
        left = self.limit
        for rows in readings:
            table = rows.table.slice(0, left).combine_chunks()
            yield Rows(rows.file, rows.numbers[: table.num_rows], table)
            left -= table.num_rows
            if not left:
                return


# ---------------------------------------------------------------- what it took


class Meter:
    """Watcher of the sample's engine: sums as a run's status has them. The first failure ends the sample."""

    def __init__(self) -> None:
        self._passes: dict[str, PassState] = {}

    def begin(self, passes: Sequence[Pass]) -> None:
        self._passes |= {p.name: PassState(len(p.items), began=time.time()) for p in passes}

    def started(self, name: str, item: str) -> None: ...

    def finished(self, name: str, item: str, result: dict[str, Any], seconds: float) -> None:
        self._passes[name].add(result, seconds, time.time())

    def failed(self, name: str, item: str, error: str, final: bool) -> None:
        raise UserError(
            f"--sample: {name} fails on the first rows of shard {item}, and would in a run: {one_line(error)}"
        )

    def tick(self) -> None: ...

    def run(self) -> Run:
        now = time.time()
        run = Run(now)
        for name, state in self._passes.items():
            if state.done:
                add_pass(run, name, state.counts(now))
        return run
