"""A web of thousands of hosts on loopback, as the web is: latency, dead, slow and overloaded hosts; it logs requests.

    python bench/web_like.py PLAN.json

PLAN.json: port; folder of n.jpg; kinds: one of good, missing, silent, slow, busy, storm, a host each, by number (the
last two bytes of its address 127.x.a.b: 256 a + b, modulo their count); latency_s: [least, most], a host's own;
robots: {kind: text} in place of 404; log: a file for [host, path, began, ended, status] of every request, a line each.
"""

from __future__ import annotations

import asyncio
import json
import random
import signal
import socket
import sys
import time
from pathlib import Path
from typing import Any

SLOW_BYTES_S = 1000
RETRY_AFTER_S = 30
STORM_AFTER = 20  # good answers of a host of kind "storm" before its first 429


def address(host: int) -> str:
    """The loopback address of a host by its number."""
    return f"127.10.{host // 256}.{host % 256}"


class Web:
    """The plan, the bodies, and what was asked."""

    def __init__(self, plan: dict[str, Any]) -> None:
        self.kinds: list[str] = plan["kinds"]
        self.least, self.most = plan["latency_s"]
        self.robots: dict[str, str] = plan.get("robots", {})
        files = sorted(Path(plan["folder"]).glob("*.jpg"), key=lambda p: int(p.stem))
        self.bodies = [p.read_bytes() for p in files]
        self.log = Path(plan["log"]).open("w") if plan.get("log") else None  # noqa: SIM115 - closed at the end
        self.asked: dict[str, int] = {}

    def latency(self, host: str) -> float:
        return random.Random(host).uniform(self.least, self.most)

    def kind(self, host: str) -> str:
        a, b = host.split(".")[2:]
        return self.kinds[(256 * int(a) + int(b)) % len(self.kinds)]

    def answer(self, host: str, path: str) -> tuple[int, bytes, bytes]:
        """(status, headers, body)."""
        kind = self.kind(host)
        if path == "/robots.txt":
            text = self.robots.get(kind)
            return (404, b"", b"") if text is None else (200, b"Content-Type: text/plain\r\n", text.encode())
        if path.startswith("/.well-known/") or kind == "missing":
            return 404, b"", b""
        number = self.asked[host] = self.asked.get(host, 0) + 1
        if kind == "busy" or (kind == "storm" and number > STORM_AFTER and number % 10 == 1):
            return 429, b"Retry-After: %d\r\n" % (RETRY_AFTER_S if kind == "busy" else 3), b""
        name = path.rsplit("/", 1)[-1].split(".")[0]
        return 200, b"Content-Type: image/jpeg\r\n", self.bodies[int(name) % len(self.bodies)]

    def note(self, host: str, path: str, began: float, status: int) -> None:
        if self.log is not None:
            self.log.write(json.dumps([host, path, began, time.time(), status]) + "\n")


class Connection(asyncio.Protocol):
    """One connection: requests in order, kept alive."""

    def __init__(self, web: Web) -> None:
        self.web, self.data, self.task = web, b"", None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        if not transport.get_extra_info("peername")[0].startswith("127."):
            transport.abort()  # the socket listens on all addresses, to have all of 127.0.0.0/8
        self.host: str = transport.get_extra_info("sockname")[0]

    def data_received(self, data: bytes) -> None:
        self.data += data
        if self.task is None and b"\r\n\r\n" in self.data:
            self.task = asyncio.get_running_loop().create_task(self.serve())

    def connection_lost(self, exc: Exception | None) -> None:
        if self.task is not None:
            self.task.cancel()

    async def serve(self) -> None:
        while b"\r\n\r\n" in self.data:
            head, _, self.data = self.data.partition(b"\r\n\r\n")
            path = head.split(b" ", 2)[1].decode("latin-1").split("?")[0]
            began, web = time.time(), self.web
            kind = web.kind(self.host)
            if kind == "silent":
                await asyncio.sleep(3600)
            await asyncio.sleep(web.latency(self.host))
            status, headers, body = web.answer(self.host, path)
            close = b"close" in head.lower()
            start = b"HTTP/1.1 %d X\r\n%sContent-Length: %d\r\n" % (status, headers, len(body))
            self.transport.write(start + (b"Connection: close\r\n\r\n" if close else b"\r\n"))
            if kind == "slow" and body:
                for at in range(0, len(body), SLOW_BYTES_S):
                    self.transport.write(body[at : at + SLOW_BYTES_S])
                    await asyncio.sleep(1)
            else:
                self.transport.write(body)
            web.note(self.host, path, began, status)
            if close:
                self.transport.close()
                return
        self.task = None


async def main(plan: dict[str, Any]) -> None:
    web = Web(plan)
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    listening = socket.socket()
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listening.bind(("0.0.0.0", plan["port"]))
    server = await loop.create_server(lambda: Connection(web), sock=listening, backlog=4096)
    await stop.wait()
    server.close()
    if web.log is not None:
        web.log.close()


if __name__ == "__main__":
    asyncio.run(main(json.loads(Path(sys.argv[1]).read_text())))
