"""Bytes a row: of the files of a folder, of another folder of the same method, or by the width of its schema.

    sizes = Sizes(pool, {0: 10_000, 1: 9_874})
    sizes.folder("columns/language@0123456789ab")      # 1.2, or None where nothing of it is there

No file is opened: sizes come from the folder's index, else from a listing of a few hundred shards.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

import pyarrow as pa

from curate.pool.index import FolderIndex
from curate.pool.layout import PIXELS
from curate.pool.pool import Pool
from curate.run.fetch.spec import IngestSpec
from filters.base import VERDICT, Filter, GlobalFilter
from stages.base import Barrier, Parameters, Stage, shard_name

FILE = 1500  # bytes of a parquet file besides its rows: schema and footer
TEXT = 40.0  # bytes of a text of which nothing is known
JPEG = 0.25  # bytes a pixel of a JPEG of quality 95, about
PACKED = 0.3  # zstd on columns of few different values (verdicts, reasons)


@dataclass(frozen=True)
class Size:
    """Bytes a row, and whether that is measured on files or guessed from types."""

    bytes: float
    measured: bool = True


class Sizes:
    """Sizes of one pool. `rows`: rows of the shards that are there. `indexes`: those that are loaded already."""

    def __init__(self, pool: Pool, rows: Mapping[int, int], indexes: Mapping[str, FolderIndex] | None = None) -> None:
        self.pool, self.rows, self.indexes = pool, rows, indexes or {}
        self.folder = cache(self._folder)
        self._names = cache(pool.storage.folders)

    def _folder(self, folder: str) -> float | None:
        """Bytes a row of the parquet files of a folder; None where there are none."""
        index = self.indexes.get(folder) or self.pool.index(folder)
        if index.known:
            rows = sum(r for r, _, _ in index.known.values())
            return sum(b for _, _, b in index.known.values()) / rows if rows else None
        return None if index.listed == set() else self._listed(folder, ".parquet")

    def images(self) -> float | None:
        """Bytes of tar a sample with an image."""
        return self._listed(PIXELS, ".tar")

    def _listed(self, folder: str, suffix: str) -> float | None:
        """By the hundred shards around the first that is there, or around the last: a listing of all takes minutes."""
        for shard in (min(self.rows, default=0), max(self.rows, default=0)):
            entries = self.pool.storage.list(folder, shard_name(shard)[:6])
            files = [(int(e.name[:8]), e.size) for e in entries if e.name.endswith(suffix)]
            rows = sum(self.rows.get(number, 0) for number in {n for n, _ in files})
            if rows:
                return sum(size for number, size in files if number in self.rows) / rows
        return None

    def like(self, folder: str) -> float | None:
        """Bytes a row of another folder of the same method."""
        kind, _, name = folder.partition("/")
        method = name.split("/")[0].rpartition("@")[0]
        for other in reversed([n for n in self._names(kind) if n.rpartition("@")[0] == method]):
            size = self.folder(f"{kind}/{other}" + name[len(name.split("/")[0]) :])
            if size is not None:
                return size
        return None


def guess(owner: Parameters | None) -> Size:
    """Bytes a row by the types that the owner writes."""
    if isinstance(owner, GlobalFilter):
        return Size(width(pa.schema([*VERDICT, *owner.extra_verdicts()])) * PACKED, measured=False)
    if isinstance(owner, Filter):
        return Size(width(VERDICT) * PACKED * PACKED, measured=False)
    if isinstance(owner, Stage | Barrier):
        return Size(width(owner.writes()), measured=False)
    return Size(TEXT * PACKED, measured=False)


def width(schema: pa.Schema) -> float:
    return sum(_width(field.type) for field in schema)


def _width(kind: pa.DataType) -> float:
    if pa.types.is_fixed_size_list(kind):
        return float(kind.list_size) * _width(kind.value_type)
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return 4 + _width(kind.value_type)
    if pa.types.is_struct(kind):
        return sum(_width(f.type) for f in kind)
    if pa.types.is_boolean(kind):
        return 0.125
    try:
        return kind.bit_width / 8
    except ValueError:
        return TEXT


def stored_image(spec: IngestSpec, received: float | None) -> float | None:
    """About how many bytes of an image as it will be stored; None where nothing tells.

    Args:
        received: bytes of one as it comes, where that is known.
    """
    if spec.resize == "none":
        return received
    shrunk = JPEG * 0.75 * spec.side**2
    return shrunk if received is None else min(shrunk, received)
