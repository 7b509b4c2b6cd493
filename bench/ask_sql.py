"""SQL's bars: those of the engine's benchmark again, and a million downloads grouped by host and outcome."""

from __future__ import annotations

import json
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
from common import ROOT, WORK, Bar, bar, environment
from engine_speed import sql
from sql_speed import peak_mb

from curate.pool.columns import write_parquet
from curate.pool.facts import FETCHES
from curate.pool.layout import fetch_log

SHARDS, ROWS, HOSTS = 100, 10_000, 5_000
OUTCOMES = ("ok", "http_4xx", "timeout", "dns", "http_429", "not_image")
QUERY = "SELECT host, outcome, count(*) AS n FROM fetches GROUP BY host, outcome"


def shares() -> tuple[np.ndarray, np.ndarray]:
    """(of hosts, of outcomes): as on the web, few hosts have most URLs."""
    host = 1.0 / np.arange(1, HOSTS + 1)
    return host / host.sum(), np.array([0.7, 0.15, 0.06, 0.04, 0.03, 0.02])


def draws(shard: int) -> tuple[np.ndarray, np.ndarray]:
    """(host, outcome) numbers of the shard's rows."""
    rng, (host, outcome) = np.random.default_rng(shard), shares()
    return rng.choice(HOSTS, ROWS, p=host), rng.choice(len(OUTCOMES), ROWS, p=outcome)


def build(path: Path) -> None:
    """A pool with a million rows in its fetch logs, and nothing else of note."""
    from tests import pools

    pool = pools.synthetic(path, [8] * SHARDS)
    for shard in range(SHARDS):
        hosts, outcomes = draws(shard)
        urls = [f"https://Host{h}.example.org/path/{shard}/{i}.jpg?x=1" for i, h in enumerate(hosts.tolist())]
        said = pa.array(OUTCOMES).take(pa.array(outcomes))
        rows = pa.table({"uid": pools.uids(shard, ROWS), "url": urls, "outcome": said})
        whole = [
            rows.column(f.name).cast(f.type) if f.name in rows.column_names else pa.nulls(ROWS, f.type) for f in FETCHES
        ]
        pools.write(pool, fetch_log(shard, 0), write_parquet(pa.table(whole, schema=FETCHES), {"rows": ROWS}))


def expected() -> dict[tuple[str, str], int]:
    """The answer, from the same draws."""
    counts = np.zeros((HOSTS, len(OUTCOMES)), np.int64)
    for shard in range(SHARDS):
        np.add.at(counts, draws(shard), 1)
    return {(f"host{h}.example.org", OUTCOMES[o]): int(counts[h, o]) for h, o in zip(*counts.nonzero(), strict=True)}


def asked(path: Path) -> dict[str, object]:
    """Median of five askings, each by a session that has been opened; whether the answer is right."""
    import curate

    handle = curate.open(str(path))
    handle.sql("SELECT count(*) FROM fetches").fetchall()
    times = []
    for _ in range(5):
        began = time.perf_counter()
        answer = handle.sql(QUERY).fetchall()
        times.append(time.perf_counter() - began)
    right = {(h, o): n for h, o, n in answer} == expected()
    return {"seconds": statistics.median(times), "right": right, "peak_mb": peak_mb()}


def by_host() -> dict[str, Bar]:
    path = WORK / f"fetches-{SHARDS * ROWS}"
    if not (path / "built").exists():
        shutil.rmtree(path, ignore_errors=True)
        build(path)
        (path / "built").touch()
    command = [sys.executable, str(Path(__file__)), "--measure", str(path)]
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment())
    found = json.loads(done.stdout)
    print(f"group by host and outcome: {SHARDS * ROWS:,} rows, {found}")
    return {
        "sql_group_million_by_host_right": bar(found["right"], True, found["right"]),
        "sql_group_million_by_host_seconds": bar(round(found["seconds"], 3), 2.0, found["seconds"] < 2.0),
    }


def measure(quick: bool) -> dict[str, Bar]:
    return sql(quick) | by_host()


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    if sys.argv[1:2] == ["--measure"]:
        print(json.dumps(asked(Path(sys.argv[2]))))
    else:
        print(measure("--quick" in sys.argv))
