"""Inner loops of `stages.hamming` and `stages.hamming_bands`. Import it where it is used.

A *label* is what a value is known by outside: its number, with the top bit set where it is OLD. Values of a *run* have
equal bits under a mask; within a run the fresh ones come before the old ones, so that the pairs of two old ones are a
triangle at its end that is never entered.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import types
from numba.extending import intrinsic

from stages.compiled import compiled

Array = np.ndarray
Int = Any  # a number of the machine, which a type checker takes for one of numpy's

_u64, _u32, _i64 = types.uint64[::1], types.uint32[::1], types.int64[::1]
_words, _labels, _flags = (types.Array(t, 1, "C", readonly=True) for t in (types.uint64, types.uint32, types.boolean))
_rows = types.Array(types.uint64, 2, "C", readonly=True)

OLD, NUMBER = np.uint32(1 << 31), np.uint32((1 << 31) - 1)
ZERO, ONE = np.uint64(0), np.uint64(1)
SHORT = np.uint64(16)
ROOM = np.uint64(SHORT * (SHORT - ONE) >> ONE)
RIGHT, LEFT = (np.array(side, np.uint64) for side in zip(*((j, i) for j in range(16) for i in range(j)), strict=True))
"""Pairs (i < j) of 16 things; the first n * (n - 1) / 2 of them are those of n things."""

LANES = np.uint64(32)  # values that are compared together before anybody asks which of them were near


def _population(context: Any, word: Any) -> Any:
    """Numba has no name for the machine's instruction."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.ctpop(arguments[0])

    return types.uint64(types.uint64), code


bits_of: Any = intrinsic(_population)
"""How many bits of a uint64 are set."""


@compiled(types.void(_words, _labels, types.uint64, types.uint64, _u64, _u32))
def scatter(values: Array, labels: Array, shift: Int, mask: Int, values_out: Array, labels_out: Array) -> None:
    """One pass of a radix sort, by (value >> shift) & mask; who is equal there keeps its order."""
    places = np.zeros(np.int64(mask) + 2, np.int64)
    for i in range(len(values)):
        places[((values[i] >> shift) & mask) + ONE] += 1
    for digit in range(1, len(places)):
        places[digit] += places[digit - 1]
    for i in range(len(values)):
        digit = (values[i] >> shift) & mask
        at = places[digit]
        values_out[at], labels_out[at] = values[i], labels[i]
        places[digit] = at + 1


# Indices are unsigned: signed ones may count from the end, which costs a test each time, and vectors.


@compiled(types.uint64(_words, types.uint64, types.uint64))
def end_of_run(values: Array, start: Int, key: Int) -> Int:
    """Where the run that begins at `start` ends."""
    value, end = values[start], start + ONE
    while end < np.uint64(len(values)) and (values[end] ^ value) & key == ZERO:
        end += ONE
    return end


@compiled(types.void(_words, _flags, types.uint64, _u64, _u32))
def fresh_first(values: Array, fresh: Array, key: Int, values_out: Array, labels_out: Array) -> None:
    """Within each run of equal bits under `key` the fresh values before the others; labels by position."""
    start = ZERO
    while start < np.uint64(len(values)):
        end = end_of_run(values, start, key)
        at = start
        for wanted in (True, False):
            for i in range(start, end):
                if fresh[i] == wanted:
                    values_out[at] = values[i]
                    labels_out[at] = np.uint32(i) if wanted else np.uint32(i) | OLD
                    at += ONE
        start = end


@compiled(types.int64(_words, types.uint64, types.int64, _i64))
def long_runs(values: Array, key: Int, longest: Int, cuts: Array) -> Int:
    """How many runs have more than `longest` values; `cuts` gets where each of them starts and ends."""
    found, start = 0, ZERO
    while start < np.uint64(len(values)):
        end = end_of_run(values, start, key)
        if np.int64(end - start) > longest:
            cuts[2 * found], cuts[2 * found + 1] = start, end
            found += 1
        start = end
    return found


@compiled(types.uint64(_words, _labels, types.uint64, types.uint64, types.uint64, _u32, _u32))
def near_in_short_run(values: Array, labels: Array, start: Int, end: Int, distance: Int, a: Array, b: Array) -> Int:
    """Positions of near values in a run of at most SHORT, written to `a` and `b`; how many.

    One loop over the pairs, whose length is known before: two nested ones cost a mispredicted branch a value.
    """
    size, found = end - start, ZERO
    for pair in range(size * (size - ONE) >> ONE):
        i, j = start + LEFT[pair], start + RIGHT[pair]
        a[found], b[found] = i, j
        found += np.uint64((bits_of(values[i] ^ values[j]) <= distance) & (labels[i] < OLD))
    return found


@compiled(types.uint64(_words, types.uint64, types.uint64, types.uint64, _u32, _u32))
def near_in_row(values: Array, at: Int, end: Int, distance: Int, a: Array, b: Array) -> Int:
    """Where behind `at` and before `end` are values near values[at]? As in `near_in_short_run`."""
    value, first, found = values[at], at + ONE, ZERO
    while first < end:
        last = min(first + LANES, end)
        some = ZERO
        for i in range(first, last):  # vectorised
            some += np.uint64(bits_of(value ^ values[i]) <= distance)
        if some:
            for i in range(first, last):  # no branch to mispredict
                a[found], b[found] = at, i
                found += np.uint64(bits_of(value ^ values[i]) <= distance)
        first = last
    return found


@compiled(types.uint64(_words, _labels, _words, _u32, _u32, types.uint64, _u64, types.uint64))
def packed(values: Array, labels: Array, others: Array, a: Array, b: Array, near: Int, codes: Array, found: Int) -> Int:
    """Write the first `near` pairs to `codes`, from `found` on, if they differ under each mask; the new end."""
    for candidate in range(near):
        i, j = np.uint64(a[candidate]), np.uint64(b[candidate])
        differing, first = values[i] ^ values[j], ONE
        for mask in others:
            first &= np.uint64(differing & mask != ZERO)
        left, right = np.uint64(labels[i] & NUMBER), np.uint64(labels[j] & NUMBER)
        codes[found] = min(left, right) << np.uint64(32) | max(left, right)
        found += first
    return found


@compiled(
    types.UniTuple(types.int64, 3)(
        _words, _labels, types.uint64, _words, types.uint64, types.uint64, types.int64, _u32, _u32, _u64
    )
)
def near_in_runs(
    values: Array,
    labels: Array,
    key: Int,
    others: Array,
    distance: Int,
    longest: Int,
    start: Int,
    a: Array,
    b: Array,
    codes: Array,
) -> tuple[Int, Int, Int]:
    """Pairs of a run that differ in at most `distance` bits, and somewhere under each mask of `others`.

    Args:
        longest: runs with more values are passed over.
        start: where to begin, what an earlier call gave back; first 0.
        a, b: scratch, for ROOM things at least and for one more than the longest run.
        codes: room for as many pairs at least; each is number * 2^32 + number, the smaller first.

    Returns:
        (where to go on, len(values) at the end; how many pairs were written; how many runs were passed over).
    """
    found, at, over, room = ZERO, np.uint64(start), 0, np.uint64(len(codes))
    while at < np.uint64(len(values)):
        end = end_of_run(values, at, key)
        if end - at > longest:
            over += 1
        elif end - at <= SHORT:
            if found + ROOM > room:
                break
            near = near_in_short_run(values, labels, at, end, distance, a, b)
            found = packed(values, labels, others, a, b, near, codes, found)
        else:
            while at < end and labels[at] < OLD and found + (end - at) <= room:
                near = near_in_row(values, at, end, distance, a, b)
                found = packed(values, labels, others, a, b, near, codes, found)
                at += ONE
            if at < end and labels[at] < OLD:
                break
        at = end
    return np.int64(at), np.int64(found), over


@compiled(types.void(_u64, _words, _i64, types.uint8[::1]))
def unpacked(codes: Array, hashes: Array, j: Array, distance: Array) -> None:
    """Of pairs as i * 2^32 + j: i in the place of that, j, and the bits in which hashes[i] and hashes[j] differ."""
    for pair in range(len(codes)):
        left, right = codes[pair] >> np.uint64(32), codes[pair] & np.uint64(0xFFFFFFFF)
        codes[pair], j[pair] = left, right
        distance[pair] = bits_of(hashes[left] ^ hashes[right])


# ---------------------------------------------------------------- hashes of four words: (4, n), the top one first


@compiled(types.uint64(_rows, types.uint64, types.uint64, types.uint64, _u32, types.uint64))
def near_in_wide_row(words: Array, at: Int, end: Int, distance: Int, near: Array, found: Int) -> Int:
    """Where behind `at` and before `end` are values near that at `at`? Written to `near`; the new end of it."""
    v0, v1, v2, v3, first = words[0, at], words[1, at], words[2, at], words[3, at], at + ONE
    while first < end:
        last = min(first + LANES, end)
        some = ZERO
        for i in range(first, last):  # vectorised
            bits = bits_of(v0 ^ words[0, i]) + bits_of(v1 ^ words[1, i])
            bits += bits_of(v2 ^ words[2, i]) + bits_of(v3 ^ words[3, i])
            some += np.uint64(bits <= distance)
        if some:
            for i in range(first, last):  # no branch to mispredict
                near[found] = i
                bits = bits_of(v0 ^ words[0, i]) + bits_of(v1 ^ words[1, i])
                bits += bits_of(v2 ^ words[2, i]) + bits_of(v3 ^ words[3, i])
                found += np.uint64(bits <= distance)
        first = last
    return found


@compiled(types.uint64(_rows, types.uint64, types.uint64, types.uint64, types.uint64))
def differ_in_bands(words: Array, i: Int, j: Int, bands: Int, width: Int) -> Int:
    """Do two hashes differ in each of the first `bands` bands? 1 or 0; `width` is a divisor of 64."""
    for band in range(bands):
        at = band * width
        mask = (~ZERO << (np.uint64(64) - width)) >> (at & np.uint64(63))
        word = at >> np.uint64(6)
        if (words[word, i] ^ words[word, j]) & mask == ZERO:
            return ZERO
    return ONE


@compiled(
    types.UniTuple(types.int64, 2)(
        _rows, _words, _labels, types.uint64, types.uint64, types.uint64, types.int64, _u32, _u32
    )
)
def near_in_band(
    words: Array, keys: Array, labels: Array, band: Int, width: Int, distance: Int, start: Int, a: Array, b: Array
) -> tuple[Int, Int]:
    """Pairs of a run of equal keys that differ in at most `distance` bits, and in each band before this one.

    start: as in `near_in_runs`. a, b: room for the labels of the pairs, for as many as the longest run has at least.
    Returns where to go on, and how many pairs.
    """
    found, at = ZERO, np.uint64(start)
    while at < np.uint64(len(keys)):
        end = end_of_run(keys, at, ~ZERO)
        while at < end and labels[at] < OLD:
            if found + (end - at) > np.uint64(len(a)):
                return np.int64(at), np.int64(found)
            near = near_in_wide_row(words, at, end, distance, b, found)
            for candidate in range(found, near):
                other = np.uint64(b[candidate])
                a[found], b[found] = labels[at], labels[other]
                found += differ_in_bands(words, at, other, band, width)
            at += ONE
        at = end
    return np.int64(at), np.int64(found)
