"""Where statements end: a `;` outside of quotes and comments.

split("SELECT ';'; SELECT 2") == (["SELECT ';'"], " SELECT 2")
"""

from __future__ import annotations

import re

# What a `;` may stand in without ending anything; each alternative also matches where it is not closed yet.
_PARTS = re.compile(
    r"""'(?:[^']|'')*(?:'|\Z)            # a string
      | "(?:[^"]|"")*(?:"|\Z)            # a quoted name
      | --[^\n]*(?:\n|\Z)                # comments
      | /\*.*?(?:\*/|\Z)
      | \$(\w*)\$.*?(?:\$\1\$|\Z)        # a string in dollars
      | (?P<end>;)""",
    re.DOTALL | re.VERBOSE,
)

_CLOSED = re.compile(
    r"""'(?:[^']|'')*' | "(?:[^"]|"")*" | --[^\n]*\n | /\*.*?\*/ | \$(\w*)\$.*?\$\1\$""", re.DOTALL | re.VERBOSE
)


def split(text: str) -> tuple[list[str], str]:
    """(the statements that are ended, without their `;`, what follows the last)."""
    done, start = [], 0
    for m in _PARTS.finditer(text):
        if m["end"]:
            done.append(text[start : m.start()])
            start = m.end()
    return [s for s in done if not is_blank(s)], text[start:]


def is_blank(text: str) -> bool:
    """Is there nothing but space and comments?"""
    without = _PARTS.sub(lambda m: " " if m[0].startswith(("--", "/*")) else m[0], text)
    return not without.strip()


def is_complete(text: str) -> bool:
    """May it be run as it stands: a dot command, or statements the last of which is ended?"""
    return text.lstrip().startswith(".") or is_blank(split(text)[1])


def inside_quotes(text: str) -> bool:
    """Does the text end within a string or a comment?"""
    return bool(re.search(r"""['"]|--|/\*|\$\w*\$""", _CLOSED.sub(" ", text)))
