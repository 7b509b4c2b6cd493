"""Plain words for what the report counts."""

from __future__ import annotations

IN_WORDS = {
    "ok": "downloaded and decoded",
    "dns": "host name not found",
    "refused_robots": "the site's robots.txt forbids it",
    "robots_unavailable": "robots.txt could not be read",
    "refused_header": "the answer's headers forbid it",
    "refused_list": "on a list of refusals",
    "blocked_address": "address inside a private network",
    "connect": "no connection",
    "tls": "certificate or encryption failed",
    "timeout": "too slow",
    "http_4xx": "gone or forbidden (4xx)",
    "http_429": "asked to slow down (429)",
    "http_5xx": "server error (5xx)",
    "too_many_redirects": "redirected in circles",
    "too_big": "more bytes than allowed",
    "truncated": "broke off in the middle",
    "not_image": "something else than an image",
    "bomb": "more pixels than allowed",
    "decode_error": "a broken image",
    "too_small": "smaller than allowed",
    "hash_mismatch": "other bytes than the list promised",
    "gave_up": "given up after repeated tries",
    "unreadable": "local file unreadable",
}


def brief(value: float) -> str:
    """A number for an axis: ``0.25``, ``1,500``, ``20k``, ``3M``."""
    size = abs(value)
    for unit, factor in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if size >= factor * (10 if unit == "k" else 1):
            return f"{value / factor:.3g}{unit}"
    if size >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}"
