"""The stage `phash`: perceptual hashes of stored pixels (stages/fingerprint.py says which)."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from stages.base import IMAGE, Batch, Column, Stage
from stages.fingerprint import VERSION, decoders, of_pixels


class PHash(Stage):
    """Hashes of the stored pixels, beside the facts `phash64` and `phash256`, which are of the received ones.

    The columns' folder is named after, among others, the versions of the hashes and of the packages that decode.
    """

    def identity(self) -> dict[str, Any]:
        """With the versions that decide about the bits."""
        return {**super().identity(), "algorithms": {"phash": VERSION}, "decoders": decoders()}

    def reads(self) -> tuple[Column, ...]:
        return (IMAGE,)

    def writes(self) -> pa.Schema:
        return pa.schema(
            [
                ("phash64_stored", pa.uint64()),
                ("phash256_stored", pa.binary(32)),
                ("phash_quality_stored", pa.uint8()),
                ("error", pa.string()),
            ]
        )

    def run(self, batch: Batch) -> pa.Table:
        found = [None if rgb is None else of_pixels(rgb) for rgb in batch.images()]
        columns = [
            [f and f.phash64 for f in found],
            [f and f.phash256 for f in found],
            [f and f.quality for f in found],
            batch.image_errors(),
        ]
        return pa.table(columns, schema=self.writes())
