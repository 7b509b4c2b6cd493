"""YAML with places: plain values, and line and column of each key, so that an error can say where it is.

Only true and false are booleans (`keep: [no]` is Norwegian), 1e-4 is a number, a key stands once.
"""

from __future__ import annotations

import math
import re
from typing import Any

import yaml

from curate.errors import UserError

Path = tuple[str | int, ...]

MOST_NODES = 100_000  # a recipe has hundreds; aliases of aliases can make billions
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


def _tag(name: str) -> str:
    return f"tag:yaml.org,2002:{name}"


class _Loader(yaml.SafeLoader):
    """PyYAML's parser with the rules above."""


class _Dumper(yaml.SafeDumper):
    """Quotes what either these rules or YAML 1.1 would not read back as a string; writes no aliases."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _string(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    """PyYAML folds the line ends of Unicode in plain and single-quoted strings; double quotes escape them."""
    style = '"' if any(c in text for c in "\x85\u2028\u2029\ufeff") else None
    return dumper.represent_scalar(_tag("str"), text, style=style)


_Dumper.add_representer(str, _string)
_Loader.yaml_implicit_resolvers = {}
for _name, (_pattern, _first) in RULES.items():
    _Loader.add_implicit_resolver(_tag(_name), re.compile(_pattern), ["" if c == "\0" else c for c in _first])
    _Dumper.add_implicit_resolver(_tag(_name), re.compile(_pattern), ["" if c == "\0" else c for c in _first])


class Document:
    """A parsed file.

    Attributes:
        value: maps, lists and scalars; None for an empty file.
        problems: what is wrong with it as YAML ("file:line:column: ..."), beyond what parsing refuses outright.
    """

    def __init__(self, name: str, text: str) -> None:
        self.name = name
        self.problems: list[str] = []
        self._places: dict[Path, tuple[int, int]] = {(): (1, 1)}
        self._nodes = 0
        try:
            node = yaml.compose(text, _Loader)
        except yaml.YAMLError as e:
            mark = getattr(e, "problem_mark", None)
            where = f":{mark.line + 1}:{mark.column + 1}" if mark else ""
            what = getattr(e, "problem", None) or str(e).splitlines()[0]
            raise UserError(f"{name}{where}: this is not YAML: {what}") from e
        self.value: Any = None if node is None else self._build(node, (), ())

    def place(self, path: Path) -> tuple[int, int]:
        """Line and column, from 1, of the innermost part of the path that the file has."""
        while path not in self._places:
            path = path[:-1]
        return self._places[path]

    def at(self, path: Path) -> str:
        """``file:line:column`` of a path."""
        return "{}:{}:{}".format(self.name, *self.place(path))

    def _build(self, node: yaml.Node, path: Path, above: tuple[yaml.Node, ...]) -> Any:
        self._places.setdefault(path, _start(node))
        self._nodes += 1
        if node in above or self._nodes > MOST_NODES:
            raise UserError(f"{self.name}:{_start(node)[0]}: aliases without end")
        if isinstance(node, yaml.MappingNode):
            return self._build_map(node, path, (*above, node))
        if isinstance(node, yaml.SequenceNode):
            return [self._build(child, (*path, i), (*above, node)) for i, child in enumerate(node.value)]
        return self._scalar(node, path)

    def _build_map(self, node: yaml.MappingNode, path: Path, above: tuple[yaml.Node, ...]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key_node, value_node in node.value:
            line, column = _start(key_node)
            here = f"{self.name}:{line}:{column}"
            if not isinstance(key_node, yaml.ScalarNode):
                self.problems.append(f"{here}: a key must be a plain word")
                continue
            key = str(key_node.value)
            if key in found:
                first = self.place((*path, key))[0]
                self.problems.append(
                    f"{here}: {dotted((*path, key))}: {key!r} stands twice; the first is on line {first}"
                )
                continue
            self._places[(*path, key)] = (line, column)
            found[key] = self._build(value_node, (*path, key), above)
        return found

    def _scalar(self, node: yaml.Node, path: Path) -> Any:
        kind, text = node.tag.removeprefix(_tag("")), str(node.value)
        try:
            if kind == "str":
                return text
            if kind == "null":
                return None
            if kind == "bool" and text.lower() in ("true", "false"):
                return text.lower() == "true"
            if kind == "int":
                return int(text)
            if kind == "float" and math.isfinite(float(text)):
                return float(text)
        except ValueError:
            pass  # a tag that the user wrote himself, as in `!!int x`
        known = kind in ("bool", "int", "float")
        what = f"{text[:40]!r} is no {kind}" if known else f"the tag {node.tag} is refused: a recipe is plain YAML"
        self.problems.append(f"{self.name}:{_start(node)[0]}:{_start(node)[1]}: {dotted(path)}: {what}")
        return None


def _start(node: yaml.Node) -> tuple[int, int]:
    return node.start_mark.line + 1, node.start_mark.column + 1


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
