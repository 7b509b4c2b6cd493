"""Numbers of the built-in recipes are the published ones.

The oracles run with other ones, lowered to a small pool, so that nobody else would see a slip in a YAML. What stands
here is copied from the papers' rules, not from the recipes.
"""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import BaseModel

from curate.recipe import Recipe, builtin_names, load_recipe

OURS = {"no_filter", "demo", "dedup", "decontaminated", "web_default", "devil", "ecodatum"}
"""Recipes of which no number is published, or known."""

L14, B32 = "ViT-L-14-quickgelu", "ViT-B-32-quickgelu"
ENGLISH = {"filters.english.keep": ("en",)}
COYO = ENGLISH | {
    "filters.bytes.sql": "received_bytes >= 5120",
    "filters.image_size.min_side": 200,
    "filters.image_size.max_aspect": 3,
    "filters.caption_length.min_words": 3,
    "filters.caption_length.max_words": 256,
    "filters.caption_length.min_chars": 6,
    "filters.caption_length.max_chars": 1000,
    "filters.caption_length.count": "coyo",
}
LAION = {"filters.length.min_chars": 5, "filters.bytes.sql": "received_bytes >= 5120"}
BEST = {"filters.best.fraction": 0.3, "filters.best.convention": "n+1", "filters.best.over": "pool"}
LIKE_IMAGENET = ENGLISH | {
    "filters.caption_length.min_words": 2,
    "filters.caption_length.min_chars": 6,
    "filters.caption_length.count": "fasttext",
    "columns.clip_embedding.model": L14,
    "columns.cluster_match.clusters.k": "min(max(n/128, 1000), 100000)",
    "columns.cluster_match.clusters.iterations": 20,
    "columns.cluster_match.clusters.seed": 0,
    "columns.cluster_match.clusters.spherical": False,
    "columns.cluster_match.clusters.assign": "dot",
}
HYPE = {
    "columns.clip_embedding.model": L14,
    "columns.cluster_match.clusters.k": "min(max(n/128, 1000), 100000)",
    "columns.cluster_match.clusters.assign": "dot",
    "columns.weighted_sum.standardise": "zscore",
    "columns.weighted_sum.name": "hype_score",
}
SEMDEDUP = {
    "filters.duplicates.clusters.k": "n/9000",  # 50,000 for 440 million
    "filters.duplicates.clusters.iterations": 100,
    "filters.duplicates.clusters.spherical": True,
    "filters.duplicates.order": "hard",
    "filters.duplicates.over": "pool",
}
NEG_CLIP_LOSS = {
    "columns.neg_clip_loss.tau": 0.01,
    "columns.neg_clip_loss.batch": 32_768,
    "columns.neg_clip_loss.repeats": 10,
    "columns.norm_sim.p": "inf",
}

PUBLISHED: dict[str, dict[str, Any]] = {
    "altogether": ENGLISH | {"emit.0.texts.1.source": "altogether", "emit.0.texts.1.p": 0.15, "emit.0.texts.0.p": 0.85},
    "blip_capfilt": {
        "columns.caption.sampling": "nucleus",
        "columns.caption.p": 0.9,
        "columns.caption.n": 1,
        "columns.image_text_match.fair": False,
        "emit.0.texts.0.where": "itm > 0.5",
        "emit.1.texts.0.where": "blip_itm > 0.5",
    },
    "capsfusion": {"columns.rewrite.task": "capsfusion", "emit.0.texts.0.source": "fused"},
    "clips": {"columns.sentences.window": 1, "emit.0.texts.0.p": 0.5, "emit.0.texts.1.p": 0.5},
    "datacompdr": LIKE_IMAGENET | BEST | {"columns.caption.n": 5, "columns.augmentations.count": 10},
    "dreamlip": {"columns.sentences.split": "period", "columns.sentences.window": 1},
    "laclip": {
        "columns.rewrite.n": 4,
        "columns.rewrite.shots": 3,
        "columns.rewrite.temperature": 0.9,
        "emit.0.texts.0.p": 1,
        "emit.0.texts.1.p": 1,
        "emit.0.texts.1.each": True,
    },
    "laion_coco": {"columns.caption.n": 40, "columns.best_caption.keep": 1},
    "nguyen_mix": {
        "columns.threshold.fraction": 0.3,
        "columns.threshold.over": "pool",
        "columns.threshold.convention": "n",
        "columns.caption.sampling": "top_k",
        "columns.caption.k": 50,
        "columns.caption.temperature": 0.75,
        "columns.caption.min_tokens": 5,
        "columns.caption.max_tokens": 40,
    },
    "recap_datacomp_1b": LIKE_IMAGENET
    | BEST
    | {
        "columns.caption.sampling": "greedy",
        "columns.caption.max_tokens": 128,
        "emit.0.texts.0.p": 0.8,
        "emit.0.texts.1.p": 0.2,
    },
    "sieve": {
        "columns.caption.n": 8,
        "columns.caption.sampling": "nucleus",
        "columns.weighted_sum.tails": 0.001,
        "columns.weighted_sum.standardise": "percentile",
        "filters.best.fraction": 0.2,
    },
    "veclip": {"columns.rewrite.task": "veclip", "emit.0.texts.0.p": 0.5, "emit.0.texts.1.p": 0.5},
    "align": {
        "columns.ngram_rarity.vocabulary": 100_000_000,
        "columns.ngram_rarity.orders": (1, 2),
        "filters.size.min_side": 201,
        "filters.aspect.sql": "greatest(original_width, original_height) < 3 * least(original_width, original_height)",
        "filters.texts_per_image.sql": "sha256_texts <= 1000",
        "filters.images_per_text.sql": "text_sha256s <= 10",
        "filters.rare_words.sql": "ngrams_oov = 0",
        "filters.caption_length.min_words": 3,
        "filters.caption_length.max_words": 20,
    },
    "cc3m": {
        "filters.jpeg.sql": "received_format = 'jpeg'",
        "filters.image_size.min_side": 401,
        "filters.image_size.max_aspect": 2,
        "filters.rare_words.sql": "words_min_count >= 5",
    },
    "cc12m": {
        "filters.jpeg.sql": "received_format = 'jpeg'",
        "filters.image_size.min_side": 401,
        "filters.image_size.max_aspect": 2.5,
        "filters.caption_length.min_words": 3,
        "filters.caption_length.max_words": 256,
        "filters.grammar.sql": "n_nouns >= 1 AND n_determiners >= 1",
        "filters.repetition.sql": "word_repetition <= 0.2",
        "filters.rare_words.sql": "words_min_count >= 20",
    },
    "clip_wit": {"filters.balance.most": 20_000},
    "coyo_rules": COYO,
    "coyo_700m": COYO
    | {
        "filters.noun.sql": "n_nouns >= 1",
        "filters.frequent.most": 10,
        "filters.frequent.over": "survivors",
        "filters.pairs.most": 1,
    },
    "d4": SEMDEDUP | {"filters.duplicates.keep_rate": 0.75, "filters.prototypes.over": "survivors"},
    "datacomp_1b": LIKE_IMAGENET | BEST,
    "datacomp_image": LIKE_IMAGENET,
    "datacomp_b32": BEST | {"columns.clip_score.model": B32},
    "datacomp_l14": BEST | {"columns.clip_score.model": L14},
    "datacomp_b32_028": {"columns.clip_score.model": B32, "filters.best.sql": "b32_score >= 0.28"},
    "datacomp_l14_028": {"columns.clip_score.model": L14, "filters.best.sql": "l14_score >= 0.28"},
    "datacomp_laion2b": ENGLISH | {"columns.clip_score.model": B32, "filters.clip.sql": "b32_score >= 0.28"},
    "datacomp_basic": ENGLISH
    | {
        "filters.english.min_prob": None,
        "filters.caption_length.min_words": 3,
        "filters.caption_length.min_chars": 6,
        "filters.image_size.min_side": 200,
        "filters.image_size.max_aspect": 3,
    },
    "datacomp_text": ENGLISH | {"columns.wordnet_match.sense": "first"},
    "density_pruning": SEMDEDUP
    | {
        "filters.density.clusters.k": 100,
        "filters.density.temperature": 0.5,
        "filters.density.neighbours": 20,
        "filters.density.balance": 0.5,
        "filters.density.keep": "hard",
        "filters.density.over": "survivors",
    },
    "dfn": {"filters.best.fraction": 0.15, "filters.best.over": "pool"},
    "diht_cat": {"filters.complexity.sql": "complexity >= 1", "filters.action.sql": "actions >= 1"},
    "dsir": {"columns.dsir.buckets": 10_000, "columns.dsir.orders": (1, 2)},
    "hierarchical": {
        "columns.hierarchical_kmeans.iterations": 50,
        "columns.hierarchical_kmeans.resample": 10,
        "filters.balance.pick": "closest",
    },
    "hype": HYPE | {"filters.best.fraction": 0.2, "filters.best.over": "pool"},
    "hype_sampler": HYPE | {"filters.copies.alpha": 0, "filters.copies.over": "pool"},
    "laion_400m": LAION | ENGLISH | {"columns.clip_score.model": B32, "filters.clip.sql": "b32_score >= 0.3"},
    "laion_2b_en": LAION | ENGLISH | {"columns.clip_score.model": B32, "filters.clip.sql": "b32_score >= 0.28"},
    "laion_2b_multi": LAION | {"filters.not_english.sql": "lang <> 'en'", "filters.clip.sql": "mclip_score >= 0.26"},
    "laion_aesthetic": LAION
    | ENGLISH
    | {
        "filters.clip.sql": "b32_score >= 0.28",
        "filters.tags.sql": "pwatermark < 0.8 AND punsafe < 0.5",
        "filters.aesthetic.sql": "aesthetic > 7",
    },
    "lvd_142m": {
        "columns.near_vectors.epsilon": pytest.approx(1 - 0.45),
        "filters.copies.near.epsilon": pytest.approx(1 - 0.6),
        "filters.copies.rule": "component",
        "filters.evaluation.above": 0.45,
        "filters.retrieved.queries.0.nearest": 4,
        "filters.retrieved.queries.1.nearest": None,
        "filters.retrieved.queries.1.hits": 3,
        "filters.retrieved.queries.1.per_cluster": 10_000,
        "filters.retrieved.queries.1.most": 1_000_000,
        "filters.retrieved.clusters.k": 100_000,
        "filters.retrieved.over": "survivors",
    },
    "m_flyt_scs": NEG_CLIP_LOSS
    | {
        "filters.copies.alpha": 0.15,
        "filters.copies.batch": 100_000,
        "filters.copies.fraction": 1,
        "filters.copies.mode": "rounds",
    },
    "metaclip_400m": ENGLISH | {"filters.balance.t": 20_000, "filters.balance.mode": "faithful"},
    "metaclip_2_5b": ENGLISH | {"filters.balance.t": 170_000, "filters.balance.mode": "faithful"},
    "metaclip_v1_2": ENGLISH  # t is not told of 1.2: that of the 2.5 billion
    | {"columns.metaclip_counts.t": 170_000, "columns.metaclip_counts.mode": "faithful"},
    "metaclip2": {"filters.balance.t": 170_000},
    "ncl_norm_sim": NEG_CLIP_LOSS
    | {
        "columns.clip_embedding.model": L14,
        "filters.pairs.fraction": 0.3,
        "filters.pairs.over": "pool",
        "filters.like_targets.fraction": pytest.approx(0.2 / 0.3),
        "filters.like_targets.over": "survivors",
    },
    "points": {"columns.perplexity.min_tokens": 5, "filters.fluent.fraction": 0.2, "filters.fluent.lowest": True},
    "semdedup": SEMDEDUP | {"filters.duplicates.keep_rate": 0.5, "filters.duplicates.semantics": "reference"},
    "tmars": {"columns.clip_view_score.view": "masked", "filters.masked.fraction": 0.5},
}


def found(recipe: Recipe, path: str) -> Any:
    """What a recipe has at filters.<id>.<parameter>, columns.<stage>.<parameter> (of two such stages, the last's; those
    of `captions.make` among them) or emit.<number>.<parameter>, defaults among them."""
    section, name, *parameters = path.split(".")
    here: Any = {
        "filters": {step.id: step.filter for step in recipe.steps},
        "columns": {stage.method(): stage for stage in recipe.stages},
        "emit": {str(number): emit for number, emit in enumerate(recipe.captions.emit)},
    }[section][name]
    for parameter in parameters:
        assert isinstance(here, BaseModel | tuple)
        here = here[int(parameter)] if isinstance(here, tuple) else getattr(here, parameter)
    return tuple(here) if isinstance(here, list) else here


def test_every_published_recipe_is_listed() -> None:
    assert PUBLISHED.keys() == set(builtin_names()) - OURS


@pytest.mark.parametrize("name", PUBLISHED)
def test_numbers_of_a_recipe_are_the_published_ones(name: str) -> None:
    recipe = load_recipe(name)
    assert {path: found(recipe, path) for path in PUBLISHED[name]} == PUBLISHED[name]


def test_density_pruning_leaves_the_published_share_of_the_pool() -> None:
    """19 of 128 million."""
    recipe = load_recipe("density_pruning")
    left = found(recipe, "filters.duplicates.keep_rate") * found(recipe, "filters.density.fraction")
    assert left == pytest.approx(19 / 128, abs=1e-3)
