"""Pools made directly on disk, without a run: for tests and benchmarks of what reads a pool.

pool = synthetic(tmp_path / "pool", rows=[100, 80, 90])
scores = add_column(pool, "score", lambda shard, uid: pa.table({"score": values}))
strict = add_verdict(pool, "where", lambda shard, uid: keep)
add_pick(pool, "demo", [("strict", strict)])
"""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from curate.pool.columns import read_table, uid_digest, write_parquet
from curate.pool.facts import FACTS, FETCHES, UID
from curate.pool.layout import ABOUT, CLAIMS, PIXELS, fetch_log, folder_name, marker, part_file, short_hash
from curate.pool.pool import Pool
from curate.run.pick import PICK
from stages.base import shard_name

PIXEL_SETTINGS = {"resize": "keep"}
Make = Callable[[int, pa.Array], pa.Table]


def write(pool: Pool, rel: str, data: bytes) -> None:
    """Plain write where that is possible: a thousand shards need no fsync."""
    if not pool.storage.is_local:
        pool.storage.put(rel, data)
        return
    path = Path(pool.storage.url) / rel
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def uids(shard: int, rows: int, seed: int = 0) -> pa.Array:
    """binary(16), all different over shards: random bits with the shard and row inside."""
    words = np.random.default_rng([seed, shard]).integers(0, 2**63, (rows, 2), np.uint64)
    words[:, 1] = (np.uint64(shard) << np.uint64(32)) | np.arange(rows, dtype=np.uint64)
    return pa.Array.from_buffers(UID, rows, [None, pa.py_buffer(np.ascontiguousarray(words))])


def empty_pool(root: Path | str, claims: Sequence[int], first: int = 0) -> Pool:
    """A pool with one list a number of shards."""
    pool = Pool.create(str(root), PIXEL_SETTINGS, 10_000)
    add_claims(pool, claims, first)
    return pool


def add_claims(pool: Pool, claims: Sequence[int], first: int = 0) -> None:
    for number, shards in enumerate(claims):
        claim = {"list": f"list{first + number}@{first:012x}", "first": first, "shards": shards}
        write(pool, f"{CLAIMS}/{shard_name(first)}.json", json.dumps(claim).encode())
        first += shards


def facts_table(shard: int, rows: int, seed: int = 0) -> pa.Table:
    """Made-up facts; `original_width` + 10,000 x shard + row is not in them: shards differ by their seed."""
    rng = np.random.default_rng([seed, shard, 1])
    uid = uids(shard, rows, seed)
    number = pa.array(np.arange(rows)).cast(pa.string())
    width, height = (rng.integers(64, 2000, rows).astype(np.int32) for _ in range(2))
    hashes = pa.Array.from_buffers(pa.binary(32), rows, [None, pa.py_buffer(rng.bytes(32 * rows))])
    columns = {
        "uid": uid,
        "source_id": pa.nulls(rows, pa.string()),
        "url": pc.binary_join_element_wise(f"http://host{shard % 7}.test/{shard}/", number, ".jpg", ""),
        "text": pc.binary_join_element_wise(f"caption {shard} of picture", number, " "),
        "list": pa.array(["list"] * rows, pa.string()),
        "sha256": pc.binary_join_element_wise(f"{shard:032x}", number, ""),
        "received_bytes": rng.integers(1000, 200_000, rows),
        "received_format": pa.array(["jpeg"] * rows, pa.string()),
        "original_width": width,
        "original_height": height,
        "phash64": rng.integers(0, 2**63, rows, np.uint64),
        "phash256": hashes,
        "phash_quality": rng.integers(0, 101, rows).astype(np.uint8),
        "width": width,
        "height": height,
        "format": pa.array(["jpg"] * rows, pa.string()),
        "bytes": rng.integers(1000, 100_000, rows).astype(np.int32),
        "tar_offset": np.arange(rows) * 1024,
    }
    return pa.table([pa.array(columns[f.name], f.type) for f in FACTS], schema=FACTS)


def write_facts(pool: Pool, shard: int, table: pa.Table, tar: str = "") -> None:
    footer = {"rows": table.num_rows, "uid_digest": uid_digest(table.column("uid")), "tar": tar}
    write(pool, marker(shard), write_parquet(table, footer))


def synthetic(root: Path | str, rows: Sequence[int], seed: int = 0, claims: Sequence[int] = ()) -> Pool:
    """A pool with rows[i] samples in shard i and no pixels behind them."""
    pool = empty_pool(root, claims or [len(rows)])
    for shard, n in enumerate(rows):
        write_facts(pool, shard, facts_table(shard, n, seed))
    return pool


def add_files(
    pool: Pool, folder: str, make: Make, shards: Iterable[int] | None, note: Callable[[pa.Table], dict[str, Any]]
) -> None:
    for shard in pool.shards() if shards is None else shards:
        facts, footer = pool.facts(shard, ["uid"])
        uid = facts.column("uid").combine_chunks()
        table = make(shard, uid)
        aligned = {"rows": footer["rows"], "uid_digest": footer["uid_digest"]}
        write(pool, part_file(folder, shard_name(shard)), write_parquet(table, aligned | note(table)))


def about(pool: Pool, folder: str, **note: Any) -> None:
    write(pool, f"{folder}/{ABOUT}", json.dumps(note, sort_keys=True).encode())


def add_column(
    pool: Pool, name: str, make: Make, shards: Iterable[int] | None = None, parameters: str = "", error: bool = True
) -> str:
    """A stage's folder; `make(shard, uids)` gives its columns. Returns the folder."""
    folder = folder_name("columns", name, short_hash([name, parameters]))

    def with_error(shard: int, uid: pa.Array) -> pa.Table:
        table = make(shard, uid)
        return table.append_column("error", pa.nulls(len(uid), pa.string())) if error else table

    add_files(pool, folder, with_error, shards, lambda t: {})
    about(pool, folder, identity={"name": name, "version": 1, "parameters": {"set": parameters}})
    return folder


def add_barrier(pool: Pool, name: str, make: Make, generation: str | None = None) -> str:
    """A barrier's last phase, row-aligned. Returns the folder of that phase."""
    seen = pool.shape()[1] if generation is None else generation
    folder = folder_name("barriers", name, short_hash([name, seen]))
    add_files(pool, f"{folder}/answer", make, None, lambda t: {})
    about(pool, folder, identity={"name": name}, last="answer", generation=seen)
    return f"{folder}/answer"


def add_sparse(pool: Pool, name: str, shard: int, tables: Sequence[pa.Table]) -> str:
    """Parts of a sparse stage: each table has uid and values."""
    folder = folder_name("columns", name, short_hash(name))
    for number, table in enumerate(tables):
        rel = part_file(folder, f"{shard_name(shard)}.{number:08x}")
        write(pool, rel, write_parquet(table, {"rows": table.num_rows, "shard": shard}))
    about(pool, folder, identity={"name": name, "version": 1, "parameters": {}})
    return folder


def add_verdict(pool: Pool, name: str, make: Callable[[int, pa.Array], pa.Table | np.ndarray], key: str = "") -> str:
    """A filter's folder; `make` gives keep as bool array, or a whole verdict table. Returns the folder."""
    folder = folder_name("verdicts", name, short_hash([name, key]))

    def table(shard: int, uid: pa.Array) -> pa.Table:
        made = make(shard, uid)
        if isinstance(made, pa.Table):
            return made
        reason = pa.array([None if k else f"not_{name}" for k in made], pa.string())
        return pa.table({"keep": pa.array(made, pa.bool_()), "reason": reason})

    def note(made: pa.Table) -> dict[str, Any]:
        keep = made.column("keep")
        reasons = pc.value_counts(made.column("reason").drop_null()).to_pylist()
        counts = {r["values"]: r["counts"] for r in reasons}
        return {"kept": pc.sum(keep).as_py() or 0, "asked": len(keep) - keep.null_count, "reasons": counts}

    add_files(pool, folder, table, None, note)
    about(pool, folder, identity={"name": name})
    return folder


def add_pick(
    pool: Pool, recipe: str, steps: Sequence[tuple[str, str]], columns: dict[str, dict[str, Any]] | None = None
) -> str:
    """The pick of verdict folders [(id, folder)], as curate.run.pick makes it. Returns the folder."""
    folder = folder_name("picks", recipe, short_hash([recipe, list(steps)]))

    def make(shard: int, uid: pa.Array) -> pa.Table:
        by, why = np.full(len(uid), None, object), np.full(len(uid), None, object)
        for step, verdicts in steps:
            verdict, _ = read_table(pool.storage, part_file(verdicts, shard_name(shard)))
            lost = ~np.array(verdict.column("keep").fill_null(False)) & (by == None)  # noqa: E711 (elementwise)
            by[lost], why[lost] = step, np.array(verdict.column("reason").to_pylist(), object)[lost]
        times = pa.array([int(b is None) for b in by], pa.int32())
        emit = [[{"copies": 1, "texts": [{"source": "text", "index": 0, "p": 1.0}]}] if b is None else [] for b in by]
        return pa.table(
            [pa.array(by, pa.string()), pa.array(why, pa.string()), times, pa.array(emit, PICK[3].type)], PICK
        )

    def note(made: pa.Table) -> dict[str, Any]:
        dropped = pc.value_counts(made.column("dropped_by").drop_null()).to_pylist()
        kept = made.column("dropped_by").null_count
        return {"kept": kept, "times": kept, "dropped": {d["values"]: d["counts"] for d in dropped}}

    add_files(pool, folder, make, None, note)
    about(
        pool,
        folder,
        recipe=recipe,
        yaml=f"# {recipe}\nfilters:\n" + "".join(f"  - {s}\n" for s, _ in steps),
        steps=[{"id": s, "filter": f.split("/")[1].split("@")[0], "folder": f, "over": None} for s, f in steps],
        columns=columns or {},
        generation=pool.shape()[1],
        shards=pool.shards(),
        version="0",
    )
    return folder


def add_fetches(pool: Pool, shard: int, outcomes: Sequence[str], attempt: int = 0) -> None:
    """A fetch log of the shard: its samples first, in order, then uids of samples without an image."""
    known = pool.facts(shard, ["uid"])[0].column("uid").to_pylist() if pool.storage.exists(marker(shard)) else []
    more = uids(shard + 1_000_000, len(outcomes)).to_pylist()
    rows = [
        {
            "uid": u,
            "url": f"http://host{i % 5}.test/{i}",
            "outcome": o,
            "status": 200 if o == "ok" else None,
            "attempt": attempt,
        }
        for i, (u, o) in enumerate(zip((known + more)[: len(outcomes)], outcomes, strict=True))
    ]
    write(pool, fetch_log(shard, attempt), write_parquet(pa.Table.from_pylist(rows, FETCHES), {"rows": len(rows)}))


def photos(root: Path, shared: Path, shards: int, rows: int) -> Pool:
    """A pool of real photos with their first captions: real tars, real thumbnails to be made."""
    found = pq.read_table(shared / "images" / "pairs_flickr8k-00000.parquet").slice(0, shards * rows)
    pool = empty_pool(root, [shards])
    texts = [c[0] if isinstance(c, list) else str(c) for c in found.column("captions").to_pylist()]
    images = found.column("image").to_pylist()
    for shard in range(shards):
        chosen = slice(shard * rows, (shard + 1) * rows)
        write_photos(pool, shard, images[chosen], texts[chosen])
    return pool


def write_photos(pool: Pool, shard: int, images: Sequence[bytes], texts: Sequence[str]) -> None:
    """One shard with these encoded images and captions."""
    table = facts_table(shard, len(images))
    sink, offsets = io.BytesIO(), []
    with tarfile.open(fileobj=sink, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for uid, data in zip(table.column("uid").to_pylist(), images, strict=True):
            member = tarfile.TarInfo(f"{uid.hex()}.jpg")
            member.size = len(data)
            offsets.append(sink.tell() + 512)
            tar.addfile(member, io.BytesIO(data))
    changed = {"text": texts, "tar_offset": offsets, "bytes": [len(i) for i in images]}
    for name, values in changed.items():
        at = table.schema.get_field_index(name)
        table = table.set_column(at, FACTS.field(name), pa.array(values, FACTS.field(name).type))
    name = f"{shard_name(shard)}.{uid_digest(table.column('uid'))[:8]}.tar"
    write(pool, f"{PIXELS}/{name}", sink.getvalue())
    write_facts(pool, shard, table, name)
