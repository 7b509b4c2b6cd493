"""What evaluation pictures are known by: the digest of their bytes, and perceptual hashes in eight orientations.

    table = prints(chosen)                            # a row a picture: item, sha256, phash64, phash256, quality, error
    words, row = eval_hashes(table, "phash256", 50)   # uint64 (8 m, 4), and int64 (8 m,): the row that each is of

A mirrored or turned copy has another hash altogether, so the evaluation picture is hashed in all its orientations
(stages/fingerprints_dihedral.py): its few pictures pay for that, and the hashes of the pool serve as they are.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator

import numpy as np
import pyarrow as pa

from stages.decode import DecodeError, decode
from stages.eval_sets import EvalSet, Picture, pictures
from stages.fingerprint import luma_of, quality_from_gray
from stages.fingerprints_dihedral import orientations64, orientations256
from stages.hash_words import words_of
from stages.lanczos import thumbnails

ORIENTATIONS = 8
PRINTS = pa.schema(
    [
        ("item", pa.string()),
        ("sha256", pa.string()),  # hex, of the file's bytes
        ("phash64", pa.binary(8 * ORIENTATIONS)),  # big-endian, of each orientation; the first is upright
        ("phash256", pa.binary(32 * ORIENTATIONS)),
        ("quality", pa.uint8()),  # as stages.fingerprint has it; null, as the hashes, where it does not decode
        ("error", pa.string()),
    ]
)
AT_ONCE = 512  # pictures whose bytes are held


def prints(chosen: EvalSet) -> pa.Table:
    """A row a picture, in the order of the set. One that does not decode has its digest, and `error` says why.

    Raises:
        ValueError: as `stages.eval_sets.pictures`; or the set has a path and no picture.
    """
    table = prints_of(pictures(chosen))
    if chosen.path is not None and not table.num_rows:
        raise ValueError(f"evaluation set {chosen.name}: no picture in {chosen.path}")
    return table


def prints_of(found: Iterable[Picture]) -> pa.Table:
    """The same of any pictures."""
    tables = [pa.Table.from_pylist([_print(p) for p in some], PRINTS) for some in _chunks(found)]
    return pa.concat_tables([PRINTS.empty_table(), *tables])


def _chunks(found: Iterable[Picture]) -> Iterator[list[Picture]]:
    some: list[Picture] = []
    for picture in found:
        some.append(picture)
        if len(some) == AT_ONCE:
            yield some
            some = []
    if some:
        yield some


def _print(picture: Picture) -> dict[str, object]:
    known: dict[str, object] = {"item": picture.item, "sha256": hashlib.sha256(picture.data).hexdigest()}
    try:
        small, large = thumbnails(luma_of(decode(picture.data).pixels))
    except DecodeError as e:
        return known | {"error": str(e)}
    return known | {
        "phash64": orientations64(small[None]).astype(">u8").tobytes(),
        "phash256": orientations256(large[None]).tobytes(),
        "quality": int(quality_from_gray(large[None])[0]),
    }


def eval_hashes(table: pa.Table, field: str, min_quality: int) -> tuple[np.ndarray, np.ndarray]:
    """(uint64 (8 m, words), int64 (8 m,): the row of each) of the m pictures whose quality is enough.

    Pictures that lack structure (flat ones, and those that do not decode) have none: their hashes say nothing.

    Args:
        field: phash64 (1 word) or phash256 (4 words).
    """
    clear = np.flatnonzero(table.column("quality").fill_null(0).to_numpy() >= max(min_quality, 1))
    column = table.column(field)
    if len(clear) < len(table):
        column = column.take(pa.array(clear))
    wide = 1 if field == "phash64" else 4
    words = words_of(column, field, 64 * ORIENTATIONS * wide).reshape(len(clear) * ORIENTATIONS, wide)
    return words, np.repeat(clear, ORIENTATIONS)
