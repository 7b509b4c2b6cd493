"""A JSON array of any length, one entry at a time; or JSON lines.

for number, entry in entries("llava_v1_5_mix665k.json", findings): ...
"""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterator
from typing import Any, BinaryIO

from curate.errors import UserError
from curate.interchange.interleaved_read import lines, parsed
from curate.pool.lists import Findings
from curate.run.sources.files import opened

READ = 1 << 20
LONGEST = 16 << 20  # characters of one entry
SPACE = " \t\r\n"


def entries(path: str, findings: Findings) -> Iterator[tuple[int, Any]]:
    """(number from 1, entry) of a file; a line that is no JSON is refused.

    Raises:
        UserError: an array that is no JSON, cut, with more behind it, or an entry of more than 16 million characters.
    """
    with opened(path) as f:
        first = f.read(64).decode("utf-8", "replace").lstrip("\ufeff").lstrip(SPACE)[:1]
        f.seek(0)
        if first == "[":
            yield from _array(path, f)
            return
    for number, line in lines(path, findings):
        try:
            yield number, parsed(line)
        except ValueError as e:
            findings.refuse(path, str(number), "no JSON", str(e)[:160])


class _Window:
    """The text of a file from `at` on, as much as was read of it."""

    def __init__(self, path: str, f: BinaryIO) -> None:
        self.path, self._f = path, f
        self._decode = codecs.getincrementaldecoder("utf-8-sig")("replace")
        self.text, self.at, self.ended = "", 0, False

    def more(self) -> None:
        """Read on; what lies before `at` is forgotten."""
        data = self._f.read(READ)
        self.ended = not data
        self.text, self.at = self.text[self.at :] + self._decode.decode(data, final=self.ended), 0

    def next(self) -> str:
        """The next character that is no space, "" at the end."""
        while True:
            while self.at < len(self.text) and self.text[self.at] in SPACE:
                self.at += 1
            if self.at < len(self.text) or self.ended:
                return self.text[self.at : self.at + 1]
            self.more()

    def value(self, number: int) -> Any:
        """The JSON value that begins here."""
        decoder = json.JSONDecoder()
        while True:
            try:
                found, end = decoder.raw_decode(self.text, self.at)
            except RecursionError:
                raise UserError(f"{self.path}: entry {number}: lists within lists within lists") from None
            except ValueError as e:
                if self.ended or len(self.text) - self.at > LONGEST:
                    why = "it is cut or no JSON" if self.ended else "it is no JSON, or very long"
                    raise UserError(f"{self.path}: entry {number}: {why}: {e}") from e
            else:
                if end < len(self.text) or self.ended:  # a number at the edge may go on
                    self.at = end
                    return found
            self.more()


def _array(path: str, f: BinaryIO) -> Iterator[tuple[int, Any]]:
    window, number = _Window(path, f), 0
    window.next()
    window.at += 1  # behind the bracket
    if window.next() == "]":
        _end(path, window, number)
        return
    while True:
        number += 1
        window.next()
        yield number, window.value(number)
        after = window.next()
        if after == "]":
            _end(path, window, number)
            return
        if after != ",":
            raise UserError(f"{path}: behind entry {number} stands {after!r} and no comma; it is cut or no JSON")
        window.at += 1


def _end(path: str, window: _Window, number: int) -> None:
    """Nothing stands behind the bracket that closes the array.

    Raises:
        UserError: something does.
    """
    window.at += 1
    if after := window.next():
        raise UserError(
            f"{path}: behind entry {number} the array ends, and {after!r} stands behind it; are these two files in "
            "one? give each by itself"
        )
