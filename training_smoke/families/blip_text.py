"""Texts for models of transformers' BLIP classes: their numbers, and which special ones the model begins and ends with.

words = Words.ours(Vocabulary.small())
words.encode(["A dog runs."], context=8)           # int64 [1, 8]
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from training_smoke.errors import TrainingError
from training_smoke.vocabulary import Vocabulary

if TYPE_CHECKING:
    from transformers import BlipTextConfig, PreTrainedTokenizerBase


@dataclass(frozen=True)
class Words:
    """first: what a text begins with; fused, begin: what takes its place where the text is read with a picture, and
    where it is written ([ENC] and [DEC] of BLIP); end: of a text; pad: behind it; mask: of a hidden token, or None.
    """

    tokenizer: PreTrainedTokenizerBase
    pad: int
    first: int
    fused: int
    begin: int
    end: int
    mask: int | None = None

    @classmethod
    def ours(cls, vocabulary: Vocabulary) -> Words:
        """Texts begin alike for all three uses: transformers' classes take the tokenizer's first token for reading with
        a picture, where BLIP's code has [ENC], so that a model with another one would be asked wrongly there."""
        v = vocabulary
        # `tokenizer(text)` of who loads an export is what the model has seen.
        return cls(_plain(v.hf(around=True)), v.pad, v.bos, v.bos, v.bos, v.eos, v.mask)

    @classmethod
    def theirs(cls, tokenizer: PreTrainedTokenizerBase, config: BlipTextConfig) -> Words:
        """Of a folder in transformers' format. BLIP adds [DEC] and [ENC] to BERT's vocabulary, in this order; their
        tokenizers do not know them, their configuration names the former.

        Raises:
            TrainingError: the tokenizer has no fast form.
        """
        if not tokenizer.is_fast:
            raise TrainingError(f"a {type(tokenizer).__name__} has no tokenizer.json: save it with a fast tokenizer")
        first, said = tokenizer("a")["input_ids"][0], config.to_dict()
        begin: int = said["bos_token_id"]
        fused = first if begin == first else begin + 1
        return cls(_plain(tokenizer), said["pad_token_id"], first, fused, begin, said["sep_token_id"])

    def encode(self, texts: Sequence[str], context: int) -> Tensor:
        """int64 [n, context], `pad` behind a text; of a longer one the first, its last token still the end."""
        if not texts:
            return torch.full((0, context), self.pad)
        found = self.tokenizer(
            list(texts), padding="max_length", truncation=True, max_length=context, return_tensors="pt"
        )
        tokens: Tensor = found["input_ids"]
        return tokens

    def decode(self, tokens: Tensor) -> list[str]:
        """int64 [n, t] -> n texts, up to the first end; special tokens left out."""
        rows = [row[: row.index(self.end)] if self.end in row else row for row in tokens.tolist()]
        texts: list[str] = self.tokenizer.batch_decode(rows, skip_special_tokens=True)
        return [text.strip() for text in texts]

    def there(self, tokens: Tensor) -> Tensor:
        """int64, 1 where a token is and 0 behind the text: what transformers calls attention_mask."""
        return (tokens != self.pad).long()

    def trimmed(self, tokens: Tensor) -> Tensor:
        """Without the places where all texts have ended. On a GPU all of it: the shortening would wait for the device,
        and shapes that change are compiled anew."""
        if tokens.is_cuda:
            return tokens
        return tokens[:, : max(1, int(self.there(tokens).sum(dim=1).max()))]

    def as_json(self) -> str:
        """All of it, for `of_json`."""
        names = {n: str(v) for n, v in self.tokenizer.special_tokens_map.items() if isinstance(v, str)}
        numbers = [self.pad, self.first, self.fused, self.begin, self.end, self.mask]
        return json.dumps([self.tokenizer.backend_tokenizer.to_str(), names, numbers])  # type: ignore[attr-defined]

    @classmethod
    def of_json(cls, said: str) -> Words:
        from tokenizers import Tokenizer
        from transformers import PreTrainedTokenizerFast

        tokenizer, names, numbers = json.loads(said)
        made: Any = PreTrainedTokenizerFast(tokenizer_object=Tokenizer.from_str(tokenizer), **names)
        return cls(_plain(made), *numbers)


def _plain(tokenizer: Any) -> Any:
    """The tokenizer with "<s>" in a text as text: captions of the web are not to end where they like."""
    tokenizer.split_special_tokens = True
    tokenizer.return_token_type_ids = False
    return tokenizer


def trained_words(towers_context: int | None, default: int, positions: int) -> int:
    """How many tokens a text has: as asked for, or the default, and no more than the model has positions for.

    Raises:
        TrainingError: more.
    """
    context = towers_context or default
    if not 3 <= context <= positions:
        raise TrainingError(f"a context of {context}: this model has positions for 3 to {positions} tokens")
    return context
