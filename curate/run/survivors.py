"""Whom of a shard a filter or a barrier is asked about, where that is survivors.

asked_of(pool, reader, reads, above=("verdicts/where@0123456789ab",), removed_digest=pool.removed_digest())
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import pyarrow as pa

from curate.errors import UserError
from curate.pool.pool import Pool
from curate.run.reader import ShardReader
from curate.run.sparse import is_sparse
from stages.base import Column, Stage


def asked_of(
    pool: str, reader: ShardReader, reads: Sequence[Column], above: Sequence[str], removed_digest: str
) -> np.ndarray:
    """bool (rows,): survivors of the verdict folders `above` that were not removed.

    A removed sample may have a caption or none, as it was removed after captions were made or before: neither counts.

    Args:
        removed_digest: of the removed uids; "": none are left out.

    Raises:
        UserError: a survivor was never asked for what is read, or samples were removed since the run began.
    """
    asked = reader.survivors(above)
    if removed_digest:
        asked &= ~reader.among(_removed(pool, removed_digest))
    for stage in {c.owner for c in reads if isinstance(c.owner, Stage) and is_sparse(c.owner)}:
        _refuse_unasked(reader.places[stage], reader, asked & ~reader.asked(stage))
    return asked


def _refuse_unasked(folder: str, reader: ShardReader, unasked: np.ndarray) -> None:
    if unasked.any():
        uid = reader.uid[int(np.flatnonzero(unasked)[0])].as_py().hex()
        raise UserError(
            f"{folder}: survivors were never asked about, the first is {uid}: they were removed when the others were "
            f"asked about, and are not now; delete the folders {reader.storage}/columns/*/_asked and run again"
        )


@lru_cache(maxsize=4)
def _removed(pool: str, digest: str) -> pa.Array:
    """Removed uids, of this digest: what is made of others would lie in a folder that is named by these.

    Raises:
        UserError: more were removed since.
    """
    now = Pool.open(pool)
    if now.removed_digest() != digest:
        raise UserError(f"{pool}: samples were removed from the pool during the run; run again, which goes on without")
    return now.removed
