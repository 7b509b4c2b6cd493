"""Captions a second of the stage `caption` beside a plain transformers `generate` loop at its best batch.

    python bench/captions_pace.py [--quick]         # also a part of bench/captions.py

A BLIP of ViT-B/16, 384 pixels, with random weights (bench/captions_plain.py), nucleus sampling with p = 0.9, 5 to 20
tokens, as CapFilt draws; both sides have the same JPEGs in memory, model and threads. The plain loop is measured at
several batches first; then passes alternate, and the median of their ratios counts. The stage gets batches of 256 as a
run gives them, at its own default batch. That both write the same is looked at with greedy texts.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from captions_plain import Plain, made_blip
from common import WORK, Bar, at_least, bar, finish, photos

from curate.run.reader import BATCH
from stages.base import UID, Batch
from stages.captioner import Caption
from stages.clip_ahead import Ahead
from training_smoke.sampling import Sampling

DRAWN = Sampling("nucleus", p=0.9, min_tokens=5, max_tokens=20)
LIKELIEST = Sampling("greedy", min_tokens=5, max_tokens=20)
LENGTHS_AGREE = 0.15  # of the plain mean: draws are others, their lengths must not be
LIMIT = 1.3


@dataclass(frozen=True)
class Size:
    """What is compared. pictures: in a pass. batches: of the plain loop, tried before; passes: alternated."""

    name: str
    side: int
    pictures: int
    batches: tuple[int, ...]
    passes: int
    device: str = "cpu"
    own_batch: int = 16
    limit: float | None = LIMIT


QUICK = Size("tiny", 64, 16, (16,), 1, limit=None)
FULL = Size("base", 384, 32, (4, 8, 16, 32), 5)


def measure(quick: bool) -> dict[str, Bar]:
    """quick: a tiny model and one pass; no bar."""
    threads = os.cpu_count() or 1
    torch.set_num_threads(threads)
    return compared(QUICK if quick else FULL, threads)


def compared(size: Size, threads: int) -> dict[str, Bar]:
    """Both sides, and what their ratio is."""
    folder = made_blip(size.name, size.side, WORK / f"blip-{size.name}-{size.side}" / "model")
    low = size.device == "cuda"
    plain, jpegs = Plain(folder, size.device, low), some_photos(size.pictures)
    ours = {how.kind: captioner(folder, how, size, threads) for how in (DRAWN, LIKELIEST)}
    captions(ours["nucleus"], jpegs[:8])  # both load, and compile what they do
    plain.captions(jpegs[:8], 8, DRAWN)
    best = max(size.batches, key=lambda n: pace(lambda: plain.captions(jpegs, n, DRAWN), size.pictures)[0])
    ratios, means = [], {"ours": 0.0, "plain": 0.0}  # tokens of a caption, over all passes
    for number in range(size.passes):
        theirs, said = pace(lambda: plain.captions(jpegs, best, DRAWN), size.pictures)
        own, mine = pace(lambda: captions(ours["nucleus"], jpegs), size.pictures)
        ratios.append(own / theirs)
        for name, texts in (("ours", mine), ("plain", said)):
            means[name] += mean_tokens(plain, texts) / size.passes
        print(f"{number}: ours {own:.2f}, transformers {theirs:.2f} captions/s", flush=True)
    if size.limit is not None:
        check_lengths(means)
    same = equal(captions(ours["greedy"], jpegs[:16]), plain.captions(jpegs[:16], best, LIKELIEST))
    ratio = sorted(ratios)[len(ratios) // 2]
    print(
        f"{size.name}, {size.device}: {ratio:.2f} times transformers at batch {best}; {same:.0%} of greedy texts equal"
    )
    name = "gpu_captions" if size.device == "cuda" else "captions"
    return {
        f"{name}_over_transformers": bar(round(ratio, 3), LIMIT, None)
        if size.limit is None
        else at_least(ratio, size.limit),
        f"{name}_greedy_texts_equal": bar(round(same, 3), None, None),
    }


def captioner(folder: Path, how: Sampling, size: Size, threads: int) -> Caption:
    """The stage, loaded."""
    stage = Caption(
        weights=str(folder),
        sampling=how.kind,
        p=how.p,
        min_tokens=how.min_tokens,
        max_tokens=how.max_tokens,
        device=size.device,
        precision="bf16" if size.device == "cuda" else "fp32",
        batch=size.own_batch,
        cpus=threads,
    )
    stage.open()
    return stage


def captions(stage: Caption, jpegs: Sequence[bytes]) -> list[str]:
    """Of all pictures, in the batches of a run; beside a GPU prepared ahead, as a run does it.

    Raises:
        RuntimeError: a picture has none.
    """
    given = [of_run(jpegs[start : start + BATCH], start) for start in range(0, len(jpegs), BATCH)]
    coming = Ahead(given, stage.prepare, threads=stage.cpus) if stage.need().gpus else given
    tables = [stage.run(batch) for batch in coming]
    said = pa.concat_tables(tables).column("caption").to_pylist()
    if None in said:
        raise RuntimeError(f"no caption: {[t.column('error').to_pylist() for t in tables]}")
    return said


def of_run(jpegs: Sequence[bytes], first: int) -> Batch:
    uid = pa.array([(first + i).to_bytes(16, "big") for i in range(len(jpegs))], pa.binary(16))
    return Batch({UID: uid}, len(jpegs), jpegs.__getitem__)


def pace(work: Callable[[], list[str]], count: int) -> tuple[float, list[str]]:
    """(captions a second, captions)."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    began = time.perf_counter()
    said = work()
    return count / (time.perf_counter() - began), said


def mean_tokens(plain: Plain, said: Sequence[str]) -> float:
    """Tokens of a caption, cut into them again."""
    found = plain.processor.tokenizer(list(said), add_special_tokens=False)["input_ids"]
    return sum(map(len, found)) / len(found)


def check_lengths(means: dict[str, float]) -> None:
    """
    Raises:
        ValueError: texts of one side are longer: a ratio of times would say nothing.
    """
    if abs(means["ours"] / means["plain"] - 1) > LENGTHS_AGREE:
        raise ValueError(f"mean tokens of a caption: {means}")


def equal(a: Sequence[str], b: Sequence[str]) -> float:
    """Share of texts that are the same, white space aside."""
    return sum("".join(x.split()) == "".join(y.split()) for x, y in zip(a, b, strict=True)) / len(a)


def some_photos(count: int) -> list[bytes]:
    table = next(pq.ParquetFile(photos(count)).iter_batches(count, columns=["image"]))
    return [bytes(data) for data in table.column("image").to_pylist()]


if __name__ == "__main__":
    WORK.mkdir(parents=True, exist_ok=True)
    finish(measure("--quick" in sys.argv), None)
