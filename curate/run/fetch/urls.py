"""URLs as they were written: what an owner signed or escaped is asked for byte by byte, not tidied up."""

from __future__ import annotations

import re
from contextlib import suppress

from yarl import URL

from curate.run.fetch.stop import Stop

# A URL that can be sent as it is. Dot segments cannot: robots.txt would be asked about another path.
_CHARACTER = r"(?:[A-Za-z0-9._~!$&'()*+,;=:@/-]|%[0-9A-Fa-f]{2})"
_WRITTEN_WELL = re.compile(rf"https?://[a-z0-9.-]+(?::[0-9]+)?/{_CHARACTER}*(?:\?(?:{_CHARACTER}|\?)*)?(?:#.*)?")
_DOTS = re.compile(r"/\.\.?(?:[/?#]|$)")


def web_address(text: str, base: URL | None = None) -> URL:
    """A URL, also one relative to `base`; escaped and put in order only where it could not be sent as it is.

    Raises:
        Stop: blocked_address, where it is no address of the web.
    """
    try:
        url = _read(text.strip())
        url = base.join(url) if base is not None else url
        host = url.raw_host
    except ValueError as e:  # also names of hosts that no domain can have
        raise Stop("blocked_address", f"no web address: {e}") from e
    if url.scheme not in ("http", "https") or not host:
        raise Stop("blocked_address", f"only http and https are fetched, not {url.scheme or 'nothing'!r}")
    return url


def _read(text: str) -> URL:
    """
    >>> str(_read("http://a.test/x%3Ay?u=http%3A%2F%2Fb")), str(_read("http://a.test/b/../c d"))
    ('http://a.test/x%3Ay?u=http%3A%2F%2Fb', 'http://a.test/c%20d')
    """
    return URL(text, encoded=bool(_WRITTEN_WELL.fullmatch(text)) and not _DOTS.search(text.partition("?")[0]))


def redirected(location: str, base: URL) -> URL:
    """Where a Location header leads; headers are read as Latin-1, but what servers write there is mostly UTF-8.

    Raises:
        Stop: blocked_address.
    """
    with suppress(UnicodeError):  # else it was Latin-1
        location = location.encode("latin-1").decode("utf-8")
    return web_address(location, base)
