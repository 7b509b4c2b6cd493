"""Runs the phases of a barrier or of a global filter in memory, the way a pool would, for tests.

    pool = {0: table, 1: table}                       # shard -> columns, `uid` among them (and `asked`, or all are)
    answer = PhaseRunner(pool).run(owner)             # shard -> table of the last phase
    PhaseRunner(pool, seed=3).run(owner)              # the parts of each phase in another order
    PhaseRunner(pool, generations={0: 0, 1: 1}, earlier=before).run(owner)    # a pool that grew; `ran` has what was new

What a phase writes is read back by other phases only through `PhaseFile`; `files` holds it all:
``files[owner][phase][part]`` is an Output.
"""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from filters.base import VERDICT, GlobalFilter
from stages.base import Barrier, Column, Input, Inputs, Output, Phase, Shape, ShardColumns, shard_name

Owner = Barrier | GlobalFilter


class PhaseRunner:
    """A pool in memory. Barriers that a filter reads are run first, over all rows."""

    def __init__(
        self,
        pool: Mapping[int, pa.Table],
        seed: int | None = None,
        generations: Mapping[int, int] | None = None,
        earlier: PhaseRunner | None = None,
    ) -> None:
        self.pool = dict(pool)
        self.earlier = earlier
        self.ran: list[tuple[str, str]] = []
        self.order = None if seed is None else random.Random(seed)
        self.files: dict[Owner, dict[str, dict[str, Output]]] = {}
        shards = tuple(sorted(pool))
        self.generations = dict.fromkeys(shards, 0) | dict(generations or {})
        self.shape = Shape(
            shards,
            tuple(pool[s].num_rows for s in shards),
            tuple(self.generations[s] for s in shards),
            tuple(hashlib.md5(repr(pool[s].column("uid").to_pylist()).encode()).hexdigest() for s in shards),
        )

    def run(self, owner: Owner) -> dict[int, pa.Table]:
        """The last phase's table of each shard, checked against what the owner promises."""
        for needed in self._needed(owner):
            if needed not in self.files:
                self.run(needed)
        phases = owner.phases(self.shape)
        self.files[owner] = {}
        for phase in phases:
            self._phase(owner, phase)
        answers = {int(part): output.tables for part, output in self.files[owner][phases[-1].name].items()}
        return {shard: self._checked(owner, shard, answers[shard]) for shard in self.shape.shards}

    def stats(self, owner: Owner, phase: str) -> dict[str, Mapping[str, Any]]:
        return {part: output.stats or {} for part, output in self.files[owner][phase].items()}

    def _needed(self, owner: Owner) -> list[Barrier]:
        read = [c.owner for c in owner.reads() if isinstance(c, Column) and isinstance(c.owner, Barrier)]
        return [*read, *(owner.barriers() if isinstance(owner, GlobalFilter) else ())]

    def _phase(self, owner: Owner, phase: Phase) -> None:
        before = {n: {p: dict(o.stats or {}) for p, o in parts.items()} for n, parts in self.files[owner].items()}
        parts = list(phase.parts(before) if callable(phase.parts) else phase.parts)
        assert len(set(parts)) == len(parts), f"{phase.name}: a part is named twice"
        todo = list(parts)
        if self.order is not None:
            self.order.shuffle(todo)
        known = self.earlier.files.get(owner, {}).get(phase.name, {}) if self.earlier and phase.local else {}
        done = {part: known[part] for part in todo if part in known}
        for part in todo:
            if part in known:
                continue
            self.ran.append((phase.name, part))
            inputs = Inputs(phase.inputs(part), lambda key: self._load(owner, key))
            done[part] = owner.run(phase.name, part, inputs)
            json.dumps(dict(done[part].stats or {}))
            if not isinstance(done[part].tables, pa.Table):
                assert len({str(t.schema) for t in done[part].tables}) == 1, f"{phase.name}: a file has one schema"
        self.files[owner][phase.name] = {part: done[part] for part in parts}

    def _load(self, owner: Owner, key: Input) -> pa.Table:
        if isinstance(key, ShardColumns):
            return self._columns(owner, key.shard)
        output = self.files[key.owner or owner][key.phase][key.part]
        tables = [output.tables] if isinstance(output.tables, pa.Table) else list(output.tables)
        return pa.concat_tables(tables) if key.bucket is None else tables[key.bucket]

    def _columns(self, owner: Owner, shard: int) -> pa.Table:
        facts = self.pool[shard]
        table = {"uid": facts.column("uid")}
        for column in owner.reads():
            if isinstance(column, str) or column.owner is None:
                name = column if isinstance(column, str) else column.field
                table[name] = facts.column(name)
            else:
                last = list(self.files[column.owner].values())[-1]
                table[column.field] = last[shard_name(shard)].tables.column(column.field)
        if isinstance(owner, GlobalFilter) or getattr(owner, "over", None) == "survivors":
            asked = facts.column("asked") if "asked" in facts.column_names else pa.array([True] * facts.num_rows)
            table["asked"] = (
                asked if getattr(owner, "over", None) == "survivors" else pa.array([True] * facts.num_rows, pa.bool_())
            )
        return pa.table(table)

    def _checked(self, owner: Owner, shard: int, table: pa.Table) -> pa.Table:
        promised = owner.writes() if isinstance(owner, Barrier) else pa.schema([*VERDICT, *owner.extra_verdicts()])
        assert table.schema.equals(promised), f"shard {shard}: {table.schema} is not {promised}"
        assert table.num_rows == self.pool[shard].num_rows, f"shard {shard} is not row-aligned"
        table.validate(full=True)
        return table
