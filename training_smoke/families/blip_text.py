"""Texts for models of transformers' BLIP classes: their numbers, and which special ones the model begins and ends with.

words = Words.ours(Vocabulary.small())
words.encode(["A dog runs."], context=8)           # int64 [1, 8]
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from training_smoke.errors import TrainingError
from training_smoke.vocabulary import Vocabulary

if TYPE_CHECKING:
    from transformers import BlipTextConfig, PreTrainedTokenizerBase

LEAST_WORDS = 100
"""Fewer tokens no trained model has."""


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
        numbers = [self.pad, self.first, self.fused, self.begin, self.end, self.mask]
        return json.dumps([*tokenizer_said(self.tokenizer), numbers])

    @classmethod
    def of_json(cls, said: str) -> Words:
        tokenizer, names, numbers = json.loads(said)
        return cls(_plain(tokenizer_of(tokenizer, names)), *numbers)


def _plain(tokenizer: Any) -> Any:
    """The tokenizer with "<s>" in a text as text: captions of the web are not to end where they like."""
    tokenizer.split_special_tokens = True
    tokenizer.return_token_type_ids = False
    return tokenizer


def tokenizer_said(tokenizer: Any) -> tuple[str, dict[str, Any]]:
    """A fast tokenizer as JSON values, for `tokenizer_of`: what it computes, and the names of its special tokens."""
    names: dict[str, Any] = {n: str(v) for n, v in tokenizer.special_tokens_map.items() if isinstance(v, str)}
    cleans = bool(getattr(tokenizer, "clean_up_tokenization_spaces", False))
    return tokenizer.backend_tokenizer.to_str(), {**names, "clean_up_tokenization_spaces": cleans}


def tokenizer_of(said: str, names: Mapping[str, Any]) -> Any:
    """Of whatever class it was, one of PreTrainedTokenizerFast that numbers and writes texts alike."""
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast

    return PreTrainedTokenizerFast(tokenizer_object=Tokenizer.from_str(said), **names)


def check_words(tokenizer: Any, vocabulary: int, place: str, *, may_add: bool = False) -> None:
    """Is this the tokenizer of a model that knows so many tokens? Of a folder without any, transformers makes one of
    five words and says nothing.

    Args:
        may_add: tokens that were added to the tokenizer may be more than the model knows: it is given rows for them.

    Raises:
        TrainingError: it is not.
    """
    added = tokenizer.get_added_vocab() if may_add else {}
    numbers = [number for token, number in tokenizer.get_vocab().items() if token not in added]
    most = max(numbers, default=-1)
    if len(numbers) < max(LEAST_WORDS, vocabulary // 2) or most >= vocabulary:
        raise TrainingError(
            f"{place} has a tokenizer of {len(numbers)} tokens, numbered up to {most}, and a model that knows "
            f"{vocabulary}: they do not belong together, or the tokenizer's files (tokenizer.json) are missing"
        )


def save_processor(
    folder: Path, kind: str, tokenizer: Any, size: int, pixels: tuple[Sequence[float], Sequence[float]], **how: Any
) -> None:
    """What transformers' AutoProcessor needs of pictures and texts, which are prepared as for our evaluation: the
    shorter side by Pillow's bicubic filter, the centre.

    Args:
        kind: the processor's class. pixels: mean and deviation of the colours, of [0, 1]. how: more for the processor.
    """
    pictures = {
        "image_processor_type": "CLIPImageProcessor", "processor_class": kind, "do_convert_rgb": True,
        "do_resize": True, "size": {"shortest_edge": size}, "resample": 3,
        "do_center_crop": True, "crop_size": {"height": size, "width": size}, "do_rescale": True,
        "rescale_factor": 1 / 255, "do_normalize": True, "image_mean": list(pixels[0]), "image_std": list(pixels[1]),
    }  # fmt: skip
    tokenizer.backend_tokenizer.no_truncation()  # else the file says how the last texts were cut
    tokenizer.backend_tokenizer.no_padding()
    tokenizer.save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps(pictures, indent=2))
    (folder / "processor_config.json").write_text(json.dumps({"processor_class": kind, **how}, indent=2))


def trained_words(towers_context: int | None, default: int, positions: int) -> int:
    """How many tokens a text has: as asked for, or the default, and no more than the model has positions for.

    Raises:
        TrainingError: more.
    """
    context = towers_context or default
    if not 3 <= context <= positions:
        raise TrainingError(f"a context of {context}: this model has positions for 3 to {positions} tokens")
    return context
