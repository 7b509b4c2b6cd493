"""The schema for editors accepts what the loader accepts, and refuses what it refuses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from curate.errors import UserError
from curate.recipe import builtin_recipes, load_recipe
from curate.recipe_files import find
from curate.recipe_schema import DRAFT, schema
from curate.recipe_yaml import Document

jsonschema = pytest.importorskip("jsonschema", reason="no jsonschema: the editors' schema is not checked")


@pytest.fixture(scope="module")
def validator() -> Any:
    return jsonschema.Draft7Validator(schema())


def test_it_is_a_schema_of_its_draft(validator: Any) -> None:
    jsonschema.Draft7Validator.check_schema(validator.schema)
    assert validator.schema["$schema"] == DRAFT
    assert json.loads(json.dumps(validator.schema)) == validator.schema


@pytest.mark.parametrize("name", [n for n, _, _ in builtin_recipes()])
def test_built_in_recipes_are_valid(validator: Any, name: str) -> None:
    validator.validate(Document(*find(name)).value)
    validator.validate(Document(name, load_recipe(name).resolved_yaml()).value)


RIGHT = [
    "source: {path: a}",
    "source: [{path: [a, b], keep: all}, {path: c, url: null, keep: [x]}]",
    "columns: [image_facts, {language: {model: x}}, text_facts, {recipe_parts:Echo: null}, recipe_parts:Brightness]",
    "filters: [{where: a}, {where: {sql: a}, id: b, on_missing: keep}, {image_size: {min_side: 3, on_missing: drop}}]",
    "filters: [{recipe_parts:Bright: {at_least: 3}}]",
    "filters: [{top_fraction: {over: pool, column: mean, fraction: 0.3}}]",
    "filters: [{language: {keep: [no]}}]",
    "captions: {make: [recipe_parts:Echo], emit: [{copies: 2, texts: [{source: echo, p: 0.5}, {source: web}]}]}",
    "pack: {samples: 10, format: parquet, repeat: weight}",
    "judge: {family: meru, scale: xlarge, seeds: 3, samples_seen: 1.28e8, evaluate: [flickr]}",
    "run: {executor: ray, workers: 3, allow_failed: 0.1, tries: 1}",
    "ingest: {resize: none, format: null}",
]


@pytest.mark.parametrize("text", RIGHT)
def test_what_loads_is_valid(validator: Any, tmp_path: Path, text: str) -> None:
    (tmp_path / "r.yaml").write_text(f"recipe: x\n{text}\n")
    assert load_recipe(str(tmp_path / "r.yaml")).name == "x"
    validator.validate(Document("r", f"recipe: x\n{text}\n").value)


WRONG = [
    ("sed: 3", "sed"),
    ("source: {pth: a}", "pth"),
    ("source: {path: a, kind: tar}", "tar"),
    ("columns: [imge_facts]", "imge_facts"),
    ("columns: [{image_facts: null, language: null}]", "image_facts"),
    ("columns: [{language: {modl: x}}]", "modl"),
    ("filters: [{imagesize: {min_side: 1}}]", "imagesize"),
    ("filters: [{image_size: {min_sid: 1}}]", "min_sid"),
    ("filters: [{where: a, image_size: {min_side: 1}}]", "where"),
    ("filters: [{where: a, recipe_parts:Bright: {at_least: 3}}]", "where"),
    ("filters: [{id: x}]", "id"),
    ("filters: [{where: a, id: 3x}]", "3x"),
    ("filters: [{keep_one: {by: sha256}}]", "over"),
    ("filters: [{where: a, on_missing: dropp}]", "dropp"),
    ("captions: {make: [imge_facts]}", "imge_facts"),
    ("captions: {emit: []}", "[]"),
    ("pack: {samples: 0}", "0"),
    ("judge: {family: clap}", "clap"),
    ("recipe: a b", "a b"),
]


@pytest.mark.parametrize(("text", "culprit"), WRONG)
def test_what_does_not_load_is_not_valid(validator: Any, tmp_path: Path, text: str, culprit: str) -> None:
    whole = text if text.startswith("recipe") else f"recipe: x\n{text}"
    (tmp_path / "r.yaml").write_text(whole)
    with pytest.raises(UserError):
        load_recipe(str(tmp_path / "r.yaml"))
    found = jsonschema.exceptions.best_match(validator.iter_errors(Document("r", whole).value))
    assert found is not None
    assert culprit in str(found) + str(found.instance)


def described(schema: Any, path: str = "") -> Any:
    """(path, schema) of every key that may stand in a recipe."""
    if isinstance(schema, dict):
        for name, value in schema.get("properties", {}).items():
            if value is not False:
                yield f"{path}.{name}", value
        for key, value in schema.items():
            yield from described(value, f"{path}.{key}")
    elif isinstance(schema, list):
        for i, value in enumerate(schema):
            yield from described(value, f"{path}.{i}")


def test_editors_can_tell_what_every_key_is_for(validator: Any) -> None:
    found = dict(described(validator.schema))
    assert len(found) > 100
    assert [path for path, value in found.items() if len(value.get("description", "")) < 6] == []
    properties = validator.schema["properties"]
    assert "lists replace" in properties["extends"]["description"]
    steps = validator.schema["$defs"]["Step"]["properties"]
    assert steps["image_size"]["description"].startswith("Keeps pictures within all bounds")
    assert steps["image_size"]["properties"]["min_side"]["description"] == "shorter side in pixels."
    assert "sharpness (image_facts)" in steps["where"]["description"]
    assert properties["extends"]["anyOf"][0]["anyOf"][0]["enum"] == [n for n, _, _ in builtin_recipes()]
