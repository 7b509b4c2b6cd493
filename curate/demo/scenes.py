"""Scenes of coloured shapes, and what people of six languages write about them. Facts only: draw.py draws them."""

from __future__ import annotations

import random
from dataclasses import dataclass

PALETTE = {
    "red": (214, 40, 40), "orange": (245, 130, 32), "yellow": (250, 210, 40), "green": (40, 160, 70),
    "blue": (36, 90, 214), "purple": (130, 50, 180), "pink": (245, 120, 180), "cyan": (40, 200, 215),
}  # fmt: skip
SHAPES = ("circle", "square", "triangle", "star")
COUNTS = ("a", "two", "three", "four")
PLACES = ("on a pale wall", "over a cloudy field", "above soft hills", "in the morning mist", "on old paper")


@dataclass(frozen=True)
class Group:
    """So many shapes of one kind and colour."""

    count: int
    colour: str
    shape: str


@dataclass(frozen=True)
class Scene:
    """Groups from left to right, no colour twice; `seed` decides the background and where shapes lie."""

    groups: tuple[Group, ...]
    place: str
    seed: int


def scene(number: int, seed: int = 0) -> Scene:
    """The scene of this number: a pure function."""
    draw = random.Random(f"{seed}:scene:{number}")
    colours = draw.sample(list(PALETTE), draw.choice((1, 2, 2, 3)))
    groups = tuple(Group(draw.randint(1, 4 if len(colours) < 3 else 2), c, draw.choice(SHAPES)) for c in colours)
    return Scene(groups, draw.choice(PLACES), draw.getrandbits(32))


def english(of: Scene, phrase: int) -> str:
    """An English caption; `phrase` chooses among ways to say it."""
    names = [f"{_count(g)} {g.colour} {g.shape}{'s' * (g.count > 1)}" for g in of.groups]
    if len(names) == 1:
        said = names[0]
    elif phrase % 2:
        said = " to the left of ".join(names[:2]) + "".join(f" and {n}" for n in names[2:])
    else:
        said = ", ".join(names[:-1]) + f" and {names[-1]}"
    ways = (f"{said} {of.place}", f"A picture of {said} {of.place}.", f"I can see {said} here", f"This is {said}")
    return ways[phrase % len(ways)]


def _count(group: Group) -> str:
    return "an" if group.count == 1 and group.colour == "orange" else COUNTS[group.count - 1]


_COLOURS = {
    "de": ("rot", "orange", "gelb", "grün", "blau", "lila", "rosa", "türkis"),
    "fr": ("rouge", "orange", "jaune", "vert", "bleu", "violet", "rose", "turquoise"),
    "es": ("rojo", "naranja", "amarillo", "verde", "azul", "morado", "rosa", "turquesa"),
    "zh": ("红色", "橙色", "黄色", "绿色", "蓝色", "紫色", "粉色", "青色"),
    "ar": ("أحمر", "برتقالي", "أصفر", "أخضر", "أزرق", "بنفسجي", "وردي", "سماوي"),
}
_SHAPES = {
    "de": ("Kreis", "Quadrat", "Dreieck", "Stern"),
    "fr": ("cercle", "carré", "triangle", "étoile"),
    "es": ("círculo", "cuadrado", "triángulo", "estrella"),
    "zh": ("圆形", "正方形", "三角形", "星星"),
    "ar": ("دائرة", "مربع", "مثلث", "نجمة"),
}
_FRAMES = {
    "de": ("Auf diesem Bild sieht man {}, gemalt auf hellem Papier", " und daneben noch ", "{n} mal {s} in {c}"),
    "fr": ("Sur cette image on voit {} devant un mur clair", " et aussi, à côté, ", "{n} fois un {s} {c}"),
    "es": ("En esta imagen se puede ver {} sobre un fondo claro", " y también, al lado, ", "{n} veces un {s} {c}"),
    "zh": ("这张图片上画着{}，背景很柔和", "，旁边还有", "{n}个{c}的{s}"),
    "ar": ("في هذه الصورة نرى {} على خلفية فاتحة", " وبجانبها ", "{n} {s} بلون {c}"),
}
LANGUAGES = tuple(_FRAMES)


def translated(of: Scene, language: str) -> str:
    """The same facts in another language."""
    frame, join, item = _FRAMES[language]
    words = [
        item.format(
            n=g.count,
            s=_SHAPES[language][SHAPES.index(g.shape)],
            c=_COLOURS[language][list(PALETTE).index(g.colour)],
        )
        for g in of.groups
    ]
    return frame.format(join.join(words))
