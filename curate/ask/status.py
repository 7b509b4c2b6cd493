"""`curate status`: what is in a pool, and what its last run is doing or died of."""

from __future__ import annotations

import json
import socket
import time
from pathlib import Path
from typing import Any

from curate.ask.output import visible
from curate.pool.layout import RUNS
from curate.pool.pool import Pool
from curate.run.progress import duration

LEFT_OUT = {"known": "were in the pool already", "duplicate_uid": "recur in the list"}
STALE_S = 90.0  # a living run rewrites its status every few seconds


def pool_status(url: str) -> dict[str, Any]:
    """Lists, shards, and the newest run's status with its failures."""
    pool = Pool.open(url)
    claims = pool.claims()
    claimed = [n for c in claims for n in range(c["first"], c["first"] + c["shards"])]
    shape, _ = pool.shape(pool.shards(claimed))
    keys = ("list", "hash", "shards", "rows", "known", "duplicate_uid", "refused", "damaged")
    lists = [{k: c.get(k) for k in keys} for c in claims]
    files = [f"{RUNS}/{run}/status.json" for run in sorted(pool.storage.folders(RUNS))]
    written = [f for f in files[-2:] if pool.storage.exists(f)]  # the newest run may have written none yet
    last = json.loads(pool.storage.read(written[-1])) if written else None
    if last is not None and last["state"] == "running" and not living(last):
        last["state"] = "dead: it stopped without saying why (killed, or the machine went down)"
    return {
        "pool": url,
        "lists": lists,
        "claimed": len(claimed),
        "shards": len(shape.shards),
        "samples": shape.total,
        "removed": len(pool.removed),
        "run": last,
    }


def living(status: dict[str, Any]) -> bool:
    """Is the run's process still there? On another machine: was its status rewritten of late?"""
    if status["host"] == socket.gethostname() and Path("/proc").exists():
        return Path(f"/proc/{status['pid']}").exists()
    return time.time() - status["updated"] < STALE_S


def print_status(url: str, *, as_json: bool, watch: bool = False) -> None:
    """Print the status for a person, or as JSON."""
    status = pool_status(url)
    if as_json:
        print(json.dumps(status, indent=1))
        return
    print(
        f"pool {url}: {status['shards']:,} of {status['claimed']:,} shards, {status['samples']:,} samples with images"
    )
    for found in status["lists"]:
        for line in list_lines(found):
            print(line)
    if status["removed"]:
        print(f"  {status['removed']:,} uids are taken out")
    if status["run"] is None:
        print("no run yet")
    else:
        for line in run_lines(status["run"]):
            print(line)


def list_lines(found: dict[str, Any]) -> list[str]:
    """What was taken of a list, and by name some of what was not."""
    lines = [f"  list {found['list']}@{found['hash']}: {found['rows']:,} samples in {found['shards']:,} shards"]
    lines += [f"    {found[k]:,} {words}" for k, words in LEFT_OUT.items() if found[k]]
    refused = found["refused"] or {"count": 0, "examples": []}
    if refused["count"]:
        lines.append(f"    {refused['count']:,} refused" + (", for example" if refused["examples"] else ""))
        lines += [
            f"      {visible(x['file'])}: {visible(x['name'])}: {visible(x['reason'])}" for x in refused["examples"]
        ]
    lines += [f"    damaged: {visible(x['file'])}: {visible(x['reason'])}" for x in found["damaged"] or ()]
    return lines


def run_lines(run: dict[str, Any]) -> list[str]:
    """The newest run: state, passes, what takes long, what failed."""
    age = time.time() - run["updated"]
    lines = [f"run {run['run']} ({run['title']}) on {run['host']}: {run['state']}, {duration(age)} ago"]
    for name, p in run["passes"].items():
        rate = f", {p['rows'] / p['worker_seconds']:,.0f} rows a worker-second" if p["rows"] else ""
        going = run["state"] == "running" and p["left_s"] and p["done"] < p["total"]
        left = f", {duration(p['left_s'])} left" if going else ""
        lines.append(f"  {name}: {p['done']:,} of {p['total']:,}, {p['failed']} failed{rate}{left}")
        if p["outcomes"]:
            lines.append("    " + ", ".join(f"{k} {v:,}" for k, v in p["outcomes"].items()))
    if run["state"] == "running":
        lines += [f"  longest: {f['pass']} {f['item']} for {duration(f['seconds'])}" for f in run["longest"]]
    for item, text in run["errors"].items():
        lines.append(f"  failed: {item}: {text.strip().splitlines()[-1]}")
    return lines
