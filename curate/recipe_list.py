"""`curate recipes`: the built-in ones with paper, year and needs; or one, resolved, with a word on how to extend it.

    print(table(listed()))
    print(shown("datacomp_basic"))

What a recipe needs is read off its filters and stages, not typed beside it.
"""

from __future__ import annotations

import json
import re
import sysconfig
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from curate.ask.output import visible
from curate.recipe import Recipe, builtin_names, load_recipe
from curate.recipe_yaml import dump
from curate.run.graph import owners
from stages.base import Barrier, Column, Parameters, Stage
from stages.fetching import nothing_fetched

WIDTH = 100
CELLS = 28, 24  # columns of a terminal that paper and needs may take
PATH = re.compile(r"[\w.~-]*/[\w./~-]*[A-Za-z][\w./~-]*")  # of a file or folder; not "n/128"


@dataclass(frozen=True)
class Listed:
    """A built-in recipe. `needs` is empty where an input with urls or images and texts is all."""

    name: str
    year: int | None
    paper: str
    needs: tuple[str, ...]
    description: str
    file: str


@nothing_fetched()
def listed() -> list[Listed]:
    """All built-in recipes, in order of name."""
    found = [load_recipe(name) for name in builtin_names()]
    return [
        Listed(r.name, r.file.year, r.file.paper, tuple(needs(r)), r.file.description, str(built_in_file(r.name)))
        for r in found
    ]


def built_in_file(name: str) -> Path | None:
    """Where a built-in recipe lies; None where there is none of that name."""
    path = Path(str(resources.files("recipes"))) / f"{name}.yaml"
    return path if path.is_file() else None


# ---------------------------------------------------------------- needs


def needs(recipe: Recipe) -> list[str]:
    """What must be there besides an input and what curate installs: weights, lists, a GPU, columns of the input."""
    columns, of_input = _columns(recipe)
    used: list[Parameters] = [*owners(columns), *(s.filter for s in recipe.steps)]
    found = [f"input {Path(p).name}" for s in recipe.sources for p in s.paths]
    found += [f"input column {name}" for name in of_input]
    for one in used:
        found += _files(one)
    if any(isinstance(o, Stage) and o.need().gpus > 0 for o in used):
        found.append("a GPU")
    return list(dict.fromkeys(found))


def _columns(recipe: Recipe) -> tuple[list[Column], list[str]]:
    """(columns that something computes or ingest writes, names that only the input can have)."""
    asked = [c for s in recipe.steps for c in s.filter.reads()] + [n for n, _ in recipe.asked_by_captions()]
    known = [recipe.known.get(c) if isinstance(c, str) else c for c in asked]
    named = [Column(o, n) for o in recipe.stages for n in o.writes().names]
    lost = [c for c, k in zip(asked, known, strict=True) if k is None and isinstance(c, str)]
    return [*named, *(k for k in known if k is not None)], list(dict.fromkeys(lost))


def _files(one: Parameters) -> list[str]:
    """Files that it reads and that come with no installed package."""
    what = "weights" if isinstance(one, Stage | Barrier) else "list"
    try:
        files = one.files()
    except (ValueError, OSError):  # they are looked for and not there, which is what is asked here
        named = [Path(v).name for v in _strings(one.model_dump()) if PATH.fullmatch(v)]
        return named or [f"{what} of {one.method()}"]
    return [f"{what} {Path(f).name}" for f in files if not _installed(f)]


def _strings(value: Any) -> list[str]:
    """All strings within a parameter's value."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list | tuple):
        return [s for v in value for s in _strings(v)]
    return [value] if isinstance(value, str) else []


def _installed(file: str) -> bool:
    roots = {Path(sysconfig.get_path(p)).resolve() for p in ("purelib", "platlib")}
    return any(root in Path(file).resolve().parents for root in roots)


# ---------------------------------------------------------------- the table


def short_paper(paper: str) -> str:
    """``NAME (AUTHORS YEAR)`` of what stands under `paper:`; "" of none."""
    if paper.startswith("none"):
        return ""
    return re.split(r"[,;:] ", re.sub(r"\([^)]*\)", lambda m: m[0].replace(", ", "\0"), paper))[0].replace("\0", ", ")


def table(found: Sequence[Listed]) -> str:
    """An aligned table; long cells go on in the next line."""
    rows = [("name", "year", "paper", "needs", "what it keeps")]
    rows += [
        (f.name, str(f.year or "-"), short_paper(f.paper) or "-", "; ".join(f.needs) or "nothing", f.description)
        for f in found
    ]
    widths = [max(len(r[i]) for r in rows) for i in range(4)]
    widths[2:] = [min(w, most) for w, most in zip(widths[2:], CELLS, strict=True)]
    widths.append(WIDTH - sum(widths) - 2 * len(widths))
    lines = []
    for row in rows:
        cells = [textwrap.wrap(visible(c), w, break_on_hyphens=False) or [""] for c, w in zip(row, widths, strict=True)]
        for i in range(max(map(len, cells))):
            parts = [(c[i] if i < len(c) else "").ljust(w) for c, w in zip(cells, widths, strict=True)]
            lines.append("  ".join(parts).rstrip())
    lines += [
        "",
        "Each reads the `source:` of a recipe that extends it; `curate recipes NAME` prints one and says how.",
    ]
    return "\n".join(lines)


# ---------------------------------------------------------------- one recipe


@nothing_fetched()
def shown(name: str) -> str:
    """A recipe with all that it extends merged in, below a comment on where it lies and how to build on it."""
    recipe = load_recipe(name)
    file = built_in_file(name)
    lies = f"comes with curate: {file}, where comments tell why" if file else f"lies in {name}"
    lines = [
        f"{recipe.name}, resolved; it {lies}.",
        f"Needs: {'; '.join(needs(recipe)) or 'nothing but an input'}.",
        "To build on it, write a recipe of your own:",
        "  recipe: mine",
        f"  {dump({'extends': name}).strip()}",
        *(["  source: {path: urls.parquet}"] if not recipe.sources else []),
        "Maps merge with what it says; lists (filters, columns) replace it. One key of it can be said in the command:",
        f"  {_example(recipe)}",
    ]
    return "".join(f"# {visible(line)}\n" for line in lines) + recipe.resolved_yaml()


@nothing_fetched()
def one_as_json(name: str) -> str:
    """The same for programs: file, needs and the resolved recipe."""
    recipe = load_recipe(name)
    about = {"file": str(built_in_file(name) or name), "needs": needs(recipe), "recipe": recipe.raw}
    return json.dumps(about, indent=1)


def _example(recipe: Recipe) -> str:
    """`--set` for the first number that a filter of this recipe has."""
    for step, path in zip(recipe.steps, recipe.step_paths, strict=True):
        given = recipe.raw["filters"][path[1]].get(path[2])
        numbers = {k: v for k, v in given.items() if type(v) in (int, float)} if isinstance(given, dict) else {}
        for key, value in numbers.items():
            return f"--set filters.{step.id}.{key}={value}"
    return "--set pack.samples=5000"
