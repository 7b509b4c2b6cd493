"""Inner loops of `stages.entry_matcher`: split texts into words, look entries up. Import it where it is used.

Bytes are UTF-8. A *region* is what lies between the outer spaces of a padded string; its words are what single spaces
part, so that a region of no bytes is one empty word.

Tables are open addressing with linear probing, of a power of two of slots, half full at most. A slot is a key and a
value next to each other, so that a look-up touches one line of the cache:

words    key: the bytes of a word of up to eight, else their hash, which is then compared byte for byte in the arena
         value: bits 0-3 its length, or LONG; from bit 4 on what `grow_tree` says of its node; from bit 35 on 1 + number
edges    key: node * 2^32 + step + 1        value: what `grow_tree` says of the child; from bit 32 on its number
node     bit 0: it has children; bits 1-30: 1 + the entry that ends there, 0 for none
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import types

from stages.compiled import compiled

Array = np.ndarray
Int = Any  # a number of the machine, which a type checker takes for one of numpy's

_bytes = types.Array(types.uint8, 1, "C", readonly=True)
_longs = types.Array(types.int64, 1, "C", readonly=True)
_u8, _u32, _u64, _i32, _i64 = types.uint8[::1], types.uint32[::1], types.uint64[::1], types.int32[::1], types.int64[::1]

SPACE = np.uint8(32)
ZERO, ONE, EIGHT = np.uint64(0), np.uint64(1), np.uint64(8)
LONG, WORD = np.uint64(15), np.uint64(35)
_4, _29, _32 = np.uint64(4), np.uint64(29), np.uint64(32)
BASIS, _MIX = np.uint64(0xCBF29CE484222325), np.uint64(0xBF58476D1CE4E5B9)

KINDS = np.zeros(256, np.uint8)
"""What `spaced` does with each byte: 0 copies it, 1 puts spaces around it, 2 makes a space of it."""
KINDS[list(b",.;:?!`")] = 1
KINDS[list(b"\t\n\r ")] = 2


@compiled(types.Tuple((_u8, _i64))(_bytes, _longs, types.boolean))
def spaced(data: Array, offsets: Array, collapse: bool) -> tuple[Array, Array]:
    """Each string between spaces, with spaces around , . ; : ? ! ` and instead of TAB, LF, CR.

    Args:
        data, offsets: bytes and int64 (n + 1,) of n strings.
        collapse: then make one space of each run of spaces; a string of nothing else becomes two.

    Returns:
        the same of the padded strings.
    """
    rows = len(offsets) - 1
    out = np.empty(3 * (offsets[rows] - offsets[0]) + 2 * rows, np.uint8)
    ends = np.zeros(rows + 1, np.int64)
    n = 0
    for row in range(rows):
        out[n] = SPACE
        n += 1
        for i in range(offsets[row], offsets[row + 1]):
            byte = data[i]
            kind = KINDS[byte]
            if kind != 0 and not (collapse and out[n - 1] == SPACE):
                out[n] = SPACE
                n += 1
            if kind != 2:
                out[n] = byte
                n += 1
            if kind == 1:
                out[n] = SPACE
                n += 1
        if not (collapse and out[n - 1] == SPACE and n > ends[row] + 1):
            out[n] = SPACE
            n += 1
        ends[row + 1] = n
    return out[:n].copy(), ends


# Indices are unsigned: signed ones may count from the end, which costs a test each time.


@compiled(types.uint64(types.uint64, types.uint64))
def stirred(h: Int, eight: Int) -> Int:
    """The hash `h` with eight bytes more."""
    h = (h ^ eight) * _MIX
    return h ^ (h >> _32)


@compiled(types.uint64(types.uint64, types.uint64))
def home(key: int, slots: int) -> Int:
    """Where the search for a key begins."""
    h = (key ^ (key >> _32)) * _MIX
    return (h ^ (h >> _29)) & (slots - ONE)


@compiled(types.UniTuple(types.uint64, 2)(_bytes, types.uint64, types.uint64))
def key_of(data: Array, start: Int, end: Int) -> tuple[Int, Int]:
    """(key, length or LONG) of the word data[start:end]; `stages.entry_search.by_words` does the same on its way."""
    h, eight, shift, i = BASIS, ZERO, ZERO, start
    while i < end:
        if shift == np.uint64(64):
            h, eight, shift = stirred(h, eight), ZERO, ZERO
        eight |= np.uint64(data[i]) << shift
        shift += EIGHT
        i += ONE
    if end - start <= EIGHT:
        return eight, end - start
    return stirred(h, eight), LONG


@compiled(types.uint64(_u64, _i64, _bytes, _bytes, types.uint64, types.uint64, types.uint64, types.uint64))
def word_of(table: Array, at: Array, arena: Array, data: Array, start: Int, end: Int, key: Int, length: Int) -> Int:
    """The value of the word data[start:end], or 0 where it is not there."""
    slots = np.uint64(len(table)) >> ONE
    slot = home(key, slots)
    while table[slot + slot + ONE]:
        value = table[slot + slot + ONE]
        if table[slot + slot] == key and value & LONG == length:
            if length != LONG:
                return value
            word = (value >> WORD) - ONE
            here, size, same = np.uint64(at[word]), end - start, ZERO
            if np.uint64(at[word + ONE]) - here == size:
                while same < size and arena[here + same] == data[start + same]:
                    same += ONE
                if same == size:
                    return value
        slot = (slot + ONE) & (slots - ONE)
    return ZERO


@compiled(types.uint64(_u64, types.uint64, types.uint64))
def child_of(edges: Array, node: int, step: int) -> Int:
    """The value of the edge from `node` by `step`, or 0 where there is none."""
    key = ((node << _32) | step) + ONE
    slots = np.uint64(len(edges)) >> ONE
    slot = home(key, slots)
    while edges[slot + slot]:
        if edges[slot + slot] == key:
            return edges[slot + slot + ONE]
        slot = (slot + ONE) & (slots - ONE)
    return ZERO


@compiled(types.void(_u64, types.uint64, types.uint64))
def put(table: Array, key: int, value: int) -> None:
    """A key that is not there yet; `value` is not 0."""
    slots = np.uint64(len(table)) >> ONE
    slot = home(key, slots)
    while table[slot + slot + ONE]:
        slot = (slot + ONE) & (slots - ONE)
    table[slot + slot], table[slot + slot + ONE] = key, value


@compiled(_u64(_u64, types.int64))
def roomy(table: Array, items: int) -> Array:
    """The table, or one twice as large with the same in it, so that one more than `items` fill half of it at most."""
    if 4 * (items + 1) <= len(table):
        return table
    larger = np.zeros(2 * len(table), np.uint64)
    for i in range(0, len(table), 2):
        if table[i + 1]:
            put(larger, table[i], table[i + 1])
    return larger


@compiled(types.Tuple((_u64, _i64, _u8, _i64, _i32))(_bytes, _longs, _longs))
def number_words(data: Array, starts: Array, ends: Array) -> tuple[Array, Array, Array, Array, Array]:
    """The words of n regions, each numbered once.

    Returns:
        table, at, arena: what `word_of` asks; a long word w is arena[at[w]:at[w + 1]].
        first (n + 1,), words: those of region i are words[first[i]:first[i + 1]].
    """
    rows, total, most = len(starts), 0, 0
    for row in range(rows):
        total += 1
        most += ends[row] - starts[row]
        for i in range(starts[row], ends[row]):
            if data[i] == SPACE:
                total += 1
    table, at, arena = np.zeros(64, np.uint64), np.zeros(total + 1, np.int64), np.empty(most, np.uint8)
    first, words = np.zeros(rows + 1, np.int64), np.empty(total, np.int32)
    known, n = 0, 0
    for row in range(rows):
        begin = starts[row]
        for i in range(starts[row], ends[row] + 1):
            if i == ends[row] or data[i] == SPACE:
                key, length = key_of(data, begin, i)
                value = word_of(table, at, arena, data, begin, i, key, length)
                if value == ZERO:
                    at[known + 1] = at[known]
                    if length == LONG:
                        at[known + 1] += i - begin
                        arena[at[known] : at[known + 1]] = data[begin:i]
                    known += 1
                    table = roomy(table, known)
                    value = (np.uint64(known) << WORD) | length
                    put(table, key, value)
                words[n] = np.int64(value >> WORD) - 1
                n += 1
                begin = i + 1
        first[row + 1] = n
    return table, at[: known + 1].copy(), arena[: at[known]].copy(), first, words


@compiled(types.Tuple((_u64, _u32, _i64))(_longs, types.Array(types.int32, 1, "C", readonly=True), types.int64))
def grow_tree(first: Array, steps: Array, roots: int) -> tuple[Array, Array, Array]:
    """The prefix tree of n sequences of steps; nodes 0 to roots - 1 stand for a first step of that number.

    Returns:
        edges: the table that `child_of` asks; nodes: of each node what the edges to it say, too.
        twins (n,): for each sequence the first that is equal to it.
    """
    rows = len(first) - 1
    edges = np.zeros(64, np.uint64)
    nodes, twins = np.zeros(roots + max(len(steps) - rows, 0), np.uint32), np.zeros(rows, np.int64)
    known = roots
    for row in range(rows):
        node = np.int64(steps[first[row]])
        for i in range(first[row] + 1, first[row + 1]):
            nodes[node] |= np.uint32(1)
            step = np.uint64(steps[i])
            value = child_of(edges, np.uint64(node), step)
            if value == ZERO:
                edges = roomy(edges, known - roots + 1)
                value = np.uint64(known) << _32
                put(edges, ((np.uint64(node) << _32) | step) + ONE, value)
                known += 1
            node = np.int64(value >> _32)
        if nodes[node] >> 1 == 0:
            nodes[node] |= np.uint32((row + 1) << 1)
        twins[row] = np.int64(nodes[node] >> 1) - 1
    for i in range(1, len(edges), 2):
        if edges[i]:
            edges[i] |= np.uint64(nodes[np.int64(edges[i] >> _32)])
    return edges, nodes[:known].copy(), twins


@compiled(types.void(_u64, _u32))
def tell_words(table: Array, nodes: Array) -> None:
    """Write into the table of words what the tree says of their nodes."""
    for i in range(1, len(table), 2):
        if table[i]:
            table[i] |= np.uint64(nodes[np.int64(table[i] >> WORD) - 1]) << _4


@compiled(types.Tuple((_u32, types.int64))(_u32, types.int64, types.int64))
def add(found: Array, n: int, entry: int) -> tuple[Array, Int]:
    """`found` with one more, made larger where it is full."""
    if n == len(found):
        more = np.empty(2 * n, np.uint32)
        more[:n] = found
        found = more
    found[n] = entry
    return found, n + 1


@compiled(types.int64(_u32, types.int64, types.int64))
def settle(found: Array, start: int, n: int) -> Int:
    """Sort found[start:n] and drop what recurs; the new end."""
    if n - start > 64:
        found[start:n] = np.sort(found[start:n])
    else:
        for i in range(start + 1, n):
            entry, j = found[i], i
            while j > start and found[j - 1] > entry:
                found[j] = found[j - 1]
                j -= 1
            found[j] = entry
    end = start
    for i in range(start, n):
        if i == start or found[i] != found[end - 1]:
            found[end] = found[i]
            end += 1
    return end
