"""Pools whose pictures were never hashed: said as soon as it is seen, as nothing would ever be found there.

refuse_unhashed(table.column("phash_quality"), "decontaminate", "compare by bytes alone (distance: null)")
"""

from __future__ import annotations

import pyarrow as pa


def refuse_unhashed(quality: pa.ChunkedArray, method: str, else_do: str) -> None:
    """Nothing, where a sample was hashed, or there is no sample.

    Of a pool that hashes, every sample has a `phash_quality`, also a flat picture (0).

    Args:
        quality: `phash_quality` of one or more whole shards.
        method: name of the filter or barrier.
        else_do: what else helps, besides another pool.

    Raises:
        ValueError: all are null.
    """
    if len(quality) and quality.null_count == len(quality):
        raise ValueError(
            f"{method}: none of {len(quality):,} samples has a perceptual hash, so no copy can be found by one; the "
            "pool was made with `ingest.phash: false` or `ingest.decode: header`. Make a new one with "
            f"`ingest: {{phash: true}}`, or {else_do}"
        )
