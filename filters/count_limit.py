"""Drop what occurs too often, or too rarely, among what is left: all of it, where a cap keeps some.

    - count_limit: {by: text_clean, most: 10, over: survivors}                # COYO-700M: texts that occur > 10 times
    - count_limit: {by: text, distinct: sha256, most: 10, over: pool}         # ALIGN: texts shared by > 10 pictures

COYO-700M (Byeon et al. 2022), dataset card: texts are counted with white space collapsed and after other languages are
gone, so `over: survivors`, below the language filter; counted over the pool, or as written, another set stays. ALIGN
(Jia et al. 2021) counts on the raw pool: `over: pool`, or the columns of `key_counts`, whose thresholds cost nothing to
change. No weights are needed; counts are exact (`stages/counting.py`).
"""

from __future__ import annotations

from typing import Self

import numpy as np
import pyarrow as pa
from pydantic import Field, model_validator

from filters.base import MISSING, VERDICT, Bound, GlobalFilter, Margin, OnMissing
from filters.missing import refuse_missing
from stages.base import Inputs, Output, Phase, PhaseFile, Shape, ShardColumns
from stages.keys import Key, KeyCounting
from stages.shuffle import Layout


class CountLimit(GlobalFilter):
    """Keeps samples whose key occurs at least `least` and at most `most` times; reasons "too_common", "too_rare".

    The verdict has `occurrences`, int64: the count that decided.

    Args:
        by: text, text_clean, text_lower, url, domain, sha256, phash64, or the plain name of another column.
        distinct: the same choices: count not samples but different ones of these.
        most, least: inclusive; one of them at least.
        on_missing: what becomes of samples without a key: drop (reason "missing"), keep, or error.
    """

    by: str = Field(min_length=1)
    distinct: str | None = Field(default=None, min_length=1)
    most: int | None = Field(default=None, ge=0)
    least: int | None = Field(default=None, ge=0)
    on_missing: OnMissing = "error"

    @model_validator(mode="after")
    def _bounds_make_sense(self) -> Self:
        if self.most is None and self.least is None:
            raise ValueError("count_limit needs a bound: most or least")
        if self.most is not None and self.least is not None and self.least > self.most:
            raise ValueError(f"count_limit: least {self.least} is above most {self.most}: nothing can pass")
        return self

    @property
    def _counting(self) -> KeyCounting:
        return KeyCounting(Key.of(self.by), None if self.distinct is None else Key.of(self.distinct))

    def reads(self) -> tuple[str, ...]:
        keys = (self.by,) if self.distinct is None else (self.by, self.distinct)
        return tuple(dict.fromkeys(Key.of(key).column.field for key in keys))

    def extra_verdicts(self) -> pa.Schema:
        return pa.schema([("occurrences", pa.int64())])

    def margins(self) -> tuple[Margin, ...]:
        low: tuple[Bound, ...] = ()
        high: tuple[Bound, ...] = ()
        if self.least is not None:
            low = ((float(self.least), "above", f"least {self.least}"),)
        if self.most is not None:
            high = ((float(self.most), "below", f"most {self.most}"),)
        return (Margin(f"{self.distinct or 'samples'} of one {self.by}", "occurrences", low + high),)

    def phases(self, shape: Shape) -> tuple[Phase, ...]:
        layout = Layout(shape)
        return (*self._counting.phases(layout), layout.to_shards("verdict", "rows"))

    def run(self, phase: str, part: str, inputs: Inputs) -> Output:
        if phase != "verdict":
            return self._counting.run(phase, part, inputs)
        table = inputs.select(ShardColumns).only()
        counts = inputs.select(PhaseFile).only().column("count")
        return self._verdict(table, counts)

    def _verdict(self, table: pa.Table, counts: pa.ChunkedArray) -> Output:
        asked, has = table.column("asked").to_numpy(), counts.is_valid().to_numpy()
        if self.on_missing == "error":
            refuse_missing("count_limit", table, asked & ~has, str(self.by))
        count = counts.fill_null(0).to_numpy()
        common = has & (self.most is not None) & (count > (self.most or 0))
        rare = has & (self.least is not None) & (count < (self.least or 0))
        keep = np.where(has, ~common & ~rare, self.on_missing == "keep")
        reason = np.select([~has, common], [MISSING, "too_common"], "too_rare")
        columns = [
            pa.array(keep, mask=~asked),
            pa.array(reason, pa.string(), mask=keep | ~asked),
            pa.array(count, pa.int64(), mask=~asked | ~has),
        ]
        table = pa.table(columns, schema=pa.schema([*VERDICT, *self.extra_verdicts()]))
        return Output(table, {"kept": int(np.count_nonzero(keep & asked))})
