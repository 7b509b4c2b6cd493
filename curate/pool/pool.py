"""A pool: settings, claimed shards, what is finished, and what a folder's hash stands for.

pool = Pool.create("s3://bucket/pool", {"resize": "long", "side": 512}, shard_size=10_000)
pool.claimed(), pool.shards()                  # numbers given to lists; those whose images are there
"""

from __future__ import annotations

import json
from bisect import bisect_right
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pyarrow as pa

from curate.errors import UserError
from curate.pool.columns import read_table, write_parquet
from curate.pool.facts import UID
from curate.pool.index import FolderIndex
from curate.pool.layout import ABOUT, CLAIMS, FETCH, FETCH_LOG, PIXELS, POOL, REMOVED, marker, short_hash
from curate.pool.storage import Storage
from stages.base import Shape

FORMAT = 1
UID_RULE = "given uid, else md5(text + url), else md5(text + 'sha256:' + hex of the bytes)"


@dataclass
class Pool:
    """An open pool. `settings` is the content of pool.json."""

    storage: Storage
    settings: dict[str, Any]

    @classmethod
    def open(cls, url: str) -> Pool:
        """Raises: UserError if there is no pool, or it is of a newer format."""
        storage = Storage.at(url)
        try:
            settings = json.loads(storage.read(POOL))
        except FileNotFoundError:
            raise UserError(f"{url}: there is no pool here; `curate run RECIPE` makes one") from None
        if settings.get("format") != FORMAT:
            raise UserError(
                f"{url}: pool format {settings.get('format')}; this curate reads {FORMAT}: use the version that made it"
            )
        return cls(storage, settings)

    @classmethod
    def create(cls, url: str, pixels: dict[str, Any], shard_size: int) -> Pool:
        """Open the pool, or make it with these settings; refuse where it was made with others.

        Raises:
            UserError: naming each setting that differs, with the pool's value and the recipe's.
        """
        wanted = {"format": FORMAT, "uid_rule": UID_RULE, "shard_size": shard_size, "pixels": pixels}
        storage = Storage.at(url)
        if storage.is_local or not storage.exists(POOL):
            storage.commit(POOL, json.dumps(wanted, indent=1, sort_keys=True).encode())
        pool = cls.open(url)
        pool.refuse_other_settings(pixels, shard_size)
        return pool

    def refuse_other_settings(self, pixels: dict[str, Any], shard_size: int) -> None:
        """Pixels are written once: a recipe that wants others needs another pool."""
        have = {"shard_size": self.settings["shard_size"], **self.settings["pixels"]}
        want = {"shard_size": shard_size, **pixels}
        differ = [
            f"  {name}: the pool has {have.get(name)!r}, the recipe says {want.get(name)!r}"
            for name in sorted(have.keys() | want.keys())
            if have.get(name) != want.get(name)
        ]
        if differ:
            raise UserError(
                f"{self.storage}: this pool was made with other settings\n"
                + "\n".join(differ)
                + "\nuse the pool's values in the recipe, or name another pool (`pool:`)"
            )

    def claims(self) -> list[dict[str, Any]]:
        """The lists of the pool in the order of their shard numbers, as their claim files say."""
        names = sorted(e.name for e in self.storage.list(CLAIMS))
        return [json.loads(self.storage.read(f"{CLAIMS}/{n}")) for n in names]

    def claimed(self) -> list[int]:
        """Every shard number that a list has claimed."""
        return [n for c in self.claims() for n in range(c["first"], c["first"] + c["shards"])]

    def fetch_logs(self) -> dict[int, list[int]]:
        """Shard -> numbers of its logs of fetches, which are attempts, ascending."""
        found: dict[int, list[int]] = {}
        for entry in self.storage.list(FETCH):
            if match := FETCH_LOG.fullmatch(entry.name):
                found.setdefault(int(match[1]), []).append(int(match[2]))
        return {shard: sorted(numbers) for shard, numbers in sorted(found.items())}

    def index(self, folder: str) -> FolderIndex:
        return FolderIndex.load(self.storage, folder)

    def shards(self, claimed: list[int] | None = None) -> list[int]:
        """Shards whose images are in the pool."""
        wanted = self.claimed() if claimed is None else claimed
        return sorted(self.index(PIXELS).finished(wanted))

    def shape(self, shards: list[int] | None = None) -> tuple[Shape, str]:
        """(numbers and rows of the finished shards, digest of what they hold); generations are the lists as they came.

        The digest changes when a shard is added: it names the generation that a barrier has seen.
        """
        numbers = self.shards() if shards is None else shards
        found = self.index(PIXELS).describe(numbers)
        starts = [c["first"] for c in self.claims()]
        shape = Shape(
            tuple(numbers),
            tuple(found[s][0] for s in numbers),
            tuple(bisect_right(starts, s) - 1 for s in numbers),
            tuple(found[s][1] for s in numbers),
        )
        return shape, short_hash([[s, *found[s][:2]] for s in numbers])

    def facts(self, shard: int, columns: list[str] | None = None) -> tuple[pa.Table, dict[str, Any]]:
        """Facts of a shard and the footer of its marker (`rows`, `uid_digest`, `tar`)."""
        return read_table(self.storage, marker(shard), columns)

    def describe_folder(self, folder: str, about: dict[str, Any]) -> None:
        """Leave a note of what a folder's hash stands for; the first note stays."""
        rel = f"{folder}/{ABOUT}"
        if not self.storage.exists(rel):
            self.storage.commit(rel, json.dumps(about, indent=1, sort_keys=True).encode())

    def about(self, folder: str) -> dict[str, Any]:
        try:
            return dict(json.loads(self.storage.read(f"{folder}/{ABOUT}")))
        except FileNotFoundError:
            return {}

    @cached_property
    def removed(self) -> pa.Array:
        """Sorted uids that every view, pick and pack leaves out: binary(16)."""
        names = [e.name for e in self.storage.list(REMOVED) if e.name.endswith(".parquet")]
        found = [read_table(self.storage, f"{REMOVED}/{n}", ["uid"])[0] for n in names]
        if not found:
            return pa.nulls(0, UID)  # pa.array of a list imports pandas, a tenth of a second
        uids = pa.concat_tables(found).column("uid").combine_chunks()
        return pa.array(sorted(set(uids.to_pylist())), UID)

    def remove(self, uids: pa.Array, why: str) -> str:
        """Add uids to the removed ones; returns the file. Their bytes stay until `curate purge`."""
        table = pa.table({"uid": pa.array(sorted(set(uids.to_pylist())), UID)})
        name = f"{REMOVED}/{short_hash([u.hex() for u in table.column('uid').to_pylist()])}.parquet"
        self.storage.commit(name, write_parquet(table, {"rows": table.num_rows, "why": why}))
        self.__dict__.pop("removed", None)
        return name

    def removed_digest(self) -> str:
        return short_hash([u.hex() for u in self.removed.to_pylist()])
