"""robots.txt as RFC 9309 reads it.

    rules = parse(body, "curate")       # or more names than one
    rules.allowed("/photos/a.jpg?size=large")

Groups that name the agent count, all together; where none does, those of `*`. Of the rules that match a path the one
with the longest pattern decides, Allow where two are as long. Crawl-delay is no part of the RFC; it is read, as owners
who write it mean it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property

from curate.run.fetch.gate.patterns import Patterns, normal_path, normal_pattern

LIMIT = 500 << 10  # RFC 9309, 2.5: at least so many bytes are read
MOST_DELAY_S = 60.0


@dataclass(frozen=True)
class Rules:
    """(pattern, allow) of one agent, longest pattern first, Allow before Disallow; delay in seconds or None."""

    rules: tuple[tuple[str, bool], ...] = ()
    delay: float | None = None

    def allowed(self, path: str) -> bool:
        """Whether a path with its query ("/a.jpg?x=1") may be asked for."""
        if not self.rules:
            return True
        return self.patterns.decide(normal_path(path)) is not False

    @cached_property
    def patterns(self) -> Patterns:
        return Patterns(self.rules)

    def __reduce__(self) -> tuple[type[Rules], tuple[object, ...]]:
        return Rules, (self.rules, self.delay)  # what is sent to a gate goes without its patterns


ALLOW_ALL = Rules()


def parse(body: bytes, *agents: str) -> Rules:
    """The rules for whoever goes by these product tokens, as "curate"; the case of them does not matter."""
    text = body[:LIMIT].decode("utf-8", "replace").removeprefix("\ufeff")
    ours = {token(agent) for agent in agents}
    groups: dict[str, set[tuple[str, bool]]] = {}
    delays: dict[str, float] = {}
    named: set[str] = set()  # of us and *, whom the lines that follow are for
    in_rules = True
    for line in re.split(r"\r\n|\r|\n", text):
        key, colon, value = line.partition("#")[0].partition(":")
        key, value = key.strip().lower(), value.strip()
        if not colon:
            continue
        if key in ("user-agent", "useragent"):
            named = (set() if in_rules else named) | ({token(value)} & (ours | {"*"}))
            groups.update({name: set() for name in named if name not in groups})
            in_rules = False
        elif key in ("allow", "disallow"):
            in_rules = True
            for name in named:
                if value:
                    groups[name].add((normal_pattern(value), key == "allow"))
        elif key == "crawl-delay":
            in_rules = True
            if (delay := _seconds(value)) is not None:
                delays.update({name: max(delay, delays.get(name, 0.0)) for name in named})
    own = ours & set(groups) or {"*"}
    rules = {rule for name in own for rule in groups.get(name, ())}
    ordered = sorted(rules, key=lambda rule: (-len(rule[0]), not rule[1], rule[0]))
    return Rules(tuple(ordered), max((delays[name] for name in own if name in delays), default=None))


def token(agent: str) -> str:
    """The product token of a user agent, lower-case: letters, - and _, as the RFC has it; versions do not count."""
    if agent.startswith("*"):
        return "*"
    found = re.match(r"[A-Za-z_-]+", agent)
    return found[0].lower() if found else re.split(r"[/\s(]", agent, maxsplit=1)[0].lower()


def _seconds(value: str) -> float | None:
    try:
        delay = float(value)
    except ValueError:
        return None
    return min(delay, MOST_DELAY_S) if delay > 0 else None
