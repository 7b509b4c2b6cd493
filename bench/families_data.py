"""What families are trained on and examined with: Flickr8k as a pack, and its held-out pictures as two sets.

    made = data()
    made.pack, made.sets["flickr8k"], made.sets["questions"]         # folders

Every training picture stands in the pack with each of its five captions. Held out are Flickr8k's test and development
pictures, with their captions, and as pictures with questions that are made of all five captions of each, sure answers
only. All is made anew where the code that makes it has changed.
"""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import tarfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from common import ROOT, SHARED, WORK, curate
from judge_data import Picture, by_chance, row, small, split, write_held_out, write_table

FOLDER = WORK / "families"
CAPTIONS, QUESTIONS = "flickr8k", "questions"
QUICK_PICTURES, QUICK_HELD_OUT = 400, 60
RECIPE: dict[str, Any] = {
    "recipe": "all_captions",
    "shard_size": 5000,
    "source": {"name": "pairs", "kind": "parquet", "uid": "uid", "text": "caption", "url": None},
    "ingest": {"resize": "short", "side": 64, "format": "png"},
    "pack": {"samples": 5000},
}
MAKERS = (
    "bench/families_data.py", "bench/judge_data.py", "stages/fingerprint.py", "training_smoke/questions.py",
    "training_smoke/question_words.py",
)  # fmt: skip
"""Files that decide what is in the sets and in the list that the pack is made of."""


@dataclass(frozen=True)
class Data:
    """Where all lies; pictures: that are trained on, held_out: that are not."""

    pack: Path
    sets: dict[str, Path]
    pictures: int
    held_out: int


def data(quick: bool = False) -> Data:
    """Made once a folder of the benchmark, and again where MAKERS have changed."""
    folder = FOLDER / ("data-quick" if quick else "data")
    marker = folder / "data.json"
    if not marker.exists() or json.loads(marker.read_text()).get("made_by") != digest():
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        held, free, _ = split("flickr8k", SHARED)
        if quick:
            held, free = (chance(pictures)[:n] for pictures, n in ((held, QUICK_HELD_OUT), (free, QUICK_PICTURES)))
        pack = packed(folder, free)
        sets = {CAPTIONS: write_held_out(folder / CAPTIONS, "flickr8k", held), QUESTIONS: questions(folder, held)}
        said = {"pack": str(pack), "sets": {n: str(p) for n, p in sets.items()}, "made_by": digest()}
        marker.write_text(json.dumps(said | {"pictures": len(free), "held_out": len(held)}))
    said = json.loads(marker.read_text())
    sets = {name: Path(path) for name, path in said["sets"].items()}
    return Data(Path(said["pack"]), sets, said["pictures"], said["held_out"])


def digest(more: Iterable[str] = ()) -> str:
    """sha256 of MAKERS, and of more files of the repository: 16 hex digits."""
    found = hashlib.sha256()
    for name in (*MAKERS, *more):
        found.update(f"{name}\0".encode() + (ROOT / name).read_bytes())
    return found.hexdigest()[:16]


def chance(pictures: Sequence[Picture]) -> list[Picture]:
    return sorted(pictures, key=lambda p: by_chance({"key": p.key}))


def packed(folder: Path, pictures: Sequence[Picture]) -> Path:
    """The folder of the pack, by `curate run`."""
    rows = [row(p, caption, "clean") for p in pictures for caption in p.captions]
    source = RECIPE["source"] | {"path": str(write_table(folder / "pairs.parquet", rows))}
    recipe = folder / "recipe.yaml"
    recipe.write_text(yaml.safe_dump(RECIPE | {"pool": str(folder / "pool"), "source": source}))
    curate("run", str(recipe), "--executor", "inline", "--quiet")
    return next((folder / "pool" / "packs").glob("*/manifest.json")).parent


def questions(folder: Path, pictures: Sequence[Picture]) -> Path:
    """A set of kind "vqa": what all five captions of a picture answer surely, balanced."""
    from training_smoke.questions import balanced, sure_questions

    made = folder / QUESTIONS
    (made / "test").mkdir(parents=True)
    (made / "dataset_type.txt").write_text("vqa\n")
    (made / "test" / "nshards.txt").write_text("1\n")
    asked = 0
    with tarfile.open(made / "test" / "0.tar", "w") as tar:
        about = balanced([sure_questions(p.captions) for p in pictures])
        for number, (picture, pairs) in enumerate(zip(pictures, about, strict=True)):
            if not (found := [{"question": question, "answers": [answer]} for question, answer in pairs]):
                continue
            asked += len(found)
            for suffix, content in (("png", small(picture.image)), ("json", json.dumps(found).encode())):
                member = tarfile.TarInfo(f"{number:06d}.{suffix}")
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
    print(f"questions: {asked:,} about {len(pictures):,} pictures", flush=True)
    return made
