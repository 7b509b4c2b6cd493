"""Folders as img2dataset 1.47 leaves them, written by hand, and the real one where it is installed."""

from __future__ import annotations

import io
import json
import os
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from curate.pool.pool import Pool

PYTHON = os.environ.get("IMG2DATASET_PYTHON")
"""The python of an environment with the real one; without it the tests of the real one are skipped."""

SCHEMA = pa.schema(
    [
        ("similarity", pa.float64()),
        ("caption", pa.string()),
        ("url", pa.string()),
        ("key", pa.string()),
        ("status", pa.string()),
        ("error_message", pa.string()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("original_width", pa.int32()),
        ("original_height", pa.int32()),
        ("exif", pa.string()),
        ("sha256", pa.string()),
    ]
)


@dataclass(frozen=True)
class Row:
    """One URL: an image, or what img2dataset said of it."""

    number: int
    error: str | None = None
    status: str = "failed_to_download"
    base: str = "http://h.test"

    @property
    def url(self) -> str:
        return f"{self.base}/{self.number}.jpg"

    def cells(self, key: str) -> dict[str, Any]:
        good = self.error is None
        size = {"width": 40, "height": 30, "original_width": 400, "original_height": 300, "sha256": "ab" * 32}
        return {
            "similarity": self.number / 4,
            "caption": f"caption {self.number}",
            "url": self.url,
            "key": key,
            "status": "success" if good else self.status,
            "error_message": self.error,
            **(size if good else dict.fromkeys(size)),
        }


def image(number: int) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (40, 30), (number * 7 % 256, 255 - number * 5 % 256, 90)).save(out, "JPEG")
    return out.getvalue()


def write(folder: Path, shard: int, rows: Sequence[Row], form: str = "webdataset", stats: bool = True) -> None:
    """One shard; its table is in the order of `rows`, their keys in that of the numbers."""
    folder.mkdir(exist_ok=True)
    name = f"{shard:05d}"
    made = [(row, row.cells(f"{name}{row.number:04d}")) for row in rows]
    schema = SCHEMA
    if form == "parquet":
        schema = schema.append(pa.field("jpg", pa.binary()))
        made = [(r, c | {"jpg": None if r.error else image(r.number)}) for r, c in made]
    pq.write_table(pa.Table.from_pylist([c for _, c in made], schema=schema), folder / f"{name}.parquet")
    images = [(r, c) for r, c in made if r.error is None]
    if form == "webdataset":
        with tarfile.open(folder / f"{name}.tar", "w") as tar:
            for row, cells in images:
                for extension, data in members_of(row, cells):
                    info = tarfile.TarInfo(f"{cells['key']}.{extension}")
                    info.size = len(data)
                    tar.addfile(info, io.BytesIO(data))
    elif form == "files":
        (folder / name).mkdir()
        for row, cells in images:
            for extension, data in members_of(row, cells):
                (folder / name / f"{cells['key']}.{extension}").write_bytes(data)
    if stats:
        counts = {"count": len(rows), "successes": len(images), "failed_to_download": len(rows) - len(images)}
        (folder / f"{name}_stats.json").write_text(json.dumps(counts))


def members_of(row: Row, cells: dict[str, Any]) -> list[tuple[str, bytes]]:
    return [("jpg", image(row.number)), ("json", json.dumps(cells).encode()), ("txt", cells["caption"].encode())]


def stored_bytes(root: Path) -> dict[str, bytes]:
    """uid -> bytes of every image of a pool."""
    pool = Pool.open(str(root))
    found = {}
    for shard in pool.shards():
        facts, footer = pool.facts(shard)
        with pool.storage.open(f"pixels/{footer['tar']}") as tar:
            for row in facts.to_pylist():
                tar.seek(row["tar_offset"])
                found[row["uid"].hex()] = tar.read(row["bytes"])
    return found
