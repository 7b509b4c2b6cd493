"""Refusals in the headers of an answer: X-Robots-Tag and TDM-Reservation, read before any of the body."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

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
            if found := sorted(directives(value) & wanted):
                return f"X-Robots-Tag: {', '.join(found)}"
    if "tdm" not in spec.ignore and any(v.strip() == "1" for v in headers.get("tdm-reservation", ())):
        return "TDM-Reservation: 1"
    return None


def directives(value: str) -> set[str]:
    """Directives of one X-Robots-Tag that are meant for everybody or for us, lower-case.

    "otherbot: noai, noindex" is for otherbot alone; "noai, otherbot: noindex" says noai to all, noindex to otherbot.
    """
    found: set[str] = set()
    ours = True
    for part in value.lower().split(","):
        name, colon, rest = part.strip().partition(":")
        name = name.strip()
        if colon and name not in VALUED and re.fullmatch(r"[\w.*-]+", name):
            ours = name in (AGENT, "*")
            name = rest.strip()
        if ours and name:
            found.add(name)
    return found
