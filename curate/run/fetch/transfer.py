"""One request and its answer, as `curate.run.fetch.client` has them in hand."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import pycurl

from curate.run.fetch.stop import Stop

Checked = Callable[[int, "Headers"], bool]
"""(status, headers) -> whether the body is wanted; raises Stop where the URL ends here."""

Headers = dict[str, list[str]]
"""Lower-case names; values in the order in which they came."""


MakeRoom = Callable[[int], Awaitable[None]]
"""Wait until there is memory for so many bytes."""


@dataclass(slots=True)
class Answer:
    """One hop. `size`: bytes of the body that came; `body`: they, where they were wanted."""

    status: int
    headers: Headers
    body: bytes = b""
    size: int = 0

    def header(self, name: str) -> str | None:
        """The first value of a header."""
        return next(iter(self.headers.get(name, [])), None)

    def announced(self) -> int | None:
        """Content-Length, where it is a number."""
        said = self.header("content-length") or ""
        return int(said[:18]) if said.isascii() and said.isdigit() else None  # of 18 digits on it is too big anyhow


@dataclass(slots=True)
class Time:
    """Seconds that a URL may take, and has taken, over all of its hops; waits for hosts and for room not counted."""

    limit: float
    spent: float = 0.0

    def over(self) -> Stop:
        return Stop("timeout", f"not done in {self.limit:g} s")


@dataclass(slots=True)
class Transfer:
    """State of one easy handle. `until`: when its time is over; `last`: when its last byte came, once connected."""

    curl: pycurl.Curl
    until: float = 0.0
    over: Callable[[], Stop] | None = None
    max_bytes: int = 0
    checked: Checked | None = None
    make_room: MakeRoom | None = None
    done: asyncio.Future[None] | None = None
    answer: Answer = field(default_factory=lambda: Answer(0, {}))
    chunks: list[bytes] = field(default_factory=list)
    lines: list[bytes] = field(default_factory=list)  # of the headers
    header_bytes: int = 0
    ended_headers: bool = False
    wanted: bool = True
    has_room: bool = False
    cut: bool = False
    paused: asyncio.Task[None] | None = None
    rests: float | None = None  # since when it waits for room
    waits_for_pipe: bool = False
    last: float | None = None
    failure: BaseException | None = None
    blocked: str | None = None
