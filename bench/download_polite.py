"""Manners over eight workers on a Ray cluster of two nodes, by the server's own log.

No host has more requests at once than `per_host`, none more in any second than `host_rate`, each is asked for
robots.txt once, and no path that robots.txt refuses is ever asked for.
"""

from __future__ import annotations

import json
import sys
import threading
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Sequence
from contextlib import contextmanager
from pathlib import Path

from cluster import Cluster, title
from common import Bar, at_most, bar, curate, fresh
from download_common import BENCH, free_port, serving, small_photos, write_list
from web_like import address

KINDS = ("good", "good", "ruled", "storm")
ROBOTS = {"ruled": "User-agent: *\nDisallow: /private/\nAllow: /private/open/\n"}
HOSTS, WORKERS = 40, 8
PER_HOST, RATE = 3, 10.0
RECIPE = """\
recipe: polite
shard_size: {shard}
source: {{path: {list}, name: web, url: url, text: null}}
ingest: {{allow_loopback: true, resize: short, side: 96, per_host: {per_host}, host_rate: {rate}}}
"""

Entry = tuple[str, str, float, float, int]
"""A line of the server's log: host, path, began, ended (seconds since 1970), status."""


def measure(quick: bool) -> dict[str, Bar]:
    each = 20 if quick else 100
    folder, port = fresh("polite"), free_port()
    log = folder / "requests.jsonl"
    plan = {"port": port, "folder": str(small_photos()), "kinds": KINDS, "latency_s": [0.05, 0.3]}
    (folder / "plan.json").write_text(json.dumps(plan | {"robots": ROBOTS, "log": str(log)}))
    write_list(folder / "list.parquet", _urls(port, each))
    shard = HOSTS * each // (2 * WORKERS)  # hosts lie in all shards: their limits have to hold over workers
    recipe = folder / "recipe.yaml"
    given = {"shard": shard, "list": folder / "list.parquet", "per_host": PER_HOST, "rate": RATE}
    recipe.write_text(RECIPE.format(**given))
    with serving([sys.executable, str(BENCH / "web_like.py"), str(folder / "plan.json")], port, folder):
        with Cluster(folder, cpus=WORKERS // 2) as cluster:
            cluster.add(cpus=WORKERS // 2)
            where = ["--pool", str(folder / "pool"), "--executor", "ray", "--workers", str(WORKERS)]
            with _workers_at_once(cluster) as seen:
                done = curate("run", str(recipe), *where, "--no-pack", "--no-report", env=cluster.env)
    print(done.stdout[-1500:], flush=True)
    most = max(seen, default=0)
    bars = {"workers_at_once": bar(most, WORKERS, most == WORKERS)}
    return bars | judged([tuple(json.loads(line)) for line in log.read_text().splitlines()], folder / "pool")


@contextmanager
def _workers_at_once(cluster: Cluster):  # type: ignore[no-untyped-def]
    """Count the workers that are at work, twice a second, into the list that it yields; gates are none."""
    seen: list[int] = []
    over = threading.Event()

    def watch() -> None:
        while not over.wait(0.5):
            titles = [title(p) for node in cluster.nodes for p in node.workers()]
            seen.append(sum(t.startswith("ray::worker_entry") for t in titles))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield seen
    finally:
        over.set()
        watcher.join()


def _urls(port: int, each: int) -> list[str]:
    """Every fourth path lies where "ruled" hosts let nobody in, some of them where they do again."""
    places = ("", "", "", "private/")
    return [
        f"http://{address(h)}:{port}/{'private/open/' if n % 8 == 7 else places[n % 4]}{n % 300}.jpg?{h}.{n}"
        for n in range(each)
        for h in range(HOSTS)
    ]


def judged(log: Sequence[Entry], pool: Path) -> dict[str, Bar]:
    """The bars, from what the server saw."""
    by_host: defaultdict[str, list[Entry]] = defaultdict(list)
    for entry in log:
        by_host[entry[0]].append(entry)
    most = max(at_once(entries) for entries in by_host.values())
    fastest = max(in_a_second(entries) for entries in by_host.values())
    robots = max(sum(e[1] == "/robots.txt" for e in entries) for entries in by_host.values())
    kind = {address(h): KINDS[h % len(KINDS)] for h in range(HOSTS)}
    refused = [e for e in log if kind[e[0]] == "ruled" and "/private/" in e[1] and "/open/" not in e[1]]
    early = sum(asked_too_early(entries) for entries in by_host.values())
    print(f"{len(log)} requests of {len(by_host)} hosts; {len({e[1] for e in log})} paths", flush=True)
    return {
        "most_at_once_of_a_host": at_most(most, PER_HOST, 0),
        "most_in_a_second_of_a_host": at_most(fastest, RATE, 0),
        "robots_txt_of_a_host": bar(robots, 1, robots == 1),
        "paths_asked_after_refusal": bar(len(refused), 0, not refused),
        "asked_before_retry_after": bar(early, 0, early == 0),
    }


def at_once(entries: Sequence[Entry]) -> int:
    """Most requests that were open at a time; one that ends when another begins makes room for it."""
    steps = sorted([(e[2], 1) for e in entries] + [(e[3], -1) for e in entries])
    most = now = 0
    for _, step in steps:
        now += step
        most = max(most, now)
    return most


def in_a_second(entries: Sequence[Entry]) -> int:
    """Most requests that began within any second."""
    began = sorted(e[2] for e in entries)
    return max(bisect_left(began, t + 1.0) - i for i, t in enumerate(began))


def asked_too_early(entries: Sequence[Entry], retry_after_s: float = 3.0) -> int:
    """Requests that began when a 429 had long been answered, and before its Retry-After was over.

    What other workers were granted before word of the 429 came to the gate still goes out; on a busy machine that was
    up to 1.3 s later.
    """
    closed = [e[3] for e in entries if e[4] == 429]
    return sum(any(end + 1.5 < e[2] < end + retry_after_s - 0.2 for end in closed) for e in entries)
