"""A web on loopback where every host is hostile in its own way, and what each of its URLs has to end in.

    with HostileWeb(folder) as web:
        for case in web.cases:
            case.name, case.url, case.outcomes

A case has an address of its own (127.66.n.1), so each is a host with slots, a rate and a robots.txt of its own.
"""

from __future__ import annotations

import gzip
import io
import socket
import ssl
import struct
import zlib
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from types import TracebackType

from PIL import Image

from tests.web import (
    Request,
    Route,
    Web,
    drip,
    endless,
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


def photo(side: int = 64) -> bytes:
    out = io.BytesIO()
    Image.effect_noise((side, side), 50).save(out, "JPEG")
    return out.getvalue()


def vast_png() -> bytes:
    """A PNG of 60,000 x 60,000 pixels by its header, in a hundred bytes."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    rows = zlib.compress(bytes(1000))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


BODY = photo()
PAGE = b"<!DOCTYPE html><html><body>This image is not available in your country.</body></html>"
BOMB = gzip.compress(bytes(200_000_000))  # a thousand times smaller on the wire


@dataclass(frozen=True)
class Case:
    """One hostile host. `routes`: path -> route, beside those the URL asks for `path`.

    outcomes: what is right; several where it hangs on what comes first. detail: what the log's line must contain.
    """

    name: str
    routes: dict[str, Route]
    outcomes: tuple[str, ...]
    detail: str | None = None
    path: str = "/a.jpg"
    tls: str | None = None  # "self-signed", "none" (plain text behind https), "cut" (the handshake is cut)
    url: str = field(default="", compare=False)

    def wrong(self, outcome: str, detail: str | None) -> str | None:
        """What is wrong with this end of its URL, or None."""
        said = detail or ""
        if outcome not in self.outcomes or (self.detail is not None and self.detail not in said):
            return f"{self.name}: {outcome} ({detail}), not {' or '.join(self.outcomes)} ({self.detail})"
        if outcome == UNREACHABLE != self.outcomes[0] and not any(o in said for o in self.outcomes[:-1]):
            return f"{self.name}: {outcome} without its cause: {detail}"
        return None


def one(name: str, route: Route, *outcomes: str, detail: str | None = None, tls: str | None = None) -> Case:
    return Case(name, {"/a.jpg": route}, outcomes, detail, tls=tls)


def slow_headers(request: Request) -> None:
    """One header line a fifth of a second, for ever."""
    request.send(b"HTTP/1.1 200 OK\r\n")
    while not request.stopping.wait(0.2):
        request.send(b"X-More: yes\r\n")


def endless_headers(request: Request) -> None:
    request.send(b"HTTP/1.1 200 OK\r\n")
    while not request.stopping.is_set():
        request.send(b"X-More: yes\r\n" * 1000)


def endless_interim(request: Request) -> None:
    """Interim answers without end, and never the final one."""
    while not request.stopping.wait(0.01):
        request.send(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n")


def endless_chunks(request: Request) -> None:
    request.send(head(200, {"Transfer-Encoding": "chunked"}))
    while not request.stopping.is_set():
        request.send(b"4000\r\n" + bytes(0x4000) + b"\r\n")


def chain(length: int) -> dict[str, Route]:
    """/a.jpg leads over so many redirects to an image."""
    paths = ["/a.jpg", *(f"/{i}" for i in range(1, length)), "/end"]
    return {a: redirect(b) for a, b in pairwise(paths)} | {"/end": ok(BODY)}


def injected_location(request: Request) -> None:
    """A Location whose value, decoded, would be two more headers and a second request."""
    request.send(head(302, {"Location": "/b%0d%0aX-Injected:%20yes%0d%0a%0d%0aGET%20/c", "Content-Length": 0}))
    request.keep = True


def robots(route: Route) -> dict[str, Route]:
    return {"/robots.txt": route, "/a.jpg": ok(BODY)}


def text(body: bytes) -> Route:
    return ok(body, kind="text/plain")


UNREACHABLE = "robots_unavailable"
"""Where a host cannot be reached at all, its robots.txt cannot either; the detail then names the cause."""

METADATA: dict[str, str | None] = {
    "http://169.254.169.254/latest/meta-data/": "169.254.169.254",
    "http://[::ffff:169.254.169.254]/": "a9fe",
}
METADATA |= {"http://2852039166/": None}

ANSWERS: tuple[Case, ...] = (
    one("good", ok(BODY), "ok"),
    one("never answers", hang, "timeout"),
    one("one byte a second", drip(BODY, 1), "timeout"),
    one("headers for ever, slowly", slow_headers, "timeout", "too_big"),
    one("headers for ever", endless_headers, "too_big"),
    one("interim answers for ever", endless_interim, "timeout", "too_big", "connect"),
    one("stops in the body", hang_after(BODY), "timeout"),
    one("endless body", endless(bytes(20_000)), "too_big"),
    one("endless chunks", endless_chunks, "too_big"),
    Case("20 redirects", chain(20), ("too_many_redirects",)),
    Case("5 redirects", chain(5), ("ok",)),
    one("loop", redirect("/a.jpg"), "too_many_redirects"),
    Case("loop of two", {"/a.jpg": redirect("/b"), "/b": redirect("/a.jpg")}, ("too_many_redirects",)),
    one("redirect to a file", redirect("file:///etc/passwd"), "blocked_address", detail="only http and https"),
    one("redirect to gopher", redirect("gopher://127.0.0.1:6379/_FLUSHALL"), "blocked_address", detail="gopher"),
    one("redirect to data", redirect("data:image/png;base64,AAAA"), "blocked_address", detail="data"),
    *(one(f"redirect to {url}", redirect(url), "blocked_address", detail=said) for url, said in METADATA.items()),
    one("redirect to a private net", redirect("http://192.168.1.1/"), "blocked_address", detail="192.168.1.1"),
    one("redirect of a megabyte", raw(head(302, {"Location": "/" + "x" * 1_000_000})), "too_big", "too_many_redirects"),
    one("gzip bomb", ok(BOMB, Content_Encoding="gzip"), "too_big", detail="decompress"),
    one("gzip in gzip", ok(gzip.compress(gzip.compress(BODY)), Content_Encoding="gzip, gzip"), "not_image"),
    one("pixel bomb", ok(vast_png(), kind="image/png"), "bomb"),
    one("length too long", says_length(BODY, len(BODY) + 50), "truncated"),
    one("length too short", says_length(BODY, len(BODY) // 2), "truncated", "decode_error"),
    one("length of nonsense", raw(head(200, {"Content-Length": "many"}) + BODY), "connect"),
    one("length below zero", raw(head(200, {"Content-Length": -5}) + BODY), "connect"),
    one("length of a terabyte", says_length(b"", 1 << 40), "too_big"),
    one("wrong type, right image", ok(BODY, kind="text/html"), "ok"),
    one("right type, wrong bytes", ok(b"%PDF-1.7 of no use", kind="image/jpeg"), "not_image"),
    one("html as image", ok(PAGE, kind="image/jpeg"), "not_image", detail="a web page"),
    one("no body", ok(b""), "not_image"),
    one("self-signed TLS", ok(BODY), "tls", UNREACHABLE, tls="self-signed"),
    one("no TLS behind https", ok(BODY), "tls", UNREACHABLE, tls="none"),
    one("TLS cut short", ok(BODY), "tls", "connect", UNREACHABLE, tls="cut"),
    one("reset in mid-body", reset(head(200, {"Content-Length": 50_000}) + b"x" * 100), "truncated"),
    one("reset before the answer", reset(b""), "connect"),
    one("closed without a word", raw(b""), "connect"),
    one("not http", raw(b"220 smtp.example.org ESMTP\r\n"), "connect"),
    one("10 MB of headers", raw(b"HTTP/1.1 200 OK\r\n" + b"X: yyyyyyyy\r\n" * 800_000 + b"\r\n"), "too_big"),
    one("one header of 10 MB", raw(b"HTTP/1.1 200 OK\r\nX: " + b"x" * 10_000_000 + b"\r\n\r\n"), "too_big"),
    one("header injection", injected_location, "http_4xx", detail="404"),
    one("control characters in headers", ok(BODY, kind="image/jpeg\x1b[31m\tx"), "ok", "connect"),
    one("server error", status(503, Retry_After="86400"), "http_5xx"),
    one("noai", ok(BODY, X_Robots_Tag="noai"), "refused_header", detail="noai"),
    one("reserved by TDM", ok(BODY, TDM_Reservation="1"), "refused_header"),
    Case("robots says no", robots(text(b"User-agent: *\nDisallow: /\n")), ("refused_robots",)),
    Case("robots never answers", robots(hang), (UNREACHABLE,)),
    Case("robots fails", robots(status(500)), (UNREACHABLE,)),
    Case("robots in a storm", robots(status(429)), (UNREACHABLE, "gave_up")),
    Case("robots without end", robots(endless(b"User-agent: *\nDisallow: /b\n" * 100)), ("ok", UNREACHABLE)),
    Case("robots of noise", robots(text(bytes(range(256)) * 100)), ("ok",)),
)
"""Hosts of one URL. A 429 storm, DNS failure and a closed port have URLs of their own in HostileWeb."""

STORM = 12  # URLs of the host that answers 429 to all of them


class HostileWeb:
    """All of it, until the block is left. `cases`: with URLs; `storm`: the server of the 429s."""

    def __init__(self, folder: Path, answers: Sequence[Case] = ANSWERS) -> None:
        self.folder, self.answers = folder, answers
        self.cases: list[Case] = []
        self.webs: dict[str, Web] = {}
        self._held = ExitStack()

    def __enter__(self) -> HostileWeb:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*self_signed(self.folder))
        for n, case in enumerate(self.answers):
            address = f"127.66.{n + 1}.1"
            tls = context if case.tls == "self-signed" else None
            if case.tls == "cut":
                web: Web = self._held.enter_context(_CutTls(address=address))
            else:
                web = self._held.enter_context(Web(case.routes, tls, address))
            self.webs[case.name] = web
            url = web.url(case.path, address)
            self._add(case, url.replace("http:", "https:") if case.tls else url)
        self._special()
        return self

    def _special(self) -> None:
        storm = self._held.enter_context(Web({}, address="127.66.0.1"))
        storm.routes = {f"/{i}.jpg": status(429, Retry_After="3600") for i in range(STORM)}
        self.webs["429 storm"] = storm
        for i in range(STORM):  # the first ones get the answer, the others wait for the host that closed
            self._add(one("429 storm", hang, "http_429", "gave_up"), storm.url(f"/{i}.jpg", "127.66.0.1"))
        closed = self._held.enter_context(socket.socket())
        closed.bind(("127.66.0.2", 0))  # bound, but nobody listens
        dead = f"http://127.66.0.2:{closed.getsockname()[1]}/a.jpg"
        self._add(one("closed port", hang, "connect", UNREACHABLE), dead)
        self._add(one("DNS failure", hang, "dns", UNREACHABLE), "http://nowhere.invalid/a.jpg")

    def _add(self, case: Case, url: str) -> None:
        self.cases.append(Case(case.name, case.routes, case.outcomes, case.detail, case.path, case.tls, url))

    def __exit__(self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None) -> None:
        self._held.close()


class _CutTls(Web):
    """Takes the greeting, and closes."""

    def _serve(self, connection: socket.socket) -> None:
        connection.settimeout(5)
        try:
            connection.recv(1000)
            connection.sendall(b"\x16\x03\x03\x00\x40\x02")  # the beginning of an answer
        except OSError:
            return  # the client went away, as it may
