"""Sizes of some of an input's pictures, from their headers; one picture's beginning is in memory at a time."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from statistics import median
from typing import Any

from curate.init.sample import Sample, spread
from curate.run.sources.files import naming, open_bytes
from curate.run.sources.parquet import opened_parquet
from curate.run.sources.sidecars import Sample as Member
from curate.run.sources.source import ListSource

PICTURES = 64  # that are looked at
HEAD = 64 << 10  # bytes of one, which hold most headers
MOST = 8 << 20  # bytes of one that are read where that is not enough
CLAIMS = (("width", "height"), ("original_width", "original_height"), ("image_width", "image_height"))


@dataclass(frozen=True)
class Sizes:
    """Width and height of pictures; `claims` names the columns that said so, where no header did."""

    pixels: tuple[tuple[int, int], ...]
    unread: int = 0  # pictures whose header cannot be read
    claims: tuple[str, str] | None = None

    @property
    def middle(self) -> tuple[int, int]:
        return int(median(w for w, _ in self.pixels)), int(median(h for _, h in self.pixels))

    @property
    def sides(self) -> tuple[int, int]:
        """Smallest shorter and largest longer side."""
        return min(map(min, self.pixels)), max(map(max, self.pixels))

    def below(self, side: int) -> float:
        """Share of pictures with a shorter side below this."""
        return sum(min(p) < side for p in self.pixels) / len(self.pixels)

    def narrower(self, aspect: float) -> float:
        """Share of pictures whose longer side is more than `aspect` times the shorter."""
        return sum(max(p) > aspect * min(p) for p in self.pixels) / len(self.pixels)


def sizes_of(found: ListSource, sample: Sample, column: str | None) -> Sizes | None:
    """Sizes from headers; None where the pictures are behind URLs, or none can be read."""
    from stages.decode import DecodeError, probe

    logging.getLogger("PIL").setLevel(logging.CRITICAL)  # it would tell on stderr of each odd file
    heads = _in_parquet(found.files, column) if column else _in_files(spread(sample.members, PICTURES))
    pixels, unread = [], 0
    for attempts in heads:
        for data in attempts:
            try:
                header = probe(data)
                break
            except DecodeError:
                continue
        else:
            unread += 1
            continue
        pixels.append((header.width, header.height))
    return Sizes(tuple(pixels), unread) if pixels else None


def _in_files(members: list[Member]) -> Iterator[Iterator[bytes]]:
    """The beginning of each picture, and then more of it."""
    for member in members:
        path, offset, size, _ = member.place

        def attempts(path: str = path, offset: int = offset or 0, size: int = size or 0) -> Iterator[bytes]:
            with naming(path), open_bytes(path) as f:
                for n in (HEAD, MOST):
                    f.seek(offset)
                    yield f.read(min(n, size))
                    if n >= size:
                        return

        yield attempts()


def _in_parquet(files: list[str], column: str) -> Iterator[Iterator[bytes]]:
    """Whole pictures from the beginnings of some row groups, a few at a time."""
    chosen = spread(files, 4)
    for file in chosen:
        with opened_parquet(file, buffer_size=1 << 20) as (table, _):
            groups = spread(range(table.metadata.num_row_groups), 4)
            each = -(-PICTURES // (len(chosen) * max(1, len(groups))))
            for group in groups:
                left = each
                for batch in table.iter_batches(4, row_groups=[group], columns=[column]):
                    values = [_bytes(v) for v in batch.column(0).to_pylist()]
                    yield from (iter((v,)) for v in values if v is not None)
                    left -= batch.num_rows
                    if left <= 0:
                        break


def _bytes(value: Any) -> bytes | None:
    found = value.get("bytes") if isinstance(value, dict) else value
    return found if isinstance(found, bytes) else None


def claimed_sizes(sample: Sample) -> Sizes | None:
    """Sizes by columns of the input that are called width and height, or nearly so."""
    names = {n.casefold(): n for n in sample.values}
    for pair in CLAIMS:
        if all(p in names for p in pair):
            w, h = (names[p] for p in pair)
            pairs = zip(sample.values[w], sample.values[h], strict=True)
            pixels = tuple((a, b) for a, b in ((_side(x), _side(y)) for x, y in pairs) if a and b)
            return Sizes(pixels, claims=(w, h)) if pixels else None
    return None


def _side(value: Any) -> int:
    """A number of pixels; 0 for what is none."""
    try:
        found = int(float(value))
    except (TypeError, ValueError, OverflowError):
        return 0
    return found if 0 < found < 1 << 20 else 0
