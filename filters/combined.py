"""Filters made of filters: what one of them keeps, what all of them keep, what a filter drops.

    filters:
      - intersect:                     # DataComp-1B: both baselines, each asked about the whole pool
          over: pool
          members:
            - top_fraction: {column: l14_score, fraction: 0.3, convention: n+1}
            - where: "cluster_match"

Filters one below another are an intersection already, and the plain one; but there a filter over the survivors sees
only what those above it left. Here all members are asked about the same samples: a fraction is one of the same whole.

DataComp's "image-based and CLIP score" (Gadre et al. 2023, `baselines/apply_filter.py`: the threshold is the whole
pool's) is an `intersect`; filtered sets joined with DFN's or HYPE's (Kim et al. 2024; Wang et al. 2024) are a `union`.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field, model_validator

from filters.base import VERDICT, Filter, GlobalFilter, Margin, Member, RowFilter
from filters.predicates import NoValue, reasons
from stages.base import Barrier, Column, Input, Inputs, Output, Phase, PhaseFile, Shape, ShardColumns, shard_name

FINAL = "verdict"


class Combined(GlobalFilter):
    """Members are asked about the same samples; subclasses say what follows from their answers."""

    members: tuple[Member, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _members_fit(self) -> Self:
        for member in self.members:
            if isinstance(member, GlobalFilter) and member.over != self.over:
                raise ValueError(
                    f"{self.method()} is over: {self.over} and its member {member.method()} over: {member.over}; "
                    "members are asked about the same samples: leave `over` out of them"
                )
            if "copies" in member.extra_verdicts().names:
                raise ValueError(f"{self.method()}: {member.method()} says how many copies, which only a step can")
        return self

    def identity(self) -> dict[str, Any]:
        """With what the members are, rather than what their parameters would be as maps; row filters by their SQL."""
        found = super().identity()
        found["parameters"]["members"] = [
            m.identity() | ({"rules": dict(m.rules())} if isinstance(m, RowFilter) else {}) for m in self.members
        ]
        return found

    def reads(self) -> tuple[str | Column, ...]:
        return tuple(dict.fromkeys(c for m in self.members for c in m.reads()))

    def files(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(f for m in self.members for f in m.files()))

    def barriers(self) -> tuple[Barrier, ...]:
        return tuple(dict.fromkeys(b for m in self._globals().values() for b in m.barriers()))

    def margins(self) -> tuple[Margin, ...]:
        """Those with bounds of their own; a cut that is known only after a run is hidden by the other members."""
        return tuple(m for member in self.members for m in member.margins() if m.bounds)

    def _globals(self) -> dict[int, GlobalFilter]:
        return {i: m for i, m in enumerate(self.members) if isinstance(m, GlobalFilter)}

    # ---- phases

    def phases(self, shape: Shape) -> tuple[Phase, ...]:
        """Those of each global member, with its number before their names, and one that puts the answers together."""
        found: list[Phase] = []
        answers: list[str] = []
        for i, member in self._globals().items():
            own = member.phases(shape)
            found += [_numbered(i, phase) for phase in own]
            answers.append(f"{i}-{own[-1].name}")
        parts = tuple(shard_name(s) for s in shape.shards)
        return (*found, Phase(FINAL, parts, lambda p: (ShardColumns(int(p)), *(PhaseFile(a, p) for a in answers))))

    def run(self, phase: str, part: str, inputs: Inputs) -> Output:
        if phase == FINAL:
            return self._combine(inputs)
        number, _, own = phase.partition("-")
        keys = {_plain(key): key for key in inputs.keys}
        theirs = Inputs(tuple(keys), lambda key: inputs.load(keys[key]))
        return self._globals()[int(number)].run(own, part, theirs)

    def _combine(self, inputs: Inputs) -> Output:
        table = inputs.select(ShardColumns).only()
        asked = table.column("asked").to_numpy()
        answers = iter(inputs.select(PhaseFile))
        each = [
            _of_rows(m, table, asked) if isinstance(m, RowFilter) else next(answers).column("reason").combine_chunks()
            for m in self.members
        ]
        reason = self.reason([r.to_numpy(zero_copy_only=False) for r in each])
        keep = np.array([r is None for r in reason], bool)
        columns = [pa.array(keep, mask=~asked), pa.array(reason, pa.string(), mask=keep | ~asked)]
        stats = {
            f"kept by {i + 1}": int((pc.is_null(r).to_numpy(zero_copy_only=False) & asked).sum())
            for i, r in enumerate(each)
        }
        return Output(pa.table(columns, schema=VERDICT), {"kept": int((keep & asked).sum()), **stats})

    @abstractmethod
    def reason(self, each: list[np.ndarray]) -> np.ndarray:
        """object (rows,): None where the sample is kept, from the same of each member."""


class Union(Combined):
    """Keeps what at least one member keeps; the reason of the others is the first member's.

    members: filters, as under `filters:`; all are asked about the same samples.
    """

    def reason(self, each: list[np.ndarray]) -> np.ndarray:
        reason = each[0].copy()
        reason[np.any([[r is None for r in member] for member in each], axis=0)] = None
        return reason


class Intersect(Combined):
    """Keeps what every member keeps; the reason of the others is that of the first member that drops them.

    members: filters, as under `filters:`; all are asked about the same samples, so that fractions are of one whole.
    """

    def reason(self, each: list[np.ndarray]) -> np.ndarray:
        first = each[0].copy()
        for member in each[1:]:
            none = np.array([r is None for r in first], bool)
            first[none] = member[none]
        return first


class Not(Combined):
    """Keeps what the one member drops; the reason of the others is "kept_by_<member>".

    members: one filter, as under `filters:`. What it drops for want of a value is kept: mind its `on_missing`.
    """

    members: tuple[Member, ...] = Field(min_length=1, max_length=1)

    def reason(self, each: list[np.ndarray]) -> np.ndarray:
        kept = f"kept_by_{self.members[0].method()}"
        return np.array([kept if r is None else None for r in each[0]], object)


def _of_rows(member: RowFilter, table: pa.Table, asked: np.ndarray) -> pa.Array:
    """The reasons of a row filter; rows that are not asked have none."""
    names = [c if isinstance(c, str) else c.field for c in member.reads()]
    rows = table.select(names).filter(pa.array(asked))
    try:
        found = reasons(member, rows)
    except NoValue as e:
        uid = table.column("uid").filter(pa.array(asked))[e.row].as_py().hex()
        raise ValueError(
            f"{member.method()}: sample {uid} has no value for {' or '.join(names)}, and nothing says what then; add "
            "`on_missing: drop` or `on_missing: keep` to this member"
        ) from e
    whole = np.full(len(asked), None, object)
    whole[asked] = found.to_numpy(zero_copy_only=False)
    return pa.array(whole, pa.string())


def _numbered(number: int, phase: Phase) -> Phase:
    """A member's phase under its number, so that two members' do not meet."""
    parts, inputs = phase.parts, phase.inputs
    if callable(parts):
        parts = _of_own(number, parts)
    return replace(
        phase, name=f"{number}-{phase.name}", parts=parts, inputs=lambda p: tuple(_marked(number, inputs(p)))
    )


def _of_own(number: int, parts: Callable[..., Any]) -> Callable[..., Any]:
    mark = f"{number}-"

    def own(stats: Mapping[str, Any]) -> Any:
        return parts({name.removeprefix(mark): s for name, s in stats.items() if name.startswith(mark)})

    return own


def _marked(number: int, keys: Iterable[Input]) -> Iterable[Input]:
    for key in keys:
        own = isinstance(key, PhaseFile) and key.owner is None
        yield replace(key, phase=f"{number}-{key.phase}") if own and isinstance(key, PhaseFile) else key


def _plain(key: Input) -> Input:
    """The key as the member knows it."""
    if isinstance(key, PhaseFile) and key.owner is None:
        return replace(key, phase=key.phase.partition("-")[2])
    return key


def members_of(chosen: Filter) -> tuple[Filter, ...]:
    """The filter itself, or its members and theirs."""
    if not isinstance(chosen, Combined):
        return (chosen,)
    return tuple(inner for m in chosen.members for inner in members_of(m))
