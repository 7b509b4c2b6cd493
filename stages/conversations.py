"""Conversations about a picture from its captions and boxes, by any OpenAI-compatible server: data to train LLaVA on.

    captions:                                                      # in a recipe
      make:
        - endpoint_caption: {urls: [http://gpu1:8000/v1], model: llava-1.5-7b, name: llava}
        - conversations: {urls: [http://gpu2:8000/v1], model: llama-3-70b, captions: [text, llava], kind: mixed,
                          name: talk, max_tokens: 700}
      emit:
        - texts: [{source: talk, p: 1}]                            # stage 2; stage 1 takes plain captions

LLaVA-Instruct-158K (Liu et al. 2023): a language model that sees no picture writes questions and answers, a detailed
description, or a question that needs reasoning, from captions and boxes of objects. What it writes is checked, and
stored as the JSON of its turns, which `training_smoke` trains on and `curate export-llava` writes out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from pydantic import Field

from stages.base import ERROR, IMAGE, TEXT, UID, Batch, Column, Source, StopRun
from stages.conversation_turns import Rules, UnfitAnswer, turns, written
from stages.conversation_words import ASK_DETAIL, SHARES, SYSTEM, TASKS, Kind
from stages.draws import uniform
from stages.endpoint import OfEndpoint
from stages.endpoint_client import Answer, Request
from stages.prompts import LONGEST, fill
from stages.texts import is_list, rows_of, texts_of

LABELS = ("label", "category", "name", "text", "class")
PLACES = ("box", "bbox", "polygon", "points")
DIGITS = 3  # of a coordinate
SLACK = 0.25  # by which detectors may go over the edge, with what is turned
FEWEST = 8  # samples with boxes: unfit ones of fewer may be damaged samples, and are no word about the recipe


@dataclass(frozen=True)
class _Unfit:
    """Why a box is not of fractions of width and height."""

    why: str


_Box = dict[str, Any]
_Boxes = list[_Box] | _Unfit
"""What is told of the boxes of a sample, or why one of them is unfit."""


@dataclass(frozen=True)
class _Ask:
    row: int
    kind: Kind
    request: Request


class Conversations(OfEndpoint):
    """Columns `<name>` (string: JSON list of turns), `<name>_kind` (string), `<name>_prompt_tokens`,
    `<name>_completion_tokens` (int32), `<name>_cost` (float64).

    A sample without captions and boxes is null without an error; one with an unfit box, which nothing is asked about,
    or whose answer was unfit is null, with an `error`.

    name: begins the names of the columns.
    captions: columns of texts, one or several a sample. boxes: a column with a list of boxes a sample: of numbers x1,
        y1, x2, y2, ... (`text_boxes`), or of structs with a label and such numbers; fractions of width and height: one
        with numbers far outside of 0 to 1, or with corners in another order, is unfit, and where most boxes of a batch
        are, the run ends, since their units are others. box_label: of boxes without one.
    box_form: what four numbers of a box are: its corners (xyxy), or a corner, width and height (xywh), as COCO's are.
    kind: what is written; mixed draws it by uid, in the shares of LLaVA-Instruct-158K (58, 23 and 77 of 158).
    turns: questions at most, of a conversation. image: send the picture, too, to a model that sees.
    most_captions, most_boxes: of a sample that are told; the first ones. longest: characters of each caption.
    longest_said: of a question or an answer; longer ones are refused.
    leaks: keep answers that speak of captions or coordinates.
    """

    name: str = Field(default="conversation", pattern="^[a-z][a-z0-9_]{0,31}$")
    captions: tuple[Source, ...] = (TEXT,)
    boxes: Source | None = None
    box_form: Literal["xyxy", "xywh"] = "xyxy"
    box_label: str = "object"
    kind: Literal["conversation", "detail", "reasoning", "mixed"] = "conversation"
    turns: int = Field(default=5, ge=1, le=32)
    image: bool = False
    most_captions: int = Field(default=8, ge=1, le=100)
    most_boxes: int = Field(default=40, ge=1, le=1000)
    longest: int = Field(default=LONGEST, ge=1, le=100_000)
    longest_said: int = Field(default=4096, ge=1, le=100_000)
    leaks: bool = False
    max_tokens: int = Field(default=512, ge=1)

    def reads(self) -> tuple[Column, ...]:
        boxes = () if self.boxes is None else (self.boxes,)
        return (*((IMAGE,) if self.image else ()), *self.captions, *boxes, UID)

    def writes(self) -> pa.Schema:
        return pa.schema(
            [
                (self.name, pa.string()),
                (f"{self.name}_kind", pa.string()),
                (f"{self.name}_prompt_tokens", pa.int32()),
                (f"{self.name}_completion_tokens", pa.int32()),
                (f"{self.name}_cost", pa.float64()),
            ]
        )

    @property
    def _rules(self) -> Rules:
        return Rules(self.turns, self.longest_said, self.leaks)

    def requests(self, batch: Batch) -> list[Request]:
        """One of each row that something is known of."""
        return [ask.request for ask in self._asks(batch, self._boxes(batch))]

    def run(self, batch: Batch) -> pa.Table:
        boxes = self._boxes(batch)
        asks, questions = self._asks(batch, boxes), self._questions(batch)
        rows: list[dict[str, Any]] = [
            {ERROR: f"conversations: {of_row.why}"} if isinstance(of_row, _Unfit) else {} for of_row in boxes
        ]
        for ask, answer in zip(asks, self.answers(batch), strict=True):
            rows[ask.row] = self._row(ask.kind, answer, questions[ask.row])
        return pa.Table.from_pylist(rows, schema=self.writes().append(pa.field(ERROR, pa.string())))

    def _row(self, kind: Kind, answer: Answer, question: str) -> dict[str, Any]:
        said, error = self._said(kind, answer, question)
        return {
            self.name: said,
            f"{self.name}_kind": kind,
            f"{self.name}_prompt_tokens": answer.prompt_tokens,
            f"{self.name}_completion_tokens": answer.completion_tokens,
            f"{self.name}_cost": self.cost(answer.prompt_tokens, answer.completion_tokens),
            ERROR: None if error is None else f"conversations: {error}",
        }

    def _said(self, kind: Kind, answer: Answer, question: str) -> tuple[str | None, str | None]:
        """(the turns, None) or (None, why there are none)."""
        if answer.text is None:
            return None, answer.error
        if answer.finish == "length":
            return None, f"the answer was cut at {self.max_tokens} tokens: raise max_tokens"
        try:
            return written(turns(kind, answer.text, self._rules, question)), None
        except UnfitAnswer as e:
            return None, str(e)

    # ------------------------------------------------------------------------------------------ what is asked

    def _asks(self, batch: Batch, boxes: Sequence[_Boxes]) -> list[_Ask]:
        captions, kinds = self._captions(batch), self._kinds(batch)
        uids = [uid.hex() for uid in batch[UID].to_pylist()]
        asks: list[_Ask] = []
        for row, (uid, of_row) in enumerate(zip(uids, boxes, strict=True)):
            if not isinstance(of_row, _Unfit) and (captions[row] or of_row):
                known = {"captions": captions[row], "boxes": of_row, "turns": self.turns}
                prompt = fill(TASKS[kinds[row]], known, self.longest)
                asks.append(_Ask(row, kinds[row], Request(prompt, self._picture(batch, row), f"{uid}/0", SYSTEM)))
        return asks

    def _picture(self, batch: Batch, row: int) -> Any:
        return (lambda: batch.image_bytes(row)) if self.image else None

    def _captions(self, batch: Batch) -> list[list[str]]:
        found: list[list[str]] = [[] for _ in range(batch.num_rows)]
        for column in self.captions:
            for row, texts in zip(found, rows_of(*texts_of(batch[column])), strict=True):
                row += [text for text in texts if text and text.strip()]
        return [row[: self.most_captions] for row in found]

    def _boxes(self, batch: Batch) -> Sequence[_Boxes]:
        """Of each row.

        Raises:
            ValueError: the column is of something else.
            StopRun: most boxes are unfit: they are in other units, or of another form, than the recipe says.
        """
        if self.boxes is None:
            return [[] for _ in range(batch.num_rows)]
        column = batch[self.boxes]
        if not _has_boxes(column.type):
            raise ValueError(
                f"`boxes: {self.boxes.field}`: is of type {column.type}; it takes lists of x1, y1, x2, y2, ..., or "
                f"lists of structs of one of {', '.join(LABELS)} and such a list, one of {', '.join(PLACES)}"
            )
        places = _places(column.type)
        found = [[self._box(one, places) for one in cell or ()] for cell in column.to_pylist()]
        self._check_units(found)
        return [self._of_sample(boxes) for boxes in found]

    def _box(self, one: Any, places: tuple[str, ...]) -> _Box | _Unfit | None:
        """A label, and the corners of the rectangle around a list of points; None where it is no such list.

        Args:
            places: fields of numbers, of a box that is a struct.
        """
        label, points = self.box_label, one
        if isinstance(one, Mapping):
            label = next((one[n] for n in LABELS if isinstance(one.get(n), str)), label)
            points = next((one[n] for n in places if one.get(n) is not None), None)
        values = np.array(points if points is not None else [], np.float64)  # null is not a number
        if len(values) < 4 or len(values) % 2 or not np.isfinite(values).all():
            return None
        if self.box_form == "xywh":
            if len(values) != 4:
                return None
            values[2:] += values[:2]
        turned = len(values) == 4 and (values[2:] < values[:2]).any()
        if turned or values.min() < -SLACK or values.max() > 1 + SLACK:
            return _Unfit(f"the box {str(points)[:80]} is not of fractions of width and height as {self.box_form}")
        x, y = values[::2].clip(0, 1), values[1::2].clip(0, 1)
        return {"what": label, "box": [round(float(v), DIGITS) for v in (x.min(), y.min(), x.max(), y.max())]}

    def _check_units(self, found: Sequence[Sequence[_Box | _Unfit | None]]) -> None:
        """A sample counts once, whatever the number of its boxes: no single one ends a run."""
        samples = [there for boxes in found if (there := [box for box in boxes if box is not None])]
        unfit = [[box for box in boxes if isinstance(box, _Unfit)] for boxes in samples]
        share = sum(len(bad) / len(boxes) for bad, boxes in zip(unfit, samples, strict=True))
        if len(samples) >= FEWEST and share > len(samples) / 2:
            first = next(box for bad in unfit for box in bad)
            raise StopRun(
                f"`boxes: {self.boxes and self.boxes.field}`: most boxes of a batch are unfit; {first.why}: divide by "
                "`width` and `height`, and say `box_form: xywh` where it is COCO's bbox"
            )

    def _of_sample(self, boxes: Sequence[_Box | _Unfit | None]) -> _Boxes:
        unfit = next((box for box in boxes if isinstance(box, _Unfit)), None)
        return unfit or [box for box in boxes if isinstance(box, dict)][: self.most_boxes]

    def _kinds(self, batch: Batch) -> list[Kind]:
        if self.kind != "mixed":
            return [self.kind] * batch.num_rows
        edges, names = np.cumsum(list(SHARES.values()))[:-1], list(SHARES)
        drawn = np.searchsorted(edges, uniform(self.seed, "conversations/kind", batch[UID]), "right")
        return [names[i] for i in drawn]

    def _questions(self, batch: Batch) -> list[str]:
        """What the human asks before a detailed description."""
        drawn = uniform(self.seed, "conversations/ask", batch[UID])
        return [ASK_DETAIL[int(u * len(ASK_DETAIL))] for u in drawn]


def _has_boxes(kind: pa.DataType) -> bool:
    """Whether a column is of lists of lists of numbers, or of structs that have one."""
    if not is_list(kind):
        return False
    return bool(_places(kind)) or _numbers(kind.value_type)


def _places(kind: pa.DataType) -> tuple[str, ...]:
    """The fields of numbers, where a column is of lists of structs, the first of `PLACES` first."""
    if not pa.types.is_struct(kind.value_type):
        return ()
    of = {f.name: f.type for f in kind.value_type}
    return tuple(name for name in PLACES if name in of and _numbers(of[name]))


def _numbers(kind: pa.DataType) -> bool:
    return is_list(kind) and (pa.types.is_floating(kind.value_type) or pa.types.is_integer(kind.value_type))
