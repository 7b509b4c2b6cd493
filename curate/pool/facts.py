"""Schemas of the tables that ingest writes: list shards, the fetch log, and the facts of samples."""

from __future__ import annotations

import pyarrow as pa

UID = pa.binary(16)

PLACE = pa.struct([("path", pa.string()), ("offset", pa.int64()), ("size", pa.int64()), ("row", pa.int64())])
"""Where local bytes are: (tar, offset of the data, size), (image file, null, size) or (parquet, row)."""

LISTED = pa.schema(
    [
        pa.field("uid", UID, nullable=False),
        ("source_id", pa.string()),  # the input's own uid where it is not 128 bits of hex
        ("url", pa.string()),
        ("text", pa.string()),
        ("sha256", pa.string()),  # expected digest of the bytes, hex; null where the input gives none
        ("place", PLACE),  # null where the bytes are behind the url
    ]
)
"""One row a sample that the user listed; the input's further columns follow."""

FETCHES = pa.schema(
    [
        pa.field("uid", UID, nullable=False),
        ("url", pa.string()),
        ("outcome", pa.string()),
        ("status", pa.int16()),
        ("final_url", pa.string()),
        ("content_type", pa.string()),
        ("bytes", pa.int64()),
        ("elapsed_ms", pa.int32()),
        ("attempt", pa.int8()),
        ("time", pa.timestamp("ms", tz="UTC")),
        ("detail", pa.string()),
        ("retry_at", pa.timestamp("ms", tz="UTC")),  # before which its host does not want to be asked again
    ]
)
"""One row a URL and attempt. A log: stages never read it."""

FACTS = pa.schema(
    [
        pa.field("uid", UID, nullable=False),
        ("source_id", pa.string()),
        ("url", pa.string()),
        ("text", pa.string()),
        ("list", pa.string()),
        ("sha256", pa.string()),  # of the bytes as received, hex
        ("received_bytes", pa.int64()),
        ("received_format", pa.string()),
        ("original_width", pa.int32()),  # as received, after EXIF orientation
        ("original_height", pa.int32()),
        ("phash64", pa.uint64()),  # of the full-size pixels as received
        ("phash256", pa.binary(32)),
        ("phash_quality", pa.uint8()),  # 0 (flat) to 100: below ~50 never pair by hash alone
        ("width", pa.int32()),  # as stored
        ("height", pa.int32()),
        ("format", pa.string()),  # jpg, png or webp: the member's extension
        ("bytes", pa.int32()),  # as stored
        ("tar_offset", pa.int64()),  # of the member's data in the shard's tar
    ]
)
"""One row a sample that has an image; the input's further columns follow."""

OUTCOMES = (
    "ok",
    "dns",
    "refused_robots",
    "robots_unavailable",
    "refused_header",
    "refused_list",
    "blocked_address",
    "connect",
    "tls",
    "timeout",
    "http_4xx",
    "http_429",
    "http_5xx",
    "too_many_redirects",
    "too_big",
    "truncated",
    "not_image",
    "bomb",
    "decode_error",
    "too_small",
    "hash_mismatch",
    "gave_up",
    "unreadable",
)
"""What can become of a URL or a local file: one outcome each."""

TRANSIENT = frozenset(
    {"dns", "connect", "timeout", "http_429", "http_5xx", "robots_unavailable", "truncated", "gave_up"}
)
"""Outcomes that another attempt may change; gave_up was never asked. A refusal is never one of them."""

RESERVED = frozenset(FACTS.names) | {"shard", "row", "place", "outcome", "error"}
"""Names that an input's extra column may not take: it is stored as `source_<name>`."""
