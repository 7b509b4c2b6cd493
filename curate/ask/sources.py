"""What a pool holds, as SQL sees it: which folders have a file for which shard, with which fields.

A row-aligned file may be joined by position only where its row count and uid digest are those of the shard:
`refuse_misaligned` looks at every file that a query reads, and at no other: a pool has a footer a shard of each of its
many columns.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from curate.errors import UserError
from curate.pool.facts import FACTS
from curate.pool.index import FolderIndex
from curate.pool.layout import PIXELS, part_file
from curate.pool.pool import Pool
from curate.run.parts import parts_by_shard
from stages.base import ERROR, shard_name

FACTS_KEY = ""  # folder of a name that is a fact
ASKED = "asked"  # of a stage for survivors: whether a part has the sample


@dataclass(frozen=True)
class Field:
    """A field of a folder; `binary` ones (uids, hashes) are shown as hex."""

    name: str
    type: pa.DataType

    @property
    def binary(self) -> bool:
        return pa.types.is_fixed_size_binary(self.type)


@dataclass
class Source:
    """One folder with files row-aligned with shards, or (`sparse`) with parts of uid and values.

    `compact` names compacted files by the shards they hold; `index` knows rows and digest of each file.
    """

    folder: str
    fields: list[Field]
    shards: frozenset[int]
    parts: dict[int, list[str]] | None = None
    compact: dict[tuple[int, ...], str] = field(default_factory=dict)
    stale: bool = False  # made by a barrier that saw fewer shards than the pool has now
    index: FolderIndex | None = field(default=None, repr=False, compare=False)

    @property
    def sparse(self) -> bool:
        return self.parts is not None

    @property
    def digest(self) -> str:
        """The 12 hex digits that name the folder."""
        return self.folder.split("/")[1].rsplit("@", 1)[-1]

    def files(self, shards: Sequence[int]) -> list[str]:
        """Files of these shards, in their order: one compacted file where there is one for exactly them."""
        whole = self.compact.get(tuple(shards))
        return [whole] if whole else [part_file(self.folder, shard_name(s)) for s in shards]


@dataclass
class Facts(Source):
    """The pixel folder. Lists carry different extra columns along: fields differ by list."""

    rows: dict[int, int] = field(default_factory=dict)
    list_of: dict[int, int] = field(default_factory=dict)  # shard -> number of the list that claimed it
    fields_of: list[list[Field]] = field(default_factory=list)  # by that number


def read_fields(pool: Pool, rel: str) -> list[Field]:
    """Fields of a parquet file of the pool, from its footer."""
    try:
        schema = pq.read_schema(pool.storage.local(rel))
    except (pa.ArrowInvalid, OSError) as e:
        raise UserError(f"{pool.storage}/{rel}: cannot be read as parquet: {e}; delete this file and run again") from e
    return [Field(f.name, f.type) for f in schema]


def find_facts(pool: Pool) -> Facts:
    """The finished shards, and what is known of their samples as received and as stored."""
    claims = pool.claims()
    list_of = {s: i for i, c in enumerate(claims) for s in range(c["first"], c["first"] + c["shards"])}
    index = pool.index(PIXELS)
    shards = sorted(index.finished(list_of))
    described = index.describe(shards)
    first = {list_of[s]: s for s in reversed(shards)}
    fields_of = [
        read_fields(pool, part_file(PIXELS, shard_name(first[i]))) if i in first else [] for i in range(len(claims))
    ]
    return Facts(
        PIXELS,
        _merged(fields_of) or [Field(f.name, f.type) for f in FACTS],
        frozenset(shards),
        compact=_compacted(index, shards),
        index=index,
        rows={s: described[s][0] for s in shards},
        list_of=list_of,
        fields_of=fields_of,
    )


def _merged(fields_of: Sequence[Sequence[Field]]) -> list[Field]:
    """Each field once, with a type that holds the values of every list."""
    found: dict[str, Field] = {}
    for fields in fields_of:
        for f in fields:
            known = found.get(f.name)
            found[f.name] = f if known is None else Field(known.name, _common_type(known.type, f.type))
    return list(found.values())


def _common_type(a: pa.DataType, b: pa.DataType) -> pa.DataType:
    if a.equals(b):
        return a
    if pa.types.is_integer(a) and pa.types.is_integer(b):
        return pa.int64()
    numeric = [pa.types.is_integer(t) or pa.types.is_floating(t) for t in (a, b)]
    return pa.float64() if all(numeric) else pa.string()


def _compacted(index: FolderIndex, shards: Sequence[int]) -> dict[tuple[int, ...], str]:
    return {tuple(group): name for name, group in index.compacted(shards).items()}


def find_sources(pool: Pool, facts: Facts) -> list[Source]:
    """Folders of columns and last phases of barriers, by name; empty ones are left out."""
    found = [find_source(pool, facts, f"columns/{name}") for name in pool.storage.folders("columns")]
    shards = sorted(facts.shards)
    generation = pool.shape(shards)[1] if shards else ""
    for name in pool.storage.folders("barriers"):
        about = pool.about(f"barriers/{name}")
        if "last" in about:
            source = find_source(pool, facts, f"barriers/{name}/{about['last']}")
            source.stale = about.get("generation") != generation
            found.append(source)
    return [s for s in found if s.fields]


def find_source(pool: Pool, facts: Facts, folder: str) -> Source:
    """What one folder has for the pool's shards."""
    index = pool.index(folder)
    if not index.known:
        parts = parts_by_shard(pool.storage, folder)
        if parts:
            fields = [f for f in read_fields(pool, parts[min(parts)][0]) if f.name != "uid"]
            return Source(folder, [*fields, Field(ASKED, pa.bool_())], frozenset(parts), parts)
    done = sorted(index.finished(facts.shards))
    if not done:
        return Source(folder, [], frozenset())
    fields = read_fields(pool, part_file(folder, shard_name(done[0])))
    return Source(folder, fields, frozenset(done), compact=_compacted(index, done), index=index)


def refuse_misaligned(facts: Facts, source: Source, shards: Sequence[int]) -> None:
    """Before rows of a source are matched with facts by their position.

    Raises:
        UserError: a file of these shards has other rows than its shard.
    """
    if source is facts or source.index is None:  # sparse ones are joined by uid
        return
    assert facts.index is not None
    have, want = source.index.describe(shards), facts.index.describe(shards)
    for s in shards:
        if have[s][:2] != want[s][:2]:
            name = f"{source.index.storage}/{part_file(source.folder, shard_name(s))}"
            raise UserError(
                f"{name}: has {have[s][0]} rows and uid digest {have[s][1]!r}, shard {s} has {want[s][0]} and "
                f"{want[s][1]!r}: it belongs to other rows; delete this file and run again"
            )


def view_names(
    facts: Facts, sources: Sequence[Source], plain: dict[str, tuple[str, str]]
) -> dict[str, tuple[str, str]]:
    """View column -> (folder, field): facts first, then fields of folders.

    Args:
        plain: names that a recipe gives, name -> (folder, field); others that clash with them are written in full.

    A field keeps its plain name where one folder alone writes it (of barriers, one that saw the whole pool);
    else it is called ``field@<hash of the folder>`` in each, as `error` always is. Whom a stage for survivors was asked
    about is `asked`, and under a recipe with several of them ``<its column>_asked``.
    """
    names = {f.name: (FACTS_KEY, f.name) for f in facts.fields}
    taken = {n.lower() for n in names} | {"shard", "row"}
    for name, place in plain.items():
        if name.lower() not in taken:
            names[name] = place
            taken.add(name.lower())
    given = set(plain.values())
    called = {folder: name.lower() for name, (folder, _) in reversed(plain.items())}
    writers: dict[str, int] = {}
    for s in sources:
        for f in s.fields:
            writers[f.name.lower()] = writers.get(f.name.lower(), 0) + (not s.stale)
    for s in sources:
        for f in s.fields:
            if (s.folder, f.name) in given:
                continue
            low = f.name.lower()
            alone = writers[low] == 1 and not s.stale and low not in taken and f.name != ERROR
            name = f.name if alone else f"{f.name}@{s.digest}"
            if not alone and f.name == ASKED and s.folder in called and f"{called[s.folder]}_{ASKED}" not in taken:
                name = f"{called[s.folder]}_{ASKED}"
            names[name] = (s.folder, f.name)
            taken.add(name.lower())
    return names


def about_columns(about: dict[str, Any]) -> dict[str, tuple[str, str]]:
    """The plain names of a pick's recipe that stand for fields of folders."""
    columns = about.get("columns", {})
    return {name: (c["folder"], c["field"]) for name, c in columns.items() if c.get("folder")}
