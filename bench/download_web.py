"""As the web is: 1,000 hosts, 50 to 500 ms away, 15 % dead, 5 % slow, 5 % answering 429; images a second by the clock.

Small photos, so that what counts is waiting. Start-up is measured as a run over the hosts that answer well, of few
URLs, and subtracted. img2dataset has as many processes as cores and 64 threads in each, as its manual's examples for
large sets do; with 256, which no example has, it waits less, and that rate is told besides.
"""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Callable
from contextlib import contextmanager

from common import NOT_MEASURED, Bar, at_least, bar, fresh
from download_common import BENCH, Took, free_port, img2dataset_python, ours, serving, small_photos, theirs
from download_speed import SAME
from web_like import address

HOSTS = 1000
SHARES = {"refusing": 50, "missing": 50, "silent": 50, "slow": 50, "busy": 50}
"""Hosts of each kind that is not good; the first three are the dead ones."""
SPEC = {"allow_loopback": True, "resize": "short", "side": 256}
THREADS = (64, 256)


def kinds() -> list[str]:
    """The kind of each host, in an order that has no order."""
    bad = [kind for kind, count in SHARES.items() for _ in range(count)]
    found = bad + ["good"] * (HOSTS - len(bad))
    random.Random(4).shuffle(found)
    return found


@contextmanager
def web(hosts: list[str], latency_s: tuple[float, float] = (0.05, 0.5)):  # type: ignore[no-untyped-def]
    """Serve; yields a function from (host, number) to a URL. Hosts that refuse have a port at which nobody listens."""
    port, folder = free_port(), fresh("web")
    plan = {"port": port, "folder": str(small_photos()), "kinds": hosts, "latency_s": latency_s}
    (folder / "plan.json").write_text(json.dumps(plan))

    def url(host: int, number: int) -> str:
        at = free if hosts[host] == "refusing" else port
        return f"http://{address(host)}:{at}/{number % 300}.jpg?{host}.{number}"

    free = free_port()
    with serving([sys.executable, str(BENCH / "web_like.py"), str(folder / "plan.json")], port, folder):
        yield url


def measure(quick: bool) -> dict[str, Bar]:
    each = 2 if quick else 10
    hosts = kinds()
    numbers = [(h, n) for h in range(HOSTS) for n in range(each)]
    random.Random(5).shuffle(numbers)
    good = [h for h, kind in enumerate(hosts) if kind == "good"]
    with web(hosts) as url:
        urls = [url(h, n) for h, n in numbers]
        few = [url(h, 1000) for h in good[:100]]
        mine = _rate("ours", lambda name, some: ours(name, some, SPEC), few, urls)
        if img2dataset_python() is None:
            return {"web_like_times_img2dataset_wall": NOT_MEASURED}
        rates = []
        for threads in THREADS[:1] if quick else THREADS:
            settings = SAME | {"processes_count": 2, "thread_count": threads}

            def run(name: str, some: list[str], settings: dict[str, object] = settings) -> Took:
                return theirs(name, some, settings, max(50, len(some) // 2))

            rates.append(_rate(f"img2dataset, {threads} threads", run, few, urls))
    bars = {"web_like_times_img2dataset_wall": at_least(mine / rates[0], 3.0, 2)}
    if len(rates) > 1:
        bars["web_like_times_img2dataset_256_threads"] = bar(round(mine / rates[1], 2), "told only", None)
    return bars


def _rate(name: str, run: Callable[[str, list[str]], Took], few: list[str], urls: list[str]) -> float:
    short, long = run("web-short", few), run("web-long", urls)
    rate = long.ok / (long.wall - short.wall)
    what = f"{long.ok} images of {len(urls)} URLs in {long.wall:.1f} s; {short.wall:.1f} s with {len(few)} good ones"
    print(f"{name}: {rate:.0f} images/s ({what}) {long.outcomes or ''}", flush=True)
    return rate
