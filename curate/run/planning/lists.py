"""Lists of a recipe that the pool has not read: about how many rows, in which shards, with which columns.

    ahead = unread(recipe, claims(storage))
    ahead[0].claim.rows, ahead[0].exact

Their files are looked at (footers of parquet, some rows of others), never read through.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow as pa

from curate.pool.lists import Claim, Findings, next_number
from curate.run.sources import open_source
from curate.run.sources.kinds import Types
from curate.run.sources.raw import Reading, rows_of
from curate.run.sources.source import ListSource
from curate.run.sources.tables import read_table_file

if TYPE_CHECKING:
    from curate.recipe import Recipe

UNREAD = "unread"  # stands for the hash of a list that is not read


@dataclass(frozen=True)
class Unread:
    """A list that a run would read first. claim: as that run would make it if none of its rows were known.

    exact: rows were counted, not estimated. bytes: of the images, where the list brings them; else 0. columns: input
    name -> field of the further columns, as far as the files looked at tell.
    """

    source: ListSource
    claim: Claim
    exact: bool
    bytes: int
    columns: dict[str, pa.Field]

    @property
    def has_images(self) -> bool:
        return self.source.kind != "urls"


def unread(recipe: Recipe, known: Sequence[Claim]) -> list[Unread]:
    """The recipe's lists without a claim, their shards numbered behind those that there are.

    Raises:
        UserError: nothing lies where a source says, or it cannot be read.
    """
    found: list[Unread] = []
    names = {c.list for c in known}
    hashes = {(c.list, c.hash) for c in known}
    first = next_number(list(known))
    for spec in recipe.sources:
        source = open_source(spec)
        # Of a name that the pool has, the content decides; of another name there is no need to digest it.
        if spec.list_name in names and (spec.list_name, source.hash) in hashes:
            continue
        found.append(_look(source, first, recipe.shard_size))
        first += found[-1].claim.shards
    return found


def _look(source: ListSource, first: int, shard_size: int) -> Unread:
    from curate.init.take import take

    seen = take(source)
    columns = _further(source, seen.columns)
    claim = Claim(
        list=source.name,
        hash=UNREAD,
        first=first,
        shards=-(-seen.rows.n // shard_size),
        rows=seen.rows.n,
        shard_size=shard_size,
        columns={f.name: str(f.type) for f in columns.values()},
        source=source.about,
    )
    return Unread(source, claim, seen.rows.exact, 0 if source.kind == "urls" else seen.size.n, columns)


def _further(source: ListSource, columns: dict[str, str]) -> dict[str, pa.Field]:
    """Further columns under the names that they will have, by the first file of a table, the sample of others."""
    reading = Reading(source.spec, True, Findings(), {})
    if source.kind in ("urls", "parquet"):
        needed, role = (("text", "image"), "image") if source.kind == "parquet" else (("url", "text"), None)
        raw = next(read_table_file(source.files[0], reading, needed, role), None)
        if raw is not None:
            rows_of(raw, reading)
        return reading.types.fields()
    found = {n: (_type(t), "", True) for n, t in columns.items() if reading.wanted(n)}
    return Types(found).fields()


def _type(name: str) -> pa.DataType:
    """Of a type in words; text where it is no plain one."""
    try:
        return pa.type_for_alias(name)
    except ValueError:
        return pa.string()


def rows_of_shards(known: Sequence[Claim]) -> dict[int, int]:
    """Shard -> its listed rows."""
    found = {}
    for claim in known:
        left = claim.rows
        for shard in claim.numbers:
            found[shard] = min(left, claim.shard_size)
            left -= found[shard]
    return found
