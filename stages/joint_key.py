"""One key of several: what makes a pair the same pair.

    columns:
      - joint_key: {of: [phash64, text_clean], name: pair}
    filters:
      - cap: {by: pair, most: 1, over: survivors}      # COYO-700M: a picture, by pHash, stays once with the same text

COYO-700M (Byeon et al. 2022, dataset card) drops pairs that recur by (image_phash, text); the same picture may stay
with other texts. LAION-400M drops what recurs by (url, text). Followed: the cards; text_clean is the text as COYO has
it by then, with white space collapsed. No weights are needed.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from pydantic import Field, field_validator

from stages.base import Batch, Column, Source, Stage
from stages.draws import hash64_halves
from stages.keys import Key
from stages.shuffle import uid_array


class JointKey(Stage):
    """Column `<name>`, 16 bytes: equal where all parts are equal; null where one of them has no key.

    Args:
        of: its parts: text, text_clean, text_lower, url, domain, sha256, phash64, or any column of strings or numbers.
        name: the name of the column.

    Example:
        JointKey(of=("url", "text"), name="link")
    """

    of: tuple[Source, ...] = Field(min_length=2)
    name: str = Field(default="pair", pattern="^[a-z][a-z0-9_]{0,63}$")

    @field_validator("of")
    @classmethod
    def _differ(cls, of: tuple[Column, ...]) -> tuple[Column, ...]:
        if len(set(of)) < len(of):
            raise ValueError(f"joint_key: a part stands twice in {', '.join(part.field for part in of)}")
        return of

    def reads(self) -> tuple[Column, ...]:
        return tuple(dict.fromkeys(Key.of(part).column for part in self.of))

    def writes(self) -> pa.Schema:
        return pa.schema([(self.name, pa.binary(16))])

    def run(self, batch: Batch) -> pa.Table:
        whole = np.ones(batch.num_rows, bool)
        high, low = np.zeros((2, batch.num_rows), np.uint64)
        for number, part in enumerate(map(Key.of, self.of)):
            has, *halves = part.hashes(pa.table({part.column.field: batch[part.column]}))
            each = np.zeros((2, batch.num_rows), np.uint64)
            each[:, has] = halves
            high = hash64_halves(number, "joint high", high, each[0])
            low = hash64_halves(number, "joint low", low, each[1] ^ each[0])
            whole &= has
        return pa.table([uid_array(high, low, whole)], schema=self.writes())
