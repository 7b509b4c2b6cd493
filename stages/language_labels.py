"""What all language stages share: the columns, and other names for what a model answers.

    labels: {zh_yue: zh, wuu: zh}                 # these two renamed, the others as the model names them
    labels: {en: en, "*": other}                  # LAION-5B: English and the rest
    labels: lid_to_wiki.json                      # MetaCLIP 2: one map for some hundred; N/A there is `other`

A file is a JSON object, or lines of two names, `zh_yue zh`, where # begins a remark.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import pyarrow as pa
from pydantic import Field, field_validator

from stages.base import TEXT, Batch, Column, Source, Stage
from stages.text_source import column_like, column_type, has_lists, named
from stages.word_lists import absolute, existing

OTHERS = "*"
NOLANG = "nolang"

Answer = tuple[str | None, float | None, bool]
"""(language, probability, is it sure enough); the first two null where the text has no word."""


class Labelled(Stage):
    """Columns `<name>` (string) and `<name>_prob` (float32) of what a model answers, renamed.

    Args:
        text: a column of texts, or of lists of them, whose columns are lists as long; left out, the web's.
        name: begins the names of the columns, after the name of a text that is not the web's: `blip_lang`.
        labels: a map from what the model answers to other names, or the path of one (JSON, or lines of two names);
            "*" is for all that are not in it, which else keep theirs. An unsure answer is "nolang", whatever the map.
    """

    text: Source = TEXT
    name: str = Field(default="lang", pattern="^[a-z][a-z0-9_]{0,31}$")
    labels: str | tuple[tuple[str, str], ...] | None = None

    @field_validator("labels", mode="before", json_schema_input_type=dict[str, str] | str | None)
    @classmethod
    def _pairs(cls, given: Any) -> Any:
        if isinstance(given, str):
            return absolute(given)
        if isinstance(given, Mapping):
            given = list(given.items())
        return given if given is None else tuple(sorted(map(_checked, given)))

    def files(self) -> tuple[str, ...]:
        return (existing(self.labels, "language: labels"),) if isinstance(self.labels, str) else ()

    def identity(self) -> dict[str, Any]:
        """Without what is left out, so that columns from before there were such parameters stay good."""
        found = super().identity()
        defaults = {n: f.default for n, f in type(self).model_fields.items() if n != "model"}
        given = {n for n in found["parameters"] if defaults.get(n, self) != getattr(self, n)}
        found["parameters"] = {n: v for n, v in found["parameters"].items() if n in given}
        return found

    @property
    def begins(self) -> str:
        """What the names of the columns begin with."""
        return named(self.text, self.name)

    def reads(self) -> tuple[Column, ...]:
        return (self.text,)

    def writes(self) -> pa.Schema:
        return self.columns_of({"": pa.string(), "_prob": pa.float32()})

    def columns_of(self, kinds: Mapping[str, pa.DataType]) -> pa.Schema:
        """What the columns' names end with -> the type of one text's value."""
        return pa.schema([(f"{self.begins}{end}", column_type(self.text, kind)) for end, kind in kinds.items()])

    def table(self, batch: Batch, *values: Sequence[Any]) -> pa.Table:
        """The columns of `writes()`, of values for each text that `stages.texts.texts_of` finds."""
        kinds = (f.type.value_type if has_lists(self.text) else f.type for f in self.writes())
        columns = [column_like(batch, self.text, v, kind) for v, kind in zip(values, kinds, strict=True)]
        return pa.table(columns, schema=self.writes())

    def renamed(self, answers: Iterable[Answer]) -> list[str | None]:
        """The names of answers.

        Raises:
            ValueError: the file of labels is no map; says where.
        """
        labels = self._map()
        other = labels.get(OTHERS)
        return [
            NOLANG if lang is not None and not sure else lang and labels.get(lang, other or lang)
            for lang, _, sure in answers
        ]

    def _map(self) -> Mapping[str, str]:
        if isinstance(self.labels, str):
            return read_labels(self.labels, Path(self.labels).stat().st_mtime_ns)
        return dict(self.labels or ())


def _checked(pair: Any) -> tuple[str, str]:
    if not (isinstance(pair, list | tuple) and len(pair) == 2 and all(isinstance(n, str) and n for n in pair)):
        raise ValueError(f"labels map names to names, as {{zh_yue: zh}}; put no, on and off in quotes: found {pair}")
    return (pair[0], pair[1])


@lru_cache(maxsize=4)
def read_labels(path: str, time: int) -> Mapping[str, str]:
    """The map that a file is.

    Raises:
        ValueError: it is none; names the line.
    """
    text = Path(path).read_text(encoding="utf-8")
    if Path(path).suffix.lower() == ".json":
        try:
            found = json.loads(text)
        except ValueError as e:
            raise ValueError(f"language: {path} is no JSON ({e})") from e
        if not isinstance(found, dict):
            raise ValueError(f'language: {path} is no JSON object, as {{"zh_yue": "zh"}}')
        return dict(_checked(pair) for pair in found.items())
    pairs: list[tuple[str, str]] = []
    for number, line in enumerate(text.splitlines(), 1):
        names = line.partition("#")[0].split()
        if len(names) not in (0, 2):
            raise ValueError(f"language: {path}:{number}: expected two names, as `zh_yue zh`, found {line.strip()!r}")
        pairs += [_checked(names)] if names else []
    return dict(pairs)
