"""Pack against `cat`: MB/s of pool tars in, both ends on the disk (fsync), medians of alternated passes.

    python bench/pack_speed.py            # 1 GB of 9-20 KB images, 5 passes each
    python bench/pack_speed.py --quick    # 450 MB, 3 passes

The time of a pack is all of it: ranks, cuts, files, sizes.json and manifest, by two
workers on Ray, whose start is apart (`--workers 0`: in one process).
A pack works in threads: where other processes take the processors, CPU-seconds say more than the ratio.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
import pyarrow as pa

from curate.pool.columns import uid_digest, write_parquet
from curate.pool.facts import FACTS
from curate.pool.layout import CLAIMS, PIXELS, marker, part_file
from curate.pool.pool import Pool
from curate.pool.tar import TarWriter
from curate.run.engine import Engine, Rules
from curate.run.executors import Executor, InlineExecutor, RayExecutor
from curate.run.pack import PackSpec, pack
from curate.run.pick import PICK
from stages.base import fact, shard_name

ROWS = 10_000
PICKED = "picks/bench@0123456789ab"
EMIT = [{"copies": 1, "texts": [{"source": "web", "index": 0, "p": 1.0}]}]
WORDS = [
    "a",
    "red",
    "cube",
    "beside",
    "two",
    "small",
    "green",
    "spheres",
    "on",
    "the",
    "old",
    "wooden",
    "table",
    "under",
    "evening",
    "light",
]
TARGET = 0.60


class Silent:
    def __getattr__(self, name: str) -> Any:
        return lambda *_: None


def make_pool(root: Path, megabytes: int, low: int, high: int) -> Pool:
    """Shards of random bytes as images, and a pick that keeps all."""
    pool = Pool.create(str(root), {"resize": "none"}, ROWS)
    rng = np.random.default_rng(0)
    shards = max(1, megabytes * 1_000_000 // (ROWS * (low + high) // 2))
    noise = rng.bytes(64_000_000)
    (root / PIXELS).mkdir()
    for shard in range(shards):
        sizes = rng.integers(low, high, ROWS)
        starts = rng.integers(0, len(noise) - high, ROWS)
        uids = [hashlib.md5(b"%d/%d" % (shard, i)).digest() for i in range(ROWS)]
        name = f"{shard_name(shard)}.00000000.tar"
        with (root / PIXELS / name).open("wb") as f, TarWriter(f) as tar:
            offsets = [tar.add(f"{u.hex()}.jpg", noise[a : a + n]) for u, a, n in zip(uids, starts, sizes, strict=True)]
        write_tables(pool, shard, name, uids, sizes, offsets)
    claim = {"list": "bench", "hash": "0" * 12, "first": 0, "shards": shards, "rows": shards * ROWS}
    pool.storage.commit(f"{CLAIMS}/{shard_name(0)}.json", json.dumps(claim).encode())
    return pool


def write_tables(pool: Pool, shard: int, tar: str, uids: list[bytes], sizes: np.ndarray, offsets: list[int]) -> None:
    rng = np.random.default_rng(shard)
    texts = [" ".join(WORDS[j] for j in row) for row in rng.integers(0, len(WORDS), (ROWS, 12))]
    columns = {
        "uid": uids,
        "url": [f"https://example.org/{shard}/{u.hex()[:12]}.jpg" for u in uids],
        "text": texts,
        "list": ["bench"] * ROWS,
        "sha256": [hashlib.sha256(u).hexdigest() for u in uids],
        "width": [256] * ROWS,
        "height": [256] * ROWS,
        "original_width": [640] * ROWS,
        "original_height": [480] * ROWS,
        "format": ["jpg"] * ROWS,
        "bytes": sizes,
        "tar_offset": offsets,
    }
    empty = pa.nulls(ROWS)
    facts = pa.table(
        [pa.array(columns[f.name], f.type) if f.name in columns else empty.cast(f.type) for f in FACTS], FACTS
    )
    footer = {"rows": ROWS, "uid_digest": uid_digest(facts.column("uid"))}
    pool.storage.commit(marker(shard), write_parquet(facts, footer | {"tar": tar}))
    nothing = pa.nulls(ROWS, pa.string())
    picked = pa.table([nothing, nothing, pa.array([1] * ROWS, pa.int32()), pa.array([EMIT] * ROWS, PICK[3].type)], PICK)
    totals = {"kept": ROWS, "times": ROWS, "dropped": {}}
    pool.storage.commit(part_file(PICKED, shard_name(shard)), write_parquet(picked, footer | totals))


def settle() -> None:
    """Equal starts: a virtual machine gives freed pages back after two seconds, and only the first comer finds them."""
    os.sync()
    time.sleep(3)


def time_pack(pool: Pool, seed: int, executor: Executor) -> float:
    """Seconds of one pack; each seed is a pack of its own, removed afterwards."""
    about = {"recipe": "bench", "yaml": "", "shards": pool.shards()}
    start = time.perf_counter()
    pack(pool, PICKED, about, PackSpec(), seed, {"web": fact("text")}, {},
         lambda passes: Engine(passes, executor, Silent(), Rules()).run())  # fmt: skip
    seconds = time.perf_counter() - start
    shutil.rmtree(Path(pool.storage.url) / "packs")
    return seconds


def time_cat(pool: Pool, out: Path) -> float:
    tars = sorted(str(p) for p in (Path(pool.storage.url) / PIXELS).glob("*.tar"))
    start = time.perf_counter()
    with out.open("wb") as f:
        subprocess.run(["cat", *tars], stdout=f, check=True)
        os.fsync(f.fileno())
    seconds = time.perf_counter() - start
    out.unlink()
    return seconds


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--quick", action="store_true", help="450 MB and 3 passes instead of 1 GB and 5")
    arguments.add_argument("--low", type=int, default=9_000, help="bytes of the smallest image")
    arguments.add_argument("--high", type=int, default=20_000, help="bytes of the largest image")
    arguments.add_argument("--workers", type=int, default=2, help="on Ray, whose start is apart; 0: in this process")
    given = arguments.parse_args()
    executor: Executor = RayExecutor(given.workers) if given.workers else InlineExecutor()
    with tempfile.TemporaryDirectory(prefix="pack-speed-") as folder:
        pool = make_pool(Path(folder) / "pool", 450 if given.quick else 1000, given.low, given.high)
        size = sum(p.stat().st_size for p in (Path(folder) / "pool" / PIXELS).glob("*.tar")) / 1e6
        os.sync()
        time_cat(pool, Path(folder) / "cat"), time_pack(pool, 0, executor)  # warm
        packs, cats = [], []
        for turn in range(3 if given.quick else 5):
            settle()
            cats.append(time_cat(pool, Path(folder) / "cat"))
            settle()
            packs.append(time_pack(pool, turn + 1, executor))
        executor.close()
    pack_speed, cat_speed = (size / statistics.median(t) for t in (packs, cats))
    ratio = pack_speed / cat_speed
    print(f"{size:.0f} MB of pool tars, {given.workers or 'no'} workers: pack {pack_speed:.0f} MB/s, "
          f"cat {cat_speed:.0f} MB/s, ratio {ratio:.2f} "
          f"(bar {TARGET:.2f}: {'met' if ratio >= TARGET else 'MISSED'}); load {os.getloadavg()[0]:.1f}")  # fmt: skip
    sys.exit(0 if ratio >= TARGET else 1)


if __name__ == "__main__":
    main()
