"""Text and data mining reserved by the owner: the TDM Reservation Protocol (W3C community group, 2024).

reserved = parse(body)             # of /.well-known/tdmrep.json
reserved.covers("/photos/a.jpg")
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from curate.run.fetch.gate.robots import matches, normal_path, normal_pattern

PATH = "/.well-known/tdmrep.json"
MOST = 10_000


@dataclass(frozen=True, slots=True)
class Reservations:
    """(pattern, reserved) in the order of the file: the first that matches decides."""

    rules: tuple[tuple[str, bool], ...] = ()

    def covers(self, path: str) -> bool:
        """Whether the owner has reserved mining of this path."""
        if not self.rules:
            return False
        path = normal_path(path)
        return next((reserved for pattern, reserved in self.rules if matches(pattern, path)), False)


NOTHING_RESERVED = Reservations()


def parse(body: bytes) -> Reservations:
    """What a tdmrep.json says; one that is no such file says nothing."""
    try:
        entries = json.loads(body)
    except (ValueError, RecursionError):
        return Reservations()
    if not isinstance(entries, list):
        return Reservations()
    rules = [_rule(entry) for entry in entries[:MOST]]
    return Reservations(tuple(rule for rule in rules if rule is not None))


def _rule(entry: Any) -> tuple[str, bool] | None:
    if not isinstance(entry, dict) or not isinstance(entry.get("location"), str):
        return None
    location = entry["location"]
    return normal_pattern(location if location.startswith("/") else f"/{location}"), str(
        entry.get("tdm-reservation")
    ) == "1"
