"""A plan: the steps of a run in their order, with reasons and prices."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from curate.run.planning.amounts import Priced, Totals, totals
from curate.run.planning.lists import Unread
from curate.run.planning.machine import Machine
from curate.run.planning.rates import Rate

if TYPE_CHECKING:
    from curate.recipe import Recipe


@dataclass(frozen=True)
class Plan:
    """A recipe against its pool as it stands.

    exists: is there a pool? claimed: shards of the lists that are read; shards, samples: those with images. ahead:
    lists that are not read. listed: rows of all lists. rates: what the prices were made of, by method. pick, pack:
    folders, None where they cannot be named before ingest. shadowed: input columns that hide a stage's. sampled: what
    was measured just now.
    """

    recipe: Recipe
    exists: bool
    claimed: int
    shards: int
    samples: int
    listed: int
    ahead: tuple[Unread, ...]
    steps: tuple[Priced, ...]
    rates: Mapping[str, Rate]
    machine: Machine
    pick: str | None
    pack: str | None
    shadowed: tuple[tuple[str, str], ...]
    sampled: str = ""

    @cached_property
    def totals(self) -> Totals:
        return totals(self.steps)

    def for_rows(self, rows: float) -> tuple[Priced, ...]:
        """The steps as if nothing were there and the lists had so many rows: all costs in proportion."""
        return tuple(p.scaled(rows / self.listed) for p in self.steps) if self.listed else ()
