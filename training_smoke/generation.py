"""Texts from a model's next-token logits: greedy, beams, and draws that depend on nothing but a row's own name.

    tokens = generate(decoder, rows=len(images), how=Sampling("nucleus", p=0.9), keys=uids, bos=1, eos=2, pad=0)

One engine for all families, and not transformers' `generate`, as rows that have ended leave the batch, and as draws for
a row are functions of (seed, its key, place): whatever else is in the batch, however large it is, on any machine. (What
is left is rounding: logits of a batch of another size may differ in their last bits.)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
import xxhash
from torch import Tensor

from training_smoke.errors import TrainingError
from training_smoke.objectives.pairs import wide
from training_smoke.sampling import Sampling


class Decoder(Protocol):
    """A model that says the next token of several texts, with what it keeps of each in a state of its own making."""

    def begin(self) -> Any:
        """The state of all rows, no token of them fed."""
        ...

    def next(self, tokens: Tensor, state: Any) -> tuple[Tensor, Any]:
        """Feed one token to each row: int64 [n] -> (logits of the token after it, float [n, vocabulary], state)."""
        ...

    def rows(self, state: Any, index: Tensor) -> Any:
        """The state of rows index, int64 [m], of those in `state`: some fewer, some again, in another order."""
        ...


@dataclass(frozen=True)
class Anew:
    """A `Decoder` without a cache: each step sees the whole text. Its state: (rows int64 [n], tokens int64 [n, t]).

    logits: (rows int64 [n], tokens int64 [n, t]) -> float [n, vocabulary] of the token after them.
    """

    logits: Callable[[Tensor, Tensor], Tensor]
    count: int
    device: torch.device | str = "cpu"

    def begin(self) -> tuple[Tensor, Tensor]:
        rows = torch.arange(self.count, device=self.device)
        return rows, rows.new_empty(self.count, 0)

    def next(self, tokens: Tensor, state: tuple[Tensor, Tensor]) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        rows, said = state
        said = torch.cat([said, tokens[:, None]], dim=1)
        return self.logits(rows, said), (rows, said)

    def rows(self, state: tuple[Tensor, Tensor], index: Tensor) -> tuple[Tensor, Tensor]:
        return state[0][index], state[1][index]


@torch.no_grad()
def generate(
    decoder: Decoder,
    rows: int,
    how: Sampling,
    keys: Sequence[str],
    bos: int,
    eos: int,
    pad: int,
    prefix: Tensor | None = None,
) -> Tensor:
    """A text for each row.

    Args:
        rows: those that decoder.begin() has
        keys: a name for each row, by which its draws are made
        bos, eos, pad: neither pad nor bos is ever said (but where one of them is eos)
        prefix: int64 [rows, t], t >= 1, fed before in place of bos; on the device of the model

    Returns:
        int64 [rows, t], t <= how.max_tokens + 1, without the prefix: up to max_tokens tokens, eos, then pad. A text
        that was not at its end after max_tokens has eos there too.

    Raises:
        ValueError: other numbers of keys or prefixes than rows
        TrainingError: logits that are NaN or infinite: of them any rule would still pick a token
    """
    if len(keys) != rows or (prefix is not None and (prefix.ndim != 2 or len(prefix) != rows or not prefix.shape[1])):
        raise ValueError(f"{rows} rows need as many keys and prefixes of at least one token, not {len(keys)} keys")
    if rows == 0:
        return torch.full((0, 1), eos)
    decoder = _Watched(decoder)
    state, logits = _fed(decoder, torch.full((rows, 1), bos) if prefix is None else prefix)
    rules = _Rules(how, eos, tuple({bos, pad} - {eos}))
    search = _beams if how.kind == "beam" else _one_by_one
    said = search(decoder, state, logits, rules, list(keys))  # [rows, max_tokens], anything behind an eos
    if not decoder.sound:
        raise TrainingError("logits of the next token have NaN or infinity: this model writes no text; see its loss")
    return _ended(said, eos, pad)


class _Watched:
    """A decoder, and whether all that it said are numbers; on a GPU nothing waits for that until it is asked."""

    def __init__(self, decoder: Decoder) -> None:
        self.decoder = decoder
        self._sound: Tensor | None = None

    def begin(self) -> Any:
        return self.decoder.begin()

    def next(self, tokens: Tensor, state: Any) -> tuple[Tensor, Any]:
        logits, state = self.decoder.next(tokens, state)
        sound = logits.amax(dim=1).isfinite().all()  # a token that is ruled out may have -inf
        self._sound = sound if self._sound is None else self._sound & sound
        return logits, state

    def rows(self, state: Any, index: Tensor) -> Any:
        return self.decoder.rows(state, index)

    @property
    def sound(self) -> bool:
        return bool(self._sound)


@dataclass(frozen=True)
class _Rules:
    """What may be said: how, the end, and tokens that never are."""

    how: Sampling
    eos: int
    never: tuple[int, ...]

    def penalised(self, logits: Tensor, said: Tensor) -> Tensor:
        """logits [n, vocabulary] after tokens said [n, place], in at least fp32; what was said is less likely."""
        logits = wide(logits)
        if self.how.repetition_penalty == 1 or not said.shape[1]:
            return logits
        of_said = logits.gather(1, said)
        penalty = self.how.repetition_penalty
        return logits.scatter(1, said, torch.where(of_said > 0, of_said / penalty, of_said * penalty))

    def allowed(self, scores: Tensor, place: int) -> Tensor:
        """scores [n, vocabulary] of the token at a place; -inf where it must not stand."""
        forbidden = [*self.never, *([self.eos] if place < self.how.min_tokens else [])]
        return scores.index_fill(1, torch.tensor(forbidden, device=scores.device, dtype=torch.int64), -torch.inf)


def _fed(decoder: Decoder, prefix: Tensor) -> tuple[Any, Tensor]:
    """(state, logits) after the prefix [rows, t]."""
    state = decoder.begin()
    for tokens in prefix.unbind(dim=1):
        logits, state = decoder.next(tokens, state)
    return state, logits


def _ended(said: Tensor, eos: int, pad: int) -> Tensor:
    """eos behind each text that has none, pad behind the first, and no column that all have pad in."""
    said = torch.cat([said, torch.full_like(said[:, :1], eos)], dim=1)
    ends = (said == eos).int().argmax(dim=1)  # the first
    places = torch.arange(said.shape[1], device=said.device)
    return said.masked_fill(places > ends[:, None], pad)[:, : int(ends.max()) + 1]


# ---------------------------------------------------------------------------------------------- a token at a time


def _one_by_one(decoder: Decoder, state: Any, logits: Tensor, rules: _Rules, keys: list[str]) -> Tensor:
    said = torch.full((len(keys), rules.how.max_tokens), rules.eos, device=logits.device)
    alive = torch.arange(len(keys), device=logits.device)
    for place in range(rules.how.max_tokens):
        scores = rules.allowed(rules.penalised(logits, said[alive, :place]), place)
        tokens = scores.argmax(dim=1)
        if rules.how.kind != "greedy":
            tokens = _drawn(scores, rules.how, [keys[i] for i in alive.tolist()], place)
        said[alive, place] = tokens
        going = (tokens != rules.eos).nonzero()[:, 0]
        if not len(going) or place + 1 == rules.how.max_tokens:
            break
        if len(going) < len(alive):
            alive, tokens, state = alive[going], tokens[going], decoder.rows(state, going)
        logits, state = decoder.next(tokens, state)
    return said


def _drawn(scores: Tensor, how: Sampling, keys: Sequence[str], place: int) -> Tensor:
    """Tokens [n] drawn from scores [n, vocabulary]: of the likeliest ones, by a number that each row's key gives."""
    odds, order = (scores.double() / how.temperature).softmax(dim=1).sort(dim=1, descending=True, stable=True)
    sums = odds.cumsum(dim=1)
    kept = (sums - odds < how.p).sum(dim=1) if how.kind == "nucleus" else torch.full_like(order[:, 0], how.k)
    kept = kept.clamp(1, odds.shape[1])[:, None]  # [n, 1]
    hashes = [xxhash.xxh3_64_intdigest(f"{how.seed}/{key}/{place}".encode()) for key in keys]
    draws = torch.tensor([(h >> 11) / 2**53 for h in hashes], dtype=torch.float64, device=scores.device)  # [0, 1)
    picked = torch.searchsorted(sums, draws[:, None] * sums.gather(1, kept - 1), right=True)
    return order.gather(1, torch.minimum(picked, kept - 1))[:, 0]


# ---------------------------------------------------------------------------------------------- beams


def _beams(decoder: Decoder, state: Any, logits: Tensor, rules: _Rules, keys: list[str]) -> Tensor:
    """The best text of each row. Of the `beams` best continuations those that end are kept, ranked by log likelihood /
    length ** length_penalty, their end counted; a row is done when it keeps `beams` and none that goes on looks better.

    Wu et al. 2016 (arXiv:1609.08144), section 7, with transformers' plain power of the length and its rule to stop.
    """
    count, beams, places = len(keys), rules.how.beams, rules.how.max_tokens
    kept = torch.full((count, beams, places), rules.eos, device=logits.device)
    kept_scores = torch.full((count, beams), -torch.inf, device=logits.device, dtype=wide(logits).dtype)
    alive = torch.arange(count, device=logits.device)
    texts = kept.clone()
    scores = kept_scores.clone()
    scores[:, 0] = 0.0  # they are all alike at first: one of them goes on
    index = alive.repeat_interleave(beams)
    state, logits = decoder.rows(state, index), logits[index]
    for place in range(places):
        each = rules.penalised(logits, texts[..., :place].flatten(0, 1)).log_softmax(dim=1)
        found, parents, texts = _continued(scores, rules.allowed(each, place), texts, place)
        ended = (texts[..., place] == rules.eos) | (place + 1 == places)
        lengths = (place + 1) ** rules.how.length_penalty
        final = (found / lengths).masked_fill(~ended, -torch.inf)[:, :beams]
        merged, best = torch.cat([kept_scores[alive], final], dim=1).topk(beams)
        kept_scores[alive] = merged
        kept[alive] = _taken(torch.cat([kept[alive], texts[:, :beams]], dim=1), best)
        scores, ahead = found.masked_fill(ended, -torch.inf).topk(beams)
        going = (scores[:, 0] / lengths > merged[:, -1]).nonzero()[:, 0]
        if not len(going) or place + 1 == places:
            break
        texts, parents = _taken(texts, ahead)[going], parents.gather(1, ahead)[going]
        alive, scores = alive[going], scores[going]
        state = decoder.rows(state, (going[:, None] * beams + parents).flatten())
        logits, state = decoder.next(texts[..., place].flatten(), state)
    return kept[:, 0]


def _continued(scores: Tensor, each: Tensor, texts: Tensor, place: int) -> tuple[Tensor, Tensor, Tensor]:
    """The best continuations, twice as many as beams, so that enough go on whichever end.

    Args:
        scores: [n, beams]. each: [n * beams, vocabulary]. texts: int64 [n, beams, places].

    Returns:
        their scores [n, 2 beams], which beam they continue, int64 [n, 2 beams], and texts [n, 2 beams, places].
    """
    count, beams = scores.shape
    width = each.shape[1]
    whole = (scores.unsqueeze(2) + each.view(count, beams, width)).flatten(1)
    found, index = whole.topk(min(2 * beams, whole.shape[1]))
    texts = _taken(texts, index // width)
    texts[..., place] = index % width
    return found, index // width, texts


def _taken(texts: Tensor, index: Tensor) -> Tensor:
    """Of texts [n, m, places] those of index [n, k]: [n, k, places]."""
    return texts.gather(1, index.unsqueeze(2).expand(-1, -1, texts.shape[2]))
