"""What a site says about itself: its rules (robots.txt, tdmrep.json), and how long it wants to be left alone.

rules = await read_rules("https://example.org:443", spec, fetch_text)
"""

from __future__ import annotations

import asyncio
import email.utils
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC
from typing import TypeVar

from yarl import URL

from curate.run.fetch.gate import robots, tdm
from curate.run.fetch.gate.gate import OriginRules
from curate.run.fetch.gate.headers import names_of
from curate.run.fetch.spec import IngestSpec

LONG = 16 << 10  # bytes of a file whose reading would hold the event loop up; 500 KB take a tenth of a second

R = TypeVar("R", robots.Rules, tdm.Reservations)
NAMED = ("blocked_address", "dns", "connect", "tls")  # errors that are those of every URL of a host


@dataclass(frozen=True, slots=True)
class Answered:
    """A small file of a site: status and body; `error`, as "<outcome>: <detail>", where no answer came. hops: redirects
    followed before that; with none the error is one of the origin itself."""

    status: int | None
    body: bytes
    error: str | None
    hops: int = 0


async def read_rules(origin: str, spec: IngestSpec, fetch_text: Callable[[str], Awaitable[Answered]]) -> OriginRules:
    """The rules of an origin, less those that the spec ignores. fetch_text: brings a URL, redirects followed."""
    allowed, reserved = robots.ALLOW_ALL, tdm.NOTHING_RESERVED
    if "robots" not in spec.ignore:
        answer = await fetch_text(f"{origin}/robots.txt")
        if (why := _unavailable("robots.txt", answer)) is not None:
            return OriginRules(unavailable=why, outcome=_outcome(answer))
        if _came(answer):
            allowed = await _read(lambda body: robots.parse(body, *names_of(spec)), answer.body)
    if "tdm" not in spec.ignore:
        answer = await fetch_text(f"{origin}{tdm.PATH}")
        if (why := _unavailable("tdmrep.json", answer)) is not None:
            return OriginRules(unavailable=why, outcome=_outcome(answer))
        if _came(answer):
            reserved = await _read(tdm.parse, answer.body)
    return OriginRules(allowed, reserved)


async def _read(parse: Callable[[bytes], R], body: bytes) -> R:
    """The file read, and its patterns made ready, in a thread where that takes long."""

    def read() -> R:
        rules = parse(body)
        _ = rules.patterns
        return rules

    return read() if len(body) < LONG else await asyncio.to_thread(read)


def name_of(url: URL) -> str:
    """The host by which gates know it: "example.org." is "example.org" (RFC 1034, 3.1)."""
    host = url.raw_host or ""
    return host.rstrip(".") or host if host.endswith(".") else host


def origin_of(url: URL) -> str:
    """scheme://host:port, with the port also where it is the usual one; of the host as `name_of` has it."""
    host = name_of(url)
    return f"{url.scheme}://{f'[{host}]' if ':' in host else host}:{url.port}"


def seconds_until(retry_after: str | None) -> float | None:
    """Retry-After (RFC 9110, 10.2.3), seconds or a date, as seconds from now; None where it says nothing."""
    if retry_after is None:
        return None
    text = retry_after.strip()
    if text.isascii() and text.isdigit():
        return float(text[:9])
    try:
        when = email.utils.parsedate_to_datetime(text)
        when = when if when.tzinfo is not None else when.replace(tzinfo=UTC)
        return max(0.0, when.timestamp() - time.time())
    except (ValueError, OverflowError, IndexError, TypeError):
        return None


def _came(answer: Answered) -> bool:
    return answer.status is not None and 200 <= answer.status < 300


def _unavailable(file: str, answer: Answered) -> str | None:
    """RFC 9309, 2.3.1.4: a server that fails forbids everything for now; 429 is no answer either."""
    if answer.status is None:
        if _outcome(answer) != "robots_unavailable":
            return (answer.error or "").partition(": ")[2]
        return f"{file}: {f'after {answer.hops} redirects: ' if answer.hops else ''}{answer.error}"
    return f"{file}: status {answer.status}" if answer.status == 429 or answer.status >= 500 else None


def _outcome(answer: Answered) -> str:
    """Where the host itself cannot be had, that is what became of its URLs; where only the place that its robots.txt
    was moved to cannot be had, its owner's wish is not known, and may be later."""
    kind = (answer.error or "").partition(":")[0]
    return kind if kind in NAMED and not answer.hops else "robots_unavailable"
