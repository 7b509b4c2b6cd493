"""Steps and MFU of large families on one GPU, beside open_clip's and transformers' own: random weights, bf16.

    python bench/families_gpu.py [--quick]         # also a part of bench/families.py

CoCa ViT-B/32, BLIP ViT-B/16, and a LLaVA of 0.58 billion parameters (ViT-B/16, and the shape of Qwen2-0.5B: 24 layers
of 896, 151,936 words), at the same batch, weights and texts on both sides, neither compiled. Ours is
`training_smoke.train.one_step` over bytes on the GPU, theirs bench/families_plain.py over float images. Passes are
alternated, medians count. Operations are counted in a forward and a backward pass as they are run; MFU is told over the
matrix product measured in this run (bf16, 8192 a side) and over 989 TFLOP/s, the vendor's figure for an H100 or H200.
Without a GPU every bar is null.

It needs what bench/train_gpu.py needs, and transformers.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import torch
from common import NOT_MEASURED, WORK, Bar, alternated, at_least, bar, finish, fresh
from families_step import LIBRARY
from torch.utils.flop_counter import FlopCounterMode
from train_gpu import VENDOR, rate, warm
from train_gpu_pack import caption

from training_smoke.config import Config, scale
from training_smoke.distributed import World
from training_smoke.families.base import Moment
from training_smoke.learners import Learner, learner_of
from training_smoke.loader import Batch
from training_smoke.optimiser import adamw
from training_smoke.speed import matmul_flops
from training_smoke.train import one_step

RANDOM = {"vision": None, "language": None, "template": "roles"}  # not the published parts that the scale names
SIZES: dict[str, tuple[dict[str, Any], dict[str, Any], int]] = {
    "coca": ({"name": "coca_ViT-B-32"}, {}, 512),
    "blip": ({"name": "base", "image_size": 224, "context": 30}, {}, 128),
    "llava": ({"name": "half-billion", "context": 128}, RANDOM | {"alignment": 0.0}, 64),
}
"""Towers, settings, batch."""
LINE = "{:<8} {:>8} {:>6} {:>12} {:>12} {:>7} {:>7} {:>7} {:>6}"


def measure(quick: bool) -> dict[str, Bar]:
    """quick: two passes in place of five."""
    names = [f"gpu_{name}_{what}" for name in SIZES for what in ("samples_per_s", f"over_{LIBRARY[name]}", "mfu")]
    missing = [package for package in ("open_clip", "transformers") if find_spec(package) is None]
    if not torch.cuda.is_available() or missing:
        why = f"no {', '.join(missing)} here" if missing else "torch sees no NVIDIA GPU"
        print(f"steps on a GPU: not measured, {why}")
        return dict.fromkeys(names, NOT_MEASURED)
    torch.backends.cuda.matmul.allow_tf32 = True
    device = torch.device("cuda", torch.cuda.current_device())
    peak = matmul_flops(device, torch.bfloat16, 2.0)
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}: matrix product {peak / 1e12:.0f} TFLOP/s (bf16)")
    print(LINE.format("family", "params", "batch", "ours /s", "theirs /s", "ratio", "MFU", "of 989", "GB"))
    bars = {"gpu_matmul_tflops": bar(round(peak / 1e12), None, None)}
    for name in SIZES:
        bars |= beside(name, device, peak, 2 if quick else 5)
        torch.cuda.empty_cache()
    return bars


def beside(name: str, device: torch.device, peak: float, passes: int) -> dict[str, Bar]:
    """Ours and theirs on the same texts, alternated; a line of the table."""
    towers, settings, batch = SIZES[name]
    config = scale("small", name).but(
        towers=towers, settings=settings, batch=batch, samples=batch * 1000, compile=False, micro_batch=None
    )
    torch.cuda.reset_peak_memory_stats()
    learner = learner_of(config, World(0, 1, device, None))
    learner.wrap()
    data = batch_of(learner, batch, device)
    flops = counted(learner, data) / batch
    ours = our_step(learner, data, config)
    theirs = their_step(name, learner, data, config, device)
    warm(ours), warm(theirs)
    pace = alternated({"ours": lambda _: rate(ours, batch), "theirs": lambda _: rate(theirs, batch)}, passes)
    ratio, mfu, vendor = (pace["ours"] / x for x in (pace["theirs"], peak / flops, VENDOR / flops))
    params = f"{sum(p.numel() for p in learner.model.parameters()) / 1e6:.0f}M"
    told = (f"{pace['ours']:.0f}", f"{pace['theirs']:.0f}", f"{ratio:.3f}", f"{mfu:.1%}", f"{vendor:.1%}")
    print(LINE.format(name, params, batch, *told, f"{torch.cuda.max_memory_allocated() / 1e9:.0f}"), flush=True)
    return {
        f"gpu_{name}_samples_per_s": bar(round(pace["ours"]), None, None),
        f"gpu_{name}_over_{LIBRARY[name]}": at_least(ratio, 1.0),
        f"gpu_{name}_mfu": bar(round(mfu, 3), None, None),
    }


def batch_of(learner: Learner, batch: int, device: torch.device) -> Batch:
    size = learner.model.image_size
    images = torch.randint(0, 256, (batch, 3, size, size), dtype=torch.uint8, device=device)
    tokens = learner.model.tokenize([caption(i) for i in range(batch)]).to(device)
    return Batch(0, images, tokens, [], None, 0.0)


def counted(learner: Learner, data: Batch) -> int:
    """Floating-point operations of a step's forward and backward pass over this batch."""
    with FlopCounterMode(display=False) as counter:
        learner.backward(data, Moment(0, 1000, 0))
    for module in learner.modules.values():
        module.zero_grad(set_to_none=True)
    return int(counter.get_total_flops())


def our_step(learner: Learner, data: Batch, config: Config) -> Callable[[], object]:
    optimiser = adamw(learner.modules, config.optimiser)
    moment = Moment(500, 1000, 0)
    return lambda: one_step(learner, optimiser, data, moment)


def their_step(name: str, learner: Learner, data: Batch, config: Config, device: torch.device) -> Callable[[], object]:
    from families_plain import plain_of

    family: Any = learner.model
    plain = plain_of(name, family, config, fresh("families-gpu") / "model", str(device))
    plain.low = True
    images = (data.images.float() / 255 - family.mean) / family.std
    inputs = [value.to(device) for value in plain.inputs(data.tokens.cpu())]
    return lambda: plain.step(images, *inputs)


if __name__ == "__main__":
    WORK.mkdir(parents=True, exist_ok=True)
    finish(measure("--quick" in sys.argv), None)
