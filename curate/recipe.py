"""A recipe: what to keep of a pool, as YAML.

    recipe = load_recipe("recipe.yaml", ["filters.english.min_prob=0.5"])
    recipe.steps, recipe.stages, recipe.resolve("sharpness")

An error names file, line and key, what was expected and the nearest name; all of them at once.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib import resources
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from curate.catalog import default_fields, nearest
from curate.errors import UserError
from curate.pool.facts import FACTS
from curate.recipe_check import Errors, Lines, Step, read_stages, read_steps
from curate.recipe_models import Captions, Judge, RecipeFile, RunSpec
from curate.recipe_set import override
from curate.recipe_yaml import Document, dump
from curate.run.fetch.spec import IngestSpec
from curate.run.pack.spec import PackSpec
from curate.run.sources.spec import SourceSpec
from stages.base import Barrier, Column, Stage, fact


@dataclass(frozen=True)
class Recipe:
    """A recipe, checked: `raw` is its resolved YAML, `file` the same as models."""

    raw: dict[str, Any]
    file: RecipeFile
    steps: tuple[Step, ...]
    stages: tuple[Stage | Barrier, ...]

    @property
    def name(self) -> str:
        return self.file.recipe

    @property
    def pool(self) -> str:
        return self.file.pool or f"pools/{self.name}"

    @property
    def seed(self) -> int:
        return self.file.seed

    @property
    def shard_size(self) -> int:
        return self.file.shard_size

    @property
    def sources(self) -> tuple[SourceSpec, ...]:
        return self.file.source

    @property
    def ingest(self) -> IngestSpec:
        return self.file.ingest

    @property
    def captions(self) -> Captions:
        return self.file.captions

    @property
    def pack(self) -> PackSpec | None:
        return self.file.pack

    @property
    def judge(self) -> Judge | None:
        return self.file.judge

    @property
    def run(self) -> RunSpec:
        return self.file.run

    @cached_property
    def _named(self) -> dict[str, Column]:
        """Plain names of the stages that the recipe names; two stages must not write the same one."""
        found: dict[str, Column] = {}
        for owner in self.stages:
            for field in owner.writes().names:
                if field in found and field != "error":
                    raise UserError(
                        f"columns: {owner.method()} and {found[field].owner.method()} both write {field!r}; "  # type: ignore[union-attr]
                        "name one of them"
                    )
                found.setdefault(field, Column(owner, field))
        return found

    def resolve(self, name: str, extra: Iterable[str] = ()) -> Column:
        """The column of a plain name: a fact, one of the recipe's stages, else of a built-in stage.

        Args:
            extra: names of the input's further columns, which are facts too.

        Raises:
            UserError: nothing writes such a column.
        """
        facts = [n for n in FACTS.names if n not in ("tar_offset",)]
        if name in facts or name in extra:
            return fact(name)
        known = {**default_fields(), **self._named}
        if name in known:
            return known[name]
        raise UserError(f"recipe {self.name}: no column {name!r}{nearest(name, [*facts, *extra, *known])}")

    def resolved_yaml(self, *, settings: bool = True) -> str:
        """The recipe with what it extends merged in; without `settings` only what decides the pick."""
        keep = {k: v for k, v in self.raw.items() if settings or k not in ("pool", "run", "description")}
        return dump(keep)


def load_recipe(name: str, overrides: Sequence[str] = ()) -> Recipe:
    """Read a recipe file or a built-in one, apply what it extends and the overrides, and check all of it.

    Raises:
        UserError: every error found, each with its file and line.
    """
    document = Document(*_text(name))
    raw = _mapping(document)
    base = _base(document, raw)
    merged = _merge(base.value, raw) if base else copy.deepcopy(raw)
    lines = Lines(document, base, raw)
    for text in overrides:
        override(merged, text)
        lines.overridden.append(text)
    return _check(merged, lines)


def builtin_recipes() -> list[tuple[str, str, str]]:
    """(name, description, paper) of the recipes that come with curate."""
    found = []
    for entry in sorted(resources.files("recipes").iterdir(), key=lambda e: e.name):
        if entry.name.endswith(".yaml"):
            value = Document(entry.name, entry.read_text()).value
            found.append((entry.name.removesuffix(".yaml"), value.get("description", ""), value.get("paper", "")))
    return found


def _text(name: str) -> tuple[str, str]:
    """(name for messages, text) of a path or built-in name."""
    path = Path(name)
    if path.suffix in (".yaml", ".yml") or path.is_file():
        try:
            return str(path), path.read_text()
        except (OSError, UnicodeDecodeError) as e:
            raise UserError(f"{name}: cannot read this recipe: {e}") from e
    found = resources.files("recipes") / f"{name}.yaml"
    if not found.is_file():
        known = [n for n, _, _ in builtin_recipes()]
        raise UserError(
            f"{name}: no such file, and no built-in recipe{nearest(name, known)} (there are {', '.join(known)})"
        )
    return f"{name}.yaml (built in)", found.read_text()


def _mapping(document: Document) -> dict[str, Any]:
    if not isinstance(document.value, dict):
        raise UserError(f"{document.name}: a recipe is a map of keys (recipe:, source:, filters:, ...)")
    return document.value


def _base(document: Document, raw: dict[str, Any]) -> Document | None:
    if raw.get("extends") is None:
        return None
    name = str(raw["extends"])
    beside = Path(document.name).parent / name
    base = Document(*_text(str(beside) if beside.is_file() else name))
    if _mapping(base).get("extends") is not None:
        line = document.line(("extends",))
        raise UserError(f"{document.name}:{line}: extends: {base.name} itself extends another recipe; one level only")
    return base


def _merge(base: Any, top: Any) -> Any:
    """Maps key by key; anything else, lists too, is replaced."""
    if not (isinstance(base, dict) and isinstance(top, dict)):
        return copy.deepcopy(top)
    merged = {k: _merge(v, top[k]) if k in top else copy.deepcopy(v) for k, v in base.items()}
    return merged | {k: copy.deepcopy(v) for k, v in top.items() if k not in base}


def _check(raw: dict[str, Any], lines: Lines) -> Recipe:
    """Models of all sections, filters and stages; every error at once."""
    errors = Errors(lines)
    file: RecipeFile | None = None
    try:
        file = RecipeFile.model_validate({k: v for k, v in raw.items() if v is not None})
    except ValidationError as e:
        errors.add_all(e, RecipeFile)
    steps = read_steps(raw.get("filters") or [], errors)
    stages = read_stages(raw.get("columns") or [], "columns", errors)
    captions = raw.get("captions")
    made = captions.get("make") if isinstance(captions, dict) else None
    stages += read_stages(made or [], "captions.make", errors)
    errors.throw()
    assert file is not None
    return Recipe(raw, file, tuple(steps), tuple(stages))
