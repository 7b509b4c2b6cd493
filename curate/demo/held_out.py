"""Scenes that the demo's web does not have, as evaluation sets in CLIP_benchmark's layout: what its judge asks.

    sets = build_held_out(Path("quickstart/held_out"))      # held_out/scenes, held_out/colours

scenes: retrieval, each picture with three captions. colours: zero-shot classification of pictures with one kind of
shape, by its colour.
"""

from __future__ import annotations

import io
import shutil
import tarfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from curate.demo.draw import draw, encoded
from curate.demo.scenes import PALETTE, Scene, english, scene

FIRST = 50_000_000  # number of the first scene: no web of the demo is as large
PHRASES = (0, 1, 2)
TEMPLATES = ("a {c} shape", "a picture of {c} shapes", "there are {c} shapes")


def build_held_out(folder: Path, scenes: int = 500) -> tuple[Path, Path]:
    """Draw `scenes` pictures for either set; the same again gives the same bytes, and is not drawn again."""
    sets = folder / "scenes", folder / "colours"
    if all((s / "test" / "nshards.txt").exists() for s in sets):
        return sets
    shutil.rmtree(folder, ignore_errors=True)  # of a build that was cut off
    drawn = [scene(FIRST + i) for i in range(scenes)]
    captioned = ((of, {"txt": "\n".join(english(of, p) for p in PHRASES)}) for of in drawn)
    _write(sets[0], captioned, {"dataset_type.txt": "retrieval"})
    colours = list(PALETTE)
    labelled = ((of, {"cls": str(colours.index(of.groups[0].colour))}) for of in _of_one_kind(scenes))
    asked = {"classnames.txt": colours, "zeroshot_classification_templates.txt": TEMPLATES}
    _write(sets[1], labelled, {name: "\n".join(lines) for name, lines in asked.items()})
    return sets


def _of_one_kind(count: int) -> Iterator[Scene]:
    number = 2 * FIRST
    while count:
        of = scene(number)
        number += 1
        if len(of.groups) == 1:
            count -= 1
            yield of


def _write(folder: Path, samples: Iterator[tuple[Scene, dict[str, str]]], said: Mapping[str, str]) -> None:
    """The tar, then what says of it; last the number of tars, which makes the set whole."""
    (folder / "test").mkdir(parents=True)
    with tarfile.open(folder / "test" / "0.tar", "w") as tar:
        for number, (of, answers) in enumerate(samples):
            for suffix, data in {"jpg": encoded(draw(of)), **{s: t.encode() for s, t in answers.items()}}.items():
                member = tarfile.TarInfo(f"{number:06d}.{suffix}")
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))
    for name, text in {**said, "test/nshards.txt": "1"}.items():
        (folder / name).write_text(text + "\n", encoding="utf-8")
