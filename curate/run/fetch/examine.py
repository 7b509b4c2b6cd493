"""From received bytes to facts and stored bytes: one decode for all of it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

from curate.run.fetch.spec import IngestSpec
from stages.decode import Decoded, DecodeError, StoredFormat, decode, encode, resize
from stages.phash import of_image

EXTENSION: dict[str, StoredFormat] = {"jpeg": "jpg", "png": "png", "webp": "webp"}


@dataclass(frozen=True, slots=True)
class Examined:
    """An outcome and one line about it; where it is "ok", the facts (columns of FACTS) and the bytes to store."""

    outcome: str
    detail: str | None = None
    facts: dict[str, Any] | None = None
    stored: bytes | None = None


def examine(data: bytes, expected_sha256: str | None, spec: IngestSpec) -> Examined:
    """Verify, decode, describe and shrink one image. A pure function, safe to call from threads."""
    digest = hashlib.sha256(data).hexdigest()
    if expected_sha256 is not None and digest != expected_sha256.strip().lower():
        return Examined("hash_mismatch", f"sha256 {digest}, expected {expected_sha256}"[:300])
    try:
        picture = decode(data, spec.max_pixels, spec.min_side)
        stored, extension, width, height = to_store(picture, data, spec)
    except DecodeError as e:
        return Examined(e.outcome, e.detail)
    fingerprint = of_image(picture.image)
    facts = {
        "sha256": digest,
        "received_bytes": len(data),
        "received_format": picture.format,
        "original_width": picture.image.width,
        "original_height": picture.image.height,
        "phash64": fingerprint.phash64,
        "phash256": fingerprint.phash256,
        "phash_quality": fingerprint.quality,
        "width": width,
        "height": height,
        "format": extension,
        "bytes": len(stored),
    }
    return Examined("ok", None, facts, stored)


def to_store(picture: Decoded, data: bytes, spec: IngestSpec) -> tuple[bytes, StoredFormat, int, int]:
    """(bytes, extension, width, height) to store. Received bytes stay where nothing has to change in them.

    With `resize: none` that is wherever the format may stay; else where the picture keeps its size and its bytes
    show just these pixels to any reader: one frame, upright, no alpha, 8 bits of gray or RGB.

    Raises:
        DecodeError: the wanted size or format cannot hold the picture.
    """
    received = EXTENSION.get(picture.format)
    wanted = spec.format or received or "png"
    image = resize(picture.image, spec.resize, spec.side, spec.only_if_bigger)
    if wanted == received and image is picture.image and (picture.plain or spec.resize == "none"):
        return data, wanted, image.width, image.height
    return encode(image, wanted, spec.quality), wanted, image.width, image.height
