"""Scenes of coloured shapes, and what people say of them in English. Facts only: draw.py draws them.

of = scene(7)                  # Scene: groups of shapes, how they lie to each other, the place behind them
english(of, 0)                 # "two small red circles to the left of a blue star on a wooden table"
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Literal

PALETTE = {
    "red": (214, 40, 40), "orange": (245, 130, 32), "yellow": (250, 210, 40), "green": (40, 160, 70),
    "blue": (36, 90, 214), "purple": (130, 50, 180), "pink": (245, 120, 180), "cyan": (40, 200, 215),
}  # fmt: skip
SHAPES = ("circle", "square", "triangle", "star", "heart", "diamond", "hexagon", "cross", "ring", "crescent")
SOLID = ("circle", "square", "hexagon")  # wide enough to hold other shapes
INNER = tuple(s for s in SHAPES if s != "ring")  # through a ring the outer shape would show as a second one
COUNTS = ("a", "two", "three", "four")
PLACES = {
    "plaster": "on a pale wall", "sky": "in a cloudy sky", "hills": "above soft hills", "mist": "in the morning mist",
    "paper": "on a sheet of old paper", "wood": "on a wooden table", "stripes": "on a striped blanket",
    "checks": "on a chequered tablecloth", "sea": "by the calm sea", "dusk": "in the evening sky",
}  # fmt: skip
"""Name of a background -> how captions say it. None names a colour: those belong to the shapes."""

Relation = Literal["row", "column", "inside"]


@dataclass(frozen=True)
class Group:
    """So many shapes of one kind and colour; `size` is "small", "large" or, for neither, empty."""

    count: int
    colour: str
    shape: str
    size: str = ""


@dataclass(frozen=True)
class Scene:
    """Groups from left to right (row), from top to bottom (column), or the first inside the second (inside).

    No colour comes twice. `seed` decides all that captions do not tell: the light, where exactly shapes lie.
    """

    groups: tuple[Group, ...]
    relation: Relation
    place: str
    seed: int


def scene(number: int, seed: int = 0) -> Scene:
    """The scene of this number: a pure function."""
    draw = random.Random(f"{seed}:scene:{number}")
    colours = draw.sample(list(PALETTE), draw.choice((1, 2, 2, 2, 3)))
    relation: Relation = draw.choice(("row", "row", "column", "inside")) if len(colours) == 2 else "row"
    if len(colours) == 3:
        relation = draw.choice(("row", "column"))
    if relation == "inside":
        inner = Group(draw.randint(1, 3), colours[0], draw.choice(INNER))
        groups: tuple[Group, ...] = (inner, Group(1, colours[1], draw.choice(SOLID), "large"))
    else:
        groups = tuple(_group(draw, c, len(colours)) for c in colours)
    return Scene(groups, relation, draw.choice(list(PLACES)), draw.getrandbits(32))


def _group(draw: random.Random, colour: str, among: int) -> Group:
    count = draw.randint(1, 4 if among < 3 else 2)
    return Group(count, colour, draw.choice(SHAPES), draw.choice(_sizes(count, among)))


def _sizes(count: int, among: int) -> tuple[str, ...]:
    """Sizes that leave room for the other groups, and enough to see where there are none."""
    if among == 1 and count < 3:
        return ("", "large") if count == 1 else ("",)
    return ("", "small") if count > 1 or among == 3 else ("", "large", "small")


def english(of: Scene, phrase: int) -> str:
    """An English caption; `phrase` chooses among ways to say it."""
    said, place = _together(of, phrase // len(_WAYS)), PLACES[of.place]
    be = "is" if of.groups[0].count == 1 else "are"
    return _WAYS[phrase % len(_WAYS)].format(said=said, place=place, be=be)


_WAYS = (
    "{said} {place}",
    "A picture of {said} {place}.",
    "There {be} {said} {place}",
    "This drawing shows {said}",
    "I can see {said} {place} here",
    "An illustration with {said}, painted {place}",
    "Look, there {be} {said}!",
    "My sister made this card with {said} {place}",
)


def _together(of: Scene, way: int) -> str:
    """The groups with how they lie to each other, or (each third way) only their names."""
    names = [_name(g) for g in of.groups]
    if len(names) == 1:
        return names[0]
    if of.relation == "inside":
        return " inside ".join(names)
    listed = ", ".join(names[:-1]) + f" and {names[-1]}"
    if way % 3 == 2:
        return listed
    if len(names) == 2:
        return {"row": " to the left of ", "column": " above "}[of.relation].join(names)
    return listed + {"row": " from left to right", "column": " from top to bottom"}[of.relation]


def _name(group: Group) -> str:
    words = " ".join(filter(None, (group.size, group.colour, group.shape)))
    if group.count == 1:
        return f"{'an' if words[0] in 'aeiou' else 'a'} {words}"
    return f"{COUNTS[group.count - 1]} {words}{'es' if group.shape == 'cross' else 's'}"
