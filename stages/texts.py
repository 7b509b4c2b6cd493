"""Columns of texts: one a sample, or a list of them, each with the name of where it comes from.

    texts, offsets = texts_of(column)                    # a flat list of strings, whatever the column is
    like(column, [score(t) for t in texts], pa.float32())       # a scalar where it was one, else a list as long

A stage over texts follows one rule: scalar in, scalar out; list in, list of equal length out.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

TEXTS = pa.list_(pa.struct([("source", pa.string()), ("text", pa.string())]))
"""Type of a column with several texts a sample; a null text is one that could not be had."""


def is_list(kind: pa.DataType) -> bool:
    """Whether a column of this type has several texts a sample."""
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind))


def texts_of(array: pa.Array | pa.ChunkedArray) -> tuple[list[str | None], np.ndarray]:
    """(all texts of a column, one after another; offsets): row i has ``texts[offsets[i]:offsets[i + 1]]``.

    Args:
        array: string, large_string, list<string>, or `TEXTS`; a null list counts as an empty one, a null string as
            one text that is None.

    Returns:
        texts: list of str or None. offsets: int64 (rows + 1,), the first 0.

    Raises:
        ValueError: the column is of another type.
    """
    array = _whole(array)
    return _flat(array).to_pylist(), offsets_of(array)


def sources_of(array: pa.Array | pa.ChunkedArray) -> list[str | None]:
    """Where each text of `texts_of` comes from; None where the column does not say."""
    array = _whole(array)
    if is_list(array.type) and pa.types.is_struct(array.type.value_type):
        return list(pc.struct_field(array.flatten(), "source").to_pylist())
    return [None] * len(_flat(array))


def like(array: pa.Array | pa.ChunkedArray, values: Sequence[Any] | pa.Array, kind: pa.DataType) -> pa.Array:
    """A column of the shape of `array` with a value for each text that `texts_of` found in it.

    Args:
        values: as many as there are texts; None (of an array: null) where there is no value.
        kind: type of one value.

    Returns:
        kind where `array` has one text a row, else list<kind>, null where `array` is null.

    Raises:
        ValueError: another number of values than of texts.
    """
    array = _whole(array)
    items = values if isinstance(values, pa.Array) else pa.array(values, kind)
    offsets = offsets_of(array)
    if len(items) != offsets[-1]:
        raise ValueError(f"{len(items)} values for {offsets[-1]} texts")
    items = items.cast(kind)
    return items if not is_list(array.type) else _lists(items, offsets, array)


def like_type(array_type: pa.DataType, kind: pa.DataType) -> pa.DataType:
    """Type of what `like` makes of a column of `array_type`."""
    return pa.list_(kind) if is_list(array_type) else kind


def retold(array: pa.Array | pa.ChunkedArray, values: Sequence[str | None], source: str | None = None) -> pa.Array:
    """As `like` for other texts in place of the ones there: string for string, `TEXTS` for lists.

    Args:
        source: where the new texts come from; None: each keeps the source of the one that it stands for.
    """
    array = _whole(array)
    if not is_list(array.type):
        return like(array, values, pa.string())
    sources = sources_of(array) if source is None else [source] * len(values)
    items = pa.array([{"source": s, "text": t} for s, t in zip(sources, values, strict=True)], TEXTS.value_type)
    return like(array, items, TEXTS.value_type)


def several(rows: Sequence[Sequence[str | None] | None], source: str) -> pa.Array:
    """A `TEXTS` column of lists of texts that all come from one source; None gives null."""
    return pa.array(
        [None if row is None else [{"source": source, "text": text} for text in row] for row in rows], TEXTS
    )


def rows_of(values: Sequence[Any], offsets: np.ndarray) -> list[list[Any]]:
    """Values of `texts_of`'s order, cut into the rows that they belong to."""
    return [list(values[a:b]) for a, b in pairwise(offsets.tolist())]


def offsets_of(array: pa.Array | pa.ChunkedArray) -> np.ndarray:
    """The offsets of `texts_of`, int64 (rows + 1,), without the texts."""
    array = _whole(array)
    if not is_list(array.type):
        return np.arange(len(array) + 1, dtype=np.int64)
    lengths = pc.list_value_length(array).fill_null(0).to_numpy(zero_copy_only=False)
    return np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)


def _whole(array: pa.Array | pa.ChunkedArray) -> pa.Array:
    return array.combine_chunks() if isinstance(array, pa.ChunkedArray) else array


def _flat(array: pa.Array) -> pa.Array:
    """All texts as one string array, those of null lists left out."""
    flat = array.flatten() if is_list(array.type) else array
    if is_list(array.type) and pa.types.is_struct(flat.type) and flat.type.get_field_index("text") >= 0:
        flat = pc.struct_field(flat, "text")
    if not (pa.types.is_string(flat.type) or pa.types.is_large_string(flat.type) or pa.types.is_null(flat.type)):
        raise ValueError(f"a column of texts has strings, or lists of them or of (source, text), not {array.type}")
    return flat


def _lists(items: pa.Array, offsets: np.ndarray, array: pa.Array) -> pa.Array:
    mask = pa.array(array.is_null().to_numpy(zero_copy_only=False))
    return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), items, type=pa.list_(items.type), mask=mask)
