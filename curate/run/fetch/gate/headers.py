"""Refusals in the headers of an answer: X-Robots-Tag and TDM-Reservation, read before any of the body."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache

from curate.run.fetch.gate.robots import token
from curate.run.fetch.spec import IngestSpec

AGENT = "curate"
VALUED = {"max-snippet", "max-image-preview", "max-video-preview", "unavailable_after"}  # directives with a value


def refused(headers: Mapping[str, Sequence[str]], spec: IngestSpec) -> str | None:
    """Why an answer may not be used, in its own words; None where it may.

    Args:
        headers: lower-case names, all values of each.
    """
    if "x_robots_tag" not in spec.ignore:
        wanted = {d.lower() for d in spec.directives}
        for value in headers.get("x-robots-tag", ()):
            if found := sorted(directives(value, names_of(spec)) & wanted):
                return f"X-Robots-Tag: {', '.join(found)}"
    if "tdm" not in spec.ignore and any(v.strip() == "1" for v in headers.get("tdm-reservation", ())):
        return "TDM-Reservation: 1"
    return None


def names_of(spec: IngestSpec) -> tuple[str, ...]:
    """What owners may call us by, lower-case: the first word of our User-Agent, as it stands and as robots.txt would
    have it (RFC 9309, 2.2.1), and `curate`, where that is in it."""
    return _names(spec.user_agent, spec.contact)


@lru_cache(maxsize=64)
def _names(user_agent: str | None, contact: str | None) -> tuple[str, ...]:
    """By the two settings that the agent is made of: it is asked for with every answer, and slow to make."""
    agent = IngestSpec(user_agent=user_agent, contact=contact).agent().strip().lower()
    word = re.split(r"[/\s(]", agent, maxsplit=1)[0]
    return tuple(sorted({word, token(agent), *([AGENT] if AGENT in agent else [])} - {"", "*"}))


def directives(value: str, names: Sequence[str] = (AGENT,)) -> set[str]:
    """Directives of one X-Robots-Tag that are meant for everybody or for who goes by these names, lower-case.

    "otherbot: noai, noindex" is for otherbot alone; "noai, otherbot: noindex" says noai to all, noindex to otherbot.
    """
    found: set[str] = set()
    ours = True
    for part in value.lower().split(","):
        name, colon, rest = part.strip().partition(":")
        name = name.strip()
        if colon and name not in VALUED and re.fullmatch(r"[\w.*-]+", name):
            ours = name in names or name == "*"
            name = rest.strip()
        if ours and name:
            found.add(name)
    return found
