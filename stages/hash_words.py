"""Hashes as they are stored, and as the words that are compared.

data, there = byte_rows(column, "phash256")        # uint8 (n, 32), bool (n,)
words = words_of(column, "phash256", 256)          # uint64 (n, 4), the most significant word first
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa


def byte_rows(column: pa.ChunkedArray | pa.Array, name: str) -> tuple[np.ndarray, np.ndarray]:
    """(uint8 (n, width), zeros where null; bool (n,), false where null) of a binary or uint64 column.

    Raises:
        ValueError: it is neither, or its values have several lengths.
    """
    if isinstance(column, pa.ChunkedArray):
        column = column.combine_chunks()
    there = column.is_valid().to_numpy(zero_copy_only=False)
    kind = column.type
    if pa.types.is_uint64(kind):
        return column.fill_null(0).to_numpy().astype(">u8").view(np.uint8).reshape(-1, 8), there.copy()
    if not (pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind)):
        raise ValueError(f"{name}: expected a column of binary values of one length, or of uint64, not {kind}")
    if pa.types.is_fixed_size_binary(kind):
        return _fixed(column, kind.byte_width, there), there.copy()
    values = column.drop_null().to_pylist()
    widths = sorted({len(v) for v in values})
    if len(widths) > 1:
        raise ValueError(f"{name}: the values of a signal have one length; here are some of {widths} bytes")
    width = widths[0] if widths else 0
    data = np.zeros((len(column), width), np.uint8)
    data[there] = np.frombuffer(b"".join(values), np.uint8).reshape(len(values), width)
    return data, there.copy()


def _fixed(column: pa.Array, width: int, there: np.ndarray) -> np.ndarray:
    if not len(column):
        return np.zeros((0, width), np.uint8)
    raw = np.frombuffer(column.buffers()[1], np.uint8, len(column) * width, column.offset * width)
    return np.where(there[:, None], raw.reshape(-1, width), np.uint8(0))


def words_of(column: pa.ChunkedArray | pa.Array, name: str, bits: int) -> np.ndarray:
    """uint64 (n, bits / 64), the most significant word first, zeros where null, of a uint64 or binary column.

    Raises:
        ValueError: the hashes are not of so many bits; no column of hashes, as in `byte_rows`.

    Example:
        >>> words_of(pa.array([bytes(31) + b"a", None]), "phash256", 256).tolist()
        [[0, 0, 0, 97], [0, 0, 0, 0]]
    """
    data, there = byte_rows(column, name)
    if 8 * data.shape[1] == bits:
        return np.ascontiguousarray(data).view(">u8").astype(np.uint64).reshape(len(data), bits // 64)
    if there.any() or data.shape[1]:
        raise ValueError(f"{name} has {column.type} of {8 * data.shape[1]} bits, not {bits}")
    return np.zeros((len(data), bits // 64), np.uint64)  # of plain binary that is all null
