"""Where the samples of a pack come from: said of each sample beside the files, and counted for the card.

`samples/00000042.parquet` has one row for each copy in the file of that number, in its order: DuckDB and pandas look
a pack up without opening its tars.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curate.pool.columns import read_table
from curate.pool.facts import FACTS
from curate.pool.layout import part_file
from curate.pool.storage import Storage
from curate.run.pack.members import COPIED, Said

SAMPLES = "samples"
MOST = 500  # values of a language, licence or list that are counted in a shard; more are no such thing
LICENCES = ("license", "licence", "license_name", "licence_name", "license_url", "licence_url", "rights")
WORD = pa.dictionary(pa.int32(), pa.string())

INDEX = pa.schema(
    [
        ("uid", pa.string()),
        ("key", pa.string()),  # of the sample in its file: <uid>, or <uid>-<copy>
        ("file", WORD),
        ("image", pa.string()),  # name of the image in its tar
        ("offset", pa.int64()),  # of the image's bytes in its tar; null in a parquet
        ("bytes", pa.int32()),
        ("copy", pa.int32()),
        ("weight", pa.int32()),  # null where copies are written
        ("text", pa.large_string()),
        *(FACTS.field(n) if n != "list" else pa.field(n, WORD) for n in COPIED),
        ("recipe", WORD),
        ("kept", WORD),
    ]
)


@dataclass(frozen=True)
class Origin:
    """What holds for every sample. recipe: ``<name>@<hash>`` of the pick. kept: the filters that it passed."""

    recipe: str
    kept: str

    @classmethod
    def of(cls, pick: str, about: Mapping[str, Any]) -> Origin:
        steps = [s["id"] for s in about.get("steps", ())]
        return cls(pick.removeprefix("picks/"), f"passed {', '.join(steps)}" if steps else "no filter")


def index_rows(members: pa.Table, said: Said, origin: Origin, file: str, offsets: np.ndarray | None) -> pa.Table:
    """INDEX of some consecutive samples of a file.

    Args:
        offsets: int64 (rows,), where in the file each image begins; None in a parquet.
    """
    rows = members.num_rows
    keys = pa.array(said.keys, pa.binary()).cast(pa.string())
    suffixes = pa.array(said.suffixes, pa.binary()).cast(pa.string())
    columns: dict[str, Any] = {
        "uid": pc.utf8_slice_codeunits(keys, 0, 32),
        "key": keys,
        "file": _same(file, rows),
        "image": pc.binary_join_element_wise(keys, suffixes, "."),
        "offset": pa.nulls(rows, pa.int64()) if offsets is None else pa.array(offsets, pa.int64()),
        "text": pa.array(said.texts, pa.large_binary()).cast(pa.large_string()),
        "list": members.column("list").combine_chunks().dictionary_encode(),
        "recipe": _same(origin.recipe, rows),
        "kept": _same(origin.kept, rows),
    }
    return pa.table([columns[n] if n in columns else members.column(n) for n in INDEX.names], schema=INDEX)


def _same(value: str, rows: int) -> pa.DictionaryArray:
    return pa.DictionaryArray.from_arrays(pa.array(np.zeros(rows, np.int32)), pa.array([value]))


def census(storage: Storage, facts: pa.Table, rows: np.ndarray, lang: str | None, item: str) -> dict[str, Any]:
    """How many copies have each list, licence and language, of one shard.

    Args:
        rows: of the shard, one a copy. lang: folder of the column `lang`, None where the recipe has none.
    """
    found = {"list": _counts(facts.column("list"), rows)}
    licence = licence_column(facts.column_names)
    if licence is not None and pa.types.is_string(facts.schema.field(licence).type):
        found["licence"] = _counts(facts.column(licence), rows)
    if lang is not None:
        found["lang"] = _counts(read_table(storage, part_file(lang, item), ["lang"])[0].column("lang"), rows)
    return found


def licence_column(names: Iterable[str]) -> str | None:
    """The input's column that names a licence, if it has one."""
    low = {n.lower(): n for n in names}
    return next((low[n] for n in LICENCES if n in low), None)


def _counts(column: pa.ChunkedArray, rows: np.ndarray) -> dict[str, int] | None:
    counted = pc.value_counts(column.take(pa.array(rows)).combine_chunks()).to_pylist()
    if len(counted) > MOST:
        return None
    return {c["values"] if c["values"] is not None else "": c["counts"] for c in counted}


def summed(found: Iterable[Mapping[str, Mapping[str, int] | None]]) -> dict[str, dict[str, int]]:
    """Censuses of shards in one, most frequent first; what one shard could not count is left out."""
    totals: dict[str, Counter[str]] = {}
    lost: set[str] = set()
    for census in found:
        for name, counts in census.items():
            if counts is None:
                lost.add(name)
            else:
                totals.setdefault(name, Counter()).update(counts)
    ordered = {n: sorted(c.items(), key=lambda kv: (-kv[1], kv[0])) for n, c in totals.items() if n not in lost}
    return {n: dict(c) for n, c in sorted(ordered.items()) if len(c) <= MOST}
