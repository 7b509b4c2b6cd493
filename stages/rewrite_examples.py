"""Pairs of captions that show a language model how to rewrite one: built-in sets of four styles, and files of a user's.

    sets = [examples("vivid"), examples("my_pairs.jsonl")]
    drawn(sets[0], 3, "0/<uid>/0")        # [("dog on beach .", "A dog ..."), ...]: the same for the same key

A file has a JSON object a line: {"from": "dog on beach .", "to": "A dog stands on a beach."}, or {"captions": [...]},
some captions of one picture, of which two are drawn. LaCLIP (Fan et al. 2023, arXiv:2305.20088) has four sets of 16
pairs, by ChatGPT, by Bard, of COCO (captions of one picture) and by people; those built in here were written for this
project.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import xxhash

Captions = tuple[str, ...]
"""Two or more captions: the first is rewritten as the second, or any two of more."""

LEAST = 4  # pairs in a set, so that not all prompts are alike
MOST_BYTES = 1 << 20
LONGEST = 600  # characters of a caption

_VIVID: tuple[Captions, ...] = (
    ("dog on beach at sunset", "A dog stands at the water's edge while the setting sun turns the whole beach orange."),
    ("red bicycle against wall", "A bright red bicycle leans against a rough brick wall, waiting for its rider."),
    ("kitchen with white cabinets", "An airy kitchen where tall white cabinets frame a spotless wooden counter."),
    ("children playing football in park", "Laughing children chase a football across the grass of a busy park."),
    ("snowy mountain with lake", "A snow-capped mountain towers over a still lake that mirrors every ridge."),
    ("old man feeding pigeons", "An elderly man on a bench scatters crumbs for a crowd of eager pigeons."),
    ("bowl of tomato soup", "A steaming bowl of tomato soup, topped with a swirl of cream and fresh basil."),
    ("city street at night in rain", "Neon lights shimmer on a wet city street as people hurry home at night."),
    ("cat sleeping on sofa", "A ginger cat lies curled up on a soft sofa, fast asleep in the afternoon light."),
    ("train crossing bridge", "A long train thunders over a stone bridge high above a green valley."),
)
_PLAIN: tuple[Captions, ...] = (
    ("dog on beach at sunset", "There is a dog on a beach at sunset."),
    ("vintage camera for sale best price !!", "A vintage camera."),
    ("the view from our hotel room", "A view out of the window of a hotel room."),
    ("wooden table w/ 4 chairs", "A wooden table with four chairs around it."),
    ("love this dress on her", "A woman wears a dress."),
    ("fig. 3 : map of the river basin", "A map shows the basin of a river."),
    ("players during the second half of the match", "Players take part in a match on a field."),
    ("blue car parked", "A blue car is parked."),
    ("birthday cake with candles , 2019", "A birthday cake has candles on it."),
    ("the band on stage last night", "A band plays on a stage."),
)
_SEEN: tuple[Captions, ...] = (
    ("A man rides a horse along a dirt road.", "Someone on a horse going down a path.", "A rider on a country road."),
    ("Two dogs run through tall grass.", "A pair of dogs playing in a field.", "Dogs racing each other outdoors."),
    ("A plate with rice, beans and an egg.", "A fried egg on top of rice and beans.", "A simple meal on a plate."),
    ("A boat is tied to a wooden pier.", "A small boat rests beside a dock.", "Calm water around a moored boat."),
    ("A girl holds a red umbrella.", "A child in the rain under an umbrella.", "A young girl walks with an umbrella."),
    ("Books fill the shelves of a small shop.", "A bookshop packed with books.", "Shelves of books up to the roof."),
    ("A bus stops at the corner of a street.", "A city bus waits for people to get in.", "A bus near a crosswalk."),
    ("A bird sits on a fence post.", "A small bird perched on some wood.", "A bird looks around from a fence."),
)  # fmt: skip
_TERSE: tuple[Captions, ...] = (
    ("A photograph of a large brown dog which is standing on a sandy beach", "a big brown dog on the sand"),
    ("This image shows a group of people who are having dinner together", "friends having dinner"),
    ("Beautiful modern house with swimming pool and garden for sale", "a modern house with a pool"),
    ("The picture depicts a tall lighthouse on top of a rocky cliff", "a lighthouse on a cliff"),
    ("An old rusty truck abandoned in the middle of a field of wheat", "a rusty truck in a wheat field"),
    ("A close-up view of a single red rose with drops of water on it", "a wet red rose, close up"),
    ("A young woman is seen reading a book while sitting under a tree", "a woman reading under a tree"),
    ("There are several colorful hot air balloons flying in the sky", "hot air balloons in the sky"),
)
BUILT_IN = {"vivid": _VIVID, "plain": _PLAIN, "seen": _SEEN, "terse": _TERSE}


def examples(place: str) -> tuple[Captions, ...]:
    """The set of a built-in style, or of a file.

    Raises:
        ValueError: there is no such style or file, or what is wrong on which of its lines.
    """
    return BUILT_IN[place] if place in BUILT_IN else _read(Path(place))


def _read(file: Path) -> tuple[Captions, ...]:
    if not file.is_file():
        raise ValueError(f"no file of examples {file}, nor a built-in style of that name ({', '.join(BUILT_IN)})")
    if file.stat().st_size > MOST_BYTES:
        raise ValueError(f"{file} has more than {MOST_BYTES} bytes: examples are a few dozen pairs")
    try:
        lines = file.read_text(encoding="utf-8").split("\n")
    except UnicodeDecodeError as e:
        raise ValueError(f"{file} is no UTF-8 text ({e})") from e
    found = tuple(_captions(line, f"{file}, line {i}") for i, line in enumerate(lines, 1) if line.strip())
    if len(found) < LEAST:
        raise ValueError(f"{file} has {len(found)} examples; there must be at least {LEAST}")
    return found


def _captions(line: str, where: str) -> Captions:
    try:
        said = json.loads(line)
    except json.JSONDecodeError as e:
        raise ValueError(f'{where}: no JSON ({e}); write {{"from": ..., "to": ...}}') from e
    found: object = None
    if isinstance(said, dict):
        found = [said["from"], said["to"]] if {"from", "to"} <= said.keys() else said.get("captions")
    if not isinstance(found, list) or len(found) < 2 or not all(isinstance(c, str) and c.strip() for c in found):
        raise ValueError(f'{where}: write {{"from": "...", "to": "..."}} or {{"captions": ["...", "...", ...]}}')
    if long := next((c for c in found if len(c) > LONGEST or "=>" in c), None):
        raise ValueError(f"{where}: a caption has more than {LONGEST} characters, or =>: {long[:40]!r}")
    return tuple(" ".join(caption.split()) for caption in found)


def drawn(pairs: Sequence[Captions], count: int, key: str) -> list[tuple[str, str]]:
    """`count` different pairs (all where there are fewer), drawn by the key: the same whatever else is drawn."""
    order = sorted(range(len(pairs)), key=lambda i: _number(f"{key}/{i}"))
    return [_two(pairs[i], f"{key}/{i}") for i in order[:count]]


def _two(captions: Captions, key: str) -> tuple[str, str]:
    if len(captions) == 2:
        return captions[0], captions[1]
    first, second = sorted(range(len(captions)), key=lambda i: _number(f"{key}/{i}"))[:2]
    return captions[first], captions[second]


def _number(key: str) -> int:
    return xxhash.xxh64_intdigest(key.encode())
