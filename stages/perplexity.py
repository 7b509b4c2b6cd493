"""How surprised a language model is by the text: its perplexity under any causal model that transformers loads.

    stage = Perplexity(weights="models/gpt2")       # a folder, or a name on the hub: "openai-community/gpt2"
    stage.run(Batch.of(pa.table({"text": ["a red car on a street"]})))      # perplexity, perplexity_tokens 6

    columns:                                        # in a recipe
      - perplexity: {weights: models/qwen2.5-0.5b}
    filters:
      - top_fraction: {column: perplexity, fraction: 0.2, lowest: true, over: pool, on_missing: drop}

POINTS (Liu et al. 2024) keeps the 20 % of captions with the lowest perplexity under an off-the-shelf language model:
exp of minus the mean of log p(token | the tokens before it). Followed: the formula as the specification of this
project gives it, [M]; no text of the paper or code was at hand, so the model, the share of 20 % and what is done with
the first token are unverified. That texts under five tokens have none is this project's own choice: a single word's
perplexity says how rare it is and nothing else. Weights: any causal model; none come with the project.
Perplexities of two models do not compare, nor those of two tokenizers.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
from pydantic import Field

from stages import hub_weights
from stages.base import TEXT, Batch
from stages.clip_model import threads
from stages.text_model import OfTextModel, longest, passes

IGNORED = -100  # a position that no loss is asked for, as torch calls it


class Perplexity(OfTextModel):
    """Columns `perplexity` (float32, 1 or more) and `perplexity_tokens` (int32, tokens of the whole text).

    Null perplexity: no text, or under `min_tokens` tokens. The mean log-probability is rounded to 1e-4 before it is
    exponentiated, so values are exact to 0.01 %.

    min_tokens: fewest tokens that a perplexity is given for. max_tokens: what comes after them is not looked at.
    begin: put the model's beginning-of-text token first, where it has one, so that the first token has a probability;
    without it, and for models that have none, the mean is over the second token and on.
    """

    kind: ClassVar[hub_weights.Kind] = "AutoModelForCausalLM"

    min_tokens: int = Field(default=5, ge=1)
    max_tokens: int = Field(default=256, ge=2, le=8192)
    begin: bool = True

    def writes(self) -> pa.Schema:
        return pa.schema([("perplexity", pa.float32()), ("perplexity_tokens", pa.int32()), ("error", pa.string())])

    def run(self, batch: Batch) -> pa.Table:
        model, tokenizer = self.ready()
        texts = batch[TEXT].to_pylist()
        there = [row for row, text in enumerate(texts) if text is not None]
        found = (
            tokenizer([texts[row] for row in there], add_special_tokens=False, verbose=False)["input_ids"]
            if there
            else []
        )
        counts: list[int | None] = [None] * len(texts)
        asked: dict[int, list[int]] = {}
        for row, ids in zip(there, found, strict=True):
            counts[row] = len(ids)
            if len(ids) >= self.min_tokens:
                asked[row] = self._begun(ids[: self.max_tokens], tokenizer)
        with threads(self.cpus):
            means = dict(self._log_probabilities(asked, model, longest(model, tokenizer)))
        return self._table(counts, means)

    def _begun(self, ids: list[int], tokenizer: Any) -> list[int]:
        first = tokenizer.bos_token_id if self.begin else None
        return ids if first is None else [first, *ids]

    def _log_probabilities(
        self, asked: dict[int, list[int]], model: Any, most: int | None
    ) -> Iterator[tuple[int, float]]:
        """(row, mean natural log-probability of its tokens after the first)."""
        rows = list(asked)
        for some, width in passes([len(asked[row]) for row in rows], self.batch, most):
            chosen = [rows[i] for i in some]
            yield from zip(
                chosen, mean_log_probability(model, [asked[r] for r in chosen], self.batch, width), strict=True
            )

    def _table(self, counts: Sequence[int | None], means: dict[int, float]) -> pa.Table:
        with np.errstate(over="ignore"):
            values = {row: np.float32(np.exp(-round(mean, 4))) for row, mean in means.items()}
        lost = {row for row, value in values.items() if not np.isfinite(value)}
        error = "perplexity: the model's answer is not a finite number"
        return pa.table(
            [
                [None if row in lost else values.get(row) for row in range(len(counts))],
                counts,
                [error if row in lost else None for row in range(len(counts))],
            ],
            schema=self.writes(),
        )

    def _fits(self, model: Any, tokenizer: Any) -> None:
        most, asked = longest(model, tokenizer), self.max_tokens + (self.begin and tokenizer.bos_token_id is not None)
        if most is not None and asked > most:
            raise ValueError(f"the model takes {most} tokens: say `max_tokens: {most - (asked - self.max_tokens)}`")

    def _work_gb(self) -> float:
        """Logits of a pass, and what the loss makes of them."""
        return 1 + 3 * 4 * hub_weights.vocabulary(self.place) * self.batch * self.max_tokens / 1e9


def mean_log_probability(model: Any, rows: Sequence[Sequence[int]], batch: int, width: int) -> list[float]:
    """Mean natural log-probability of the second token and on, for each row of token numbers.

    Args:
        rows: at most `batch` of them, none longer than `width`; a row of one token has none: nan.
        batch, width: shape of the forward pass; what is not filled is filled up, and left out of the means.
    """
    import torch
    from torch.nn import functional as F

    ids = np.zeros((batch, width), np.int64)
    mask = np.zeros((batch, width), np.int64)
    for place in range(batch):  # what is over repeats the first row: a pass of fewer rows has the same shape
        row = rows[place if place < len(rows) else 0]
        ids[place, : len(row)], mask[place, : len(row)] = row, 1
    wanted = np.full((batch, width), IGNORED, np.int64)  # at each place the token that comes next
    wanted[:, :-1] = np.where(mask[:, 1:] == 1, ids[:, 1:], IGNORED)
    with torch.inference_mode():
        tokens, seen, target = (torch.from_numpy(a).to(model.device) for a in (ids, mask, wanted))
        logits = model(input_ids=tokens, attention_mask=seen).logits.float()
        loss = F.cross_entropy(logits.flatten(0, 1), target.flatten(), ignore_index=IGNORED, reduction="none")
        means = -loss.double().view(batch, width).sum(dim=1) / (target != IGNORED).sum(dim=1)
    return [float(mean) for mean in means[: len(rows)].cpu()]
