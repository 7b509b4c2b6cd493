"""Run by an interpreter that has CLIP_benchmark: its own numbers for a folder, as JSON on the last line.

python clip_benchmark_says.py CONFIGS MODEL WEIGHTS FOLDER [FOLDER ...]
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any


def numbers(model: Any, transform: Any, tokenizer: Any, folder: str) -> dict[str, float]:
    """What `clip_benchmark eval --dataset wds/... --no-amp` computes (clip_benchmark/cli.py, run)."""
    import torch
    from clip_benchmark.datasets.builder import build_dataset
    from clip_benchmark.metrics import zeroshot_classification, zeroshot_retrieval

    retrieval = (Path(folder) / "dataset_type.txt").exists()
    task = "zeroshot_retrieval" if retrieval else "zeroshot_classification"
    dataset = build_dataset("wds/ours", root=folder, transform=transform, split="test", download=False, task=task)
    loader = torch.utils.data.DataLoader(dataset.batched(64), batch_size=None, shuffle=False, num_workers=0)
    if retrieval:
        return zeroshot_retrieval.evaluate(model, loader, tokenizer, "cpu", amp=False, recall_k_list=[1, 5, 10])
    return zeroshot_classification.evaluate(
        model, loader, tokenizer, dataset.classes, dataset.templates, "cpu", amp=False
    )


def main(configs: str, name: str, weights: str, *folders: str) -> None:
    import open_clip
    import torch

    torch.set_num_threads(1)
    open_clip.add_model_config(configs)
    model, _, transform = open_clip.create_model_and_transforms(name)
    model.load_state_dict(torch.load(weights, weights_only=True))
    tokenizer = open_clip.get_tokenizer(name)
    print(json.dumps([numbers(model.eval(), transform, tokenizer, folder) for folder in folders]))


if __name__ == "__main__":
    main(*sys.argv[1:])
