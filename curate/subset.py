"""DataComp subset files out of picks and in: sorted pairs of uint64, one a copy.

    write_subset(pool, "picks/mine@0123456789ab", "subset.npy")      # for DataComp's resharder
    uids, counts = read_subset("subset.npy")
    times_named(open_named("subset.npy"), uids)                      # also a .txt with one uid a line

As a filter of a recipe, such a file is `in_subset` (filters/in_subset.py).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curate.errors import UserError
from curate.pool.columns import read_table
from curate.pool.facts import UID
from curate.pool.layout import part_file
from curate.pool.pool import Pool
from filters.in_subset import PAIR, open_subset
from stages.base import shard_name
from stages.draws import uid_halves

BUCKET = 1 << 20  # pairs sorted at once


def write_subset(pool: Pool, pick_folder: str, path: str | Path) -> int:
    """Write the uids of a pick, each as often as the pick takes it; removed ones are left out.

    Two walks over the pick: one counts by the high bits of the uid, one puts each pair into its range of the file;
    then the ranges are sorted one by one, so that memory does not grow with the pick.

    Returns: the number of pairs.

    Raises:
        UserError: there is no such pick.
    """
    shards = pool.about(pick_folder).get("shards")
    if shards is None:
        raise UserError(f"{pool.storage}: no pick {pick_folder}; `curate run RECIPE` makes one")
    total = sum(len(pairs) for pairs in _picked(pool, pick_folder, shards))
    shift = np.uint64(64 - max(1, (total // BUCKET).bit_length()))
    counts = np.zeros(1 << (64 - int(shift)), np.int64)
    for pairs in _picked(pool, pick_folder, shards):
        counts += np.bincount((pairs["f0"] >> shift).astype(np.int64), minlength=len(counts))
    ends = np.cumsum(counts)
    final = Path(path)
    temporary = final.with_name(f".{final.name}.{os.getpid()}")
    try:
        _fill(pool, pick_folder, shards, temporary, ends, shift)
        temporary.replace(final)
    finally:
        temporary.unlink(missing_ok=True)
    return total


def _fill(pool: Pool, folder: str, shards: list[int], path: Path, ends: np.ndarray, shift: np.uint64) -> None:
    out = np.lib.format.open_memmap(path, mode="w+", dtype=PAIR, shape=(int(ends[-1]),))
    starts = np.concatenate([[0], ends[:-1]])
    free = starts.copy()
    for pairs in _picked(pool, folder, shards):
        bucket = (pairs["f0"] >> shift).astype(np.int64)
        order = np.argsort(bucket, kind="stable")
        home, first, count = np.unique(bucket[order], return_index=True, return_counts=True)
        within = np.arange(len(order)) - np.repeat(first, count)
        out[free[bucket[order]] + within] = pairs[order]
        free[home] += count
    for start, end in zip(starts.tolist(), ends.tolist(), strict=True):
        piece = out[start:end]
        out[start:end] = piece[np.lexsort((piece["f1"], piece["f0"]))]
    out.flush()


def _picked(pool: Pool, folder: str, shards: list[int]) -> Iterator[np.ndarray]:
    """PAIR, shard by shard: what is kept and not removed since, repeated `times`."""
    for shard in shards:
        times = read_table(pool.storage, part_file(folder, shard_name(shard)), ["times"])[0].column("times")
        uid = pool.facts(shard, ["uid"])[0].column("uid").combine_chunks()
        gone = pc.is_in(uid, value_set=pool.removed).to_numpy(zero_copy_only=False)
        pairs = np.empty(len(uid), PAIR)
        pairs["f0"], pairs["f1"] = uid_halves(uid)
        yield np.repeat(pairs, np.where(gone, 0, times.to_numpy()))


def read_subset(path: str | Path) -> tuple[pa.Array, np.ndarray]:
    """(uids, sorted and each once, binary(16); int64 counts) of a subset file, .npy or without a header.

    Raises:
        UserError: the file is no sorted list of pairs.
    """
    try:
        pairs = open_subset(str(path))
    except (OSError, ValueError) as e:
        raise UserError(f"{path}: cannot be read as a subset: {e}") from e
    changes = (pairs[1:]["f0"] != pairs[:-1]["f0"]) | (pairs[1:]["f1"] != pairs[:-1]["f1"])
    starts = np.flatnonzero(np.concatenate([[len(pairs) > 0], changes])) if len(pairs) else np.array([], np.int64)
    counts = np.diff(np.append(starts, len(pairs)))
    words = np.empty((len(starts), 2), ">u8")
    words[:, 0], words[:, 1] = pairs[starts]["f0"], pairs[starts]["f1"]
    return pa.Array.from_buffers(UID, len(starts), [None, pa.py_buffer(words.tobytes())]), counts


def open_named(path: str | Path) -> np.ndarray:
    """The uids that a file names, as a sorted PAIR array: a subset file, or a .txt with one uid (hex) a line.

    A subset file is mapped into memory. A uid that stands there twice is there twice.

    Raises:
        UserError: it cannot be read, or names something else; the message says where.
    """
    if Path(path).suffix == ".txt":
        return _read_lines(Path(path))
    try:
        return open_subset(str(path))
    except (OSError, ValueError) as e:
        raise UserError(f"{path}: cannot be read as a subset: {e}") from e


def _read_lines(path: Path) -> np.ndarray:
    try:
        content = path.expanduser().read_text(encoding="utf-8-sig")
    except (OSError, ValueError) as e:
        raise UserError(f"{path}: cannot be read as a list of uids: {e}") from e
    lines = pc.list_flatten(pc.split_pattern(pa.array([content], pa.large_string()), "\n"))
    lines = pc.utf8_lower(pc.utf8_trim_whitespace(lines))
    filled = pc.greater(pc.utf8_length(lines), 0)
    wrong = pc.and_(filled, pc.invert(pc.match_substring_regex(lines, "^[0-9a-f]{1,32}$")))
    bad = pc.index(wrong, True).as_py()
    if bad >= 0:
        raise UserError(f"{path}:{bad + 1}: {lines[bad].as_py()[:60]!r} is not a uid (up to 32 hex digits)")
    digits = pc.utf8_lpad(lines.filter(filled), 32, "0")
    words = np.frombuffer(bytes.fromhex("".join(digits.to_pylist())), ">u8").reshape(-1, 2)
    order = np.lexsort((words[:, 1], words[:, 0]))
    pairs = np.empty(len(words), PAIR)
    pairs["f0"], pairs["f1"] = words[order, 0], words[order, 1]
    return pairs


def times_named(named: np.ndarray, uid: pa.Array | pa.ChunkedArray) -> np.ndarray:
    """int64 (n,): how often `named` (PAIR, sorted) names each uid. Reads of a mapped file what it has to."""
    high, low = uid_halves(uid)
    return _rank(named, high, low, right=True) - _rank(named, high, low, right=False)


def distinct(named: np.ndarray) -> int:
    """How many different uids a sorted PAIR array names."""
    total = min(len(named), 1)
    for start in range(0, len(named) - 1, BUCKET):
        piece = named[start : start + BUCKET + 1]
        total += int(((piece["f0"][1:] != piece["f0"][:-1]) | (piece["f1"][1:] != piece["f1"][:-1])).sum())
    return total


def _rank(named: np.ndarray, high: np.ndarray, low: np.ndarray, *, right: bool) -> np.ndarray:
    """numpy.searchsorted by both halves: all rows halve their range at once, without copies of `named`.

    (numpy's own compares structured values one by one, which takes seven times as long.)
    """
    first, last = np.zeros(len(high), np.int64), np.full(len(high), len(named), np.int64)
    for _ in range(len(named).bit_length()):
        middle = np.minimum((first + last) >> 1, len(named) - 1)
        found = named[middle]
        below = found["f1"] <= low if right else found["f1"] < low
        below = ((found["f0"] < high) | ((found["f0"] == high) & below)) & (first < last)
        first, last = np.where(below, middle + 1, first), np.where(below, last, middle)
    return first
