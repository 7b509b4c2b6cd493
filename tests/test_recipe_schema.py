"""The schema for editors accepts what the loader accepts, and refuses what it refuses."""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.errors import UserError
from curate.recipe import builtin_names, load_recipe
from curate.recipe_files import find
from curate.recipe_schema import DRAFT, HEADER, schema, write_schema
from curate.recipe_yaml import Document, dump

jsonschema = pytest.importorskip("jsonschema", reason="no jsonschema: the editors' schema is not checked")


@pytest.fixture(scope="module")
def validator() -> Any:
    return jsonschema.Draft7Validator(schema())


def test_it_is_a_schema_of_its_draft(validator: Any) -> None:
    jsonschema.Draft7Validator.check_schema(validator.schema)
    assert validator.schema["$schema"] == DRAFT
    assert json.loads(json.dumps(validator.schema)) == validator.schema


@pytest.mark.parametrize("name", builtin_names())
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
    "filters: [{union: {over: pool, members: [{where: a}, {top_fraction: {column: mean, fraction: 0.3}}]}}]",
    "filters: [{not: {over: pool, members: [{union: {members: [{where: a}]}}]}}]",
    "captions: {make: [recipe_parts:Echo], emit: [{copies: 2, texts: [{source: echo, p: 0.5}, {source: web}]}]}",
    "pack: {samples: 10, format: parquet, repeat: weight}",
    "judge: {family: meru, scale: xlarge, seeds: 3, samples_seen: 1.28e8, evaluate: [flickr]}",
    "run: {executor: ray, workers: 3, allow_failed: 0.1, tries: 1}",
    "ingest: {resize: none, format: null}",
    "filters:\npack:\nseed:\nsource:\n",
    "columns: [{near_hashes: {by: phash64, distance: 4}}]",
    "year: 2023",
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
    ("seed: true", "True"),
    ('seed: "3"', "3"),
    ("year: soon", "soon"),
    ("ingest: {only_if_bigger: 1}", "1"),
    ("ingest: {allow_loopback: yes}", "yes"),
    ('filters: [{language: {keep: [en], min_prob: "0.5"}}]', "0.5"),
    ("filters: [{where: 3}]", "3"),
    ("filters: [{image_size: {}}]", "{}"),
    ("filters: [{image_size: null}]", "None"),
    ("filters: [{where: a, id: removed}]", "removed"),
    ("filters: [{keep_one: {by: sha256, over: pool}, on_missing: drop}]", "drop"),
    ("filters: [{top_fraction: {column: mean, fraction: 1.5, over: pool}}]", "1.5"),
    ("columns: [hash_groups]", "hash_groups"),
    ("columns: [{hash_groups: null}]", "None"),
    ("recipe: null", "None"),
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
    assert properties["extends"]["anyOf"][0]["anyOf"][0]["enum"] == builtin_names()


# ---------------------------------------------------------------- documents


ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def fenced() -> Iterator[Any]:
    """Recipes and sections of recipes in the documents."""
    for document in DOCUMENTS:
        for i, text in enumerate(re.findall(r"^```yaml\n(.*?)^```$", document.read_text(), re.DOTALL | re.MULTILINE)):
            yield pytest.param(text, id=f"{document.name}-{i}")


@pytest.mark.parametrize("text", list(fenced()))
def test_recipes_of_the_documents_are_valid(validator: Any, text: str) -> None:
    validator.validate({"recipe": "fragment", **Document("document", text).value})


def test_the_header_line_is_shown_where_it_is_looked_for(tmp_path: Path) -> None:
    said = write_schema(tmp_path / "recipe.schema.json")
    assert said.splitlines()[-1] == HEADER == "# yaml-language-server: $schema=recipe.schema.json"
    assert json.loads((tmp_path / "recipe.schema.json").read_text()) == schema()
    assert write_schema(tmp_path / "other.json").endswith("$schema=other.json")
    assert HEADER in (ROOT / "README.md").read_text()
    with pytest.raises(UserError, match=r"recipe.yaml: the schema is JSON, not a recipe"):
        write_schema(tmp_path / "recipe.yaml")


# ---------------------------------------------------------------- schema and loader agree

WHOLE = """
recipe: whole
description: all
year: 2023
seed: 7
pool: somewhere
shard_size: 500
source:
  - {path: [a.parquet, b.parquet], url: URL, text: TEXT, keep: [similarity], quotes: false}
  - {path: photos, kind: folder, text: null}
ingest: {resize: short, side: 256, only_if_bigger: true, quality: 80, timeout_s: 2.5, per_host: 4}
columns:
  - image_facts
  - language: {model: lid.176.ftz}
  - near_hashes: {by: phash64, distance: 4}
filters:
  - image_size: {min_side: 200, max_aspect: 3}
    id: large
  - where: "sharpness > 1e-4"
    on_missing: drop
  - where: {sql: "not blank", on_missing: keep}
  - language: {keep: [no, nn], min_prob: 0.5}
  - caption_length: {min_words: 3, count: coyo}
  - top_fraction: {column: mean, fraction: 0.3, over: pool, convention: n+1, lowest: true}
  - keep_one: {by: sha256, over: survivors, prefer: [original_width desc]}
  - in_subset: {path: subset.npy, over: pool}
captions:
  emit:
    - {copies: 2, texts: [{source: web, p: 0.8}, {source: web, p: 0.2}]}
pack: {samples: 100, format: parquet, repeat: weight}
judge: {family: siglip, scale: tiny, seeds: 5, samples_seen: 1280, controls: [random]}
run: {executor: inline, workers: 2, tries: 1, allow_failed: 0.01}
"""


def leaves(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Paths of all scalars."""
    if isinstance(value, dict | list):
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
            yield from leaves(inner, (*path, key))
    else:
        yield path


def keys(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Paths of all keys of maps."""
    if isinstance(value, dict | list):
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
            if isinstance(value, dict):
                yield (*path, key)
            yield from keys(inner, (*path, key))


def at(value: Any, path: tuple[Any, ...]) -> Any:
    for part in path:
        value = value[part]
    return value


def loads(value: Any) -> bool:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "r.yaml"
        path.write_text(dump(value))
        try:
            load_recipe(str(path))
        except UserError:
            return False
        return True


def both(validator: Any, value: Any) -> tuple[bool, bool]:
    """(the loader takes it, the schema takes it)."""
    return loads(value), bool(validator.is_valid(value))


def test_the_whole_recipe_is_right(validator: Any) -> None:
    assert both(validator, Document("w", WHOLE).value) == (True, True)


@given(st.data())
@settings(max_examples=150, deadline=None)
def test_both_refuse_a_misspelt_key(validator: Any, data: st.DataObject) -> None:
    value = Document("w", WHOLE).value
    path = data.draw(st.sampled_from(list(keys(value))))
    here, key = at(value, path[:-1]), path[-1]
    i = data.draw(st.integers(0, len(key) - 1))
    wrong = data.draw(st.sampled_from([key[:i] + key[i + 1 :], key[:i] + "q" + key[i:], key.upper(), f"{key}_"]))
    if wrong in (*here, "") or wrong in validator.schema["properties"]:
        return
    items = [(wrong if k == key else k, v) for k, v in here.items()]
    here.clear()
    here.update(items)
    assert both(validator, value) == (False, False), (path, wrong)


@given(st.data())
@settings(max_examples=250, deadline=None)
def test_both_refuse_a_value_of_another_type(validator: Any, data: st.DataObject) -> None:
    value = Document("w", WHOLE).value
    path = data.draw(st.sampled_from(list(leaves(value))))
    here, old = at(value, path[:-1]), at(value, path)
    others = {str: [3, 2.5, True], bool: ["yes", "true", 1, 0, 2.5], int: ["3", "many", True], float: ["0.5", False]}
    wrong = [{"zz": 1}, [{"zz": 1}], *others.get(type(old), [3])]
    here[path[-1]] = data.draw(st.sampled_from(wrong))
    assert both(validator, value) == (False, False), (path, here[path[-1]])
