"""What img2dataset says of a failure, as an outcome of ours.

    outcome_of("HTTP Error 404: Not Found")      # ("http_4xx", 404)

Its messages are those of Python's urllib and of OpenCV, as img2dataset 1.47 passes them on (`downloader.py`,
`resizer.py`).
"""

from __future__ import annotations

import re

from curate.pool.facts import OUTCOMES

DOWNLOAD, RESIZE = "failed_to_download", "failed_to_resize"  # its words in `status`
STATUS = re.compile(r"HTTP Error (\d{3})")

SAID: tuple[tuple[str, str], ...] = (
    ("disallowed by x-robots-tag", "refused_header"),
    ("hash mismatch", "hash_mismatch"),
    ("image too small", "too_small"),
    ("aspect ratio too large", "too_small"),
    ("image area too large", "bomb"),
    ("redirect error that would lead to an infinite loop", "too_many_redirects"),
    ("name or service not known", "dns"),
    ("temporary failure in name resolution", "dns"),
    ("no address associated with hostname", "dns"),
    ("nodename nor servname", "dns"),
    ("getaddrinfo failed", "dns"),
    ("'idna' codec", "dns"),
    ("label empty or too long", "dns"),
    ("label too long", "dns"),
    ("timed out", "timeout"),
    ("incompleteread", "truncated"),
    ("ssl", "tls"),
    ("certificate", "tls"),
    ("tlsv1", "tls"),
    ("unknown url type", "blocked_address"),
    ("no host given", "blocked_address"),
    ("url can't contain control characters", "blocked_address"),
    ("nonnumeric port", "blocked_address"),
    ("invalid ipv6 url", "blocked_address"),
    ("codec can't encode", "blocked_address"),
)
"""What a message has in it, in small letters; the first that fits counts."""


OURS = re.compile(r"(?:failed_to_resize: )?(\w+)(?:: (\d{3})\b)?")
"""What `curate export-img2dataset` writes: our own outcome, and the HTTP status where that is the detail."""


def words(status: str | None, message: str | None) -> str:
    """A failure's `status` and `error_message` in one line, from which `outcome_of` tells what it was."""
    line = " ".join((message or "no message").split())[:300]
    return line if status == DOWNLOAD else f"{status}: {line}"


def outcome_of(said: str | None) -> tuple[str, int | None]:
    """(outcome, HTTP status if there was one) of what `words` gave; None is an image.

    A message that is not known is a broken connection, which may be tried again, or a broken image.
    """
    if said is None:
        return "ok", None
    ours = OURS.match(said)
    if ours is not None and ours[1] in OUTCOMES:
        return ours[1], int(ours[2]) if ours[2] else None
    lower = said.lower()
    outcome = next((outcome for part, outcome in SAID if part in lower), None)
    code = STATUS.search(said)
    if code is not None:
        number = int(code[1])
        return outcome or _of_status(number), number
    if outcome is not None:
        return outcome, None
    return ("decode_error" if said.startswith(RESIZE) else "connect"), None


def _of_status(number: int) -> str:
    if number == 429:
        return "http_429"
    if 300 <= number < 400:
        return "too_many_redirects"
    return "http_5xx" if 500 <= number < 600 else "http_4xx"
