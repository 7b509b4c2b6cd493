"""Long texts in pieces: sentences, or windows of some that follow each other, as a list of texts a sample.

    stage = Sentences(text="story")
    stage.run(Batch.of(pa.table({"story": ["A dog runs. Its ball is red."]})))    # A dog runs / Its ball is red.

    columns:                                                             # in a recipe
      - sentences: {text: [short, long], name: pieces}                   # DreamLIP: those of both, in order
      - sentences: {text: long, window: 3, name: windows}                # DreamLIP's merged ones
      - sentences: {text: long, split: ends, draw: 1, name: short_piece} # CLIPS: one sentence, drawn by the uid

DreamLIP (Zheng et al. 2024, arXiv:2403.17007) cuts captions at ". " (`training/data.py`), puts the sentences of all of
them one behind another in a fixed order, and gives each step K of them, or windows joined by ". " again. There the last
sentence is never drawn, an index off by one, which is not followed. K sentences anew for each step is what a pack's
loader draws from the list. CLIPS (Liu et al. 2024, arXiv:2411.16828) trains on one sentence of the synthetic caption;
how it finds where one ends is unverified.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import pyarrow as pa
from pydantic import Field, WithJsonSchema, field_validator

from stages.base import TEXT, UID, Batch, Column, Source, Stage
from stages.draws import hash64
from stages.texts import TEXTS, rows_of, sources_of, texts_of

Split = Literal["period", "ends"]

_SHORT = (
    "mr mrs ms dr prof st sr jr vs fig ca approx inc ltd co corp dept est vol ed mt ft capt lt sgt rev hon etc e.g i.e "
    "u.s u.k a.m p.m jan feb aug sep sept oct nov dec"
)
_NO_END = frozenset(_SHORT.split())
# Begun at no second mark of a run and never given back, so that each character is looked at once.
_END = re.compile(r"(?<![.!?…])[.!?…]++[\"'”’)\]]*+(?=\s)|[。！？]+[」』”]*|\n\s*\n")
_NAME = {"type": "string", "minLength": 1}
_ONE_OR_SEVERAL = {"anyOf": [_NAME, {"type": "array", "items": _NAME, "minItems": 1}]}
_CHARACTERS = 20_000  # of one text; what comes after them is not looked at


class Sentences(Stage):
    """Column `name`, `stages.texts.TEXTS`: the pieces of a sample's texts, each with the source of its text.

    Null where a sample has no text at all, an empty list where its texts have no piece that is long enough.

    text: one column of texts or several; each a string, or a list of them.
    split: `period` cuts at ". ", as DreamLIP does, and the pieces lose that full stop; `ends` cuts behind . ! ? and
        their like before white space (not behind "Dr." or in "3.5"), and behind those of Chinese and Japanese.
    window: so many pieces in a row as one, moved on by one; a text with fewer is one window.
    min_words: shorter pieces (by white space; of Chinese or Japanese, by characters) are left out before windows are
        made, so that no list of a page's buttons passes for sentences.
    draw: keep so many, drawn by (seed, name, uid) without replacement, in their order; None keeps all.
    most: pieces of a sample; what comes after them is left out. name: of the column. seed: of the draws.
    """

    version: ClassVar[int] = 1

    text: Annotated[tuple[Source, ...], Field(min_length=1), WithJsonSchema(_ONE_OR_SEVERAL)] = (TEXT,)
    name: str = Field(default="sentences", pattern="^[a-z][a-z0-9_]{0,63}$")
    split: Split = "period"
    window: int = Field(default=1, ge=1, le=64)
    min_words: int = Field(default=1, ge=1)
    draw: int | None = Field(default=None, ge=1)
    most: int = Field(default=256, ge=1, le=65_536)
    seed: int = 0

    @field_validator("text", mode="before")
    @classmethod
    def _one_or_several(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str | Column) else value

    def reads(self) -> tuple[Column, ...]:
        return (*self.text, *(() if self.draw is None else (UID,)))

    def writes(self) -> pa.Schema:
        return pa.schema([(self.name, TEXTS)])

    def run(self, batch: Batch) -> pa.Table:
        found: list[list[dict[str, str]] | None] = [None] * batch.num_rows
        for column in self.text:
            for row, pieces in enumerate(self._of(batch[column], column.field)):
                if pieces is not None:
                    found[row] = [*(found[row] or []), *pieces][: self.most]
        if self.draw is not None:
            found = list(self._drawn(found, batch[UID]))
        return pa.table([pa.array(found, TEXTS)], schema=self.writes())

    def _of(self, array: pa.Array, field: str) -> Iterator[list[dict[str, str]] | None]:
        """The pieces of each row of one column; None where it has no text."""
        texts, offsets = texts_of(array)
        sources = [source or field for source in sources_of(array)]
        for some, where in zip(rows_of(texts, offsets), rows_of(sources, offsets), strict=True):
            if all(text is None for text in some):
                yield None
                continue
            yield [
                {"source": source, "text": piece}
                for text, source in zip(some, where, strict=True)
                for piece in self.pieces(text or "")
            ]

    def pieces(self, text: str) -> list[str]:
        """Sentences of one text, or windows of them."""
        short = [piece for piece in sentences(text[:_CHARACTERS], self.split) if _words(piece) >= self.min_words]
        joint = ". " if self.split == "period" else " "
        starts = range(max(len(short) - self.window + 1, min(len(short), 1)))
        return [joint.join(short[i : i + self.window]) for i in starts][: self.most]

    def _drawn(
        self, rows: Sequence[list[dict[str, str]] | None], uids: pa.Array
    ) -> Iterator[list[dict[str, str]] | None]:
        """`draw` pieces of each row: those with the smallest numbers, of which each place has its own."""
        longest = max((len(row) for row in rows if row is not None), default=0)
        numbers = [hash64(self.seed, f"sentences/{self.name}/{place}", uids) for place in range(longest)]
        for i, row in enumerate(rows):
            if row is None or self.draw is None or len(row) <= self.draw:
                yield row
                continue
            order = np.argsort([numbers[place][i] for place in range(len(row))], kind="stable")
            yield [row[place] for place in sorted(order[: self.draw].tolist())]


def sentences(text: str, split: Split = "period") -> list[str]:
    """The sentences of a text, white space made single and stripped; none is empty."""
    pieces = text.split(". ") if split == "period" else _at_ends(text)
    tidy = (" ".join(piece.split()) for piece in pieces)
    return [piece for piece in tidy if any(c.isalnum() for c in piece)]


def _at_ends(text: str) -> Iterator[str]:
    begin = 0
    for end in _END.finditer(text):
        if not _abbreviated(text[begin : end.start()], end.group()):
            yield text[begin : end.end()]
            begin = end.end()
    yield text[begin:]


def _abbreviated(before: str, mark: str) -> bool:
    """Whether a full stop belongs to the word before it: Dr., e.g., J. (as in J. Smith)."""
    if mark != ".":
        return False
    last = before[-40:].rsplit(maxsplit=1)[-1].lstrip("([\"'“‘") if before[-40:].strip() else ""
    return last.lower() in _NO_END or (len(last) == 1 and last.isupper() and last != "I")


def _words(piece: str) -> int:
    wide = sum("\u3040" <= c <= "\u30ff" or "\u3400" <= c <= "\u9fff" for c in piece)  # kana, and Han characters
    return max(len(piece.split()), wide)
