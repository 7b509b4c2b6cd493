"""Twelve recipes over one pool of 100,000 real photos: what the second to the twelfth cost once the first is through.

The first recipe computes every feature that the twelve read: vectors of two CLIP-like networks, their scores, clusters,
language, counts. Each recipe is a command of its own, as a person runs it; its start counts. The networks are small
ones with random weights: those that people use cost the first recipe many times as much, and the others the same.
"""

from __future__ import annotations

import shutil
import sys
import time
from pathlib import Path

import numpy as np

sys.path[:0] = [str(Path(__file__).resolve().parent), str(Path(__file__).resolve().parent.parent)]

from common import Bar, at_most, curate, fresh, photos  # noqa: E402

SAMPLES = 100_000
LIMIT = 0.10
ALL = """
recipe: all_features
columns:
  - clip_embedding: {weights: W1, name: b32}
  - clip_score: {weights: W1, name: b32}
  - clip_embedding: {weights: W2, name: l14}
  - clip_score: {weights: W2, name: l14}
  - cluster_match: {vectors: l14_image, clusters: {k: 256, assign: dot}, target: TARGET}
filters:
  - where: "NOT blank AND cluster_match"
    on_missing: drop
  - id: english
    language: {keep: [en]}
    on_missing: drop
  - caption_length: {min_words: 2, min_chars: 6, count: fasttext}
  - where: "l14_score > -1 AND b32_score > -1"
    on_missing: drop
  - id: same_url
    keep_one: {by: url, over: survivors}
  - id: same_bytes
    keep_one: {by: sha256, over: survivors}
  - id: same_pair
    keep_one: {by: image_text, over: survivors}
  - id: same_picture
    keep_one: {by: phash64, distance: 4, over: survivors}
"""
B32 = ("columns.clip_score.model=null", "columns.clip_score.weights=W1")
L14 = ("columns.clip_score.model=null", "columns.clip_score.weights=W2")
IMAGE = (
    "columns.clip_embedding.model=null",
    "columns.clip_embedding.weights=W2",
    "columns.cluster_match.target=TARGET",
    "columns.cluster_match.clusters.k=256",
)
OTHERS: dict[str, tuple[str, ...]] = {
    "no_filter": (),
    "datacomp_basic": (),
    "datacomp_b32": B32,
    "datacomp_l14": L14,
    "datacomp_l14_028": (*L14, "filters.best.where=l14_score >= 0.0"),
    "datacomp_laion2b": (*B32, "filters.clip.where=b32_score >= 0.0"),
    "laion_400m": (*B32, "filters.clip.where=b32_score >= 0.0"),
    "laion_2b_en": (*B32, "filters.clip.where=b32_score >= 0.0"),
    "datacomp_image": IMAGE,
    "coyo_rules": (),
    "web_default": (),
}


def measure(quick: bool) -> dict[str, Bar]:
    del quick  # it is left out of quick runs
    folder = fresh("twelve")
    names = given(folder)
    ours = [
        "pack=null",
        f"pool={folder / 'pool'}",
        f"source.path={photos(SAMPLES)}",
        "source.url=null",
        "ingest.resize=none",
    ]
    first = folder / "all_features.yaml"
    first.write_text(filled(ALL, names))
    print(f"the pool itself: {seconds('no_filter', ours, 'base'):.1f} s", flush=True)
    seconds_of = {"all features": seconds(str(first), ours)}
    print(f"  {'all features':<30} {seconds_of['all features']:8.1f} s", flush=True)
    for name, more in OTHERS.items():
        seconds_of[name] = seconds(name, [*ours, *(filled(m, names) for m in more)], f"again_{name}")
        print(f"  {name:<30} {seconds_of[name]:8.1f} s", flush=True)
    whole = list(seconds_of.values())
    share = sum(whole[1:]) / whole[0]
    print(f"eleven further recipes: {sum(whole[1:]):.1f} s, {share:.3f} of the first")
    shutil.rmtree(folder)
    return {"further_eleven_over_first": at_most(share, LIMIT)}


def seconds(recipe: str, settings: list[str], name: str | None = None) -> float:
    """Of the command, from its start to its end."""
    told = [*settings, *([f"recipe={name}"] if name else [])]
    began = time.monotonic()
    curate("run", recipe, "--quiet", *(w for s in told for w in ("--set", s)))
    return time.monotonic() - began


def given(folder: Path) -> dict[str, str]:
    """Weights of two networks, and vectors to look for."""
    import torch

    from training_smoke.config import Towers
    from training_smoke.towers import build
    from training_smoke.towers_file import save_towers

    names = {}
    for seed, name in enumerate(("W1", "W2")):
        torch.manual_seed(seed)
        config = Towers("tiny-vit", image_size=64)
        model = build(config, seed)
        save_towers(folder / f"{name}.pt", model, config, {})
        names[name] = str(folder / f"{name}.pt")
        dim = model.encode_images(torch.zeros(1, 3, 64, 64, dtype=torch.uint8)).shape[1]
    target = np.random.default_rng(0).standard_normal((500, dim)).astype(np.float32)
    np.save(folder / "target.npy", target / np.linalg.norm(target, axis=1, keepdims=True))
    return names | {"TARGET": str(folder / "target.npy")}


def filled(text: str, names: dict[str, str]) -> str:
    for name, path in names.items():
        text = text.replace(name, path)
    return text


if __name__ == "__main__":
    print(measure(False))
