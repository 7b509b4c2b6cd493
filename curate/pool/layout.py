"""Names of everything in a pool: the one place that knows where things lie.

pool.json                                   settings that every list and recipe must agree with
lists/claims/00000017.json                  a list's claim of shard numbers; creating it takes them
lists/<list>@<hash>/00000017.parquet        the input cut into shards; of a retry, the rows that are tried again
uids/<list>@<hash>.<digest>/*.parquet       sorted runs of uids, rebuildable from lists/
fetch/00000017.<n>.parquet                  one row a URL and attempt
manners/<hash>.json                         how owners' wishes were kept by runs that fetched
pixels/00000017.<digest8>.tar, .parquet     images, and their facts: the marker of the shard
columns/<stage>@<hash>/00000017.parquet     row-aligned with the shard
columns/<stage>@<hash>/00000017.000003.parquet   of a stage for survivors: a part, numbered as committed
barriers/<stage>@<hash>/<phase>/<part>.parquet
verdicts/<filter>@<hash>/00000017.parquet
picks/<recipe>@<hash>/00000017.parquet
packs/<recipe>@<hash>/00000042.tar
documents/<name>@<hash>/                    documents between whose texts pictures stand, and the list of these
judge/<hash>/                               one training of `curate compare`, and its scores
judge/sets/<set>-<hash>/<shards>.parquet    which pictures of an evaluation set are in these shards
removed/*.parquet                           uids that every view, pick and pack leaves out
runs/<run>/status.json                      what a run is doing, for `curate status`
tmp/<process>/                              being written
<folder>/about.json                         what the hash of a folder stands for
<folder>/_index/*.parquet, _compact/        caches over finished folders
"""

from __future__ import annotations

import hashlib
import json
import re
from typing import Any

from stages.base import shard_name

POOL = "pool.json"
CLAIMS = "lists/claims"
PIXELS = "pixels"
FETCH = "fetch"
FETCH_LOG = re.compile(r"(\d{8})\.(\d+)\.parquet")
MANNERS = "manners"
REMOVED = "removed"
RUNS = "runs"
ABOUT = "about.json"


def short_hash(value: Any) -> str:
    """12 hex digits of the sha256 of a JSON value."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def marker(shard: int) -> str:
    """The facts of a shard, whose existence says that the shard is there."""
    return f"{PIXELS}/{shard_name(shard)}.parquet"


def fetch_log(shard: int, attempt: int) -> str:
    return f"{FETCH}/{shard_name(shard)}.{attempt}.parquet"


def part_file(folder: str, part: str) -> str:
    """A file of a folder of columns, verdicts, picks or of one phase of a barrier."""
    return f"{folder}/{part}.parquet"


def failure(folder: str, part: str) -> str:
    """Why a part of a folder could not be made, after all tries."""
    return f"{folder}/{part}.failed.json"


def folder_name(kind: str, name: str, digest: str) -> str:
    """``columns/phash@0123456789ab``; colons and slashes of import paths become dots."""
    return f"{kind}/{name.replace(':', '.').replace('/', '.')}@{digest}"
