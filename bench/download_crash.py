"""Kill -9 in mid-shard, again and again: the rerun ends with the bytes of an undisturbed run; nothing lives on.

A moment is a part of an undisturbed run's time, from its first request on. The server answers the same bytes always,
so pixels and facts must be the same, file by file; the log of fetches has times, and is checked for its rows.
"""

from __future__ import annotations

import json
import random
import shutil
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pyarrow.parquet as pq
from common import Bar, bar, environment, fresh, wait_until
from download_common import BENCH, free_port, serving, small_photos, write_list
from jobs import damaged, differences, family, faults, leftovers, snapshot
from web_like import address

HOSTS, EACH, SHARD = 40, 12, 160
SPEC = {"allow_loopback": True, "resize": "short", "side": 96, "host_rate": 20.0}
KILLS_A_POOL = 2


def measure(quick: bool) -> dict[str, Bar]:
    kills = 4 if quick else 50
    folder, port = fresh("download-crash"), free_port()
    plan = {"port": port, "folder": str(small_photos()), "kinds": ["good"], "latency_s": [0.02, 0.1]}
    (folder / "plan.json").write_text(json.dumps(plan))
    urls = [f"http://{address(h)}:{port}/{(h * EACH + n) % 300}.jpg?{h}.{n}" for n in range(EACH) for h in range(HOSTS)]
    write_list(folder / "list.parquet", urls)
    with serving([sys.executable, str(BENCH / "web_like.py"), str(folder / "plan.json")], port, folder):
        return _trials(folder, kills)


def _trials(folder: Path, kills: int) -> dict[str, Bar]:
    undisturbed = folder / "undisturbed"
    began = time.monotonic()
    first = _start(folder, undisturbed)
    wait_until(lambda: _under_way(undisturbed), 60, 0.005)
    to_first = time.monotonic()
    _end(first, folder)
    length = time.monotonic() - to_first
    expected = snapshot(undisturbed)
    print(f"undisturbed: {length:.1f} s from the first shard's beginning, {to_first - began:.1f} s to it", flush=True)
    bad: Counter[str] = Counter()
    hit = same = 0
    leaked: list[str] = []
    trials = 0
    while hit < kills and trials < 2 * kills:
        trial, trials = trials, trials + 1
        draw = random.Random(f"download {trial}")
        pool = folder / f"pool-{trial}"
        problems: list[str] = []
        for _ in range(KILLS_A_POOL):
            hit += _kill(folder, pool, draw.random() * 0.9 * length, leaked)
            problems += damaged(expected, snapshot(pool))
        _end(_start(folder, pool), folder)
        problems += differences(expected, snapshot(pool)) + _log_faults(pool)
        bad += faults(pool)
        same += not problems
        print(f"trial {trial}: {hit} killed in mid-shard so far:", problems[:4] or "same", flush=True)
        if not problems:
            shutil.rmtree(pool)
    return {
        "kills_in_mid_shard": bar(hit, f"at least {kills}", hit >= kills),
        "pools_identical_after_kills": bar(f"{same}/{trials}", "all", same == trials),
        "download_lost_doubled_torn": bar(bad.total(), 0, not bad.total()),
        "download_left_running_after_kill": bar(len(leaked), 0, not leaked),
    }


def _start(folder: Path, pool: Path) -> subprocess.Popen[bytes]:
    job = {"list": str(folder / "list.parquet"), "pool": str(pool), "spec": SPEC, "shard_size": SHARD}
    (folder / "job.json").write_text(json.dumps(job))
    command = [sys.executable, str(BENCH / "download_ours.py"), str(folder / "job.json")]
    with (folder / "log.txt").open("ab") as log:
        return subprocess.Popen(command, stdout=log, stderr=log, env=environment(), cwd=folder)


def _end(process: subprocess.Popen[bytes], folder: Path) -> None:
    if process.wait(300):
        raise RuntimeError(f"the rerun gave {process.returncode}: {(folder / 'log.txt').read_text()[-3000:]}")


def _under_way(pool: Path) -> bool:
    """The list is taken in: the shards' turn has come."""
    return any(pool.glob("lists/*@*/*.parquet"))


def _kill(folder: Path, pool: Path, after_s: float, leaked: list[str]) -> bool:
    """Kill one run; whether it was at work on a shard."""
    process = _start(folder, pool)
    wait_until(lambda: _under_way(pool) or process.poll() is not None, 60, 0.005)
    time.sleep(after_s)
    alive = process.poll() is None
    started = family(process.pid)
    process.kill()
    process.wait()
    leaked += leftovers(started, 10)
    return alive


def _log_faults(pool: Path) -> list[str]:
    """Of each shard's fetch logs, each lists every row once; a kill between log and marker makes a second log."""
    listed = {p.stem: pq.read_table(p).column("uid").to_pylist() for p in pool.glob("lists/*@*/*.parquet")}
    logs = sorted((pool / "fetch").glob("*.parquet"))
    wrong = [p.name for p in logs if pq.read_table(p).column("uid").to_pylist() != listed[p.name.split(".")[0]]]
    missing = listed.keys() - {p.name.split(".")[0] for p in logs}
    return [f"log {n} is not whole" for n in wrong] + [f"no log of {n}" for n in sorted(missing)]
