"""Path patterns of robots.txt and tdmrep.json (RFC 9309, 2.2.2, 2.2.3): a prefix, `*` any run, `$` at the end the end.

    patterns = Patterns([("/private/*.jpg$", False), ("/private", True)])
    patterns.decide(normal_path("/private/a.png"))      # of the first that matches, here True

No regular expression is made of what strangers write: a match takes time linear in the path for each piece.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from urllib.parse import quote

SLOW = 200  # patterns that share a beginning and are tried one by one; with more, a path takes 10 us and up

_SAFE = "/%?=&:;@!$'()*+,~#[]-._"
_PLAIN = re.compile(r"[A-Za-z0-9/?=&:;@!'()+,~#\[\]._-]+").fullmatch  # nothing in it to encode or to decode
_Pieces = tuple[tuple[str, ...], str | None]  # in this order after the beginning; what it must end with


class Patterns:
    """(pattern, answer), the one that decides first. Sites list ten thousand paths, so these are looked up by their
    beginnings and not tried one by one."""

    __slots__ = ("_by_start", "_lengths", "slow")

    def __init__(self, rules: Iterable[tuple[str, bool]]) -> None:
        self._by_start: dict[str, list[tuple[str, int, bool, _Pieces | None]]] = {}
        for rank, (pattern, answer) in enumerate(rules):
            start, pieces = _split(pattern)
            there = self._by_start.setdefault(start, [])
            # Nothing after one that matches whatever follows can come first.
            if not there or there[-1][3] is not None:
                there.append((_needle(pieces), rank, answer, pieces))
        self._lengths = sorted({len(start) for start in self._by_start})
        self.slow = len(self._lengths) > SLOW or any(len(there) > SLOW for there in self._by_start.values())

    def decide(self, path: str) -> bool | None:
        """The answer of the first pattern that matches a normal path; None where none does."""
        best, answer = -1, None
        for length in self._lengths:
            if length > len(path):
                break
            for needle, rank, says, pieces in self._by_start.get(path[:length], ()):
                if needle in path:
                    if 0 <= best < rank:
                        break
                    if pieces is None or _follow(pieces, path, length):
                        best, answer = rank, says
                        break
        return answer


def matches(pattern: str, path: str) -> bool:
    """Whether a normal pattern matches the beginning of a normal path."""
    start, pieces = _split(pattern)
    return path.startswith(start) and (pieces is None or _follow(pieces, path, len(start)))


def _split(pattern: str) -> tuple[str, _Pieces | None]:
    """(how a path must begin, what must follow)."""
    anchored = pattern.endswith("$")
    start, *pieces = pattern[: -1 if anchored else None].split("*")
    if not anchored:
        pieces = [piece for piece in pieces if piece]
        return start, (tuple(pieces), None) if pieces else None
    # Without a * the path ends here, which is said by None in place of its last piece.
    return start, (tuple(p for p in pieces[:-1] if p), pieces[-1]) if pieces else ((), "$")


def _needle(pieces: _Pieces | None) -> str:
    """What must be in a path, wherever: the quickest question of all, and for most patterns the last."""
    middle, last = pieces or ((), None)
    return max((*middle, "" if last in (None, "$") else last), key=len)


def _follow(pieces: _Pieces, path: str, at: int) -> bool:
    middle, last = pieces
    for piece in middle:
        found = path.find(piece, at)
        if found < 0:
            return False
        at = found + len(piece)
    if last is None:
        return True
    if last == "$":  # no normal pattern has it but at its end: it is encoded
        return at == len(path)
    return path.endswith(last) and len(path) - len(last) >= at


def normal_path(path: str) -> str:
    """A path of a URL, fit for `matches`: its own * and $ encoded, as RFC 9309, 2.2.3 has them in patterns."""
    if _PLAIN(path):
        return path
    return _normal(path or "/").replace("*", "%2A").replace("$", "%24")


def normal_pattern(pattern: str) -> str:
    """A pattern, fit for `matches`: $ is special at its end only."""
    if _PLAIN(pattern):
        return pattern
    encoded = _normal(pattern)
    return encoded[:-1].replace("$", "%24") + encoded[-1:]


def _normal(path: str) -> str:
    """Percent-encoding as RFC 9309, 2.2.2 compares it: of what need not be encoded undone, of what must be done."""
    encoded = quote(path, safe=_SAFE)
    return re.sub(r"%([0-9a-fA-F]{2})", _unreserved, encoded)


def _unreserved(found: re.Match[str]) -> str:
    character = chr(int(found[1], 16))
    plain = character.isascii() and (character.isalnum() or character in "-._~")
    return character if plain else found[0].upper()
