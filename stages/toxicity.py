"""How toxic the text is: the highest of a classifier's heads.

    stage = Toxicity(weights="models/detoxify-multilingual", heads=7)
    stage.run(Batch.of(pa.table({"text": ["you are wonderful"]})))   # toxicity 0.0006

    columns:                                                         # in a recipe
      - toxicity: {weights: models/detoxify-multilingual, heads: 7}
    filters:
      - {id: safe_text, where: "toxicity <= 0.1", on_missing: keep}

DataComp (Gadre et al. 2023) drops texts for which any of the seven heads of Detoxify's `multilingual` (Hanu and
Unitary, 2020) is above 0.1. Followed: the paper's rule as the project's specification gives it, [D], and Detoxify's
own code for the forward pass (`detoxify/core.py`: the tokenizer's special tokens, cut at the model's length, one
sigmoid a head). Weights: any sequence classifier in the layout of transformers. From Detoxify's checkpoint:
`d = Detoxify("multilingual"); d.model.save_pretrained(folder); d.tokenizer.save_pretrained(folder)`.

That network has more outputs than Detoxify shows: the seven come first, and after them stand those that it was trained
with to tell who is spoken of (male, female, ...). A mention of somebody is no insult, so models with more than seven
outputs are refused until `heads` says which count.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import numpy as np
import pyarrow as pa
from pydantic import Field, field_validator

from stages import hub_weights
from stages.base import TEXT, Batch
from stages.clip_model import threads
from stages.text_model import OfTextModel, longest, passes

MOST_HEADS = 7  # of Detoxify; a model with more must be told which are meant


class Toxicity(OfTextModel):
    """Column `toxicity`, float32 in 0..1, rounded to 1e-4: the highest of the chosen heads; null without a text.

    heads: how many of the first heads count, or their names as the model has them; None: all, where they are at most
    seven. scale: sigmoid, each head by itself (Detoxify); softmax, heads that share one: a model of `neutral` and
    `toxic` then wants `heads: [toxic]`. max_tokens: what comes after them is not looked at.
    """

    kind: ClassVar[hub_weights.Kind] = "AutoModelForSequenceClassification"

    heads: int | tuple[str, ...] | None = None
    scale: Literal["sigmoid", "softmax"] = "sigmoid"
    max_tokens: int = Field(default=512, ge=8, le=8192)

    @field_validator("heads")
    @classmethod
    def _some(cls, heads: int | tuple[str, ...] | None) -> int | tuple[str, ...] | None:
        if heads is not None and (heads == () or (isinstance(heads, int) and heads < 1)):
            raise ValueError("toxicity: `heads` is how many of the first heads count, or their names")
        return heads

    def writes(self) -> pa.Schema:
        return pa.schema([("toxicity", pa.float32()), ("error", pa.string())])

    def run(self, batch: Batch) -> pa.Table:
        model, tokenizer = self.ready()
        texts = batch[TEXT].to_pylist()
        there = [row for row, text in enumerate(texts) if text is not None]
        found = self._tokens([texts[row] for row in there], tokenizer) if there else []
        scores = np.full(len(texts), np.nan)
        with threads(self.cpus):
            for some, width in passes([len(ids) for ids in found], self.batch, longest(model, tokenizer)):
                rows = [found[i] for i in some]
                scores[[there[i] for i in some]] = self._highest(rows, width, model, tokenizer)
        asked = [row for row, ids in zip(there, found, strict=True) if ids]  # a text may be no token at all
        lost = np.isnan(scores) & np.isin(np.arange(len(texts)), asked)
        errors = ["toxicity: the model's answer is not a finite number" if bad else None for bad in lost]
        values = pa.array(np.round(scores, 4).astype(np.float32), from_pandas=True)
        return pa.table([values, pa.array(errors, pa.string())], schema=self.writes())

    def _tokens(self, texts: Sequence[str], tokenizer: Any) -> list[list[int]]:
        cut = tokenizer(list(texts), truncation=True, max_length=self.max_tokens, verbose=False)
        return [list(ids) for ids in cut["input_ids"]]

    def _highest(self, rows: Sequence[Sequence[int]], width: int, model: Any, tokenizer: Any) -> np.ndarray:
        """float64 (rows,): the highest of the chosen heads of each."""
        import torch

        fill = tokenizer.pad_token_id  # some models tell by it where the text ends
        ids = np.full((self.batch, width), fill, np.int64)
        mask = np.zeros((self.batch, width), np.int64)
        for place in range(self.batch):  # what is over repeats the first row: a pass always has the same shape
            row = rows[place if place < len(rows) else 0]
            ids[place, : len(row)], mask[place, : len(row)] = row, 1
        with torch.inference_mode():
            tokens, seen = (torch.from_numpy(a).to(model.device) for a in (ids, mask))
            logits = model(input_ids=tokens, attention_mask=seen).logits.float()
            chances = logits.sigmoid() if self.scale == "sigmoid" else logits.softmax(dim=1)
            highest: np.ndarray = chances[: len(rows), self._chosen(model)].amax(dim=1).double().cpu().numpy()
        return highest

    def _chosen(self, model: Any) -> list[int]:
        """Numbers of the heads that count.

        Raises:
            ValueError: the model has no such head, or so many that it must be said which.
        """
        labels = [str(model.config.id2label[i]) for i in range(model.config.num_labels)]
        said = f"the model has {len(labels)} heads: {', '.join(labels)}"
        if self.heads is None and len(labels) > MOST_HEADS:
            raise ValueError(f"{said}; say which tell of toxicity, by name or as the number of the first: `heads: 7`")
        if self.heads is None or isinstance(self.heads, int):
            count = len(labels) if self.heads is None else self.heads
            if count > len(labels):
                raise ValueError(f"`heads: {count}`, and {said}")
            return list(range(count))
        if unknown := [name for name in self.heads if name not in labels]:
            raise ValueError(f"no head {unknown[0]!r}: {said}")
        return [labels.index(name) for name in self.heads]

    def _fits(self, model: Any, tokenizer: Any) -> None:
        self._chosen(model)
        if tokenizer.pad_token_id is None:
            raise ValueError("the tokenizer has no token for filling up: set its pad_token and save it again")
        most = longest(model, tokenizer)
        if most is not None and self.max_tokens > most:
            raise ValueError(f"the model takes {most} tokens: say `max_tokens: {most}`")
