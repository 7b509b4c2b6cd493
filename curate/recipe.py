"""A recipe: what to keep of a pool, as YAML.

    recipe = load_recipe("recipe.yaml", ["filters.english.min_prob=0.5"])
    recipe.steps, recipe.stages, recipe.resolve("sharpness")

An error names file, line and key, what was expected and the nearest name; all of them at once.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import pyarrow as pa
from pydantic import ValidationError

from curate.catalog import default_fields, nearest
from curate.errors import UserError
from curate.pool.facts import FACTS
from curate.recipe_check import Step, filter_key, read_stages, read_steps
from curate.recipe_errors import Errors, Places
from curate.recipe_files import base_of, builtin_names, find, mapping, merge
from curate.recipe_models import WEB, Captions, Judge, RecipeFile, RunSpec
from curate.recipe_set import override
from curate.recipe_types import mistaken
from curate.recipe_yaml import Document, dotted, dump
from curate.recipe_yaml import Path as Where
from curate.run.fetch.spec import IngestSpec
from curate.run.pack.spec import PackSpec
from curate.run.sources.spec import SourceSpec
from filters.base import Filter
from filters.sql_guard import check_predicate
from stages.base import ERROR, IMAGE, Barrier, Column, Stage, fact

__all__ = ["Recipe", "Step", "builtin_names", "load_recipe", "recipe_from"]

SETTINGS = ("description", "year", "pool", "run")  # sections that no byte of a pick depends on
INTERNAL = ("tar_offset",)  # facts that only readers of tars need


@dataclass(frozen=True)
class Recipe:
    """A recipe, checked: `raw` is its resolved YAML, `file` the same as models, `places` where each key stands."""

    raw: dict[str, Any]
    file: RecipeFile
    steps: tuple[Step, ...]
    stages: tuple[Stage | Barrier, ...]
    places: Places = field(repr=False, compare=False)

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
    def known(self) -> dict[str, Column]:
        """Plain names that need no look at the input: facts, the recipe's stages, built-in stages."""
        facts = {n: fact(n) for n in FACTS.names if n not in INTERNAL}
        named = {n: Column(o, n) for o in self.stages for n in o.writes().names if n != ERROR}
        return {**default_fields(), **named, **facts}

    def resolve(self, name: str, extra: Iterable[str] = ()) -> Column:
        """The column of a plain name: a fact, one of the recipe's stages, else of a built-in stage.

        Args:
            extra: names of the input's further columns, which are facts too.

        Raises:
            UserError: nothing writes such a column; names all such columns of the recipe with their places.
        """
        extra = tuple(extra)
        known = self._known_with(extra)
        if name in known:
            return known[name]
        if name not in (n for n, _ in self._asked()):
            raise UserError(f"recipe {self.name}: no column {name!r}{nearest(name, known)}")
        raise UserError(
            "\n".join(f"{self.places.at(path)}: {dotted(path)}: {words}" for path, words in self.unknown(extra))
        )

    def unknown(self, extra: Iterable[str] = ()) -> list[tuple[Where, str]]:
        """Columns that filters and captions read and nothing writes: where the recipe says so, and what is wrong."""
        known = self._known_with(extra)
        return [(path, f"no column {n!r}{nearest(n, known)}") for n, path in self._asked() if n not in known]

    def shadowed(self, extra: Iterable[str]) -> list[tuple[str, str]]:
        """Input columns that hide one of a stage under the same plain name: (name, what it hides)."""
        hidden = [(n, self.known[n].owner) for n in sorted(extra) if n in self.known]
        return [(n, f"{n!r} of {owner.method()}") for n, owner in hidden if owner is not None]

    def _known_with(self, extra: Iterable[str]) -> dict[str, Column]:
        return {**self.known, **{n: fact(n) for n in extra}}

    @cached_property
    def step_paths(self) -> tuple[Where, ...]:
        """Where each filter stands."""
        return tuple(("filters", i, filter_key(item) or "") for i, item in enumerate(self.raw.get("filters", ())))

    def _asked(self) -> list[tuple[str, Where]]:
        """Plain names that filters, captions and stages read, with the places where the recipe says so."""
        steps = zip(self.steps, self.step_paths, strict=True)
        found = [(c, path) for step, path in steps for c in step.filter.reads() if isinstance(c, str)]
        wanted = [(n, path) for sql, path, _ in self.conditions() for n in check_predicate(sql)]
        return found + self.asked_by_captions() + wanted + self._asked_by_sources()

    def _asked_by_sources(self) -> list[tuple[str, Where]]:
        """Names in a `Source` of a stage or a filter that are columns of the input, or of nothing."""
        entries = len(self.raw.get("columns") or ())
        named: list[tuple[Stage | Barrier | Filter, Where]] = [
            *((s, ("columns", i) if i < entries else ("captions", "make")) for i, s in enumerate(self.stages)),
            *((s.filter, path) for s, path in zip(self.steps, self.step_paths, strict=True)),
        ]
        return [
            (c.field, path)
            for owner, path in named
            for c in owner.reads()
            if isinstance(c, Column) and c.owner is None and c != IMAGE and c.field not in FACTS.names
        ]

    def asked_by_captions(self) -> list[tuple[str, Where]]:
        """Columns that texts come from besides the web text, with their places."""
        return [
            (text.source, ("captions", "emit", i, "texts", j, "source"))
            for i, emit in enumerate(self.captions.emit)
            for j, text in enumerate(emit.texts)
            if text.source != WEB
        ]

    def conditions(self) -> list[tuple[str, Where, str | None]]:
        """The SQL under which captions are emitted, where it stands, and the source of the text that it is of."""
        found: list[tuple[str, Where, str | None]] = []
        for i, emit in enumerate(self.captions.emit):
            found += [(emit.where, ("captions", "emit", i, "where"), None)] if emit.where else []
            found += [
                (text.where, ("captions", "emit", i, "texts", j, "where"), text.source)
                for j, text in enumerate(emit.texts)
                if text.where
            ]
        return found

    def resolved_yaml(self, *, settings: bool = True) -> str:
        """The recipe with what it extends and all overrides merged in, sections in the order of the schema.

        Args:
            settings: False leaves out where the pool lies and how a run goes about it, which no byte depends on.
        """
        return dump({k: v for k, v in self.raw.items() if settings or k not in SETTINGS})


def load_recipe(name: str, overrides: Sequence[str] = ()) -> Recipe:
    """Read a recipe file or a built-in one, apply what it extends and the overrides, and check all of it.

    Args:
        name: path of a .yaml file, or the name of a built-in recipe.
        overrides: ``a.b.c=value``, see `curate.recipe_set`.

    Raises:
        UserError: every error found, each with its file, line and column.
    """
    document = Document(*find(name))
    raw = mapping(document)
    base = base_of(document, raw)
    problems = [*document.problems, *(base.problems if base else [])]
    merged = merge(base.value if base else {}, raw)
    overridden: list[tuple[Where, str]] = []
    for text in overrides:
        try:
            overridden.append((override(merged, text), text))
        except UserError as e:
            problems.append(str(e))
    errors = Errors(Places(document, base, tuple(overridden)), problems)
    if base and "recipe" not in raw:
        errors.add(("extends",), "a recipe that extends another needs a name of its own, as `recipe: my_recipe`")
    return _check(merged, errors)


def recipe_from(raw: dict[str, Any]) -> Recipe:
    """A recipe from its resolved YAML as a map, checked as one from a file; nothing is extended.

    Raises:
        UserError: every error found.
    """
    document = Document(f"recipe {raw.get('recipe')}", dump(raw))
    return _check(mapping(document), Errors(Places(document, None, ()), list(document.problems)))


def _check(merged: dict[str, Any], errors: Errors) -> Recipe:
    """Models of all sections, filters and stages; every error at once."""
    given = {k: v for k, v in merged.items() if v is not None}
    file: RecipeFile | None = None
    try:
        file = RecipeFile.model_validate(given)
        for path, words in mistaken(given, file):
            errors.add(path, words)
    except ValidationError as e:
        errors.add_all(e, RecipeFile, given)
    placed = read_stages(given.get("columns"), ("columns",), errors)
    captions = given.get("captions")
    made = captions.get("make") if isinstance(captions, dict) else None
    placed += read_stages(made, ("captions", "make"), errors, placed)
    steps = read_steps(given.get("filters"), errors, placed)
    errors.throw()
    assert file is not None
    raw = {k: given[k] for k in RecipeFile.model_fields if k in given and k != "extends"}
    recipe = Recipe(raw, file, tuple(steps), tuple(p.stage for p in placed), errors.places)
    _check_texts(recipe, errors)
    errors.throw()
    return recipe


def _of_texts(kind: pa.DataType) -> bool:
    """A column of strings, of lists of strings, or of lists of texts with their sources."""
    one = kind.value_type if pa.types.is_list(kind) or pa.types.is_large_list(kind) else kind
    if pa.types.is_struct(one) and one is not kind:
        one = one.field("text").type if one.get_field_index("text") >= 0 else one
    return bool(pa.types.is_string(one) or pa.types.is_large_string(one))


def _check_texts(recipe: Recipe, errors: Errors) -> None:
    """Captions come from columns of texts; the input's own columns are known only when it is read."""
    for name, path in recipe.asked_by_captions():
        column = recipe.known.get(name)
        if column is not None:
            kind = (FACTS if column.owner is None else column.owner.writes()).field(column.field).type
            if not _of_texts(kind):
                errors.add(path, f"expected a column of texts, found {name!r} of type {kind}")
