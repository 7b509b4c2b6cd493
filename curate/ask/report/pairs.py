"""Pairs nearest to the bound of a keep-one filter, on both sides of it.

    pairs = find_pairs(ground, find_compared(ground))

On the side that goes, all of the pick is known: each dropped sample names the one that stayed for it, and how far that
one is. On the side that stays nobody has compared anything, so some thousands of the samples that were asked about are
compared here: all, where there are no more; else those whose first bits (for vectors: signs of fixed random products)
are drawn, because near samples mostly share them. The draw is keyed, so the same pick shows the same pairs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache

import numpy as np
import pyarrow as pa

from curate.ask.pictures import Shown
from curate.ask.report.candidates import Place, Rows, Smallest
from curate.ask.report.closest import Closest, Points, closest, most_points
from curate.ask.report.compared import Compared
from curate.ask.report.found import Histogram, NearPairs, Threshold
from curate.ask.report.margins import as_doubles
from curate.ask.report.shards import Ground, Sight, walk
from curate.errors import UserError
from stages.draws import hash64_halves
from stages.vectors import unit

PAIRS = 6  # shown on each side
LOOKED_AT = 64  # shards whose vectors are read, evenly spaced: they are a thousand bytes each
SIGNS = 16
Arrays = dict[str, np.ndarray]


@dataclass
class OfStep:
    """What one filter did near its bound. dropped: who went, farthest first; `stays` has for whom.

    looked_at: samples that `spread` is of, all that take part unless `drawn`; distances in `spread` are bits or
    1 - cosine.
    """

    compared: Compared
    dropped: Smallest = field(default_factory=lambda: Smallest(PAIRS))
    stays: dict[Place, bytes] = field(default_factory=dict)
    distance: dict[Place, float] = field(default_factory=dict)
    kept: list[tuple[float, Place, Place]] = field(default_factory=list)
    spread: Closest | None = None
    bits: bool = True
    looked_at: int = 0
    drawn: bool = False


@dataclass
class _Seen:
    """Of one shard, or of all so far: dropped samples, and those that may be compared, as rows of arrays.

    drawn: there were more than these.
    """

    dropped: Smallest
    stays: dict[Place, bytes]
    rows: Arrays | None
    drawn: bool
    bits: bool = True


def find_pairs(ground: Ground, filters: Sequence[Compared]) -> list[OfStep]:
    """One walk over the pick's shards, then a search for each filter."""
    if not filters or not ground.shards:
        return []
    n = len(ground.shards)
    few = {ground.shards[i * n // min(n, LOOKED_AT)] for i in range(min(n, LOOKED_AT))}
    whole: list[_Seen | None] = [None] * len(filters)
    for found in walk(ground, lambda sight: [_look(sight, c, sight.shard in few) for c in filters]):
        whole = [more if seen is None else _both(seen, more) for seen, more in zip(whole, found, strict=True)]
    return [_searched(c, seen) for c, seen in zip(filters, whole, strict=True) if seen is not None]


# ---------------------------------------------------------------- one shard


def _look(sight: Sight, compared: Compared, vectors_too: bool) -> _Seen:
    asked, keep = sight.keep(compared.step)
    column = sight.columns(compared.column[0], [compared.column[1]]).column(0).combine_chunks()
    bits = not _is_list(column.type)
    dropped, stays = _dropped(sight, compared, asked & ~keep)
    if not (bits or vectors_too):
        return _Seen(dropped, stays, None, bool(asked.any()), bits)
    some = asked & sight.shown & column.is_valid().to_numpy(zero_copy_only=False)
    if compared.node is not None:
        takes_part = sight.columns(compared.node[0], [compared.node[1]]).column(0)
        some &= takes_part.is_valid().to_numpy()
    at = np.flatnonzero(some)
    x = _bytes(column, at) if bits else unit(column.take(pa.array(at)), "report")[0]
    rows = Rows(sight.shard, sight.uid)
    key = _first_bits(x) if bits else _signs(x)
    found = {"draw": hash64_halves(0, "report:pairs", key, key), "high": rows.high[at], "low": rows.low[at]}
    found |= {"shard": np.full(len(at), sight.shard), "row": at, "kept": keep[at], "x": x}
    few = _cut(found, bits)
    return _Seen(dropped, stays, few, len(few["row"]) < len(at), bits)


def _dropped(sight: Sight, compared: Compared, gone: np.ndarray) -> tuple[Smallest, dict[Place, bytes]]:
    """The samples farthest from the one that stayed for them, and the uid of that one."""
    verdict = sight.verdict(compared.step, ["dup_of", "distance", "similarity"])
    smallest = Smallest(PAIRS)
    if "distance" in verdict.column_names:
        apart = as_doubles(verdict.column("distance").combine_chunks())
    elif "similarity" in verdict.column_names:
        apart = 1 - as_doubles(verdict.column("similarity").combine_chunks())
    else:
        return smallest, {}
    of = verdict.column("dup_of").combine_chunks()
    at = np.flatnonzero(gone & sight.shown & of.is_valid().to_numpy(zero_copy_only=False) & ~np.isnan(apart))
    smallest.add(Rows(sight.shard, sight.uid, [apart]).nearest(-apart[at], at, PAIRS))
    return smallest, {c.place: of[c.row].as_py() for c in smallest.found}


def _is_list(kind: pa.DataType) -> bool:
    return pa.types.is_fixed_size_list(kind) or pa.types.is_list(kind) or pa.types.is_large_list(kind)


def _bytes(column: pa.Array, at: np.ndarray) -> np.ndarray:
    """uint8 (n, bytes) of hashes: of whole numbers, their first bits first."""
    some = column.take(pa.array(at))
    if pa.types.is_integer(some.type):
        words = some.to_numpy(zero_copy_only=False).astype(">u8")
        return words.view(np.uint8).reshape(len(at), 8)
    if not pa.types.is_fixed_size_binary(some.type) and not pa.types.is_binary(some.type):
        raise UserError(f"the report cannot compare {some.type}: neither a hash nor a vector")
    raw = b"".join(some.to_pylist())
    return np.frombuffer(raw, np.uint8).reshape(len(at), len(raw) // len(at) if len(at) else 8)


def _first_bits(x: np.ndarray) -> np.ndarray:
    return x[:, 0].astype(np.uint64) * np.uint64(256) + x[:, 1].astype(np.uint64)


def _signs(x: np.ndarray) -> np.ndarray:
    signs = (x @ _directions(x.shape[1]) > 0).astype(np.uint64)
    return np.asarray((signs << np.arange(SIGNS, dtype=np.uint64)).sum(axis=1, dtype=np.uint64))


@cache
def _directions(dim: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal((dim, SIGNS)).astype(np.float32)


# ---------------------------------------------------------------- all shards


def _cut(rows: Arrays, bits: bool) -> Arrays:
    """Those that are drawn, as many as one search can compare."""
    most = most_points(rows["x"].shape[1] * (8 if bits else 1))
    if len(rows["draw"]) <= most:
        return rows
    order = np.lexsort((rows["low"], rows["high"], rows["draw"]))[:most]
    return {n: a[order] for n, a in rows.items()}


def _both(a: _Seen, b: _Seen) -> _Seen:
    a.dropped.add(b.dropped.found)
    stays = {c.place: (a.stays | b.stays)[c.place] for c in a.dropped.found}
    parts = [r for r in (a.rows, b.rows) if r is not None and len(r["draw"])]
    rows = {n: np.concatenate([p[n] for p in parts]) for n in parts[0]} if len(parts) > 1 else None
    joined = _cut(rows, b.bits) if rows is not None else parts[0] if parts else b.rows or a.rows
    lost = rows is not None and joined is not None and len(joined["row"]) < len(rows["row"])
    return _Seen(a.dropped, stays, joined, a.drawn or b.drawn or lost, b.bits)


def _searched(compared: Compared, seen: _Seen) -> OfStep:
    found = OfStep(compared, seen.dropped, seen.stays, bits=seen.bits, drawn=seen.drawn)
    found.distance = {c.place: c.values[0] for c in seen.dropped.found}
    if seen.rows is None or len(seen.rows["draw"]) < 2:
        return found
    rows = _different(seen.rows)
    x = np.unpackbits(rows["x"], axis=1).astype(np.float32) * 2 - 1 if seen.bits else rows["x"]
    found.spread = closest(Points(x, rows["kept"], seen.bits), compared.bound, PAIRS)
    places = list(zip(rows["shard"].tolist(), rows["row"].tolist(), strict=True))
    found.kept = [(apart, places[i], places[j]) for apart, i, j in found.spread.kept]
    found.looked_at = len(seen.rows["draw"])
    return found


def _different(rows: Arrays) -> Arrays:
    """Each hash or vector once: the sample that was kept, where one was, and of those the smallest uid."""
    order = np.lexsort((rows["low"], rows["high"], ~rows["kept"]))
    x = np.ascontiguousarray(rows["x"][order])
    _, first = np.unique(x.view(np.dtype((np.void, x.shape[1] * x.itemsize))).reshape(-1), return_index=True)
    return {n: a[order][np.sort(first)] for n, a in rows.items()}


def keepers_of(found: Sequence[OfStep]) -> set[bytes]:
    """Uids that dropped samples name."""
    return {uid for of_step in found for uid in of_step.stays.values()}


# ---------------------------------------------------------------- for the page


def places_of(found: Sequence[OfStep]) -> set[Place]:
    """Where the samples that are shown lie; for whom dropped ones went is not known here by place."""
    dropped = {c.place for of_step in found for c in of_step.dropped.found}
    return dropped | {place for of_step in found for _, a, b in of_step.kept for place in (a, b)}


def in_pairs(of_step: OfStep, places: Mapping[bytes, Place], album: Mapping[Place, Shown]) -> NearPairs:
    """Args: places: of those who stayed; removed samples are not there. album: all that is shown."""
    dropped = []
    for candidate in of_step.dropped.found:
        stays = places.get(of_step.stays[candidate.place])
        words = in_words(of_step.distance[candidate.place], of_step.bits)
        dropped.append((album[candidate.place], album[stays] if stays is not None else None, words))
    kept = tuple((album[a], album[b], in_words(apart, of_step.bits)) for apart, a, b in of_step.kept)
    spread = _histogram(of_step)
    return NearPairs(of_step.compared.step.id, tuple(dropped), kept, spread, of_step.looked_at, of_step.drawn)


def in_words(distance: float, bits: bool) -> str:
    """A distance as a person reads it."""
    if bits:
        return f"{distance:.0f} bit{'' if distance == 1 else 's'} apart"
    return f"cosine {1 - distance:.4f}"


def _histogram(of_step: OfStep) -> Histogram | None:
    spread, bound = of_step.spread, of_step.compared.bound
    if spread is None or not spread.counts.any():
        return None
    label, line = (f"distance {bound:g}", bound + 1) if of_step.bits else (f"epsilon {bound:g}", bound)
    line = float(spread.edges[np.argmin(np.abs(spread.edges - line))])
    stay, go = (tuple(spread.counts[:, i].tolist()) for i in (0, 1))
    title = "bits between two hashes" if of_step.bits else "1 - cosine of two vectors"
    names = ("pairs that both stay", "pairs of which one goes", "")
    lines = (Threshold(line, "above", label),)
    return Histogram(title, tuple(spread.edges.tolist()), stay, go, (0,) * len(stay), lines, words=names)
