"""JSON schema of recipes (draft 2020-12), by which editors complete and check them.

# yaml-language-server: $schema=recipe.schema.json      <- first line of a recipe; `curate schema` prints it
"""

from __future__ import annotations

from typing import Any

from curate.catalog import FILTERS, OWN, STAGES, load
from curate.recipe_check import ID
from curate.recipe_models import RecipeFile
from stages.base import Parameters

FILE = "recipe.schema.json"
HEADER = f"# yaml-language-server: $schema={FILE}"
"""The first line of a recipe: by it editors find the schema that lies beside."""
DRAFT = "https://json-schema.org/draft/2020-12/schema"
OWN_NAME = f"^{OWN}$"


def schema() -> dict[str, Any]:
    """The schema of a whole recipe: sections, and one entry for each built-in filter and stage."""
    found = RecipeFile.model_json_schema(by_alias=True)
    definitions = found.setdefault("$defs", {})
    properties = found["properties"]
    several = properties["source"]
    properties["source"] = {
        "description": several.pop("description"),
        "anyOf": [{"$ref": "#/$defs/SourceSpec"}, several],
    }
    properties["filters"]["items"] = {"$ref": "#/$defs/Step"}
    for stages in (properties["columns"], definitions["Captions"]["properties"]["make"]):
        stages["items"] = {"$ref": "#/$defs/StageEntry"}
    definitions["Step"] = _step(definitions)
    definitions["StageEntry"] = _stage_entry(definitions)
    return {"$schema": DRAFT, "title": "curate recipe", **found}


def _step(definitions: dict[str, Any]) -> dict[str, Any]:
    """An entry of `filters:`: exactly one filter, built in or one's own, and what may stand beside it."""
    known = ["id", "on_missing", *FILTERS]
    own = {"not": {"propertyNames": {"enum": known}}}
    return {
        "type": "object",
        "description": "One filter: its name and parameters, and beside them an id and on_missing.",
        "properties": {
            "id": {"type": "string", "pattern": f"^{ID.pattern}$"},
            "on_missing": {"enum": ["drop", "keep", "error"]},
            **{name: _parameters(name, FILTERS, definitions) for name in FILTERS},
        },
        "patternProperties": {OWN_NAME: {}},
        "additionalProperties": False,
        "oneOf": [*({"required": [name]} for name in FILTERS), own],
    }


def _stage_entry(definitions: dict[str, Any]) -> dict[str, Any]:
    """An entry of `columns:`: a stage's name, or its name and parameters."""
    return {
        "anyOf": [
            {"type": "string", "anyOf": [{"enum": list(STAGES)}, {"pattern": OWN_NAME}]},
            {
                "type": "object",
                "properties": {name: _parameters(name, STAGES, definitions) for name in STAGES},
                "patternProperties": {OWN_NAME: {}},
                "additionalProperties": False,
                "minProperties": 1,
                "maxProperties": 1,
            },
        ]
    }


def _parameters(name: str, table: dict[str, str], definitions: dict[str, Any]) -> dict[str, Any]:
    """Parameters of one filter or stage; those of nested models go to the shared definitions."""
    kind: type[Parameters] = load(name, table)
    found = kind.model_json_schema()
    definitions.update(found.pop("$defs", {}))
    found["description"] = (kind.__doc__ or "").strip().split("\n")[0]
    allowed: list[dict[str, Any]] = [found]
    if not found.get("required"):
        allowed.append({"type": "null"})
    if hasattr(kind, "from_scalar"):
        allowed.append({"type": ["string", "number"]})
    return {"anyOf": allowed}
