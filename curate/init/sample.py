"""What a look at an input holds: counts that say whether they are exact, and rows taken at even distances."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from curate.run.sources.sidecars import Sample as Member

ROWS = 2000  # of a sample
FILES = 8  # that rows are taken from
BYTES = 32 << 20  # of text that is held in memory
T = TypeVar("T")


@dataclass(frozen=True)
class Count:
    """A number, and whether it was counted or estimated."""

    n: int
    exact: bool

    def __str__(self) -> str:
        if self.exact:
            return f"{self.n:,}"
        return f"about {round(self.n, 2 - len(str(self.n))):,}"

    def __add__(self, other: Count) -> Count:
        return Count(self.n + other.n, self.exact and other.exact)


@dataclass
class Sample:
    """What was taken of an input.

    columns: name -> type in words, of all further columns of tars and folders, and of all columns of tables. values:
    name -> values of the rows taken, where they are plain. members: of tars and folders, each picture and its texts.
    complaints: what readers refused, in words.
    """

    looked: int  # files that rows were taken from
    rows: Count
    size: Count
    columns: dict[str, str] = field(default_factory=dict)
    values: dict[str, list[Any]] = field(default_factory=dict)
    members: list[Member] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)

    @property
    def taken(self) -> int:
        return len(self.members) or max(map(len, self.values.values()), default=0)


class Thinned(Generic[T]):
    """Keeps, of any number of items, between `limit` and twice as many at even distances; all where they are few."""

    def __init__(self, limit: int) -> None:
        self.items: list[T] = []
        self.seen = 0
        self._limit, self._step = max(1, limit), 1

    def add(self, items: Iterable[T]) -> None:
        for item in items:
            if self.seen % self._step == 0:
                self.items.append(item)
                if len(self.items) == 2 * self._limit:
                    self.items, self._step = self.items[::2], 2 * self._step
            self.seen += 1


def spread(items: Sequence[T], n: int) -> list[T]:
    """At most n of the items at even distances, the first among them."""
    n = min(n, len(items))
    return [items[i * len(items) // n] for i in range(n)]
