"""Captioning on a GPU beside a plain transformers `generate` loop at its best batch: BLIP ViT-B/16, bf16.

    python bench/captions_gpu.py [--quick]         # also a part of bench/captions.py

As bench/captions_pace.py has it; the stage decodes ahead in threads, as a run does. Without a GPU every bar is null.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import torch
from captions_pace import Size, compared
from common import NOT_MEASURED, WORK, Bar, finish

LIMIT = 2.0
FULL = Size("base", 384, 4096, (64, 128, 256, 512), 3, "cuda", own_batch=256, limit=LIMIT)
QUICK = Size("base", 384, 1024, (64, 256), 1, "cuda", own_batch=256, limit=None)


def measure(quick: bool) -> dict[str, Bar]:
    """quick: fewer pictures, one pass; no bar."""
    if not torch.cuda.is_available():
        print("captions on a GPU: not measured, torch sees no NVIDIA GPU")
        return {"gpu_captions_over_transformers": NOT_MEASURED, "gpu_captions_greedy_texts_equal": NOT_MEASURED}
    return compared(QUICK if quick else FULL, os.cpu_count() or 1)


if __name__ == "__main__":
    WORK.mkdir(parents=True, exist_ok=True)
    finish(measure("--quick" in sys.argv), None)
