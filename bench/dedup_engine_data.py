"""Pools of planted near hashes on disk for `dedup_engine`, and their near pairs by other ways than the barrier's."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

sys.path[:0] = [str(Path(__file__).resolve().parent), str(Path(__file__).resolve().parent.parent)]

from common import WORK, fresh  # noqa: E402

from stages.base import Shape, shard_name  # noqa: E402
from stages.near_hashes import Agreement, NearHashes  # noqa: E402

WITHIN = 4
BARRIERS = {
    "64": NearHashes(by="phash64", distance=4),
    "256": NearHashes(by="phash256", distance=31),
    "verified": NearHashes(
        by="phash64", distance=4, verify=(Agreement(column="colours", within=WITHIN, measure="l1"),)
    ),
}
ROWS_OF_SHARD = 50_000
COLOURS = 192  # bytes: 8 x 8 pixels


def made(kind: str, hashes: int) -> Path:
    """A folder of shards: 70 % random hashes, 30 % copies with flipped bits, a few of them very often.

    Of 64 bits Poisson(2) are flipped, of 256 Poisson(8). Of "verified" copies half have their original's colours, but
    for one level up or down, and half those of another.
    """
    folder = WORK / f"dedup-engine-{kind}-{hashes}"
    if not (folder / "made").exists():
        folder = fresh(folder.name)
        rng = np.random.default_rng(hashes)
        columns = _columns(kind, hashes, rng)
        for shard, start in enumerate(range(0, hashes, ROWS_OF_SHARD)):
            some = {n: c.slice(start, ROWS_OF_SHARD) for n, c in columns.items()}
            pq.write_table(pa.table(some), folder / f"{shard_name(shard)}.parquet", compression="zstd")
        (folder / "made").touch()
    return folder


def _columns(kind: str, n: int, rng: np.random.Generator) -> dict[str, pa.Array]:
    words = 4 if kind == "256" else 1
    originals = rng.integers(0, 2**64, (n * 7 // 10, words), dtype=np.uint64)
    of = (len(originals) * rng.random(n - len(originals)) ** 3).astype(np.int64)
    values = np.concatenate([originals, _flipped(originals[of], 2 * words, rng)])
    order = rng.permutation(n)
    found = {"uid": _binary(rng.integers(0, 256, (n, 16), dtype=np.uint8))}
    found["phash_quality"] = pa.array(np.full(n, 90, np.uint8))
    if kind == "256":
        return found | {"phash256": _binary(values[order].astype(">u8").view(np.uint8))}
    found["phash64"] = pa.array(values[order, 0])
    if kind == "verified":
        first = rng.integers(1, 255, (len(originals), COLOURS), dtype=np.uint8)
        own = np.where(rng.random(len(of)) < 0.5, of, rng.integers(0, len(originals), len(of)))
        colours = np.concatenate([first, first[own] + rng.integers(-1, 2, (len(of), COLOURS)).astype(np.uint8)])
        found["colours"] = _binary(colours[order])
    return found


def _flipped(values: np.ndarray, mean: float, rng: np.random.Generator) -> np.ndarray:
    flips, bits = rng.poisson(mean, len(values)), 64 * values.shape[1]
    values = values.copy()
    for times in range(int(flips.max(initial=0))):
        rows = np.flatnonzero(flips > times)
        at = rng.integers(0, bits, len(rows))
        values[rows, at // 64] ^= np.uint64(1) << (at % 64).astype(np.uint64)
    return values


def _binary(data: np.ndarray) -> pa.Array:
    data = np.ascontiguousarray(data)
    return pa.Array.from_buffers(pa.binary(data.shape[1]), len(data), [None, pa.py_buffer(data)])


def shape_of(folder: Path) -> Shape:
    files = sorted(folder.glob("*.parquet"))
    rows = tuple(pq.read_metadata(f).num_rows for f in files)
    return Shape(tuple(range(len(files))), rows, (0,) * len(files), tuple(f"shard {f.stem}" for f in files))


def counted(kind: str, folder: Path) -> int:
    """What the barrier has to find, by another way: the number of pairs; where signals verify, of groups."""
    names = ["phash256" if kind == "256" else "phash64", *(["colours"] if kind == "verified" else [])]
    table = pa.concat_tables([pq.read_table(f, columns=names) for f in sorted(folder.glob("*.parquet"))])
    raw = [np.frombuffer(table.column(n).combine_chunks().buffers()[1], np.uint8) for n in names]
    if kind == "256":
        from stages.hamming_bands import band_pairs

        words = np.unique(raw[0].reshape(-1, 32), axis=0).view(">u8").astype(np.uint64)
        return len(band_pairs(words, BARRIERS[kind].distance, BARRIERS[kind].bands)[0])
    hashes = raw[0].view(np.uint64)
    says = np.bitwise_count(hashes ^ np.uint64(1 << 63)) > 14  # what lies nearer to a flat picture takes no part
    return _pairs(hashes[says]) if kind == "64" else _groups(hashes[says], raw[1].reshape(-1, COLOURS)[says])


def _pairs(hashes: np.ndarray) -> int:
    from stages.hamming import value_pairs

    hashes = np.sort(hashes)
    once = hashes[np.append(True, hashes[1:] != hashes[:-1])]
    return sum(len(a) for a, _ in value_pairs(once, BARRIERS["64"].distance))


def _groups(hashes: np.ndarray, colours: np.ndarray) -> int:
    """Components of all pairs of rows of near or equal hashes whose colours agree, each pair looked at."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    from stages.hamming import pairs_within

    order = np.argsort(hashes, kind="stable")
    hashes, looks = hashes[order], colours[order].astype(np.int16)
    starts = np.flatnonzero(np.append(True, hashes[1:] != hashes[:-1]))
    ends = np.append(starts[1:], len(hashes))
    i, j, _ = pairs_within(hashes[starts], BARRIERS["verified"].distance)
    many = np.flatnonzero(ends - starts > 1).tolist()
    left, right = [], []
    for a, b in zip([*i.tolist(), *many], [*j.tolist(), *many], strict=True):
        apart = np.abs(looks[starts[a] : ends[a], None] - looks[None, starts[b] : ends[b]]).sum(axis=2)
        one, other = np.nonzero(apart <= WITHIN * COLOURS)
        left.append(starts[a] + one)
        right.append(starts[b] + other)
    edges = np.concatenate(left), np.concatenate(right)
    _, label = connected_components(coo_array((np.ones(len(edges[0])), edges), shape=(len(hashes),) * 2))
    return int((np.bincount(label) > 1).sum())
