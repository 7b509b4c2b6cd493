"""A comparison made by hand, with everything that its page and its lines can show."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from curate.pool.pool import Pool
from curate.run.compare.found import Comparison, Difference, Entry, EvaluationSet, Kind, Metric, RunFound
from tests import pools
from tests.ask.pages import drawn
from training_smoke.statistics import holm_corrected, paired

SEEN = 40_192
METRICS = (
    Metric("cifar10/acc1"),
    Metric("cifar10/loss", lower=True, percent=False),
    Metric("flickr8k/mean_recall@1"),
    Metric("flickr8k/median_rank", lower=True, percent=False),
)
SCORES = {
    "no_filter": 0.329,
    "dfn30": 0.471,
    "dfn50": 0.468,
    "dedup": 0.332,
    "random, as dfn30": 0.327,
    "no_filter again": 0.330,
}
SIZES = {
    "no_filter": 40_000,
    "dfn30": 9_000,
    "dfn50": 15_000,
    "dedup": 30_000,
    "random, as dfn30": 9_000,
    "no_filter again": 40_000,
}
KINDS: Mapping[str, Kind] = {"no_filter": "no_filter", "random, as dfn30": "random", "no_filter again": "a_a"}


def runs(name: str, score: float, seeds: Sequence[int], metrics: Sequence[Metric]) -> tuple[RunFound, ...]:
    """Scores near `score`, the same luck for all entries of a seed and a little of their own."""
    found = []
    for seed in seeds:
        luck = np.random.default_rng(seed).normal(0, 0.008) + np.random.default_rng([seed, *name.encode()]).normal(
            0, 0.005
        )
        at = score + float(luck)
        scores = {m.name: (5 - 3 * at if "loss" in m.name else 250 * (1 - at)) if m.lower else at for m in metrics}
        wave = [
            3.9 + 1.7 * math.exp(-s / 9000) - 0.8 * at + 0.02 * math.sin(s / 700 + seed)
            for s in range(5120, SEEN, 1024)
        ]
        curve = tuple(zip(range(5120, SEEN, 1024), wave, strict=True))
        found.append(RunFound(seed, f"runs/{name}/seed{seed}", at, scores, curve, 37.2 + seed, 1510.0))
    return tuple(found)


def entry(name: str, seeds: Sequence[int], metrics: Sequence[Metric] = METRICS, **more: Any) -> Entry:
    kind = KINDS.get(name, "recipe")
    base: dict[str, Any] = {
        "name": name,
        "kind": kind,
        "of": name.removeprefix("random, as ") if kind == "random" else None,
        "pick": f"picks/{name}@0123456789ab",
        "pack": f"packs/{name}@0123456789ab",
        "kept": more.get("samples", SIZES.get(name, 1000)),
        "samples": SIZES.get(name, 1000),
        "seen": SEEN,
        "scoring_s": 0.0 if kind != "recipe" else 95.5,
        "scoring_samples": 0.0 if kind != "recipe" else 31_000.0,
        "runs": runs(name, SCORES.get(name, 0.33), seeds, metrics),
    }
    return Entry(**(base | more))


def differences(
    entries: Sequence[Entry], pairs: Sequence[tuple[str, str]], metric: Metric | None = None
) -> tuple[Difference, ...]:
    """As the comparison makes them: turned where smaller is better, Holm-corrected together."""
    of = {e.name: e.scores(metric.name if metric else None) for e in entries}
    lower = metric is not None and metric.lower
    found = {(a, b): paired(of[b], of[a]) if lower else paired(of[a], of[b]) for a, b in pairs}
    corrected = holm_corrected({f"{a}\n{b}": c for (a, b), c in found.items()})
    name = metric.name if metric else METRICS[0].name
    return tuple(Difference(*key.split("\n"), name, c) for key, c in corrected.items())  # type: ignore[misc]


def comparison(
    names: Sequence[str] = ("dfn30", "dfn50", "dedup", "no_filter", "random, as dfn30", "no_filter again"),
    seeds: Sequence[int] = (0, 1, 2, 3),
    entries: Sequence[Entry] | None = None,
    **more: Any,
) -> Comparison:
    """Recipes against no filter and their random subsets, and each against the next."""
    entries = [entry(name, seeds) for name in names] if entries is None else entries
    recipes = [e.name for e in entries if e.kind == "recipe"]
    randoms = {of: e.name for e in entries if e.kind == "random" for of in (e.of or "").split(", ")}
    pairs = [(r, "no_filter") for r in recipes] + [(r, randoms[r]) for r in recipes if r in randoms]
    pairs += [(b, a) for i, a in enumerate(recipes) for b in recipes[i + 1 :]]
    pairs += [(r, "no_filter") for r in dict.fromkeys(randoms.values())]
    there = {e.name for e in entries}
    pairs = [(a, b) for a, b in pairs if {a, b} <= there]
    controls = [e.name for e in entries if e.kind == "a_a"]
    base: dict[str, Any] = {
        "pool": "pools/cifar",
        "scale": "tiny",
        "config": {"objective": "clip", "towers": {"name": "tiny-conv", "image_size": 32}, "batch": 256},
        "seeds": tuple(seeds),
        "primary": METRICS[0].name,
        "metrics": METRICS,
        "entries": tuple(entries),
        "differences": differences(entries, pairs),
        "a_a": differences(entries, [(controls[0], "no_filter")])[0] if controls else None,
        "others": tuple(d for m in more.get("metrics", METRICS[1:]) for d in differences(entries, pairs, m)),
        "sets": (
            EvaluationSet("cifar10", "evalsets/wds_cifar10_test", "zeroshot_classification", 10_000, 0, 4),
            EvaluationSet("flickr8k", "evalsets/wds_flickr8k_test", "zeroshot_retrieval", 1_000, 12, 4),
        ),
        "missing": {"imagenet1k": "evalsets has no wds_imagenet1k"},
        "environment": {"torch": "2.11.0", "python": "3.12.3", "cpus": 2},
        "command": "curate compare dfn30.yaml dfn50.yaml dedup.yaml --scale tiny --seeds 4",
    }
    return Comparison(**(base | more))


def pool_with_picks(
    root: Path, texts: Sequence[str], images: Sequence[bytes] | None = None
) -> tuple[Pool, dict[str, str]]:
    """A pool with pictures, and the picks of the entries that have one: name -> folder."""
    pool = pools.empty_pool(root, [2])
    half = len(texts) // 2
    pictures = drawn(len(texts)) if images is None else images
    for shard in range(2):
        part = slice(shard * half, (shard + 1) * half)
        pools.write_photos(pool, shard, pictures[part], list(texts[part]))
    matched = pools.add_verdict(pool, "clip_score", lambda s, u: np.arange(len(u)) % 3 > 0)
    top = pools.add_verdict(pool, "top_fraction", lambda s, u: np.arange(len(u)) % 4 > 0)
    first = pools.add_verdict(pool, "keep_one", lambda s, u: np.arange(len(u)) % 5 > 0)
    chains = {
        "no_filter": [],
        "dedup": [("near", first)],
        "dfn50": [("near", first), ("matched", matched)],
        "dfn30": [("near", first), ("matched", matched), ("best", top)],
    }
    return pool, {name: pools.add_pick(pool, name, chain) for name, chain in chains.items()}
