"""Pictures of samples for a person: small copies of the stored bytes, never those bytes themselves.

shown = look_up(pool, [(17, 3), (17, 5)])     # (shard, row) -> what a page or a terminal shows of them
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

from curate.pool.columns import read_table
from curate.pool.layout import PIXELS, marker, part_file
from curate.pool.pool import Pool
from stages.base import shard_name

SIDE = 176  # pixels of the longer side of a thumbnail
THREADS = 8  # at most, each over one shard: decoding lets go of Python's lock
LARGE = 10_000  # bytes: what is larger, as noise is, is encoded again, so that a page of pictures stays a page
FACTS_SHOWN = ["uid", "url", "text", "width", "height", "tar_offset", "bytes"]


@dataclass(frozen=True)
class Emitted:
    """One of the texts with which a sample goes on: whose it is, its share of the draws, copies of the sample."""

    source: str
    text: str
    p: float
    copies: int = 1


@dataclass(frozen=True)
class Shown:
    """A sample as it is shown. `thumbnail`: WebP bytes, or None and `why_not`.

    score: what a filter measured, in words for a person ("sharpness 19.8"); empty where there is none.
    texts: those of the pick; () where it has none, or `text` alone, in one copy.
    """

    uid: bytes
    shard: int
    row: int
    reason: str | None
    dup_of: bytes | None = None
    text: str | None = None
    url: str | None = None
    width: int = 0
    height: int = 0
    thumbnail: bytes | None = None
    why_not: str = ""
    score: str = ""
    texts: tuple[Emitted, ...] = ()


def look_up(pool: Pool, places: Sequence[tuple[int, int]], verdicts: str | None = None) -> list[Shown]:
    """What is shown of the samples at these (shard, row), in their order.

    Args:
        verdicts: a filter's folder, whose reason and `dup_of` are shown too.
    """
    by_shard: dict[int, list[int]] = {}
    for shard, row in places:
        by_shard.setdefault(shard, []).append(row)
    with ThreadPoolExecutor(min(THREADS, len(os.sched_getaffinity(0)))) as threads:
        shown = threads.map(lambda of: of_shard(pool, of[0], list(dict.fromkeys(of[1])), verdicts), by_shard.items())
        found = {(s.shard, s.row): s for samples in shown for s in samples}
    return [found[place] for place in places]


def of_shard(pool: Pool, shard: int, rows: list[int], verdicts: str | None) -> list[Shown]:
    """The same for rows of one shard."""
    table, footer = read_table(pool.storage, marker(shard), FACTS_SHOWN)
    facts = table.take(rows).to_pylist()
    said: list[dict[str, Any]] = [{} for _ in rows]
    if verdicts:
        said = read_table(pool.storage, part_file(verdicts, shard_name(shard)))[0].take(rows).to_pylist()
    return [
        _with_thumbnail(
            pool,
            f"{PIXELS}/{footer.get('tar')}",
            fact,
            Shown(fact["uid"], shard, row, verdict.get("reason"), verdict.get("dup_of")),
        )
        for row, fact, verdict in zip(rows, facts, said, strict=True)
    ]


def _with_thumbnail(pool: Pool, tar: str, fact: dict[str, Any], bare: Shown) -> Shown:
    known = {n: fact[n] for n in ("text", "url", "width", "height")}
    try:
        stored = pool.storage.read_range(tar, fact["tar_offset"], fact["bytes"])
    except FileNotFoundError:
        return replace(bare, **known, why_not="its tar is gone")
    if not stored.strip(b"\x00"):
        return replace(bare, **known, why_not="purged")
    thumbnail, why_not = small(stored)
    return replace(bare, **known, thumbnail=thumbnail, why_not=why_not)


def small(stored: bytes, side: int = SIDE) -> tuple[bytes | None, str]:
    """(a WebP of at most `side` pixels a side, "") or (None, why there is none)."""
    from PIL import Image

    from stages.decode import DecodeError, encode, open_image

    try:
        image = open_image(stored)
    except DecodeError as e:
        return None, str(e)
    image.thumbnail((side, side), Image.Resampling.BOX, reducing_gap=2.0)
    pixels = image.convert("RGB")
    thumbnail = encode(pixels, "webp", 60)
    return (thumbnail if len(thumbnail) <= LARGE else encode(pixels, "webp", 20)), ""
