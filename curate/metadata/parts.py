"""Counts of more strings than fit into memory: a small parquet a block of input, then one sum that may spill to disk.

    parts = Parts(Path("metadata.json.work"))
    for number, text in enumerate(blocks(Path("enwiki.txt.gz"))):
        parts.make(f"enwiki-{number}", ["words"], partial(counts_of, text))
    parts.connection("4GB").sql("SELECT word, sum(n) FROM words GROUP BY word")

A part that is there is not made again, so that a command that was killed goes on where it was.
"""

from __future__ import annotations

import bz2
import gzip
import lzma
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import pyarrow as pa
import pyarrow.parquet as pq
import xxhash

BLOCK = 1 << 24
"""Bytes of text in a block, about: its pairs of words take a quarter of a gigabyte as a Counter."""

_OPENERS: dict[str, Callable[..., Any]] = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}


def files_of(paths: Iterable[str]) -> list[Path]:
    """The files, and those in the folders, sorted within each; a file that is given twice, under whatever name, once.

    Raises:
        ValueError: one is not there, or a folder is empty.
    """
    found: dict[Path, Path] = {}
    for given in paths:
        path = Path(given).expanduser()
        inside = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
        if not inside or not inside[0].exists():
            raise ValueError(f"{path}: no such file or folder, or nothing in it")
        for file in inside:
            found.setdefault(file.resolve(), file)
    return list(found.values())


def opened(path: Path) -> IO[bytes]:
    """The file's bytes, unpacked where its name ends in .gz, .bz2 or .xz."""
    reader: IO[bytes] = _OPENERS.get(path.suffix, open)(path, "rb")
    return reader


def key_of(path: Path, *rules: str) -> str:
    """Name of what is made of a file by some rules: another one when either changes."""
    state = path.stat()
    said = [str(path.absolute()), str(state.st_size), str(state.st_mtime_ns), *rules]
    return str(xxhash.xxh3_64_hexdigest("\n".join(said).encode()))


def blocks(path: Path) -> Iterator[str]:
    """The text of a file in pieces of whole lines; bytes that are no UTF-8 become U+FFFD."""
    with opened(path) as file:
        while lines := file.readlines(BLOCK):
            yield b"".join(lines).decode("utf-8", "replace")


@dataclass
class Parts:
    """A folder of parts, <kind>/<name>.parquet; `names` are those of this command, others may lie there, too."""

    folder: Path
    names: dict[str, list[str]] = field(default_factory=dict)

    def make(self, name: str, kinds: Sequence[str], work: Callable[[], Sequence[pa.Table]]) -> bool:
        """Make a part's tables, one a kind, where they are not there; was there anything to do?"""
        paths = [self.folder / kind / f"{name}.parquet" for kind in kinds]
        for kind, path in zip(kinds, paths, strict=True):
            names = self.names.setdefault(kind, [])
            if str(path) not in names:
                names.append(str(path))
        if all(path.exists() for path in paths):
            return False
        for path, table in zip(paths, work(), strict=True):
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary = path.with_name(f".{path.name}.part")
            pq.write_table(table, temporary, compression="zstd")
            temporary.replace(path)  # under its name only when it is whole
        return True

    def connection(self, memory: str) -> Any:
        """A connection of DuckDB with a view a kind, which keeps to `memory` ("4GB") and spills beside the parts."""
        import duckdb

        spill = self.folder / "spill"
        spill.mkdir(parents=True, exist_ok=True)
        connection = duckdb.connect(":memory:", config={"memory_limit": memory, "temp_directory": str(spill)})
        connection.execute("SET preserve_insertion_order = false")
        for kind, paths in self.names.items():
            connection.from_parquet(paths).create_view(kind)
        return connection
