"""JSON schema of recipes, by which editors complete and check them.

    # yaml-language-server: $schema=recipe.schema.json      <- first line of a recipe; `curate schema --out` prints it

Draft 7: what yaml-language-server knows in all its versions. The schema refuses what the loader refuses, but for what
takes more than the words to see: SQL, ids that recur, bounds that exclude each other, one's own classes.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from curate.catalog import FILTERS, OWN, STAGES, default_fields, load
from curate.errors import UserError
from curate.pool.facts import FACTS
from curate.recipe_check import ID, RESERVED
from curate.recipe_docs import first_paragraph, parameter_docs
from curate.recipe_errors import models_in
from curate.recipe_files import builtin_names
from curate.recipe_models import RecipeFile
from stages.base import Parameters

FILE = "recipe.schema.json"
HEADER = f"# yaml-language-server: $schema={FILE}"
"""The first line of a recipe: by it editors find the schema that lies beside."""
DRAFT = "http://json-schema.org/draft-07/schema#"
OWN_NAME = f"^{OWN}$"

Schema = dict[str, Any]


def write_schema(out: Path) -> str:
    """Write the schema; returns what to do with it."""
    if out.suffix in (".yaml", ".yml"):
        raise UserError(f"{out}: the schema is JSON, not a recipe; say --out {FILE}")
    out.write_text(json.dumps(schema(), indent=1) + "\n", encoding="utf-8")
    header = HEADER.replace(FILE, out.name)
    return f"wrote {out}; a recipe beside it begins with this line:\n{header}"


def schema() -> Schema:
    """The schema of a whole recipe: sections, and one entry for each built-in filter and stage."""
    found = RecipeFile.model_json_schema(by_alias=True)
    definitions = found.setdefault("$defs", {})
    for model in _models(RecipeFile):
        _describe(found if model is RecipeFile else definitions[model.__name__], model)
    properties = found["properties"]
    properties["filters"]["items"] = {"$ref": "#/$defs/Step"}
    for stages in (properties["columns"], definitions["Captions"]["properties"]["make"]):
        stages["items"] = {"$ref": "#/$defs/StageEntry"}
    properties["source"] = {"anyOf": [{"$ref": "#/$defs/SourceSpec"}, properties["source"]]} | _hover(
        properties["source"]
    )
    definitions["Step"] = _step(definitions)
    definitions["Member"] = _member(definitions["Step"])
    definitions["StageEntry"] = _stage_entry(definitions)
    properties["extends"]["anyOf"].insert(0, {"enum": builtin_names()})
    for name in properties:
        if name not in found["required"]:  # a section without a value goes back to its default
            properties[name] = {"anyOf": [properties[name], {"type": "null"}]} | _hover(properties[name])
    _drop_titles(found)
    return {"$schema": DRAFT, "title": "curate recipe", **found}


def _hover(given: Schema) -> Schema:
    """What an editor shows of a key, where its schema is wrapped in another."""
    return {k: given.pop(k) for k in ("description", "default") if k in given}


def _models(model: type[BaseModel]) -> list[type[BaseModel]]:
    """A model and those of its sections."""
    inner = [m for f in model.model_fields.values() for m in models_in(f.annotation)]
    return [model, *(m for i in inner for m in _models(i))]


def _describe(found: Schema, model: type[BaseModel]) -> None:
    """Descriptions of a model's keys from its docstring."""
    found["description"] = first_paragraph(model)
    for name, words in parameter_docs(model).items():
        found["properties"][name]["description"] = words


def _drop_titles(found: Any) -> None:
    """Pydantic's titles are the keys again; editors would print them above every description."""
    if isinstance(found, dict):
        if isinstance(found.get("title"), str):
            del found["title"]
        for value in found.values():
            _drop_titles(value)
    elif isinstance(found, list):
        for value in found:
            _drop_titles(value)


# ---------------------------------------------------------------- filters and stages


def _step(definitions: Schema) -> Schema:
    """An entry of `filters:`: exactly one filter, built in or one's own, and what may stand beside it."""
    known = ["id", "on_missing", *FILTERS]
    own = {"not": {"propertyNames": {"enum": known}}}
    return {
        "type": "object",
        "description": "One filter: its name and parameters, and beside them an id and on_missing.",
        "properties": {
            "id": {
                "type": "string",
                "pattern": f"^{ID.pattern}$",
                "not": {"enum": list(RESERVED)},
                "description": "its name in reports, SQL and --set; by default the filter's",
            },
            "on_missing": {
                "enum": ["drop", "keep", "error"],
                "description": parameter_docs(_kind("where"))["on_missing"],
            },
            **{name: _parameters(name, FILTERS, definitions) for name in FILTERS},
        },
        "patternProperties": {OWN_NAME: {"description": "a filter of your own, by import path"}},
        "additionalProperties": False,
        "oneOf": [*({"required": [name]} for name in FILTERS), own],
        "allOf": [
            {"if": {"required": [name]}, "then": {"properties": {"on_missing": False}}}
            for name in FILTERS
            if "on_missing" not in _kind(name).model_fields
        ],
    }


def _member(step: Schema) -> Schema:
    """A filter within another: it may leave out `over`, since it is asked about what the other is asked about."""
    found: Schema = json.loads(json.dumps(step))
    for given in found["properties"].values():
        for allowed in given.get("anyOf", [given]):
            if "over" in allowed.get("required", ()):
                allowed["required"] = [k for k in allowed["required"] if k != "over"]
    return found | {"description": "A filter, as under filters:, asked about the same samples as the one it stands in."}


def _kind(name: str) -> type[Parameters]:
    return load(name, FILTERS)


def _stage_entry(definitions: Schema) -> Schema:
    """An entry of `columns:`: a stage's name, or its name and parameters."""
    complete = [name for name in STAGES if not _required(load(name, STAGES))]
    return {
        "description": "A stage: its name, or its name and parameters.",
        "anyOf": [
            {"type": "string", "anyOf": [{"enum": complete}, {"pattern": OWN_NAME}]},
            {
                "type": "object",
                "properties": {name: _parameters(name, STAGES, definitions) for name in STAGES},
                "patternProperties": {OWN_NAME: {"description": "a stage of your own, by import path"}},
                "additionalProperties": False,
                "minProperties": 1,
                "maxProperties": 1,
            },
        ],
    }


def _required(kind: type[Parameters]) -> bool:
    """Can it not do without parameters?"""
    try:
        kind()
    except ValueError:
        return True
    return False


def _parameters(name: str, table: dict[str, str], definitions: Schema) -> Schema:
    """Parameters of one filter or stage; those of nested models go to the shared definitions."""
    kind = load(name, table)
    found = kind.model_json_schema()
    nested = found.pop("$defs", {})
    for model in _models(kind)[1:]:
        if model.__name__ in nested:  # filters within filters are `Member`
            _describe(nested[model.__name__], model)
    definitions.update(nested)
    for given in found["properties"].values():
        if given.get("items", {}).get("format") == "filter":  # see filters.base.Member
            given["items"] = {"$ref": "#/$defs/Member"}
    _describe(found, kind)
    words = found.pop("description") + _columns_there(kind)
    if _required(kind):
        found["minProperties"] = 1
        allowed = [found]
    else:
        allowed = [found, {"type": "null"}]
    if hasattr(kind, "from_scalar"):  # a bare value stands for the only parameter that must be given
        (only,) = found["required"]
        allowed.insert(0, {k: v for k, v in found["properties"][only].items() if k != "title"})
    return {"description": words, **(found if allowed == [found] else {"anyOf": allowed})}


def _columns_there(kind: type[Parameters]) -> str:
    """For a filter over any column: which there are without a stage of one's own."""
    if kind is not _kind("where") and "column" not in kind.model_fields:
        return ""
    facts = [n for n in FACTS.names if n != "tar_offset"]
    computed = ", ".join(f"{n} ({c.owner.method()})" for n, c in default_fields().items() if c.owner)
    return f"\n\nColumns: {', '.join(facts)}; computed where asked for: {computed}; and those of the input."
