"""A small web on loopback that behaves as badly as asked, byte for byte.

    with Web({"/a.jpg": ok(data), "/gone": status(404), "/slow": drip(data, per_second=1)}) as web:
        web.url("/a.jpg"), web.asked

A route is a function that gets the request and writes raw bytes to the socket.
"""

from __future__ import annotations

import datetime
import gzip
import ipaddress
import socket
import socketserver
import ssl
import struct
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType


@dataclass
class Request:
    """One request: its path, its headers (lower-case names), and the socket to answer on."""

    path: str
    headers: dict[str, str]
    socket: socket.socket
    stopping: threading.Event
    keep: bool = field(default=False)  # set by a route that leaves the connection fit for another request

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)


Route = Callable[[Request], None]


def head(code: int = 200, headers: dict[str, object] | None = None) -> bytes:
    lines = "".join(f"{k}: {v}\r\n" for k, v in (headers or {}).items())
    return f"HTTP/1.1 {code} X\r\n{lines}\r\n".encode()


def ok(body: bytes, kind: str = "image/jpeg", **headers: object) -> Route:
    """200 with these bytes; further headers as keywords (_ for -)."""

    def route(request: Request) -> None:
        named = {k.replace("_", "-"): v for k, v in headers.items()}
        request.send(head(200, {"Content-Type": kind, "Content-Length": len(body), **named}) + body)
        request.keep = True

    return route


def status(code: int, **headers: object) -> Route:
    def route(request: Request) -> None:
        named = {k.replace("_", "-"): v for k, v in headers.items()}
        request.send(head(code, {"Content-Length": 0, **named}))
        request.keep = True

    return route


def redirect(to: str, code: int = 302) -> Route:
    return status(code, Location=to)


def raw(data: bytes) -> Route:
    """These bytes, headers and all, and then the end of the connection."""
    return lambda request: request.send(data)


def says_length(body: bytes, length: int) -> Route:
    return raw(head(200, {"Content-Type": "image/jpeg", "Content-Length": length}) + body)


def hang(request: Request) -> None:
    """Nothing is ever answered."""
    request.stopping.wait()


def hang_after(body: bytes) -> Route:
    def route(request: Request) -> None:
        request.send(head(200, {"Content-Length": len(body) + 1000}) + body)
        request.stopping.wait()

    return route


def drip(body: bytes, per_second: float) -> Route:
    """The body byte by byte."""

    def route(request: Request) -> None:
        request.send(head(200, {"Content-Length": len(body)}))
        for byte in body:
            if request.stopping.wait(1 / per_second):
                return
            request.send(bytes([byte]))

    return route


def endless(chunk: bytes) -> Route:
    def route(request: Request) -> None:
        request.send(head(200, {"Content-Type": "image/jpeg"}))
        while not request.stopping.is_set():
            request.send(chunk)

    return route


def gzip_bomb(size: int) -> Route:
    """`size` zeros, a thousand times smaller on the wire."""
    return ok(gzip.compress(bytes(size)), Content_Encoding="gzip")


def reset(after: bytes) -> Route:
    """These bytes, then a TCP reset."""

    def route(request: Request) -> None:
        request.send(after)
        request.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        request.socket.close()

    return route


class Web:
    """The server. `asked` lists the paths in the order of their requests; `most_at_once` counts open requests."""

    def __init__(
        self,
        routes: dict[str, Route] | None = None,
        tls: ssl.SSLContext | None = None,
        address: str = "127.0.0.1",
    ) -> None:
        self.routes = dict(routes or {})
        self.asked: list[str] = []
        self.requests: list[dict[str, str]] = []
        self.most_at_once = 0
        self._at_once = 0
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._scheme = "https" if tls else "http"
        web = self

        class Handler(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                web._serve(self.request)

        class Server(socketserver.ThreadingTCPServer):
            daemon_threads = True
            allow_reuse_address = True
            request_queue_size = 512

            def get_request(self) -> tuple[socket.socket, object]:
                connection, address = super().get_request()
                if tls is not None:  # the handshake happens in the connection's own thread, at the first read
                    connection = tls.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
                return connection, address

        self._server = Server((address, 0), Handler)
        self.port = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)

    def url(self, path: str, host: str = "127.0.0.1") -> str:
        return f"{self._scheme}://{host}:{self.port}{path}"

    def _serve(self, connection: socket.socket) -> None:
        connection.settimeout(30)
        try:
            keep = True
            while keep and not self._stopping.is_set():
                request = self._read(connection)
                if request is None:
                    return
                keep = self._answer(request)
        except OSError:
            return  # the client went away, as it may

    def _read(self, connection: socket.socket) -> Request | None:
        data = b""
        while b"\r\n\r\n" not in data:
            more = connection.recv(65536)
            if not more:
                return None
            data += more
            if data[0] == 0x16 and self._scheme == "http":  # a TLS greeting: answered in plain text, as servers do
                connection.sendall(head(400))
                return None
        first, *lines = data.split(b"\r\n\r\n")[0].decode("latin-1").split("\r\n")
        headers = {k.strip().lower(): v.strip() for k, _, v in (line.partition(":") for line in lines)}
        return Request(first.split()[1], headers, connection, self._stopping)

    def _answer(self, request: Request) -> bool:
        with self._lock:
            self.asked.append(request.path)
            self.requests.append(request.headers)
            self._at_once += 1
            self.most_at_once = max(self.most_at_once, self._at_once)
        try:
            self.routes.get(request.path, status(404))(request)
        finally:
            with self._lock:
                self._at_once -= 1
        return request.keep

    def __enter__(self) -> Web:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None) -> None:
        self._stopping.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def self_signed(folder: Path) -> tuple[Path, Path]:
    """(certificate, key) of 127.0.0.1, which nobody else vouches for."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.datetime.now(datetime.UTC)
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    own = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    builder = (
        builder.add_extension(own, critical=False)
        .serial_number(1)
        .not_valid_before(now)
        .not_valid_after(now + datetime.timedelta(days=1))
    )
    paths = folder / "cert.pem", folder / "key.pem"
    paths[0].write_bytes(builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
    plain = serialization.NoEncryption()
    paths[1].write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain))
    return paths
