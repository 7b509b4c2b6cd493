"""Pieces of words and their numbers, for small models that write text.

    vocabulary = Vocabulary.small()                                   # 4,096 pieces
    tokens = vocabulary.encode(["A dog runs."], context=8)            # int64 [1, 8]
    vocabulary.decode(tokens)                                         # ["a dog runs."]

The pieces are those that CLIP's byte-pair encoding made first (Radford et al. 2021, section 2.4; the file that
open_clip carries): a vocabulary of any size without training one, and every string has an encoding, as every byte is a
piece. Texts are lower-cased; HTML and broken Unicode are left as they are.
"""

from __future__ import annotations

import gzip
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from training_smoke.errors import TrainingError

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast

SPECIALS = ("<pad>", "<s>", "</s>", "<mask>", "<image>")
END = "</w>"  # a piece that ends a word says so
BYTES = 2 * 256  # each alone, within a word and at its end
WORDS = r"'s|'t|'re|'ve|'m|'ll|'d|\p{L}+|\p{N}|[^\s\p{L}\p{N}]+"
JOINED = (
    r"(?<=[\p{L}\p{N}]) (?=[.,!?;:%)\]]+(?: |\z))",  # what stands at the end of the word before it
    r"(?<=\p{L}) (?='(?:s|t|re|ve|m|ll|d)(?: |\z))",
    r"(?<=(?: |\A)[(\[$#]) (?=[\p{L}\p{N}])",
    r"(?<=[\p{L}\p{N}]) (?=- [\p{L}\p{N}])",
    r"(?<=[\p{L}\p{N}]-) (?=[\p{L}\p{N}])",
    r"(?<=\p{N}) (?=\p{N})",
)
"""Spaces to take out, as most people write: pieces say where a word ends, not what follows. None of them makes two
words of WORDS one, so what is decoded has the same encoding again."""


@dataclass(frozen=True)
class Vocabulary:
    """Numbers 0 to size - 1: SPECIALS, then `extra` ones, then pieces.

    Two of equal fields are the same vocabulary, in any process: it can be kept as its two fields.
    """

    size: int
    extra: tuple[str, ...] = ()
    pad: int = 0
    bos: int = 1
    eos: int = 2
    mask: int = 3
    image: int = 4

    @classmethod
    def small(cls, size: int = 4096, extra: Sequence[str] = ()) -> Vocabulary:
        """The first pieces, so many that there are `size` tokens together with the special ones.

        Args:
            extra: more special tokens ("<user>"), numbered from 5.

        Raises:
            TrainingError: a size below what special tokens and bytes need or above what the file has; an extra token
            twice; tokenizers or open_clip, whose file it is, not installed.
        """
        made = cls(size, tuple(extra))
        _tokenizer(made.size, made.extra)
        return made

    def number(self, token: str) -> int:
        """
        Raises:
            TrainingError: no such token.
        """
        found: int | None = self._tokenizer.token_to_id(token)
        if found is None:
            raise TrainingError(f"no token {token!r} among the {self.size} of the vocabulary")
        return found

    def encode(self, texts: Sequence[str], context: int, bos: bool = True, eos: bool = True) -> Tensor:
        """Numbers of texts, int64 [n, context], behind them `pad`. Of a longer text the first; its last is still eos.

        What reads like a special token in a text ("<image>") is text.
        """
        if context < int(bos) + int(eos) + 1:
            raise TrainingError(f"a context of {context} has no place for a token of the text")
        head, tail = [self.bos] * bos, [self.eos] * eos
        tokens = torch.full((len(texts), context), self.pad)
        for row, found in zip(tokens, self._tokenizer.encode_batch(list(texts), add_special_tokens=False), strict=True):
            said = head + found.ids[: context - len(head) - len(tail)] + tail
            row[: len(said)] = torch.tensor(said, dtype=torch.int64)
        return tokens

    def decode(self, tokens: Tensor) -> list[str]:
        """int64 [n, t] -> n texts: up to the first eos, special tokens left out."""
        rows = [row[: row.index(self.eos)] if self.eos in row else row for row in tokens.tolist()]
        texts: list[str] = self._tokenizer.decode_batch(rows, skip_special_tokens=True)
        return texts

    def hf(self, around: bool = False) -> PreTrainedTokenizerFast:
        """The same numbers for transformers. Special tokens that stand in a text are such there, as usual for chats.

        Args:
            around: whether it puts bos before each text and eos behind it, as `encode` does.
        """
        from transformers import PreTrainedTokenizerFast

        named = dict(zip(("pad_token", "bos_token", "eos_token", "mask_token"), SPECIALS, strict=False))
        found: PreTrainedTokenizerFast = PreTrainedTokenizerFast(
            tokenizer_object=_build(self.size, self.extra),
            additional_special_tokens=[SPECIALS[self.image], *self.extra],
            clean_up_tokenization_spaces=False,
            **named,
        )
        if around:
            from tokenizers.processors import TemplateProcessing

            bos, eos = SPECIALS[self.bos], SPECIALS[self.eos]
            found.backend_tokenizer.post_processor = TemplateProcessing(
                single=f"{bos} $A {eos}", special_tokens=[(bos, self.bos), (eos, self.eos)]
            )
        return found

    @property
    def _tokenizer(self) -> Any:
        return _tokenizer(self.size, self.extra)


@lru_cache(maxsize=8)
def _tokenizer(size: int, extra: tuple[str, ...]) -> Tokenizer:
    made = _build(size, extra)
    made.encode_special_tokens = True  # as text
    return made


def _build(size: int, extra: tuple[str, ...]) -> Tokenizer:
    try:
        from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers
    except ModuleNotFoundError as e:
        raise TrainingError(f"texts of tiny models need tokenizers: pip install 'curate[models]' ({e})") from e
    specials = (*SPECIALS, *extra)
    if len(set(specials)) < len(specials):
        raise TrainingError(f"special tokens twice in {', '.join(specials)}")
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges = _merges(size - len(specials) - BYTES)
    pieces = [*specials, *letters, *(letter + END for letter in letters), *("".join(pair) for pair in merges)]
    numbers = {piece: number for number, piece in enumerate(pieces)}
    made = Tokenizer(models.BPE(numbers, merges, end_of_word_suffix=END))
    made.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()])
    made.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(WORDS), behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    made.decoder = decoders.Sequence(
        [
            decoders.ByteLevel(),
            decoders.Replace(END, " "),
            *(decoders.Replace(Regex(space), "") for space in JOINED),
            decoders.Replace(Regex(r" \z"), ""),  # Strip panics on an empty text
        ]
    )
    made.add_special_tokens(list(specials))
    return made


def _merges(count: int) -> list[tuple[str, str]]:
    """The first `count` pairs of open_clip's file, of which no more is read: it has sixty times what is asked for."""
    package = find_spec("open_clip")
    if package is None or package.origin is None:
        raise TrainingError("texts of tiny models need a file of open_clip: pip install 'curate[models]'")
    with gzip.open(Path(package.origin).parent / "bpe_simple_vocab_16e6.txt.gz", "rt", encoding="utf-8") as lines:
        next(lines)  # of the format's version
        pairs = [(first, second) for first, second in (line.split() for line in islice(lines, max(count, 0)))]
        there = len(pairs) + (0 if len(pairs) == count else sum(1 for _ in lines))
    if len(pairs) != count:
        raise TrainingError(f"beside special tokens and bytes a vocabulary has 0 to {there} pieces, not {count}")
    return pairs
