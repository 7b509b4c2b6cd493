"""A pool that was never hashed is refused; one with a flat picture, or without any sample, is not."""

from __future__ import annotations

import pyarrow as pa
import pytest

from stages.unhashed import refuse_unhashed


def test_only_where_no_sample_was_hashed() -> None:
    for fine in ([], [0], [None, 90], [0, None]):
        refuse_unhashed(pa.chunked_array([pa.array(fine, pa.uint8())]), "decontaminate", "give vectors")
    nothing = pa.chunked_array([pa.array([None], pa.uint8()), pa.nulls(2, pa.uint8())])
    with pytest.raises(ValueError, match=r"^decontaminate: none of 3 samples .* `ingest: \{phash: true\}`, or give"):
        refuse_unhashed(nothing, "decontaminate", "give vectors")
