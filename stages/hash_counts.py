"""Who has a hash that can be compared: counted over the pool before anything else, and told in footers.

    counted  a part a span: (samples, without_hash, without_quality, low_quality), one row
    checked  one part: their sums; where no sample has a hash it refuses, instead of finding that all are different

A pool with `ingest: {phash: false}` has none of the facts phash64, phash256 and phash_quality.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pyarrow as pa

from stages.base import Column, Input, Inputs, Output, Phase
from stages.shuffle import NEED, Layout

PAIRED, WITHOUT_HASH, WITHOUT_QUALITY, LOW_QUALITY = range(4)
"""What a sample lacks, uint8: nothing; its hash; its quality; structure."""

LACKS = "lacks"
"""The column of `nodes` with that."""

SAYS = ("samples", "without_hash", "without_quality", "low_quality")


def lacks(there: np.ndarray, flat: np.ndarray, quality: pa.ChunkedArray, min_quality: int) -> np.ndarray:
    """uint8 (n,), one of the above. there: has a hash; flat: it is that of a flat picture. A null quality is 0."""
    known, value = quality.is_valid().to_numpy(), quality.fill_null(0).to_numpy()
    found = np.where(flat | (value < min_quality), LOW_QUALITY, PAIRED).astype(np.uint8)
    found[~known & (min_quality > 0)] = WITHOUT_QUALITY
    found[~there] = WITHOUT_HASH
    return found


def counted(lacking: np.ndarray) -> Output:
    """One row of counts, which are the footer too."""
    times = np.bincount(lacking, minlength=len(SAYS)).tolist()
    return _row([len(lacking), *times[1:]])


def checked(inputs: Inputs, by: Column, quality: Column | None) -> Output:
    """The sums of all `counted`; quality: None where none is asked for.

    Raises:
        ValueError: there are samples, and none has the fact that is compared, or its quality.
    """
    found = pa.concat_tables(list(inputs))
    sums = [int(found.column(name).to_numpy().sum()) for name in SAYS]
    samples, without, no_quality, _ = sums
    if samples and by.owner is None and without == samples:
        raise ValueError(_nothing(samples, by, "by"))
    if quality is not None and quality.owner is None and samples > without and without + no_quality == samples:
        raise ValueError(_nothing(samples, quality, "quality"))
    return _row(sums)


def _nothing(samples: int, column: Column, parameter: str) -> str:
    return (
        f"{parameter}: none of {samples:,} samples has a {column.field}, so that nothing would be found. A pool that "
        "was filled with `ingest: {phash: false}` has no phash64, phash256 or phash_quality: fill a new one with "
        "phash: true, or compute hashes from the stored pixels with the stage `fingerprints` (phash64_stored, "
        "phash256_stored, ...) and name one of those"
    )


def _row(numbers: Sequence[int]) -> Output:
    rows = {name: [int(n)] for name, n in zip(SAYS, numbers, strict=True)}
    schema = pa.schema([(name, pa.int64()) for name in SAYS])
    return Output(pa.table(rows, schema=schema), {name: n for name, (n,) in rows.items()})


def counted_phase(layout: Layout, inputs: Callable[[str], Sequence[Input]]) -> Phase:
    """A part a span; `layout` is stamped."""
    return Phase("counted", layout.spans, inputs, local=True, need=NEED)


def checked_phase(layout: Layout, counts: Callable[[str], Input]) -> Phase:
    """One part; `counts`: where those of a span are."""
    return Phase("checked", ("all",), lambda _: tuple(counts(span) for span in layout.spans))
