"""The uid rule: who a sample is, from what the input says about it.

    uids = identify(given, url, text, content)      # pa.string() columns of equal length
    uid_hex(uids.uid[0].as_py())                    # "5f93b2..."

Given hex is left-padded to 32 digits; any other given value becomes md5("uid:" + value) and is kept as source_id;
without a given one it is md5(text + url) of the raw UTF-8, null as "", where "sha256:<hex>" of the bytes stands for
an absent url.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from hashlib import md5

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import xxhash

from curate.pool.facts import UID

_HEX = r"^[0-9a-fA-F]{1,32}\z"
_NIBBLE = np.zeros(256, np.uint8)
for _digits in (b"0123456789abcdef", b"0123456789ABCDEF"):
    _NIBBLE[np.frombuffer(_digits, np.uint8)] = np.arange(16)


@dataclass(frozen=True)
class Uids:
    """Identities of some rows: all of one length.

    uid: fixed_size_binary(16); source_id: string, null where the given uid was hex or there was none;
    given: bool; check: uint64 over (text, url or content), to tell a repeated sample from a clash of given uids.
    """

    uid: pa.Array
    source_id: pa.Array
    given: np.ndarray
    check: np.ndarray


def uid_hex(uid: bytes) -> str:
    """32 hex digits, as a uid is printed and as its picture is named."""
    return uid.hex()


def parse_uid(value: str) -> tuple[bytes, str | None]:
    """(16 bytes, source_id) of a given uid; source_id is the value itself where it is no hex of 128 bits."""
    if re.fullmatch(r"[0-9a-fA-F]{1,32}", value):
        return bytes.fromhex(value.rjust(32, "0")), None
    return md5(b"uid:" + value.encode(), usedforsecurity=False).digest(), value


def identify(given: pa.Array, url: pa.Array, text: pa.Array, content: pa.Array) -> Uids:
    """Uids of rows, by the rule above. An empty given uid or url is an absent one.

    Args:
        given, url, text, content: string arrays of one length; content is "sha256:<hex>" or null.
    """
    given, url = _nullify(given), _nullify(url)
    is_given = given.is_valid().to_numpy(zero_copy_only=False)
    where = _bytes(pc.coalesce(url, content.cast(pa.string())))
    words = _bytes(text)
    uid = np.empty((len(given), 16), np.uint8)
    derived = np.flatnonzero(~is_given)
    digests = b"".join(md5(words[i] + where[i], usedforsecurity=False).digest() for i in derived.tolist())
    uid[derived] = np.frombuffer(digests, np.uint8).reshape(-1, 16)
    source_id = _fill_given(given, is_given, uid)
    # the length first: "ab" + "c" and "a" + "bc" must differ here
    check = [xxhash.xxh3_64_intdigest(b"%d:" % len(t) + t + w) for t, w in zip(words, where, strict=True)]
    return Uids(_binary16(uid), source_id, is_given, np.array(check, np.uint64))


def source_ids(given: pa.Array) -> pa.Array:
    """The given uids that are not hex of 128 bits, null elsewhere: string."""
    given = _nullify(given)
    other = pc.invert(pc.match_substring_regex(given, _HEX))
    return pc.if_else(pc.fill_null(other, False), given, pa.scalar(None, pa.string()))


def _fill_given(given: pa.Array, is_given: np.ndarray, uid: np.ndarray) -> pa.Array:
    """Write the given uids into `uid` (n, 16); returns source_id."""
    source_id = source_ids(given)
    other = source_id.is_valid().to_numpy(zero_copy_only=False)
    hexes = np.flatnonzero(is_given & ~other)
    if len(hexes):
        padded = "".join(pc.utf8_lpad(given.take(pa.array(hexes)), 32, "0").to_pylist()).encode()
        nibbles = _NIBBLE[np.frombuffer(padded, np.uint8)].reshape(-1, 16, 2)
        uid[hexes] = nibbles[:, :, 0] << 4 | nibbles[:, :, 1]
    others = np.flatnonzero(other)
    if len(others):
        digests = b"".join(parse_uid(v)[0] for v in source_id.take(pa.array(others)).to_pylist())
        uid[others] = np.frombuffer(digests, np.uint8).reshape(-1, 16)
    return source_id


def _binary16(uid: np.ndarray) -> pa.Array:
    return pa.Array.from_buffers(UID, len(uid), [None, pa.py_buffer(np.ascontiguousarray(uid))])


def _nullify(values: pa.Array) -> pa.Array:
    """Null for the empty string."""
    values = values.cast(pa.string())
    return pc.if_else(pc.equal(values, ""), pa.scalar(None, pa.string()), values)


def _bytes(values: pa.Array) -> list[bytes]:
    """Raw UTF-8, null as b""."""
    return pc.fill_null(values.cast(pa.string()), "").cast(pa.binary()).to_pylist()
