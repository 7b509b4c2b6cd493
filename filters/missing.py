"""What global filters say of a sample without a value, where nothing says what then.

if self.on_missing == "error":
    refuse_missing("cap", table, asked & ~present, "'domain'")
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa


def refuse_missing(
    method: str, table: pa.Table, lost: np.ndarray, what: str, ways: tuple[str, ...] = ("drop", "keep")
) -> None:
    """Nothing, where no sample is lost.

    Args:
        method: name of the filter.
        table: of a shard, with its uids.
        lost: bool (rows,): asked, and without a value.
        what: they lack, as it is told.
        ways: values of `on_missing` that the filter takes besides "error".

    Raises:
        ValueError: names the first of them.
    """
    if not lost.any():
        return
    uid = table.column("uid")[int(np.flatnonzero(lost)[0])].as_py().hex()
    advice = " or ".join(f"`on_missing: {way}`" for way in ways)
    raise ValueError(f"{method}: sample {uid} has no {what}, and nothing says what then; add {advice} to this filter")
