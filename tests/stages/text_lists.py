"""A captioner that needs no model, for stages over what captioners write."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import pyarrow as pa

from stages.base import TEXT, Batch, Column, Stage
from stages.texts import TEXTS, several


class Told(Stage):
    """`told`: texts that a test says; one a sample, or lists."""

    sparse: ClassVar[bool] = True
    many: bool = False

    def reads(self) -> tuple[Column, ...]:
        return ()

    def writes(self) -> pa.Schema:
        return pa.schema([("told", TEXTS if self.many else pa.string())])


class Teller(Told):
    """The web's text and two of its own, in a recipe."""

    many: bool = True

    def reads(self) -> tuple[Column, ...]:
        return (TEXT,)

    def run(self, batch: Batch) -> pa.Table:
        rows = [None if t is None else [f"no {t}", t, "a red bus and a red bus and"] for t in batch[TEXT].to_pylist()]
        return pa.table([several(rows, "told")], schema=self.writes())


ONE, MANY = Column(Told(), "told"), Column(Told(many=True), "told")


def one(texts: Sequence[str | None], images: Sequence[bytes] | None = None, web: Sequence[str | None] = ()) -> Batch:
    """A batch whose column ONE has these texts, and whose web text is `web`, or null."""
    return _with(ONE, pa.array(texts, pa.string()), images, web)


def many(
    rows: Sequence[Sequence[str | None] | None], images: Sequence[bytes] | None = None, web: Sequence[str | None] = ()
) -> Batch:
    """The same, of lists in MANY."""
    return _with(MANY, several(rows, "told"), images, web)


def _with(column: Column, values: Any, images: Sequence[bytes] | None, web: Sequence[str | None]) -> Batch:
    facts = pa.table({"text": pa.array(web or [None] * len(values), pa.string())})
    batch = Batch.of(facts, images)
    batch.add({column: values})
    return batch
