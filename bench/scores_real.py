"""How well does each score tell faults, and agree with people? One table over real pictures with planted mismatches.

    python bench/scores_real.py [--quick]         # also a part of bench/scores.py

A replicate is one joint draw of faults, clean tenth and weights (bench/judge_data.py): `curate train-filter` trains a
network on the clean tenth, one recipe computes every score column over the pool, and each column's AUROC for captions
that match is over all rows but copies. On Flickr8k the same columns are set against the scores that people gave pairs:
Kendall's tau, c for the experts' few grades and b for the crowd's shares, as CLIPScore (Hessel et al. 2021) has them.

A score of the text alone cannot know that a caption is another picture's: its AUROC is near 0.5, and stands here to be
seen. What it finds are other faults. Columns that need weights which nobody trained here (aesthetic and NSFW heads,
perplexity, toxicity) are not in the table, HYPE needs a network of its own (docs/filters.md), and SIEVE is for later.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import chdir
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
from common import SHARED, WORK, Bar, bar, each, finish
from judge_compare_pool import NETWORK, captions, clean_vectors
from judge_data import judged
from judge_demo import RECIPES, Case, prepared

from training_smoke.statistics import PairedComparison, paired

FIRST = 4000  # seeds that nothing was settled on
FILTER, TARGET, CAPTIONS = "filter/filter.pt", "target.npy", "captions.txt"
OF_NETWORK = {"weights": FILTER, "name": "dfn"}


@dataclass(frozen=True)
class Score:
    """A column. sign: -1 where less is better. what: in the table."""

    column: str
    what: str
    sign: int = 1


VOTES = [
    {"column": "dfn_score", "drop_below": 0.3, "keep_above": 0.5},
    {"column": "dfn_flipped_score", "drop_below": 0.3, "keep_above": 0.5},
    {"column": "neg_clip_loss", "drop_below": -0.3, "keep_above": -0.15},
    {"column": "n_words", "drop_below": 3, "keep_above": 5},
]
"""Bounds from another seed's scores on Flickr8k: means less and plus half a deviation or so."""
STAGES: tuple[tuple[dict[str, Any], tuple[Score, ...]], ...] = (
    ({"clip_embedding": OF_NETWORK}, ()),
    ({"clip_score": OF_NETWORK}, (Score("dfn_score", "the network's cosine (DFN)"),)),
    (
        {"clip_view_score": {**OF_NETWORK, "view": "flipped"}},
        (Score("dfn_flipped_score", "the same of the mirrored picture (Devil)"),),
    ),
    (
        {"clip_view_score": {**OF_NETWORK, "view": "masked"}},
        (Score("dfn_masked_score", "the same with text painted over (T-MARS)"),),
    ),
    (
        {"neg_clip_loss": {"image": "dfn_image", "text": "dfn_text", "batch": 1024}},
        (Score("neg_clip_loss", "cosine less what other pairs of a batch have (negCLIPLoss)"),),
    ),
    (
        {"norm_sim": {"vectors": "dfn_image", "target": TARGET}},
        (Score("norm_sim", "nearest clean picture (NormSim-inf)"),),
    ),
    (
        {"norm_sim": {"vectors": "dfn_image", "target": TARGET, "p": 2, "name": "norm_sim_2"}},
        (Score("norm_sim_2", "all clean pictures (NormSim-2)"),),
    ),
    (
        {"kmeans": {"vectors": "dfn_image", "k": 64}},
        (Score("kmeans_distance", "distance to the picture's cluster (prototypes)", -1),),
    ),
    ({"dsir": {"target": CAPTIONS}}, (Score("dsir", "words as in clean captions (DSIR)"),)),
    (
        {"metaclip_counts": {"metadata": str(SHARED / "classnames" / "metadata_standin.json"), "t": 20}},
        (
            Score("match_p", "chance to be kept (MetaCLIP, entries of metadata_standin.json)"),
            Score("match_tail", "how many rare entries it matches"),
        ),
    ),
    ({"language": {}}, (Score("lang_prob", "how sure the language is"),)),
    ({"text_boxes": {}}, (Score("text_cover", "share of the picture that is text", -1),)),
    ({"ngram_rarity": {}}, (Score("ngrams_min_count", "how often its rarest word or pair of words occurs (ALIGN)"),)),
    (
        {"key_counts": {"by": "text_lower"}},
        (Score("text_lower_count", "how often the caption stands in the pool", -1),),
    ),
    ({"word_counts": {"name": "words"}}, (Score("words_min_count", "how often its rarest word occurs"),)),
    ({"caption_rules": {}}, (Score("word_repetition", "share of repeated words", -1),)),
    ({"pos_tags": {}}, (Score("noun_ratio", "share of nouns", -1),)),
    (
        {"weighted_sum": {"columns": {"dfn_score": 1.0, "dfn_flipped_score": 1.0}, "name": "both_ways"}},
        (Score("both_ways", "network, picture and mirror image together"),),
    ),
    ({"label_model": {"name": "vote", "votes": VOTES}}, (Score("vote", "votes of four scores (EcoDatum)"),)),
    (
        {
            "weighted_sum": {
                "columns": {"dfn_score": 1.0, "neg_clip_loss": 1.0, "norm_sim": 0.5},
                "standardise": "zscore",
                "name": "mixed",
            }
        },
        (Score("mixed", "z-scores of cosine, negCLIPLoss and half of NormSim"),),
    ),
)
LEARNED = ("dfn_score", "neg_clip_loss", "dfn_flipped_score")


def there() -> tuple[list[dict[str, Any]], list[Score]]:
    """(stages, columns) of this version; what it has not is named."""
    from curate.catalog import STAGES as KNOWN

    missing = sorted({name for stage, _ in STAGES for name in stage if name not in KNOWN})
    if missing:
        print(f"not in this version, so not in the table: {', '.join(missing)}")
    known = [(stage, scores) for stage, scores in STAGES if not {*stage} & {*missing}]
    return [stage for stage, _ in known], [score for _, scores in known for score in scores]


@dataclass(frozen=True)
class Found:
    """Of one replicate, by column. tau: by kind of judges."""

    auroc: dict[str, float]
    tau: dict[str, dict[str, float]]
    nulls: dict[str, int]
    rows: int
    seconds: float


# ---------------------------------------------------------------- one replicate


def replicate(case: Case) -> Found:
    """Runs in a process of its own, in the folder of the case."""
    from training_smoke.evaluate.continuous import auroc

    began = time.monotonic()
    prepared(case, NETWORK)
    stages, scores = there()
    with chdir(case.folder):
        targets()
        rows = [r for r in columns("pool", stages, scores, ("matches", "truth")) if r["truth"] != "copy"]
        found = {}
        for score in scores:
            valued = [r for r in rows if r[score.column] is not None]
            signed = [score.sign * float(r[score.column]) for r in valued]
            found[score.column] = auroc(signed, [r["matches"] for r in valued])
        nulls = {s.column: sum(r[s.column] is None for r in rows) for s in scores}
        tau = agreement(stages, scores) if case.source == "flickr8k" else {}
    return Found(found, tau, nulls, len(rows), time.monotonic() - began)


def targets() -> None:
    """What columns are measured against, from the clean tenth: its pictures as vectors, its captions as lines."""
    np.save(TARGET, clean_vectors(Path("clean.parquet"), Path(FILTER)))
    Path(CAPTIONS).write_text("".join(f"{line}\n" for line in captions(Path("clean.parquet"))), encoding="utf-8")


def columns(
    pool: str, stages: Sequence[Mapping[str, Any]], scores: Sequence[Score], facts: Sequence[str]
) -> list[dict[str, Any]]:
    """Rows of the pool with facts and scores; computed by a recipe that keeps everything."""
    import yaml

    import curate
    from curate.recipe import load_recipe
    from curate.run.job import Job
    from curate.run.progress import Progress, Telling

    name = f"scores_{pool}"
    said = {
        "recipe": name, "extends": str(RECIPES / "base.yaml"), "pool": pool, "columns": list(stages),
        "source": {"path": f"{pool}.parquet", "name": pool, "uid": "uid", "text": "caption", "url": None},
    }  # fmt: skip
    Path(f"{name}.yaml").write_text(yaml.safe_dump(said, sort_keys=False))
    job = Job(load_recipe(f"{name}.yaml"), "inline")
    with Progress(None, "bench", telling=Telling(quiet=True)) as progress:
        try:
            job.run(progress)
        finally:
            job.choice.close()
    asked = ", ".join((*facts, *(s.column for s in scores)))
    rows: list[dict[str, Any]] = curate.open(pool, name).sql(f"SELECT {asked} FROM samples").to_arrow().to_pylist()
    return rows


def agreement(stages: Sequence[Mapping[str, Any]], scores: Sequence[Score]) -> dict[str, dict[str, float]]:
    """Column -> kind of judges -> Kendall's tau."""
    from scipy.stats import kendalltau

    Path("judged.parquet").symlink_to(judged(SHARED, WORK / "judge" / "lists"))
    rows = columns("judged", stages, scores, ("score AS people", "judges"))
    found: dict[str, dict[str, float]] = {}
    for score in scores:
        for judges, variant in (("expert", "c"), ("crowd", "b")):
            mine = [r for r in rows if r["judges"] == judges and r[score.column] is not None]
            signed = [score.sign * float(r[score.column]) for r in mine]
            tau = kendalltau(signed, [r["people"] for r in mine], variant=variant)[0]
            found.setdefault(score.column, {})[judges] = float(tau)
    return found


# ---------------------------------------------------------------- all replicates


def gathered(cases: Sequence[Case]) -> dict[Case, Found]:
    found = {}
    for case, result in each(replicate, cases):
        found[case] = result
        (case.folder / "scores.json").write_text(json.dumps(asdict(result)))
        print(f"{case.source} {case.seed}: {result.seconds:.0f} s, {result.rows:,} rows", flush=True)
    return found


def measure(quick: bool) -> dict[str, Bar]:
    """Three sources, three replicates each, people's scores on Flickr8k; quick: CIFAR-10, two replicates."""
    if not SHARED.is_dir():
        print(f"no real data at {SHARED}: nothing is shown")
        return {"scores_on_real_data": bar(None, "data at ../shared/data", None)}
    sources, seeds = (("cifar10",), 2) if quick else (("cifar10", "flickr8k", "products"), 3)
    cases = [Case(s, "tiny", ("clip",), seed) for s in sources for seed in range(FIRST, FIRST + seeds)]
    found = gathered(cases)
    of = {source: [f for case, f in found.items() if case.source == source] for source in sources}
    told(of)
    return bars(of)


def told(of: Mapping[str, Sequence[Found]]) -> None:
    """The table: AUROC by source, tau by kind of judges; means over replicates."""
    scores = there()[1]
    judges = sorted({j for found in of.values() for f in found for taus in f.tau.values() for j in taus})
    print("\n| column | what | " + " | ".join([*(f"AUROC {s}" for s in of), *(f"tau {j}" for j in judges)]) + " |")
    print("| --- " * (2 + len(of) + len(judges)) + "|")
    for score in scores:
        cells = [f"{np.mean([f.auroc[score.column] for f in found]):.3f}" for found in of.values()]
        for kind in judges:
            values = [f.tau[score.column][kind] for found in of.values() for f in found if f.tau]
            cells.append(f"{np.mean(values):+.3f}")
        print(f"| `{score.column}` | {score.what} | {' | '.join(cells)} |")
    for source, found in of.items():
        nulls = {c: n for c, n in found[0].nulls.items() if n}
        print(f"{source}: {found[0].rows:,} rows, {len(found)} replicates; without a value: {nulls or 'none'}")


def bars(of: Mapping[str, Sequence[Found]]) -> dict[str, Bar]:
    """What looks at picture and caption together must tell mismatches, and agree with people; the rest is reported."""
    found: dict[str, Bar] = {}
    for source, replicates in of.items():
        for score in there()[1]:
            over_chance = paired([f.auroc[score.column] for f in replicates], [0.5] * len(replicates))
            ok = over_chance.low > 0 if score.column in LEARNED else None
            found[f"auroc_{source}_{score.column}"] = _shown(over_chance, 0.5, "above 0.5", ok)
            for judges in replicates[0].tau.get(score.column, {}):
                tau = paired([f.tau[score.column][judges] for f in replicates], [0.0] * len(replicates))
                ok = tau.low > 0 if score.column in LEARNED else None
                found[f"tau_{judges}_{score.column}"] = _shown(tau, 0.0, "above 0", ok)
    return found


def _shown(c: PairedComparison, at: float, limit: str, ok: bool | None) -> Bar:
    value = f"{at + c.mean:.3f} [{at + c.low:.3f}, {at + c.high:.3f}]"
    return bar(value, limit if ok is not None else "reported", ok)


if __name__ == "__main__":
    WORK.mkdir(parents=True, exist_ok=True)
    finish(measure("--quick" in sys.argv), None)
