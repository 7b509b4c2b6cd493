"""CLIP vectors on one GPU, from packed shards, beside a plain open_clip loop and beside the bare forward passes.

    python bench/embed_gpu.py [--quick] [--models ViT-B-32,ViT-L-14] [--batch 256] [--threads 14] [--pack PATH]

Weights are drawn at random: what they are decides nothing of what it costs. Three ways, in pairs a second:
- ours: `ClipEmbedding(device="cuda", precision="bf16")`, its batches of 256 rows prepared ahead by threads
  (stages/clip_ahead.py), compiled; read from the tars of a pack. Its wait share has to stay under 5 %.
- plain: what one writes with open_clip: WebDataset-like samples, PIL, open_clip's own transform in a torch DataLoader
  of as many workers, bf16 autocast, `encode_image` and `encode_text`.
- bare: the same compiled towers over tensors that lie on the GPU already, 77 places a text.
Where pictures come faster out of the GPU than this machine's cores can decode (B/32), the bars of waiting and of bare
cannot be reached, and the rate of decoding alone is printed beside.

It needs an NVIDIA GPU, torch, open_clip_torch, and of this project stages/, training_smoke/ and bench/. Without --pack
it draws one. Takes about 8 minutes, --quick (B/32 only) 3. It has not run on a GPU yet.
"""

from __future__ import annotations

import argparse
import io
import os
import sys
import tarfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
import pyarrow as pa
import torch
from common import WORK, Bar, at_least, at_most, bar, finish
from embed_weights import random_weights
from PIL import Image
from train_gpu import texts as drawn_tokens
from train_gpu_pack import drawn_pack

from stages.base import Batch
from stages.clip import ClipEmbedding
from stages.clip_ahead import Ahead

MODELS = ("ViT-B-32", "ViT-L-14")
ROWS = 256  # of a batch, as a worker of a pool sees them
LINE = "{:<10} {:>9} {:>9} {:>9} {:>9} {:>7}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="ViT-B-32 only, fewer samples")
    parser.add_argument("--models", default="", help="of open_clip, by commas")
    parser.add_argument("--batch", type=int, default=ROWS, help="pictures in a forward pass")
    parser.add_argument("--threads", type=int, default=max(1, len(os.sched_getaffinity(0)) - 2), help="that decode")
    parser.add_argument("--pack", type=Path, help="one that `curate run` made, in place of a drawn one")
    said = parser.parse_args()
    if not torch.cuda.is_available():
        sys.exit(
            "error: bench/embed_gpu.py needs an NVIDIA GPU, and torch sees none; bench/scores_embed.py is for CPUs"
        )
    names = said.models.split(",") if said.models else [MODELS[0]] if said.quick else list(MODELS)
    WORK.mkdir(parents=True, exist_ok=True)
    pack = said.pack or drawn_pack(WORK / "gpu-pack", 8192, 256)
    samples = list(read(Path(pack)))[: 4096 if said.quick else None]
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}, {len(samples)} samples, {said.threads} threads")
    print(LINE.format("model", "ours/s", "plain/s", "bare/s", "decode/s", "wait"))
    bars: dict[str, Bar] = {}
    for name in names:
        bars |= compared(name, samples, said.batch, said.threads)
        torch.cuda.empty_cache()
    finish(bars, None)


def compared(name: str, samples: list[tuple[bytes, str]], batch: int, threads: int) -> dict[str, Bar]:
    """All three ways over the same samples; a line of the table."""
    stage = ClipEmbedding(model=name, weights=str(random_weights(name)), device="cuda", precision="bf16", batch=batch)
    pace, wait = ours(stage, samples, threads)
    plain = plain_loop(name, samples, batch, threads)
    bare = bare_rate(stage, batch)
    decode = decoding(stage, samples, threads)
    print(LINE.format(name, *(f"{v:.0f}" for v in (pace, plain, bare, decode)), f"{wait:.1%}"), flush=True)
    return {
        f"{name}_pairs_per_s": bar(round(pace), None, None),
        f"{name}_over_plain_open_clip": at_least(pace / plain, 1.0),
        f"{name}_over_bare": at_least(pace / min(bare, decode), 0.9),
        f"{name}_wait_share": at_most(wait, 0.05, 4),
    }


# ---------------------------------------------------------------------------------------------- ours


def ours(stage: ClipEmbedding, samples: list[tuple[bytes, str]], threads: int) -> tuple[float, float]:
    """(samples a second, wait share), after a pass over some that compiles."""
    for batch in batches(samples[: 2 * ROWS]):
        stage.run(batch)
    torch.cuda.synchronize()
    ahead = Ahead(batches(samples), stage.prepare, threads)
    began = time.perf_counter()
    rows = sum(stage.run(batch).num_rows for batch in ahead)
    return rows / (time.perf_counter() - began), ahead.wait_share


def decoding(stage: ClipEmbedding, samples: list[tuple[bytes, str]], threads: int) -> float:
    """Samples a second that the threads prepare where nothing else is done."""
    began = time.perf_counter()
    rows = sum(batch.num_rows for batch in Ahead(batches(samples), stage.prepare, threads))
    return rows / (time.perf_counter() - began)


def bare_rate(stage: ClipEmbedding, batch: int) -> float:
    """Samples a second of both towers, inputs on the GPU, nothing taken back."""
    clip = stage.clip()
    size, context = clip.fit.size, clip.texts.context
    squares = torch.randint(0, 256, (batch, size, size, 3), dtype=torch.uint8, device="cuda")
    tokens = drawn_tokens(batch, context, torch.device("cuda"))

    def step() -> None:
        clip._encode_images(squares)
        clip._encode_texts[context](tokens)

    return batch / timed(step)


def timed(step: Callable[[], object], steps: int = 30) -> float:
    """Seconds of one, the host never waiting within."""
    with torch.inference_mode():
        for _ in range(6):
            step()
        torch.cuda.synchronize()
        began = time.perf_counter()
        for _ in range(steps):
            step()
        torch.cuda.synchronize()
    return (time.perf_counter() - began) / steps


def batches(samples: list[tuple[bytes, str]]) -> Iterator[Batch]:
    for start in range(0, len(samples), ROWS):
        some = samples[start : start + ROWS]
        yield Batch.of(pa.table({"text": [text for _, text in some]}), [data for data, _ in some])


# ---------------------------------------------------------------------------------------------- theirs


class Decoded(torch.utils.data.Dataset[tuple[torch.Tensor, str]]):
    """Samples through open_clip's own transform."""

    def __init__(self, samples: list[tuple[bytes, str]], transform: Callable[[Image.Image], torch.Tensor]) -> None:
        self.samples, self.transform = samples, transform

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, i: int) -> tuple[torch.Tensor, str]:
        data, text = self.samples[i]
        return self.transform(Image.open(io.BytesIO(data)).convert("RGB")), text


def plain_loop(name: str, samples: list[tuple[bytes, str]], batch: int, workers: int) -> float:
    """Samples a second of open_clip as its README has it, loaded by so many workers; the first batch left out."""
    import open_clip

    model, _, transform = open_clip.create_model_and_transforms(name, pretrained=str(random_weights(name)))
    model, tokenizer = model.cuda().eval(), open_clip.get_tokenizer(name)
    loader = torch.utils.data.DataLoader(Decoded(samples, transform), batch, num_workers=workers, pin_memory=True)
    vectors: list[np.ndarray] = []
    began, rows = time.perf_counter(), 0
    with torch.inference_mode(), torch.autocast("cuda", torch.bfloat16):
        for number, (images, texts) in enumerate(loader):
            if number == 1:
                began, rows = time.perf_counter(), 0
            image = model.encode_image(images.cuda(non_blocking=True), normalize=True)
            text = model.encode_text(tokenizer(list(texts)).cuda(), normalize=True)
            vectors += [image.half().cpu().numpy(), text.half().cpu().numpy()]
            rows += len(images)
    return rows / (time.perf_counter() - began)


# ---------------------------------------------------------------------------------------------- what both take


def read(pack: Path) -> Iterator[tuple[bytes, str]]:
    """(image, text) of each sample of a pack's tars, in their order."""
    for path in sorted(pack.glob("*.tar")):
        with tarfile.open(path) as tar:
            sample: dict[str, bytes] = {}
            key = ""
            for member in tar:
                stem, _, kind = member.name.partition(".")
                if stem != key:
                    key, sample = stem, {}
                file = tar.extractfile(member)
                sample[kind] = file.read() if file else b""
                image = next((sample[k] for k in ("jpg", "png", "webp") if k in sample), None)
                if image is not None and "txt" in sample:
                    yield image, sample["txt"].decode()
                    sample = {}


if __name__ == "__main__":
    main()
