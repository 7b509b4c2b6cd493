"""Text and data mining reserved by the owner: the TDM Reservation Protocol (W3C community group, 2024).

reserved = parse(body)             # of /.well-known/tdmrep.json
reserved.covers("/photos/a.jpg")
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from curate.run.fetch.gate.patterns import Patterns, normal_path, normal_pattern

PATH = "/.well-known/tdmrep.json"
LIMIT = 512 << 10  # bytes
MOST = 10_000

_ALL = ": all counts as reserved"


@dataclass(frozen=True)
class Reservations:
    """(pattern, reserved) in the order of the file: the first that matches decides. unread: why the owner's wish could
    not be read; then all is reserved."""

    rules: tuple[tuple[str, bool], ...] = ()
    unread: str | None = None

    def covers(self, path: str) -> bool:
        """Whether the owner has reserved mining of this path."""
        if self.unread is not None:
            return True
        return bool(self.rules) and self.patterns.decide(normal_path(path)) is True

    @property
    def why(self) -> str:
        """Of a path that is covered."""
        return f"tdmrep.json {self.unread or 'reserves it'}"

    @cached_property
    def patterns(self) -> Patterns:
        return Patterns(self.rules)

    def __reduce__(self) -> tuple[type[Reservations], tuple[object, ...]]:
        return Reservations, (self.rules, self.unread)  # what is sent to a gate goes without its patterns


NOTHING_RESERVED = Reservations()


def parse(body: bytes) -> Reservations:
    """What a tdmrep.json says. One that is no such file (a page "not found" with status 200) says nothing; one that is
    a list too long to be read, or broken off, says something that we do not know, so all is reserved."""
    begun = body.lstrip(b"\xef\xbb\xbf\xff\xfe\0 \t\r\n").startswith(b"[")
    if len(body) > LIMIT:
        return Reservations(unread=f"has more than {LIMIT} bytes{_ALL}") if begun else NOTHING_RESERVED
    try:
        entries = json.loads(body)
    except (ValueError, RecursionError):
        return Reservations(unread=f"is no JSON, or too long{_ALL}") if begun else NOTHING_RESERVED
    if not isinstance(entries, list):
        return NOTHING_RESERVED
    if len(entries) > MOST:
        return Reservations(unread=f"has more than {MOST} entries{_ALL}")
    rules = [_rule(entry) for entry in entries]
    return Reservations(tuple(rule for rule in rules if rule is not None))


def _rule(entry: Any) -> tuple[str, bool] | None:
    if not isinstance(entry, dict) or not isinstance(entry.get("location"), str):
        return None
    location = entry["location"]
    return normal_pattern(location if location.startswith("/") else f"/{location}"), str(
        entry.get("tdm-reservation")
    ) == "1"
