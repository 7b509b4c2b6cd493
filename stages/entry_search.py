"""The two searches of `stages.entry_matcher`: by whole words, and by characters. Import it where it is used.

Both go over n padded texts (`stages.entry_kernels.spaced`) and return for each the entries in it, ascending, each once.
"""

from __future__ import annotations

import numpy as np
from numba import types

from stages.compiled import compiled
from stages.entry_kernels import (
    BASIS,
    EIGHT,
    LONG,
    ONE,
    SPACE,
    WORD,
    ZERO,
    Array,
    Int,
    _bytes,
    _i32,
    _i64,
    _longs,
    _u32,
    _u64,
    add,
    child_of,
    settle,
    stirred,
    word_of,
)

_found = types.Tuple((_u32, _i64))
_FULL, _NODE, _ENTRY = np.uint64(64), np.uint64(32), np.uint64(0x3FFFFFFF)
_CHILDREN, _ENDS = np.uint64(16), np.uint64(5)  # in the value of a word


@compiled(types.uint64(_bytes, types.uint64, types.uint64, _u64, _i64, _bytes, _u64))
def _look_up(data: Array, begin: Int, end: Int, table: Array, at: Array, arena: Array, words: Array) -> Int:
    """The value of each word of data[begin:end] into `words`, 0 for one that is in no entry; returns how many."""
    count, h, eight, shift, i = ZERO, BASIS, ZERO, ZERO, begin
    while i < end:  # the outer space ends the last word
        byte = data[i]
        if byte == SPACE:
            if i - begin <= EIGHT:
                words[count] = word_of(table, at, arena, data, begin, i, eight, i - begin)
            else:
                words[count] = word_of(table, at, arena, data, begin, i, stirred(h, eight), LONG)
            count += ONE
            h, eight, shift, begin = BASIS, ZERO, ZERO, i + ONE
        else:
            if shift == _FULL:
                h, eight, shift = stirred(h, eight), ZERO, ZERO
            eight |= np.uint64(byte) << shift
            shift += EIGHT
        i += ONE
    return count


@compiled(types.Tuple((_u32, types.int64))(_u64, types.uint64, _u64, _u32, types.int64))
def _walk(words: Array, count: Int, edges: Array, found: Array, n: Int) -> tuple[Array, Int]:
    """Add to found[:n] the entries that begin at each word."""
    i = ZERO
    while i < count:
        value, j = words[i], i + ONE
        if (value >> _ENDS) & _ENTRY:
            found, n = add(found, n, np.int64((value >> _ENDS) & _ENTRY) - 1)
        more, node = value & _CHILDREN, (value >> WORD) - ONE
        while more and j < count and words[j]:
            value = child_of(edges, node, (words[j] >> WORD) - ONE)
            if (value >> ONE) & _ENTRY:
                found, n = add(found, n, np.int64((value >> ONE) & _ENTRY) - 1)
            more, node, j = value & ONE, value >> _NODE, j + ONE
        i += ONE
    return found, n


@compiled(_found(_bytes, _longs, _u64, _i64, _bytes, _u64))
def by_words(data: Array, offsets: Array, table: Array, at: Array, arena: Array, edges: Array) -> tuple[Array, Array]:
    """Sequences of whole words: each word is looked up once, then the tree of sequences is walked from each.

    Returns:
        found uint32, ends int64 (n + 1,): text i has found[ends[i]:ends[i + 1]].
    """
    rows = len(offsets) - 1
    longest = 0
    for row in range(rows):
        longest = max(longest, offsets[row + 1] - offsets[row])
    words = np.empty(longest + 1, np.uint64)
    found, ends = np.empty(max(8 * rows, 64), np.uint32), np.zeros(rows + 1, np.int64)
    n = 0
    for row in range(rows):
        begin, end = np.uint64(offsets[row] + 1), np.uint64(offsets[row + 1])
        count = _look_up(data, begin, end, table, at, arena, words)
        start = n
        found, n = _walk(words, count, edges, found, n)
        n = settle(found, start, n)
        ends[row + 1] = n
    return found[:n].copy(), ends


@compiled(types.Tuple((types.int64, types.int64))(_bytes, types.int64))
def character(data: Array, i: int) -> tuple[Int, Int]:
    """(code point, its bytes) at data[i] of valid UTF-8."""
    a = np.int64(data[i])
    if a < 0x80:
        return a, 1
    b = np.int64(data[i + 1]) & 0x3F
    if a < 0xE0:
        return ((a & 0x1F) << 6) | b, 2
    c = np.int64(data[i + 2]) & 0x3F
    if a < 0xF0:
        return ((a & 0x0F) << 12) | (b << 6) | c, 3
    return ((a & 0x07) << 18) | (b << 12) | (c << 6) | (np.int64(data[i + 3]) & 0x3F), 4


@compiled(types.Tuple((_i64, _i32))(_bytes, _longs, _longs))
def characters(data: Array, starts: Array, ends: Array) -> tuple[Array, Array]:
    """(first (n + 1,), steps): before the code points of each region stands a 0, the root of all."""
    rows, total = len(starts), 0
    for row in range(rows):
        total += ends[row] - starts[row] + 1
    first, steps = np.zeros(rows + 1, np.int64), np.empty(total, np.int32)
    n = 0
    for row in range(rows):
        steps[n] = 0
        n += 1
        i = starts[row]
        while i < ends[row]:
            point, size = character(data, i)
            steps[n] = point
            n += 1
            i += size
        first[row + 1] = n
    return first, steps[:n].copy()


@compiled(_found(_bytes, _longs, _u64))
def by_characters(data: Array, offsets: Array, edges: Array) -> tuple[Array, Array]:
    """Sequences of characters that may begin and end anywhere: the tree is walked from each character.

    Returns: as `by_words`.
    """
    rows = len(offsets) - 1
    longest = 0
    for row in range(rows):
        longest = max(longest, offsets[row + 1] - offsets[row])
    points = np.empty(longest + 1, np.uint64)
    found, ends = np.empty(max(8 * rows, 64), np.uint32), np.zeros(rows + 1, np.int64)
    n = 0
    for row in range(rows):
        count, i = 0, offsets[row]
        while i < offsets[row + 1]:
            point, size = character(data, i)
            points[count] = point
            count += 1
            i += size
        start = n
        for i in range(count):
            more, node, j = ONE, ZERO, i
            while more and j < count:
                value = child_of(edges, node, points[j])
                if (value >> ONE) & _ENTRY:
                    found, n = add(found, n, np.int64((value >> ONE) & _ENTRY) - 1)
                more, node, j = value & ONE, value >> _NODE, j + 1
        n = settle(found, start, n)
        ends[row + 1] = n
    return found[:n].copy(), ends
