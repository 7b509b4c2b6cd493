"""Pools of real pictures with known faults, a clean tenth beside each, and held-out sets, from ../shared/data.

    made = make("cifar10", SHARED, WORK / "judge", seed=0)
    made.pool, made.clean, made.held_out          # parquet, parquet, folder in CLIP_benchmark's layout
    judged(SHARED, WORK / "judge")                # parquet: Flickr8k's pictures and captions with people's scores

The pool is a list as `curate run` reads it: image bytes, one caption, and the truth in columns that no filter but an
oracle's reads. `truth` is "clean"; "mismatched": the caption is another picture's; or "copy": of a picture that stands
there already, the same file or encoded anew, with a caption from where the first has it. The clean tenth has a row for
every caption of its pictures. The seed draws what is clean, mismatched and copied; what is held out is the same for all
seeds, and no picture within 4 bits of one that is held out (pHash-64, our own) is in pool or tenth.
"""

from __future__ import annotations

import io
import json
import os
import shutil
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import xxhash
from PIL import Image

from stages.fingerprint import of_image

SOURCES = ("cifar10", "flickr8k", "products")
MISMATCHED, COPIES, CLEAN = 0.5, 0.25, 0.1  # of distinct pictures; of rows; of distinct pictures
COPIED = 0.005  # of distinct pictures: few, many times each, as on the web
NEAR = 4  # bits of pHash-64
HELD_PER_CLASS, HELD_PRODUCTS = 100, 500
SIDE = 64  # pixels; larger held-out pictures are made smaller once, not in every evaluation

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
SAID = (
    "a photo of one {}", "a picture of the {}", "the {} outdoors", "this is the {}", "some {} in the middle",
    "a small photo of the {}", "a blurry {}", "look at this {}", "the {} that we saw", "my favourite {}",
)  # fmt: skip
TEMPLATES = ("a photo of one {c}", "a picture of the {c}", "this is the {c}")


@dataclass(frozen=True, eq=False)
class Picture:
    """label: its class where it has one; captions: all that may truly be said of it."""

    key: str
    image: bytes
    captions: tuple[str, ...]
    label: str = ""
    held_out: bool = False

    def answers(self, other: Picture) -> bool:
        """Could the other's captions be said of this one?"""
        return self.label == other.label if self.label else bool({*self.captions} & {*other.captions})


@dataclass(frozen=True)
class Made:
    """Where all of one replicate lies; counts: rows and distinct pictures of each part, and how many were too near."""

    pool: Path
    clean: Path
    held_out: Path
    counts: dict[str, int]


def make(source: str, data: Path, folder: Path, seed: int) -> Made:
    """Write <folder>/<source>-<seed>-pool.parquet, -clean.parquet and <folder>/wds_<source>; the same seed, the same
    files."""
    folder.mkdir(parents=True, exist_ok=True)
    held, free, near = split(source, data)
    rng = np.random.default_rng([seed, xxhash.xxh32_intdigest(source.encode())])
    order = rng.permutation(len(free))
    tenth = round(CLEAN * len(free))
    clean, rest = ([free[i] for i in part] for part in (order[:tenth], order[tenth:]))
    rows = faulty(rest, rng)
    pool = write_table(folder / f"{source}-{seed}-pool.parquet", rows)
    said = [row(p, c, "clean") for p in clean for c in p.captions]
    counts = {"distinct": len(rest), "rows": len(rows), "clean": len(clean), "held_out": len(held), "near": near}
    clean_path = write_table(folder / f"{source}-{seed}-clean.parquet", said)
    return Made(pool, clean_path, write_held_out(folder / f"wds_{source}", source, held), counts)


# ---------------------------------------------------------------- pictures


@cache
def split(source: str, data: Path) -> tuple[list[Picture], list[Picture], int]:
    """(held out, free for pool and tenth, how many were left out because they are near to a held-out one)."""
    pictures = sorted(_read(source, data), key=lambda p: p.key)
    held, others = ([p for p in pictures if p.held_out is side] for side in (True, False))
    hashes = np.array([_phash(p) for p in held], np.uint64)
    free = [p for p in others if np.bitwise_count(hashes ^ _phash(p)).min() > NEAR]
    return held, free, len(others) - len(free)


def _phash(picture: Picture) -> np.uint64:
    return np.uint64(of_image(Image.open(io.BytesIO(picture.image)).convert("RGB")).phash64)


def _read(source: str, data: Path) -> Iterator[Picture]:
    match source:
        case "cifar10":
            return _cifar10(data / "images/labelled_eval.parquet")
        case "flickr8k":
            return _flickr8k(data)
        case "products":
            return _products(data / "images/pairs_web_products_coco.parquet")
    raise ValueError(f"no pictures of {source!r}; there are {', '.join(SOURCES)}")


def _cifar10(path: Path) -> Iterator[Picture]:
    """The first pictures of each class, in an order that has nothing to do with them, are held out."""
    seen = dict.fromkeys(CLASSES, 0)
    table = pq.read_table(path, columns=["key", "source", "label", "image"], filters=[("source", "=", "cifar10")])
    for r in sorted(table.to_pylist(), key=by_chance):
        captions = tuple(said.format(r["label"]) for said in SAID)
        yield Picture(r["key"], r["image"], captions, r["label"], held_out=seen[r["label"]] < HELD_PER_CLASS)
        seen[r["label"]] += 1


def _flickr8k(data: Path) -> Iterator[Picture]:
    """Held out: the official test and development pictures, those that people judged captions of among them."""
    for path in sorted((data / "images").glob("pairs_flickr8k-*.parquet")):
        for r in pq.read_table(path, columns=["key", "captions", "upstream_split", "image"]).to_pylist():
            held = r["upstream_split"] in ("test", "dev")
            yield Picture(r["key"], r["image"], tuple(map(str.strip, r["captions"])), held_out=held)


def _products(path: Path) -> Iterator[Picture]:
    """Product shots with their titles; held out are some whose title no other has."""
    table = pq.read_table(path, columns=["key", "source", "captions", "image"])
    rows = [r for r in table.to_pylist() if r["source"] in ("fashion", "ikea_product") and r["captions"]]
    titles: dict[str, int] = {}
    for r in rows:
        titles[r["captions"][0]] = titles.get(r["captions"][0], 0) + 1
    held = 0
    for r in sorted(rows, key=by_chance):
        mine = held < HELD_PRODUCTS and titles[r["captions"][0]] == 1
        held += mine
        yield Picture(r["key"], r["image"], (r["captions"][0],), held_out=mine)


def by_chance(row: dict[str, Any]) -> int:
    """Sorts rows in an order that has nothing to do with them, the same everywhere."""
    return xxhash.xxh64_intdigest(row["key"].encode())


# ---------------------------------------------------------------- faults


def faulty(pictures: Sequence[Picture], rng: np.random.Generator) -> list[dict[str, Any]]:
    """Rows of the pool: each picture once, half of them with a caption of another, and copies of a few."""
    n = len(pictures)
    donors = np.arange(n)  # whose caption a picture has
    for i in rng.permutation(n)[: round(MISMATCHED * n)]:
        while pictures[int(i)].answers(pictures[int(donors[i])]):
            donors[i] = rng.integers(n)
    rows = [
        row(p, pick(rng, pictures[int(d)]), "clean" if d == i else "mismatched")
        for i, (p, d) in enumerate(zip(pictures, donors, strict=True))
    ]
    copied = rng.permutation(n)[: max(1, round(COPIED * n))]
    for number in range(round(n * COPIES / (1 - COPIES))):
        i = int(copied[number % len(copied)])
        again = row(pictures[i], pick(rng, pictures[donors[i]]), "copy", matches=bool(donors[i] == i), number=number)
        if number // len(copied) % 2:
            again["image"] = encoded_anew(pictures[i].image, quality=int(rng.integers(60, 96)))
        rows.append(again)
    return [rows[i] for i in rng.permutation(len(rows))]


def row(picture: Picture, caption: str, truth: str, matches: bool | None = None, number: int = -1) -> dict[str, Any]:
    """One row of a list. `uid` names the row, as copies with one caption must not be taken for one sample."""
    return {
        "uid": f"{picture.key}#{number}"
        if number >= 0
        else f"{picture.key}#{xxhash.xxh32_hexdigest(caption.encode())}",
        "image": picture.image,
        "caption": caption,
        "truth": truth,
        "matches": truth == "clean" if matches is None else matches,
        "picture": picture.key,
        "label": picture.label,
    }


def pick(rng: np.random.Generator, picture: Picture) -> str:
    return picture.captions[int(rng.integers(len(picture.captions)))]


def encoded_anew(image: bytes, quality: int) -> bytes:
    out = io.BytesIO()
    Image.open(io.BytesIO(image)).convert("RGB").save(out, "JPEG", quality=quality)
    return out.getvalue()


# ---------------------------------------------------------------- files


def write_table(path: Path, rows: Sequence[dict[str, Any]]) -> Path:
    temporary = path.with_suffix(f".{os.getpid()}.part")  # replicates are made by several processes
    pq.write_table(pa.Table.from_pylist(list(rows)), temporary, row_group_size=500)
    temporary.replace(path)
    return path


def write_held_out(folder: Path, source: str, pictures: Sequence[Picture]) -> Path:
    """An evaluation set in CLIP_benchmark's layout: classes and templates, or retrieval."""
    if folder.exists():
        return folder
    making = folder.with_suffix(f".{os.getpid()}.part")
    shutil.rmtree(making, ignore_errors=True)
    (making / "test").mkdir(parents=True)
    classes = list(CLASSES) if source == "cifar10" else []
    if classes:
        (making / "classnames.txt").write_text("\n".join(classes) + "\n")
        (making / "zeroshot_classification_templates.txt").write_text("\n".join(TEMPLATES) + "\n")
    else:
        (making / "dataset_type.txt").write_text("retrieval\n")
    (making / "test" / "nshards.txt").write_text("1\n")
    with tarfile.open(making / "test" / "0.tar", "w") as tar:
        for number, p in enumerate(pictures):
            _add(tar, f"{number:06d}.png", small(p.image))
            answer = str(classes.index(p.label)) if classes else "\n".join(p.captions)
            _add(tar, f"{number:06d}.{'cls' if classes else 'txt'}", answer.encode())
    try:
        making.replace(folder)
    except OSError:
        if not folder.is_dir():
            raise
        shutil.rmtree(making)  # another process made the same
    return folder


def _add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(data)
    tar.addfile(member, io.BytesIO(data))


def small(image: bytes) -> bytes:
    """The picture as PNG with the shorter side at most `SIDE`, as evaluation would shrink it."""
    opened = Image.open(io.BytesIO(image)).convert("RGB")
    if min(opened.size) > SIDE:
        wide, high = (SIDE if s == min(opened.size) else int(SIDE * s / min(opened.size)) for s in opened.size)
        opened = opened.resize((wide, high), Image.Resampling.BICUBIC)
    out = io.BytesIO()
    opened.save(out, "PNG")
    return out.getvalue()


def judged(data: Path, folder: Path) -> Path:
    """Pictures and captions that people judged: `judges` and `score`, the mean of 1..4 of three experts, or the share
    of a crowd that said yes."""
    folder.mkdir(parents=True, exist_ok=True)
    held, _, _ = split("flickr8k", data)
    image_of = {p.key: small(p.image) for p in held}
    rows = []
    for r in pq.read_table(data / "text/flickr8k_human_judgments.parquet").to_pylist():
        expert = r["judges"] == "expert"
        score = (r["score_1"] + r["score_2"] + r["score_3"]) / 3 if expert else r["frac_yes"]
        about = {"judges": r["judges"], "score": float(score), "picture": r["key"]}
        uid = json.dumps([r["key"], r["caption_id"], r["judges"]])
        rows.append({"uid": uid, "image": image_of[r["key"]], "caption": r["caption"].strip(), **about})
    return write_table(folder / "flickr8k-judged.parquet", rows)
