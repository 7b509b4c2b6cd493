"""What `batch` and `precision` to give a CLIP on this kind of machine, by measuring.

    python -m stages.clip_batch filters/dfn/filter.pt                         # towers of `curate train-filter`
    python -m stages.clip_batch openai --model ViT-L-14-quickgelu --device cuda

    proposal = propose("filters/dfn/filter.pt")
    proposal.batch, proposal.precision, proposal.images_per_s

The proposal is of the smallest batch that comes within 3 % of the fastest, in CPU-seconds, which other work on the
machine hardly changes; on a GPU in seconds. A recipe then says it, and so fixes it: the vectors' last bits hang on it,
so that it is not chosen anew on each machine.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, get_args

import numpy as np

from stages.clip_model import Clip, Device, Precision, load, threads
from stages.clip_weights import settled

BATCHES: dict[Device, tuple[int, ...]] = {"cpu": (4, 8, 16, 32, 64), "cuda": (64, 128, 256, 512, 1024, 2048)}
NEAR = 0.97
CAPTION = "a person walks a dog along the beach"


@dataclass(frozen=True)
class Rate:
    """What was measured of one setting: pictures and texts a CPU-second; on a GPU, a second."""

    precision: Precision
    batch: int
    images_per_s: float
    texts_per_s: float

    @property
    def pairs_per_s(self) -> float:
        return 1 / (1 / self.images_per_s + 1 / self.texts_per_s)


@dataclass(frozen=True)
class Proposal:
    """The setting to take, and all that were measured."""

    chosen: Rate
    measured: tuple[Rate, ...]

    @property
    def batch(self) -> int:
        return self.chosen.batch

    @property
    def precision(self) -> Precision:
        return self.chosen.precision

    @property
    def images_per_s(self) -> float:
        return self.chosen.images_per_s

    def lines(self) -> Iterable[str]:
        """A table, and what to write into the recipe."""
        yield f"{'precision':<10}{'batch':>6}{'pictures/s':>12}{'texts/s':>10}{'pairs/s':>10}"
        for r in self.measured:
            mark = " *" if r == self.chosen else ""
            yield (
                f"{r.precision:<10}{r.batch:>6}{r.images_per_s:>12.1f}{r.texts_per_s:>10.1f}{r.pairs_per_s:>10.1f}{mark}"
            )
        yield f"in the recipe: batch: {self.batch}, precision: {self.precision}"


def propose(
    weights: str,
    model: str | None = None,
    device: Device = "cpu",
    precisions: Sequence[Precision] = get_args(Precision),
    batches: Sequence[int] | None = None,
    seconds: float = 2.0,
    cpus: int = 1,
    compiled: bool = False,
) -> Proposal:
    """Measure forward passes and choose.

    Args:
        weights, model, device, compiled, cpus: as of `clip_embedding`; on a GPU `compiled` makes each size take longer.
        batches: sizes to try, ascending; it ends where a GPU's memory does. seconds: at least, for each measurement.

    Raises:
        ValueError: weights, model or device are missing, or no size fits into memory.
    """
    measured: list[Rate] = []
    for precision in precisions:
        clip = load(model, settled(weights), precision, device, compiled and device == "cuda")
        for batch in batches or BATCHES[device]:
            rate = _rate(clip, precision, batch, seconds, cpus)
            if rate is None:
                break
            measured.append(rate)
    if not measured:
        raise ValueError(f"clip: not even {(batches or BATCHES[device])[0]} pictures fit into the memory of {device}")
    best = max(r.pairs_per_s for r in measured)
    near = [r for r in measured if r.pairs_per_s >= NEAR * best]
    return Proposal(min(near, key=lambda r: (r.batch, -r.pairs_per_s)), tuple(measured))


def _rate(clip: Clip, precision: Precision, batch: int, seconds: float, cpus: int) -> Rate | None:
    """None where the GPU has no memory for it."""
    import torch

    squares = np.random.default_rng(0).integers(0, 256, (batch, clip.fit.size, clip.fit.size, 3), np.uint8)
    tokens = clip.tokens([CAPTION] * batch)
    try:
        with threads(cpus):
            clock = time.process_time if clip.device == "cpu" else time.perf_counter
            images = batch / _median(lambda: clip.image_vectors(squares, batch), clock, seconds)
            texts = batch / _median(lambda: clip.text_vectors(tokens, batch), clock, seconds)
    except torch.OutOfMemoryError:
        torch.cuda.empty_cache()
        return None
    return Rate(precision, batch, images, texts)


def _median(work: Callable[[], Any], clock: Callable[[], float], seconds: float) -> float:
    """Seconds of one, of at least three after one that warms up."""
    work()
    took: list[float] = []
    while len(took) < 3 or sum(took) < seconds:
        began = clock()
        work()
        took.append(clock() - began)
    return max(sorted(took)[len(took) // 2], 1e-9)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights", help="a file, or with --model a tag of open_clip")
    parser.add_argument("--model", help="a configuration of open_clip")
    parser.add_argument("--device", choices=get_args(Device), default="cpu")
    parser.add_argument("--cpus", type=int, default=1, help="threads of a worker")
    parser.add_argument("--compiled", action="store_true", help="on a GPU, as workers do; takes minutes")
    parser.add_argument("--seconds", type=float, default=2.0, help="for each measurement")
    given = parser.parse_args(arguments)
    try:
        found = propose(
            given.weights, given.model, given.device, seconds=given.seconds, cpus=given.cpus, compiled=given.compiled
        )
    except ValueError as e:
        sys.exit(f"error: {e}")
    print("\n".join(found.lines()))


if __name__ == "__main__":
    main()
