"""Words from the web, made harmless for a terminal."""

from __future__ import annotations

import unicodedata


def visible(text: str, keep: str = "") -> str:
    """Control, format and surrogate characters (escape codes, text direction, joiners) as \\u001b or \\u202e."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(_escape(c) if c not in keep and _hidden(c) else c for c in text)


def one_line(text: str, most: int = 300) -> str:
    """The last line of a traceback or message that says something, harmless and cut."""
    lines = [line for line in text.strip().splitlines() if line.strip()]
    last = visible(lines[-1].strip()) if lines else ""
    return last if len(last) <= most else last[: most - 1] + "…"


def _hidden(c: str) -> bool:
    return unicodedata.category(c) in ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp")


def _escape(c: str) -> str:
    n = ord(c)
    known = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}
    return known.get(c) or (f"\\u{n:04x}" if n < 0x10000 else f"\\U{n:08x}")
