"""Samples that lie in files of their own, in a tar or a folder: a picture with .txt, .caption and .json beside it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from curate.pool.facts import PLACE
from curate.run.sources.kinds import json_text
from curate.run.sources.names import GUESSES
from curate.run.sources.raw import BYTES, ROWS, Raw, Reading, columns_of, decoded, first, parse_json
from curate.run.sources.spec import AUTO

CAPTIONS = ("txt", "caption", "json")
IMAGES = frozenset(
    {"jpg", "jpeg", "jpe", "jfif", "png", "webp", "gif", "bmp", "tif", "tiff", "avif", "heic", "heif", "jp2", "j2k"}
    | {"jxl", "ppm", "pgm", "pbm", "pnm"}
)
LONGEST = 16 << 20  # bytes of one sidecar


@dataclass
class Sample:
    """One picture that lies here: `place` is (path, offset, size, row), `number` counts from 1 in its file."""

    number: int
    place: tuple[str, int | None, int | None, int | None]
    roles: dict[str, str | None]
    extras: dict[str, Any]
    content: str | None = None
    size: int = 0  # bytes that this sample holds in memory


def read_sidecars(sidecars: Mapping[str, bytes], reading: Reading) -> tuple[dict[str, str | None], dict[str, Any]]:
    """(url, text, uid, sha256; everything else in the .json).

    The text is that of .txt, else of .caption, else the key of the .json that the recipe names or that is first
    among the usual ones. Raises: ValueError where the .json is no object.
    """
    spec, found = reading.spec, reading.findings
    extras = parse_json(sidecars["json"], found) if "json" in sidecars else {}
    reading.seen.update(extras)
    keys = {role: _key(getattr(spec, role), role, extras) for role in ("url", "text", "uid", "sha256")}
    roles = {role: json_text(first(extras[k])) if k else None for role, k in keys.items()}
    text = _plain_text(sidecars, spec.text, keys["text"])
    if text is not None:
        reading.seen.add(spec.text or "")
        roles["text"] = decoded(text, found)
    # A caption that the .txt repeats is said once; one that differs, and a list of several, stay as columns.
    dropped = {k for role, k in keys.items() if k and json_text(extras[k]) == roles[role]}
    return roles, {k: v for k, v in extras.items() if k not in dropped}


def _key(wanted: str | None, role: str, keys: Mapping[str, Any]) -> str | None:
    if wanted != AUTO:
        return wanted if wanted in keys else None
    if role == "sha256":  # of tars only where named: see SourceSpec
        return None
    return next((k for guess in GUESSES[role] for k in keys if k.casefold() == guess), None)


def _plain_text(sidecars: Mapping[str, bytes], wanted: str | None, key: str | None) -> bytes | None:
    if wanted is None or (wanted != AUTO and key):
        return None
    if wanted in ("txt", "caption"):
        return sidecars.get(wanted)
    return next((sidecars[s] for s in ("txt", "caption") if s in sidecars), None) if wanted == AUTO else None


def batches(file: str, samples: Iterable[Sample], reading: Reading) -> Iterator[Raw]:
    """Samples in batches of bounded size."""
    held: list[Sample] = []
    size = 0
    for sample in samples:
        held.append(sample)
        size += 3 * sample.size + 500
        if len(held) == ROWS or size > BYTES:
            yield _batch(file, held, reading)
            held, size = [], 0
    if held:
        yield _batch(file, held, reading)


def _batch(file: str, samples: list[Sample], reading: Reading) -> Raw:
    places = [dict(zip(("path", "offset", "size", "row"), s.place, strict=True)) for s in samples]
    extras = columns_of([{k: v for k, v in s.extras.items() if reading.wanted(k)} for s in samples])
    return Raw(
        file,
        np.array([s.number for s in samples]),
        url=[s.roles["url"] for s in samples],
        text=[s.roles["text"] for s in samples],
        uid=[s.roles["uid"] for s in samples],
        sha256=[s.roles["sha256"] for s in samples],
        place=pa.array(places, PLACE),
        content=[s.content for s in samples],
        extras=extras,
        local=True,
    )
