"""What a recipe may name: built-in stages, barriers and filters, name -> import path; a user's own by path.

load("image_size", FILTERS)                    # filters.image_size:ImageSize
load("my_package.my_module:MyFilter", FILTERS)
"""

from __future__ import annotations

import difflib
import importlib
import pkgutil
import re
import sys
from collections.abc import Iterable, Mapping
from functools import cache

from stages.base import Barrier, Column, Parameters, Stage

OWN = r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*"
"""What a path to a user's own class looks like."""

STAGES = {
    "image_facts": "stages.image_facts:ImageFacts",
    "text_facts": "stages.text_facts:TextFacts",
    "pos_tags": "stages.pos_tags:PosTags",
    "caption": "stages.captioner:Caption",
    "caption_graph": "stages.caption_graph:CaptionGraph",
    "wordnet_match": "stages.wordnet_match:WordnetMatch",
    "perplexity": "stages.perplexity:Perplexity",
    "toxicity": "stages.toxicity:Toxicity",
    "language": "stages.language:Language",
    "language_cld3": "stages.language_cld3:LanguageCld3",
    "phash": "stages.phash:PHash",
    "fingerprints": "stages.fingerprints:Fingerprints",
    "clip_embedding": "stages.clip:ClipEmbedding",
    "clip_score": "stages.clip:ClipScore",
    "hyperbolic_embedding": "stages.hyperbolic_embedding:HyperbolicEmbedding",
    "hype": "stages.hype:Hype",
    "image_text_match": "stages.image_text_match:ImageTextMatch",
    "caption_scores": "stages.caption_scores:CaptionScores",
    "sentence_cosine": "stages.sentence_cosine:SentenceCosine",
    "sieve": "stages.sieve:Sieve",
    "best_caption": "stages.best_caption:BestCaption",
    "clip_view": "stages.clip_view:ClipView",
    "clip_view_score": "stages.clip_view:ClipViewScore",
    "text_boxes": "stages.text_boxes:TextBoxes",
    "ocr_text": "stages.ocr_text:OcrText",
    "embedding_head": "stages.embedding_head:EmbeddingHead",
    "image_embedding": "stages.image_embedding:ImageEmbedding",
    "hash_groups": "stages.hash_groups:HashGroups",
    "near_hashes": "stages.near_hashes:NearHashes",
    "near_vectors": "stages.near_vectors:NearVectors",
    "eval_matches": "stages.eval_matches:EvalMatches",
    "metaclip_match": "stages.metaclip_match:MetaclipMatch",
    "metaclip_counts": "stages.metaclip_counts:MetaclipCounts",
    "key_counts": "stages.key_counts:KeyCounts",
    "joint_key": "stages.joint_key:JointKey",
    "dsir": "stages.dsir:Dsir",
    "caption_rules": "stages.caption_rules:CaptionRules",
    "ngram_rarity": "stages.ngram_rarity:NgramRarity",
    "word_counts": "stages.word_counts:WordCounts",
    "vocabulary": "stages.vocabulary:Vocabulary",
    "threshold": "stages.threshold:Threshold",
    "weighted_sum": "stages.weighted_sum:WeightedSum",
    "linear_mixer": "stages.linear_mixer:LinearMixer",
    "label_model": "stages.label_model:LabelModel",
    "cosine": "stages.cosine:Cosine",
    "neg_clip_loss": "stages.neg_clip_loss:NegClipLoss",
    "norm_sim": "stages.norm_sim:NormSim",
    "kmeans": "stages.kmeans:KMeans",
    "cluster_match": "stages.cluster_match:ClusterMatch",
    "hierarchical_kmeans": "stages.hierarchical_kmeans:HierarchicalKMeans",
    "augmentations": "stages.augmentations:Augmentations",
    "teacher_images": "stages.teacher_vectors:TeacherImages",
    "teacher_texts": "stages.teacher_vectors:TeacherTexts",
    "sentences": "stages.sentences:Sentences",
    "strip_tags": "stages.strip_tags:StripTags",
    "rewrite": "stages.rewrite:Rewrite",
    "endpoint_rewrite": "stages.rewrite:EndpointRewrite",
    "endpoint_caption": "stages.endpoint_caption:EndpointCaption",
    "conversations": "stages.conversations:Conversations",
}

FILTERS = {
    "where": "filters.where:Where",
    "image_size": "filters.image_size:ImageSize",
    "caption_length": "filters.caption_length:CaptionLength",
    "language": "filters.language:Language",
    "top_fraction": "filters.top_fraction:TopFraction",
    "random_subset": "filters.random_subset:RandomSubset",
    "keep_one": "filters.keep_one:KeepOne",
    "decontaminate": "filters.decontaminate:Decontaminate",
    "in_subset": "filters.in_subset:InSubset",
    "metaclip": "filters.metaclip:Metaclip",
    "metaclip2": "filters.metaclip2:Metaclip2",
    "query_cap": "filters.query_cap:QueryCap",
    "sample_by": "filters.sample_by:SampleBy",
    "cap": "filters.cap:Cap",
    "mix": "filters.mix:Mix",
    "rebalance": "filters.rebalance:Rebalance",
    "soft_cap": "filters.soft_cap:SoftCap",
    "hard_cap": "filters.hard_cap:HardCap",
    "count_limit": "filters.count_limit:CountLimit",
    "union": "filters.combined:Union",
    "intersect": "filters.combined:Intersect",
    "not": "filters.combined:Not",
    "unless": "filters.unless:Unless",
    "semdedup": "filters.semdedup:SemDeDup",
    "prototypes": "filters.prototypes:Prototypes",
    "density_pruning": "filters.density_pruning:DensityPruning",
    "balanced_sample": "filters.balanced_sample:BalancedSample",
    "norm_sim_2d": "filters.norm_sim_2d:NormSim2D",
    "retrieve": "filters.retrieve:Retrieve",
}


def nearest(name: str, known: Iterable[str]) -> str:
    """``; did you mean 'x'?`` where one of the known names is near, else an empty string."""
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f"; did you mean {close[0]!r}?" if close else ""


@cache
def _load(path: str) -> type[Parameters]:
    module_name, _, class_name = path.partition(":")
    try:
        module = importlib.import_module(module_name)
    except (ImportError, SyntaxError) as e:
        near = nearest(module_name, _siblings(module_name))
        raise ValueError(f"{path}: cannot import {module_name} ({e}){near or '; is it on PYTHONPATH?'}") from e
    found = getattr(module, class_name, None)
    if found is None:
        there = [n for n in vars(module) if not n.startswith("_")]
        raise ValueError(f"{path}: {module_name} has no {class_name!r}{nearest(class_name, there)}")
    if not (isinstance(found, type) and issubclass(found, Parameters)):
        raise ValueError(f"{path}: is not a stage, barrier or filter (a class over stages.base.Parameters)")
    return found


def _siblings(module_name: str) -> list[str]:
    """Modules of the package that the name lies in, where there is such a package."""
    package = module_name.rpartition(".")[0]
    found = sys.modules.get(package)
    return [f"{package}.{m.name}" for m in pkgutil.iter_modules(getattr(found, "__path__", []))]


def load(name: str, table: Mapping[str, str]) -> type[Parameters]:
    """The class of a built-in name, or of ``package.module:Class``.

    Raises:
        ValueError: naming what was tried and the nearest name.
    """
    if name in table:
        return _load(table[name])
    if re.fullmatch(OWN, name):
        return _load(name)
    known = ", ".join(table)
    raise ValueError(
        f"{name!r} is not known{nearest(name, table)} (built in: {known}; your own as package.module:Class)"
    )


@cache
def default_fields() -> dict[str, Column]:
    """Plain column name -> the built-in stage, with default parameters, that writes it."""
    fields: dict[str, Column] = {}
    for name in ("image_facts", "text_facts", "language", "phash"):
        stage = load(name, STAGES)()
        assert isinstance(stage, Stage | Barrier)
        for field in stage.writes().names:
            if field != "error":
                fields[field] = Column(stage, field)
    return fields
