"""Filters and stages made from their YAML; what is wrong with them is collected."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from curate.catalog import FILTERS, STAGES, default_fields, load
from curate.pool.facts import FACTS
from curate.recipe_errors import Errors, keys_of, shown, unknown_key
from curate.recipe_types import mistaken
from curate.recipe_yaml import Path as Where
from curate.run.pick import NO_TEXT, REMOVED
from filters.base import Filter
from filters.combined import Combined
from stages.base import ERROR, Barrier, Column, Parameters, Stage, fact

Columns = Mapping[str, Column]

STEP_KEYS = ("id", "on_missing")
ID = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,63}")
RESERVED = (REMOVED, NO_TEXT)  # what a pick writes for samples that no filter dropped


@dataclass(frozen=True)
class Step:
    """One filter of the recipe, with an id of its own."""

    id: str
    filter: Filter


@dataclass(frozen=True)
class Placed:
    """A stage that the recipe names, and where."""

    stage: Stage | Barrier
    path: Where


def step_ids(items: Sequence[Any]) -> list[str]:
    """The id of every step: the one given, else the filter's name, else that with the first free number."""
    given = [str(item["id"]) if isinstance(item, dict) and item.get("id") else None for item in items]
    taken = {g for g in given if g}
    found = []
    for item, id in zip(items, given, strict=True):
        if id is None:
            name = (filter_key(item) or "filter").split(":")[-1].lstrip("_")
            id = next(n for n in (name, *(f"{name}-{i}" for i in range(2, len(items) + 2))) if n not in taken)
            taken.add(id)
        found.append(id)
    return found


def filter_key(item: Any) -> str | None:
    """The key of a step that names its filter: the one that is a filter's name, else the only one left."""
    keys = [k for k in item if k not in STEP_KEYS] if isinstance(item, dict) else []
    named = [k for k in keys if k in FILTERS or ":" in k]
    return named[0] if named else keys[0] if keys else None


def read_steps(items: Any, errors: Errors, placed: Sequence[Placed] = ()) -> list[Step]:
    """The steps of `filters:`, those without an error; `placed` are the recipe's stages, whose columns they name."""
    items = items if isinstance(items, list) else []
    steps: list[Step] = []
    columns = known_columns(placed)
    for i, (item, id) in enumerate(zip(items, step_ids(items), strict=True)):
        chosen = _step(item, ("filters", i), columns, errors)
        if isinstance(item, dict) and "id" in item:
            _check_id(item["id"], [s.id for s in steps], ("filters", i, "id"), errors)
        if chosen is not None:
            steps.append(Step(id, chosen))
    return steps


def _check_id(id: Any, taken: Sequence[str], path: Where, errors: Errors) -> None:
    if not isinstance(id, str) or not ID.fullmatch(id):
        errors.add(path, f"expected a letter, then letters, digits, _ or -, found {shown(id)}")
    elif id in RESERVED:
        errors.add(path, f"{id!r} says in a pick that no filter dropped the sample; choose another")
    elif id in taken:
        errors.add(path, f"{id!r} is the id of two filters")


def _step(item: Any, path: Where, columns: Columns, errors: Errors) -> Filter | None:
    """The filter of one entry of `filters:`, or of the members of one."""
    name = filter_key(item)
    if name is None:
        errors.add(path, f"expected one filter, as `- image_size: {{min_side: 200}}`, found {shown(item)}")
        return None
    given, at = item[name], (*path, name)
    if name in STAGES and name not in FILTERS:
        errors.add(at, f"{name} is no filter but a stage, which stands under columns:")
        return None
    kind = errors.attempt(at, lambda: load(name, FILTERS))
    if kind is None:
        return None
    if not issubclass(kind, Filter):
        errors.add(at, f"{name} is no filter; stages stand under columns:")
        return None
    for key in item:
        if key not in (name, *STEP_KEYS):
            errors.add((*path, key), _stray(key, name, kind))
    if any(key in kind.model_fields for key in item if key not in STEP_KEYS):
        return None  # with parameters in the wrong place, those that seem missing are not
    if issubclass(kind, Combined):
        given = _with_members(given, at, columns, errors)
        if given is None:
            return None
    if "on_missing" not in item:
        found = _construct(kind, given, at, columns, errors)
    elif "on_missing" not in kind.model_fields:
        errors.add((*path, "on_missing"), f"{name} has none: it needs a value of every sample that it is asked about")
        return None
    elif isinstance(given, dict) and "on_missing" in given:
        errors.add((*path, "on_missing"), f"stands twice: here and in {name}")
        return None
    else:
        found = _construct(kind, given, at, columns, errors, {"on_missing": item["on_missing"]})
    assert found is None or isinstance(found, Filter)
    return found


def _with_members(given: Any, at: Where, columns: Columns, errors: Errors) -> Any:
    """The parameters with filters in place of their YAML; None where a member has an error.

    Members are asked about what the whole is asked about, so that `over` need not stand in them again.
    """
    entries = given.get("members") if isinstance(given, dict) else None
    if not isinstance(entries, list):
        return given
    found = []
    for i, entry in enumerate(entries):
        path: Where = (*at, "members", i)
        found.append(_step(_asked_alike(entry, given.get("over")), path, columns, errors))
    return None if None in found else {**given, "members": tuple(found)}


def _asked_alike(entry: Any, over: Any) -> Any:
    """A member's entry with the `over` of what it stands in, where its filter has one and does not say it."""
    name = filter_key(entry)
    if name not in FILTERS or over is None or not isinstance(entry[name] or {}, dict):
        return entry
    if "over" not in load(name, FILTERS).model_fields:
        return entry
    return {**entry, name: {"over": over, **(entry[name] or {})}}


def _stray(key: str, name: str, kind: type[Parameters]) -> str:
    """The words for a key that stands beside a filter's name."""
    if key in FILTERS or ":" in key:
        return f"a second filter in one step; begin it with a dash of its own, `- {key}: ...`"
    if key in kind.model_fields:
        return f"is a parameter of {name}: indent it below, as `- {name}: {{{key}: ...}}`"
    return unknown_key(key, STEP_KEYS)


def read_stages(items: Any, section: Where, errors: Errors, before: Sequence[Placed] = ()) -> list[Placed]:
    """The stages of `columns:` or `captions.make:`, those without an error; `before` are the recipe's others."""
    found: list[Placed] = []
    for i, item in enumerate(items if isinstance(items, list) else []):
        path: Where = (*section, i)
        name, given = next(iter(item.items())) if isinstance(item, dict) and len(item) == 1 else (item, None)
        if not isinstance(name, str):
            errors.add(
                path,
                f"expected a stage, as `- image_facts` or `- my_package.my_module:MyStage: {{size: 3}}`, "
                f"found {shown(item)}",
            )
            continue
        at = (*path, name) if isinstance(item, dict) else path
        stage = _stage(name, given, at, known_columns([*before, *found]), errors)
        if stage is not None:
            _check_names(stage, [*before, *found], at, errors)
            found.append(Placed(stage, at))
    return found


def _stage(name: str, given: Any, at: Where, columns: Columns, errors: Errors) -> Stage | Barrier | None:
    if name in FILTERS and name not in STAGES:
        errors.add(at, f"{name} is no stage but a filter, which stands under filters:")
        return None
    kind = errors.attempt(at, lambda: load(name, STAGES))
    if kind is None:
        return None
    if not issubclass(kind, Stage | Barrier):
        errors.add(at, f"{name} is no stage; filters stand under filters:")
        return None
    found = _construct(kind, given, at, columns, errors)
    assert found is None or isinstance(found, Stage | Barrier)
    return found


def _check_names(stage: Stage | Barrier, before: Sequence[Placed], at: Where, errors: Errors) -> None:
    """A plain name means one column: neither a fact's nor another stage's may be taken."""
    names = [n for n in stage.writes().names if n != ERROR]
    facts = [n for n in names if n in FACTS.names]
    if facts:
        errors.add(at, f"writes {', '.join(facts)}: facts of every sample; give the columns other names")
    for other in before:
        both = [n for n in names if n in other.stage.writes().names]
        if both:
            errors.add(
                at,
                f"writes {', '.join(both)}, as {other.stage.method()} at {errors.places.at(other.path)} does, and a "
                "name means one column: leave one of them out (another recipe on the pool may have it), or write a "
                "stage of your own whose columns have other names",
            )


def known_columns(placed: Sequence[Placed]) -> Columns:
    """Plain name -> column, as a `Source` of a further entry may name it: built-in stages, these stages, facts."""
    facts = {n: fact(n) for n in FACTS.names}
    named = {n: Column(p.stage, n) for p in placed for n in p.stage.writes().names if n != ERROR}
    return {**default_fields(), **named, **facts}


def _construct(
    kind: type[Parameters],
    given: Any,
    at: Where,
    columns: Columns,
    errors: Errors,
    more: dict[str, Any] | None = None,
) -> Parameters | None:
    """The object of a class and its YAML parameters; `more` stands beside them, `columns` are what a `Source` means."""
    try:
        found = _validated(kind, given, more or {}, columns)
        hash(found)
        wrong = list(mistaken(given, found, at))
        for path, words in wrong:
            errors.add(path, words)
        return None if wrong else found
    except ValidationError as e:
        errors.add_all(e, kind, given, at, {key: (*at[:-1], key) for key in more or ()})
    except TypeError as e:  # a list in a class of the user's
        errors.add(at, f"{kind.__name__}: the types of its parameters must be hashable, as tuple[str, ...] ({e})")
    except ValueError as e:  # from_scalar's own words
        errors.add(at, str(e))
    return None


def _validated(kind: type[Parameters], given: Any, more: dict[str, Any], columns: Columns) -> Parameters:
    from_scalar = getattr(kind, "from_scalar", None)
    if given is None or isinstance(given, dict):
        return kind.model_validate(_tuples({**(given or {}), **more}), context={"columns": columns})
    if from_scalar is None:
        raise ValueError(f"expected a map of {', '.join(keys_of(kind))}, found {shown(given)}")
    found: Parameters = from_scalar(given)
    return kind.model_validate({**found.model_dump(), **more}) if more else found


def _tuples(value: Any) -> Any:
    """YAML's lists as tuples, since parameters are hashable."""
    if isinstance(value, list):
        return tuple(_tuples(v) for v in value)
    if isinstance(value, dict):
        return {k: _tuples(v) for k, v in value.items()}
    return value
