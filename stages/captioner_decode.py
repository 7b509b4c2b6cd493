"""What captioning models share: several texts for a picture that is looked at once, and more than one end.

    tokens = written(decoder, pictures=2, how=Sampling("nucleus"), keys=[["a/0", "a/1"], ["b/0", "b/1"]], ends=ends)

Texts come from `training_smoke.generation`, whose draws are functions of (seed, key, place) alone and whose rows leave
when they have ended.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from training_smoke.generation import Decoder, generate

if TYPE_CHECKING:
    from training_smoke.sampling import Sampling


@dataclass(frozen=True)
class Ends:
    """bos: a text begins with it where nothing else is said before. eos: tokens that end it; the first is what the
    others are turned into. pad: never said."""

    bos: int
    eos: tuple[int, ...]
    pad: int


@dataclass(frozen=True)
class Several:
    """A decoder of pictures as one of `count` texts for each of them: what was computed of a picture is shared."""

    decoder: Decoder
    pictures: int
    count: int
    device: torch.device

    def begin(self) -> Any:
        state = self.decoder.begin()
        if self.count == 1:
            return state
        each = torch.arange(self.pictures, device=self.device).repeat_interleave(self.count)
        return self.decoder.rows(state, each)

    def next(self, tokens: Tensor, state: Any) -> tuple[Tensor, Any]:
        return self.decoder.next(tokens, state)

    def rows(self, state: Any, index: Tensor) -> Any:
        return self.decoder.rows(state, index)


@dataclass(frozen=True)
class OneEnd:
    """A decoder whose texts may end in several ways, as one with a single end.

    The first of `ends` gets what all of them have: their probabilities added where texts are drawn, else the likeliest.
    """

    decoder: Decoder
    ends: tuple[int, ...]
    drawn: bool

    def begin(self) -> Any:
        return self.decoder.begin()

    def next(self, tokens: Tensor, state: Any) -> tuple[Tensor, Any]:
        logits, state = self.decoder.next(tokens, state)
        of_ends = logits[:, list(self.ends)].float()
        merged = of_ends.logsumexp(dim=1) if self.drawn else of_ends.amax(dim=1)
        logits = logits.index_fill(1, torch.tensor(self.ends[1:], device=logits.device), -torch.inf)
        logits[:, self.ends[0]] = merged.to(logits.dtype)
        return logits, state

    def rows(self, state: Any, index: Tensor) -> Any:
        return self.decoder.rows(state, index)


def written(
    decoder: Decoder, device: torch.device, how: Sampling, keys: Sequence[Sequence[str]], ends: Ends, last: int
) -> Tensor:
    """Texts for pictures, those of one picture one after another.

    Args:
        decoder: of one row a picture; it has read everything before the token `last`.
        keys: for each picture the names that its texts' draws are made by, as many for all.
        last: the token that all texts go on from.

    Returns:
        int64 [pictures * texts, t], as `generate` has it, in main memory.

    Raises:
        training_smoke.errors.TrainingError: logits are no numbers.
    """
    count = len(keys[0])
    rows: Decoder = Several(decoder, len(keys), count, device)
    if len(ends.eos) > 1:
        rows = OneEnd(rows, ends.eos, how.kind in ("nucleus", "top_k"))
    flat = [key for of_picture in keys for key in of_picture]
    prefix = torch.full((len(flat), 1), last, device=device)
    return generate(rows, len(flat), how, flat, ends.bos, ends.eos[0], ends.pad, prefix=prefix).cpu()


def filled(rows: Tensor, count: int) -> Tensor:
    """As many rows as a forward pass has: [n, ...] -> [count, ...], copies of the first behind the others."""
    short = count - len(rows)
    return rows if short <= 0 else torch.cat([rows, rows[:1].expand(short, *rows.shape[1:])])
