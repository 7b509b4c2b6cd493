"""Lists of what is never fetched or kept: domains, URLs, hashes of images. Millions of lines in 16 bytes each.

refusals = Refusals.load(spec)
refusals.url(URL("https://sub.example.org/a.jpg"))     # why, or None
"""

from __future__ import annotations

import gzip
import hashlib
import os
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
from yarl import URL

from curate.errors import UserError
from curate.run.fetch.spec import IngestSpec


@dataclass(frozen=True)
class Refusals:
    """Digests, sorted, each the first 16 bytes of a sha256: of lower-case domains, of URLs, of image bytes."""

    domains: np.ndarray = field(default_factory=lambda: _sorted([]))
    urls: np.ndarray = field(default_factory=lambda: _sorted([]))
    hashes: np.ndarray = field(default_factory=lambda: _sorted([]))

    @classmethod
    def load(cls, spec: IngestSpec) -> Refusals:
        """Read the spec's lists; a file read before is not read again while it stays as it is.

        Raises:
            UserError: a file is missing, or a line is none of what it should be; named with its number.
        """
        read = (
            (spec.refuse_domains, _domain),
            (spec.refuse_urls, _url),
            (spec.refuse_hashes, _hash),
        )
        return cls(*(_table(kind.__name__, tuple((path, _stamp(path)) for path in paths)) for paths, kind in read))

    def url(self, url: URL) -> str | None:
        """Why a URL is left out; None where it is not."""
        if len(self.urls) and _has(self.urls, _digest(_canonical(url))):
            return "the URL is on a list of refusals"
        if len(self.domains):
            labels = (url.raw_host or "").lower().rstrip(".").split(".")
            for start in range(len(labels)):
                domain = ".".join(labels[start:])
                if _has(self.domains, _digest(domain.encode())):
                    return f"{domain} is on a list of refusals"
        return None

    def image(self, data: bytes) -> str | None:
        """Why an image of these bytes is left out; None where it is not."""
        if len(self.hashes) and self.has_sha256(hashlib.sha256(data).digest()):
            return "its sha256 is on a list of refusals"
        return None

    def has_sha256(self, digest: bytes) -> bool:
        """Whether images with this sha256 (32 bytes) are left out."""
        return bool(len(self.hashes)) and _has(self.hashes, digest[:16])


def _domain(line: str) -> bytes:
    name = line.lower().removeprefix("*.").strip(".")
    if not name or any(c in name for c in "/:@ "):
        raise ValueError("is no domain")
    return _digest(name.encode("ascii") if name.isascii() else name.encode("idna"))


def _url(line: str) -> bytes:
    if "://" not in line:
        raise ValueError("is no URL")
    try:
        return _digest(_canonical(URL(line)))
    except ValueError:  # no URL that anybody would ask for
        return _digest(line.encode("utf-8", "surrogatepass"))


def _hash(line: str) -> bytes:
    found = bytes.fromhex(line)
    if len(found) != 32:
        raise ValueError("is no sha256 of 64 hex digits")
    return found[:16]


_KINDS = {f.__name__: f for f in (_domain, _url, _hash)}


def _canonical(url: URL) -> bytes:
    return str(url.with_fragment(None)).encode()


def _digest(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()[:16]


def _stamp(path: str) -> tuple[int, int]:
    try:
        found = os.stat(path)
    except OSError as e:
        raise UserError(f"{path}: {e.strerror}: it is named in the recipe as a list of what is not fetched") from e
    return found.st_size, found.st_mtime_ns


@lru_cache(maxsize=16)
def _table(kind: str, files: tuple[tuple[str, tuple[int, int]], ...]) -> np.ndarray:
    return _sorted([_digests(path, kind) for path, _ in files])


def _digests(path: str, kind: str) -> bytearray:
    made = _KINDS[kind]
    held = bytearray()
    for number, line in _lines(path):
        try:
            held += made(line)
        except (ValueError, UnicodeError) as e:
            what = kind.strip("_")
            raise UserError(f"{path}:{number}: {line[:80]!r} {e}; one {what} a line, # begins a comment") from e
    return held


def _lines(path: str) -> Iterator[tuple[int, str]]:
    opened = gzip.open if path.endswith(".gz") else open
    try:
        with opened(path, "rt", encoding="utf-8", errors="replace") as file:
            for number, line in enumerate(file, 1):
                text = line.strip() if "://" in line else line.partition("#")[0].strip()
                if text and not text.startswith("#"):
                    yield number, text
    except (OSError, EOFError, zlib.error) as e:
        raise UserError(f"{path}: it cannot be read as a list of what is not fetched: {e}") from e


def _sorted(parts: list[bytearray]) -> np.ndarray:
    """Digests as two big-endian 64-bit numbers a row, uint64 (n, 2), sorted by the first."""
    pairs = np.frombuffer(b"".join(parts), ">u8").reshape(-1, 2).astype(np.uint64)
    return pairs[np.argsort(pairs[:, 0])]


def _has(digests: np.ndarray, digest: bytes) -> bool:
    first, second = np.frombuffer(digest, ">u8").astype(np.uint64)
    low, high = np.searchsorted(digests[:, 0], first, "left"), np.searchsorted(digests[:, 0], first, "right")
    return bool((digests[low:high, 1] == second).any())
