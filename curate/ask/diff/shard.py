"""A shard as the comparison reads it: its facts, and files that were checked to be row-aligned with them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curate.errors import UserError
from curate.pool.columns import read_table
from curate.pool.layout import marker, part_file
from curate.pool.pool import Pool
from stages.base import shard_name

FACTS_READ = ("uid", "url", "list", "original_width", "original_height")


@dataclass
class Shard:
    """One shard of a pool, read when it is asked for."""

    pool: Pool
    number: int

    @cached_property
    def _read(self) -> tuple[pa.Table, dict[str, Any]]:
        return read_table(self.pool.storage, marker(self.number), FACTS_READ)

    @property
    def facts(self) -> pa.Table:
        return self._read[0]

    @cached_property
    def uid(self) -> pa.Array:
        """binary(16)."""
        return self.facts.column("uid").combine_chunks()

    def there(self, removed: pa.Array) -> np.ndarray:
        """bool (rows,): not removed from the pool."""
        return ~pc.is_in(self.uid, value_set=removed).to_numpy(zero_copy_only=False)

    def fact(self, name: str) -> pa.ChunkedArray:
        """One more column of the facts, by name."""
        return read_table(self.pool.storage, marker(self.number), [name])[0].column(name)

    def aligned(self, folder: str, columns: Sequence[str] | None = None) -> pa.Table:
        """The shard's file of a folder.

        Raises:
            UserError: it is not there, or is of other rows.
        """
        rel = part_file(folder, shard_name(self.number))
        where = f"{self.pool.storage}/{rel}"
        try:
            table, footer = read_table(self.pool.storage, rel, columns)
        except FileNotFoundError:
            raise UserError(f"{where} is missing: what made it is not finished; run its recipe again") from None
        if any(footer.get(key) != self._read[1].get(key) for key in ("rows", "uid_digest")):
            raise UserError(
                f"{where}: does not belong to shard {self.number} as it is now (rows or uids differ); "
                "delete this file and run its recipe again"
            )
        return table
