"""CLIP vectors on a CPU, from shards of 256 pixels, beside the bare forward passes of the same towers.

    python bench/scores_embed.py [--quick]         # also a part of bench/scores.py

ViT-B/32 with the image tower in bf16 and the text tower in fp32, weights drawn at random. Ours is a worker's `describe`
over a shard, once the model is loaded: tar, decoding, preprocessing, tokens, both towers, fp16 and the file of columns.
Bare is `encode_image` and `encode_text` of the same model over tensors that lie ready in memory, in batches of the same
size. CPU-seconds of one thread, passes alternated; medians of the ratios. Ours computes most texts at 16 or 32 places
of 77 (stages/clip_text.py), so three ratios are told: over the bare model as it is (the bar); over the bare model with
texts cut the same; and of pictures alone (mirrored ones: the same work without texts), where nothing is saved. The
photos, 224 pixels square, are stretched to 4:3, 3:2 or 2:3 with a shorter side of 256 before they are stored.
"""

from __future__ import annotations

import argparse
import io
import sys
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from common import WORK, Bar, alternated, at_least, at_most, bar, finish, fresh, photos
from embed_weights import random_weights
from PIL import Image

from curate.pool.layout import short_hash
from curate.pool.lists import listed, register
from curate.pool.pool import Pool
from curate.run.describe import Describe, describe, opened
from curate.run.fetch.spec import IngestSpec
from curate.run.ingest import ingest_shard
from curate.run.sources import SourceSpec, open_source
from stages.base import TEXT, Batch, Stage, shard_name
from stages.clip import ClipEmbedding
from stages.clip_model import Clip, threads
from stages.clip_text import lengths, text_encoders
from stages.clip_view import ClipView
from stages.text_boxes import TextBoxes

MODEL = "ViT-B-32"
SIZES = ((341, 256), (384, 256), (256, 384))
BATCH = 32


def measure(quick: bool) -> dict[str, Bar]:
    """Ratios of rates in CPU-seconds, ours over bare, and the share of decoding and preprocessing."""
    rows, passes = 256, 1 if quick else 5
    pool, numbers = pool_of(rows), iter(range(10_000))
    both = ClipEmbedding(model=MODEL, weights=str(random_weights(MODEL)), precision="bf16", batch=BATCH)
    pictures = ClipView(model=MODEL, weights=both.weights, precision="bf16", batch=BATCH, view="flipped")
    clip, (squares, tokens) = both.clip(), inputs(both, pool)
    contenders: dict[str, Callable[[], object]] = {
        "ours": lambda: described(pool, both, next(numbers)),
        "bare": lambda: bare(clip, squares, tokens, cut=False),
        "bare_cut": lambda: bare(clip, squares, tokens, cut=True),
        "ours_pictures": lambda: described(pool, pictures, next(numbers)),
        "bare_pictures": lambda: bare(clip, squares, None, cut=False),
    }
    took = medians(contenders, passes)
    images = rows / took["ours_pictures"]
    print(f"{MODEL}, {rows} rows: CPU-seconds " + ", ".join(f"{n} {s:.2f}" for n, s in took.items()))
    before = prepared(both, pool)
    print(f"decoding and preprocessing: {before / rows * 1e3:.2f} ms a picture; {rows / took['ours']:.1f} pairs/s")
    return {
        "embed_cpu_over_bare": at_least(took["bare"] / took["ours"], 0.9),
        "embed_cpu_over_bare_of_cut_texts": at_least(took["bare_cut"] / took["ours"], 0.9),
        "embed_cpu_pictures_over_bare": at_least(took["bare_pictures"] / took["ours_pictures"], 0.9),
        "embed_cpu_preprocessing_share": at_most(before / took["ours_pictures"], 0.1),
        "embed_cpu_pictures_per_cpu_s": bar(round(images, 1), None, None),
        **text_detectors(pool),
    }


def medians(contenders: dict[str, Callable[[], object]], passes: int) -> dict[str, float]:
    """CPU-seconds of each, warm, on one thread."""

    def timed(work: Callable[[], object]) -> Callable[[int], float]:
        def once(_: int) -> float:
            began = time.process_time()
            work()
            return time.process_time() - began

        return once

    with threads(1):
        for work in contenders.values():
            work()
        return alternated({name: timed(work) for name, work in contenders.items()}, passes)


# ---------------------------------------------------------------------------------------------- both sides


def described(pool: Pool, stage: Stage, number: int) -> None:
    """All shards of the pool through a worker, into a folder that is not there yet."""
    opened(stage)
    work = Describe(pool.storage.url, (stage,), {stage: f"columns/embed@{short_hash(number)}"})
    for shard in pool.shards():
        done = describe(work, shard_name(shard))
        assert done["stages"] == 1
        assert done["errors"] == 0


def bare(clip: Clip, squares: torch.Tensor, tokens: np.ndarray | None, cut: bool) -> None:
    """Forward passes alone. squares: bf16 (n, 3, size, size), normalised."""
    encoders = text_encoders(clip.texts) if cut else {clip.texts.context: clip.texts.text_features}
    with torch.inference_mode():
        for start in range(0, len(squares), BATCH):
            clip.images.image_features(squares[start : start + BATCH])
        if tokens is None:
            return
        ends = lengths(clip.texts, tokens)
        for shorter, places in zip([0, *encoders], encoders, strict=False):
            asked = torch.from_numpy(tokens[(ends > shorter) & (ends <= places), :places])
            for start in range(0, len(asked), BATCH):
                encoders[places](asked[start : start + BATCH])


def inputs(stage: ClipEmbedding, pool: Pool) -> tuple[torch.Tensor, np.ndarray]:
    """(squares as the image tower sees them, tokens) of all rows."""
    clip, batches = stage.clip(), read(pool)
    raw = np.concatenate([clip.squares([i for i in b.images() if i is not None]) for b in batches])
    pixels = torch.from_numpy(raw).permute(0, 3, 1, 2).to(clip.images.mean.dtype)
    tokens = clip.tokens([text for b in batches for text in b[TEXT].to_pylist()])
    return ((pixels / 255 - clip.images.mean) / clip.images.std).contiguous(), tokens


def prepared(stage: ClipEmbedding, pool: Pool) -> float:
    """CPU-seconds of decoding, cutting to squares and tokenising all rows; the least of three."""
    stage.open()

    def once() -> float:
        batches, began = read(pool), time.process_time()
        for batch in batches:
            stage.prepare(batch)
        return time.process_time() - began

    return min(once() for _ in range(3))


def read(pool: Pool) -> list[Batch]:
    """The pool's rows as a worker sees them, with bytes in memory."""
    from curate.run.reader import ShardReader
    from stages.base import IMAGE

    found = []
    for shard in pool.shards():
        for batch in ShardReader(pool.storage, shard, {}).batches((IMAGE, TEXT)):
            data = [batch.image_bytes(i) for i in range(batch.num_rows)]
            found.append(Batch.of(pa.table({"text": batch[TEXT]}), data))
    return found


# ---------------------------------------------------------------------------------------------- text detectors


def text_detectors(pool: Pool) -> dict[str, Bar]:
    """Milliseconds a picture: told, no bar."""
    found: dict[str, Bar] = {}
    batches = read(pool)
    for name in ("strokes", "ppocr"):
        try:
            stage = TextBoxes(detector=name)
            stage.open()
        except ValueError as e:
            print(f"{name}: {e}")
            continue
        for batch in batches:
            batch.images()
        began = time.process_time()
        covers = [stage.run(batch).column("text_cover").to_numpy() for batch in batches]
        each = (time.process_time() - began) / sum(map(len, covers)) * 1e3
        print(f"{name}: {each:.1f} ms a picture, text in {np.mean(np.concatenate(covers) > 0):.1%} of these photos")
        found[f"text_boxes_{name}_ms"] = bar(round(each, 1), None, None)
    return found


# ---------------------------------------------------------------------------------------------- what both take


def pool_of(rows: int) -> Pool:
    """Photos of three shapes, the shorter side 256 pixels, stored as they are."""
    source = fresh("embed") / "photos.parquet"
    given = pq.read_table(photos(max(rows, 400))).slice(0, rows)
    images = [_stretched(data, SIZES[i % len(SIZES)]) for i, data in enumerate(given.column("image").to_pylist())]
    pq.write_table(pa.table({"image": pa.array(images, pa.binary()), "text": given.column("caption")}), source)
    spec = IngestSpec(resize="none")
    pool = Pool.create(str(source.parent / "pool"), spec.pixels(), 256)
    claim = register(pool.storage, open_source(SourceSpec(path=str(source), url=None)), 256)
    for shard in claim.numbers:
        ingest_shard(pool.storage, listed(pool.storage, claim, shard), shard, "photos", spec, claim.bytes_column)
    return pool


def _stretched(data: bytes, size: tuple[int, int]) -> bytes:
    out = io.BytesIO()
    Image.open(io.BytesIO(data)).convert("RGB").resize(size, Image.Resampling.LANCZOS).save(out, "JPEG", quality=95)
    return out.getvalue()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    WORK.mkdir(parents=True, exist_ok=True)
    finish(measure(parser.parse_args().quick), None)
