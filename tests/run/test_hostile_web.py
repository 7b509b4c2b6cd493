"""A shard of hostile hosts: each URL ends in its right outcome, the shard in time, and nothing is left behind."""

from __future__ import annotations

import gc
import os
import time
from collections import Counter
from pathlib import Path
from typing import Any

import psutil
import pyarrow.parquet as pq
import pytest

from curate.pool.storage import Storage
from curate.run.fetch import addresses
from curate.run.fetch.spec import IngestSpec
from curate.run.ingest import ingest_shard
from tests.hostile_web import ANSWERS, BODY, STORM, HostileWeb, one, photo
from tests.run.ingest_parts import listed
from tests.web import Web, drip, hang, hang_after, ok, redirect, status

SPEC = IngestSpec(
    allow_loopback=True,
    resize="none",
    timeout_s=4,
    connect_timeout_s=2,
    idle_timeout_s=2,
    shard_deadline_s=60,
    max_bytes=2_000_000,
)


def ingested(pool: Path, urls: list[str], spec: IngestSpec = SPEC, shard: int = 0) -> list[dict[str, Any]]:
    """The fetch log of a shard of these URLs."""
    table = listed([{"url": u} for u in urls])
    ingest_shard(Storage.at(pool), table, shard, "hostile@0123456789ab", spec, None)
    return pq.read_table(pool / f"fetch/{shard:08d}.0.parquet").to_pylist()


def held() -> Counter[str]:
    """Open files by kind (sockets are one kind), and child processes, of this process."""
    gc.collect()
    found: Counter[str] = Counter()
    for fd in os.listdir("/proc/self/fd"):
        try:
            target = os.readlink(f"/proc/self/fd/{fd}")
        except FileNotFoundError:  # the one of this listing
            continue
        found["socket" if target.startswith("socket:") else target.split(":")[0]] += 1
    found.update(f"child {p.pid}" for p in psutil.Process().children(recursive=True))
    return found


def nothing_more_than(before: Counter[str], seconds: float = 5) -> bool:
    """Whether all that came since is gone; the server's own threads, in this process, may take a moment."""
    end = time.monotonic() + seconds
    while held() - before and time.monotonic() < end:
        time.sleep(0.1)
    return not held() - before


@pytest.fixture
def warm(tmp_path: Path) -> None:
    """What is kept from shard to shard on purpose is there before anything is counted."""
    large = one("good", ok(photo(1500)), "ok")
    with HostileWeb(tmp_path, [large] * 8) as web:  # enough at once for every decoder to be started
        log = ingested(tmp_path / "warm", [c.url for c in web.cases if c.name == "good"])
    assert [e["outcome"] for e in log] == ["ok"] * 8


def test_each_url_ends_in_its_outcome_and_nothing_leaks(tmp_path: Path, warm: None) -> None:
    before = held()
    with HostileWeb(tmp_path) as web:
        began = time.monotonic()
        log = ingested(tmp_path / "pool", [c.url for c in web.cases])
        took = time.monotonic() - began
        wrong = [w for c, e in zip(web.cases, log, strict=True) if (w := c.wrong(e["outcome"], e["detail"]))]
        assert not wrong, "\n".join(wrong)
        assert took < 30, "nobody may take more than his own time, and all go at once"
        _no_injection(web)
        storm = [p for p in web.webs["429 storm"].asked if p != "/robots.txt" and ".well-known" not in p]
        assert len(storm) <= SPEC.per_host, "a host that says 429 is left alone"
        assert len(storm) < STORM
    assert nothing_more_than(before), f"more than before: {held() - before}"
    assert [p for p in (tmp_path / "pool/tmp").rglob("*") if p.is_file()] == []
    for entry in log:
        for name in ("detail", "content_type", "final_url"):
            value = entry[name] or ""
            assert len(value) <= 5000, f"{name} of {entry['url']}"


def _no_injection(web: HostileWeb) -> None:
    server = web.webs["header injection"]
    for headers in server.requests:
        assert "x-injected" not in headers
    assert "/c" not in server.asked


def test_a_shard_of_hosts_that_hang_ends_by_its_deadline(tmp_path: Path, warm: None) -> None:
    spec = SPEC.model_copy(
        update={"timeout_s": 600, "idle_timeout_s": 600, "connect_timeout_s": 600, "shard_deadline_s": 3}
    )
    hanging = [c for c in ANSWERS if c.name in ("never answers", "one byte a second", "stops in the body", "good")]
    hanging += [c for c in ANSWERS if c.name in ("robots never answers", "interim answers for ever")]
    with HostileWeb(tmp_path, hanging) as web:
        cases = [c for c in web.cases if c.name in {h.name for h in hanging}]
        began = time.monotonic()
        log = ingested(tmp_path / "pool", [c.url for c in cases], spec)
        assert time.monotonic() - began < 6
    found = {c.name: e["outcome"] for c, e in zip(cases, log, strict=True)}
    assert found == {c.name: "ok" if c.name == "good" else "gave_up" for c in cases}


@pytest.mark.parametrize("how", ["redirect", "name"])
def test_nothing_on_this_machine_is_reached_from_outside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """A public host (here 127.77.0.1, which the test declares public) leads to 127.0.0.1: it is never asked."""
    plain = addresses.allowed

    def one_is_public(address: str, allow_loopback: bool) -> bool:
        return address == "127.77.0.1" or plain(address, allow_loopback)

    from curate.run.fetch import client

    monkeypatch.setattr(client, "allowed", one_is_public)
    spec = SPEC.model_copy(update={"allow_loopback": False, "contact": "https://example.org"})
    with Web({"/a": ok(BODY)}) as inside, Web({}, address="127.77.0.1") as outside:
        targets = [inside.url("/a"), inside.url("/a", "localhost"), inside.url("/a", "2130706433")]
        targets += [inside.url("/a", "[::ffff:127.0.0.1]"), inside.url("/a", "0x7f.1"), inside.url("/a", "0.0.0.0")]
        outside.routes = {f"/{i}": redirect(t) for i, t in enumerate(targets)} | {"/ok": ok(BODY)}
        led = [outside.url(f"/{i}", "127.77.0.1") for i in range(len(targets))]
        urls = [outside.url("/ok", "127.77.0.1"), *(led if how == "redirect" else targets)]
        log = ingested(tmp_path / "pool", urls, spec)
        assert inside.asked == []
    assert log[0]["outcome"] == "ok"
    allowed_ends = {"blocked_address", "robots_unavailable"} if how == "name" else {"blocked_address"}
    for entry, target in zip(log[1:], targets, strict=True):
        assert entry["outcome"] in allowed_ends, (target, entry)


def test_slow_hosts_do_not_hold_the_others_back(tmp_path: Path, warm: None) -> None:
    """Forty URLs of hosts that hang, one slot fewer than there are: two hundred good ones go on beside them."""
    slow = {"/a": hang, "/b": drip(BODY, 1), "/c": hang_after(BODY)}
    spec = SPEC.model_copy(update={"concurrency": 40, "host_rate": None, "per_host": 20})
    good_routes = {f"/{i}": ok(BODY) for i in range(200)}
    with Web(slow, address="127.77.0.2") as bad, Web(good_routes) as good:
        urls = [bad.url(p, "127.77.0.2") for p in ("/a", "/b", "/c") * 13] + [good.url(p) for p in good_routes]
        log = ingested(tmp_path / "pool", urls, spec)
    assert {e["outcome"] for e in log[39:]} == {"ok"}
    assert {e["outcome"] for e in log[:39]} == {"timeout"}
    assert max(e["elapsed_ms"] for e in log[39:]) < 4000


def test_a_storm_of_429_on_all_hosts_ends(tmp_path: Path, warm: None) -> None:
    spec = SPEC.model_copy(update={"shard_deadline_s": 5})
    with Web({f"/{i}": status(429) for i in range(50)}) as web:
        began = time.monotonic()
        log = ingested(tmp_path / "pool", [web.url(f"/{i}") for i in range(50)], spec)
        assert time.monotonic() - began < 9
        asked = [p for p in web.asked if p[1:].isdigit()]
    assert {e["outcome"] for e in log} <= {"http_429", "gave_up"}
    assert len(asked) == len(set(asked)), "in one pass a URL is asked once"
