"""One source as the pool reads it: files in order, twice the same rows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from curate.errors import UserError
from curate.pool.layout import short_hash
from curate.pool.lists import Findings, Rows
from curate.run.sources.files import digest, expand, is_folder, is_local
from curate.run.sources.folder import folder_digest, read_folder, read_folder_table
from curate.run.sources.names import nearest
from curate.run.sources.raw import Raw, Reading, rows_of
from curate.run.sources.spec import AUTO, SourceSpec
from curate.run.sources.tables import image_columns, read_table_file, schema_of, table_format
from curate.run.sources.tars import read_tar

READER_VERSION = 1  # rises when the same files would give other rows


@dataclass
class ListSource:
    """Files of one kind and how to read them; a `curate.pool.lists.Source`."""

    spec: SourceSpec
    kind: str
    files: list[str]

    @property
    def name(self) -> str:
        return self.spec.list_name

    @property
    def about(self) -> dict[str, Any]:
        return {**self.spec.model_dump(mode="json"), "kind": self.kind}

    @cached_property
    def hash(self) -> str:
        """12 hex digits over the contents of the files and the names of their columns; reads new files once."""
        columns = self.spec.model_dump(mode="json", exclude={"path", "name", "table"})
        digests = [folder_digest(f) if self.kind == "folder" else digest(f) for f in self.files]
        table = [digest(self._table(f)) for f in self.files if self.spec.table]
        return short_hash([READER_VERSION, self.kind, columns, digests, table])

    def survey(self, findings: Findings) -> Iterator[Rows]:
        """First reading: given, url, text and content of every row; fills `findings`."""
        reading = Reading(self.spec, True, findings, {})
        for file in self.files:
            for raw in self._read(file, reading):
                yield rows_of(raw, reading)
        self._check_names(reading)
        findings.columns = reading.types.fields()

    def rows(self, findings: Findings) -> Iterator[Rows]:
        """Second reading: all columns, typed as the survey found."""
        reading = Reading(self.spec, False, Findings(), findings.columns)
        for file in self.files:
            for raw in self._read(file, reading):
                yield rows_of(raw, reading)

    def _read(self, file: str, reading: Reading) -> Iterator[Raw]:
        if self.kind == "webdataset":
            return read_tar(file, reading)
        if self.kind == "folder":
            return (
                read_folder_table(file, self._table(file), reading) if self.spec.table else read_folder(file, reading)
            )
        if self.kind == "parquet":
            return read_table_file(file, reading, ("text", "image"), "image")
        return read_table_file(file, reading, ("url", "text"))

    def _table(self, folder: str) -> str:
        table = self.spec.table or ""
        return table if table.startswith("/") or not is_local(table) else f"{folder}/{table}"

    def _check_names(self, reading: Reading) -> None:
        """A name that the recipe says must be somewhere in the input."""
        where = ", ".join(self.spec.paths)
        if self.spec.keep != "all":
            for name in (n for n in self.spec.keep if n not in reading.types.found):
                raise UserError(f"{where}: no column {name!r} to keep.{nearest(name, list(reading.types.found))}")
        if self.kind == "webdataset" or (self.kind == "folder" and not self.spec.table):
            for role in ("url", "text", "uid", "sha256"):
                name = getattr(self.spec, role)
                if name not in (None, AUTO) and name not in reading.seen:
                    near = nearest(name, sorted(reading.seen))
                    raise UserError(f"{where}: no .json has a key {name!r} (`{role}:` under `source:`).{near}")


def open_source(spec: SourceSpec) -> ListSource:
    """Find the files of a source and its kind; reads no rows.

    Raises:
        UserError: nothing matches the path, or its files are of several kinds or of none.
    """
    files = expand(spec.paths)
    kinds = {f: _kind(f, spec) for f in files}
    if len(set(kinds.values())) > 1:
        a, b = (next(f for f in files if kinds[f] == k) for k in sorted(set(kinds.values()))[:2])
        raise UserError(f"{a} is of kind {kinds[a]}, {b} of kind {kinds[b]}: give them as two sources")
    kind = next(iter(kinds.values()))
    if spec.table and kind != "folder":
        raise UserError(f"{files[0]}: `table:` under `source:` is for a folder of images; this is of kind {kind}")
    return ListSource(spec, kind, files)


def _kind(file: str, spec: SourceSpec) -> str:
    folder = is_folder(file)
    if spec.kind != "auto":
        if folder != (spec.kind == "folder"):
            raise UserError(
                f"{file}: is {'a' if folder else 'no'} folder; for kind {spec.kind} say {_path_of[spec.kind]}"
            )
        return spec.kind
    if folder:
        return "folder"
    if file.lower().endswith((".tar", ".tar.gz", ".tgz")):
        return "webdataset"
    form = table_format(file)
    if form is None:
        raise UserError(
            f"{file}: cannot tell its kind by its name; say `kind:` under `source:`, or give {_path_of['urls']}"
        )
    has_bytes = form == "parquet" and spec.image is not None and image_columns(schema_of(file))
    return "parquet" if has_bytes else "urls"


_path_of = {
    "urls": "a .parquet, .csv, .tsv or .jsonl file (or a glob such as folder/*.parquet)",
    "webdataset": "tars (a glob such as folder/*.tar)",
    "folder": "the folder itself",
    "parquet": "parquet files (a glob such as folder/*.parquet)",
}
