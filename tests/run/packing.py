"""Pools with images, captions and a pick, made directly; and readers of packs that owe nothing to curate."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa

from curate.pool.columns import uid_digest, write_parquet
from curate.pool.facts import FACTS
from curate.pool.layout import CLAIMS, PIXELS, marker, part_file
from curate.pool.pool import Pool
from curate.pool.tar import TarWriter
from curate.run.engine import Engine, Pass, Rules
from curate.run.executors import Executor, InlineExecutor
from curate.run.pack import PackSpec, pack
from curate.run.pick import PICK
from stages.base import Column, fact, shard_name
from tests.tiny import sample

PICKED = "picks/demo@0123456789ab"
WEB = ({"copies": 1, "texts": [{"source": "web", "index": 0, "p": 1.0}]},)


class Quiet:
    """A watcher that counts how often each pass finished an item."""

    def __init__(self) -> None:
        self.finished_items: list[tuple[str, str]] = []

    def finished(self, name: str, item: str, *_: Any) -> None:
        self.finished_items.append((name, item))

    def __getattr__(self, name: str) -> Any:
        return lambda *_: None


@dataclass
class Packer:
    """Packs a pool with one executor; `passes` has the names of the passes that ran."""

    pool: Pool
    sources: Mapping[str, Column] = field(default_factory=lambda: {"web": fact("text")})
    executor: Executor = field(default_factory=InlineExecutor)
    passes: list[str] = field(default_factory=list)

    def run(self, passes: list[Pass]) -> dict[str, dict[str, str]]:
        self.passes += [p.name for p in passes]
        return Engine(passes, self.executor, Quiet(), Rules(tries=1)).run()

    def pack(self, seed: int = 0, **spec: Any) -> dict[str, Any]:
        about = {"recipe": "demo", "yaml": "filters: []\n", "shards": self.pool.shards()}
        return pack(self.pool, PICKED, about, PackSpec(**spec), seed, self.sources, {}, self.run)

    @property
    def folders(self) -> list[str]:
        return self.pool.storage.folders("packs")


def samples_of(count: int, **more: Any) -> list[dict[str, Any]]:
    return [sample(i, emit=WEB, **more) for i in range(count)]


def build(
    url: str | Path, shards: Sequence[Sequence[dict[str, Any]]], extra: Mapping[str, pa.DataType] | None = None
) -> Pool:
    """A pool of these samples (see `tests.tiny.sample`); `emit` of each is its part of the pick."""
    pool = Pool.create(str(url), {"resize": "none"}, 1000)
    schema = pa.schema([*FACTS, *(extra or {}).items()])
    for shard, samples in enumerate(shards):
        out, rows = io.BytesIO(), []
        with TarWriter(out) as tar:
            for s in samples:
                offset = tar.add(f"{s['uid'].hex()}.{s['format']}", s["image"])
                rows.append({k: v for k, v in s.items() if k in schema.names} | {"tar_offset": offset})
        table = pa.Table.from_pylist(rows, schema=schema)
        name = f"{shard_name(shard)}.{hashlib.sha256(out.getvalue()).hexdigest()[:8]}.tar"
        pool.storage.commit(f"{PIXELS}/{name}", out.getvalue())
        footer = {"rows": len(rows), "uid_digest": uid_digest(table.column("uid"))}
        pool.storage.commit(marker(shard), write_parquet(table, footer | {"tar": name}))
        write_pick(pool, shard, [list(s["emit"]) for s in samples], footer)
    claim = {"list": "tiny", "hash": "0" * 12, "first": 0, "shards": len(shards), "rows": 0}
    pool.storage.commit(f"{CLAIMS}/{shard_name(0)}.json", json.dumps(claim).encode())
    return pool


def write_pick(pool: Pool, shard: int, emit: list[list[dict[str, Any]]], footer: dict[str, Any]) -> None:
    times = [sum(e["copies"] for e in ways) for ways in emit]
    by = [None if ways else "strict" for ways in emit]
    columns = [pa.array(by, pa.string()), pa.array(by, pa.string()), pa.array(times), pa.array(emit, PICK[3].type)]
    table = pa.table([c.cast(t) for c, t in zip(columns, PICK.types, strict=True)], schema=PICK)
    totals = {"kept": by.count(None), "times": sum(times), "dropped": {}}
    pool.storage.commit(part_file(PICKED, shard_name(shard)), write_parquet(table, footer | totals))


def files_of(packer: Packer, folder: str | None = None) -> dict[str, bytes]:
    """Every file of a pack: name -> bytes."""
    storage = packer.pool.storage
    (only,) = [folder] if folder else packer.folders
    return {e.name: storage.read(f"packs/{only}/{e.name}") for e in storage.list(f"packs/{only}")}


def read_back(files: Mapping[str, bytes]) -> list[list[dict[str, Any]]]:
    """Samples of each tar in their order: key, image, ext, txt (bytes) and json, by Python's own tarfile."""
    tars = []
    for name in sorted(n for n in files if n.endswith(".tar")):
        found: dict[str, dict[str, Any]] = {}
        with tarfile.open(fileobj=io.BytesIO(files[name])) as tar:
            for member in tar:
                key, ext = member.name.split(".")
                data = tar.extractfile(member).read()  # type: ignore[union-attr]
                kind = ext if ext in ("txt", "json") else "image"
                found.setdefault(key, {"key": key})[kind] = data
                if kind == "image":
                    found[key]["ext"] = ext
        for s in found.values():
            s["json"] = json.loads(s["json"])
        tars.append(list(found.values()))
    return tars
