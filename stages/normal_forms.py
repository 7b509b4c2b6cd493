"""Normal forms of texts and urls, by which copies are found that were written a little differently.

    url_normalised("HTTP://Example.com:80/%7Eann/?b=2&a=1#top")     # "http://example.com/~ann/?a=1&b=2"
    text_normalised("\\ufb01ne  Caf\\u00c9 ")                           # "fine café"

Each is idempotent: a normal form is its own.
"""

from __future__ import annotations

import re
import unicodedata
from urllib.parse import SplitResult, urlsplit

PORTS = {"http": "80", "https": "443"}
UNRESERVED = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")  # RFC 3986, 2.3
_ESCAPE = re.compile("(?<!%)(?<!%[0-9A-Fa-f])%([0-9A-Fa-f]{2})")
"""Not those that a stray % stands before: decoded, they could make an escape of it, as "%%34%31" would one of A."""


def url_normalised(url: str) -> str:
    """The url by RFC 3986, 6.2.2 and 6.2.3, as far as it changes nothing that servers tell apart.

    Scheme and host in lower case, no default port, "/" for an empty path, no fragment, %-escapes of unreserved
    characters decoded and others in upper case; and, which the RFC has not, the parameters of the query sorted.
    A url that cannot be parsed stands as it is.
    """
    try:
        parts = urlsplit(url)
    except ValueError:  # brackets that are no IPv6 address: still equal to itself
        return url
    query = "&".join(sorted(_unescaped(parts.query).split("&")))
    return _joined(parts, query)


def url_stripped(url: str) -> str:
    """`url_normalised` without its query: sizes, signatures and trackers stand there, but also ids of pictures."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return url
    return _joined(parts, "")


def _joined(parts: SplitResult, query: str) -> str:
    user, at, host = parts.netloc.rpartition("@")
    host = re.sub(f"(:({PORTS.get(parts.scheme, '')})?)+$", "", host.lower())
    path = parts.path if _may_turn_scheme(parts) else _unescaped(parts.path) or ("/" if host else "")
    scheme = f"{parts.scheme}:" if parts.scheme else ""
    slashes = "//" if at or host or path.startswith("//") else ""
    return f"{scheme}{slashes}{user}{at}{host}{path}{'?' if query else ''}{query}"


def _may_turn_scheme(parts: SplitResult) -> bool:
    """What is no url, as "%41http:x": decoded, it would begin with a scheme, and be another at the next reading."""
    return not parts.scheme and not parts.netloc and ":" in parts.path.partition("/")[0]


def _unescaped(text: str) -> str:
    """%-escapes of unreserved characters as those, others with digits in upper case; behind a stray % as they are."""
    return _ESCAPE.sub(_character, text)


def _character(escape: re.Match[str]) -> str:
    character = chr(int(escape[1], 16))
    return character if character in UNRESERVED else escape[0].upper()


def text_normalised(text: str) -> str:
    """NFKC, case folded, runs of white space made one space, ends stripped."""
    folded = unicodedata.normalize("NFKC", text).casefold()
    # Folding and composing undo each other for a few letters; the second round is the last (Unicode 3.13, D146).
    again = unicodedata.normalize("NFKC", folded).casefold()
    return " ".join(unicodedata.normalize("NFKC", again).split())
