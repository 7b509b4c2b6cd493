"""A user's own stages and filter, named in recipes by import path."""

from __future__ import annotations

import pyarrow as pa

from filters.base import RowFilter
from stages.base import IMAGE, TEXT, Batch, Column, Source, Stage


class Brightness(Stage):
    """A column `brightness`."""

    gain: float = 1.0

    def reads(self) -> tuple[Column, ...]:
        return (IMAGE,)

    def writes(self) -> pa.Schema:
        return pa.schema([("brightness", pa.float32())])


class Echo(Stage):
    """A captioner that says the text again: a column `echo` of texts."""

    sparse = True
    times: int = 1

    def reads(self) -> tuple[Column, ...]:
        return (TEXT,)

    def writes(self) -> pa.Schema:
        return pa.schema([("echo", pa.string())])

    def run(self, batch: Batch) -> pa.Table:
        return pa.table({"echo": batch[TEXT]})


class Taken(Stage):
    """Writes what is a fact already."""

    def reads(self) -> tuple[Column, ...]:
        return (IMAGE,)

    def writes(self) -> pa.Schema:
        return pa.schema([("width", pa.int32())])


class Listed(RowFilter):
    """Its parameter is a list, which cannot be hashed."""

    names: list[str]


class Bright(RowFilter):
    """Keeps bright pictures."""

    at_least: float

    def reads(self) -> tuple[str, ...]:
        return ("brightness",)

    def rules(self) -> dict[str, str]:
        return {"dark": f"brightness >= {self.at_least}"}


class Doubled(Stage):
    """Twice another column."""

    of: Source

    def reads(self) -> tuple[Column, ...]:
        return (self.of,)

    def writes(self) -> pa.Schema:
        return pa.schema([(f"doubled_{self.of.field}".replace("doubled_doubled", "twice"), pa.int32())])
