"""How many pictures of an evaluation set are in the pool too: what a recipe learned by heart is no merit.

Counted are pictures whose bytes as received are those of a sample of the pool, or whose perceptual hash, upright,
mirrored or turned, lies within NEAR bits of one's: what the filter `decontaminate` finds as it is by default.
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
NEAR = 48  # bits of 256; see stages.eval_matches
FLAT = 50  # of pictures with less in them, equal hashes say nothing; see stages.fingerprint
NOT_HASHED = -1  # a pool without perceptual hashes: only equal bytes are found


@dataclass(frozen=True)
class CountWork:
    """What workers share. folder: of the answers, named by the generation of the pool."""

    pool: str
    folder: str
    sets: tuple[EvalSet, ...]

    def file(self, item: str) -> str:
        return f"{self.folder}/{self.sets[int(item)].digest}-{NEAR}.json"  # another rule has other answers


def count_overlap(work: CountWork, item: str) -> dict[str, Any]:
    """Worker: task, size and overlap of one set, into its file."""
    from training_smoke.errors import TrainingError
    from training_smoke.evaluate.tables import AssociationTable
    from training_smoke.evaluate.tasks import TASKS

    pool, chosen = Pool.open(work.pool), work.sets[int(item)]
    try:
        source = chosen.open()
        kind = getattr(source, "kind", WINOGAVIL if isinstance(source, AssociationTable) else "retrieval")
        table = _prints(source)
        if chosen.task is not None and len(table) != TASKS[chosen.task].size and kind != WINOGAVIL:
            raise TrainingError(f"it has {len(table):,} of the {TASKS[chosen.task].size:,} samples of DataComp's task")
    except TrainingError as e:
        raise UserError(f"evaluation set {chosen.name}: {e}") from e
    inside, near = _in_pool(pool, table)
    found = {"task": kind, "n": len(table), "in_pool": int(inside.sum()), "near": near}
    pool.storage.commit(work.file(item), json.dumps(found).encode())
    return {"rows": len(table)}


def _prints(source: Source) -> pa.Table:
    """What each picture is known by, as `stages.eval_prints` has it."""
    from stages.eval_prints import prints_of
    from stages.eval_sets import Picture
    from training_smoke.errors import TrainingError

    table = prints_of(Picture(str(number), image) for number, image in enumerate(_images(source)))
    errors = table.column("error").drop_null().to_pylist()
    if errors:
        raise TrainingError(f"a picture does not decode: {errors[0]}")
    return table


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


def _in_pool(pool: Pool, table: pa.Table) -> tuple[np.ndarray, int]:
    """(bool (n,): which are in the pool, bits within which hashes were compared)."""
    from stages.eval_hashes import NONE, nearest_hashes
    from stages.eval_prints import eval_hashes, words_of

    shape, _ = pool.shape()
    digests = table.column("sha256")
    words, row = eval_hashes(table, "phash256", FLAT)
    inside, hashed = np.zeros(len(table), bool), False
    for shard in shape.shards:
        facts, _ = pool.facts(shard, ["sha256", "phash256", "phash_quality"])
        inside |= pc.is_in(digests, value_set=facts.column("sha256")).to_numpy()
        clear = pc.fill_null(pc.greater_equal(facts.column("phash_quality"), FLAT), False)
        theirs = words_of(facts.column("phash256").filter(clear).drop_null(), 4)
        hashed = hashed or len(theirs) > 0
        _, nearest = nearest_hashes(words, theirs, np.arange(len(theirs)), NEAR)
        inside[row[nearest != NONE]] = True
    return inside, NEAR if hashed else NOT_HASHED
