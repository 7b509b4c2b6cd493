"""Images a second and MFU of the training step on one GPU, beside open_clip's own step, and then from packs.

    python bench/train_gpu.py [--quick] [--models ViT-B-32,ViT-B-16,ViT-L-14] [--batch 1024] [--pack PATH]

Both sides: the same model, batch, bf16 autocast, torch.compile, fused AdamW, CLIP's loss, data on the GPU. open_clip's
is the step of open_clip_train (3.3.0) over float images; ours is `training_smoke.train.one_step` over the bytes that
loaders give, normalised on the GPU. Passes are alternated, medians count. MFU is told over the matrix product measured
in this run (bf16, 8192 a side), which the bars are about, and over 989 TFLOP/s, the vendor's figure for an H100 or
H200; FLOPs are three times those of a forward pass. From packs: `training_smoke.train.train` as it is, decoding JPEGs
on this machine's cores (streamed), and with pixels decoded before (resident).

It needs an NVIDIA GPU, torch, and of this project training_smoke/ and stages/ with what they import: numpy, pyarrow,
pillow, opencv, simplejpeg, orjson, xxhash, fsspec, scipy, numba; and open_clip_torch with ftfy: without it nothing can
be compared, and every bar is null. Without --pack it draws a pack. Takes about 8 minutes, --quick (B/32 only) 3.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import torch
from common import NOT_MEASURED, WORK, Bar, alternated, at_least, at_most, bar, finish, fresh
from open_clip_loop import open_clip_adamw, open_clip_step
from torch import Tensor, nn
from train_gpu_pack import drawn_pack

from training_smoke.config import Config, Optimiser, Towers
from training_smoke.distributed import World
from training_smoke.families.base import Moment
from training_smoke.learners import learner_of
from training_smoke.loader import Batch
from training_smoke.optimiser import adamw
from training_smoke.packs import Pack
from training_smoke.speed import flops_per_sample, matmul_flops
from training_smoke.train import one_step, train
from training_smoke.writers import read_metrics

MODELS = {"ViT-B-32": (2048, 0.35), "ViT-B-16": (768, 0.45), "ViT-L-14": (256, 0.50)}  # batch, MFU to be reached
VENDOR = 989e12  # dense bf16 of an H100 or H200 SXM, by its data sheet
WARM = 6  # steps in which kernels are compiled and chosen
PASSES, STEPS = 5, 20
NEW_LINE = "{:<10} {:>6} {:>12} {:>12} {:>7} {:>9} {:>9} {:>8}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="ViT-B-32 only, fewer passes; packs streamed only")
    parser.add_argument("--models", default="", help="of open_clip, by commas")
    parser.add_argument(
        "--batch", type=int, help="in place of " + ", ".join(f"{b} ({m})" for m, (b, _) in MODELS.items())
    )
    parser.add_argument("--pack", type=Path, help="one that `curate run` made, in place of a drawn one")
    said = parser.parse_args()
    if not torch.cuda.is_available():
        sys.exit("error: bench/train_gpu.py needs an NVIDIA GPU, and torch sees none; bench/judge_step.py is for CPUs")
    names = said.models.split(",") if said.models else ["ViT-B-32"] if said.quick else list(MODELS)
    WORK.mkdir(parents=True, exist_ok=True)
    if find_spec("open_clip") is None:
        print("open_clip is not installed here (pip install open_clip_torch ftfy): nothing was measured")
        finish({f"{name}_{what}": NOT_MEASURED for name in names for what in ("over_open_clip", "mfu")}, None)
    finish(measured(names, said.batch, said.pack, said.quick), None)


def measured(names: list[str], batch: int | None, pack: Path | None, quick: bool) -> dict[str, Bar]:
    torch.backends.cuda.matmul.allow_tf32 = True
    device = torch.device("cuda", torch.cuda.current_device())
    peak = matmul_flops(device, torch.bfloat16, 2.0)
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}: matrix product {peak / 1e12:.0f} TFLOP/s (bf16)")
    print(NEW_LINE.format("model", "batch", "ours img/s", "open_clip", "ratio", "MFU", "of 989", "GB"))
    bars = {"matmul_tflops": bar(round(peak / 1e12), None, None)}
    for name in names:
        default, least = MODELS.get(name, (512, 0.0))
        bars |= beside(name, batch or default, least, device, peak, 2 if quick else PASSES)
        torch.cuda.empty_cache()
    source = Pack.open(pack or drawn_pack(WORK / "gpu-pack", 8192, 256))
    for tier, resident in (("streamed", False), ("resident", True))[: 1 if quick else 2]:
        bars |= from_packs(source, names[0], batch or MODELS.get(names[0], (512, 0.0))[0], tier, resident)
    return bars


# ---------------------------------------------------------------------------------------------- two steps, side by side


def beside(name: str, batch: int, least: float, device: torch.device, peak: float, passes: int) -> dict[str, Bar]:
    """Ours and open_clip's on the same data, alternated; a line of the table."""
    config = settings(name, batch)
    ours, flops = our_step(config, device)
    theirs = their_step(config, device)
    torch.cuda.reset_peak_memory_stats()
    warm(ours), warm(theirs)
    pace = alternated({"ours": lambda _: rate(ours, batch), "theirs": lambda _: rate(theirs, batch)}, passes)
    ratio, mfu = pace["ours"] / pace["theirs"], pace["ours"] * flops / peak
    memory = torch.cuda.max_memory_allocated() / 1e9
    vendor = pace["ours"] * flops / VENDOR
    row = (name, batch, f"{pace['ours']:.0f}", f"{pace['theirs']:.0f}", f"{ratio:.3f}", f"{mfu:.1%}", f"{vendor:.1%}")
    print(NEW_LINE.format(*row, f"{memory:.0f}"), flush=True)
    return {
        f"{name}_images_per_s": bar(round(pace["ours"]), None, None),
        f"{name}_over_open_clip": at_least(ratio, 1.0),
        f"{name}_mfu": at_least(mfu, least),
        f"{name}_mfu_of_989": bar(round(vendor, 3), None, None),
    }


def settings(name: str, batch: int) -> Config:
    return Config(
        towers=Towers(name),
        optimiser=Optimiser(lr=5e-4, warmup=batch * 100),
        samples=batch * 1000,
        batch=batch,
        precision="bf16",
        compile=True,
    )


def our_step(config: Config, device: torch.device) -> tuple[Callable[[], object], int]:
    """(a step, FLOPs of a sample)."""
    learner = learner_of(config, World(0, 1, device, None))
    learner.wrap()
    size, context = learner.model.image_size, learner.model.context
    images = torch.randint(0, 256, (config.batch, size, size, 3), dtype=torch.uint8, device=device).permute(0, 3, 1, 2)
    data = Batch(0, images, texts(config.batch, context, device), [], None, 0.0)
    flops = flops_per_sample(learner.model)
    optimiser = adamw(learner.modules, config.optimiser)
    moment = Moment(0, config.steps, 0)
    return lambda: one_step(learner, optimiser, data, moment), flops


def their_step(config: Config, device: torch.device) -> Callable[[], object]:
    """open_clip's, as with --precision amp_bf16 --torchcompile, and with a fused AdamW."""
    import open_clip

    model: nn.Module = open_clip.create_model(config.towers.name).to(device)
    size = model.visual.image_size
    height, width = size if isinstance(size, tuple) else (size, size)
    images = torch.randn(config.batch, 3, height, width, device=device)
    tokens = texts(config.batch, model.context_length, device)
    optimiser = open_clip_adamw(model, config.optimiser, fused=True)
    step = open_clip_step(model.train(), torch.compile(model), optimiser, low=True)
    return lambda: step(images, tokens)


def texts(batch: int, context: int, device: torch.device) -> Tensor:
    """Tokens as of captions: a start, some words, an end that is the highest number, zeros."""
    tokens = torch.randint(1, 40_000, (batch, context))
    lengths = torch.randint(5, context - 1, (batch, 1))
    place = torch.arange(context)
    tokens[:, 0] = 49_406
    tokens = tokens.where(place < lengths, 0).masked_fill(place == lengths, 49_407)
    return tokens.to(device)


def warm(step: Callable[[], object]) -> None:
    for _ in range(WARM):
        step()
    torch.cuda.synchronize()


def rate(step: Callable[[], object], batch: int) -> float:
    """Images a second over so many steps, the host never waiting within."""
    torch.cuda.synchronize()
    began = time.perf_counter()
    for _ in range(STEPS):
        step()
    torch.cuda.synchronize()
    return STEPS * batch / (time.perf_counter() - began)


# ---------------------------------------------------------------------------------------------- from packs


def from_packs(pack: Pack, name: str, batch: int, tier: str, resident: bool) -> dict[str, Bar]:
    """The whole loop, its first interval (compilation) left out."""
    config = settings(name, batch).but(samples=batch * 50, resident=resident, log_every=10)
    config = config.but(workers=len(os.sched_getaffinity(0)))
    folder = fresh("gpu-run")
    train(folder, config, {pack: 1.0})
    lines = read_metrics(folder)[2:]
    seconds = [1 / line["samples_per_s"] for line in lines]
    pace = len(lines) / sum(seconds)
    waits = sum(s * line["wait_share"] for s, line in zip(seconds, lines, strict=True)) / sum(seconds)
    mfu = sum(s * line["mfu"] for s, line in zip(seconds, lines, strict=True)) / sum(seconds)
    print(f"{name} from {pack.url}, {tier}: {pace:.0f} images/s, MFU {mfu:.1%}, waits {waits:.1%} of its time")
    return {
        f"packs_{tier}_images_per_s": bar(round(pace), None, None),
        f"packs_{tier}_wait_share": at_most(waits, 0.05, 4),
    }


if __name__ == "__main__":
    main()
