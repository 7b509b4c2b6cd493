"""Texts without what is no caption: HTML, holes of templates, placeholders, "stock photo of", hashtags, boilerplate.

    stage = StripTags()
    stage.run(Batch.of(pa.table({"text": ["<b>Stock photo of</b> a dog with <PERSON> #dog"]})))   # a dog with someone

    columns:                                                              # in a recipe
      - strip_tags: {name: clean}                                         # of the web text
      - strip_tags: {text: blip, name: blip_clean, markup: false, hashtags: keep}

The web text itself stays what it is; what a training set uses is said in the pick. `<PERSON>` is what CC12M (Changpinyo
et al. 2021) has in place of names. The rules are this project's own, no published recipe's; SIEVE (Mahmoud et al. 2024)
takes out phrases of mediums before it compares texts.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import pyarrow as pa
from pydantic import Field, field_validator

from stages import text_cleaning as cleaning
from stages.base import TEXT, Batch, Column, Source, Stage
from stages.text_source import has_lists
from stages.texts import TEXTS, is_list, retold, texts_of

BOILERPLATE = (
    "all rights reserved", "click to enlarge", "click here", "click for more", "read more", "add to cart", "buy now",
    "free shipping", "free download", "download now", "image credit", "photo credit", "image source", "file photo",
    "no description available", "image may contain", "view larger image", "opens in a new window",
)  # fmt: skip
ROUNDS = 12  # of taking out; what is nested deeper is made to be looked at by nobody


class StripTags(Stage):
    """Column `name`: the text as it is without them; string for a column of strings, `stages.texts.TEXTS` for lists.

    Null where nothing is left, or there was no text. White space is made single. What is left is looked at again until
    nothing more is found, so that `<<b>b>` hides no tag, and cleaning twice is cleaning once.

    text: the column. name: of the one that is written.
    markup: tags, entities, holes of templates, shortcodes, special tokens of language models.
    placeholders, instead: words that stand in place of a name, and what is put there.
    medium: "a photo of", "image:", ", royalty free stock vector".
    hashtags: `remove` them, keep their `words` without the mark, or `keep` them.
    addresses: of the web and of mail. file_names: beach.JPG, DSC_0123. boilerplate: phrases, upper or lower case.
    longest: characters; a longer text fails with an `error`.
    """

    version: ClassVar[int] = 1

    text: Source = TEXT
    name: str = Field(default="clean_text", pattern="^[a-z][a-z0-9_]{0,63}$")
    markup: bool = True
    placeholders: tuple[str, ...] = ("<PERSON>",)
    instead: str = "someone"
    medium: bool = True
    hashtags: Literal["remove", "words", "keep"] = "remove"
    addresses: bool = True
    file_names: bool = True
    boilerplate: tuple[str, ...] = BOILERPLATE
    longest: int = Field(default=20_000, ge=1, le=1_000_000)

    @field_validator("placeholders", "boilerplate")
    @classmethod
    def _phrases(cls, phrases: tuple[str, ...]) -> tuple[str, ...]:
        if any(not phrase.strip() for phrase in phrases):
            raise ValueError("strip_tags: a phrase or placeholder is empty")
        return phrases

    def reads(self) -> tuple[Column, ...]:
        return (self.text,)

    def writes(self) -> pa.Schema:
        kind = TEXTS if has_lists(self.text) else pa.string()
        return pa.schema([(self.name, kind), ("error", pa.string())])

    def run(self, batch: Batch) -> pa.Table:
        column = texts_column(batch, self.text)
        texts, offsets = texts_of(column)
        clean: list[str | None] = [None] * len(texts)
        errors: list[str | None] = [None] * batch.num_rows
        for row in range(batch.num_rows):
            for place in range(int(offsets[row]), int(offsets[row + 1])):
                try:
                    clean[place] = self.cleaned(texts[place] or "") or None
                except ValueError as e:
                    errors[row] = f"strip_tags: {e}"
        return pa.table([retold(column, clean), pa.array(errors, pa.string())], schema=self.writes())

    def cleaned(self, text: str) -> str:
        """One text, cleaned.

        Raises:
            ValueError: it is too long, or nested too deeply.
        """
        if len(text) > self.longest:
            raise ValueError(f"a text of {len(text)} characters, and `longest` is {self.longest}")
        text = " ".join(text.split())
        for _ in range(ROUNDS):
            found = " ".join(self._once(text).split())
            if found == text:
                return text
            text = cleaning.tidy(found)
        raise ValueError(f"a text with tags in tags, more than {ROUNDS} deep")

    def _once(self, text: str) -> str:
        text = cleaning.without_phrases(text, self.placeholders, f" {self.instead} ")
        if self.markup:
            text = cleaning.without_markup(text)
        if self.addresses:
            text = cleaning.without_addresses(text)
        if self.file_names:
            text = cleaning.without_file_names(text)
        if self.hashtags != "keep":
            text = cleaning.without_hashtags(text, self.hashtags == "words")
        text = cleaning.without_phrases(text, self.boilerplate)
        return cleaning.without_medium(text) if self.medium else text


def texts_column(batch: Batch, text: Column) -> pa.Array:
    """The column of texts, of the type that the stage's schema was made for.

    Raises:
        ValueError: a column of the input has lists: what a stage writes must be known before its texts are.
    """
    found = batch[text]
    if is_list(found.type) != has_lists(text):
        raise ValueError(
            f"{text.field!r} is a column of the input with lists of texts ({found.type}); a stage over them takes what "
            "another stage wrote, as `sentences` over that column does"
        )
    return found
