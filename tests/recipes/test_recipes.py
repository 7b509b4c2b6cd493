"""Every built-in recipe over one pool with planted faults: what it keeps is what an oracle keeps that shares no code.

The oracles (oracle_*.py) are written from the published rules in pandas and numpy. They see the list itself and, of the
pool, vectors and hashes; scores, counts, ranks and groups they compute themselves.
"""

from __future__ import annotations

import copy
import io
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from curate.errors import UserError
from curate.recipe import builtin_names, load_recipe
from curate.recipe_set import override
from curate.run.job import Job
from curate.run.progress import Progress
from tests.recipes import captioned
from tests.recipes import oracle_balance as balance
from tests.recipes import oracle_captions as captions
from tests.recipes import oracle_clusters as clusters
from tests.recipes import oracle_contamination as contamination
from tests.recipes import oracle_engine as engine
from tests.recipes import oracle_hype as hype
from tests.recipes import oracle_models as models
from tests.recipes import oracle_rules as rules
from tests.recipes import oracle_scores as scores
from tests.recipes import oracle_vectors as vectors
from tests.recipes.oracle_parts import Oracle
from tests.recipes.planted import write_list
from tests.recipes.world import Chosen, World

ELSEWHERE = {"demo", *captioned.NAMES}  # demo reads the quickstart's web: tests/demo


@dataclass(frozen=True)
class Case:
    """A recipe's oracle, what a user sets ({name}: a path of what is given), and what the oracle must know of it (None:
    the path of what is given under that name).

    idle: steps that may find nothing in this pool after those above them. packages: without which it is skipped.
    """

    oracle: Oracle
    set: tuple[str, ...] = ()
    knows: Mapping[str, Any] = field(default_factory=dict)
    idle: tuple[str, ...] = ()
    packages: tuple[str, ...] = ()


def clip(*names: str) -> tuple[str, ...]:
    """The tiny towers in place of the published ones."""
    found = []
    for number, name in enumerate(names):
        found += [f"columns.{number}.model=null", f"columns.{number}.weights={{{name}}}"]
    return tuple(found)


L14 = ("columns.clip_embedding.model=null", "columns.clip_embedding.weights={l14}")
CLUSTERS = ("columns.cluster_match.target={targets}", "columns.cluster_match.clusters.k=40")
PROFANITY = ("columns.caption_rules.profanity=[{profanity}]",)
HYPE = (*L14, *CLUSTERS, "columns.hype.weights={meru}", "columns.hype.reference={hype_reference}")
KNOWS_HYPE = {"meru": None, "hype_reference": None, "targets": None, "k": 40}
METACLIP = ("filters.balance.metadata={metadata}", "filters.balance.t=20")

CASES = {
    "no_filter": Case(rules.no_filter),
    "datacomp_basic": Case(rules.datacomp_basic),
    "coyo_rules": Case(rules.coyo_rules),
    "dedup": Case(rules.dedup),
    "decontaminated": Case(
        contamination.decontaminated, ("filters.evaluation.sets.0.path={evaluation}",), {"evaluation": None}
    ),
    "web_default": Case(rules.web_default),
    "laion_400m": Case(scores.laion_400m, clip("b32"), {"least": 0.3}),
    "laion_2b_en": Case(scores.laion_2b_en, clip("b32"), {"least": 0.28}),
    "laion_2b_multi": Case(scores.laion_2b_multi, clip("l14"), {"least": 0.26}),
    "datacomp_b32": Case(scores.top_share, clip("b32"), {"name": "b32", "fraction": 0.3}),
    "datacomp_l14": Case(scores.top_share, clip("l14"), {"name": "l14", "fraction": 0.3}),
    "datacomp_b32_028": Case(scores.above, clip("b32"), {"name": "b32", "least": 0.28}),
    "datacomp_l14_028": Case(scores.above, clip("l14"), {"name": "l14", "least": 0.28}),
    "datacomp_laion2b": Case(scores.datacomp_laion2b, clip("b32"), {"least": 0.28}),
    "dfn": Case(scores.dfn, ("columns.clip_score.weights={b32}",)),
    "align": Case(
        captions.align,
        ("columns.ngram_rarity.vocabulary=1500", "filters.texts_per_image.where=sha256_texts <= 4"),
        {"texts_per_image": 4, "vocabulary": 1500},
    ),
    "clip_wit": Case(
        balance.clip_wit,
        ("filters.balance.metadata={metadata}", "filters.balance.most=12"),
        {"metadata": None, "most": 12},
    ),
    "metaclip_400m": Case(balance.metaclip, METACLIP, {"metadata": None, "t": 20}),
    "metaclip_2_5b": Case(balance.metaclip, METACLIP, {"metadata": None, "t": 20}),
    "metaclip_v1_2": Case(
        balance.metaclip_v1_2,
        ("columns.metaclip_counts.metadata={metadata}", "columns.metaclip_counts.t=20"),
        {"metadata": None, "t": 20},
    ),
    "metaclip2": Case(
        balance.metaclip2,
        ("filters.balance.metadata={metaclip2}", "filters.balance.t=20"),
        {"metaclip2": None, "t": 20},
    ),
    "lvd_142m": Case(
        engine.lvd_142m,
        (
            "columns.0.weights={sscd}",
            "columns.0.size=48",
            "columns.1.weights={dinov2}",
            "columns.1.size=28",
            "columns.1.shorter=32",
            "columns.near_vectors.epsilon=0.15",
            "columns.near_vectors.clusters={{k: 1}}",
            "filters.copies.near.epsilon=0.02",
            "filters.copies.near.clusters={{k: 1}}",
            "filters.evaluation.sets.0.vectors={imagenet_sscd}",
            "filters.evaluation.above=0.98",
            "filters.retrieved.queries.0.path={curated_dinov2}",
            "filters.retrieved.queries.1.path={flowers_dinov2}",
            "filters.retrieved.queries.1.per_cluster=30",
            "filters.retrieved.queries.1.most=70",
            "filters.retrieved.clusters.k=12",
        ),
        {
            "copies": 0.98,
            "related": 0.85,
            "above": 0.98,
            "imagenet_sscd": None,
            "curated_dinov2": None,
            "flowers_dinov2": None,
            "each": 30,
            "most": 70,
        },
    ),
    "dsir": Case(balance.dsir, ("columns.dsir.target={captions}",), {"captions": None, "fraction": 0.2}),
    "ncl_norm_sim": Case(
        vectors.neg_clip_loss_norm_sim,
        (*L14, "columns.norm_sim.target={targets}", "columns.neg_clip_loss.repeats=2"),
        {"targets": None},
    ),
    "datacomp_text": Case(
        models.datacomp_text,
        ("columns.wordnet_match.synsets={synsets}", "columns.wordnet_match.wordnet={wordnet}"),
        {"synsets": None, "wordnet": None},
    ),
    "coyo_700m": Case(captions.coyo_700m, PROFANITY, {"profanity": None}, packages=("HanTa",)),
    "cc3m": Case(
        captions.cc3m,
        (*PROFANITY, "filters.rare_words.where=words_min_count >= 2"),
        {"profanity": None, "rare": 2},
        idle=("profanity", "boilerplate"),
        packages=("HanTa",),
    ),
    "cc12m": Case(captions.cc12m, ("filters.rare_words.where=words_min_count >= 5",), {"rare": 5}, packages=("HanTa",)),
    "laion_aesthetic": Case(
        models.laion_aesthetic,
        (
            *clip("b32", "l14"),
            "columns.2.weights={watermark}",
            "columns.3.weights={unsafe}",
            "columns.4.weights={aesthetic}",
        ),
        {"watermark": None, "unsafe": None, "aesthetic": None},
    ),
    "tmars": Case(
        models.tmars, (*clip("l14"), "columns.0.detector=tests.recipes.text_bands:WhiteBands"), {"l14": None}
    ),
    "devil": Case(
        clusters.devil,
        (*clip("l14", "l14"), "columns.norm_sim.target={targets}"),
        {"targets": None, "l14": None},
        packages=("faiss",),
    ),
    "ecodatum": Case(
        models.ecodatum,
        ("columns.1.model=null", "columns.1.weights={l14}", "columns.2.model=null", "columns.2.weights={l14}"),
    ),
    "density_pruning": Case(
        clusters.density_pruning,
        (*L14, "filters.duplicates.clusters.k=6", "filters.duplicates.keep_rate=0.4", "filters.density.clusters.k=12"),
        {"k": 6, "wide": 12, "keep": 0.4},
        packages=("faiss",),
    ),
    "d4": Case(
        clusters.d4,
        (*L14, "filters.duplicates.clusters.k=6", "filters.prototypes.k=8", "filters.duplicates.keep_rate=0.4"),
        {"k": 6, "again": 8, "keep": 0.4},
        packages=("faiss",),
    ),
    "semdedup": Case(
        clusters.deduplicated,
        (*L14, "filters.duplicates.clusters.k=6", "filters.duplicates.keep_rate=0.4"),
        {"k": 6, "keep": 0.4},
        packages=("faiss",),
    ),
    "hierarchical": Case(
        clusters.hierarchical_sampling,
        (*L14, "columns.hierarchical_kmeans.k=[40, 12, 4]"),
        {"depth": 3},
        packages=("faiss",),
    ),
    "m_flyt_scs": Case(
        models.m_flyt_scs,
        (
            *clip("b32", "l14"),
            "columns.3.weights={b32}",
            "columns.neg_clip_loss.repeats=2",
            "columns.norm_sim.target={targets}",
            "columns.linear_mixer.weights={mixer}",
            "filters.copies.batch=200",
        ),
        {"mixer": None, "batch": 200},
    ),
    "points": Case(
        models.points,
        ("columns.perplexity.weights={language_model}", "columns.perplexity.max_tokens=48"),
        {"language_model": None, "most": 48},
    ),
    "diht_cat": Case(models.diht_cat, ("columns.caption_graph.model={spacy_pipeline}",)),
    "hype": Case(hype.hype, HYPE, KNOWS_HYPE, packages=("faiss",)),
    "hype_sampler": Case(hype.sampler, HYPE, KNOWS_HYPE, packages=("faiss",)),
    "datacomp_image": Case(vectors.datacomp_image, (*L14, *CLUSTERS), {"targets": None, "k": 40}, packages=("faiss",)),
    "datacomp_1b": Case(vectors.datacomp_1b, (*L14, *CLUSTERS), {"targets": None, "k": 40}, packages=("faiss",)),
}


def test_every_built_in_recipe_has_an_oracle() -> None:
    assert CASES.keys() == set(builtin_names()) - ELSEWHERE


@pytest.mark.parametrize("name", CASES)
def test_what_a_recipe_keeps_is_what_its_oracle_keeps(world: World, name: str) -> None:
    case = CASES[name]
    for package in case.packages:
        pytest.importorskip(package, reason=f"{package} is not installed: {name} is not run")
    chosen = world.run(name, case.set)
    knows = {key: world.given[key] if value is None else value for key, value in case.knows.items()}
    wanted = case.oracle(chosen, **knows).astype(int)
    wanted[chosen.rows["text"].isna()] = 0  # a sample without a text goes nowhere
    wrong = chosen.times != wanted
    assert not wrong.any(), told(chosen, wanted, wrong)
    assert 0 < (wanted > 0).sum() < len(wanted)
    found = chosen.dropped()
    idle = {s.id for s in chosen.recipe.steps} - found.keys()
    assert idle <= set(case.idle), f"dropped nobody: {idle}; {found}"


def told(chosen: Chosen, wanted: pd.Series, wrong: pd.Series) -> str:
    """The first rows on which the two differ."""
    both = chosen.rows[["kind", "text", "width", "height", "nbytes"]].assign(wanted=wanted, times=chosen.times)
    return (
        f"{wrong.sum()} rows differ\n" + both.join(chosen.picks[["dropped_by", "reason"]])[wrong].head(20).to_string()
    )


def test_centroids_that_were_only_drawn_are_told_from_means() -> None:
    draw = np.random.default_rng(0)
    x = vectors.unit(draw.normal(size=(12, 1, 8)).repeat(40, axis=1).reshape(480, 8) + draw.normal(size=(480, 8)) / 2)
    drawn = x[draw.choice(480, 12, replace=False)]
    means = drawn
    for _ in range(60):
        near = vectors.nearest(means, x)
        means = np.stack([x[near == j].mean(axis=0) for j in range(12)])
    vectors.are_means(means, x, spherical=False)
    with pytest.raises(AssertionError, match="off the means"):
        vectors.are_means(drawn, x, spherical=False)
    with pytest.raises(AssertionError, match="off the means"):
        vectors.are_means(means, x, spherical=True)


@pytest.fixture(scope="module")
def cut_otherwise(world: World, tmp_path_factory: pytest.TempPathFactory) -> tuple[World, World]:
    """Some of the rows in one shard, and the same in another order in five."""
    rows = list(world.planted[:320])
    first = World(tmp_path_factory.mktemp("one"), rows, world.given, 400)
    return first, World(tmp_path_factory.mktemp("other"), rows[::-1], world.given, 71)


@pytest.mark.parametrize("name", ["align", "clip_wit", "metaclip_400m", "dsir", "density_pruning", "coyo_rules"])
def test_neither_order_nor_shards_change_a_pick(cut_otherwise: tuple[World, World], name: str) -> None:
    one, other = (w.run(name, CASES[name].set).times for w in cut_otherwise)
    assert 0 < (one > 0).sum() < len(one)
    pd.testing.assert_series_equal(one, other.reindex(one.index))


GIVEN = [n for n in builtin_names() if "given/" in (resources.files("recipes") / f"{n}.yaml").read_text()]


@pytest.mark.parametrize("name", GIVEN)
def test_what_a_user_must_give_is_asked_for_before_anything_runs(
    world: World, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_list(world.planted[:2], tmp_path / "list.parquet")
    recipe = world.recipe(name, [f"pool={tmp_path / 'pool'}", f"source.path={tmp_path / 'list.parquet'}"])
    with pytest.raises(UserError, match="given/"), Progress(None, "a test", io.StringIO()) as progress:
        Job(recipe).run(progress)
    assert not (tmp_path / "pool" / "pixels").exists()


@pytest.mark.parametrize("name", GIVEN)
def test_what_its_comment_tells_to_set_is_there(name: str) -> None:
    text = (resources.files("recipes") / f"{name}.yaml").read_text()
    said = " ".join(line.removeprefix("#").strip() for line in text.splitlines() if line.startswith("#"))
    keys = re.findall(r"--set '?([a-z_0-9.]+)=", said)
    assert keys
    for key in keys:
        override(copy.deepcopy(load_recipe(name).raw), f"{key}=1")


@pytest.mark.parametrize("name", builtin_names())
def test_a_recipe_is_short_and_says_what_it_follows(name: str) -> None:
    text = (resources.files("recipes") / f"{name}.yaml").read_text()
    assert len(text.splitlines()) <= 40
    assert text.startswith("# ")
    assert load_recipe(name).file.paper or name in ELSEWHERE
