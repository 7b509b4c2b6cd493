"""libcurl's errors as outcomes."""

from __future__ import annotations

import re

from curate.errors import UserError
from curate.run.fetch.stop import Stop

# Numbers of curl.h (CURLcode), as pycurl has no names for some of them.
_DNS, _CONNECT, _TIMEOUT, _MALFORMED_URL, _TOO_LARGE = 6, 7, 28, 3, 100
_TLS = {35, 51, 60, 64, 80, 83, 90, 91, 98}
_OUR_TLS = {53, 54, 58, 59, 66, 77, 82}  # engine, certificate, ciphers or authorities of our own
_OF_THE_WAY = {
    1,  # unsupported protocol: an answer of HTTP/0.9
    _CONNECT,
    8,  # weird server reply
    16,  # HTTP/2 framing
    18,  # partial file
    52,  # got nothing
    55,  # send error
    56,  # receive error
    61,  # bad content encoding, also of a chunk
    92,  # HTTP/2 stream
}
_MALFORMED = {1, 8, 16, 61, 92}
_HOW = {_DNS: "dns", _TIMEOUT: "timeout", _MALFORMED_URL: "blocked_address", **dict.fromkeys(_TLS, "tls")}
_HEADERS = re.compile(r"too large.*header|header.*too (long|large)|headers exceed", re.IGNORECASE)


def stop_for(number: int, message: str, came: int | None) -> Exception:
    """What to raise for an error of libcurl.

    Args:
        number: CURLcode. message: its words.
        came: bytes of the body; None where the headers were not complete.
    """
    if _HEADERS.search(message) or number == _TOO_LARGE:
        return Stop("too_big", f"malformed answer: headers are too large. {message}")
    if number in _HOW and came is None:
        return Stop(_HOW[number], message)
    if number in _MALFORMED and came is None:
        return Stop("connect", f"malformed answer: {message}")
    if number in _OF_THE_WAY or number in _HOW:
        return Stop("connect", message) if came is None else Stop("truncated", f"after {came} bytes: {message}")
    if number in _OUR_TLS:
        return UserError(f"this machine cannot verify certificates: {message}. Is SSL_CERT_FILE a file of authorities?")
    # Whatever else it is, it is the matter of one URL.
    return Stop("connect" if came is None else "truncated", f"libcurl error {number}: {message}")
