"""What servers and names do wrong ends one URL, in the outcome that it is, and never the shard."""

from __future__ import annotations

import asyncio
import errno
import gzip
import socket
import ssl
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from yarl import URL

from curate.errors import UserError
from curate.run.fetch import client, resolve
from curate.run.fetch.curl_errors import stop_for
from curate.run.fetch.http import Fetch, download
from curate.run.fetch.resolve import Resolver
from curate.run.fetch.room import Room
from curate.run.fetch.spec import IngestSpec
from curate.run.fetch.stop import Stop
from curate.run.fetch.urls import redirected, web_address
from tests.web import Request, Web, head, ok, raw, redirect, self_signed, status

SPEC = IngestSpec(
    allow_loopback=True, timeout_s=3, idle_timeout_s=1, connect_timeout_s=1, ignore=("robots", "tdm", "host_limits")
)
BODY = b"body"


def fetched(*urls: str, spec: IngestSpec = SPEC) -> list[Fetch]:
    found: dict[int, Fetch] = {}

    async def keep(row: int, fetch: Fetch) -> Fetch:
        return fetch

    assert download(dict(enumerate(urls)), spec, keep, found.__setitem__) == []
    return [found[row] for row in range(len(urls))]


def answered(first: bytes, *headers: bytes) -> Any:
    return raw(b"\r\n".join([first, *headers, b"Content-Length: 4", b"", BODY]))


def test_a_status_line_is_the_first_line_and_no_other() -> None:
    routes = {
        "/stuck": answered(b"HTTP/1.1 200OK"),
        "/none": answered(b"HTTP/1.1 abc"),
        "/slip": answered(b"HTTP/1.1 200 OK", b"HTTP/1.1: 404 Not Found"),
        "/odd": answered(b"HTTP/1.1 200 OK", b"HTTP/x: y"),
        "/interim": raw(b"HTTP/1.1 103 Early\r\nLink: x\r\n\r\n" + head(200, {"Content-Length": 4}) + BODY),
        "/good": ok(BODY),
    }
    with Web(routes) as web:
        found = fetched(*(web.url(path) for path in routes))
    assert [f.outcome for f in found] == ["connect", "connect", "ok", "ok", "ok", "ok"]
    assert [f.status for f in found[2:]] == [200] * 4


def test_a_length_of_thousands_of_digits_is_too_big() -> None:
    with Web({"/a": raw(b"HTTP/1.1 200 OK\r\nContent-Length: " + b"9" * 5000 + b"\r\n\r\nx")}) as web:
        assert fetched(web.url("/a"))[0].outcome in ("too_big", "connect")


def test_names_that_no_host_can_have_end_their_url_only() -> None:
    with Web({"/a": redirect("http://xn--a.example/x"), "/b": ok(BODY)}) as web:
        found = fetched("http://xn--a.example/a", web.url("/a"), web.url("/b"))
    assert [f.outcome for f in found] == ["dns", "dns", "ok"]


def test_where_there_is_no_ipv6_the_other_address_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    class NoIPv6(socket.socket):
        def __init__(self, family: int = -1, *rest: Any, **named: Any) -> None:
            if family == socket.AF_INET6:
                raise OSError(errno.EAFNOSUPPORT, "not here")
            super().__init__(family, *rest, **named)

    monkeypatch.setattr(resolve, "_system", lambda _: ["::1", "127.0.0.1"])
    monkeypatch.setattr(client.socket, "socket", NoIPv6)

    def cut(request: Request) -> None:
        request.send(head(200, {"Content-Length": 400}) + BODY)

    with Web({"/a": ok(BODY), "/cut": cut}) as web:
        found = fetched(web.url("/a", "two.test"), web.url("/cut", "two.test"))
    assert [f.outcome for f in found] == ["ok", "truncated"]


def test_errors_that_libcurl_may_yet_invent_are_of_one_url() -> None:
    for came, outcome in ((None, "connect"), (7, "truncated")):
        found = stop_for(123, "something new", came)
        assert isinstance(found, Stop)
        assert (found.outcome, "123" in found.detail) == (outcome, True)


def test_authorities_that_cannot_be_read_are_our_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "ca.pem").write_text("no certificate")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*self_signed(tmp_path))
    with Web({"/a": ok(BODY)}, tls=context) as web, pytest.raises(UserError, match="SSL_CERT_FILE"):
        fetched(web.url("/a"))


@pytest.mark.parametrize("address", ["93.184.215.14", "2606:2800:21f:cb07:6820:80da:af6b:8b2c"])
def test_without_a_contact_only_loopback_is_asked(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    monkeypatch.setattr(resolve, "_system", lambda _: [address])
    host = f"[{address}]" if ":" in address else address
    for url in ("http://on-the-web.test/a", f"http://{host}/a"):
        found = fetched(url)[0]
        assert (found.outcome, "contact is missing" in (found.detail or "")) == ("blocked_address", True)


def test_the_one_that_was_refused_knows_when_to_come_again() -> None:
    with Web({"/a": status(429, Retry_After="3000"), "/b": status(503), "/c": status(503, Retry_After="60")}) as web:
        found = fetched(web.url("/a"), web.url("/b"), web.url("/c"))
    left = [f.retry_at and f.retry_at - time.time() for f in found]
    assert left[0] == pytest.approx(3000, abs=10)
    assert left[1:] == [None, pytest.approx(60, abs=10)]


def test_what_a_dead_host_behind_a_redirect_says_is_nothing() -> None:
    with socket.socket() as closed, Web({}) as web:
        closed.bind(("127.0.0.1", 0))
        web.routes["/a"] = redirect(f"http://127.0.0.1:{closed.getsockname()[1]}/x")
        found = fetched(web.url("/a"))[0]
    assert (found.outcome, found.status, found.content_type) == ("connect", None, None)


def test_words_of_others_are_cut_before_they_are_kept() -> None:
    with Web({"/a": ok(BODY, kind="image/" + "x" * 90_000)}) as web:
        assert len(fetched(web.url("/a"))[0].content_type or "") == 2000


@pytest.mark.parametrize(
    ("written", "asked"),
    [
        ("/https%3A%2F%2Fx.test%2Fa.jpg?s=%2Cab", "/https%3A%2F%2Fx.test%2Fa.jpg?s=%2Cab"),
        ("/a,b;c=1/(x)?q=a+b%20c&d=1", "/a,b;c=1/(x)?q=a+b%20c&d=1"),
        ("/a b", "/a%20b"),
        ("/ü", "/%C3%BC"),
        ("/x/../private/y", "/private/y"),
        ("/100%", "/100%25"),
    ],
)
def test_urls_are_asked_for_as_they_are_written(written: str, asked: str) -> None:
    with Web({asked: ok(BODY)}) as web:
        found = fetched(web.url(written))[0]
        assert (found.outcome, web.asked) == ("ok", [asked])


def test_locations_are_utf8_or_latin1() -> None:
    base = URL("http://a.test/x")
    assert str(redirected("/ü".encode().decode("latin-1"), base)) == "http://a.test/%C3%BC"
    assert str(redirected("/\xfc", base)) == "http://a.test/%C3%BC"
    assert web_address("http://xn--strae-oqa.de/").raw_host == "xn--strae-oqa.de"


def test_robots_that_lead_to_one_host_ask_it_one_at_a_time() -> None:
    """Parked domains: the host at which all of them land has a gate that knows nothing of it."""
    spec = SPEC.model_copy(update={"ignore": ("tdm",), "host_rate": 20.0})
    under_way = most = 0

    def landing(request: Request) -> None:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        time.sleep(0.02)
        under_way -= 1
        request.send(head(404, {"Content-Length": 0}))

    with Web({"/landing": landing}, address="127.0.0.99") as there, Web({"/a": ok(BODY)}, address="0.0.0.0") as parked:
        parked.routes["/robots.txt"] = redirect(there.url("/landing", "127.0.0.99"))
        began = time.monotonic()
        found = fetched(*(parked.url("/a", f"127.0.0.{n}") for n in range(2, 10)), spec=spec)
        took = time.monotonic() - began
    assert [f.outcome for f in found] == ["ok"] * 8
    assert most == 1
    assert took > 7 / 20


def test_slow_names_hold_up_no_other_url(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two threads, eight names that hang: those in line behind them lose patience, not their own time."""

    def system(host: str) -> list[str]:
        if host.startswith("slow"):
            time.sleep(1.0)
            raise OSError("nobody knows")
        return ["127.0.0.1"]

    monkeypatch.setattr(resolve, "_system", system)
    monkeypatch.setattr(client, "Resolver", lambda limit: Resolver(limit, threads=2))
    spec = SPEC.model_copy(update={"timeout_s": 1.5})
    with Web({"/a": ok(BODY)}) as web:
        urls = [web.url("/a", f"slow{i}.test") for i in range(4)] + [web.url("/a", f"good{i}.test") for i in range(4)]
        found = fetched(*urls, spec=spec)
    assert [f.outcome for f in found] == ["dns"] * 4 + ["ok"] * 4


def test_a_name_that_hangs_has_a_limit_and_its_thread_is_not_given_to_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resolve, "_system", lambda _: time.sleep(1.0))

    async def main() -> tuple[str, float, bool]:
        resolver = Resolver(0.2, threads=1)
        began = time.monotonic()
        with pytest.raises(Stop) as stopped:
            await resolver.addresses("hangs.test")
        took = time.monotonic() - began
        busy = resolver._free.locked()
        resolver.close()
        return stopped.value.detail, took, busy

    detail, took, busy = asyncio.run(main())
    assert ("no answer in 0.2 s" in detail, took < 0.9, busy) == (True, True, True)


@given(st.lists(st.tuples(st.integers(1, 40), st.booleans()), max_size=30))
def test_room_is_never_more_than_there_is_and_all_comes_back(asked: list[tuple[int, bool]]) -> None:
    async def main() -> None:
        room, held, most = Room(30), 0, 0

        async def one(size: int, impatient: bool) -> None:
            nonlocal held, most
            try:
                async with asyncio.timeout(0 if impatient else None):
                    taken = await room.take(size)
            except TimeoutError:
                return
            held += taken
            most = max(most, held)
            await asyncio.sleep(0)
            held -= taken
            room.give_back(taken)

        await asyncio.gather(*(one(size, impatient) for size, impatient in asked))
        assert (held, most <= 30) == (0, True)
        assert await asyncio.wait_for(room.take(1000), 1) == 30

    asyncio.run(main())


def test_inflated_bodies_take_room_by_what_they_become(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forty bodies of 20 KB that become 4 MB each: never more of them at a time than there is room for."""
    from curate.run.fetch import http

    monkeypatch.setattr(http, "LARGE_BYTES", 20 << 20)
    spec = SPEC.model_copy(update={"max_bytes": 5 << 20})
    held = most = 0
    body = gzip.compress(bytes(4 << 20))

    async def work(row: int, fetch: Fetch) -> str:
        nonlocal held, most
        assert (fetch.outcome, len(fetch.body or b"")) == ("ok", 4 << 20)
        held += 1
        most = max(most, held)
        await asyncio.sleep(0.02)
        held -= 1
        return fetch.outcome

    with Web({"/a": ok(body, Content_Encoding="gzip")}) as web:
        urls = {row: web.url(f"/a?{row}") for row in range(40)}
        web.routes |= {f"/a?{row}": web.routes["/a"] for row in range(40)}
        download(urls, spec, work, lambda _, __: None)
    assert 1 <= most <= 4
