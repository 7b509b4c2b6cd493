"""How many pictures of an evaluation set are in the pool too: what a recipe learned by heart is no merit.

    work = CountWork.of(pool, sets)
    print_set(work, "0")                     # hash the pictures of a set, once
    count_overlap(work, "0/<span>")          # which of them are among some 2 million samples of the pool
    work.found(pool.storage, 0)              # {"task": ..., "n": ..., "in_pool": ..., "near": ...}

Counted are pictures whose bytes as received are those of a sample of the pool, or whose perceptual hash, upright,
mirrored or turned, lies within NEAR bits of one's: what the filter `decontaminate` finds as it is by default. What was
found in full spans stays as the pool grows.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curate.errors import UserError
from curate.pool.columns import read_footer, read_table, write_parquet
from curate.pool.layout import short_hash
from curate.pool.pool import Pool
from curate.pool.storage import Storage
from curate.run.compare.sets import EvalSet

if TYPE_CHECKING:
    from training_smoke.evaluate.run import Source

WINOGAVIL = "association"
NEAR = 48  # bits of 256; see stages.eval_matches
FLAT = 50  # of pictures with less in them, equal hashes say nothing; see stages.fingerprint
NOT_HASHED = -1  # a pool without perceptual hashes: only equal bytes are found
ROWS = 1 << 21  # samples looked at together: what the set's hashes are sorted for, so few would cost as much


@dataclass(frozen=True)
class CountWork:
    """What workers share. spans: shards that are looked at together, by a name with a digest of them. how: a digest of
    what decides hashes and answers besides."""

    pool: str
    sets: tuple[EvalSet, ...]
    spans: Mapping[str, tuple[int, ...]]
    how: str

    @classmethod
    def of(cls, pool: Pool, sets: Sequence[EvalSet]) -> CountWork:
        from stages.eval_search import spans_of
        from stages.fingerprint import VERSION, decoders

        how = short_hash([NEAR, FLAT, VERSION, decoders()])
        whole = replace(pool.shape()[0], generations=())  # many small lists are no reason for many spans
        return cls(pool.storage.url, tuple(sets), spans_of(whole, ROWS), how)

    def prints(self, number: int) -> str:
        """File with what the pictures of a set are known by."""
        return f"{self._folder(number)}/prints.parquet"

    def overlap(self, number: int, span: str) -> str:
        """File with the rows of those that are in a span."""
        return f"{self._folder(number)}/{span}.parquet"

    def _folder(self, number: int) -> str:
        return f"judge/sets/{self.sets[number].digest}-{self.how}"

    def to_print(self, storage: Storage) -> list[str]:
        """Items of `print_set` that are not done."""
        return [str(i) for i in range(len(self.sets)) if not storage.exists(self.prints(i))]

    def to_count(self, storage: Storage) -> list[str]:
        """Items of `count_overlap` that are not done."""
        every = ((i, span) for i in range(len(self.sets)) for span in self.spans)
        return [f"{i}/{span}" for i, span in every if not storage.exists(self.overlap(i, span))]

    def found(self, storage: Storage, number: int) -> dict[str, Any]:
        """task, n, in_pool, and near: the bits within which hashes were compared, or NOT_HASHED."""
        about = read_footer(storage, self.prints(number))
        inside, hashed = np.zeros(about["rows"], bool), False
        for span in self.spans:
            table, said = read_table(storage, self.overlap(number, span))
            inside[table.column("row").to_numpy()] = True
            hashed = hashed or said["hashed"]
        near = NEAR if hashed else NOT_HASHED
        return {"task": about["task"], "n": about["rows"], "in_pool": int(inside.sum()), "near": near}


def print_set(work: CountWork, item: str) -> dict[str, Any]:
    """Worker: hash the pictures of one set, and check that it is whole.

    Raises:
        UserError: it is not.
    """
    from training_smoke.errors import TrainingError
    from training_smoke.evaluate.tables import AssociationTable
    from training_smoke.evaluate.tasks import TASKS

    chosen = work.sets[int(item)]
    try:
        source = chosen.open()
        kind = getattr(source, "kind", WINOGAVIL if isinstance(source, AssociationTable) else "retrieval")
        table = _prints(source)
        if chosen.task is not None and len(table) != TASKS[chosen.task].size and kind != WINOGAVIL:
            raise TrainingError(f"it has {len(table):,} of the {TASKS[chosen.task].size:,} samples of DataComp's task")
    except TrainingError as e:
        raise UserError(f"evaluation set {chosen.name}: {e}") from e
    known = table.select(["sha256", "phash256", "quality"])
    Storage.at(work.pool).commit(
        work.prints(int(item)), write_parquet(known, {"rows": len(table), "task": kind, "set": chosen.name})
    )
    return {"rows": len(table)}


def count_overlap(work: CountWork, item: str) -> dict[str, Any]:
    """Worker: which pictures of one set are in one span of the pool, into its file."""
    number, span = item.split("/")
    pool = Pool.open(work.pool)
    table, _ = read_table(pool.storage, work.prints(int(number)))
    inside, hashed = _in_shards(pool, work.spans[span], table)
    rows = pa.table({"row": np.flatnonzero(inside)})
    pool.storage.commit(work.overlap(int(number), span), write_parquet(rows, {"rows": len(rows), "hashed": hashed}))
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


def _in_shards(pool: Pool, shards: Sequence[int], table: pa.Table) -> tuple[np.ndarray, bool]:
    """(bool (n,): which are in these shards; did any sample have a hash)."""
    from stages.eval_hashes import NONE, nearest_hashes
    from stages.eval_prints import eval_hashes
    from stages.eval_search import AT_ONCE
    from stages.hash_words import words_of

    digests, hashes = [], [np.zeros((0, 4), np.uint64)]
    for shard in shards:
        facts, _ = pool.facts(shard, ["sha256", "phash256", "phash_quality"])
        digests += facts.column("sha256").chunks
        clear = pc.fill_null(pc.greater_equal(facts.column("phash_quality"), FLAT), False)
        hashes.append(words_of(facts.column("phash256").filter(clear).drop_null(), "phash256", 256))
    inside = pc.is_in(table.column("sha256"), value_set=pa.chunked_array(digests, pa.string())).to_numpy()
    theirs = np.concatenate(hashes)
    for start in range(0, len(table), AT_ONCE):
        words, row = eval_hashes(table.slice(start, AT_ONCE), "phash256", FLAT)
        _, nearest = nearest_hashes(words, theirs, np.arange(len(theirs)), NEAR)
        inside[start + row[nearest != NONE]] = True
    return inside, len(theirs) > 0
