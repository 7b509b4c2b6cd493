"""Evaluation sets as they lie on disk: where their pictures are, one after another, each with a name.

    chosen = EvalSet(name="imagenet_val", path="evalsets/wds_imagenet1k/test")
    for picture in pictures(chosen):
        picture.item, picture.data          # "0.tar:s0000001.webp", the encoded bytes

A path is a picture, a tar of pictures (WebDataset, so also a set that the judge evaluates on; plain, or compressed by
gzip, bzip2 or xz), a parquet or .arrow file with a column of encoded pictures, or a folder with any of these, however
deep. What else lies there (classes, captions) is left alone. A folder of CLIP_benchmark's layout has `test/` and often
`train/` in it: name the one that is meant, or the folder above for both, as DINOv2 did. The order is that of the paths,
then of the file.
"""

from __future__ import annotations

import lzma
import tarfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from stages.query_vectors import VectorFile

PICTURES = frozenset((".jpg", ".jpeg", ".jpe", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif"))
TABLES = frozenset((".parquet", ".arrow"))
TARS = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz")
UNREAD = (".tar.zst", ".tzst")
NAME = "^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$"
AT_ONCE = 64  # rows of a table with pictures


class EvalSet(BaseModel):
    """One set of evaluation pictures: `path`, `vectors`, or both."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(pattern=NAME, description="stands in columns, reasons and reports.")
    path: str | None = Field(
        default=None, description="of its pictures: a folder of them, WebDataset tars, parquet or .arrow files."
    )
    column: str = Field(
        default="image",
        min_length=1,
        description="in parquet and .arrow files: of bytes, of Hugging Face's {bytes, path}, or of lists of either.",
    )
    vectors: str | None = Field(
        default=None,
        description="a .npy (n, dim) or parquet file of vectors of its pictures, by the model of the pool's column; "
        "with a `path` too, one for each picture, in their order.",
    )
    vectors_column: str = Field(default="vector", min_length=1, description="of a parquet file with vectors.")

    @field_validator("path", "vectors")
    @classmethod
    def _absolute(cls, value: str | None) -> str | None:
        """The same file in every worker."""
        if value is not None and "://" in value:
            raise ValueError(f"{value}: evaluation sets are read from files; copy it to a disk that all workers see")
        return value if value is None else str(Path(value).expanduser().absolute())

    @model_validator(mode="after")
    def _something(self) -> EvalSet:
        if self.path is None and self.vectors is None:
            raise ValueError(f"evaluation set {self.name}: give `path` (its pictures), `vectors`, or both")
        return self

    def vector_file(self) -> VectorFile | None:
        """Its vectors, where it has any."""
        if self.vectors is None:
            return None
        return VectorFile(self.vectors, self.vectors_column, f"evaluation set {self.name}", "vectors_column")


@dataclass(frozen=True, slots=True)
class Picture:
    """item: the file, relative to the set's path, and within a tar or table ":" and the member or row."""

    item: str
    data: bytes


def checked_files(chosen: EvalSet) -> list[Path]:
    """The files with pictures, by path; none where the set has vectors only.

    Raises:
        ValueError: there is no such path, nothing in it that holds pictures, or a tar that is not read.
    """
    if chosen.path is None:
        return []
    root = Path(chosen.path)
    if not root.exists():
        raise ValueError(
            f"evaluation set {chosen.name}: nothing at {root}; give a folder of pictures, WebDataset tars, or parquet "
            "files with pictures in them"
        )
    files = [root] if root.is_file() else sorted(f for f in root.rglob("*") if f.is_file())
    if unread := [f for f in files if f.name.lower().endswith(UNREAD)]:
        raise ValueError(
            f"evaluation set {chosen.name}: {unread[0]} is not read, and its pictures would not be looked for; make it "
            "a .tar or .tar.gz, or move it away"
        )
    found = [f for f in files if f.suffix.lower() in PICTURES | TABLES or _is_tar(f)]
    if not found:
        raise ValueError(
            f"evaluation set {chosen.name}: {root} has no pictures (.jpg, .png, .webp, ...), .tar, .parquet or .arrow"
        )
    return found


def pictures(chosen: EvalSet, files: Sequence[Path] | None = None) -> Iterator[Picture]:
    """All pictures of a set, or those of some of its files, as they are encoded; nothing is decoded.

    Raises:
        ValueError: as `checked_files`; a broken tar or table; a table without the column.
    """
    for file in checked_files(chosen) if files is None else files:
        name = named(chosen, file)
        suffix = file.suffix.lower()
        if suffix in PICTURES:
            yield Picture(name, file.read_bytes())
        else:
            for within, data in _in_tar(file) if _is_tar(file) else _in_table(file, chosen):
                yield Picture(f"{name}:{within}", data)


def named(chosen: EvalSet, file: Path) -> str:
    """How items of this file begin."""
    root = Path(chosen.path or "")
    return _readable(file.name if file == root else file.relative_to(root).as_posix())


def _is_tar(file: Path) -> bool:
    return file.name.lower().endswith(TARS)


def _readable(name: str) -> str:
    """A name that is not UTF-8 with its odd bytes spelled out: caf\\xe9.jpg."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def some_pictures(chosen: EvalSet, items: Sequence[str]) -> dict[str, bytes]:
    """item -> encoded picture; only the files that hold them are read."""
    wanted = set(items)
    files = [f for f in checked_files(chosen) if _holds(named(chosen, f), wanted)]
    return {p.item: p.data for p in pictures(chosen, files) if p.item in wanted}


def _holds(name: str, items: set[str]) -> bool:
    return any(i == name or i.startswith(f"{name}:") for i in items)


def _in_tar(file: Path) -> Iterator[tuple[str, bytes]]:
    try:
        with tarfile.open(file) as tar:
            for member in tar:
                content = tar.extractfile(member) if Path(member.name).suffix.lower() in PICTURES else None
                if content is not None:
                    yield _readable(member.name), content.read()
    except (tarfile.TarError, EOFError, OSError, zlib.error, lzma.LZMAError) as e:
        raise ValueError(f"{file}: a broken tar ({e}); download it again") from e


def _in_table(file: Path, chosen: EvalSet) -> Iterator[tuple[str, bytes]]:
    row = 0
    try:
        with file.open("rb") as stream:
            for batch in _batches(file, stream, chosen.column):
                for value in batch.column(chosen.column).to_pylist():
                    yield from _bytes_of(value, str(row), file)
                    row += 1
    except (pa.ArrowException, OSError) as e:
        raise ValueError(f"{file}: cannot be read ({e}); download it again") from e


def _batches(file: Path, stream: BinaryIO, column: str) -> Iterator[pa.RecordBatch]:
    if file.suffix.lower() == ".parquet":
        found = pq.ParquetFile(stream)
        _refuse_lacking(file, found.schema_arrow, column)
        yield from found.iter_batches(AT_ONCE, columns=[column])
        return
    reader = pa.ipc.open_stream(stream)
    _refuse_lacking(file, reader.schema, column)
    yield from reader


def _refuse_lacking(file: Path, schema: pa.Schema, column: str) -> None:
    if column not in schema.names:
        raise ValueError(f"{file}: has no column {column!r}, but {', '.join(schema.names)}; say which: `column:`")


def _bytes_of(value: Any, where: str, file: Path) -> Iterator[tuple[str, bytes]]:
    """(row, or row.number of a list; bytes) of one cell; null is no picture."""
    if value is None:
        return
    if isinstance(value, list):
        for number, one in enumerate(value):
            yield from _bytes_of(one, f"{where}.{number}", file)
        return
    data = value.get("bytes") if isinstance(value, dict) else value
    if not isinstance(data, bytes):
        raise ValueError(f"{file}, row {where}: no bytes of a picture, but {type(data).__name__}; say which: `column:`")
    yield where, data
