"""The filters of a recipe with the columns that they read; what cannot be is said before anything runs.

steps = asked_steps(recipe, claims(pool.storage))
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

import pyarrow as pa

from curate.errors import UserError
from curate.pool.facts import FACTS
from curate.pool.lists import Claim
from curate.recipe_errors import Errors
from curate.recipe_models import WEB
from curate.run.conditions import check_condition
from curate.run.graph import Asked, asked
from curate.run.verdict import check_types
from filters.base import RowFilter
from filters.sql_guard import check_predicate
from filters.where import Where
from stages.base import Column

if TYPE_CHECKING:
    from curate.recipe import Recipe, Step

PLAIN_TYPES = frozenset(
    {"bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "float", "double", "string"}
)
"""Types of an input's columns that claims tell in full."""


def asked_steps(recipe: Recipe, known: Sequence[Claim]) -> list[Asked]:
    """The recipe's filters over the lists that a pool knows.

    Raises:
        UserError: columns that nothing writes, rules that do not fit their types, a filter over the pool that reads
            what only survivors have, conditions of captions that do not fit: all of them, with their places.
    """
    errors = Errors(recipe.places)
    types = {name: kind for claim in known for name, kind in claim.columns.items()}
    lost = recipe.unknown(types)
    for path, words in lost:
        errors.add(path, words)
    found = [
        errors.attempt(path, partial(_asked, recipe, step, types))
        for step, path in zip(recipe.steps, recipe.step_paths, strict=True)
        if path not in (p for p, _ in lost)
    ]
    for sql, path, source in recipe.conditions():
        if path not in (p for p, _ in lost):
            errors.attempt(path, partial(_check_condition, recipe, sql, source, types))
    errors.throw()
    return found


def _asked(recipe: Recipe, step: Step, types: Mapping[str, str]) -> Asked:
    found = asked(step.id, step.filter, lambda name: recipe.resolve(name, types))
    schema = known_types(found.reads, types)
    if isinstance(found.filter, RowFilter) and schema is not None:
        _fit(found.id, found.filter, schema)
    return found


def _check_condition(recipe: Recipe, sql: str, source: str | None, types: Mapping[str, str]) -> None:
    """Refuse a condition of a caption that does not fit its columns, as far as their types are known."""
    schema = known_types([recipe.resolve(n, types) for n in check_predicate(sql)], types)
    if schema is not None:
        check_condition(sql, schema, several=source is not None and _may_be_several(recipe, source, types))


def _may_be_several(recipe: Recipe, source: str, types: Mapping[str, str]) -> bool:
    """Does a source have several texts a sample, or is its type not known?"""
    texts = None if source == WEB else known_types([recipe.resolve(source, types)], types)
    return source != WEB and (texts is None or not pa.types.is_string(texts.field(0).type))


def known_types(columns: Sequence[Column], inputs: Mapping[str, str]) -> pa.Schema | None:
    """Types of columns; None where one is not known before a run.

    Args:
        inputs: the input's further columns -> their types in Arrow's words.
    """
    fields = []
    for c in columns:
        schema = FACTS if c.owner is None else c.owner.writes()
        if c.field in schema.names:
            fields.append(schema.field(c.field))
        elif inputs.get(c.field) in PLAIN_TYPES:
            fields.append(pa.field(c.field, pa.type_for_alias(inputs[c.field])))
        else:
            return None
    return pa.schema(fields)


def _fit(id: str, chosen: RowFilter, schema: pa.Schema) -> None:
    """Refuse a filter whose rules do not fit the types of its columns, in one line."""
    if isinstance(chosen, Where):
        check_predicate(chosen.sql, {f.name: f.type for f in schema})
    try:
        check_types(id, chosen, schema)
    except UserError as e:
        raise UserError(str(e).removeprefix(f"filter {id}: ").strip().partition("\n")[0]) from e
