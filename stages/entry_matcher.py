"""Which entries of a list occur in a text, as MetaCLIP asks it: the padded entry lies in the padded text.

    matcher = Matcher(["dog", "hot dog", "New York"])
    matcher.match(pa.array(["A hot dog, in New York!"]))       # [[0, 1, 2]], list<uint32>

Text and rules: `spaced` puts a space at both ends and around each of , . ; : ? ! ` and makes spaces of TAB, LF and CR;
an entry matches where the text has it between spaces. Nothing is lower-cased. So: whole words, case counts, entries in
entries count, each once a text; quotes, brackets, hyphens and apostrophes stay with their word.

mode "faithful" is the published code: an entry that holds one of those marks never matches ("U.S."), and two spaces
in a text part the words of an entry. mode "fixed" brings entries into the same form, and makes one space of each run
of spaces in both: words and marks follow each other, whatever lies between ("U.S." is also in "U.S.A.").

padding "both" is MetaCLIP 1. "per_side" is MetaCLIP 2: no space at a side of an entry where its character is of a
script without spaces, or a punctuation mark (those match inside words). Faithful, that is Han, Thai, Lao, Burmese,
Khmer, Tibetan; kana is forgotten, so that Japanese entries that begin or end in it hardly ever match. Fixed adds kana
and leaves punctuation out. Hangul is padded in both: Korean has spaces.

How: entry = sequence of words, so texts are searched by words where both sides are padded (a hash table of words and a
prefix tree over their numbers, each hit compared byte for byte), and by characters for the other entries. Followed: the
rules of facebookresearch/MetaCLIP `substr_matching.py` (both versions), Xu et al. 2023 and Chuang et al. 2025.
"""

from __future__ import annotations

import json
import re
import string
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa

Mode = Literal["faithful", "fixed"]
Padding = Literal["both", "per_side"]

_HAN = "\u4e00-\u9fff\u3400-\u4dbf\U00020000-\U0002a6df\U0002a700-\U0002ebef\uf900-\ufaff\u2e80-\u2fdf\u2ff0-\u2fff"
SPACELESS = _HAN + "\u0e00-\u0fff\u1000-\u109f\u1780-\u17ff"
"""Scripts without spaces, in a class of a regular expression: Han and radicals; Thai, Lao, Tibetan; Burmese; Khmer."""
KANA = "\u3040-\u30ff\u31f0-\u31ff\uff66-\uff9f"
MARKS = re.escape(string.punctuation) + "，。、；：？！“”‘’（）【】《》〈〉「」『』～—"
UNPADDED = {"faithful": re.compile(f"[{SPACELESS}{MARKS}]"), "fixed": re.compile(f"[{SPACELESS}{KANA}]")}
"""Characters beside which an entry gets no space, padding "per_side"."""


@dataclass(frozen=True)
class Listed:
    """A list of entries without its strings, which take four times the memory and can be let go.

    data, offsets: UTF-8, and int64 (n + 1,). left, right: bool (n,), is there a space at that side?
    """

    data: np.ndarray
    offsets: np.ndarray
    left: np.ndarray
    right: np.ndarray

    @classmethod
    def of(cls, entries: Sequence[str], mode: Mode, padding: Padding) -> Listed:
        both = (np.ones(len(entries), bool),) * 2
        return cls(*_utf8(entries), *(_pads(entries, mode) if padding == "per_side" else both))

    def __getitem__(self, number: int) -> str:
        """An entry."""
        start, end = self.offsets[number : number + 2]
        return self.data[start:end].tobytes().decode("utf-8", "surrogatepass")


class Matcher:
    """Matches texts against entries; an entry's number is its place in the list.

    Args:
        entries: strings, each once, or what `Listed.of` made of them for the same mode and padding. In mode "fixed", of
            entries that become the same only the first can match.
        mode, padding: see above.

    Raises:
        ValueError: an entry stands twice.
    """

    mode: Mode

    def __init__(self, entries: Sequence[str] | Listed, mode: Mode = "faithful", padding: Padding = "both") -> None:
        from stages import entry_kernels

        listed = entries if isinstance(entries, Listed) else Listed.of(entries, mode, padding)
        self.entries, self.mode = len(listed.offsets) - 1, mode
        data, offsets, left, right = listed.data, listed.offsets, listed.left, listed.right
        if mode == "fixed":
            data, offsets = entry_kernels.spaced(data, offsets, True)
            starts, ends = offsets[:-1] + 1, offsets[1:] - 1  # regions: between the outer spaces
        else:
            starts, ends = offsets[:-1], offsets[1:]
        something = (ends > starts) | (mode == "faithful")
        self._whole = np.flatnonzero(left & right & something).astype(np.uint32)
        self._open = np.flatnonzero(~(left & right)).astype(np.uint32)
        numbered = entry_kernels.number_words(data, starts[self._whole], ends[self._whole])
        self._characters = _Characters(*_padded(data, starts, ends, self._open, left, right))
        del data, offsets, starts, ends  # before the tree takes as much
        self._words = _Words(*numbered)
        if mode == "faithful":
            _refuse_twice(listed, self._whole, self._words.twins)
            _refuse_twice(listed, self._open, self._characters.twins)
        del self._words.twins, self._characters.twins

    def match(self, texts: pa.Array | pa.ChunkedArray) -> pa.ListArray:
        """list<uint32>, one a text: numbers of the entries in it, ascending; null where the text is null.

        Args:
            texts: string or large_string.
        """
        from stages import entry_kernels

        if isinstance(texts, pa.ChunkedArray):
            texts = texts.combine_chunks()
        missing = texts.is_null().to_numpy(zero_copy_only=False)
        data, offsets = entry_kernels.spaced(
            *_bytes_of(texts.fill_null("").cast(pa.large_binary())), self.mode == "fixed"
        )
        found, ends = self._words.search(data, offsets)
        if len(self._whole) < self.entries:
            found = self._whole[found]
        if len(self._open):
            parts, part_ends = self._characters.search(data, offsets)
            found, ends = _together(found, ends, self._open[parts], part_ends)
        return pa.ListArray.from_arrays(pa.array(ends.astype(np.int32)), pa.array(found), mask=pa.array(missing))


class _Words:
    """Entries with spaces at both sides, as sequences of words. `twins`: for each the first that is the same."""

    def __init__(
        self, table: np.ndarray, at: np.ndarray, arena: np.ndarray, first: np.ndarray, words: np.ndarray
    ) -> None:
        """Of what `number_words` returns."""
        from stages.entry_kernels import grow_tree, tell_words

        edges, nodes, self.twins = grow_tree(first, words, len(at) - 1)
        tell_words(table, nodes)
        self._tables = (table, at, arena, edges)

    def search(self, data: np.ndarray, offsets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        from stages.entry_search import by_words

        found, ends = by_words(data, offsets, *self._tables)
        return found, ends


class _Characters:
    """Entries that may begin or end inside a word, as sequences of characters; `twins` as above."""

    def __init__(self, data: np.ndarray, starts: np.ndarray, ends: np.ndarray) -> None:
        from stages.entry_kernels import grow_tree
        from stages.entry_search import characters

        first, steps = characters(data, starts, ends)
        self._edges, _, self.twins = grow_tree(first, steps, 1)

    def search(self, data: np.ndarray, offsets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        from stages.entry_search import by_characters

        found, ends = by_characters(data, offsets, self._edges)
        return found, ends


def _bytes_of(strings: pa.LargeBinaryArray) -> tuple[np.ndarray, np.ndarray]:
    """(bytes, offsets int64 (n + 1,)) of an array without nulls."""
    if not len(strings):
        return np.zeros(0, np.uint8), np.zeros(1, np.int64)
    _, ends, data = strings.buffers()
    offsets = np.frombuffer(ends, np.int64)[strings.offset : strings.offset + len(strings) + 1]
    return np.frombuffer(data, np.uint8) if data is not None else np.zeros(0, np.uint8), offsets


def _utf8(entries: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """(bytes, offsets int64 (n + 1,)); halves of characters, which JSON can hold and no text has, in three bytes."""
    joined = np.frombuffer("\0".join(entries).encode("utf-8", "surrogatepass"), np.uint8)
    between = np.flatnonzero(joined == 0)
    if len(between) == len(entries) - 1:  # the least memory: no object an entry
        offsets = np.concatenate([[0], between - np.arange(len(between)), [len(joined) - len(between)]])
        return joined[joined != 0], offsets
    return _bytes_of(pa.array([e.encode("utf-8", "surrogatepass") for e in entries], pa.large_binary()))


def _refuse_twice(entries: Listed, chosen: np.ndarray, twins: np.ndarray) -> None:
    again = np.flatnonzero(twins != np.arange(len(twins)))
    if len(again):
        first, second = chosen[twins[again[0]]], chosen[again[0]]
        raise ValueError(f"entries {first} and {second} are both {entries[second]!r}; take one of them out of the list")


def _pads(entries: Sequence[str], mode: Mode) -> tuple[np.ndarray, np.ndarray]:
    """(left, right), bool (n,): is there a space at that side?"""
    bare = UNPADDED[mode].match
    ends = entries if mode == "faithful" else [e.strip(" \t\n\r") for e in entries]
    left = [not (e and bare(e[0])) for e in ends]
    return np.array(left, bool), np.array([not (e and bare(e[-1])) for e in ends], bool)


def _padded(
    data: np.ndarray, starts: np.ndarray, ends: np.ndarray, chosen: np.ndarray, left: np.ndarray, right: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(bytes, starts, ends) of the chosen regions with a space at the sides that have one."""
    pieces = [b" " * int(left[i]) + data[starts[i] : ends[i]].tobytes() + b" " * int(right[i]) for i in chosen.tolist()]
    bytes_, offsets = _bytes_of(pa.array(pieces, pa.large_binary()))
    return bytes_, offsets[:-1].copy(), offsets[1:].copy()


def _together(a: np.ndarray, a_ends: np.ndarray, b: np.ndarray, b_ends: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Two answers as one, ascending within each text; they have no entry in common."""
    rows = np.arange(len(a_ends) - 1)
    row = np.concatenate([np.repeat(rows, np.diff(a_ends)), np.repeat(rows, np.diff(b_ends))])
    found = np.concatenate([a, b])
    return found[np.lexsort((found, row))], a_ends + b_ends


@lru_cache(maxsize=512)
def matcher_of(path: str, mode: Mode, padding: Padding, _stamp: tuple[int, int]) -> Matcher:
    """The matcher of a file, built once a process; `_stamp` is the file's time and size."""
    # The kernels come first: loading them takes 45 MB more than it keeps, and the entries then use what was let go.
    from stages import entry_kernels, entry_search  # noqa: F401

    try:
        return Matcher(Listed.of(read_entries(path), mode, padding), mode, padding)
    except ValueError as e:
        raise ValueError(f"{path}: {e}") from e


def open_matcher(path: str, mode: Mode = "faithful", padding: Padding = "both") -> Matcher:
    """`Matcher` of the list in a JSON file, the same one for as long as the file stays as it is."""
    state = Path(path).stat()
    return matcher_of(path, mode, padding, (state.st_mtime_ns, state.st_size))


def read_entries(path: str) -> list[str]:
    """The entries of a list: a JSON array of strings, or an object whose keys they are, as MetaCLIP publishes both.

    Raises:
        ValueError: the file is neither.
    """
    import orjson

    try:
        found = orjson.loads(Path(path).read_bytes())
    except orjson.JSONDecodeError:
        try:
            found = json.loads(Path(path).read_text(encoding="utf-8"))  # lone surrogates, which orjson refuses
        except (json.JSONDecodeError, UnicodeDecodeError) as e:
            raise ValueError(f"{path} is not JSON: {e}") from e
    entries = list(found) if isinstance(found, list | dict) else None
    if entries is None or not all(isinstance(e, str) for e in entries):
        raise ValueError(
            f'{path}: expected a JSON array of strings, ["dog", "hot dog", ...], or an object of such keys'
        )
    return entries


def count_entries(path: str) -> int:
    """How many `read_entries` would find in a file that it takes; an array's without its strings, 45 MB of 500,000."""
    data = Path(path).read_bytes()
    if not data[:64].lstrip().startswith(b"["):
        return len(read_entries(path))
    return data.replace(b"\\\\", b"").replace(b'\\"', b"").count(b'"') // 2  # two to a string that are not escaped
