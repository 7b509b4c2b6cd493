"""What the parameters of a filter, a stage or a section are for, from the docstring of its class.

    parameter_docs(TopFraction)["fraction"]        # "above 0, at most 1."

Read are entries below ``Args:`` or ``Attributes:``, sentences that begin with ``name:`` (or ``name, name:``), and
comments behind ``name: value`` in an example.
"""

from __future__ import annotations

import importlib
import inspect
import re

from pydantic import BaseModel

SHARED = {
    "on_missing": "what becomes of a sample without a value: drop it, keep it, or stop with an error that names it",
    "over": "pool: asked about every sample. survivors: about those that the filters above kept. It has no default, "
    "since it changes what the answer means",
}
"""Parameters that mean the same in all filters that have them."""


def parameter_docs(kind: type[BaseModel]) -> dict[str, str]:
    """Field -> what is said of it; fields of which nothing is said are left out."""
    found: dict[str, str] = {n: SHARED[n] for n in kind.model_fields if n in SHARED}
    for base in reversed([c for c in kind.__mro__ if issubclass(c, BaseModel)]):
        found |= _entries(inspect.cleandoc(base.__doc__ or ""), list(kind.model_fields))
    found = {n: _followed(n, words) for n, words in found.items()}
    return found | {n: f.description for n, f in kind.model_fields.items() if f.description}


def _followed(name: str, words: str) -> str:
    """Where it is said to be as in another class, what is said there."""
    other = re.match(r"as in `([\w.]+)\.(\w+)`", words)
    if other is None:
        return words
    return parameter_docs(getattr(importlib.import_module(other[1]), other[2])).get(name, words)


def first_paragraph(kind: type[BaseModel]) -> str:
    """The beginning of its docstring, in one line."""
    return " ".join(inspect.cleandoc(kind.__doc__ or "").split("\n\n")[0].split())


def _entries(doc: str, names: list[str]) -> dict[str, str]:
    if not names:
        return {}
    one = "|".join(sorted(map(re.escape, names), key=len, reverse=True))
    entry = re.compile(rf"(?:^|(?<=[.;] )|\n)[ ]*((?:{one})(?:, (?:{one}))*):[ ]+")
    matches = list(entry.finditer(doc))
    found: dict[str, str] = {}
    for i, match in enumerate(matches):
        end = matches[i + 1].start() if i + 1 < len(matches) else len(doc)
        text = doc[match.end() : end].split("\n\n")[0]
        words = " ".join(text.rpartition("  # ")[2].split())
        for name in match[1].split(", "):
            found.setdefault(name, words.rstrip("; "))
    return found
