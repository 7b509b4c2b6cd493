"""Interleaved documents into a pool: a table of documents, and the list of their pictures, which a recipe fetches.

    for line in import_documents(["mmc4/*.jsonl.zip"], "pools/web"): print(line)

Killed half-way, the same call goes on with the first input file that it had not finished.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import ValidationError

from curate.errors import UserError
from curate.interchange.interleaved import FOLDER, IMAGE, Document, Format, table_of
from curate.interchange.interleaved_mmc4 import TextRule
from curate.interchange.interleaved_read import Read, documents, format_of
from curate.pool.columns import read_table, write_parquet
from curate.pool.layout import ABOUT, folder_name, short_hash
from curate.pool.lists import EXAMPLES, Findings
from curate.pool.storage import Storage
from curate.run.progress import Progress, Telling
from curate.run.sources.files import digest, expand
from curate.run.sources.spec import SourceSpec

VERSION = 3  # rises when the same files would give other tables
PART = 10_000  # documents of a part
BYTES = 64 << 20  # of what they were made of, at which a part ends before it has so many
CHUNK = 4 << 20  # of the same, that are Python's at a time: a document of small things is twenty times as much there
RULES: dict[Format, tuple[TextRule, ...]] = {"mmc4": ("none", "matched"), "obelics": ("none", "alt")}
ENDING = re.compile(r"_*(jsonl|ndjson)?_?(zip)?$")  # of a list's name, made of a file's
NO_NAMES = "--images: pictures of a folder are found by the names that their documents give them"
FETCH = "leave --images out, and a recipe fetches them"
LIST = pa.schema([("url", pa.string()), ("text", pa.string()), ("file", pa.string())])
"""The list of pictures: `file` has the name that the document gives it, for those who have the files already."""


@dataclass
class Taker:
    """Reads files of documents into one folder of a pool. Every part is the same bytes whoever writes it."""

    storage: Storage
    folder: str
    files: Sequence[str]
    form: Format
    rule: TextRule
    part: int = PART
    counts: Counter[str] = field(default_factory=Counter)
    found: Findings = field(default_factory=Findings)

    def marker(self, number: int) -> str:
        return f"{self.folder}/done/{number:05d}.json"

    def file(self, number: int) -> bool:
        """Take one input file; False where that was done before."""
        if self.storage.exists(self.marker(number)):
            return False
        findings, counts = Findings(), Counter[str]()
        read = documents(self.files[number], self.form, self.rule, findings)
        for part, table in enumerate(_parts(read, self.part)):
            counts.update(self._write(f"{number:05d}-{part:05d}", table))
        if findings.invalid_utf8:
            counts["invalid_utf8"] = findings.invalid_utf8
        said = {"file": self.files[number], "counts": dict(counts), "refused": findings.refused()}
        self.storage.commit(self.marker(number), json.dumps(said, indent=1).encode())
        return True

    def _write(self, name: str, table: pa.Table) -> dict[str, int]:
        self.storage.commit(f"{self.folder}/parts/{name}.parquet", write_parquet(table, {"rows": table.num_rows}))
        pictures = table.column("images").combine_chunks().flatten()
        images = _listed(pictures)
        self.storage.commit(f"{self.folder}/images/{name}.parquet", write_parquet(images, {"rows": images.num_rows}))
        named = images.num_rows - images.column("file").null_count
        return {"documents": table.num_rows, "pictures": len(pictures), "listed": images.num_rows, "named": named}

    def finish(self) -> None:
        """Add up the files, and say that all are done.

        Raises:
            UserError: there is no document in any of them.
        """
        for number in range(len(self.files)):
            said = json.loads(self.storage.read(self.marker(number)))
            self.counts.update(said["counts"])
            self.found.reasons.update(said["refused"]["reasons"])
            self.found.examples = [*self.found.examples, *said["refused"]["examples"]][:EXAMPLES]
        refused = self.found.refused()
        if not self.counts["documents"]:
            raise UserError(f"{', '.join(self.files[:3])}: no document in it; refused: {refused['examples'][:3]}")
        about = {"format": self.form, "text": self.rule, "files": list(self.files), "counts": dict(self.counts)}
        self.storage.commit(f"{self.folder}/{ABOUT}", json.dumps({**about, "refused": refused}, indent=1).encode())


def _listed(pictures: pa.StructArray) -> pa.Table:
    """`LIST` of pictures (`IMAGE`), the first of each uid, in their order."""
    table = pa.Table.from_arrays(pictures.flatten(), names=[f.name for f in IMAGE])
    first = table.append_column("row", pa.array(np.arange(len(table)))).group_by("uid").aggregate([("row", "min")])
    rows = table.take(np.sort(first.column("row_min").to_numpy()))
    return pa.Table.from_arrays([rows.column(n) for n in ("url", "text", "name")], schema=LIST)


def _parts(found: Iterable[Read], most: int) -> Iterator[pa.Table]:
    """Parts, as tables: `most` documents, or fewer that have `BYTES` together."""
    chunks: list[pa.Table] = []
    documents: list[Document] = []
    count, size, held = 0, 0, 0
    for read in found:
        documents.append(read.document)
        count, size, held = count + 1, size + read.size, held + read.size
        ended = count == most or size >= BYTES
        if ended or held >= CHUNK:
            chunks.append(table_of(documents))
            documents, held = [], 0
        if ended:
            yield pa.concat_tables(chunks).combine_chunks()
            chunks, count, size = [], 0, 0
    if documents:
        chunks.append(table_of(documents))
    if chunks:
        yield pa.concat_tables(chunks).combine_chunks()


def import_documents(
    paths: Sequence[str],
    pool_url: str,
    *,
    form: Format | None = None,
    rule: TextRule = "none",
    name: str | None = None,
    images: str | None = None,
    part: int = PART,
    telling: Telling | None = None,
    command: str = "curate import-documents",
) -> list[str]:
    """Write the documents of some files into a pool, which need not be there yet. Fetches nothing.

    Args:
        form: "mmc4" or "obelics"; None: by the names of the files.
        rule: the text that the samples of pictures have: "none", which makes one sample of each url; "matched", the
            sentence that MMC4 says, or "alt", the alternative text of OBELICS: one sample of each url and text.
        name: of the documents; default: made of the first path.
        images: a folder that has the pictures already, under the names that the documents give them.

    Returns:
        What was done, in words, and the `source:` of a recipe that fetches the pictures.

    Raises:
        UserError: nothing there, files of two formats, no document in them, `images` for pictures without names.
    """
    files = expand(tuple(paths))
    forms = {form or format_of(file) for file in files}
    if len(forms) > 1:
        raise UserError(f"{files[0]}, {files[-1]}: MMC4 and OBELICS together; import each by itself")
    chosen = forms.pop()
    if rule not in RULES[chosen]:
        raise UserError(f"text {rule!r}: {chosen} has {' or '.join(RULES[chosen])}")
    if images is not None and chosen == "obelics":
        raise UserError(f"{NO_NAMES}: OBELICS gives its pictures none; {FETCH}")
    storage = Storage.at(pool_url)
    label = label_of(paths, name)
    key = short_hash([VERSION, chosen, rule, part, [digest(file) for file in files]])
    taker = Taker(storage, folder_name(FOLDER, label, key), files, chosen, rule, part)
    with Progress(None, command, telling=telling or Telling()) as progress:
        for number, file in enumerate(files):
            if taker.file(number):
                progress.say(f"{number + 1:,} of {len(files):,} files: {file}")
    taker.finish()
    if images is not None and not taker.counts["named"]:
        raise UserError(f"{NO_NAMES}: these documents give their pictures none; {FETCH}")
    return _told(taker, images)


def label_of(paths: Sequence[str], name: str | None) -> str:
    """The name given, else one made of the first path.

    Raises:
        UserError: the name has letters that it may not have.
    """
    try:
        return SourceSpec(path=tuple(paths), name=name).name or ENDING.sub("", _stem(paths)) or "documents"
    except ValidationError as e:
        raise UserError("; ".join(one["msg"].removeprefix("Value error, ") for one in e.errors())) from None


def _stem(paths: Sequence[str]) -> str:
    return SourceSpec(path=tuple(paths)).list_name


def _told(taker: Taker, images: str | None) -> list[str]:
    counts, refused = taker.counts, taker.found.refused()
    lines = [
        f"{taker.folder}: {counts['documents']:,} documents with {counts['pictures']:,} pictures "
        f"of {len(taker.files):,} files"
    ]
    if counts["invalid_utf8"]:
        lines.append(f"{counts['invalid_utf8']:,} texts were no UTF-8: what was not is replaced by U+FFFD")
    if refused["count"]:
        why = ", ".join(f"{reason} {n:,}" for reason, n in refused["reasons"].items())
        first = refused["examples"][0]
        lines.append(f"{refused['count']:,} refused ({why}); the first: {first['file']}:{first['name']}")
    return [*lines, "in a recipe:", *source_lines(taker.storage, taker.folder, images)]


def source_lines(storage: Storage, folder: str, images: str | None) -> list[str]:
    """`pool:` and `source:` of a recipe for the pictures of a folder of documents."""
    plain = {"url": "url", "text": "text"}
    if images is None:
        source: dict[str, Any] = {"path": f"{storage.url}/{folder}/images/*.parquet", **plain, "keep": []}
    else:
        table = whole_list(storage, folder)
        source = {"path": images, "kind": "folder", "table": str(table), "file": "file", **plain, "keep": []}
    said = ", ".join(f"{key}: {json.dumps(value)}" for key, value in source.items())
    return [f"  pool: {json.dumps(storage.url)}", f"  source: {{{said}}}"]


def whole_list(storage: Storage, folder: str) -> Path:
    """The list of pictures as one file, which `table:` of a folder wants; made once, one part in memory."""
    rel = f"{folder}/images.parquet"
    if not storage.exists(rel):
        path = storage.scratch()
        with pq.ParquetWriter(path, LIST, compression="zstd") as out:
            for entry in storage.list(f"{folder}/images"):
                out.write_table(read_table(storage, f"{folder}/images/{entry.name}")[0])
        storage.commit(rel, path)
    return storage.local(rel)
