"""YAML with places: plain values, and the line of each key, so that an error can say where it is.

Only true and false are booleans (`keep: [no]` is Norwegian), 1e-4 is a number, a key stands once.
"""

from __future__ import annotations

import re
from typing import Any

import yaml

from curate.errors import UserError

Path = tuple[str | int, ...]


class _Loader(yaml.SafeLoader):
    """YAML 1.2's idea of booleans and floats on PyYAML's parser."""


_OURS = tuple(f"tag:yaml.org,2002:{t}" for t in ("bool", "int", "float", "timestamp"))
_Loader.yaml_implicit_resolvers = {
    first: [(tag, regexp) for tag, regexp in resolvers if tag not in _OURS]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$"), "tTfF")
_Loader.add_implicit_resolver("tag:yaml.org,2002:int", re.compile(r"^[-+]?[0-9][0-9_]*$"), "-+0123456789")
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(
        r"^[-+]?(?:[0-9][0-9_]*\.[0-9_]*(?:[eE][-+]?[0-9]+)?|[0-9]+[eE][-+]?[0-9]+|\.[0-9]+(?:[eE][-+]?[0-9]+)?)$"
    ),
    "-+.0123456789",
)


class Document:
    """A parsed file: `value`, and `line(path)` of what stands there."""

    def __init__(self, name: str, text: str) -> None:
        self.name = name
        self.lines: dict[Path, int] = {(): 1}
        try:
            node = yaml.compose(text, _Loader)
        except yaml.YAMLError as e:
            mark = getattr(e, "problem_mark", None)
            where = f":{mark.line + 1}:{mark.column + 1}" if mark else ""
            raise UserError(f"{name}{where}: this is not YAML: {getattr(e, 'problem', None) or e}") from e
        self._loader = _Loader("")
        self.value: Any = None if node is None else self._build(node, ())

    def _build(self, node: yaml.Node, path: Path) -> Any:
        self.lines.setdefault(path, node.start_mark.line + 1)
        if isinstance(node, yaml.MappingNode):
            found: dict[str, Any] = {}
            for key_node, value_node in node.value:
                key = self._build_key(key_node)
                line = key_node.start_mark.line + 1
                if key in found:
                    raise UserError(
                        f"{self.name}:{line}: {key!r} stands twice; the first is on line {self.lines[(*path, key)]}"
                    )
                self.lines[(*path, key)] = line
                found[key] = self._build(value_node, (*path, key))
            return found
        if isinstance(node, yaml.SequenceNode):
            return [self._build(child, (*path, i)) for i, child in enumerate(node.value)]
        if node.tag not in _PLAIN:
            line = node.start_mark.line + 1
            raise UserError(f"{self.name}:{line}: the tag {node.tag} is refused: a recipe is plain YAML")
        return self._loader.construct_object(node)

    def _build_key(self, node: yaml.Node) -> str:
        if not isinstance(node, yaml.ScalarNode):
            raise UserError(f"{self.name}:{node.start_mark.line + 1}: a key must be a plain word")
        return str(node.value)

    def line(self, path: Path) -> int:
        """The line of the innermost part of the path that the file has."""
        while path not in self.lines:
            path = path[:-1]
        return self.lines[path]


_PLAIN = frozenset(f"tag:yaml.org,2002:{t}" for t in ("null", "bool", "int", "float", "str"))


def parse_value(text: str) -> Any:
    """A value as it would stand in a recipe, for `--set key=value`."""
    return Document("--set", text).value


def dump(value: Any) -> str:
    """A value as YAML, keys in their order."""
    return yaml.safe_dump(value, sort_keys=False, allow_unicode=True, width=100)
