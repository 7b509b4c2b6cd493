"""A recipe against its pool: claim the lists, walk the recipe, leave a pick.

    outcome = Job(load_recipe("recipe.yaml")).run()
    outcome.pick, outcome.kept

`plan()` says what a run would do, without doing it.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from curate.errors import UserError
from curate.pool.layout import MANNERS, PIXELS, POOL, failure, short_hash
from curate.pool.lists import Claim, claims, listed, register
from curate.pool.pool import Pool
from curate.pool.storage import Storage
from curate.run.choice import ExecutorChoice
from curate.run.engine import Engine, Pass, Rules
from curate.run.fetch.spec import IngestSpec
from curate.run.graph import Asked, needs_all_shards, owners
from curate.run.ingest import ingest_shard
from curate.run.pack import PackSpec, pack, pack_folder
from curate.run.pick import Emit, totals
from curate.run.planned import Planned
from curate.run.progress import Progress
from curate.run.sparse import is_sparse
from curate.run.steps import asked_steps
from curate.run.walk import Ground, Walk
from filters.base import RowFilter
from filters.sql_guard import check_predicate
from stages.base import Barrier, Column, Need, Stage, shard_name

if TYPE_CHECKING:
    from curate.recipe import Recipe
    from curate.run.fetch.gate.doorman import GateHandle


@dataclass
class Outcome:
    """What a run left: the pick's folder, its counts, and the items that failed for good, by pass."""

    pick: str
    kept: int
    times: int
    rows: int
    dropped: dict[str, int]
    failed: dict[str, list[str]] = field(default_factory=dict)
    outcomes: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Ingest:
    """What ingest workers share: the claims, by which a shard's rows are found, and how to fetch."""

    pool: str
    claims: tuple[Claim, ...]
    spec: IngestSpec
    gates: tuple[GateHandle, ...] | None = None

    def at(self, executor: str) -> Ingest:
        """With the gates that hold hosts' limits over all workers of an executor; on Ray, a core has one decoder."""
        from curate.run.fetch.gate.actors import gates_for

        said = self.spec.manners()
        if self.spec.backend == "img2dataset":
            from curate.interchange.backend import manners

            said = manners(self.spec)  # it sends another User-Agent
        Storage.at(self.pool).commit(f"{MANNERS}/{short_hash(said)}.json", json.dumps(said, indent=1).encode())
        one = {"decoders": self.spec.decoders or 1} if executor == "ray" else {}
        return replace(self, spec=self.spec.model_copy(update=one), gates=tuple(gates_for(executor, self.spec)))


def ingest(work: Ingest, item: str) -> dict[str, Any]:
    """Fetch the images of one shard and write pixels and facts."""
    storage, shard = Storage.at(work.pool), int(item)
    claim = next(c for c in work.claims if shard in c.numbers)
    if claim.source.get("kind") == "img2dataset":
        from curate.interchange.take import take_shard

        return take_shard(storage, claim, shard, work.spec)
    table = listed(storage, claim, shard)
    if work.spec.backend == "img2dataset":
        from curate.interchange.backend import fetch_shard

        return fetch_shard(storage, claim, table, shard, work.spec)
    return ingest_shard(storage, table, shard, claim.origin, work.spec, claim.bytes_column, claim.attempt, work.gates)


class Job:
    """One recipe and its pool. Call `run()` or `plan()` once."""

    def __init__(
        self,
        recipe: Recipe,
        executor: str | None = None,
        workers: int | None = None,
        retry: tuple[str, ...] = (),
    ) -> None:
        """
        Args:
            retry: outcomes that are tried again, where their time has come; see `curate.run.retry`.
        """
        self.recipe, self.retry = recipe, retry
        self.choice = ExecutorChoice(executor or recipe.run.executor, workers or recipe.run.workers)
        self._walked: Walk
        self.rules = Rules(tries=recipe.run.tries, allow_failed=recipe.run.allow_failed)

    def run(self, progress: Progress) -> Outcome:
        """Do what is missing.

        Raises:
            UserError: something in the input or the recipe is wrong. PartialFailure: some shards failed for good.
        """
        if self.recipe.ingest.backend == "img2dataset":
            from curate.interchange.backend import check

            check(self.recipe.ingest)
        pool = self.create_pool()
        progress.storage = pool.storage
        progress.tick()  # from here on `curate status` and gc know of this run
        self.claim_lists(pool, progress)
        self.claim_retries(pool, progress)
        known = claims(pool.storage)
        walk = self._walked = self.walk(pool, progress, dry=False, known=known)
        folder = self._choose(walk, known)
        walk.save_indexes()
        kept, times, rows, dropped = totals(pool.storage, folder, walk.shards)
        state = progress.states.get("ingest")
        return Outcome(folder, kept, times, rows, dropped, walk.failed, dict(state.outcomes) if state else {})

    def create_pool(self) -> Pool:
        """The recipe's pool, made where there is none.

        Raises:
            UserError: there is none and the recipe has no source, so that a mistyped one is not made, and empty; or it
            was made with other settings.
        """
        if not self.recipe.sources and not Storage.at(self.recipe.pool).exists(POOL):
            raise UserError(
                f"{self.recipe.pool}: there is no pool here, and recipe {self.recipe.name} has no `source:` to make it "
                "of; give it one, or name a pool by `pool:` or --set pool=PATH"
            )
        return Pool.create(self.recipe.pool, self.recipe.ingest.pixels(), self.recipe.shard_size)

    def pack(self, progress: Progress, pick: str) -> dict[str, Any]:
        """Write the pick as training shards, after `run()`; returns the manifest and its `folder`.

        Raises:
            PartialFailure: a part failed for good; a pack is whole or not there.
        """
        walk, spec = self._walked, self.recipe.pack or PackSpec()
        about = walk.pool.about(pick)

        def run(passes: list[Pass]) -> dict[str, dict[str, str]]:
            return Engine(passes, self.choice(passes, walk.seconds(passes)), progress, self.rules).run()

        sources = self.sources(claims(walk.pool.storage))
        manifest = pack(walk.pool, pick, about, spec, self.recipe.seed, sources, walk.places, run)
        return manifest | {"folder": pack_folder(walk.pool, pick, about["recipe"], spec, self.recipe.seed)}

    def plan(self) -> tuple[Pool | None, list[Planned], str]:
        """(pool, lines, pick folder); without a pool there is nothing to look at, and no line."""
        storage = Storage.at(self.recipe.pool)
        if not storage.exists(POOL):
            return None, [], ""
        pool = Pool.open(self.recipe.pool)
        pool.refuse_other_settings(self.recipe.ingest.pixels(), self.recipe.shard_size)
        walk, folder = self.foresee(pool, claims(storage), {})
        return pool, walk.planned, folder

    def foresee(self, pool: Pool, known: Sequence[Claim], ahead: Mapping[int, int]) -> tuple[Walk, str]:
        """(a dry walk, the pick's folder) over these claims, also of lists that nobody has read yet.

        Args:
            ahead: about how many samples the shards will have whose images are not there.
        """
        walk = self.walk(pool, Progress(None, "plan"), dry=True, known=known, ahead=ahead)
        return walk, self._choose(walk, known)

    def claim_lists(self, pool: Pool, progress: Progress) -> list[Claim]:
        """Read the recipe's lists and give them shard numbers; lists that the pool has cost nothing."""
        from curate.run.sources import open_source

        found = []
        for spec in self.recipe.sources:
            before = {(c.list, c.hash) for c in claims(pool.storage)}
            claim = register(pool.storage, open_source(spec), self.recipe.shard_size)
            found.append(claim)
            progress.say(describe_claim(claim, new=(claim.list, claim.hash) not in before))
        for name, hidden in self.recipe.shadowed(self.extras(found)):
            progress.say(f"input column {name!r} hides {hidden}; to use that, leave it out of `keep:` under `source:`")
        return found

    def claim_retries(self, pool: Pool, progress: Progress) -> None:
        """Give shard numbers to failures that are asked for again and whose time has come."""
        if not self.retry:
            return
        from curate.run import retry

        now = time.time()
        for line in retry.say(retry.Retry(pool, self.recipe.ingest, self.retry).claim(now), self.recipe.ingest, now):
            progress.say(line)

    def walk(
        self,
        pool: Pool,
        progress: Progress,
        *,
        dry: bool,
        known: Sequence[Claim] | None = None,
        ahead: Mapping[int, int] | None = None,
    ) -> Walk:
        """Walk the recipe's filters and columns over the pool; `known`: its claims, if not as they stand there."""
        known = claims(pool.storage) if known is None else known
        shards = [n for c in known for n in c.numbers]
        ground = Ground(pool, progress, self.choice, self.rules)
        walk = Walk(ground, shards, self.ingest_pass(pool, known, shards), dry=dry, ahead=ahead)
        walk_recipe(walk, self.steps(known), self.columns(known))
        return walk

    def ingest_pass(self, pool: Pool, known: Sequence[Claim], shards: Sequence[int]) -> Pass:
        """Fetch the shards that are not there."""
        spec = self.recipe.ingest
        need = Need(memory_gb=2, deadline_s=spec.shard_deadline_s + 600)
        missing = [shard_name(s) for s in pool.index(PIXELS).missing(shards)]
        work = Ingest(pool.storage.url, tuple(known), spec)
        return Pass(
            "ingest", ingest, work, missing, need, pure=False, prepare=work.at,
            on_failure=lambda item, text: pool.storage.put(failure(PIXELS, item), text.encode()[-20000:]),
        )  # fmt: skip

    def extras(self, known: Sequence[Claim]) -> frozenset[str]:
        """Names of the input's further columns, which are facts."""
        return frozenset(n for c in known for n in c.columns)

    def steps(self, known: Sequence[Claim]) -> list[Asked]:
        """The recipe's filters with the columns that they read.

        Raises:
            UserError: columns that nothing writes, rules that do not fit their types: all of them, with their places.
        """
        return asked_steps(self.recipe, known)

    def columns(self, known: Sequence[Claim]) -> list[Column]:
        """All columns of the stages that the recipe names, and those of captions and their conditions."""
        named = [Column(o, n) for o in self.recipe.stages for n in o.writes().names]
        asked = [*self.sources(known).values(), *(c for reads in self.conditions(known).values() for c in reads)]
        return list(dict.fromkeys([*named, *(c for c in asked if c.owner is not None)]))

    def sources(self, known: Sequence[Claim]) -> dict[str, Column]:
        """Caption source -> column; "web" is the text that the uid was made from."""
        names = dict.fromkeys(n for e in self.emit() for n, _ in e.texts)
        extra = self.extras(known)
        return {n: self.recipe.resolve("text" if n == "web" else n, extra) for n in names}

    def conditions(self, known: Sequence[Claim]) -> dict[str, tuple[Column, ...]]:
        """SQL of each condition of a caption -> the columns that it reads."""
        extra = self.extras(known)
        asked = dict.fromkeys(sql for sql, _, _ in self.recipe.conditions())
        return {sql: tuple(self.recipe.resolve(n, extra) for n in check_predicate(sql)) for sql in asked}

    def emit(self) -> tuple[Emit, ...]:
        return tuple(
            Emit(
                e.copies,
                tuple((t.source, t.p) for t in e.texts),
                e.where,
                tuple(t.where for t in e.texts),
                tuple(t.each for t in e.texts),
            )
            for e in self.recipe.captions.emit
        )

    def _choose(self, walk: Walk, known: Sequence[Claim]) -> str:
        steps = self.steps(known)
        columns = [c for s in steps for c in s.reads if c.owner is not None] + self.columns(known)
        # Where the pool lies and how it is run change no byte of a pick.
        yaml = self.recipe.resolved_yaml(settings=False)
        more = {"yaml": yaml, "columns": columns, "steps": step_notes(steps), "conditions": self.conditions(known)}
        return walk.choose(self.recipe.name, self.emit(), self.sources(known), more)


def step_notes(steps: Sequence[Asked]) -> dict[str, dict[str, str]]:
    """What a pick notes of each step, by id."""
    return {s.id: {"filter": s.filter.method(), "over": getattr(s.filter, "over", "row")} for s in steps}


def describe_claim(claim: Claim, *, new: bool) -> str:
    """One line on what became of a list."""
    shards = f"{claim.shards:,} shard{'s' * (claim.shards != 1)}"
    parts = [f"list {claim.list}: {claim.rows:,} {'new samples' if new else 'samples, read before,'} in {shards}"]
    if new and claim.known:
        parts.append(f"{claim.known:,} known already")
    if claim.duplicate_uid:
        parts.append(f"{claim.duplicate_uid:,} duplicate uid{'s' * (claim.duplicate_uid != 1)}")
    if claim.refused.get("count"):
        parts.append(f"{claim.refused['count']:,} refused ({', '.join(claim.refused['reasons'])})")
    parts += [f"damaged: {d['file']} ({d['reason']})" for d in claim.damaged]
    return "; ".join(parts)


def walk_recipe(walk: Walk, steps: Sequence[Asked], columns: Sequence[Column]) -> None:
    """All that a recipe says about keeping, from top to bottom; `columns` are computed besides.

    Raises:
        UserError: columns read each other in a circle, or a computation over all samples reads what survivors have.
    """
    wanted = [c for s in steps for c in s.reads] + list(columns)
    wanted += [Column(b, "") for s in steps for b in s.barriers]
    for one in [*owners(wanted), *(s.filter for s in steps)]:
        walk.prints.identity(one)  # weights or lists that are missing are named before anything is fetched
    walk.describe([o for o in owners(wanted) if _plain(o)])  # type: ignore[misc]
    for step in steps:
        _ensure(walk, [*step.reads, *(Column(b, "") for b in step.barriers)])
        if isinstance(step.filter, RowFilter):
            walk.row_filter(step)
        else:
            walk.global_filter(step)
    _ensure(walk, columns)
    walk.flush()


def _plain(owner: Stage | Barrier) -> bool:
    return isinstance(owner, Stage) and not needs_all_shards(owner) and not is_sparse(owner)


def _ensure(walk: Walk, columns: Sequence[Column]) -> None:
    """Queue or run the owners of these columns that have no place yet."""
    for owner in owners(columns):
        if owner in walk.places:
            continue
        if isinstance(owner, Barrier):
            walk.barrier(owner)
        elif is_sparse(owner):
            walk.sparse(owner)
        else:
            walk.describe([owner])
