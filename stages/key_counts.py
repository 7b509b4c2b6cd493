"""How often a sample's text, picture, url or domain occurs in the whole pool; exact.

    - key_counts: {by: text_clean}                          # text_clean_count: COYO-700M drops above 10
    - key_counts: {by: sha256, distinct: text}              # sha256_texts: ALIGN drops pictures with over 1,000 texts
    - key_counts: {by: text, distinct: sha256}              # text_sha256s: ALIGN drops texts of over 10 pictures

ALIGN (Jia et al. 2021), section 3: both counts are of the raw pool, so both are taken here and then bounded; dropping
by one before counting the other gives another set. COYO-700M (Byeon et al. 2022, dataset card) counts texts with white
space collapsed, and *after* it has dropped other languages: that is `filters/count_limit.py` with `over: survivors`.
Which key the papers take for "the same image" is not said; sha256 of the bytes received is the strict reading, phash64
the lax one. No weights are needed.

How it stays exact in bounded memory: `stages/counting.py`. What may be counted: `stages/keys.py`.
"""

from __future__ import annotations

import pyarrow as pa
from pydantic import Field

from stages.base import Barrier, Column, Inputs, Output, Phase, PhaseFile, Shape, Source
from stages.keys import Key, KeyCounting
from stages.shuffle import Layout


class KeyCounts(Barrier):
    """Column `<by>_count`, or `<by>_<distinct>s`, int64: samples of the pool with this key, the sample itself included;
    with `distinct`, how many different ones of those occur with it. Null where the sample has no key.

    Args:
        by: text, text_clean, text_lower, url, domain, sha256, phash64, or any column of strings or numbers.
        distinct: the same choices; a sample without one of those counts for nothing.
        name: of the column, if another than these.

    Raises:
        ValueError: the column holds lists or vectors.

    Example:
        KeyCounts(by="domain", distinct="sha256")     # domain_sha256s: different pictures of a host
    """

    by: Source
    distinct: Source | None = None
    name: str | None = Field(default=None, pattern="^[a-z][a-z0-9_]{0,63}$")

    @property
    def column(self) -> str:
        """Name of the column."""
        default = f"{self.by.field}_count" if self.distinct is None else f"{self.by.field}_{self.distinct.field}s"
        return self.name or default

    @property
    def _counting(self) -> KeyCounting:
        return KeyCounting(Key.of(self.by), None if self.distinct is None else Key.of(self.distinct))

    def reads(self) -> tuple[Column, ...]:
        keys = (self.by,) if self.distinct is None else (self.by, self.distinct)
        return tuple(dict.fromkeys(Key.of(key).column for key in keys))

    def writes(self) -> pa.Schema:
        return pa.schema([(self.column, pa.int64())])

    def phases(self, shape: Shape) -> tuple[Phase, ...]:
        layout = Layout(shape)
        return (*self._counting.phases(layout), layout.to_shards("counts", "rows"))

    def run(self, phase: str, part: str, inputs: Inputs) -> Output:
        if phase != "counts":
            return self._counting.run(phase, part, inputs)
        return Output(pa.table(inputs.select(PhaseFile).only().columns, schema=self.writes()))
