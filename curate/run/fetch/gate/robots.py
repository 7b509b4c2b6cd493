"""robots.txt as RFC 9309 reads it.

    rules = parse(body, "curate")
    rules.allowed("/photos/a.jpg?size=large")

Groups that name the agent count, all together; where none does, those of `*`. Of the rules that match a path the one
with the longest pattern decides, Allow where two are as long. Crawl-delay is no part of the RFC; it is read, as owners
who write it mean it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import quote

LIMIT = 500 << 10  # RFC 9309, 2.5: at least so many bytes are read
MOST_DELAY_S = 60.0
MOST_RULES = 20_000

_SAFE = "/%?=&:;@!$'()*+,~#[]-._"


@dataclass(frozen=True, slots=True)
class Rules:
    """(pattern, allow) of one agent, longest pattern first, Allow before Disallow; delay in seconds or None."""

    rules: tuple[tuple[str, bool], ...] = ()
    delay: float | None = None

    def allowed(self, path: str) -> bool:
        """Whether a path with its query ("/a.jpg?x=1") may be asked for."""
        if not self.rules:
            return True
        path = normal_path(path)
        return next((allow for pattern, allow in self.rules if matches(pattern, path)), True)


ALLOW_ALL = Rules()


def parse(body: bytes, agent: str) -> Rules:
    """The rules for an agent's product token, as "curate"; the case of it does not matter."""
    text = body[:LIMIT].decode("utf-8", "replace").removeprefix("\ufeff")
    groups: dict[str, list[tuple[str, bool]]] = {}
    delays: dict[str, float] = {}
    agents: list[str] = []
    in_rules = True
    for line in re.split(r"\r\n|\r|\n", text):
        key, colon, value = line.partition("#")[0].partition(":")
        key, value = key.strip().lower(), value.strip()
        if not colon:
            continue
        if key in ("user-agent", "useragent"):
            agents = [*([] if in_rules else agents), _token(value)]
            groups.setdefault(agents[-1], [])
            in_rules = False
        elif key in ("allow", "disallow"):
            in_rules = True
            for name in agents:
                if value and len(groups[name]) < MOST_RULES:
                    groups[name].append((normal_pattern(value), key == "allow"))
        elif key == "crawl-delay":
            in_rules = True
            if (delay := _seconds(value)) is not None:
                delays.update({name: max(delay, delays.get(name, 0.0)) for name in agents})
    own = agent.lower() if agent.lower() in groups else "*"
    rules = sorted(set(groups.get(own, ())), key=lambda rule: (-len(rule[0]), not rule[1], rule[0]))
    return Rules(tuple(rules), delays.get(own))


def matches(pattern: str, path: str) -> bool:
    """Whether a normal pattern matches the beginning of a normal path; `*` any run, `$` at the end the end.

    In time linear in the path for each piece: no regular expression is made of what strangers write.
    """
    anchored = pattern.endswith("$")
    first, *pieces = pattern[: -1 if anchored else None].split("*")
    if not path.startswith(first):
        return False
    at = len(first)
    if not pieces:
        return not anchored or at == len(path)
    last = pieces.pop() if anchored else ""
    for piece in pieces:
        found = path.find(piece, at)
        if found < 0:
            return False
        at = found + len(piece)
    return not anchored or (path.endswith(last) and len(path) - len(last) >= at)


def normal_path(path: str) -> str:
    """A path of a URL, fit for `matches`: its own * and $ encoded, as RFC 9309, 2.2.3 has them in patterns."""
    return _normal(path or "/").replace("*", "%2A").replace("$", "%24")


def normal_pattern(pattern: str) -> str:
    """A pattern, fit for `matches`: $ is special at its end only."""
    encoded = _normal(pattern)
    return encoded[:-1].replace("$", "%24") + encoded[-1:]


def _normal(path: str) -> str:
    """Percent-encoding as RFC 9309, 2.2.2 compares it: of what need not be encoded undone, of what must be done."""
    encoded = quote(path, safe=_SAFE)
    return re.sub(r"%([0-9a-fA-F]{2})", _unreserved, encoded)


def _unreserved(found: re.Match[str]) -> str:
    character = chr(int(found[1], 16))
    plain = character.isascii() and (character.isalnum() or character in "-._~")
    return character if plain else found[0].upper()


def _token(value: str) -> str:
    """The product token of a user-agent line: letters, - and _, as the RFC has it; versions after it do not count."""
    if value.startswith("*"):
        return "*"
    found = re.match(r"[A-Za-z_-]+", value)
    return found[0].lower() if found else value.lower()


def _seconds(value: str) -> float | None:
    try:
        delay = float(value)
    except ValueError:
        return None
    return min(delay, MOST_DELAY_S) if delay > 0 else None
