"""Peak memory of one worker, its decoders included, at 512 connections and 10,000 hosts."""

from __future__ import annotations

import json
import sys

from common import Bar, at_most, fresh
from download_common import BENCH, free_port, mosaics, ours, serving
from web_like import address

HOSTS = 10_000
SPEC = {"allow_loopback": True, "concurrency": 512, "resize": "short", "side": 256}


def measure(quick: bool) -> dict[str, Bar]:
    hosts = 1000 if quick else HOSTS
    port, folder = free_port(), fresh("memory-web")
    plan = {"port": port, "folder": str(mosaics()), "kinds": ["good"], "latency_s": [0.05, 0.5]}
    (folder / "plan.json").write_text(json.dumps(plan))
    urls = [f"http://{address(h)}:{port}/{h % 300}.jpg?{h}" for h in range(hosts)]
    with serving([sys.executable, str(BENCH / "web_like.py"), str(folder / "plan.json")], port, folder):
        took = ours("memory", urls, SPEC, memory=True)
    print(f"{took.ok} of {took.urls} URLs of {hosts} hosts in {took.wall:.0f} s: peak {took.peak_mb:.0f} MB (PSS)")
    if took.ok != took.urls:
        raise RuntimeError(f"not all came: {took.outcomes}")
    return {"worker_peak_mb": at_most(took.peak_mb, 1000, 0)}
