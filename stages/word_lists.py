"""Lists of words and phrases from files, one a line, found in texts as whole tokens.

phrases = Phrases.read(("bad.txt",))
phrases.count("Click HERE now")                   # how often any entry occurs
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from stages.tokens import tokens


def absolute(path: str) -> str:
    """The path from the root, so that a worker elsewhere finds the file."""
    return str(Path(path).expanduser().absolute())


def existing(path: str, owner: str) -> str:
    """The path, once there is such a file.

    Raises:
        ValueError: there is none; `owner` says whose it is.
    """
    if not Path(path).is_file():
        raise ValueError(f"{owner}: no file {path}; give the path of a list that is there")
    return path


@dataclass(frozen=True)
class Phrases:
    """Entries by their tokens, in lower case; an entry matches where its tokens follow one another."""

    entries: frozenset[tuple[str, ...]]

    @classmethod
    def of(cls, phrases: Iterable[str]) -> Phrases:
        return cls(frozenset(filter(None, (tuple(_split(p)) for p in phrases))))

    @classmethod
    def read(cls, paths: Iterable[str]) -> Phrases:
        """Of UTF-8 files, an entry a line; blank lines are nothing.

        Raises:
            ValueError: a file is not UTF-8, or no entry is in it.
        """
        found: list[str] = []
        for path in paths:
            try:
                lines = Path(path).read_text(encoding="utf-8").splitlines()
            except UnicodeDecodeError as e:
                raise ValueError(f"{path}: a list must be UTF-8 text with an entry a line ({e})") from e
            if not any(line.strip() for line in lines):
                raise ValueError(f"{path}: the list has no entry")
            found += lines
        return cls.of(found)

    def count(self, text: str) -> int:
        """How many entries begin at the tokens of a text, all places together."""
        said = _split(text)
        return sum(
            tuple(said[i : i + n]) in self.entries for n in self._lengths for i in range(max(0, len(said) - n + 1))
        )

    def at_either_end(self, text: str) -> bool:
        """Does the text begin or end with an entry?"""
        said = _split(text)
        fitting = (n for n in self._lengths if n <= len(said))
        return any(tuple(said[:n]) in self.entries or tuple(said[-n:]) in self.entries for n in fitting)

    @cached_property
    def _lengths(self) -> list[int]:
        return sorted({len(e) for e in self.entries})


def _split(text: str) -> list[str]:
    """Words, and signs that belong to none, so that an entry such as a sign can match too."""
    return tokens(text.lower(), "wordpunct")
