"""Which filter of A is which of B, and in which words the two recipes differ.

for pair in pairs(pool, a, b): pair.a, pair.b, pair.parameters, pair.why
settings(a, b)                            # [Change("captions.emit.0.copies", 1, 2)]
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from curate.ask.diff.sides import Side
from curate.pool.pool import Pool
from curate.recipe_yaml import Document
from curate.run.planning.differ import differences

NOT_COMPARED = ("recipe", "filters", "extends", "paper", "description")  # of a recipe: names, and what `pairs` tells
Note = Mapping[str, Any]


@dataclass(frozen=True)
class Change:
    """A value that the two have differently; None: not there."""

    key: str
    a: Any
    b: Any


@dataclass(frozen=True)
class Pair:
    """A filter in one or both. a, b: its number among the fates of that side, None where it has none.

    same: both have it, and as the same folder: no verdict differs. why: what else makes verdicts differ, in words.
    """

    id: str
    method: str
    a: int | None
    b: int | None
    id_b: str | None = None  # where B calls it otherwise
    same: bool = False
    parameters: tuple[Change, ...] = ()
    why: tuple[str, ...] = ()

    @property
    def place(self) -> str:
        return "both" if None not in (self.a, self.b) else "A" if self.b is None else "B"


def pairs(pool: Pool, a: Side, b: Side) -> list[Pair]:
    """All that may have dropped a row, in the order of A, those of B alone behind what stands above them in B."""

    @cache
    def look(folder: str) -> Note:
        return pool.about(folder)

    partner = _partners(a.steps, b.steps, look)
    found = [_pair(a, i, b, partner.get(i), look) for i in range(len(a.fates))]
    taken = {p.b for p in found if p.b is not None}
    for j in range(len(b.fates)):
        if j not in taken:
            above = [n for n, p in enumerate(found) if p.b is not None and p.b < j]
            place = max(above, default=-1) + 1 if b.step(j) else len(found)
            found.insert(place, _pair(a, None, b, j, look))
    return found


def _partners(a: Sequence[Note], b: Sequence[Note], look: Callable[[str], Note]) -> dict[int, int]:
    """Number in A -> number in B. What agrees in more goes first: a name that a person gave, then what it says."""

    def identity(step: Note) -> str:
        found = look(step["folder"]).get("identity", {})
        return repr(found) if "parameters" in found else step["folder"]

    def given(step: Note) -> str | None:
        return None if re.fullmatch(rf"{re.escape(step['filter'])}(-\d+)?", step["id"]) else step["id"]

    def only_one(step: Note) -> str | None:
        """Its method, where each of the two has that once. Two rules in SQL have nothing in common by that."""
        counts = [sum(s["filter"] == step["filter"] for s in steps) for steps in (a, b)]
        return step["filter"] if counts == [1, 1] and step["filter"] != "where" else None

    keys = (lambda s: (s["id"], identity(s)), given, identity, lambda s: s["id"], only_one)
    found: dict[int, int] = {}
    for key in keys:
        free = {j: key(s) for j, s in enumerate(b) if j not in found.values()}
        for i, step in enumerate(a):
            match = next((j for j, k in free.items() if k is not None and k == key(step)), None)
            if i not in found and match is not None:
                found[i] = match
                del free[match]
    return found


def _pair(a: Side, i: int | None, b: Side, j: int | None, look: Callable[[str], Note]) -> Pair:
    mine, other = a.step(i), b.step(j)
    if mine is None and other is None:  # a reason of the pick itself, which both may have
        name = a.fates[i] if i is not None else b.fates[j or 0]
        return Pair(name, "", a.reason(name), b.reason(name))
    if mine is None or other is None:
        alone = mine or other or {}
        return Pair(alone["id"], alone["filter"], i, j)
    parameters = tuple(Change(*c) for c in _changes(_told(mine, look), _told(other, look)))
    return Pair(
        mine["id"],
        mine["filter"],
        i,
        j,
        id_b=other["id"] if other["id"] != mine["id"] else None,
        same=mine["folder"] == other["folder"],
        parameters=parameters,
        why=tuple(_why(look(mine["folder"]), look(other["folder"]), look, told=bool(parameters))),
    )


def _why(old: Note, new: Note, look: Callable[[str], Note], *, told: bool) -> list[str]:
    """What makes verdicts differ besides parameters, which are `told` elsewhere, and rules that follow from them."""
    apart = ("identity", "rules") if told else ("identity",)
    before, after = ({k: v for k, v in note.items() if k not in apart} for note in (old, new))
    return differences(after, before, look)


def _told(step: Note, look: Callable[[str], Note]) -> dict[str, Any]:
    """What a filter was told. Its method and version count too: another one is another filter under the same id."""
    identity = look(step["folder"]).get("identity", {})
    more = {"version": identity.get("version"), "over": step.get("over"), "files": identity.get("files")}
    return {"filter": step["filter"], **more, **identity.get("parameters", {})}


def _changes(old: Any, new: Any, path: str = "") -> Iterator[tuple[str, Any, Any]]:
    """(path, in A, in B) of each value that differs: maps key by key, lists of maps entry by entry."""
    old, new = (dict(enumerate(v)) if isinstance(v, list) and v and isinstance(v[0], dict) else v for v in (old, new))
    if isinstance(old, dict | None) and isinstance(new, dict | None) and (old or new):
        for name in dict.fromkeys([*(old or {}), *(new or {})]):
            yield from _changes((old or {}).get(name), (new or {}).get(name), f"{path}.{name}" if path else str(name))
    elif old != new:
        yield path, old, new


def settings(a: Side, b: Side) -> list[Change]:
    """What the two recipes say differently besides their filters; nothing where a side is no recipe's pick."""
    if a.pick is None or b.pick is None:
        return []
    told = [Document(s.label, s.about.get("yaml", "")).value or {} for s in (a, b)]
    old, new = ({k: v for k, v in t.items() if k not in NOT_COMPARED} for t in told)
    return [Change(*c) for c in _changes(old, new)]


def reordered(found: Sequence[Pair]) -> bool:
    """Do filters that both have stand in another order in B?"""
    order = [p.b for p in found if p.place == "both" and p.b is not None]
    return order != sorted(order)
