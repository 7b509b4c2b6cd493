"""What `decontaminate` found: by evaluation set how many, by what bounds, and pictures of both sides.

found = contamination(ground)                                    # nothing where no step decontaminates
html = contamination_section(found, pick, pictures, most=None)   # in curate.ask.report.contamination_section

The barrier behind the filter left thumbnails of some of the set's pictures and the uids of samples that match them
(stages/eval_hits.py), so the set itself need not be there any more.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from curate.ask.pictures import Shown, look_up
from curate.ask.report.groups import find_samples
from curate.ask.report.margins import Asked
from curate.ask.report.shards import Ground
from curate.pool.columns import read_table
from curate.pool.layout import part_file
from curate.pool.pool import Pool

METHOD = "decontaminate"
COLUMN = "eval_set"
PAIRS = 96  # shown of all sets together, but of each at least FEWEST
FEWEST = 2


@dataclass(frozen=True)
class EvalPair:
    """A picture of a set, and a sample that matches it: None where the sample was removed since.

    picture: its thumbnail as figures take it; text is the item's name. by: sha256, phash256, phash64 or vectors.
    samples: that match the picture. farthest: one of those farthest apart; else it was drawn.
    """

    picture: Shown
    sample: Shown | None
    by: str
    distance: float
    samples: int
    farthest: bool


@dataclass(frozen=True)
class EvalSetFound:
    """One set. pictures: of it; flat, broken: of those, without a hash worth comparing; matched: found in the pool, by
    `samples` (by what) of the whole pool, whoever was asked about."""

    name: str
    pictures: int
    flat: int
    broken: int
    matched: int
    samples: Mapping[str, int]
    pairs: tuple[EvalPair, ...]


@dataclass(frozen=True)
class Contamination:
    """One step. bounds: by what a sample matches, in words. components: do whole groups go?"""

    step: str
    bounds: tuple[str, ...]
    components: bool
    sets: tuple[EvalSetFound, ...]


def contamination(ground: Ground) -> list[Contamination]:
    """The steps that decontaminate, in the recipe's order."""
    read = [(s, note, found) for s in ground.steps for note, found in _of_step(ground.pool, s)]
    uids = {row["uid"] for *_, found in read for rows, _ in found for row in rows}
    places = find_samples(ground, uids, []) if uids else {}
    album = dict(zip(places, look_up(ground.pool, list(places.values())), strict=True))
    return [
        Contamination(step.id, bounds(note), note.get("components") is not None, tuple(_set(*f, album) for f in found))
        for step, note, found in read
    ]


Part = tuple[list[dict[str, Any]], dict[str, Any]]


def _of_step(pool: Pool, step: Asked) -> list[tuple[dict[str, Any], list[Part]]]:
    """[(parameters, of each set the rows that are shown and the statistics)], or nothing."""
    note = pool.about(step.folder)
    identity = note.get("identity") or {}
    if identity.get("name") != METHOD:
        return []
    home = next(entry.rpartition(":")[0] for entry in note["reads"] if entry.endswith(f":{COLUMN}"))
    sets = identity["parameters"]["sets"]
    most = max(PAIRS // len(sets), FEWEST)
    parts = [read_table(pool.storage, part_file(f"{home}/pictures", f"{i:05d}")) for i in range(len(sets))]
    return [(identity["parameters"], [(_in_turn(table.to_pylist(), most), footer["stats"]) for table, footer in parts])]


def _in_turn(rows: list[dict[str, Any]], most: int) -> list[dict[str, Any]]:
    """Some of the farthest and as many of those drawn, the farthest first."""
    far, drawn = ([r for r in rows if (r["why"] == "farthest") is wanted] for wanted in (True, False))
    return far[: max(most - len(drawn), most - most // 2)] + drawn[: max(most - len(far), most // 2)]


def _set(rows: list[dict[str, Any]], stats: Mapping[str, Any], album: Mapping[bytes, Shown]) -> EvalSetFound:
    pairs = tuple(
        EvalPair(_picture(r), album.get(r["uid"]), r["by"], r["distance"], r["samples"], r["why"] == "farthest")
        for r in rows
    )
    names = ("set", "pictures", "flat", "broken", "matched", "samples")
    name, pictures, flat, broken, matched, samples = (stats[n] for n in names)
    return EvalSetFound(name, pictures, flat, broken, matched, samples, pairs)


def _picture(row: Mapping[str, Any]) -> Shown:
    """As figures take it; its uid names a file beside the page."""
    thumbnail = row["thumbnail"]
    known = thumbnail or row["item"].encode()
    why_not = "" if thumbnail else "it does not decode, or the set has vectors only"
    uid = hashlib.sha256(known).digest()[:16]
    return Shown(uid, -1, -1, None, text=row["item"], thumbnail=thumbnail, why_not=why_not)


def bounds(parameters: Mapping[str, Any]) -> tuple[str, ...]:
    """By what a sample matches, strongest first, in words."""
    found = []
    if any(s.get("path") is not None for s in parameters["sets"]):
        found.append("the same bytes")
        for bits, name in ((256, "distance"), (64, "distance64")):
            if parameters.get(name) is not None:
                found.append(f"pHash-{bits} within {parameters[name]} bits, in any of eight orientations")
    if parameters.get("above") is not None:
        found.append(f"cosine of {parameters['vectors']} above {parameters['above']:g}")
    return tuple(found)
