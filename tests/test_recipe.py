"""Recipes that are right: what they say, what they inherit, which columns their names mean."""

from __future__ import annotations

from pathlib import Path

import pytest
from recipe_parts import Bright, Brightness, Echo

from curate.errors import UserError
from curate.pool.facts import FACTS
from curate.recipe import Recipe, builtin_names, load_recipe
from curate.recipe_models import EmitSpec, TextChoice
from filters.caption_length import CaptionLength
from filters.combined import Intersect, Union
from filters.image_size import ImageSize
from filters.language import Language
from filters.top_fraction import TopFraction
from filters.where import Where
from stages.base import Column, fact
from stages.image_facts import ImageFacts
from stages.language import Language as LanguageStage
from stages.text_facts import TextFacts


def read(folder: Path, text: str, *overrides: str, name: str = "r.yaml") -> Recipe:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return load_recipe(str(path), overrides)


def test_the_least_recipe_has_all_defaults(tmp_path: Path) -> None:
    recipe = read(tmp_path, "recipe: least\n")
    assert recipe.name == "least"
    assert recipe.pool == "pools/least"
    assert (recipe.seed, recipe.shard_size) == (0, 10_000)
    assert recipe.sources == recipe.steps == recipe.stages == ()
    assert recipe.captions.emit == (EmitSpec(copies=1, texts=(TextChoice(source="web", p=1.0),)),)
    assert recipe.pack is None
    assert recipe.judge is None
    assert recipe.run.executor == "auto"


FULL = """
recipe: full
description: all sections
paper: none
seed: 7
pool: s3://bucket/pool
shard_size: 500
source:
  - {path: [a/*.parquet, b.parquet], url: URL, text: TEXT, keep: [similarity]}
  - {path: photos, kind: folder, text: null}
ingest: {resize: short, side: 256, contact: "https://example.org"}
columns:
  - image_facts
  - language: {model: lid.176.ftz}
  - recipe_parts:Brightness: {gain: 2}
filters:
  - image_size: {min_side: 200, max_aspect: 3}
  - where: "sharpness > 1e-4"
  - where: "not blank"
    on_missing: keep
  - id: norsk
    language: {keep: [no, nn], min_prob: 0.5}
    on_missing: drop
  - recipe_parts:Bright: {at_least: 10}
captions:
  make:
    - recipe_parts:Echo: {times: 2}
  emit:
    - {copies: 2, texts: [{source: web, p: 0.8}, {source: echo, p: 0.2}]}
    - texts: [{source: echo}]
pack: {samples: 100, format: parquet, repeat: weight}
judge: {family: siglip, scale: tiny, seeds: 5, samples_seen: 1.28e8, controls: [random]}
run: {executor: inline, workers: 2, tries: 1, allow_failed: 0.01}
"""


def test_the_whole_schema(tmp_path: Path) -> None:
    recipe = read(tmp_path, FULL)
    assert (recipe.pool, recipe.seed, recipe.shard_size) == ("s3://bucket/pool", 7, 500)
    assert [s.paths for s in recipe.sources] == [("a/*.parquet", "b.parquet"), ("photos",)]
    assert recipe.sources[0].keep == ("similarity",)
    assert recipe.sources[1].text is None
    assert recipe.ingest.side == 256
    assert recipe.stages == (ImageFacts(), LanguageStage(), Brightness(gain=2), Echo(times=2))
    assert [(s.id, s.filter) for s in recipe.steps] == [
        ("image_size", ImageSize(min_side=200, max_aspect=3)),
        ("where", Where(sql="sharpness > 1e-4")),
        ("where-2", Where(sql="not blank", on_missing="keep")),
        ("norsk", Language(keep=("no", "nn"), min_prob=0.5, on_missing="drop")),
        ("Bright", Bright(at_least=10)),
    ]
    assert [e.copies for e in recipe.captions.emit] == [2, 1]
    assert recipe.captions.emit[0].texts == (TextChoice(source="web", p=0.8), TextChoice(source="echo", p=0.2))
    assert recipe.pack is not None
    assert (recipe.pack.samples, recipe.pack.format, recipe.pack.repeat) == (100, "parquet", "weight")
    assert recipe.judge is not None
    assert (recipe.judge.family, recipe.judge.seeds, recipe.judge.samples_seen) == ("siglip", 5, 128_000_000)
    assert (recipe.run.executor, recipe.run.workers, recipe.run.allow_failed) == ("inline", 2, 0.01)


def test_the_resolved_recipe_is_the_same_recipe(tmp_path: Path) -> None:
    recipe = read(tmp_path, FULL, "filters.norsk.min_prob=0.25")
    again = read(tmp_path, recipe.resolved_yaml(), name="again.yaml")
    assert again == recipe
    assert again.resolved_yaml() == recipe.resolved_yaml()


def test_the_order_of_sections_does_not_matter_to_the_resolved_recipe(tmp_path: Path) -> None:
    a = read(tmp_path, "seed: 3\nrecipe: x\n")
    b = read(tmp_path, "recipe: x\nseed: 3\n")
    assert a.resolved_yaml() == b.resolved_yaml() == "recipe: x\nseed: 3\n"


def test_settings_are_left_out_of_what_decides_bytes(tmp_path: Path) -> None:
    recipe = read(tmp_path, FULL)
    text = recipe.resolved_yaml(settings=False)
    assert not any(line.startswith(("pool:", "run:", "description:")) for line in text.splitlines())
    elsewhere = read(tmp_path, FULL, "pool=elsewhere", "run.executor=ray", "description=other")
    assert elsewhere.resolved_yaml(settings=False) == text


# ---------------------------------------------------------------- ids


def test_automatic_ids_leave_room_for_given_ones(tmp_path: Path) -> None:
    steps = "filters:\n  - where: a\n  - {id: where, where: b}\n  - where: c\n  - {id: where-3, where: d}\n"
    assert [s.id for s in read(tmp_path, "recipe: x\n" + steps).steps] == ["where-2", "where", "where-4", "where-3"]


# ---------------------------------------------------------------- extends

BASE = """
recipe: base
seed: 1
ingest: {resize: none, timeout_s: 3}
filters:
  - image_size: {min_side: 100}
  - where: "mean > 3"
judge: {seeds: 2}
"""


def test_extends_merges_maps_and_replaces_lists(tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text(BASE)
    recipe = read(tmp_path, "recipe: mine\nextends: base.yaml\ningest: {timeout_s: 9}\nfilters:\n  - where: blank\n")
    assert recipe.name == "mine"
    assert recipe.seed == 1
    assert (recipe.ingest.resize, recipe.ingest.timeout_s) == ("none", 9)
    assert [s.filter for s in recipe.steps] == [Where(sql="blank")]
    assert "extends" not in recipe.resolved_yaml()


def test_an_empty_section_goes_back_to_its_default(tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text(BASE)
    recipe = read(tmp_path, "recipe: mine\nextends: base.yaml\nfilters:\njudge:\nseed:\n")
    assert recipe.steps == ()
    assert recipe.judge is None
    assert recipe.seed == 0


def test_built_in_recipes_can_be_extended(tmp_path: Path) -> None:
    recipe = read(tmp_path, "recipe: mine\nextends: datacomp_basic\n")
    assert [s.filter for s in recipe.steps] == [s.filter for s in load_recipe("datacomp_basic").steps]


# ---------------------------------------------------------------- names of columns


def test_names_mean_facts_then_the_recipes_columns_then_built_in_ones(tmp_path: Path) -> None:
    recipe = read(tmp_path, "recipe: x\ncolumns:\n  - language: {model: other.bin}\n  - recipe_parts:Brightness\n")
    assert recipe.resolve("width") == fact("width")
    assert recipe.resolve("brightness") == Column(Brightness(), "brightness")
    assert recipe.resolve("lang") == Column(LanguageStage(model="other.bin"), "lang")
    assert recipe.resolve("mean") == Column(ImageFacts(), "mean")
    assert recipe.resolve("similarity", ["similarity"]) == fact("similarity")
    assert recipe.resolve("lang", ["lang"]) == fact("lang")


def test_every_fact_but_internal_ones_has_a_name(tmp_path: Path) -> None:
    recipe = read(tmp_path, "recipe: x\n")
    for name in FACTS.names:
        if name != "tar_offset":
            assert recipe.resolve(name) == fact(name)
    with pytest.raises(UserError, match="recipe x: no column 'tar_offset'"):
        recipe.resolve("tar_offset")
    with pytest.raises(UserError, match="recipe x: no column 'error'"):
        recipe.resolve("error")


def test_unknown_columns_are_all_named_with_their_places(tmp_path: Path) -> None:
    text = """recipe: x
filters:
  - where: "sharpnes > 3"
  - image_size: {min_side: 3}
  - where: "simil > 3 and means > 2"
captions:
  emit:
    - texts: [{source: web}, {source: simil}]
"""
    recipe = read(tmp_path, text)
    with pytest.raises(UserError) as e:
        recipe.resolve("sharpnes", ["similarity"])
    file = tmp_path / "r.yaml"
    assert str(e.value).splitlines() == [
        f"{file}:3:5: filters.0.where: no column 'sharpnes'; did you mean 'sharpness'?",
        f"{file}:5:5: filters.2.where: no column 'simil'; did you mean 'similarity'?",
        f"{file}:5:5: filters.2.where: no column 'means'; did you mean 'mean'?",
        f"{file}:8:31: captions.emit.0.texts.1.source: no column 'simil'; did you mean 'similarity'?",
    ]


def test_a_name_that_the_recipe_does_not_read_is_refused_alone(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^recipe x: no column 'hight'; did you mean 'height'\?$"):
        read(tmp_path, "recipe: x\nfilters:\n  - where: nowhere\n").resolve("hight")


# ---------------------------------------------------------------- built-in recipes


def test_built_in_recipes_are_listed_with_what_they_are() -> None:
    assert {"no_filter", "datacomp_basic", "dedup", "web_default", "coyo_rules"} <= set(builtin_names())
    listed = {name: load_recipe(name).file for name in builtin_names()}
    assert all(file.description for file in listed.values())
    assert all(file.paper for name, file in listed.items() if name != "demo")


@pytest.mark.parametrize("name", builtin_names())
def test_built_in_recipes_load_and_know_their_columns(name: str) -> None:
    recipe = load_recipe(name)
    assert recipe.name == name
    for step in recipe.steps:
        for column in step.filter.reads():
            if isinstance(column, str):
                recipe.resolve(column)


def test_datacomp_basic_has_the_papers_thresholds() -> None:
    assert {s.id: s.filter for s in load_recipe("datacomp_basic").steps} == {
        "english": Language(keep=("en",), on_missing="drop"),
        "caption_length": CaptionLength(min_words=3, min_chars=6, on_missing="drop"),
        "image_size": ImageSize(min_side=200, max_aspect=3.0),
    }


NESTED = """
recipe: nested
columns:
  - recipe_parts:Doubled: {of: n_words}
  - recipe_parts:Doubled: {of: doubled_n_words}
  - recipe_parts:Doubled: {of: score}
filters:
  - id: either
    union:
      over: pool
      members:
        - top_fraction: {column: doubled_n_words, fraction: 0.3}
          on_missing: drop
        - intersect:
            members:
              - image_size: {min_side: 200}
              - not:
                  members: [{where: "doubled_n_words > 8"}]
"""


def test_a_stage_may_read_what_another_entry_or_the_input_writes(tmp_path: Path) -> None:
    first, second, third = read(tmp_path, NESTED).stages
    assert first.reads() == (Column(TextFacts(), "n_words"),)
    assert second.reads() == (Column(first, "doubled_n_words"),)
    assert third.reads() == (fact("score"),)


def test_a_column_that_neither_input_nor_stage_has_is_named_with_its_place(tmp_path: Path) -> None:
    recipe = read(tmp_path, NESTED)
    assert recipe.unknown({"score"}) == []
    ((path, words),) = recipe.unknown()
    assert path == ("columns", 2)
    assert words.startswith("no column 'score'")


def test_filters_are_made_of_filters_that_are_asked_about_the_same(tmp_path: Path) -> None:
    (step,) = read(tmp_path, NESTED).steps
    either = step.filter
    assert isinstance(either, Union)
    top, both = either.members
    assert top == TopFraction(over="pool", column="doubled_n_words", fraction=0.3, on_missing="drop")
    assert isinstance(both, Intersect)
    assert both.over == "pool"
    assert either.reads() == ("doubled_n_words", "original_width", "original_height")


@pytest.mark.parametrize(
    ("member", "words"),
    [
        ("{image_size: {min_sid: 2}}", "filters.0.union.members.0.image_size.min_sid: unknown key"),
        ("{image_siz: {min_side: 2}}", "did you mean 'image_size'?"),
        ("3", "filters.0.union.members.0: expected one filter"),
        ("{soft: {members: []}}", "filters.0.union.members.0.soft"),
        ("{top_fraction: {column: a, fraction: 0.1, over: survivors}}", "leave `over` out"),
    ],
)
def test_a_wrong_member_is_named_with_its_place(tmp_path: Path, member: str, words: str) -> None:
    text = f"recipe: r\n\n\nfilters:\n  - union: {{over: pool, members: [{member}]}}\n"
    with pytest.raises(UserError) as caught:
        read(tmp_path, text)
    assert words in str(caught.value)
    assert "r.yaml:5:" in str(caught.value)
