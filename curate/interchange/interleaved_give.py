"""Interleaved documents out of a pool, with the pictures that a recipe has kept.

    for line in export_documents("pools/web", "out", recipe="mine"): print(line)

A picture that was not kept, or has been taken down, is left out of its document; a document with too few or too many
left is left out altogether. Each picture has the uid of its sample: `packs/<recipe>@<hash>/samples/` says in which tar
it lies. One file is written for each part of the import; the same call again writes those that are missing.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import islice
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from curate.errors import UserError
from curate.interchange import interleaved_mmc4, interleaved_obelics
from curate.interchange.export import clean
from curate.interchange.interleaved import FOLDER, FORMATS, Document, Format, document_of
from curate.interchange.interleaved_kept import By, Kept
from curate.interchange.interleaved_match import STORED, Matcher, assigned
from curate.pool.columns import read_table, write_parquet
from curate.pool.layout import ABOUT
from curate.pool.pool import Pool
from curate.pool.storage import Storage
from curate.run.progress import Progress, Telling

VERSION = 1
SAID = "curate_documents.json"
ROWS = 64  # documents that are Python's at a time


@dataclass(frozen=True)
class Wanted:
    """How documents leave a pool.

    by: a picture is kept if its own sample is ("url"), or also if another one of the same bytes is ("sha256").
    least, most: pictures of a document. assign: None, what the documents say; "stored": anew among the pictures that
    are left, by the similarities that came with them; else by a column of image vectors (`clip_image`).
    """

    form: Format | None = None
    by: By = "url"
    least: int = 1
    most: int | None = None
    assign: str | None = None


def export_documents(
    pool_url: str,
    folder: str,
    *,
    recipe: str,
    documents: str | None = None,
    wanted: Wanted = Wanted(),
    device: str = "cpu",
    telling: Telling | None = None,
    command: str = "curate export-documents",
) -> list[str]:
    """Write the documents of a pool into a folder, local or of any scheme that a pool may have.

    Args:
        recipe: a recipe file that was run, its name, or a pick in full.
        documents: which ones, where the pool has several: <name> or <name>@<hash>.

    Returns:
        What was done, in words.

    Raises:
        UserError: no such documents or pick, or the folder has another export.
    """
    from curate.ask.handle import pick_of

    pool = Pool.open(pool_url)
    source = find_documents(pool.storage, documents)
    pick = pick_of(pool, recipe)
    target = Storage.at(folder)
    if target.exists("pool.json"):
        raise UserError(f"{folder}: this is a pool; give a folder of its own")
    said = {"documents": source, "pick": pick, "removed": pool.removed_digest(), "version": VERSION, **asdict(wanted)}
    _refuse_another(target, folder, said)
    parts = [e.name.removesuffix(".parquet") for e in pool.storage.list(f"{source}/parts")]
    missing = [part for part in parts if not target.exists(_counts(part))]
    with Progress(None, command, telling=telling or Telling()) as progress:
        try:
            if missing:  # with nothing left to do, nothing is read
                progress.say(f"reading {pick}")
                giver = Giver.of(pool, source, pick, wanted, device)
            for number, part in enumerate(missing, 1):
                made = giver.made(part)
                if number == 1:  # not before anything can be written: what failed may be asked for otherwise
                    target.commit(SAID, json.dumps(said, indent=1, sort_keys=True).encode())
                    _refuse_another(target, folder, said)  # who came first, if two came at once
                target.commit(made.name, made.data)
                target.commit(_counts(part), json.dumps(made.counts).encode())  # says that the part is whole
                progress.say(f"{number:,} of {len(missing):,} parts")
        finally:
            clean(target)
    totals: Counter[str] = Counter()
    for part in parts:
        totals.update(json.loads(target.read(_counts(part))))
    lines = [
        f"{folder}: {totals['documents']:,} of {totals['of_documents']:,} documents, with {totals['pictures']:,} of "
        f"{totals['of_pictures']:,} pictures",
        f"pictures have the uids of samples of {pick}: its pack has them",
    ]
    if totals["unassigned"]:
        lines.append(f"{totals['unassigned']:,} documents came without similarities: their pictures stay in place")
    return lines


def find_documents(storage: Storage, name: str | None) -> str:
    """The folder of documents that is meant; finished imports only.

    Raises:
        UserError: none, or several.
    """
    there = [f for f in storage.folders(FOLDER) if _format_of(storage, f) in FORMATS]
    found = [f for f in there if name is None or name in (f, f.rsplit("@", 1)[0], f"{FOLDER}/{f}")]
    if len(found) == 1:
        return f"{FOLDER}/{found[0]}"
    have = ", ".join(found or there) or "none; `curate import-documents` brings them in"
    problem = "which documents? say --documents NAME" if found else f"no documents {name or ''}".strip()
    raise UserError(f"{storage}: {problem}; there are: {have}")


def _format_of(storage: Storage, folder: str) -> str | None:
    """What a folder beside others has: documents, or LLaVA's conversations; None: an import that has not ended."""
    rel = f"{FOLDER}/{folder}/{ABOUT}"
    return str(json.loads(storage.read(rel))["format"]) if storage.exists(rel) else None


def _refuse_another(target: Storage, folder: str, said: dict[str, Any]) -> None:
    """A folder never holds parts of two exports."""
    if not target.exists(SAID):
        return
    have = json.loads(target.read(SAID))
    differ = [name for name in sorted(have.keys() | said.keys()) if have.get(name) != said.get(name)]
    if differ:
        raise UserError(
            f"{folder}: has an export with another "
            + ", ".join(f"{n} ({have.get(n)!r}, now {said.get(n)!r})" for n in differ)
            + "; give another folder, or delete this one"
        )


def _counts(part: str) -> str:
    return f"counts/{part}.json"


@dataclass(frozen=True)
class Made:
    """A part, as a file. counts: of_documents, of_pictures, documents, pictures, unassigned."""

    name: str
    data: bytes
    counts: Counter[str]


@dataclass
class Giver:
    """Makes parts of one folder of documents."""

    pool: Pool
    source: str
    wanted: Wanted
    form: Format
    kept: Kept
    matcher: Matcher | None

    @classmethod
    def of(cls, pool: Pool, source: str, pick: str, wanted: Wanted, device: str) -> Giver:
        """Reads the pick, and loads what assigns."""
        came = json.loads(pool.storage.read(f"{source}/{ABOUT}"))["format"]
        if (came, wanted.assign) == ("obelics", STORED):
            raise UserError(
                f"--assign {STORED}: OBELICS has no similarities; name a column with image vectors of a CLIP instead"
            )
        kept = Kept.of(pool, pick, wanted.by)
        by_column = wanted.assign not in (None, STORED)
        matcher = Matcher.of(pool, pick, str(wanted.assign), kept, device) if by_column else None
        return cls(pool, source, wanted, wanted.form or came, kept, matcher)

    def made(self, part: str) -> Made:
        """One part."""
        table, _ = read_table(self.pool.storage, f"{self.source}/parts/{part}.parquet")
        pictures = pc.sum(pc.list_value_length(table.column("images"))).as_py()
        counts = Counter(of_documents=table.num_rows, of_pictures=pictures)
        name, data = (_zipped if self.form == "mmc4" else _parquet)(part, self._documents(table, counts))
        return Made(name, data, counts)

    def _documents(self, table: pa.Table, counts: Counter[str]) -> Iterator[Document]:
        """Those that stay, with the pictures that stay."""
        samples = iter(self._samples(table).tolist())
        for row in (row for batch in table.to_batches(ROWS) for row in batch.to_pylist()):
            document = document_of(row)
            here = [next(samples) for _ in document.pictures]
            left = [s for s in here if s >= 0]
            if not self.wanted.least <= len(left) or (self.wanted.most is not None and len(left) > self.wanted.most):
                continue
            counts["documents"] += 1
            counts["pictures"] += len(left)
            yield self._placed(document.without({i for i, s in enumerate(here) if s < 0}), left, counts)

    def _samples(self, table: pa.Table) -> Any:
        """int64: the sample in `kept` of every picture of the part, -1 where it is not kept."""
        images = table.column("images").combine_chunks().flatten()
        return self.kept.find(pc.struct_field(images, "uid"))

    def _placed(self, document: Document, samples: Sequence[int], counts: Counter[str]) -> Document:
        """With the uids of the samples that are kept, at the sentences that are asked for."""
        uids = self.kept.uid(samples)
        pictures = tuple(replace(p, uid=uid) for p, uid in zip(document.pictures, uids, strict=True))
        document = replace(document, pictures=pictures)
        if self.wanted.assign is None or not document.texts or not pictures:
            return document
        if self.matcher is not None:
            return assigned(document, self.matcher.similarities(document, samples))
        if document.similarities is None:
            counts["unassigned"] += 1
            return document
        return assigned(document, document.similarities)


def _zipped(part: str, documents: Iterable[Document]) -> tuple[str, bytes]:
    """(name, bytes) as MMC4 has its files: the same documents, the same bytes."""
    lines = b"".join(json.dumps(interleaved_mmc4.say(d)).encode() + b"\n" for d in documents)
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        member = zipfile.ZipInfo(f"docs_shard_{part}.jsonl")  # of 1980: no time of today
        member.compress_type = zipfile.ZIP_DEFLATED
        archive.writestr(member, lines)
    return f"docs_shard_{part}.jsonl.zip", out.getvalue()


def _parquet(part: str, documents: Iterable[Document]) -> tuple[str, bytes]:
    """(name, bytes) as OBELICS has its files."""
    rows = (interleaved_obelics.say(d) for d in documents)
    tables = [interleaved_obelics.SCHEMA.empty_table()]
    while some := list(islice(rows, ROWS)):
        tables.append(pa.Table.from_pylist(some, schema=interleaved_obelics.SCHEMA))
    table = pa.concat_tables(tables).combine_chunks()
    return f"train-{part}.parquet", write_parquet(table, {"rows": table.num_rows})
