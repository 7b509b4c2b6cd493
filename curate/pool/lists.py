"""Lists: what the user gave, cut into numbered shards before anything is fetched.

claim = register(storage, source, shard_size=10_000)     # reads the input twice, in bounded memory
table = listed(storage, claim, claim.first)              # LISTED and the input's further columns

A claim is committed first-wins at the number where the last one ends, after the sorted uids that its list adds. So
claims stand in one order that everybody sees, each was compared with all before it, and no uid is in two lists,
without any lock. Who loses the number compares with the winner's uids and tries at the next one.
"""

from __future__ import annotations

import errno
import json
import shutil
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
from pydantic import BaseModel, ConfigDict

from curate.errors import UserError
from curate.pool import spill as spilled
from curate.pool.columns import read_table, uid_digest, write_parquet
from curate.pool.facts import LISTED
from curate.pool.layout import CLAIMS, folder_name
from curate.pool.spill import Clash, Spill, kept_only, mark_duplicates
from curate.pool.storage import Storage, full_disk
from curate.pool.uid_runs import Runs, mark_known_by, write_runs
from curate.pool.uids import identify, source_ids, uid_hex
from stages.base import shard_name

EXAMPLES = 20
RETRY = "retry"  # kind of a claim of rows that are in a list before it


class Claim(BaseModel):
    """Shard numbers [first, first + shards) and whose they are; the content of ``lists/claims/<first>.json``.

    rows: in the shards. duplicate_uid: rows of the input left out because they recur in it. known: left out because
    the pool had them. refused: {"count", "reasons": {reason: n}, "examples": [{file, name, reason}]}.
    damaged: [{file, reason}]. columns: {name: type} of the input's further columns. A claim with 0 shards (nothing
    new in the list) is never written. kind: "list", or "retry" (`source` then has `of`: the list, attempt, outcomes).
    """

    model_config = ConfigDict(frozen=True, extra="ignore")
    list: str
    hash: str
    kind: str = "list"
    first: int
    shards: int
    rows: int
    shard_size: int = 10_000
    duplicate_uid: int = 0
    known: int = 0
    refused: dict[str, Any] = {}
    damaged: tuple[dict[str, str], ...] = ()
    invalid_utf8: int = 0
    columns: dict[str, str] = {}
    bytes_column: str | None = None
    uid_runs: tuple[str, ...] = ()
    source: dict[str, Any] = {}

    @property
    def folder(self) -> str:
        return folder_name("lists", self.list, self.hash)

    @property
    def origin(self) -> str:
        """The list that the rows come from: <list>@<hash>, also of a retry."""
        return str(self.source["of"]) if self.kind == RETRY else f"{self.list}@{self.hash}"

    @property
    def attempt(self) -> int:
        """Which attempt at its URLs this is, from 0."""
        return int(self.source["attempt"]) if self.kind == RETRY else 0

    @property
    def numbers(self) -> range:
        return range(self.first, self.first + self.shards)

    def file(self, shard: int) -> str:
        """Where a shard of the list lies in the pool."""
        return f"{self.folder}/{shard_name(shard)}.parquet"


@dataclass
class Findings:
    """What reading a source found, besides rows. `columns`: the input's further columns, input name -> field."""

    columns: dict[str, pa.Field] = field(default_factory=dict)
    bytes_column: str | None = None
    damaged: list[dict[str, str]] = field(default_factory=list)
    invalid_utf8: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    examples: list[dict[str, str]] = field(default_factory=list)

    def refuse(self, file: str, name: str, reason: str, detail: str = "") -> None:
        """Count a sample that is not taken; the first few are kept by name."""
        self.reasons[reason] += 1
        if len(self.examples) < EXAMPLES:
            self.examples.append({"file": file, "name": name, "reason": f"{reason}: {detail}" if detail else reason})

    def damage(self, file: str, reason: str) -> None:
        self.damaged.append({"file": file, "reason": reason})

    def refused(self) -> dict[str, Any]:
        return {"count": self.reasons.total(), "reasons": dict(sorted(self.reasons.items())), "examples": self.examples}


@dataclass(frozen=True)
class Rows:
    """Some rows of one input file, in list order; `numbers` are their rows, lines or samples in it, from 1.

    The survey's table has the strings given, url, text, content; the second reading's has given, url, text, sha256,
    place, and the further columns under the names of `Findings.columns`.
    """

    file: str
    numbers: np.ndarray
    table: pa.Table


class Source(Protocol):
    """Input that can be read twice, giving the same rows in the same order."""

    @property
    def name(self) -> str: ...

    @property
    def hash(self) -> str: ...

    @property
    def about(self) -> dict[str, Any]: ...

    def survey(self, findings: Findings) -> Iterator[Rows]:
        """First reading: what the uids are made of. Fills `findings`, whole once the iterator is at its end."""

    def rows(self, findings: Findings) -> Iterator[Rows]:
        """Second reading: everything, typed as the survey found."""


def claims(storage: Storage) -> list[Claim]:
    """Every claim, in the order of shard numbers."""
    names = [e.name for e in storage.list(CLAIMS) if e.name.endswith(".json")]
    return [Claim.model_validate_json(storage.read(f"{CLAIMS}/{n}")) for n in names]


def next_number(known: list[Claim]) -> int:
    """The first shard number that no claim has."""
    return known[-1].first + known[-1].shards if known else 0


def commit_claim(storage: Storage, claim: Claim) -> bool:
    """True if the numbers are ours; False if somebody took the first of them."""
    data = json.dumps(claim.model_dump(mode="json"), sort_keys=True, indent=1, ensure_ascii=False)
    return storage.commit(f"{CLAIMS}/{shard_name(claim.first)}.json", data.encode())


def listed(storage: Storage, claim: Claim, shard: int) -> pa.Table:
    """The rows of one shard of a list: `LISTED` and the input's further columns."""
    return read_table(storage, claim.file(shard))[0]


def register(storage: Storage, source: Source, shard_size: int = 10_000) -> Claim:
    """Give the list shard numbers and write its shards; what is there already is not made again.

    Memory is bounded by one shard and some 300 MB, whatever the length of the list; about 50 bytes a row are needed
    on the disk of `storage.scratch()`.

    Raises:
        UserError: no rows at all, a given uid that stands for two samples, unreadable input.
    """
    mine = _find(claims(storage), source)
    if mine and not _missing(storage, mine):
        return mine
    folder = storage.scratch()
    folder.mkdir(parents=True)
    try:
        return _Registration(storage, source, shard_size, folder).run(mine)
    except OSError as e:
        if e.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS):
            raise full_disk(e, str(folder)) from e
        raise
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _find(known: list[Claim], source: Source) -> Claim | None:
    return next((c for c in known if c.kind == "list" and (c.list, c.hash) == (source.name, source.hash)), None)


def _missing(storage: Storage, claim: Claim) -> set[int]:
    there = {e.name for e in storage.list(claim.folder)}
    return {n for n in claim.numbers if f"{shard_name(n)}.parquet" not in there}


class _Registration:
    """One list on its way into the pool."""

    def __init__(self, storage: Storage, source: Source, shard_size: int, folder: Path) -> None:
        self.storage, self.source, self.shard_size = storage, source, shard_size
        self.findings = Findings()
        self.spill = Spill(folder)
        self.fates = np.zeros(0, np.uint8)

    def run(self, mine: Claim | None) -> Claim:
        self._survey()
        try:
            mark_duplicates(self.spill, self.fates)
        except Clash as clash:
            raise self._explain(clash) from None
        claim = self._compare(mine) if mine else self._claim()
        missing = _missing(self.storage, claim)
        if missing:
            self._write(claim, missing)
        return claim

    def _survey(self) -> None:
        for rows in self.source.survey(self.findings):
            columns = (rows.table.column(n).combine_chunks() for n in ("given", "url", "text", "content"))
            self.spill.add(identify(*columns))
        self.fates = self.spill.finish()
        if not self.spill.rows:
            refused = self.findings.refused()
            if refused["count"] or self.findings.damaged:
                why = f"all {refused['count']} samples were refused: {refused['examples'] + self.findings.damaged}"
                raise UserError(f"list {self.source.name}: nothing in it can be used; {why}")
            raise UserError(f"list {self.source.name}: empty list: {self.source.about.get('path')} has no rows")

    def _claim(self) -> Claim:
        seen = 0
        while True:
            known = claims(self.storage)
            winner = _find(known, self.source)
            if winner:  # another driver registered the same list meanwhile
                return self._compare(winner, seen)
            self._mark_known(known[seen:])
            seen = len(known)
            claim = self._draft(next_number(known))
            if not claim.shards:
                return claim
            prefix = folder_name("uids", claim.list, claim.hash)
            claim = claim.model_copy(update={"uid_runs": write_runs(self.storage, prefix, self.spill, self.fates)})
            if commit_claim(self.storage, claim):
                return claim

    def _compare(self, mine: Claim, seen: int = 0) -> Claim:
        """Drop what the claims before ours have, so that the rows that stay are the ones it counted."""
        before = [c for c in claims(self.storage) if c.first < mine.first]
        self._mark_known(before[seen:])
        kept, _, _ = spilled.tally(self.fates)
        if kept != mine.rows:
            raise UserError(
                f"list {mine.list}@{mine.hash}: its claim counts {mine.rows} rows, its input gives {kept}: the input "
                "has changed behind a cached digest; put the old files back, or give the list another `name:`"
            )
        return mine

    def _draft(self, first: int) -> Claim:
        rows, duplicates, known = spilled.tally(self.fates)
        found = self.findings
        return Claim(
            list=self.source.name,
            hash=self.source.hash,
            first=first,
            shards=-(-rows // self.shard_size),
            rows=rows,
            shard_size=self.shard_size,
            duplicate_uid=duplicates,
            known=known,
            refused=found.refused(),
            damaged=tuple(found.damaged),
            invalid_utf8=found.invalid_utf8,
            columns={f.name: str(f.type) for f in found.columns.values()},
            bytes_column=found.bytes_column,
            source=self.source.about,
        )

    def _mark_known(self, earlier: list[Claim]) -> None:
        runs = [(c, Runs(self.storage, c.uid_runs)) for c in earlier if c.uid_runs]
        if not runs:
            return
        for low, high, found in self.spill.groups():
            kept = kept_only(found, self.fates)
            for claim, run in runs:
                try:
                    mark_known_by(run, low, high, kept, self.fates)
                except Clash as clash:
                    raise self._explain(clash, claim) from None

    def _write(self, claim: Claim, missing: set[int]) -> None:
        """Second reading: the rows that stay, cut into shards of exactly `shard_size`, the last one shorter."""
        shard, waiting, held = claim.first, [], 0
        for table in self._kept_tables():
            waiting.append(table)
            held += table.num_rows
            while held >= claim.shard_size:
                whole = pa.concat_tables(waiting)
                self._write_shard(claim, shard, whole.slice(0, claim.shard_size), missing)
                rest = whole.slice(claim.shard_size)
                shard, waiting, held = shard + 1, [rest], rest.num_rows
        if held:
            self._write_shard(claim, shard, pa.concat_tables(waiting), missing)

    def _write_shard(self, claim: Claim, shard: int, table: pa.Table, missing: set[int]) -> None:
        if shard in missing:
            footer = {"rows": table.num_rows, "uid_digest": uid_digest(table.column("uid"))}
            self.storage.commit(claim.file(shard), write_parquet(table, footer))

    def _kept_tables(self) -> Iterator[pa.Table]:
        fields = list(self.findings.columns.values())
        schema = pa.schema([*LISTED, *fields])
        start = 0
        for rows in self.source.rows(self.findings):
            table, size = rows.table, rows.table.num_rows
            if start + size > self.spill.rows:
                break
            own = {"uid": self.spill.uid_slice(start, size), "source_id": source_ids(_whole(table, "given"))}
            columns = [own[f.name] if f.name in own else table.column(f.name) for f in schema]
            kept = pa.array(np.asarray(self.fates[start : start + size]) == spilled.KEPT)
            yield pa.Table.from_arrays(columns, schema=schema).filter(kept)
            start += size
        if start != self.spill.rows:
            raise UserError(
                f"list {self.source.name}: its files changed while they were read; run the same command again"
            )

    def _explain(self, clash: Clash, claim: Claim | None = None) -> UserError:
        """Name both rows of a uid that stands for two samples; reads the input again to find them."""
        here = self._whereabouts([clash.position] if clash.other is None else [clash.position, clash.other])
        there = here[1] if claim is None else _in_pool(self.storage, claim, clash.uid)
        return UserError(
            f"uid {uid_hex(clash.uid)} is given twice, for different samples:\n  {here[0]}\n  {there}\n"
            "give each sample a uid of its own, or write `uid: null` under `source:` to make uids from text and url"
        )

    def _whereabouts(self, positions: list[int]) -> list[str]:
        found: dict[int, str] = {}
        start = 0
        for rows in self.source.survey(Findings()):
            size = rows.table.num_rows
            for p in positions:
                if start <= p < start + size:
                    row = rows.table.slice(p - start, 1).to_pylist()[0]
                    found[p] = _row(f"{rows.file}:{rows.numbers[p - start]}", row)
            start += size
            if len(found) == len(positions):
                break
        return [found[p] for p in positions]


def _row(where: str, row: dict[str, Any]) -> str:
    text = row["text"]
    return f"{where}: url {row['url']!r}, text {text[:80] + '...' if text and len(text) > 80 else text!r}"


def _in_pool(storage: Storage, claim: Claim, uid: bytes) -> str:
    missing = _missing(storage, claim)
    for shard in (n for n in claim.numbers if n not in missing):
        table = listed(storage, claim, shard)
        at = table.column("uid").to_pylist().index(uid) if uid in set(table.column("uid").to_pylist()) else -1
        if at >= 0:
            return _row(f"{claim.file(shard)}, row {at + 1} (list {claim.list})", table.slice(at, 1).to_pylist()[0])
    return f"a row of list {claim.list}, whose shards are not written yet"


def _whole(table: pa.Table, name: str) -> pa.Array:
    column = table.column(name)
    return column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
