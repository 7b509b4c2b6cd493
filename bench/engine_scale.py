"""Large pools: moving one threshold on a million samples; planning 100,000 shards on an S3 server.

The pools have facts and columns but no pixels at all: whoever opens an image here fails. The column that
the changed filter does not read is overwritten with rubbish: whoever opens it fails too.
"""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from common import ROOT, WORK, Bar, bar, environment, fresh

sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from curate.pool.layout import CLAIMS, PIXELS, marker, part_file  # noqa: E402
from curate.pool.pool import Pool  # noqa: E402
from curate.run.fetch.spec import IngestSpec  # noqa: E402
from curate.run.prints import Prints  # noqa: E402
from stages.base import Stage, shard_name  # noqa: E402
from stages.image_facts import ImageFacts  # noqa: E402
from stages.language import Language  # noqa: E402
from stages.text_facts import TextFacts  # noqa: E402

RECIPE = """recipe: scale
pool: {pool}
filters:
  - image_size: {{min_side: 100}}
  - caption_length: {{min_words: 3}}
  - id: sharp
    where: "sharpness > {threshold}"
"""
RUN = """
import sys, time, resource
began = time.monotonic()
from curate.recipe import load_recipe
from curate.run.job import Job
from curate.run.progress import Progress
job = Job(load_recipe(sys.argv[1]), "inline")
with Progress(None, "threshold") as progress:
    outcome = job.run(progress)
print(outcome.kept, time.monotonic() - began, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
"""


def column(stage: Stage, rows: int, seed: int) -> pa.Table:
    """Made-up values with the schema that the stage's files have."""
    rng = np.random.default_rng(seed)
    columns: dict[str, Any] = {}
    for field in stage.writes():
        if pa.types.is_string(field.type):
            columns[field.name] = pa.array(["en"] * rows)
        elif pa.types.is_boolean(field.type):
            columns[field.name] = pa.array(rng.random(rows) < 0.01)
        elif pa.types.is_integer(field.type):
            columns[field.name] = pa.array(rng.integers(0, 30, rows), field.type)
        else:
            columns[field.name] = pa.array(rng.random(rows, np.float32) * 1000, field.type)
    columns.pop("error", None)
    return pa.table(columns).append_column("error", pa.nulls(rows, pa.string()))


def million(shards: int, rows: int) -> Path:
    """A pool of shards x rows with three columns where the planner looks for them."""
    import pools

    folder = fresh("million")
    pool = Pool.create(str(folder), IngestSpec().pixels(), 10_000)
    claim = {"list": "made", "hash": "0" * 12, "first": 0, "shards": shards, "rows": shards * rows}
    pool.storage.commit(f"{CLAIMS}/{shard_name(0)}.json", json.dumps(claim).encode())
    for shard in range(shards):
        pools.write_facts(pool, shard, pools.facts_table(shard, rows))
    for stage in (ImageFacts(), TextFacts(), Language()):
        folder_name = Prints().stage_folder(stage)
        pools.add_files(pool, folder_name, lambda s, u, st=stage: column(st, len(u), s), None, lambda t: {})
        pool.index(folder_name).save(list(range(shards)))
    pool.index(PIXELS).save(list(range(shards)))
    return folder


def run_threshold(pool: Path, threshold: float) -> tuple[int, float, float]:
    """(kept, seconds inside the process, MB) of a run with this threshold."""
    recipe = WORK / f"threshold-{threshold}.yaml"
    recipe.write_text(RECIPE.format(pool=pool, threshold=threshold))
    began = time.monotonic()
    command = [sys.executable, "-c", RUN, str(recipe)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment(), check=False)
    if done.returncode:
        raise RuntimeError(done.stderr[-3000:])
    kept, _, memory = done.stdout.split()[-3:]
    return int(kept), time.monotonic() - began, float(memory)


def threshold(quick: bool) -> dict[str, Bar]:
    shards = 20 if quick else 100
    pool = million(shards, 10_000)
    run_threshold(pool, 100)
    for shard in range(shards):  # from here on, nobody may look into these
        for stage in (TextFacts(), Language()):
            (pool / part_file(Prints().stage_folder(stage), shard_name(shard))).write_bytes(b"rubbish")
    kept, seconds, memory = run_threshold(pool, 200)
    expected = sum(_expected(s, 10_000, 200) for s in range(shards))
    print(f"threshold: {shards * 10_000:,} samples, kept {kept:,} of expected {expected:,}")
    print(f"threshold: {seconds:.1f} s, {memory:.0f} MB")
    right = kept == expected
    return {
        "threshold_on_a_million_seconds": bar(round(seconds, 2), 10, right and seconds < 10 if not quick else None),
        "threshold_opens_no_image_nor_other_column": bar(right, True, right),
    }


def _expected(shard: int, rows: int, least: float) -> int:
    import pools

    facts = pools.facts_table(shard, rows)
    sides = np.minimum(facts["original_width"].to_numpy(), facts["original_height"].to_numpy())
    words = column(TextFacts(), rows, shard)["n_words"].to_numpy()
    sharp = column(ImageFacts(), rows, shard)["sharpness"].to_numpy()
    return int(((sides >= 100) & (words >= 3) & (sharp > np.float32(least))).sum())


def plan_on_s3(quick: bool) -> dict[str, Bar]:
    """`curate plan` over many shards on an S3 server; the objects are there, and so are the indexes."""
    from moto.s3.models import s3_backends
    from moto.server import ThreadedMotoServer

    from curate.pool.columns import write_parquet
    from curate.pool.index import SCHEMA

    shards = 5_000 if quick else 100_000
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    s3 = {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}", "AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "x",
        "AWS_DEFAULT_REGION": "us-east-1",
    }  # fmt: skip
    os.environ.update(s3)
    import fsspec

    fsspec.filesystem("s3").mkdir("scale")
    backend = s3_backends["123456789012"]["aws"]
    pool = Pool.create("s3://scale/pool", IngestSpec().pixels(), 10_000)
    claim = {"list": "made", "hash": "0" * 12, "first": 0, "shards": shards, "rows": shards * 10_000}
    pool.storage.commit(f"{CLAIMS}/{shard_name(0)}.json", json.dumps(claim).encode())
    folders = [PIXELS, *(Prints().stage_folder(s) for s in (ImageFacts(), TextFacts(), Language()))]
    numbers = pa.array(range(shards), pa.int64())
    index = pa.table(
        [numbers, pa.array([10_000] * shards), pa.array([f"{s:032x}" for s in range(shards)]),
         pa.array([1] * shards), pa.array(["{}"] * shards), pa.array(["{}"] * shards)], schema=SCHEMA,
    )  # fmt: skip
    for folder in folders:
        for shard in range(shards):
            rel = marker(shard) if folder == PIXELS else part_file(folder, shard_name(shard))
            backend.put_object("scale", f"pool/{rel}", b"x")
        pool.storage.commit(f"{folder}/_index/{shards:08d}.00000000.parquet", write_parquet(index, {"rows": shards}))
    recipe = WORK / "plan-s3.yaml"
    recipe.write_text(RECIPE.format(pool="s3://scale/pool", threshold=100))
    began = time.monotonic()
    command = [sys.executable, "-m", "curate.cli", "plan", str(recipe), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment(s3), check=False)
    seconds = time.monotonic() - began
    server.stop()
    if done.returncode:
        raise RuntimeError(done.stderr[-3000:])
    plan = json.loads(done.stdout)
    todo = {s["name"]: s["missing"] for s in plan["steps"]}
    right = plan["shards"] == shards and todo["describe"] == 0 and todo["pick"] == shards
    print(f"plan on S3: {shards:,} shards, {seconds:.1f} s: {todo}")
    return {
        "plan_100000_shards_on_s3_seconds": bar(round(seconds, 2), 30, right and seconds < 30 if not quick else None)
    }


def measure(quick: bool) -> dict[str, Bar]:
    return threshold(quick) | plan_on_s3(quick)


if __name__ == "__main__":
    print(measure("--quick" in sys.argv))
