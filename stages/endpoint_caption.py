"""Captions from any OpenAI-compatible server: vLLM, SGLang, `transformers serve`, or one that is paid.

    stage = EndpointCaption(urls=("http://localhost:8000/v1",), model="llava-1.5-7b", name="llava")

    captions:                                                      # in a recipe
      make:
        - endpoint_caption: {urls: [http://gpu1:8000/v1, http://gpu2:8000/v1], model: llava-1.5-7b, name: llava,
                             prompt: "Describe the picture in one sentence. Its text on the web was {text}.", n: 2}

Places such as {text} are columns; what stands there is a quoted JSON string on one line, of at most `longest`
characters (stages/prompts.py), since texts of the web are written by whoever wants the model to do something else.
VeCLIP's first step (Lai et al. 2023) asks without the web text, Altogether (Xu et al. 2024) with it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import islice
from typing import Any, Literal

import pyarrow as pa
from pydantic import Field, model_validator

from stages.base import ERROR, IMAGE, UID, Batch, Column, Source
from stages.endpoint import OfEndpoint
from stages.endpoint_client import Answer, Request
from stages.prompts import LONGEST, clean, fill, placeholders
from stages.texts import TEXTS, several

PROMPT = "Describe the picture in one sentence."


class EndpointCaption(OfEndpoint):
    """Columns `<name>` (string; with n above 1 a list of texts with `name` as their source), `<name>_prompt_tokens`,
    `<name>_completion_tokens` (int32), `<name>_cost` (float64), the last three null where the server counts no tokens.

    A caption that failed is null, and `error` says why. With n above 1 the others stay: the list has null in its place.

    name: of the column, and the beginning of the others.
    prompt: what the model is asked, with places for columns. system: the system's words, if any, without places.
    columns: that `prompt` has places for; found in it.
    n: captions of a sample, each asked for with a seed of its own.
    image: send the picture as it is stored.
    on_null: where a column of the prompt is null, skip asks nothing and says so in `error`; empty asks with "" there.
    longest: characters of each text in the prompt. longest_caption: characters of the answer that are kept.
    """

    name: str = Field(default="caption", pattern="^[a-z][a-z0-9_]{0,31}$")
    prompt: str = PROMPT
    system: str | None = None
    columns: tuple[Source, ...] = ()
    on_null: Literal["skip", "empty"] = "skip"
    n: int = Field(default=1, ge=1, le=64)
    image: bool = True
    longest: int = Field(default=LONGEST, ge=1, le=100_000)
    longest_caption: int = Field(default=4096, ge=1, le=100_000)

    @model_validator(mode="before")
    @classmethod
    def _of_the_prompt(cls, given: Any) -> Any:
        if isinstance(given, dict) and isinstance(given.get("prompt", PROMPT), str) and "columns" not in given:
            return {**given, "columns": placeholders(given.get("prompt", PROMPT))}
        return given

    @model_validator(mode="after")
    def _all_there(self) -> EndpointCaption:
        named, there = set(placeholders(self.prompt)), {column.field for column in self.columns}
        if named != there:
            raise ValueError(
                f"`prompt` has places for {sorted(named)}, `columns` names {sorted(there)}: leave `columns` out"
            )
        return self

    def reads(self) -> tuple[Column, ...]:
        return (*((IMAGE,) if self.image else ()), *self.columns, UID)

    def writes(self) -> pa.Schema:
        return pa.schema(
            [
                (self.name, pa.string() if self.n == 1 else TEXTS),
                (f"{self.name}_prompt_tokens", pa.int32()),
                (f"{self.name}_completion_tokens", pa.int32()),
                (f"{self.name}_cost", pa.float64()),
            ]
        )

    def requests(self, batch: Batch) -> list[Request]:
        """n of each row that is asked about, one row after another."""
        uids = batch[UID].to_pylist()
        values = {column.field: batch[column].to_pylist() for column in self.columns}
        return [
            Request(prompt, self._picture(batch, row), f"{uids[row].hex()}/{number}", self.system)
            for row, lack in enumerate(self._lacks(batch))
            if lack is None
            for prompt in (fill(self.prompt, {name: of[row] for name, of in values.items()}, self.longest),)
            for number in range(self.n)
        ]

    def _lacks(self, batch: Batch) -> list[str | None]:
        """A row: the column for whose lack it is not asked about, if any."""
        lacks: list[str | None] = [None] * batch.num_rows
        for column in self.columns if self.on_null == "skip" else ():
            null = batch[column].is_null().to_pylist()
            lacks = [lack or (column.field if missing else None) for lack, missing in zip(lacks, null, strict=True)]
        return lacks

    def _picture(self, batch: Batch, row: int) -> Callable[[], bytes] | None:
        return (lambda: batch.image_bytes(row)) if self.image else None

    def run(self, batch: Batch) -> pa.Table:
        answers, lacks = iter(self.answers(batch)), self._lacks(batch)
        rows = [list(islice(answers, self.n)) if lack is None else unasked(lack, self.n) for lack in lacks]
        texts = [[self._text(answer) for answer in row] for row in rows]
        tokens = [(total([a.prompt_tokens for a in row]), total([a.completion_tokens for a in row])) for row in rows]
        captions = (
            pa.array([row[0] for row in texts], pa.string())
            if self.n == 1
            else several([row if any(row) else None for row in texts], self.name)
        )
        columns = [
            captions,
            [prompt for prompt, _ in tokens],
            [completion for _, completion in tokens],
            [self.cost(*pair) for pair in tokens],
            [failure(row, text) for row, text in zip(rows, texts, strict=True)],
        ]
        return pa.table(columns, schema=self.writes().append(pa.field(ERROR, pa.string())))

    def _text(self, answer: Answer) -> str | None:
        return None if answer.text is None else clean(answer.text, self.longest_caption) or None


def unasked(lack: str, n: int) -> list[Answer]:
    """In place of the answers about a sample that lacks a column."""
    return [Answer(None, f"no {lack}, which the prompt has a place for", tries=0)] * n


def total(counts: Sequence[int | None]) -> int | None:
    """The sum of those that are known; None where none is."""
    known = [count for count in counts if count is not None]
    return sum(known) if known else None


def failure(answers: Sequence[Answer], texts: Sequence[str | None]) -> str | None:
    """Why some answers of a sample are no texts, by the first of them; None where all are."""
    lost = [
        answer.error or "the answer has no letters" for answer, text in zip(answers, texts, strict=True) if not text
    ]
    if not lost:
        return None
    return f"endpoint: {lost[0]}" if len(answers) == 1 else f"endpoint: {len(lost)} of {len(answers)}: {lost[0]}"
