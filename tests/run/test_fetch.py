"""Every URL ends in its outcome and in time, and no address is connected to that should not be."""

from __future__ import annotations

import asyncio
import gzip
import io
import socket
import ssl
import time
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image
from pydantic import ValidationError

from curate.errors import UserError
from curate.run.fetch.addresses import allowed
from curate.run.fetch.http import Fetch, download
from curate.run.fetch.spec import PIXEL_SETTINGS, IngestSpec
from tests import web as on_the_web
from tests.web import (
    Web,
    drip,
    endless,
    gzip_bomb,
    hang,
    hang_after,
    head,
    ok,
    raw,
    redirect,
    reset,
    says_length,
    self_signed,
    status,
)

SPEC = IngestSpec(
    allow_loopback=True,
    timeout_s=2,
    idle_timeout_s=1,
    connect_timeout_s=1,
    max_bytes=100_000,
    ignore=("robots", "tdm", "host_limits"),  # manners have tests of their own, in tests/run/gate
)

OUTSIDE = SPEC.model_copy(update={"allow_loopback": False, "contact": "https://example.org"})


def jpeg(side: int = 32) -> bytes:
    out = io.BytesIO()
    Image.effect_noise((side, side), 50).save(out, "JPEG")
    return out.getvalue()


BODY = jpeg()


async def as_it_is(_: int, fetch: Fetch) -> Fetch:
    return replace(fetch)  # what the shard holds lets its body go


def fetched(url: str, spec: IngestSpec = SPEC) -> Fetch:
    got: list[Fetch] = []
    given_up = download({0: url}, spec, as_it_is, lambda _, fetch: got.append(fetch))
    assert given_up == []
    return got[0]


# route, outcome, part of the detail
CASES = {
    "ok": (ok(BODY), "ok", None),
    "ok of http 1.0, to the end of the connection": (raw(b"HTTP/1.0 200 OK\r\n\r\n" + BODY), "ok", None),
    "chunked": (
        raw(head(200, {"Transfer-Encoding": "chunked"}) + b"%x\r\n%s\r\n0\r\n\r\n" % (len(BODY), BODY)),
        "ok",
        None,
    ),
    "gzip nobody asked for": (ok(gzip.compress(BODY), Content_Encoding="gzip"), "ok", None),
    "not found": (status(404), "http_4xx", "404"),
    "forbidden": (status(403), "http_4xx", "403"),
    "gone": (status(410), "http_4xx", "410"),
    "999 as some answer": (status(999), "http_4xx", "999"),
    "not modified": (status(304), "http_4xx", "304"),
    "redirect to nowhere": (status(302), "http_4xx", "302"),
    "too many requests": (status(429, Retry_After="10"), "http_429", "too many"),
    "server error": (status(500), "http_5xx", "500"),
    "unavailable": (status(503), "http_5xx", "503"),
    "redirect loop": (redirect("/redirect loop"), "too_many_redirects", "more than 5"),
    "redirect to a file": (redirect("file:///etc/passwd"), "blocked_address", "only http and https"),
    "redirect to metadata": (redirect("http://169.254.169.254/x"), "blocked_address", "169.254.169.254"),
    "redirect to a private net": (redirect("http://10.0.0.1/x"), "blocked_address", "10.0.0.1"),
    "redirect to nonsense": (redirect("http://[::1/"), "blocked_address", "no web address"),
    "length too long": (says_length(BODY, len(BODY) + 50), "truncated", f"after {len(BODY)} bytes"),
    "chunks that stop": (
        raw(head(200, {"Transfer-Encoding": "chunked"}) + b"ffff\r\n" + BODY),
        "truncated",
        f"after {len(BODY)} bytes",
    ),
    "gzip that stops": (ok(gzip.compress(BODY)[:-20], Content_Encoding="gzip"), "truncated", "ends early"),
    "gzip that is none": (ok(BODY, Content_Encoding="gzip"), "not_image", "but is not"),
    "brotli": (ok(BODY, Content_Encoding="br"), "not_image", "not asked for"),
    "announced too big": (says_length(b"", 100_001), "too_big", "100001 bytes announced"),
    "endless": (endless(bytes(10_000)), "too_big", "more than 100000"),
    "gzip bomb": (gzip_bomb(50_000_000), "too_big", "after decompression"),
    "one header of 1 MB": (raw(b"HTTP/1.1 200 OK\r\nX: " + b"x" * 1_000_000 + b"\r\n\r\n"), "too_big", "malformed"),
    "10 MB of headers": (raw(b"HTTP/1.1 200 OK\r\n" + b"X: yyyyyyyy\r\n" * 800_000 + b"\r\n"), "too_big", "malformed"),
    "not http": (raw(b"220 smtp.example.org ESMTP\r\n"), "connect", "malformed"),
    "nonsense as length": (raw(head(200, {"Content-Length": "many"})), "connect", "malformed"),
    "nothing": (raw(b""), "connect", "Empty reply"),
    "reset before the answer": (reset(b""), "connect", None),
    "reset in the body": (reset(head(200, {"Content-Length": 5000}) + b"x" * 100), "truncated", None),
    "never answers": (hang, "timeout", None),
    "stops in the body": (hang_after(BODY), "timeout", "no byte in 1 s"),
    "one byte a fifth of a second": (drip(BODY, 5), "timeout", "not done in 2 s"),
}


@pytest.mark.parametrize("case", CASES)
def test_each_kind_of_answer_has_its_outcome_in_time(case: str) -> None:
    route, outcome, detail = CASES[case]
    path = "/" + case.replace(" ", "%20")
    started = time.monotonic()
    with Web({path: route, "/redirect loop": route}) as web:
        got = fetched(web.url(path))
    assert time.monotonic() - started < 5
    assert (got.outcome, got.detail is None) == (outcome, outcome == "ok"), got
    assert detail is None or detail in (got.detail or ""), got
    assert (got.body == BODY) == (outcome == "ok")
    assert (got.body is None) == (outcome != "ok")


def test_what_is_kept_about_a_fetch() -> None:
    with Web({"/a": redirect("/b"), "/b": redirect("c.jpg"), "/c.jpg": ok(BODY)}) as web:
        got = fetched(web.url("/a"))
        assert (got.status, got.content_type, got.size, got.final_url) == (
            200,
            "image/jpeg",
            len(BODY),
            web.url("/c.jpg"),
        )
        assert web.asked == ["/a", "/b", "/c.jpg"]
        assert 0 <= got.elapsed_ms < 5000
        assert fetched(web.url("/x")).status == 404


def test_five_redirects_are_followed_and_six_are_not() -> None:
    routes = {f"/{i}": redirect(f"/{i - 1}") for i in range(1, 7)} | {"/0": ok(BODY)}
    with Web(routes) as web:
        assert fetched(web.url("/5")).outcome == "ok"
        assert fetched(web.url("/6")).outcome == "too_many_redirects"


@pytest.mark.parametrize(
    ("url", "outcome"),
    [
        ("ftp://example.org/a.jpg", "blocked_address"),
        ("file:///etc/passwd", "blocked_address"),
        ("data:image/png;base64,AAAA", "blocked_address"),
        ("javascript:alert(1)", "blocked_address"),
        ("", "blocked_address"),
        ("no url", "blocked_address"),
        ("http://", "blocked_address"),
        ("http://host:99999/", "blocked_address"),
        ("http://2130706433/", "blocked_address"),
        ("http://0x7f.1/", "blocked_address"),
        ("http://10.1.2.3/a.jpg", "blocked_address"),
        ("http://[::ffff:10.0.0.1]/a.jpg", "blocked_address"),
        ("http://[fe80::1]/a.jpg", "blocked_address"),
        ("http://0.0.0.0/a.jpg", "blocked_address"),
        ("http://" + "a" * 64 + ".example/", "dns"),
        ("http://a..b.example/", "dns"),
        ("http://nowhere.invalid/a.jpg", "dns"),
    ],
)
def test_urls_that_lead_nowhere(url: str, outcome: str) -> None:
    got = fetched(url, OUTSIDE.model_copy(update={"connect_timeout_s": 20, "timeout_s": 25}))
    assert got.outcome == outcome, got


def test_a_closed_port_is_a_failed_connection() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    assert fetched(f"http://127.0.0.1:{port}/").outcome == "connect"


def test_loopback_only_where_the_spec_names_it() -> None:
    with Web({"/a": ok(BODY)}) as web:
        for host in ("127.0.0.1", "localhost"):
            assert fetched(web.url("/a", host)).outcome == "ok"
            assert fetched(web.url("/a", host), OUTSIDE).outcome == "blocked_address"
        assert len(web.asked) == 2


def test_a_name_that_points_inside_is_blocked_at_the_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    """DNS rebinding: what counts is the address that is connected to, not what the name was before."""
    answers = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("192.168.1.1", 80))]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: answers)
    got = fetched("http://looks-public.example/a.jpg")
    assert (got.outcome, got.detail) == ("blocked_address", "192.168.1.1 is not a public address")


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("93.184.215.14", True),
        ("2606:2800:21f:cb07:6820:80da:af6b:8b2c", True),
        ("64:ff9b::5db8:d70e", True),  # NAT64 of a public address
        ("10.0.0.1", False),
        ("172.16.0.1", False),
        ("192.168.0.1", False),
        ("100.64.0.1", False),
        ("169.254.169.254", False),
        ("0.0.0.0", False),
        ("224.0.0.1", False),
        ("255.255.255.255", False),
        ("240.0.0.1", False),
        ("::", False),
        ("fe80::1%eth0", False),
        ("fc00::1", False),
        ("fec0::1", False),
        ("ff02::1", False),
        ("::ffff:10.0.0.1", False),
        ("::ffff:169.254.169.254", False),
        ("::10.0.0.1", False),
        ("2002:0a00:0001::", False),  # 6to4 of 10.0.0.1
        ("64:ff9b::a00:1", False),  # NAT64 of 10.0.0.1
        ("2001:0:a00:1::1", False),  # Teredo
        ("::ffff:127.0.0.1", False),
    ],
)
def test_addresses(address: str, public: bool) -> None:
    assert allowed(address, allow_loopback=False) == public
    if not public and "127.0.0.1" not in address:
        assert not allowed(address, allow_loopback=True)


def test_loopback_addresses() -> None:
    for address in ("127.0.0.1", "127.9.9.9", "::1"):
        assert allowed(address, allow_loopback=True)
        assert not allowed(address, allow_loopback=False)


def test_certificates_are_verified(tmp_path: Path) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*self_signed(tmp_path))
    with Web({"/a": ok(BODY)}, tls=context) as web:
        assert fetched(web.url("/a")).outcome == "tls"
        assert web.asked == []
    with Web({"/a": ok(BODY)}) as web:  # no TLS at all behind https
        assert fetched(web.url("/a").replace("http:", "https:")).outcome == "tls"


def test_who_we_are_is_said_and_no_cookie_is_kept() -> None:
    spec = SPEC.model_copy(update={"contact": "https://example.org/bot", "concurrency": 1})
    with Web({"/a": ok(BODY, Set_Cookie="id=1"), "/b": ok(BODY)}) as web:
        download({0: web.url("/a"), 1: web.url("/b")}, spec, as_it_is, lambda _, __: None)
        for headers in web.requests:
            assert headers["user-agent"].startswith("curate/")
            assert headers["user-agent"].endswith("(+https://example.org/bot)")
            assert headers["accept-encoding"] == "identity"
            assert "cookie" not in headers


def test_the_web_needs_a_contact() -> None:
    with pytest.raises(UserError, match=r"ingest\.contact is missing"):
        download({0: "http://example.org/"}, IngestSpec(), as_it_is, lambda _, __: None)


def test_slots_of_one_host_are_limited() -> None:
    def slow(request: on_the_web.Request) -> None:
        request.stopping.wait(0.05)
        ok(BODY)(request)

    spec = SPEC.model_copy(update={"per_host": 3, "host_rate": None, "timeout_s": 20, "ignore": ("robots", "tdm")})
    with Web({"/a": slow}) as web:
        done: list[int] = []
        download({i: web.url("/a") for i in range(20)}, spec, as_it_is, lambda i, _: done.append(i))
        assert sorted(done) == list(range(20))
        assert web.most_at_once == 3


def test_a_shard_ends_by_its_deadline_and_names_what_was_given_up() -> None:
    spec = SPEC.model_copy(update={"shard_deadline_s": 1.0, "timeout_s": 60, "idle_timeout_s": 60})
    with Web({"/good": ok(BODY), "/slow": drip(BODY, 1)}) as web:
        urls = {i: web.url("/slow" if i % 2 else "/good") for i in range(10)}
        done: dict[int, str] = {}
        started = time.monotonic()
        given_up = download(urls, spec, as_it_is, lambda i, f: done.__setitem__(i, f.outcome))
        assert time.monotonic() - started < 3
    assert given_up == [1, 3, 5, 7, 9]
    assert done == dict.fromkeys(range(0, 10, 2), "ok")


def test_large_bodies_wait_for_room_and_all_come(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("curate.run.fetch.client.FREE_BYTES", 1000)
    monkeypatch.setattr("curate.run.fetch.http.LARGE_BYTES", 100_000)  # one large body at a time
    with Web({"/a": ok(b"x" * 90_000)}) as web:
        sizes: list[int] = []

        async def work(_: int, fetch: Fetch) -> int:
            await asyncio.sleep(
                0.1
            )  # ten of these take longer than one URL's idle time: waiting for room is not the host's
            return fetch.size

        spec = SPEC.model_copy(update={"timeout_s": 0.6, "idle_timeout_s": 5})
        download({i: web.url("/a") for i in range(10)}, spec, work, lambda _, n: sizes.append(n))
    assert sizes == [90_000] * 10


def test_a_bug_in_the_work_is_raised_and_not_an_outcome() -> None:
    async def work(_: int, __: Fetch) -> None:
        raise ZeroDivisionError("a bug")

    with Web({"/a": ok(BODY)}) as web, pytest.raises(ZeroDivisionError, match="a bug"):
        download({i: web.url("/a") for i in range(5)}, SPEC, work, lambda _, __: None)


def test_it_runs_inside_a_running_loop() -> None:
    async def notebook(url: str) -> str:
        return fetched(url).outcome

    with Web({"/a": ok(BODY)}) as web:
        assert asyncio.run(notebook(web.url("/a"))) == "ok"


# ---------------------------------------------------------------------------------------------- settings


def test_pixel_settings_are_told_from_manners() -> None:
    assert set(IngestSpec().pixels()) == set(PIXEL_SETTINGS)
    assert IngestSpec(timeout_s=1, contact="a@b.c").pixels() == IngestSpec().pixels()
    assert IngestSpec(side=256).pixels() != IngestSpec().pixels()
    assert IngestSpec().pixels()["format"] == "jpg"
    assert IngestSpec(resize="none").pixels()["format"] is None
    assert IngestSpec(resize="none", format="webp").pixels()["format"] == "webp"


def test_settings_that_cannot_be_are_refused() -> None:
    for wrong in ({"sied": 1}, {"resize": "wide"}, {"quality": 101}, {"contact": "a\r\nX: y"}, {"max_pixels": 10**9}):
        with pytest.raises(ValidationError):
            IngestSpec(**wrong)  # type: ignore[arg-type]
