"""From received bytes to facts and stored bytes: one decode for all of it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from curate.run.fetch.spec import IngestSpec
from stages.decode import Decoded, DecodeError, StoredFormat, decode
from stages.fingerprint import of_pixels
from stages.image_header import header_of
from stages.resize import encoded, factor, fitted

EXTENSION: dict[str, StoredFormat] = {"jpeg": "jpg", "png": "png", "webp": "webp"}


@dataclass(frozen=True, slots=True)
class Examined:
    """An outcome and one line about it; where it is "ok", the facts (columns of FACTS) and the bytes to store."""

    outcome: str
    detail: str | None = None
    facts: dict[str, Any] | None = None
    stored: bytes | None = None


def examine(data: bytes, expected_sha256: str | None, spec: IngestSpec) -> Examined:
    """Verify, decode, describe and shrink one image. A pure function, safe to call from threads.

    With `decode: scaled` the hashes are of the pixels as decoded: of 300 photos, phash64 was 0.04 bits from that of the
    whole on average, 2 at most. With `decode: header` there are none.
    """
    found = by_header(data, expected_sha256, spec) if spec.decode == "header" else None
    return found or _examined(data, expected_sha256, spec, _seen)  # type: ignore[return-value]  # _seen sees all


def by_header(data: bytes, expected_sha256: str | None, spec: IngestSpec) -> Examined | None:
    """As `examine` with `decode: header`, where nothing has to be decoded; None where something has."""
    return _examined(data, expected_sha256, spec, _unseen)


def _examined(
    data: bytes,
    expected_sha256: str | None,
    spec: IngestSpec,
    see: Callable[[bytes, IngestSpec], tuple[dict[str, Any], bytes] | None],
) -> Examined | None:
    digest = hashlib.sha256(data).hexdigest()
    if expected_sha256 is not None and digest != expected_sha256.strip().lower():
        return Examined("hash_mismatch", f"sha256 {digest}, expected {expected_sha256}"[:300])
    try:
        seen = see(data, spec)
    except DecodeError as e:
        return Examined(e.outcome, e.detail)
    if seen is None:
        return None
    facts = {"sha256": digest, "received_bytes": len(data), "bytes": len(seen[1]), **seen[0]}
    return Examined("ok", None, facts, seen[1])


def _seen(data: bytes, spec: IngestSpec) -> tuple[dict[str, Any], bytes]:
    """(facts, bytes to store) of a decoded picture."""

    def wanted(width: int, height: int) -> float:
        return factor(width, height, spec.resize, spec.side, spec.only_if_bigger)

    picture = decode(data, spec.max_pixels, spec.min_side, wanted if spec.decode == "scaled" else None)
    stored, extension, width, height = to_store(picture, data, spec)
    fingerprint = of_pixels(picture.pixels) if spec.phash else None
    return {
        "received_format": picture.format,
        "original_width": picture.width,
        "original_height": picture.height,
        "phash64": fingerprint and fingerprint.phash64,
        "phash256": fingerprint and fingerprint.phash256,
        "phash_quality": fingerprint and fingerprint.quality,
        "width": width,
        "height": height,
        "format": extension,
    }, stored


def _unseen(data: bytes, spec: IngestSpec) -> tuple[dict[str, Any], bytes] | None:
    """(facts, bytes to store) by the header alone; None for a format that packs do not hold, which is decoded."""
    header = header_of(data)
    if header is None or header.format not in EXTENSION:
        return None
    width, height = header.width, header.height
    if width * height > spec.max_pixels:
        raise DecodeError("bomb", f"{width}x{height} is more than {spec.max_pixels} pixels")
    if min(width, height) < spec.min_side:
        raise DecodeError("too_small", f"{width}x{height}, less than {spec.min_side} a side")
    return {
        "received_format": header.format,
        "original_width": width,
        "original_height": height,
        "phash64": None,
        "phash256": None,
        "phash_quality": None,
        "width": width,
        "height": height,
        "format": EXTENSION[header.format],
    }, data


def to_store(picture: Decoded, data: bytes, spec: IngestSpec) -> tuple[bytes, StoredFormat, int, int]:
    """(bytes, extension, width, height) to store. Received bytes stay where nothing has to change in them.

    With `resize: none` that is wherever the format may stay; else where the picture keeps its size and its bytes
    show just these pixels to any reader: one frame, upright, no alpha, 8 bits of gray or RGB.

    Raises:
        DecodeError: the wanted size or format cannot hold the picture.
    """
    received = EXTENSION.get(picture.format)
    wanted = spec.format or received or "png"
    by = factor(picture.width, picture.height, spec.resize, spec.side, spec.only_if_bigger)
    size = max(1, round(picture.width * by)), max(1, round(picture.height * by))
    pixels = fitted(picture.pixels, size, spec.resize, spec.side)
    same = pixels is picture.pixels and size == (picture.width, picture.height)
    if wanted == received and same and (picture.plain or spec.resize == "none"):
        return data, wanted, picture.width, picture.height
    return encoded(pixels, wanted, spec.quality), wanted, pixels.shape[1], pixels.shape[0]
