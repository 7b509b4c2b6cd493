"""Steps as a person sees them: the phases of one barrier or global filter together, and the passes of a pack."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby

from curate.run.account import called
from curate.run.planned import Made
from curate.run.planning.amounts import Amount, Priced
from curate.run.planning.reasons import AHEAD
from curate.run.sparse import derived
from filters.base import Filter

TOGETHER = ("all shards", "pack")


@dataclass(frozen=True)
class Group:
    """One line of the table."""

    steps: tuple[Priced, ...]

    @property
    def kind(self) -> str:
        return self.steps[0].step.kind

    @property
    def busy(self) -> list[Priced]:
        return [p for p in self.steps if p.open]

    @property
    def title(self) -> str:
        step = self.steps[0].step
        owner = step.makes[0].owner
        if self.kind == "all shards" and owner is not None:
            return "* " + (f"{step.label} ({owner.method()})" if isinstance(owner, Filter) else called(owner))
        gpu = " (GPU)" if step.need.gpus else ""
        return {"filter": "filters", "pack": "pack"}.get(self.kind, step.name) + gpu

    @property
    def parts(self) -> str:
        """What is to do: ``8 of 10`` shards; of phases and packs, parts of several kinds."""
        missing = sum(p.step.missing or 0 for p in self.steps)
        total = sum(p.step.total or 0 for p in self.steps)
        more = "+" if any(p.step.missing is None for p in self.steps) else ""
        counted = f"{missing:,}{more}" if missing == total else f"{missing:,}{more} of {total:,}"
        return f"{counted} parts" if self.kind in TOGETHER else f"{missing:,} of {total:,}"

    @property
    def todo(self) -> Amount:
        """Rows of the largest step, the sums of the others; what is not known is left out."""
        return _added(p.todo for p in self.busy)

    @property
    def reasons(self) -> list[str]:
        """Why there is something to do, for whom where that is not plain; and what is there."""
        named = self.kind in ("columns", "filter")
        found: dict[str, dict[str, None]] = {}
        there = []
        for priced in self.steps:
            for made, why in zip(priced.step.makes, priced.why, strict=True):
                if why:
                    found.setdefault(why, {})[owner_name(made)] = None
                elif named:
                    there.append(owner_name(made))
        lines = [_told(why, ", ".join(names) if named else "") for why, names in found.items()]
        lines += [since for p in self.steps if (since := derived(p.step.makes[0].owner))]
        return [x for x in lines if x] + ([("there: " if found else "") + ", ".join(there)] if there else [])


def _told(why: str, names: str) -> str:
    """That something comes after ingest needs no words where all of it does."""
    if why == AHEAD:
        return names
    return f"{names}: {why}" if names else why


def owner_name(made: Made) -> str:
    """The filter's id, else the method."""
    return str(made.about.get("id") or (called(made.owner) if made.owner is not None else ""))


def grouped(steps: Sequence[Priced]) -> list[Group]:
    """Lines in the order of a run."""

    def key(priced: Priced) -> tuple[str, str]:
        step = priced.step
        return step.kind, (step.makes[0].root or step.folder) if step.kind in TOGETHER else step.name

    return [Group(tuple(members)) for _, members in groupby(steps, key)]


def _added(amounts: Iterable[Amount]) -> Amount:
    found = list(amounts)

    def known(name: str) -> float | None:
        values = [v for v in (getattr(a, name) for a in found) if v is not None]
        return sum(values) if values else None

    return Amount(max((a.rows for a in found), default=0), known("seconds"), known("read"), known("written"))
