"""Hashes as words: big-endian, zeros for nulls, whatever the column's type, slices and chunks."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest

from stages.hash_words import byte_rows, words_of

NUMBERS = [0x0001020304050607, None, 2**64 - 1]
AS_BYTES = [None if n is None else n.to_bytes(8, "big") for n in NUMBERS]


@pytest.mark.parametrize(
    "column",
    [
        pa.array(NUMBERS, pa.uint64()),
        pa.array(AS_BYTES, pa.binary(8)),
        pa.array(AS_BYTES, pa.binary()),
        pa.chunked_array([pa.array(AS_BYTES[:1], pa.binary(8)), pa.array([b"x" * 8, *AS_BYTES[1:]], pa.binary(8))[1:]]),
    ],
)
def test_a_hash_is_the_same_words_however_it_is_stored(column: Any) -> None:
    assert words_of(column, "h", 64).tolist() == [[0x0001020304050607], [0], [2**64 - 1]]
    assert byte_rows(column, "h")[1].tolist() == [True, False, True]
    assert words_of(column.slice(2), "h", 64).tolist() == [[2**64 - 1]]


def test_long_hashes_begin_with_the_most_significant_word() -> None:
    column = pa.array([bytes(7) + b"\x01" + bytes(23) + b"\x02", None], pa.binary(32))
    assert words_of(column, "h", 256).tolist() == [[1, 0, 0, 2], [0, 0, 0, 0]]


@pytest.mark.parametrize("kind", [pa.uint64(), pa.binary(8), pa.binary()])
def test_of_no_hashes_there_are_no_words(kind: pa.DataType) -> None:
    assert words_of(pa.chunked_array([], kind), "h", 64).shape == (0, 1)
    assert words_of(pa.array([None, None], kind), "h", 64).tolist() == [[0], [0]]


def test_hashes_of_another_length_are_refused() -> None:
    for column in (pa.array(AS_BYTES, pa.binary(8)), pa.array(NUMBERS, pa.uint64()), pa.array([b"abcd"])):
        with pytest.raises(ValueError, match=r"h has .* bits, not 256"):
            words_of(column, "h", 256)
    with pytest.raises(ValueError, match="h: expected a column of binary values"):
        words_of(pa.array(["abc"]), "h", 64)
    with pytest.raises(ValueError, match="one length"):
        words_of(pa.array([b"a" * 8, b"a" * 4]), "h", 64)
