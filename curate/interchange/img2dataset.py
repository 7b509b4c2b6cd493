"""The output of img2dataset as a list: its images by place, its failures with what it said of them.

    output = Output("laion400m-data", "laion400m")      # a curate.pool.lists.Source
    claim = register(pool.storage, output, 10_000)
    take_shard(pool.storage, claim, 0, spec)

Of its layouts webdataset (NNNNN.tar), files (a folder NNNNN) and parquet are read; each has NNNNN.parquet with a row a
URL, and NNNNN_stats.json once the shard is whole. Nothing is downloaded and nothing copied until pixels are made.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import fsspec
import numpy as np
import pyarrow as pa

from curate.errors import UserError
from curate.interchange.said import words
from curate.pool.facts import PLACE
from curate.pool.layout import short_hash
from curate.pool.lists import Findings, Rows
from curate.pool.tar import TarError, members
from curate.run.sources.files import digest, expand, is_folder, is_local, naming, open_bytes
from curate.run.sources.kinds import Types, plain_type
from curate.run.sources.parquet import opened_parquet
from curate.run.sources.tables import schema_of

KIND = "img2dataset"
VERSION = 1  # rises when the same files would give other rows
STATS = re.compile(r"(\d+)_stats\.json")
TABLE = re.compile(r"(\d+)\.parquet")
IMAGES = ("jpg", "jpeg", "png", "webp")
SAID = "img2dataset_error"  # column of what it said of a failure; null of images
OWN = {"url", "caption", "uid", "status", "error_message", "width", "height", "txt"}
"""Columns of its tables that are read for what they mean; width and height are those of the image as stored."""


@dataclass(frozen=True)
class Shard:
    """One shard of its output. form: webdataset, files or parquet."""

    number: str
    table: str
    images: str
    form: str


@dataclass
class Output:
    """A folder that img2dataset filled; a `curate.pool.lists.Source`."""

    folder: str
    name: str
    unfinished: list[str] = field(default_factory=list)

    @cached_property
    def shards(self) -> list[Shard]:
        """Its finished shards, in order; `unfinished` then names the others.

        Raises:
            UserError: there is no finished shard, with what there is instead.
        """
        (folder,) = expand((self.folder,))
        if not is_folder(folder):
            raise UserError(f"{self.folder}: not a folder; give the one that img2dataset's `output_folder` named")
        names = _names(folder)
        done = {m[1] for n in names if (m := STATS.fullmatch(n))}
        tables = sorted((m[1] for n in names if (m := TABLE.fullmatch(n))), key=int)
        found = [self._shard(folder, number, names) for number in tables if number in done]
        if not found:
            raise UserError(f"{self.folder}: {_instead(names)}")
        self.unfinished = [n for n in tables if n not in done]
        self.unfinished += sorted(done - set(tables))
        return found

    def _shard(self, folder: str, number: str, names: set[str]) -> Shard:
        table = f"{folder}/{number}.parquet"
        if f"{number}.tar" in names:
            return Shard(number, table, f"{folder}/{number}.tar", "webdataset")
        if number in names:
            return Shard(number, table, f"{folder}/{number}", "files")
        if f"{number}.tfrecord" in names:
            raise UserError(
                f"{self.folder}: in TFRecord files, which are not read; its output formats webdataset, files and "
                "parquet are"
            )
        if _image_column(table) is None:
            raise UserError(
                f"{table}: without its images: there is no {number}.tar, no folder {number}, no image column"
            )
        return Shard(number, table, table, "parquet")

    @cached_property
    def hash(self) -> str:
        """12 hex digits over its tables and the sizes of its tars; images themselves are not read."""
        return short_hash([VERSION, [[s.number, s.form, digest(s.table), _size(s)] for s in self.shards]])

    @property
    def about(self) -> dict[str, Any]:
        return {"kind": KIND, "path": self.folder, "name": self.name, "layout": self.shards[0].form}

    def survey(self, findings: Findings) -> Iterator[Rows]:
        """First reading: given, url, text and content of every row; fills `findings`."""
        types = Types()
        for shard in self.shards:
            if shard.form != self.shards[0].form:
                raise UserError(f"{shard.images}: {shard.form}, but {self.shards[0].images} is {self.shards[0].form}")
            schema = schema_of(shard.table)
            for column in (f for f in schema if f.name not in OWN and f.name != _image_column(shard.table)):
                types.see(column.name, plain_type(column.type), shard.table, loose=False)
        findings.columns = types.fields()
        findings.columns[SAID] = pa.field(SAID, pa.string())
        if self.shards[0].form == "parquet":
            findings.bytes_column = _image_column(self.shards[0].table)
        for number in self.unfinished:
            findings.damage(f"{self.folder}/{number}", "not finished by img2dataset: its table or its statistics lack")
        for shard in self.shards:
            yield self._rows(shard, findings)

    def rows(self, findings: Findings) -> Iterator[Rows]:
        """Second reading: all columns."""
        for shard in self.shards:
            yield self._rows(shard, Findings(), findings.columns)

    def _rows(self, shard: Shard, findings: Findings, columns: dict[str, pa.Field] | None = None) -> Rows:
        """The rows of a shard in the order of its keys: its table has them in the order of their coming."""
        table = _read(shard)
        needed = [c for c in ("url", "key", "status") if c not in table.column_names]
        if needed:
            raise UserError(f"{shard.table}: no column {needed[0]!r}; is this a table of img2dataset?")
        order = np.argsort(np.array(table.column("key").cast(pa.string()).to_pylist()), kind="stable")
        table = table.take(pa.array(order))
        places = places_of(shard, table, order)
        usable = np.array([self._usable(shard, findings, row, place) for row, place in _cells(table, places)], bool)
        n = len(table)
        out: dict[str, Any] = {
            "given": _text(table, "uid"),
            "url": _text(table, "url"),
            "text": _text(table, "caption"),
            "sha256": pa.nulls(n, pa.string()),
            "content": pa.nulls(n, pa.string()),
            "place": pa.array(places, PLACE),
        }
        for name, column in (columns or {}).items():
            there = name in table.column_names
            out[column.name] = table.column(name).cast(column.type) if there else pa.nulls(n, column.type)
        if SAID in out:
            out[SAID] = _said(table)
        found = pa.table(out).filter(pa.array(usable)).combine_chunks()
        return Rows(shard.table, np.flatnonzero(usable) + 1, found)

    def _usable(self, shard: Shard, findings: Findings, row: dict[str, Any], place: dict[str, Any] | None) -> bool:
        if not row["url"]:
            findings.refuse(shard.table, str(row["key"]), "no url")
            return False
        if row["status"] == "success" and place is None:
            findings.refuse(shard.images, str(row["key"]), "no image", "its table says that there is one")
            return False
        return True


def _cells(
    table: pa.Table, places: list[dict[str, Any] | None]
) -> Iterator[tuple[dict[str, Any], dict[str, Any] | None]]:
    return zip(table.select(["url", "key", "status"]).to_pylist(), places, strict=True)


def _names(folder: str) -> set[str]:
    """Names of what is in a folder."""
    fs, inner = fsspec.core.url_to_fs(folder)
    with naming(folder):
        return {str(path).rstrip("/").rsplit("/", 1)[-1] for path in fs.ls(inner, detail=False)}


def _instead(names: set[str]) -> str:
    """Why nothing of a folder can be taken."""
    kinds = Counter(n.rpartition(".")[2] for n in names)
    if any(TABLE.fullmatch(n) for n in names):
        return (
            "img2dataset finished no shard here: there are tables, but no NNNNN_stats.json, which it writes last. Run "
            "it again on the same folder, and it goes on"
        )
    if kinds["tar"]:
        return (
            f"{kinds['tar']:,} tars without the tables (NNNNN.parquet) that img2dataset writes beside them: give the "
            "tars as `source:` of a recipe"
        )
    return "no output of img2dataset: there is no NNNNN.parquet with its NNNNN_stats.json"


def _size(shard: Shard) -> int:
    """Bytes of a tar; 0 of other forms, whose tables say what there is."""
    if shard.form != "webdataset":
        return 0
    fs, inner = fsspec.core.url_to_fs(shard.images)
    with naming(shard.images):
        return int(fs.size(inner))


def _read(shard: Shard) -> pa.Table:
    """The table without its images."""
    image = _image_column(shard.table)
    with opened_parquet(shard.table) as (parquet, _):
        columns = [n for n in parquet.schema_arrow.names if n != image]
        table = parquet.read(columns=columns).replace_schema_metadata(None)
        table.validate(full=True)  # it wrote UTF-8: a text that is none was damaged since
        return table


def _image_column(path: str) -> str | None:
    """The column of image bytes in a table of the layout "parquet", named after the format."""
    binary = {f.name for f in schema_of(path) if pa.types.is_binary(f.type) or pa.types.is_large_binary(f.type)}
    return next((n for n in IMAGES if n in binary), None)


def _said(table: pa.Table) -> pa.Array:
    status, message = table.column("status").to_pylist(), _text(table, "error_message").to_pylist()
    return pa.array(
        [None if s == "success" else words(s, m) for s, m in zip(status, message, strict=True)], pa.string()
    )


def _text(table: pa.Table, name: str) -> pa.Array:
    if name not in table.column_names:
        return pa.nulls(len(table), pa.string())
    return table.column(name).cast(pa.string()).combine_chunks()


def places_of(shard: Shard, table: pa.Table, order: np.ndarray) -> list[dict[str, Any] | None]:
    """Where the image of each row is, as PLACE; None where there is none."""
    keys, good = table.column("key").to_pylist(), [s == "success" for s in table.column("status").to_pylist()]
    if shard.form == "parquet":
        return [
            {"path": shard.images, "offset": None, "size": None, "row": int(row)} if ok else None
            for ok, row in zip(good, order.tolist(), strict=True)
        ]
    found = _in_tar(shard.images) if shard.form == "webdataset" else _in_folder(shard.images)
    return [found.get(str(key)) if ok else None for ok, key in zip(good, keys, strict=True)]


def _in_tar(path: str) -> dict[str, dict[str, Any]]:
    found = {}
    try:
        with naming(path), open_bytes(path) as f:
            for member in members(path if is_local(path) else f):
                key, _, extension = member.name.partition(".")
                if extension in IMAGES:
                    found[key] = {"path": path, "offset": member.offset, "size": member.size, "row": None}
    except TarError as e:
        raise UserError(f"{e}; img2dataset says that this shard is whole, so the file was damaged since") from e
    return found


def _in_folder(path: str) -> dict[str, dict[str, Any]]:
    found = {}
    for name in sorted(_names(path)):
        key, _, extension = name.partition(".")
        if extension in IMAGES:
            found[key] = {"path": f"{path}/{name}", "offset": None, "size": None, "row": None}
    return found


def stats_of(output: Output) -> Counter[str]:
    """Sums of what its statistics count: count, successes, failed_to_download, failed_to_resize."""
    total: Counter[str] = Counter()
    for shard in output.shards:
        path = shard.table.removesuffix(".parquet") + "_stats.json"
        with naming(path), open_bytes(path) as f:
            stats = json.load(f)
        total.update(
            {k: int(stats.get(k, 0)) for k in ("count", "successes", "failed_to_download", "failed_to_resize")}
        )
    return total
