"""`curate status`: what is in a pool, and what its runs are doing or died of.

Read from the status files that runs rewrite every few seconds; no run is asked anything, and none need live.
"""

from __future__ import annotations

import json
import shutil
import socket
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from curate.errors import UserError
from curate.pool.facts import TRANSIENT
from curate.pool.layout import RUNS, part_file
from curate.pool.lists import RETRY
from curate.pool.pool import Pool
from curate.run.processes import alive
from curate.run.states import duration
from curate.text import one_line, visible

LEFT_OUT = {"known": "were in the pool already", "duplicate_uid": "recur in the list"}
STALE_S = 90.0  # a living run rewrites its status every few seconds
LOGS = 256  # shards, the last ones, whose downloads are looked at: to be quick also in a large pool
RECENT = 20  # runs that are looked at for what failed and is still missing
SHOWN = 20  # failures that are printed
WATCH_S = 2.0
BAR = 20  # characters
DEAD = "dead: it stopped without saying why (killed, or the machine went down)"


def pool_status(url: str, *, fetched: bool = True) -> dict[str, Any]:
    """Lists, shards, the newest run, all living ones, and what failed in the last runs and is still missing.

    Args:
        fetched: also what came of the URLs, which takes a second where there are many.
    """
    pool = Pool.open(url)
    claims = pool.claims()
    claimed = [n for c in claims for n in range(c["first"], c["first"] + c["shards"])]
    shape, _ = pool.shape(pool.shards(claimed))
    keys = ("list", "hash", "kind", "source", "shards", "rows", "known", "duplicate_uid", "refused", "damaged")
    lists = [{k: c.get(k) for k in keys} for c in claims]
    runs = recent_runs(pool)
    return {
        "pool": url,
        "lists": lists,
        "claimed": len(claimed),
        "shards": len(shape.shards),
        "samples": shape.total,
        "removed": len(pool.removed),
        "run": runs[0] if runs else None,
        "living": [r for r in runs[1:] if r["state"] == "running"],
        "failed": list(still_failed(pool, runs)),
        "downloads": downloads_of(pool) if fetched else None,
    }


def downloads_of(pool: Pool) -> dict[str, Any] | None:
    """What became of the URLs of the last shards, and what failures come from; None where nothing was fetched.

    shards: that were looked at; all: are these all that there are? outcomes: {outcome: URLs}. diagnosis: sentences.
    """
    logs = pool.fetch_logs()
    if not logs:
        return None
    from curate.ask.report.downloads import downloads
    from curate.ask.sql import Session
    from curate.ask.views import Views

    found = downloads(Session(Views(pool, newest=LOGS)))
    if found is None:
        return None
    return {
        "shards": min(len(logs), LOGS),
        "all": len(logs) <= LOGS,
        "outcomes": dict(found.outcomes),
        "diagnosis": list(found.diagnosis),
    }


def recent_runs(pool: Pool) -> list[dict[str, Any]]:
    """Status of the last runs, the newest first; who says "running" and is not there is called dead."""
    found = []
    for run in sorted(pool.storage.folders(RUNS), reverse=True)[:RECENT]:
        rel = f"{RUNS}/{run}/status.json"
        if not pool.storage.exists(rel):  # it may have written none yet
            continue
        status = json.loads(pool.storage.read(rel))
        if status["state"] == "running" and not living(status):
            status["state"] = DEAD
        found.append(status)
    return found


def living(status: dict[str, Any]) -> bool:
    """Is the run's process still there? On another machine: was its status rewritten of late?"""
    if status["host"] == socket.gethostname() and Path("/proc").exists():
        return alive(status["pid"], status.get("pid_started"))
    return bool(time.time() - status["updated"] < STALE_S)


def still_failed(pool: Pool, runs: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """What runs gave up, or were at when they died of it, whose file has not come since; the newest error of each."""
    seen: set[tuple[str, str]] = set()
    for run in runs:
        for key, text in run["errors"].items():
            name, _, item = key.rpartition(" ")
            folder = run["passes"].get(name, {}).get("folder", "")
            if (name, item) in seen or not folder:
                continue
            seen.add((name, item))
            if not pool.storage.exists(part_file(folder, item)):
                yield {"pass": name, "item": item, "folder": folder, "run": run["run"], "error": text}


def print_status(url: str, *, as_json: bool, watch: bool = False) -> None:
    """Print the status for a person, or as JSON; with `watch`, again and again until no run is living.

    Raises:
        UserError: `watch` together with JSON.
    """
    if watch and as_json:
        raise UserError("--watch is for a person's eyes; without it, --json prints the status once")
    if as_json:
        print(json.dumps(pool_status(url), indent=1))
        return
    try:
        while True:
            status = pool_status(url, fetched=not watch)
            lines = status_lines(status)
            if watch and sys.stdout.isatty():
                print("\x1b[H\x1b[2J", end="")  # a fresh screen: what was printed before may have been longer
            print("\n".join(lines), flush=True)
            if not watch or not going(status):
                return
            time.sleep(WATCH_S)
    except KeyboardInterrupt:
        if not watch:
            raise
        print()


def going(status: dict[str, Any]) -> bool:
    """Is some run of the pool alive?"""
    return bool(status["living"]) or (status["run"] is not None and status["run"]["state"] == "running")


def status_lines(status: dict[str, Any]) -> list[str]:
    """The status in words."""
    of = f"{status['shards']:,} of {status['claimed']:,} shards, {status['samples']:,} samples with images"
    lines = [f"pool {status['pool']}: {of}"]
    for found in status["lists"]:
        lines += list_lines(found)
    lines += download_lines(status["downloads"])
    if status["removed"]:
        lines.append(f"  {status['removed']:,} uids are taken out")
    if status["run"] is None:
        return [*lines, "no run yet"]
    for run in [status["run"], *status["living"]]:
        lines += run_lines(run)
    failed = status["failed"]
    if failed:
        lines.append(f"failed and still missing: {len(failed):,}")
    lines += [f"  failed: {visible(f['pass'])} {visible(f['item'])}: {one_line(f['error'])}" for f in failed[:SHOWN]]
    if len(failed) > SHOWN:
        lines.append(f"  and {len(failed) - SHOWN:,} more; --json has all")
    if not going(status) and (status["run"]["state"] != "finished" or failed):
        lines.append(f"to go on, the same command again: {visible(status['run']['title'])}")
    return lines


def download_lines(found: dict[str, Any] | None) -> list[str]:
    """What came of the URLs, what failures come from, and how to try again what may have passed."""
    if found is None or set(found["outcomes"]) <= {"ok"}:
        return []
    where = "" if found["all"] else f" (of the last {found['shards']:,} shards)"
    lines = [f"  downloads{where}: " + ", ".join(f"{k} {v:,}" for k, v in found["outcomes"].items())]
    width = max(60, shutil.get_terminal_size().columns - 4)
    for sentence in found["diagnosis"]:
        lines += textwrap.wrap(visible(sentence), width, initial_indent="    ", subsequent_indent="      ")
    again = sum(n for outcome, n in found["outcomes"].items() if outcome in TRANSIENT)
    if again:
        lines.append(f"    {again:,} may be had later: the recipe's `curate run`, with --retry transient")
    return lines


def list_lines(found: dict[str, Any]) -> list[str]:
    """What was taken of a list, and by name some of what was not."""
    if found["kind"] == RETRY:
        of, attempt = visible(found["source"]["of"]), found["source"]["attempt"] + 1
        shards = f"{found['shards']:,} shard{'s' * (found['shards'] != 1)}"
        return [f"  retry of list {of}: attempt {attempt} at {found['rows']:,} URLs, in {shards}"]
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
    """One run: state, passes with rates, what takes long."""
    age = duration(time.time() - run["updated"])
    workers = f", {run['workers']} at once" if run.get("workers") else ""
    executor = f" ({run['executor']}{workers})" if run.get("executor") else ""
    lines = [
        f"run {run['run']} ({visible(run['title'])}) on {run['host']}{executor}: {visible(run['state'])}, {age} ago"
    ]
    if run.get("error"):
        lines.append(f"  {visible(run['error'])}")
    width = min(max((len(n) for n in run["passes"]), default=0), shutil.get_terminal_size().columns // 3)
    for name, p in run["passes"].items():
        lines.append(f"  {visible(name)[:width]:<{width}} {pass_words(p, running=run['state'] == 'running')}")
        if p["outcomes"]:
            lines.append(f"  {'':<{width}}   " + ", ".join(f"{k} {v:,}" for k, v in p["outcomes"].items()))
    if run["state"] == "running":
        lines += [f"  longest: {visible(f['pass'])} {visible(f['item'])} for {beside(f)}" for f in run["longest"]]
    if run.get("log"):
        lines.append(f"  log: {run['log']}")
    return lines


def pass_words(p: dict[str, Any], *, running: bool) -> str:
    """``━━━━━━━━──── 12 of 100, 1 failed, 1,200 rows/s (300 a worker-second), 3m 20s left``."""
    full = BAR * p["done"] // p["total"] if p["total"] else BAR
    words = [f"{'━' * full}{'─' * (BAR - full)} {p['done']:,} of {p['total']:,}"]
    if p["failed"]:
        words.append(f"{p['failed']:,} failed")
    if p["rows"]:
        wall = p.get("wall_s") or 0.0
        rate = f"{p['rows'] / wall:,.0f} rows/s, " if wall else ""
        words.append(f"{rate}{p['rows'] / max(p['worker_seconds'], 1e-9):,.0f} rows a worker-second")
    if running and p["left_s"] and p["done"] < p["total"]:
        words.append(f"{duration(p['left_s'])} left")
    return ", ".join(words)


def beside(flight: dict[str, Any]) -> str:
    """How long an item has been under way, beside what its pass needs in the middle."""
    took = duration(flight["seconds"])
    median = flight.get("median_s")
    return took if not median else f"{took}, {flight['seconds'] / median:,.1f} times the median of {median:,.1f} s"
