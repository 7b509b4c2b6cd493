"""Walk a recipe over a pool from top to bottom, and do what is missing.

    walk = Walk(ground, shards, ingest, dry=False)
    walk_recipe(walk, steps, columns)
    folder = walk.choose(name, emit, sources, notes)

Shards flow through ingest, stages and row-wise filters at once; where something needs
all shards (a barrier, a global filter) the flow is gathered; at the end stands the pick. With `dry=True`
nothing is run: `planned` says what would be, and `notes` what would lie beside each folder.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import curate
from curate.errors import PartialFailure, UserError
from curate.pool.index import FolderIndex
from curate.pool.layout import PIXELS, failure, folder_name, short_hash
from curate.pool.pool import Pool
from curate.run.choice import ExecutorChoice
from curate.run.compact import save_indexes
from curate.run.conditions import Conditions
from curate.run.describe import Describe, DescribeSparse, describe, describe_sparse
from curate.run.engine import Engine, Pass, Rules, Watcher
from curate.run.graph import Asked, machines
from curate.run.kinds import share_actors
from curate.run.phases import PhaseWork, phase_stats, run_phase
from curate.run.pick import Emit, PickWork, pick
from curate.run.planned import IMAGE_READ, UNKNOWN, Made, Planned
from curate.run.prints import Prints, asks_survivors
from curate.run.sparse import over_survivors, whom_it_asks
from curate.run.verdict import RowVerdict, RowVerdicts, ask_rows
from filters.base import GlobalFilter, RowFilter
from stages.base import IMAGE, Barrier, Column, Need, Parameters, Phase, Shape, Stage, shard_name

ROW_NEED = Need(deadline_s=600)


@dataclass
class Ground:
    """What a job stands on: the pool, the executor (made when there is work) and the watcher."""

    pool: Pool
    watcher: Watcher
    executor: ExecutorChoice
    rules: Rules


class Walk:
    """State of one walk through a recipe: what is queued, what has been placed, who survives.

    ahead: for a dry walk, about how many rows the shards will have that are not there yet.
    """

    def __init__(
        self,
        ground: Ground,
        shards: list[int],
        ingest: Pass | None,
        *,
        dry: bool,
        ahead: Mapping[int, int] | None = None,
    ) -> None:
        self.ground, self.dry = ground, dry
        self.pool, self.url = ground.pool, ground.pool.storage.url
        self.shards, self.ahead = shards, ahead or {}
        self.prints = Prints()
        self.shape: Shape | None = None
        self.places: dict[Stage | Barrier, str] = {}
        self.phase_folders: dict[Barrier, dict[str, str]] = {}
        self.above: list[str] = []
        self.verdicts: list[tuple[str, str]] = []
        self.rows: list[RowVerdict] = []
        self.pending: list[Pass] = []
        self.touched: dict[str, FolderIndex] = {}
        self.failed: dict[str, list[str]] = {}
        self.planned: list[Planned] = []
        self.notes: dict[str, dict[str, Any]] = {}
        self.unmarked: list[tuple[str, tuple[str, ...]]] = []
        if ingest is not None:
            self._queue(ingest, "ingest", (Made(None, PIXELS, tuple(ingest.items)),))
        if ingest is None or not ingest.items:
            self._see_generation(complete=True)

    # ---- queueing work that looks at one shard at a time

    def _queue(self, work: Pass, kind: str, makes: tuple[Made, ...], note: str = "") -> None:
        total, todo = len(self.shards), len(work.items)
        self.planned.append(Planned(work.name, kind, makes[0].folder, total, todo, note, makes, work.need))
        if work.items:
            work.folder = work.folder or makes[-1].folder  # committed last: missing where something is
            work.after = tuple(p.name for p in self.pending)
            self.pending.append(work)

    def _missing(self, folders: Sequence[str]) -> list[str]:
        """Shards that lack a file in one of the folders."""
        lack: set[int] = set()
        for folder in folders:
            index = self.touched.setdefault(folder, self.pool.index(folder))
            lack.update(index.missing(self.shards))
        return [shard_name(s) for s in self.shards if s in lack]

    def _made(self, owner: Parameters, folder: str) -> Made:
        return Made(owner, folder, tuple(self._missing([folder])), self.notes[folder])

    def describe(self, stages: Sequence[Stage]) -> None:
        """Queue dense stages, those on one kind of machine in one pass."""
        for number, (need, members) in enumerate(machines([s for s in stages if s not in self.places])):
            for stage in members:
                self.places[stage] = self.prints.stage_folder(stage)
                self._note_stage(stage)
            folders = [self.places[s] for s in members]
            work = Describe(self.url, tuple(members), dict(self.places))
            name = self._fresh("describe" if number == 0 else f"describe-{number + 1}")
            note = ", ".join(s.method() for s in members)
            todo = Pass(name, describe, work, self._missing(folders), need, on_failure=self._failure(folders[0]))
            makes = tuple(self._made(s, self.places[s]) for s in members)
            self._queue(todo, "columns", makes, note)

    def sparse(self, stage: Stage) -> None:
        """Queue a sparse stage for the survivors of the filters so far."""
        self._close_rows()
        folder = self.places[stage] = self.prints.stage_folder(stage)
        self._note_stage(stage, sparse=True)
        above = tuple(self.above)
        work = DescribeSparse(self.url, stage, dict(self.places), above, self.pool.removed_digest())
        done = self.shape is not None and self.pool.storage.exists(self._asked_marker(folder, above))
        items = [] if done else [shard_name(s) for s in self.shards]
        self.unmarked.append((folder, above))
        failed = self._failure(folder)
        # Not pure: a straggler issued twice would ask, and perhaps pay, twice.
        todo = Pass(
            self._fresh(stage.method()), describe_sparse, work, items, stage.need(), pure=False, on_failure=failed
        )
        makes = (Made(stage, folder, tuple(items), {**self.notes[folder], "above": list(above)}),)
        self._queue(todo, "sparse", makes, whom_it_asks(stage))

    def _asked_marker(self, folder: str, above: tuple[str, ...]) -> str:
        """Exists once every survivor of these filters, in this generation, has been asked about."""
        return f"{folder}/_asked/{short_hash([above, self.prints.generation])}.json"

    def row_filter(self, step: Asked) -> None:
        assert isinstance(step.filter, RowFilter)
        digest = self.prints.filter(step.filter, step.reads, self.prints.whose(step.filter, step.reads, self.above))
        folder = folder_name("verdicts", step.filter.identity()["name"], digest)
        above = tuple(self.above) if asks_survivors(step.filter, step.reads) else None
        removed = "" if above is None else self.pool.removed_digest()
        more: dict[str, Any] = {} if above is None else {"above": list(above), "removed": removed}
        reads, rules = self._read_by(step.reads), dict(step.filter.rules())
        self._note(folder, self.prints.about(step.filter, id=step.id, rules=rules, reads=reads, **more))
        if above is not None:
            self._close_rows()
        self.rows.append(RowVerdict(step.id, step.filter, step.reads, folder, above, removed))
        self._keep_verdict(step.id, folder)

    def _keep_verdict(self, id: str, folder: str) -> None:
        self.verdicts.append((id, folder))
        self.above.append(folder)

    def _close_rows(self) -> None:
        """Row filters that stand together become one pass."""
        if self.rows:
            folders = [v.folder for v in self.rows]
            work = RowVerdicts(self.url, tuple(self.rows), dict(self.places))
            name = self._fresh("filter " + "+".join(v.id for v in self.rows))
            todo = Pass(name, ask_rows, work, self._missing(folders), ROW_NEED, on_failure=self._failure(folders[0]))
            self._queue(todo, "filter", tuple(self._made(v.filter, v.folder) for v in self.rows))
            self.rows = []

    def _fresh(self, name: str) -> str:
        taken = {p.name for p in self.planned}
        number = 2
        while name in taken:
            name = f"{name.split(' #')[0]} #{number}"
            number += 1
        return name

    def _failure(self, folder: str) -> Any:
        return lambda item, text: self.pool.storage.put(
            failure(folder, item), json.dumps({"item": item, "error": text[-20000:]}).encode()
        )

    def _note(self, folder: str, what: dict[str, Any]) -> None:
        self.notes[folder] = what
        if not self.dry:
            self.pool.describe_folder(folder, what)

    def _note_stage(self, stage: Stage, **more: Any) -> None:
        reads = self._read_by(stage.reads())
        self._note(self.places[stage], self.prints.about(stage, writes=stage.writes().names, reads=reads, **more))

    def _read_by(self, columns: Sequence[Column]) -> list[str]:
        """The columns as notes name them: ``<folder with a note>:<field>``, ``fact:<field>``, image."""
        found = []
        for c in columns:
            home = "fact" if c.owner is None else "/".join(self.places[c.owner].split("/")[:2])
            found.append(IMAGE_READ if c == IMAGE else f"{home}:{c.field}")
        return found

    def _seen(self, owner: Barrier | GlobalFilter, reads: Sequence[Column]) -> dict[str, Any]:
        """For notes: the pool that a computation over all shards has seen, and whose survivors it was asked about."""
        assert self.shape is not None
        whom: dict[str, Any] = {"above": list(self.above)} if over_survivors(owner) else {}
        if self.prints.leaves_out(owner, reads):
            whom["removed"] = self.pool.removed_digest()
        return {"generation": self.prints.generation, "seen": [len(self.shape.shards), self.shape.total], **whom}

    # ---- running

    def flush(self) -> None:
        """Run what is queued; then all shards are there, and the generation is known."""
        self._close_rows()
        passes, self.pending = self.pending, []
        if passes and not self.dry:
            gone = {int(i) for items in self._run(passes).values() for i in items}
            self.shards = [s for s in self.shards if s not in gone]
        if self.shape is None or (passes and not self.dry and self.failed):
            self._see_generation(complete=not passes or not self.dry)
        unmarked, self.unmarked = self.unmarked, []
        for folder, above in unmarked:
            if not self.dry and not self.failed:
                self.pool.storage.commit(self._asked_marker(folder, above), b"{}")

    def _run(self, passes: list[Pass]) -> dict[str, dict[str, str]]:
        executor = self.ground.executor(passes, self.seconds(passes))
        share_actors(passes, executor)
        for p in passes:
            if p.prepare is not None:
                p.shared = p.prepare(executor.name)
        bad = Engine(passes, executor, self.ground.watcher, self.ground.rules).run()
        self.failed.update({name: sorted(items) for name, items in bad.items() if items})
        return bad

    def seconds(self, passes: Sequence[Pass]) -> float:
        """A rough estimate of worker-seconds, to decide whether Ray's start is worth paying."""
        size = float(self.pool.settings["shard_size"])
        cost = {"ingest": 0.01, describe: 0.004, describe_sparse: 0.1}
        return sum(len(p.items) * size * cost.get(p.name, cost.get(p.function, 3e-6)) for p in passes)

    def _see_generation(self, *, complete: bool) -> None:
        self.touched[PIXELS] = self.pool.index(PIXELS)
        present = sorted(self.touched[PIXELS].finished(self.shards))
        self.shape, generation = self.pool.shape(present)
        self.prints.removed = self.pool.removed_digest() if len(self.pool.removed) else ""
        if complete:
            self.shards = present
            self.prints.generation = generation
        else:
            # A dry walk over a pool that is still to grow: what comes after is all to be done.
            rows = dict(zip(self.shape.shards, self.shape.rows, strict=True)) | dict(self.ahead)
            self.shape = Shape(tuple(rows), tuple(rows.values()))
            self.prints.generation = UNKNOWN

    # ---- barriers and global filters

    def barrier(self, owner: Barrier) -> None:
        self.flush()
        assert self.shape is not None
        if over_survivors(owner):
            self.prints.above[owner] = self.prints.whose(owner, owner.reads(), self.above)
        phases = self._phases_of(owner)
        folders = {p.name: self.prints.phase_folder(owner, p.name, local=p.local) for p in phases}
        self.places[owner] = folders[phases[-1].name]
        self.phase_folders[owner] = folders
        root = self.places[owner].rsplit("/", 1)[0]
        more = self._seen(owner, owner.reads()) | {"last": phases[-1].name, "reads": self._read_by(owner.reads())}
        self._note(root, self.prints.about(owner, writes=owner.writes().names, **more))
        self._phases(owner, owner.reads(), phases, folders, owner.method(), root)

    def _phases_of(self, owner: Barrier | GlobalFilter) -> tuple[Phase, ...]:
        assert self.shape is not None
        try:
            return owner.phases(self.shape)
        except ValueError as e:  # what it cannot do with a pool of this size
            raise UserError(str(e)) from e

    def global_filter(self, step: Asked) -> None:
        chosen = step.filter
        assert isinstance(chosen, GlobalFilter)
        self.flush()
        assert self.shape is not None
        digest = self.prints.filter(chosen, step.reads, self.prints.whose(chosen, step.reads, self.above))
        name = chosen.identity()["name"]
        verdicts = folder_name("verdicts", name, digest)
        more = self._seen(chosen, step.reads) | {"reads": self._read_by(step.reads)}
        more["barriers"] = ["/".join(self.places[b].split("/")[:2]) for b in step.barriers]
        self._note(verdicts, self.prints.about(chosen, id=step.id, over=chosen.over, **more))
        phases = self._phases_of(chosen)
        folders = {p.name: folder_name("barriers", name, digest) + f"/{p.name}" for p in phases}
        folders[phases[-1].name] = verdicts
        self._phases(chosen, step.reads, phases, folders, step.id, verdicts)
        self._keep_verdict(step.id, verdicts)

    def _phases(
        self,
        owner: Barrier | GlobalFilter,
        reads: Sequence[Column],
        phases: Sequence[Phase],
        folders: dict[str, str],
        label: str,
        root: str,
    ) -> None:
        """Run the phases one after another, each for the parts that it lacks; `root` has the note."""
        last, about = folders[phases[-1].name], self.notes[root]
        if not self._missing([last]):
            names = tuple(p.name for p in phases)
            makes = (Made(owner, last, (), about, root),)
            planned = Planned(label, "all shards", last, len(self.shards), 0, "", makes, label=label, phases=names)
            self.planned.append(planned)
            return
        above = tuple(self.above) if over_survivors(owner) else None
        removed = self.pool.removed_digest() if self.prints.leaves_out(owner, reads) else ""
        for number, phase in enumerate(phases):
            work = PhaseWork(
                self.url, owner, phase, tuple(reads), folders, number == len(phases) - 1, dict(self.places),
                dict(self.phase_folders), above, removed,
            )  # fmt: skip
            parts = self._parts(phase, phases[:number], folders)
            done = {e.name for e in self.pool.storage.list(folders[phase.name])}
            todo = None if parts is None else [p for p in parts if f"{p}.parquet" not in done]
            name = self._fresh(f"{label} {phase.name}")
            left = None if todo is None else len(todo)
            folder, total = folders[phase.name], None if parts is None else len(parts)
            makes = (Made(owner, folder, tuple(todo or ()), about, root),)
            self.planned.append(
                Planned(name, "all shards", folder, total, left, "", makes, phase.need, label, phase.name)
            )
            if todo and not self.dry:
                failed = self._failure(folder)
                self._run([Pass(name, run_phase, work, todo, phase.need, on_failure=failed, folder=folder)])
                self._refuse_gaps(name)

    def _parts(self, phase: Phase, before: Sequence[Phase], folders: dict[str, str]) -> list[str] | None:
        """The phase's parts; None where they depend on phases that a dry walk has not run."""
        if not callable(phase.parts):
            return list(phase.parts)
        if self.dry:
            return None
        return list(phase.parts({p.name: phase_stats(self.pool.storage, folders[p.name]) for p in before}))

    def _refuse_gaps(self, name: str) -> None:
        """A set with a hole is another set: a phase is whole or the run ends here."""
        if name in self.failed:
            raise PartialFailure(
                f"{name}: {len(self.failed[name])} parts failed for good, and what follows needs all of them; "
                "the same command tries again (`curate status` shows the errors)"
            )

    # ---- the pick

    def choose(self, name: str, emit: tuple[Emit, ...], sources: dict[str, Column], more: dict[str, Any]) -> str:
        """Make the pick; returns its folder."""
        self.flush()
        parts: dict[str, Any] = {
            "steps": self.verdicts,
            "emit": [e.said() for e in emit],
            "sources": {n: self.prints.column(c) for n, c in sources.items()},
            "removed": self.pool.removed_digest(),
            "generation": self.prints.generation,
            "shards": short_hash(self.shards),
        }
        conditions: Conditions = more.get("conditions") or {}
        asked = {c.field: c for reads in conditions.values() for c in reads}
        if asked:
            parts["conditions"] = {n: self.prints.column(c) for n, c in asked.items()}
        folder = folder_name("picks", name, short_hash(parts))
        work = PickWork(
            self.url, folder, tuple(self.verdicts), emit, sources, dict(self.places), parts["removed"], conditions
        )
        missing = self._missing([folder])
        todo = Pass(self._fresh("pick"), pick, work, missing, ROW_NEED)
        about = {
            "recipe": name,
            "yaml": more["yaml"],
            "steps": [{"id": i, "folder": f, **more["steps"][i]} for i, f in self.verdicts],
            "columns": {c.field: self._place_of(c) for c in more["columns"]},
            "sources": {n: self._place_of(c) for n, c in sources.items()},
            "conditions": {n: self._place_of(c) for n, c in asked.items()},
            "emit": parts["emit"],
            "removed": parts["removed"],
            "generation": self.prints.generation,
            "shards": self.shards,
            "version": curate.__version__,
        }
        self._queue(todo, "pick", (Made(None, folder, tuple(missing), about),))
        self.flush()
        self._note(folder, about | {"shards": self.shards, "generation": self.prints.generation})
        return folder

    def _place_of(self, column: Column) -> dict[str, Any]:
        return {"field": column.field, "folder": self.places.get(column.owner) if column.owner else None}

    def save_indexes(self) -> None:
        """Index and compact the folders that this walk has seen finished."""
        save_indexes(self.pool, self.touched, self.shards, self._run, ROW_NEED)
