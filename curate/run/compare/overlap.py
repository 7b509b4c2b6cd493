"""How many pictures of an evaluation set are in the pool too: what a recipe learned by heart is no merit.

Counted are pictures whose bytes as received are those of a sample of the pool, or whose perceptual hash lies within
NEAR bits of one's. Beyond COMPARISONS pairs of hashes only equal ones count, and the answer says so (`near`: 0).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curate.errors import UserError
from curate.pool.pool import Pool
from curate.run.compare.sets import EvalSet

if TYPE_CHECKING:
    from training_smoke.evaluate.run import Source

WINOGAVIL = "association"
NEAR = 4  # bits of 64: by so many do re-encoded and resized copies differ
FLAT = 50  # of pictures with less in them, equal hashes say nothing; see stages.fingerprint
COMPARISONS = 20_000_000_000  # a minute of one core
NOT_HASHED = -1  # a pool without perceptual hashes: only equal bytes are found
BLOCK = 1 << 22  # pairs at a time


@dataclass(frozen=True)
class CountWork:
    """What workers share. folder: of the answers, named by the generation of the pool."""

    pool: str
    folder: str
    sets: tuple[EvalSet, ...]

    def file(self, item: str) -> str:
        return f"{self.folder}/{self.sets[int(item)].digest}.json"


def count_overlap(work: CountWork, item: str) -> dict[str, Any]:
    """Worker: task, size and overlap of one set, into its file."""
    from training_smoke.errors import TrainingError
    from training_smoke.evaluate.tables import AssociationTable
    from training_smoke.evaluate.tasks import TASKS

    pool, chosen = Pool.open(work.pool), work.sets[int(item)]
    try:
        source = chosen.open()
        kind = getattr(source, "kind", WINOGAVIL if isinstance(source, AssociationTable) else "retrieval")
        digests, hashes = _prints(source)
        if chosen.task is not None and len(digests) != TASKS[chosen.task].size and kind != WINOGAVIL:
            raise TrainingError(
                f"it has {len(digests):,} of the {TASKS[chosen.task].size:,} samples of DataComp's task"
            )
    except TrainingError as e:
        raise UserError(f"evaluation set {chosen.name}: {e}") from e
    inside, near = _in_pool(pool, digests, hashes)
    found = {"task": kind, "n": len(digests), "in_pool": int(inside.sum()), "near": near}
    pool.storage.commit(work.file(item), json.dumps(found).encode())
    return {"rows": len(digests)}


def _prints(source: Source) -> tuple[pa.Array, np.ndarray]:
    """(sha256 as hex, perceptual hash) of each picture; 0 for those whose hash says nothing."""
    found = [_print(image) for image in _images(source)]
    return pa.array([digest for digest, _ in found], pa.string()), np.array([h for _, h in found], np.uint64)


def _images(source: Source) -> Iterator[bytes]:
    from training_smoke.evaluate.tables import AssociationTable

    if not isinstance(source, AssociationTable):
        yield from (sample.image for sample in source.samples())
        return
    seen: set[bytes] = set()
    for instance in source.instances():
        for image in instance.images:
            digest = hashlib.sha256(image).digest()
            if digest not in seen:
                seen.add(digest)
                yield image


def _print(image: bytes) -> tuple[str, int]:
    from stages.decode import DecodeError, decode
    from stages.fingerprint import of_pixels
    from training_smoke.errors import TrainingError

    try:
        found = of_pixels(decode(image).pixels)
    except DecodeError as e:
        raise TrainingError(f"a picture does not decode: {e}") from e
    return hashlib.sha256(image).hexdigest(), found.phash64 if found.quality >= FLAT else 0


def _in_pool(pool: Pool, digests: pa.Array, hashes: np.ndarray) -> tuple[np.ndarray, int]:
    """(bool (n,): which are in the pool, bits within which hashes were compared)."""
    shape, _ = pool.shape()
    near = NEAR if sum(shape.rows) * len(hashes) <= COMPARISONS else 0
    inside = np.zeros(len(hashes), bool)
    telling = np.flatnonzero(hashes)
    hashed = False
    for shard in shape.shards:
        table, _ = pool.facts(shard, ["sha256", "phash64", "phash_quality"])
        inside |= pc.is_in(digests, value_set=table.column("sha256")).to_numpy(zero_copy_only=False)
        clear = pc.fill_null(pc.greater_equal(table.column("phash_quality"), FLAT), False)
        theirs = np.unique(table.column("phash64").filter(clear).drop_null().to_numpy())
        hashed = hashed or len(theirs) > 0
        inside[telling] |= _near(hashes[telling], theirs, near)
    return inside, near if hashed else NOT_HASHED


def _near(ours: np.ndarray, theirs: np.ndarray, bits: int) -> np.ndarray:
    """bool (ours,): is one of theirs within so many bits?"""
    if not bits or not len(theirs):
        return np.isin(ours, theirs)
    found = np.zeros(len(ours), bool)
    for start in range(0, len(ours), max(1, BLOCK // len(theirs))):
        some = slice(start, start + max(1, BLOCK // len(theirs)))
        found[some] = (np.bitwise_count(ours[some, None] ^ theirs[None]) <= bits).any(axis=1)
    return found
