"""YAML with places: plain values, and line and column of each key, so that an error can say where it is.

Only true and false are booleans (`keep: [no]` is Norwegian), 1e-4 and 0123 are decimal numbers, a key stands once.
A recipe may come from a stranger: tags are refused, and size, nesting and what anchors multiply are bounded.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any

import yaml

from curate.errors import UserError

Path = tuple[str | int, ...]

MAX_CHARACTERS, MAX_DEPTH, MAX_VALUES = 1_000_000, 50, 50_000
RULES = {
    "bool": (r"^(?:true|True|TRUE|false|False|FALSE)$", "tTfF"),
    "int": (r"^[-+]?[0-9](?:_?[0-9]){0,30}$", "-+0123456789"),
    "float": (
        r"^[-+]?(?:[0-9](?:_?[0-9])*\.[0-9]*(?:[eE][-+]?[0-9]+)?|[0-9]+[eE][-+]?[0-9]+|\.[0-9]+(?:[eE][-+]?[0-9]+)?)$",
        "-+.0123456789",
    ),
    "null": (r"^(?:~|null|Null|NULL|)$", "~nN\0"),
}
"""Type -> (what a plain scalar of it looks like, its first letters). Anything else is a string."""
TAG = "tag:yaml.org,2002:"


def _finite(text: str) -> float:
    if not math.isfinite(float(text)):
        raise ValueError("too large for a float")
    return float(text)


def _whole(text: str) -> str:
    """JSON's way of writing an emoji, as two escapes, makes one character, as JSON is YAML."""
    return text if text.isascii() else text.encode("utf-16", "surrogatepass").decode("utf-16")


MAKE: dict[str, Callable[[str], Any]] = {
    "null": lambda text: None,
    "bool": lambda text: {"true": True, "false": False}[text.lower()],
    "int": int,
    "float": _finite,
    "str": _whole,
}


class _TooDeep(Exception):
    """Collections stand within one another in more than MAX_DEPTH levels; `event` begins the last one."""

    def __init__(self, event: yaml.Event) -> None:
        super().__init__(event)
        self.event = event


class _Loader(yaml.SafeLoader):
    """PyYAML's parser with the rules above. It counts levels before it goes down one: composing recurses."""

    depth = 0

    def get_event(self) -> yaml.Event:
        event = super().get_event()
        self.depth += isinstance(event, yaml.CollectionStartEvent)
        if self.depth > MAX_DEPTH:
            raise _TooDeep(event)
        self.depth -= isinstance(event, yaml.CollectionEndEvent)
        return event


class _Dumper(yaml.SafeDumper):
    """Quotes what either these rules or YAML 1.1 would not read back as a string; writes no aliases."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _string(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    """PyYAML folds the line ends of Unicode in plain and single-quoted strings; double quotes escape them."""
    style = '"' if any(c in text for c in "\x85\u2028\u2029\ufeff") else None
    return dumper.represent_scalar(TAG + "str", text, style=style)


_Dumper.add_representer(str, _string)
_Loader.yaml_implicit_resolvers = {}
for _name, (_pattern, _first) in RULES.items():
    _Loader.add_implicit_resolver(TAG + _name, re.compile(_pattern), ["" if c == "\0" else c for c in _first])
    _Dumper.add_implicit_resolver(TAG + _name, re.compile(_pattern), ["" if c == "\0" else c for c in _first])


class Document:
    """A parsed file.

    Attributes:
        value: maps, lists and scalars; None for an empty file.
        problems: what is wrong with it as YAML ("file:line:column: ..."), where reading could go on.

    Raises:
        UserError: the text cannot be parsed, or is too large; it names the line.
    """

    def __init__(self, name: str, text: str) -> None:
        self.name = name
        self.problems: list[str] = []
        self._places: dict[Path, tuple[int, int]] = {(): (1, 1)}
        self._values = 0
        node = self._compose(text)
        self.value: Any = None if node is None else self._build(node, ())

    def _compose(self, text: str) -> yaml.Node | None:
        if len(text) > MAX_CHARACTERS:
            raise UserError(f"{self.name}: {len(text):,} characters; a recipe has at most {MAX_CHARACTERS:,}")
        try:
            return yaml.compose(text, _Loader)
        except _TooDeep as e:
            line, column = _start(e.event)
            raise UserError(f"{self.name}:{line}:{column}: nested more than {MAX_DEPTH} levels deep") from e
        except yaml.reader.ReaderError as e:
            line = text.count("\n", 0, e.position) + 1
            raise UserError(f"{self.name}:{line}: this is not YAML: character {e.character!r} is not allowed") from e
        except yaml.MarkedYAMLError as e:
            where = f":{e.problem_mark.line + 1}:{e.problem_mark.column + 1}" if e.problem_mark else ""
            raise UserError(f"{self.name}{where}: this is not YAML: {e.problem or e}") from e

    def has(self, path: Path) -> bool:
        """Does this path stand in the file?"""
        return path in self._places

    def place(self, path: Path) -> tuple[int, int]:
        """Line and column, from 1, of the innermost part of the path that the file has."""
        while path not in self._places:
            path = path[:-1]
        return self._places[path]

    def at(self, path: Path) -> str:
        """``file:line:column`` of a path."""
        return "{}:{}:{}".format(self.name, *self.place(path))

    def _build(self, node: yaml.Node, path: Path) -> Any:
        self._places.setdefault(path, _start(node))
        self._values += 1
        if self._values > MAX_VALUES or len(path) > MAX_DEPTH:
            line, column = _start(node)
            raise UserError(
                f"{self.name}:{line}:{column}: anchors multiply this to more than {MAX_VALUES:,} values or "
                f"{MAX_DEPTH} levels"
            )
        kind = node.tag.removeprefix(TAG)
        if isinstance(node, yaml.MappingNode) and kind == "map":
            return self._map(node, path)
        if isinstance(node, yaml.SequenceNode) and kind == "seq":
            return [self._build(child, (*path, i)) for i, child in enumerate(node.value)]
        if not isinstance(node, yaml.ScalarNode) or kind not in MAKE:
            return self._problem(node, path, f"the tag {node.tag} is refused: a recipe is plain YAML")
        try:
            return MAKE[kind](node.value)
        except (ValueError, KeyError):
            return self._problem(node, path, f"{node.value[:40]!r} cannot be read as {kind}")

    def _map(self, node: yaml.MappingNode, path: Path) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key_node, value_node in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                self._problem(key_node, path, "a key must be a plain word")
                continue
            key = str(key_node.value)
            here = (*path, key)
            if key in found:
                first = self.place(here)[0]
                self._problem(key_node, here, f"{key!r} stands twice; the first is on line {first}")
            elif key == "<<" and key_node.style is None:
                self._problem(key_node, here, "merge keys are refused; write the keys out, or use `extends`")
            else:
                self._places[here] = _start(key_node)
                found[key] = self._build(value_node, here)
        return found

    def _problem(self, node: yaml.Node, path: Path, message: str) -> None:
        line, column = _start(node)
        self.problems.append(f"{self.name}:{line}:{column}: {dotted(path) + ': ' if path else ''}{message}")


def _start(node: yaml.Node | yaml.Event) -> tuple[int, int]:
    mark = node.start_mark
    return (mark.line + 1, mark.column + 1) if mark is not None else (1, 1)


def dotted(path: Path) -> str:
    """A path as `--set` writes it: ``filters.0.language.keep``."""
    return ".".join(str(p) for p in path)


def parse_value(text: str) -> Any:
    """A value as it would stand in a recipe, for `--set key=value`.

    Raises:
        UserError: it is not YAML.
    """
    document = Document("value", text)
    if document.problems:
        raise UserError("; ".join(document.problems))
    return document.value


def dump(value: Any) -> str:
    """A value as YAML, keys in their order; reading it gives the value again."""
    return yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100)
