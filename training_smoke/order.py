"""Which sample is read when: a pure function of the seed, the step and the shape of the packs.

    order = Order((Shape(pack.sizes),), seed=0, batch=256)
    draw = order.draw(step=17)              # the same for whoever asks, whatever was asked before
    pack.read(draw.sample[0])

Nothing is kept between steps but caches, so a run goes on exactly from the number of its next step. The batch is the
same whatever the number of ranks: each takes its slice. One *turn* is one reading of one sample; an epoch of a pack
gives each sample one turn, or as many as its weight. Weighted samples are thus read exactly as often as if the pack
held so many copies of them.

An epoch is shuffled in two steps: shards are put in a keyed order and cut into blocks of about `window` turns, and the
turns of each block are put in a keyed order. A pack of up to `window` turns is one block. Of larger ones a reader needs
only the shards of one or two blocks at a time, and their samples stand in the tars in a random order already. A keyed
order is the sorting of `hash64(seed, what, number)`: memory goes with the window, never with the pack.

A mixture is laid out in periods of 65,536 turns. In each of them every pack has its share to the sample, and a keyed
order says which turns these are.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import accumulate

import numpy as np

from stages.draws import hash64_halves
from training_smoke.errors import TrainingError

WINDOW = 1 << 18  # turns: 26 shards of 10,000 samples; a batch of DataComp's xlarge is a third of it
PERIOD = 1 << 16
LAP = 1 << 12

Texts = list[tuple[str, float]]
"""The texts of a sample, each with its probability."""


@dataclass(frozen=True, eq=False)
class Shape:
    """What the order needs to know of a pack.

    sizes: int64 [shards], samples. weights: int64 [samples], turns of each sample in an epoch; None: one each.

    Raises:
        TrainingError: no sample, weights of another number of samples, or one below 1.
    """

    sizes: np.ndarray
    weights: np.ndarray | None = None

    def __post_init__(self) -> None:
        samples = int(self.sizes.sum())
        if samples == 0:
            raise TrainingError("a pack without samples cannot be trained on")
        if self.weights is not None and (len(self.weights) != samples or self.weights.min() < 1):
            raise TrainingError(f"{samples} samples need as many weights, all of 1 or more")

    @cached_property
    def edges(self) -> np.ndarray:
        """int64 [shards + 1]: turns before each shard, and in all, of an epoch in which nothing is shuffled."""
        samples = np.concatenate([[0], np.cumsum(self.sizes)])
        return samples if self._ends is None else np.concatenate([[0], self._ends])[samples]

    @property
    def epoch(self) -> int:
        """Turns in an epoch."""
        return int(self.edges[-1])

    @cached_property
    def _ends(self) -> np.ndarray | None:
        return None if self.weights is None else np.cumsum(self.weights, dtype=np.int64)

    def sample_at(self, turn: np.ndarray) -> np.ndarray:
        """The samples whose turns these are, in an epoch in which nothing is shuffled."""
        return turn if self._ends is None else np.searchsorted(self._ends, turn, side="right")


@dataclass(frozen=True, eq=False)
class Draw:
    """What one rank reads in a step: parallel int64 arrays [batch of the rank].

    turn: its number since training began, over all ranks and packs. pack: index of the pack. sample: index in that
    pack.
    """

    step: int
    turn: np.ndarray
    pack: np.ndarray
    sample: np.ndarray


@dataclass(frozen=True, eq=False)
class Order:
    """The order of training for one rank.

    shapes: of the packs. shares: of the batches that each pack gives, in proportion. batch: of all ranks together.
    window: turns that are shuffled together.

    Raises:
        TrainingError: shares that do not fit the packs, or a world that does not divide the batch.
    """

    shapes: tuple[Shape, ...]
    shares: tuple[float, ...] = (1.0,)
    seed: int = 0
    batch: int = 256
    rank: int = 0
    world: int = 1
    window: int = WINDOW

    def __post_init__(self) -> None:
        if not self.shapes or len(self.shapes) != len(self.shares):
            packs = len(self.shapes)
            raise TrainingError(f"{packs} packs and {len(self.shares)} shares: a mixture is one of each or more")
        if not (0 <= self.rank < self.world and self.batch > 0 and self.batch % self.world == 0):
            raise TrainingError(f"rank {self.rank} of {self.world} cannot take its part of a batch of {self.batch}")
        if self.window < 1:
            raise TrainingError(f"a window of {self.window} turns holds nothing")
        if not all(np.isfinite(s) and s > 0 for s in self.shares) or min(self._slots) == 0:
            raise TrainingError(f"shares {self.shares}: each must be above 1 in {PERIOD} of their sum")

    @cached_property
    def _tracks(self) -> tuple[Track, ...]:
        return tuple(Track(shape, self.seed, number, self.window) for number, shape in enumerate(self.shapes))

    @cached_property
    def _slots(self) -> tuple[int, ...]:
        """Turns of each pack in a period, by largest remainder."""
        exact = PERIOD * np.array(self.shares) / sum(self.shares)
        slots = np.floor(exact).astype(np.int64)
        neediest = np.argsort(slots - exact, kind="stable")
        slots[neediest[: PERIOD - int(slots.sum())]] += 1
        return tuple(slots.tolist())

    def draw(self, step: int) -> Draw:
        """The rank's slice of the batch of a step, counted from 0."""
        part = self.batch // self.world
        start = step * self.batch + self.rank * part
        turn = np.arange(start, start + part, dtype=np.int64)
        if len(self.shapes) == 1:
            return Draw(step, turn, np.zeros_like(turn), self._tracks[0].samples(start, start + part))
        periods = range(start // PERIOD, (start + part - 1) // PERIOD + 1)
        found = [_period(self._tracks, self._slots, self.seed, period) for period in periods]
        pack, sample = np.concatenate(found, axis=1)[:, start - periods[0] * PERIOD :][:, :part]
        return Draw(step, turn, pack, sample)

    def near(self, step: int) -> list[tuple[int, int]]:
        """(pack, shard) of the blocks that are read at this step and half a window later: what to have at hand."""
        found: dict[tuple[int, int], None] = {}
        for number, (track, slots) in enumerate(zip(self._tracks, self._slots, strict=True)):
            now = step * self.batch * slots // PERIOD
            for turn in (now, now + self.window // 2):
                found |= dict.fromkeys((number, shard) for shard in track.shards_at(turn))
        return list(found)


@dataclass(frozen=True)
class Track:
    """One pack, read on and on. number: of the pack in its mixture.

    A *lap* is what is laid out at once: an epoch, or as many of a small pack as make up 4,096 turns.
    """

    shape: Shape
    seed: int
    number: int
    window: int

    @cached_property
    def epochs(self) -> int:
        """Of a lap."""
        return 1 if self.shape.epoch > self.window else max(1, LAP // self.shape.epoch)

    def samples(self, start: int, stop: int) -> np.ndarray:
        """int64 [stop - start]: what is read in these of the pack's own turns, counted over all epochs."""
        parts = []
        while start < stop:
            lap, block, turn = self._at(start)
            parts.append(_block(self, lap, block)[turn:][: stop - start])
            start += len(parts[-1])
        return np.concatenate(parts)

    def shards_at(self, turn: int) -> list[int]:
        """Shards of the block in which this turn lies."""
        lap, block, _ = self._at(turn)
        shards: list[int] = _blocks(self, lap)[0][block].tolist()
        return shards

    def _at(self, turn: int) -> tuple[int, int, int]:
        """(lap, block, turn within the block)."""
        lap, turn = divmod(turn, self.epochs * self.shape.epoch)
        bounds = _blocks(self, lap)[1]
        block = bisect_right(bounds, turn) - 1
        return lap, block, turn - bounds[block]


@lru_cache(maxsize=64)  # asked for at every step, and the same for thousands
def _blocks(track: Track, lap: int) -> tuple[list[np.ndarray], list[int]]:
    """(shards of each block of a lap, turns before each block). A lap of several epochs is one block."""
    shape = track.shape
    (shards,) = shuffled(len(shape.sizes), track.seed, f"shards/{track.number}/{lap}")
    turns = np.diff(shape.edges)[shards]
    starts = np.cumsum(turns) - turns
    first = np.flatnonzero(np.diff(starts // track.window, prepend=-1))
    return np.split(shards, first[1:]), starts[first].tolist()


@lru_cache(maxsize=16)  # two megabytes each
def _block(track: Track, lap: int, block: int) -> np.ndarray:
    """int64 [turns of the block]: its samples, shuffled within each epoch."""
    edges, shards = track.shape.edges, _blocks(track, lap)[0][block]
    turns = np.concatenate([np.arange(edges[shard], edges[shard + 1]) for shard in shards])
    keyed = shuffled(len(turns), track.seed, f"samples/{track.number}/{lap}/{block}", track.epochs)
    return track.shape.sample_at(turns[keyed].ravel())


@lru_cache(maxsize=4)
def _period(tracks: tuple[Track, ...], slots: tuple[int, ...], seed: int, period: int) -> np.ndarray:
    """int64 [2, PERIOD]: pack and sample of each turn of a mixture's period."""
    samples = [t.samples(period * n, (period + 1) * n) for t, n in zip(tracks, slots, strict=True)]
    packs = np.repeat(np.arange(len(slots)), slots)
    return np.stack([packs, np.concatenate(samples)])[:, shuffled(PERIOD, seed, f"shares/{period}")[0]]


def shuffled(n: int, seed: int, salt: str, times: int = 1) -> np.ndarray:
    """The numbers below n in a keyed order, and another one in each row: int64 [times, n]."""
    number, row = np.arange(n, dtype=np.uint64), np.arange(times, dtype=np.uint64)[:, None]
    return np.argsort(hash64_halves(seed, salt, number, row), axis=1, kind="stable")


def pick_texts(seed: int, turn: np.ndarray, texts: Sequence[Texts]) -> list[str]:
    """One text of each sample, drawn by its probabilities, keyed by the seed and the number of the turn.

    Args:
        turn: int64 [m]. texts: of the m samples.
    """
    words = turn.astype(np.uint64)
    draws = (hash64_halves(seed, "texts", words, np.zeros_like(words)) >> np.uint64(11)) * 2.0**-53
    return [_pick(own, u) for own, u in zip(texts, draws.tolist(), strict=True)]


def _pick(texts: Texts, u: float) -> str:
    if len(texts) == 1:
        return texts[0][0]
    ends = list(accumulate(p for _, p in texts))
    return texts[min(bisect_right(ends, u * ends[-1]), len(texts) - 1)][0]
