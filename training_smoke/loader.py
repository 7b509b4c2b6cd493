"""Batches from packs: read, decoded and tokenised by threads while the model trains.

    loader = Loader(packs=Pack.open("pools/mine/packs/mine@0123456789ab"), batch=256, size=64, seed=0, steps=1000,
                    tokenize=lambda texts: tokenize_words(texts, 16))
    for batch in loader:
        images, tokens = batch.images, batch.tokens         # uint8 [256, 3, 64, 64], int64 [256, context]

What a step reads is said by `training_smoke.order`, so `start_step` is all it takes to go on, and the number of steps
is fixed: no rank waits for another whose shards ended. Packs are ours: a sample that cannot be read ends the run by
name, none is left out.
"""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import islice
from threading import Lock

import numpy as np
import torch
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from torch import Tensor

from stages.decode import DecodeError
from training_smoke.by_length import Ahead, ByLength, Kept
from training_smoke.errors import TrainingError
from training_smoke.files import cache_limit
from training_smoke.order import WINDOW, Draw, Order, Texts, pick_texts
from training_smoke.packs import Pack
from training_smoke.pixels import square

AHEAD = 2  # batches under way beside the one that is trained on
CHUNK = 16  # samples that a thread decodes at a time
FETCHERS = 8  # copies of remote tars at a time

Tokenize = Callable[[list[str]], Tensor]
"""Texts to int64 [n, context]; called by one thread at a time."""


@dataclass(frozen=True)
class Batch:
    """One rank's part of a step.

    images: uint8 [batch, 3, size, size], channels last in memory; from a ResidentLoader with a frozen first part what
    that made of them, float16 [batch, dim]. tokens: int64 [batch, context]. uids: 32 hex digits
    each. groups: int64 [batch], equal for samples that are no negatives of each other, also across ranks; None where
    not asked for. wait_s: seconds that the loop waited for this batch.
    """

    step: int
    images: Tensor
    tokens: Tensor
    uids: list[str]
    groups: Tensor | None
    wait_s: float

    def to(self, device: torch.device) -> Batch:
        """The batch on a device; from pinned memory, without waiting."""
        images, tokens = (t.to(device, non_blocking=True) for t in (self.images, self.tokens))
        groups = None if self.groups is None else self.groups.to(device, non_blocking=True)
        return replace(self, images=images, tokens=tokens, groups=groups)


@dataclass(kw_only=True, eq=False)
class Course:
    """What is read, in which order: all that readers of packs have in common.

    packs: one, or {pack: share}. batch: of all ranks together. size: pixels a side. steps: of the whole training;
    start_step: the first of them that is read here. groups: find samples with the same image, or the same likeliest
    text, in each batch. window: turns that are shuffled together; see `training_smoke.order`.

    Raises:
        TrainingError: see `Order`.
    """

    packs: Pack | Mapping[Pack, float]
    batch: int
    size: int
    seed: int
    steps: int
    tokenize: Tokenize
    start_step: int = 0
    rank: int = 0
    world: int = 1
    groups: bool = False
    window: int = WINDOW

    def __post_init__(self) -> None:
        shares = self.packs if isinstance(self.packs, Mapping) else {self.packs: 1.0}
        self.sources = tuple(shares)
        self.order: Order | ByLength = Order(
            shapes=tuple(pack.shape for pack in self.sources),
            shares=tuple(shares.values()),
            seed=self.seed,
            batch=self.batch,
            rank=self.rank,
            world=self.world,
            window=self.window,
        )
        self._whole: Order | ByLength = replace(self.order, rank=0, world=1)

    def finished(self, draw: Draw, images: Tensor, uids: list[str], tokens: Tensor) -> Batch:
        """The batch of a draw, with its groups where they are asked for."""
        return Batch(draw.step, images, tokens, uids, self._groups(draw) if self.groups else None, wait_s=0.0)

    def _groups(self, draw: Draw) -> Tensor:
        """int64 [batch of the rank]: found over the batch of all ranks, so that numbers mean the same on each."""
        draw = self._whole.draw(draw.step) if self.world > 1 else draw
        image, text = np.empty((2, len(draw.turn)), np.uint64)
        for number, pack in enumerate(self.sources):
            mine = draw.pack == number
            image[mine], text[mine] = pack.likeness(draw.sample[mine])
        part = self.batch // self.world
        return torch.from_numpy(alike(image, text)[self.rank * part : (self.rank + 1) * part])


def alike(image: np.ndarray, text: np.ndarray) -> np.ndarray:
    """int64 [n]: the same number for samples that are joined by equal images or equal texts, also by way of others.

    A caption of one of two copies of a photo describes the other one too: neither is a negative.
    """
    _, images = np.unique(image, return_inverse=True)
    _, texts = np.unique(text, return_inverse=True)
    nodes = int(images.max()) + int(texts.max()) + 2
    links = coo_array((np.ones(len(images)), (images, texts + images.max() + 1)), shape=(nodes, nodes))
    _, component = connected_components(links, directed=False)
    found: np.ndarray = component[images].astype(np.int64)
    return found


@dataclass(kw_only=True, eq=False)
class Loader(Course):
    """Batches from packs as they lie: for what is too large to be decoded once. Iterate as often as you like.

    workers: threads that read and decode; None: one a core that this process may use. lengths: of tokens, int64
    [batch]; where it is not None, samples of group_steps steps are put together by it. Texts are read and tokenised
    once more for that, on each rank those of all ranks, a window ahead of their pictures.

    Raises:
        TrainingError: as `Course`; a cache too small for the window; while iterating: a sample that cannot be read,
        by uid.
    """

    workers: int | None = None
    lengths: Callable[[Tensor], Tensor | None] | None = None
    group_steps: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        self._tokenising = Lock()
        self._grouped: ByLength | None = None
        if self.group_steps > 1:
            assert isinstance(self._whole, Order)
            costs = Kept(self._costs, 3 * self.group_steps)  # of this window, those after and before
            self._whole = self._grouped = ByLength(self._whole, costs, self.group_steps, self.steps)
            self.order = replace(self._whole, rank=self.rank, world=self.world)
        _check_cache(self.sources, self.window, grouped=0 if self._grouped is None else self.group_steps * self.batch)

    def __iter__(self) -> Iterator[Batch]:
        coming = iter(range(self.start_step, self.steps))
        with (
            threads_of(FETCHERS) as fetchers,
            threads_of(self.workers) as decoders,
            threads_of(1) as finisher,
            threads_of(1) as measurer,
        ):
            fetch = _Fetching(self, fetchers)
            measure = None if self._grouped is None else Ahead(self._grouped, self.start_step, measurer)

            def begin(step: int) -> Future[Batch]:
                fetch.near(step)
                if measure is not None:
                    measure.near(step)
                draw = self.order.draw(step)
                images = _empty(len(draw.turn), self.size)
                parts = [decoders.submit(self._read, draw, images, a, b) for a, b in _edges(len(draw.turn))]
                return finisher.submit(self._finish, draw, images, parts)

            under_way = deque(begin(step) for step in islice(coming, AHEAD))
            while under_way:
                asked = time.perf_counter()
                batch = under_way.popleft().result()
                under_way.extend(begin(step) for step in islice(coming, 1))
                yield replace(batch, wait_s=time.perf_counter() - asked)

    def _read(self, draw: Draw, images: Tensor, start: int, stop: int) -> list[tuple[str, Texts]]:
        """Decode samples start..stop of the draw into their places; (uid, texts) of each."""
        found, pixels = [], images.numpy()
        for row in range(start, stop):
            pack = self.sources[draw.pack[row]]
            sample = pack.read(int(draw.sample[row]))
            pixels[row] = decoded(pack, sample.uid, sample.image, self.size)
            found.append((sample.uid, sample.texts))
        return found

    def _finish(self, draw: Draw, images: Tensor, parts: list[Future[list[tuple[str, Texts]]]]) -> Batch:
        found = [one for part in parts for one in part.result()]
        texts = pick_texts(self.seed, draw.turn, [texts for _, texts in found])
        return self.finished(draw, images.permute(0, 3, 1, 2), [uid for uid, _ in found], self._tokenised(texts))

    def _costs(self, draw: Draw) -> np.ndarray:
        """int64 [batch]"""
        where = zip(draw.pack.tolist(), draw.sample.tolist(), strict=True)
        texts = pick_texts(self.seed, draw.turn, [self.sources[pack].texts(i) for pack, i in where])
        found = None if self.lengths is None else self.lengths(self._tokenised(texts))
        return np.zeros(len(draw.turn), np.int64) if found is None else found.numpy()

    def _tokenised(self, texts: list[str]) -> Tensor:
        with self._tokenising:
            return self.tokenize(texts)


def decoded(pack: Pack, uid: str, data: bytes, size: int) -> np.ndarray:
    """`square`, with an error that names the sample."""
    try:
        return square(data, size)
    except DecodeError as e:
        raise TrainingError(f"{pack.url}: sample {uid} does not decode: {e}; `curate purge` it and pack again") from e


class _Fetching:
    """Copies of remote tars are begun half a window before they are read."""

    def __init__(self, course: Course, threads: ThreadPoolExecutor) -> None:
        self._course, self._threads = course, threads
        self._remote = any(pack.remote for pack in course.sources)
        self._asked: set[tuple[int, int]] = set()

    def near(self, step: int) -> None:
        if not self._remote:
            return
        near = self._course.order.near(step)
        for pack, shard in near:
            if (pack, shard) not in self._asked and self._course.sources[pack].remote:
                # What fails here fails again, and is raised, when the shard is read.
                self._threads.submit(self._course.sources[pack].fetch, shard)
        self._asked = set(near)


def _check_cache(packs: Sequence[Pack], window: int, grouped: int) -> None:
    """Two blocks of a pack are needed at a time, and what lies between the begin of samples that are put together by
    length and the end of the next ones; a cache that holds less would fetch the same tars again and again."""
    turns = window + 2 * grouped
    needed = sum(min(pack.bytes, 2 * _block_bytes(pack, turns)) for pack in packs if pack.remote)
    if needed > cache_limit():
        raise TrainingError(
            f"a window of {turns} samples needs {needed / 1e9:.1f} GB of cache, and it may take "
            f"{cache_limit() / 1e9:.1f}: raise CURATE_CACHE_GB, or train with a smaller window"
            f"{' or fewer group_steps' if grouped else ''}"
        )


def _block_bytes(pack: Pack, window: int) -> int:
    """Of the tars of a block: the window, and the rest of its last shard."""
    turns = window + int(np.diff(pack.shape.edges).max())
    return pack.bytes * turns // pack.shape.epoch


@contextmanager
def threads_of(count: int | None) -> Iterator[ThreadPoolExecutor]:
    """So many threads, or one a core that we may use; what has not begun when the block ends is left undone."""
    pool = ThreadPoolExecutor(count or len(os.sched_getaffinity(0)))
    try:
        yield pool
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _edges(samples: int) -> list[tuple[int, int]]:
    """A batch in pieces."""
    return [(start, min(start + CHUNK, samples)) for start in range(0, samples, CHUNK)]


def _empty(count: int, size: int) -> Tensor:
    """uint8 [count, size, size, 3]; pinned where there is a GPU, which then copies it by itself."""
    return torch.empty((count, size, size, 3), dtype=torch.uint8, pin_memory=torch.cuda.is_available())
