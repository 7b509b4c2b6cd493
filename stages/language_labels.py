"""What all language stages share: the columns, and other names for what a model answers.

    labels: {zh_yue: zh, wuu: zh}                 # these two renamed, the others as the model names them
    labels: {en: en, "*": other}                  # LAION-5B: English and the rest
    labels: lid_to_wiki.json                      # MetaCLIP 2: one map for some hundred; N/A there is `other`

A file is a JSON object, or lines of two names, `zh_yue zh`, where # begins a remark.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import pyarrow as pa
from pydantic import Field, field_validator

from stages.base import TEXT, Column, Stage
from stages.word_lists import absolute, existing

OTHERS = "*"
NOLANG = "nolang"

Answer = tuple[str | None, float | None, bool]
"""(language, probability, is it sure enough); the first two null where the text has no word."""


class Labelled(Stage):
    """Columns `<name>` (string) and `<name>_prob` (float32) of what a model answers, renamed.

    Args:
        name: begins the names of the columns.
        labels: a map from what the model answers to other names, or the path of one (JSON, or lines of two names);
            "*" is for all that are not in it, which else keep theirs. An unsure answer is "nolang", whatever the map.
    """

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
        found["parameters"] = {n: v for n, v in found["parameters"].items() if defaults.get(n, self) != v}
        return found

    def reads(self) -> tuple[Column, ...]:
        return (TEXT,)

    def writes(self) -> pa.Schema:
        return pa.schema([(self.name, pa.string()), (f"{self.name}_prob", pa.float32())])

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
