"""How likely a text belongs to its picture, by a model that reads the text while it looks (ITM).

    stage = ImageTextMatch(weights="runs/filter/towers.pt")
    stage.run(Batch.of(pa.table({"text": ["a red bicycle"]}), [jpeg]))          # itm 0.97

    columns:                                                        # in a recipe
      - image_text_match: {weights: Salesforce/blip-itm-base-coco, also: [blip]}    # itm, and blip_itm of a caption
    captions:
      emit:
        - texts: [{source: web, where: "itm > 0.5"}]                # CapFilt: a text of either kind that matches
        - texts: [{source: blip, where: "blip_itm > 0.5"}]

BLIP (Li et al. 2022, arXiv:2201.12086), section 3.3: the filter of CapFilt keeps what its head calls a match, that is
where the softmax of its two classes is above 0.5. Two of three pairs that the head has learned from are wrong, so a
model that cannot tell says 1/3 and is strict by itself; `fair` undoes that. Weights: none come with it. BLIP, BLIP-2
and ALBEF of the judge (towers.pt, a run's folder, an export), BLIP and BLIP-2 of transformers.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar
from weakref import WeakKeyDictionary

import numpy as np
import pyarrow as pa
from pydantic import Field, PrivateAttr, field_validator, model_validator

from stages import matcher_files, matchers
from stages.base import IMAGE, TEXT, Batch, Column, Need, Source
from stages.clip_model import threads
from stages.hub_weights import DAY_S
from stages.matchers import Matcher, probability
from stages.text_model import OfTextModel, passes
from stages.text_source import column_like, column_type, named
from stages.texts import texts_of

if TYPE_CHECKING:
    from torch import Tensor

LONGEST = 4096  # characters of a text that are looked at: no model here has tokens for more
PLACES = 5  # answers are rounded to: the likeliest of many captions are told from each other near 1
_PASS_GB = 0.06  # of a picture in a forward pass, 384 x 384 and ViT-B/16: activations, and what texts look at


class ImageTextMatch(OfTextModel):
    """`itm`: the probability that the text belongs to the picture, float32 in 0..1, rounded to 1e-5.

    Of a text other than the web's `<text>_itm`, a list where that is one. A picture is encoded once for all of its
    texts. Null where the text is, and, with an `error`, where there is no picture or the answer is no number.

    weights: the judge's towers.pt, run's folder or export; a folder of transformers' BlipForImageTextRetrieval or
        Blip2ForImageTextRetrieval, or its name on the hub.
    text: a column of texts, or of lists of them; left out, the web's.
    also: further ones, each with a column of its own: the picture, which costs most, is encoded for all of them once.
    name: of the column of `text`; left out, as above.
    fair: the probability as if half of the pairs were true; a threshold of 0.5 then is 1/3 without.
    batch: pictures, and pairs, in a forward pass; it decides the last bits.
    precision: bf16 computes in bfloat16. device: cuda asks for a GPU a worker. cpus: threads of a worker; device and
    cpus leave the column the same, to some last bits.

    Example:
        ImageTextMatch(weights="Salesforce/blip-itm-large-coco", device="cuda", precision="bf16")
    """

    sparse: ClassVar[bool] = True  # some fifty times a CLIP's cost: for survivors

    text: Source = TEXT
    also: tuple[Source, ...] = ()
    name: str | None = Field(default=None, pattern="^[a-z][a-z0-9_]{0,63}$")
    fair: bool = False
    batch: int = Field(default=32, ge=1, le=4096)
    _matcher: Matcher | None = PrivateAttr(default=None)
    _prepared: WeakKeyDictionary[Batch, _Inputs] | None = PrivateAttr(default=None)

    @field_validator("weights")
    @classmethod
    def _settled(cls, value: str) -> str:
        return matcher_files.settled(value)

    @property
    def columns(self) -> dict[str, Column]:
        """Name of each column that is written -> the texts that it is of."""
        return {self.name or named(self.text, "itm"): self.text} | {named(text, "itm"): text for text in self.also}

    @model_validator(mode="after")
    def _different(self) -> ImageTextMatch:
        if len(self.columns) != 1 + len(self.also):
            raise ValueError(f"the columns would be called {', '.join(self.columns)}: name each column of texts once")
        return self

    def files(self) -> tuple[str, ...]:
        """Configuration, tokenizer and weights; of a run its last checkpoint.

        Raises:
            ValueError: they are not there, and what to do.
        """
        try:
            return matcher_files.files(self.place)
        except ValueError as e:
            raise ValueError(f"image_text_match: {e}") from e

    def identity(self) -> dict[str, Any]:
        """Without the place of the weights: what is in the files, which are told by themselves, is what counts."""
        found = super().identity()
        del found["parameters"]["weights"]
        return found

    def reads(self) -> tuple[Column, ...]:
        return (IMAGE, *self.columns.values())

    def writes(self) -> pa.Schema:
        fields = [(name, column_type(text, pa.float32())) for name, text in self.columns.items()]
        return pa.schema([*fields, ("error", pa.string())])

    def need(self) -> Need:
        """Memory: the weights twice, as they are read beside what they are read into, and what forward passes hold.
        What cannot be had counts as nothing: `files` refuses it before it runs."""
        try:
            size_gb = sum(Path(file).stat().st_size for file in self.files()) / 1e9
        except ValueError:
            size_gb = 0.0
        return Need(self.cpus, 1 if self.device == "cuda" else 0, 1.5 + 2 * size_gb + _PASS_GB * self.batch, DAY_S)

    def open(self) -> None:
        """Load the model.

        Raises:
            ValueError: weights, packages or device are missing, or the model cannot match; says what to do.
        """
        self.files()
        try:
            loaded = matchers.load(self.place, self.precision, self.device)
        except ValueError as e:
            raise ValueError(f"image_text_match: {e}") from e
        self._prepared, self._matcher = WeakKeyDictionary(), loaded

    def prepare(self, batch: Batch) -> None:
        """Decode, cut to squares and into tokens: a thread may do it while `run` has other batches, after `open()`."""
        assert self._prepared is not None, "open() comes first: threads would make one each"
        self._prepared[batch] = self._inputs(batch)

    def run(self, batch: Batch) -> pa.Table:
        ready = None if self._prepared is None else self._prepared.pop(batch, None)
        given = self._inputs(batch) if ready is None else ready
        with threads(self.cpus):
            found = self._found(given)
        values = [None if np.isnan(p) else p for p in found[given.which].tolist()]
        parts = np.split(np.arange(len(values)), given.ends[:-1])  # one for each column of texts
        columns = [
            column_like(batch, text, [values[i] for i in part], pa.float32())
            for text, part in zip(self.columns.values(), parts, strict=True)
        ]
        return pa.table([*columns, pa.array(self._errors(batch, given, found), pa.string())], schema=self.writes())

    def _inputs(self, batch: Batch) -> _Inputs:
        model, images = self._model(), batch.images()
        pairs: dict[tuple[int, str], int] = {}
        which, ends = list[int](), list[int]()
        for column in self.columns.values():
            texts, offsets = texts_of(batch[column])
            samples = np.repeat(np.arange(batch.num_rows), np.diff(offsets)).tolist()
            for row, text in zip(samples, texts, strict=True):
                asked = text is not None and images[row] is not None
                which.append(pairs.setdefault((row, (text or "")[:LONGEST]), len(pairs)) if asked else -1)
            ends.append(len(which))
        rows = np.array([row for row, _ in pairs], np.int64)
        shown = np.unique(rows)
        return _Inputs(
            squares=model.squares([images[row] for row in shown]),  # type: ignore[misc]
            tokens=model.tokens([text for _, text in pairs]),
            rows=rows,
            picture=np.searchsorted(shown, rows),
            which=np.array(which, np.int64),
            ends=ends,
        )

    def _found(self, given: _Inputs) -> np.ndarray:
        """float64 (pairs and one,): probabilities; NaN where the answer is no number, and last, where `which` is -1."""
        model, found = self._model(), np.full(len(given.rows) + 1, np.nan)
        lengths = model.lengths(given.tokens)
        for some in self._together(given, lengths):
            seen = model.see(_filled(given.squares[some], self.batch))
            place = np.full(len(given.squares), -1)  # of a picture among those that are seen now
            place[some] = np.arange(len(some))
            pairs = np.flatnonzero(place[given.picture] >= 0)
            for rows, width in passes(lengths[pairs].tolist(), self.batch, given.tokens.shape[1]):
                chosen = pairs[rows]
                tokens = given.tokens[chosen, :width]
                found[chosen] = self._answers(seen, place[given.picture[chosen]], tokens)
        return found

    def _together(self, given: _Inputs, lengths: np.ndarray) -> Iterator[np.ndarray]:
        """Numbers of pictures, at most `batch` at once, those with texts of about one length together."""
        longest = np.zeros(len(given.squares), np.int64)
        np.maximum.at(longest, given.picture, lengths)
        order = np.argsort(longest, kind="stable")
        for start in range(0, len(order), self.batch):
            yield order[start : start + self.batch]

    def _answers(self, seen: Tensor, pictures: np.ndarray, tokens: np.ndarray) -> np.ndarray:
        """float64 (n,): of pairs of what is seen of a picture and the tokens of a text; NaN: no number."""
        import torch

        places = torch.from_numpy(_filled(pictures, self.batch)).to(seen.device)
        logits = self._model().logits(seen[places], _filled(tokens, self.batch))[: len(tokens)]
        found = probability(logits, fair=self.fair)
        return np.where(np.isfinite(logits).all(axis=1), np.round(found, PLACES), np.nan)

    def _errors(self, batch: Batch, given: _Inputs, found: np.ndarray) -> list[str | None]:
        """Why rows have no answer: the picture does not decode, or what the model says is no number."""
        errors = batch.image_errors()
        for pair in np.flatnonzero(np.isnan(found[:-1])):
            errors[given.rows[pair]] = "image_text_match: the model's answer is not a finite number"
        return errors

    def _model(self) -> Matcher:
        if self._matcher is None:
            self.open()
        assert self._matcher is not None
        return self._matcher


@dataclass(frozen=True)
class _Inputs:
    """What the model is given. squares: of pictures that have a text, uint8 (n, 3, size, size). tokens, rows, picture:
    of each different pair of a sample and a text the tokens, the sample, and the square. which: of each text of the
    columns, one after another, its pair, or -1; ends: how many of them are behind each column."""

    squares: np.ndarray
    tokens: np.ndarray
    rows: np.ndarray
    picture: np.ndarray
    which: np.ndarray
    ends: list[int]


def _filled(rows: np.ndarray, count: int) -> np.ndarray:
    """As many rows as a forward pass has; those of no sample are copies of the first."""
    return np.concatenate([rows, np.repeat(rows[:1], count - len(rows), axis=0)])
