"""Texts that a causal language model of transformers goes on with, many prompts at once.

    writer = CausalWriter(model, tokenizer)
    writer.write(["write image captions differently,\\n\\n..."], ["<uid>/0"], Sampling("nucleus", p=0.95), batch=16)

By `training_smoke.generation`: draws are functions of (seed, key, place), and texts that have ended leave the batch. A
prompt is read in one pass, its keys and values kept; prompts of about one length go together, filled up on the left.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from stages.apart import Apart
from stages.captioner_decode import OneEnd
from stages.endpoint_client import Answer
from stages.prompts import one_line
from stages.text_model import longest, passes
from training_smoke.generation import Decoder, generate
from training_smoke.sampling import Sampling

State = tuple[Any, Tensor]
"""(keys and values of what was read, int64 [rows, t]: 1 where it counts)."""


@dataclass
class CausalWriter:
    """chat: put prompts in the tokenizer's chat template; None: where it has one. Else a text ends with its line."""

    model: Any
    tokenizer: Any
    chat: bool | None = None
    apart: Apart = field(default_factory=Apart)

    def __post_init__(self) -> None:
        if self.chat is None:
            self.chat = bool(self.tokenizer.chat_template)

    def write(self, prompts: Sequence[str], keys: Sequence[str], how: Sampling, batch: int) -> list[Answer]:
        """An answer to each prompt; one whose prompt is too long for the model, or makes its logits no numbers, has an
        `error`."""
        tokens = [self.tokens(prompt) for prompt in prompts]
        most = longest(self.model, self.tokenizer)
        found: list[Answer | None] = [None] * len(tokens)
        fit = []
        for number, ids in enumerate(tokens):
            if most is not None and len(ids) + how.max_tokens > most:
                said = f"{len(ids)} tokens of prompt and {how.max_tokens} of answer are more than the model's {most}"
                found[number] = Answer(None, f"{said}: let `longest` or `max_tokens` be less")
            else:
                fit.append(number)
        for some, _ in passes([len(tokens[number]) for number in fit], batch, None):
            for number, answer, why in self.apart(
                [fit[i] for i in some], lambda ns: self._written([tokens[n] for n in ns], [keys[n] for n in ns], how)
            ):
                found[number] = answer or Answer(None, one_line(str(why))[:200])
        return [answer for answer in found if answer is not None]

    def tokens(self, prompt: str) -> list[int]:
        """Token numbers of a prompt, with what the model wants around it; no part of it is read as a special token."""
        prompt = self._plain(prompt)
        if not self.chat:
            return list(self.tokenizer(prompt, verbose=False)["input_ids"]) or [self._begin]
        said = [{"role": "user", "content": prompt}]
        whole = self.tokenizer.apply_chat_template(said, add_generation_prompt=True, tokenize=False)
        return list(self.tokenizer(whole, add_special_tokens=False, verbose=False)["input_ids"])

    def _plain(self, prompt: str) -> str:
        """Without the tokenizer's own special tokens, which texts of the web may spell."""
        before = None
        while before != prompt:
            before = prompt
            for special in self.tokenizer.all_special_tokens:
                prompt = prompt.replace(special, "")
        return prompt

    def _written(self, prompts: Sequence[Sequence[int]], keys: Sequence[str], how: Sampling) -> list[Answer]:
        width = max(map(len, prompts))
        ids = torch.full((len(prompts), width), self._fill)
        seen = torch.zeros_like(ids)
        for row, prompt in enumerate(prompts):
            ids[row, width - len(prompt) :] = torch.tensor(prompt)
            seen[row, width - len(prompt) :] = 1
        ids, seen = ids.to(self.model.device), seen.to(self.model.device)
        ends = self._ends
        decoder: Decoder = _Prompted(self.model, ids[:, :-1], seen)
        if len(ends) > 1:
            decoder = OneEnd(decoder, ends, how.kind in ("nucleus", "top_k"))
        if not self.chat:
            decoder = _OneLine(decoder, self._line_ends, ends[0])
        with torch.inference_mode():
            rows = generate(decoder, len(keys), how, keys, self._begin, ends[0], self._fill, prefix=ids[:, -1:])
        return [self._answer(row.tolist(), len(prompt), how) for row, prompt in zip(rows.cpu(), prompts, strict=True)]

    def _answer(self, row: list[int], of_prompt: int, how: Sampling) -> Answer:
        said = row[: row.index(self._ends[0])]
        text = self.tokenizer.decode(said, skip_special_tokens=True)
        whole = len(said) < how.max_tokens
        return Answer(text, None, "stop" if whole else "length", of_prompt, len(said))

    @cached_property
    def _ends(self) -> tuple[int, ...]:
        """Tokens that end a text; the tokenizer's own first."""
        said = self.model.generation_config.eos_token_id
        several = said if isinstance(said, list) else [said]
        found = dict.fromkeys(end for end in (self.tokenizer.eos_token_id, *several) if end is not None)
        if not found:
            raise ValueError("the model has no token that ends a text: its tokenizer lacks eos_token")
        return tuple(found)

    @cached_property
    def _fill(self) -> int:
        fill = self.tokenizer.pad_token_id
        return self._ends[0] if fill is None else int(fill)

    @cached_property
    def _begin(self) -> int:
        begin = self.tokenizer.bos_token_id
        return self._ends[0] if begin is None else int(begin)

    @cached_property
    def _line_ends(self) -> Tensor:
        """bool [vocabulary]: tokens with a line's end in them."""
        count = int(self.model.get_output_embeddings().weight.shape[0])
        known = self.tokenizer.convert_ids_to_tokens(range(min(count, len(self.tokenizer))))
        marks = [any(mark in (token or "") for mark in ("\n", "Ċ", "<0x0A>")) for token in known]
        return torch.tensor(marks + [False] * (count - len(marks)), device=self.model.device)


@dataclass
class _Prompted:
    """A `Decoder` of rows that have read a prompt: ids int64 [n, t], all of it but the last token; seen [n, t + 1]."""

    model: Any
    ids: Tensor
    seen: Tensor

    def begin(self) -> State:
        if not self.ids.shape[1]:
            return None, self.seen
        _, kept = self._read(self.ids, self.seen[:, :-1], None)
        if kept is None or not hasattr(kept, "batch_select_indices"):
            raise ValueError(f"{type(self.model).__name__} keeps no keys and values, by which texts are written here")
        return kept, self.seen

    def next(self, tokens: Tensor, state: State) -> tuple[Tensor, State]:
        kept, seen = state
        logits, kept = self._read(tokens[:, None], seen, kept)
        return logits, (kept, torch.cat([seen, torch.ones_like(seen[:, :1])], dim=1))

    def rows(self, state: State, index: Tensor) -> State:
        kept, seen = state
        if kept is not None:
            kept.batch_select_indices(index)
        return kept, seen[index]

    def _read(self, ids: Tensor, seen: Tensor, kept: Any) -> tuple[Tensor, Any]:
        """(logits after the last of ids, keys and values)."""
        takes = _parameters(type(self.model))
        more: dict[str, Any] = {}
        if "position_ids" in takes:
            more["position_ids"] = (seen.cumsum(dim=1) - 1).clamp(min=0)[:, -ids.shape[1] :]
        if "logits_to_keep" in takes:
            more["logits_to_keep"] = 1
        out = self.model(input_ids=ids, attention_mask=seen, past_key_values=kept, use_cache=True, **more)
        return out.logits[:, -1], out.past_key_values


@dataclass(frozen=True)
class _OneLine:
    """A decoder whose texts end behind a token with a line's end in it."""

    decoder: Decoder
    line_ends: Tensor
    eos: int

    def begin(self) -> Any:
        return self.decoder.begin()

    def next(self, tokens: Tensor, state: Any) -> tuple[Tensor, Any]:
        logits, state = self.decoder.next(tokens, state)
        over = self.line_ends[tokens]
        ended = torch.full_like(logits[:1], -torch.inf)
        ended[:, self.eos] = 0
        return torch.where(over[:, None], ended, logits), state

    def rows(self, state: Any, index: Tensor) -> Any:
        return self.decoder.rows(state, index)


def _parameters(kind: type) -> frozenset[str]:
    return frozenset(inspect.signature(kind.forward).parameters)  # type: ignore[attr-defined]
