"""`--set`: which key is meant, what it becomes, and what is said where it leads nowhere."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from recipe_parts import Brightness, Echo

from curate.errors import UserError
from curate.recipe import Recipe, load_recipe
from filters.image_size import ImageSize
from filters.language import Language
from filters.where import Where
from stages.image_facts import ImageFacts
from stages.language import Language as LanguageStage

TEXT = """\
recipe: x
source: {path: a.parquet}
columns:
  - image_facts
  - language
  - recipe_parts:Brightness: {gain: 2}
filters:
  - image_size: {min_side: 200}
  - where: mean > 3
  - where: {sql: sharpness > 3}
  - id: english
    language: {keep: [en], min_prob: 0.1}
    on_missing: drop
  - keep_one: {by: sha256, over: pool}
captions:
  make: [{"recipe_parts:Echo": {}}]
  emit:
    - texts: [{source: web}]
"""


@pytest.fixture
def path(tmp_path: Path) -> str:
    file = tmp_path / "r.yaml"
    file.write_text(TEXT)
    return str(file)


def filters(recipe: Recipe) -> dict[str, Any]:
    return {s.id: s.filter for s in recipe.steps}


@pytest.mark.parametrize(
    ("override", "step", "value"),
    [
        ("filters.image_size.max_aspect=3", "image_size", ImageSize(min_side=200, max_aspect=3)),
        ("filters.0.min_side=1", "image_size", ImageSize(min_side=1)),
        ("filters.image_size.image_size.min_side=1", "image_size", ImageSize(min_side=1)),
        ("filters.image_size.image_size={max_side: 9}", "image_size", ImageSize(max_side=9)),
        ("filters.image_size.on_missing=keep", "image_size", ImageSize(min_side=200, on_missing="keep")),
        ("filters.where.where=blank", "where", Where(sql="blank")),
        ("filters.where-2.sql=blank", "where-2", Where(sql="blank")),
        ("filters.english.min_prob=0.5", "english", Language(keep=("en",), min_prob=0.5, on_missing="drop")),
        ("filters.english.keep=[no, nn]", "english", Language(keep=("no", "nn"), min_prob=0.1, on_missing="drop")),
        ("filters.english.keep.0=no", "english", Language(keep=("no",), min_prob=0.1, on_missing="drop")),
        ("filters.english.min_prob=", "english", Language(keep=("en",), on_missing="drop")),
        ("filters.english.min_prob=1e-4", "english", Language(keep=("en",), min_prob=1e-4, on_missing="drop")),
        ("filters.3.id=norsk", "norsk", Language(keep=("en",), min_prob=0.1, on_missing="drop")),
        ("filters.4={where: a = b}", "where-3", Where(sql="a = b")),
    ],
)
def test_a_step_is_addressed_by_id_or_number(path: str, override: str, step: str, value: object) -> None:
    changed = filters(load_recipe(path, [override]))
    assert changed[step] == value
    kept = {k: v for k, v in filters(load_recipe(path)).items() if k in changed and k != step}
    assert kept.items() <= changed.items()
    assert len(changed) == 5


def test_stages_are_addressed_by_name(path: str) -> None:
    names = ["columns.language.model=x.bin", "columns.recipe_parts:Brightness.gain=3", "captions.make.0.times=4"]
    recipe = load_recipe(path, names)
    assert recipe.stages == (ImageFacts(), LanguageStage(model="x.bin"), Brightness(gain=3), Echo(times=4))


def test_other_sections(path: str) -> None:
    recipe = load_recipe(
        path,
        [
            "seed=7",
            "source.path=[b.parquet, c.parquet]",
            "pool=s3://bucket/a=b",
            "pack.samples=5",
            "judge.seeds=9",
            "captions.emit.0.texts.0.p=0.5",
            "captions.emit.0.copies=2",
            "seed=8",
        ],
    )
    assert recipe.seed == 8  # the last one counts
    assert recipe.sources[0].paths == ("b.parquet", "c.parquet")
    assert recipe.pool == "s3://bucket/a=b"
    assert recipe.pack is not None
    assert recipe.pack.samples == 5
    assert recipe.judge is not None
    assert recipe.judge.seeds == 9
    assert recipe.captions.emit[0].copies == 2
    assert recipe.captions.emit[0].texts[0].p == 0.5


def test_a_section_can_be_dropped(path: str) -> None:
    assert load_recipe(path, ["filters="]).steps == ()


@pytest.mark.parametrize(
    ("override", "error"),
    [
        ("seed", "--set seed: write it as key=value, as in --set filters.english.min_prob=0.5"),
        ("=3", "--set =3: write it as key=value"),
        ("a..b=3", "--set a..b=3: write it as key=value"),
        ("sed=3", "--set sed=3: a recipe has no 'sed'; did you mean 'seed'?"),
        ("extends=dedup", "--set extends=dedup: what a recipe extends stands in its file"),
        ("seed=[1", "--set seed=[1: value:1:"),
        ("seed={a: 1, a: 2}", "--set seed={a: 1, a: 2}: value:1:8: a: 'a' stands twice"),
        ("seed=x", '--set seed=x: seed: expected a whole number, found "x"'),
        ("seed.x=1", '--set seed.x=1: seed: expected a whole number, found {"x": 1}'),
        (
            "filters.englisch.min_prob=1",
            "--set filters.englisch.min_prob=1: filters has no 'englisch'; did you mean 'english'? "
            "(there are image_size, where, where-2, english, keep_one)",
        ),
        ("filters.9.id=x", "--set filters.9.id=x: filters has no '9' (there are image_size, "),
        ("filters.-1.id=x", "--set filters.-1.id=x: filters has no '-1'"),
        ("filters.²=x", "--set filters.²=x: filters has no '²'"),
        (
            "filters.english.min_pro=0.5",
            "--set filters.english.min_pro=0.5: filters.3.language.min_pro: unknown key; did you mean 'min_prob'?",
        ),
        (
            "filters.english.min_prob=3",
            "--set filters.english.min_prob=3: filters.3.language.min_prob: expected a number",
        ),
        ("filters.where.sql=x", "--set filters.where.sql=x: the filter is `where: mean > 3`; set filters.1.where"),
        (
            "columns.imge_facts.a=1",
            "--set columns.imge_facts.a=1: columns has no 'imge_facts'; did you mean 'image_facts'?",
        ),
        ("captions.emits.0.copies=1", "--set captions.emits.0.copies=1: captions has no 'emits'; did you mean 'emit'?"),
        (
            "captions.emit.1.copies=1",
            "--set captions.emit.1.copies=1: captions.emit has no '1' (there are numbers below 1)",
        ),
        ("pack.sampels=3", "--set pack.sampels=3: pack.sampels: unknown key; did you mean 'samples'?"),
    ],
)
def test_what_leads_nowhere_is_an_error_that_names_the_override(path: str, override: str, error: str) -> None:
    with pytest.raises(UserError) as e:
        load_recipe(path, [override])
    assert str(e.value).startswith(error)
    assert "\n" not in str(e.value)


def test_wrong_overrides_are_said_all_at_once(path: str) -> None:
    with pytest.raises(UserError) as e:
        load_recipe(path, ["sed=3", "filters.english.min_prob=3", "filters.nowhere.a=1"])
    assert [line.split(": ")[0] for line in str(e.value).splitlines()] == [
        "--set sed=3",
        "--set filters.nowhere.a=1",
        "--set filters.english.min_prob=3",
    ]


def test_an_error_beside_an_override_keeps_its_line(tmp_path: Path) -> None:
    file = tmp_path / "r.yaml"
    file.write_text("recipe: x\nfilters:\n  - image_size: {min_side: 0}\n")
    with pytest.raises(UserError, match=r"r.yaml:3:18: filters.0.image_size.min_side: expected a number") as e:
        load_recipe(str(file), ["filters.image_size.max_side=3"])
    assert "--set" not in str(e.value)
