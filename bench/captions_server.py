"""An OpenAI-compatible server that says how fast it is: so many answers at a time, each of a set time and length.

    with Server(places=64, answer_s=0.15) as server:
        ...                                         # ask server.url
        server.seen()                               # Seen(requests, tokens, seconds, at_once)

It stands for a GPU's server (vLLM, SGLang) in benchmarks of clients: a request waits for one of `places`, then for
`answer_s`, and is answered with `tokens` tokens. What is measured is what the server saw between the first request and
the last answer. It runs in a process of its own and reads each body to its end, as real ones do, but not the picture.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import subprocess
import sys
import time
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

WORDS = "a brown dog runs over the green grass behind some white sheep"


@dataclass(frozen=True)
class Seen:
    """What arrived since the last look. seconds: from the first request to the last answer. at_once: most in flight."""

    requests: int
    tokens: int
    seconds: float
    at_once: int

    @property
    def rate(self) -> float:
        """Tokens a second."""
        return self.tokens / self.seconds if self.seconds else 0.0


class Server:
    """Starts the server; stops it at the end of the block."""

    def __init__(self, places: int, answer_s: float, tokens: int = 40) -> None:
        self._asked = [f"--{name}={value}" for name, value in
                       (("places", places), ("answer-s", answer_s), ("tokens", tokens))]  # fmt: skip
        self.url = ""

    def __enter__(self) -> Server:
        command = [sys.executable, str(Path(__file__).resolve()), *self._asked]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        self.url = self._process.stdout.readline().strip()
        if not self.url:
            raise RuntimeError(f"{' '.join(command)} ended with {self._process.wait()}")
        return self

    def __exit__(self, kind: type[BaseException] | None, e: BaseException | None, at: TracebackType | None) -> None:
        self._process.kill()
        self._process.wait()

    def seen(self) -> Seen:
        """Since the last time; counting begins anew."""
        with urllib.request.urlopen(f"{self.url}/seen", timeout=30) as answer:
            return Seen(**json.loads(answer.read()))


class Counts:
    """What the server has seen."""

    def __init__(self) -> None:
        self.requests = self.tokens = self.flying = self.at_once = 0
        self.first = self.last = 0.0

    def came(self) -> None:
        self.first = self.first or time.monotonic()
        self.flying += 1
        self.at_once = max(self.at_once, self.flying)

    def went(self, tokens: int) -> None:
        self.requests, self.tokens, self.flying = self.requests + 1, self.tokens + tokens, self.flying - 1
        self.last = time.monotonic()

    def told(self) -> dict[str, Any]:
        seconds = max(0.0, self.last - self.first)
        return {"requests": self.requests, "tokens": self.tokens, "seconds": seconds, "at_once": self.at_once}


def main() -> None:
    """Serve on a free port of this machine; its address is the first line of standard output."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--places", type=int, default=64)
    parser.add_argument("--answer-s", type=float, default=0.15)
    parser.add_argument("--tokens", type=int, default=40)
    asyncio.run(serve(parser.parse_args()))


async def serve(given: argparse.Namespace) -> None:
    from aiohttp import web

    free, counts = asyncio.Semaphore(given.places), Counts()
    usage = {"prompt_tokens": 600, "completion_tokens": given.tokens, "total_tokens": 600 + given.tokens}
    choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": WORDS}}
    body = json.dumps({"id": "x", "object": "chat.completion", "choices": [choice], "usage": usage}).encode()

    async def answer(request: web.Request) -> web.Response:
        counts.came()
        await request.read()
        if given.answer_s:
            async with free:
                await asyncio.sleep(given.answer_s)
        counts.went(given.tokens)
        return web.Response(body=body, content_type="application/json")

    async def seen(_: web.Request) -> web.Response:
        nonlocal counts
        told, counts = counts.told(), Counts()
        return web.json_response(told)

    app = web.Application(client_max_size=1 << 26)
    app.router.add_post("/v1/chat/completions", answer)
    app.router.add_get("/v1/seen", seen)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    print(f"http://{host}:{port}/v1", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    main()
