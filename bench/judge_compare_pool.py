"""A pool of real pictures with as many kinds of faults as published recipes look for, and what those recipes are given.

    made = make(SHARED, folder, seed=3000)        # pool, clean, labelled.parquet and held_out/flickr8k in the folder
    give(SHARED, folder, network)                 # given/: the files that recipes name, made of the clean quarter

Pictures and captions are Flickr8k's. Beside mismatches and copies (bench/judge_data.py) there are texts that say
nothing (titles that people gave their Flickr photos), true captions in Chinese or Arabic, thumbnails, and strips cut
out of pictures. `truth` names the fault; no filter but the oracle's reads it.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import xxhash
from judge_data import Made, Picture, encoded_anew, pick, row, split, write_held_out, write_table
from judge_demo import JUDGED
from PIL import Image

SHARES = {"mismatched": 0.30, "says_nothing": 0.10, "foreign": 0.10, "thumbnail": 0.05, "strip": 0.05}
"""Of distinct pictures; the others are clean. What makes the rows of copies is as in bench/judge_data.py."""
CLEAN = 0.25  # of pictures, for the network: of a tenth it learns too little to be worth a recipe
LABELLED = 0.1  # of pictures, half of them mismatched: for mixers that learn from what people have called good or bad
NETWORK = {"samples": 20_480, **JUDGED, "towers": {"image_size": 48}}
"""Over scale `tiny`; settled on seed 7: AUROC for mismatches 0.73, of the scale's own settings 0.64."""
MATCHING = ("clean", "foreign", "thumbnail", "strip")
COPIES, COPIED = 0.2, 0.005
SIDES = (64, 160)  # of thumbnails
ASPECT = 3.5  # of strips
CURSES = ("damn", "hell", "crap", "bastard", "shit", "fuck")


def make(data: Path, folder: Path, seed: int) -> Made:
    """The lists; the same seed, the same files."""
    folder.mkdir(parents=True, exist_ok=True)
    held, free, near = split("flickr8k", data)
    rng = np.random.default_rng([seed, xxhash.xxh32_intdigest(b"recipes")])
    order = rng.permutation(len(free))
    cuts = np.cumsum([round(CLEAN * len(free)), round(LABELLED * len(free))])
    clean, known, rest = ([free[i] for i in part] for part in np.split(order, cuts))
    rows = faulty(rest, data, rng)
    said = [row(p, c, "clean") for p in clean for c in p.captions]
    counts = {"distinct": len(rest), "rows": len(rows), "clean": len(clean), "held_out": len(held), "near": near}
    for truth in (*SHARES, "clean", "copy"):
        counts[f"rows_{truth}"] = sum(r["truth"] == truth for r in rows)
    pool, clean_path = write_table(folder / "pool.parquet", rows), write_table(folder / "clean.parquet", said)
    write_table(folder / "labelled.parquet", labelled(known, rng))
    return Made(pool, clean_path, write_held_out(folder / "held_out" / "flickr8k", "flickr8k", held), counts)


def faulty(pictures: Sequence[Picture], data: Path, rng: np.random.Generator) -> list[dict[str, Any]]:
    """Each picture once, each share of them with its fault; then copies of a few, with what the first has."""
    kinds = drawn_kinds(len(pictures), rng)
    titles, foreign = titles_of(data), foreign_of(data)
    rows = []
    for number, (picture, kind) in enumerate(zip(pictures, kinds, strict=True)):
        caption = pick(rng, picture)
        if kind == "mismatched":
            caption = pick(rng, other_than(picture, pictures, rng))
        elif kind == "says_nothing":
            caption = titles[int(rng.integers(len(titles)))]
        elif kind == "foreign":
            own = foreign[picture.key]
            caption = own[int(rng.integers(len(own)))]
        shown = replace(picture, image=spoiled(picture.image, kind, rng))
        rows.append(
            row(shown, caption, kind, matches=kind in ("clean", "foreign", "thumbnail", "strip"), number=number)
        )
    return with_copies(rows, rng)


def labelled(pictures: Sequence[Picture], rng: np.random.Generator) -> list[dict[str, Any]]:
    """Every other picture with a caption of another."""
    rows = []
    for number, picture in enumerate(pictures):
        kind = "mismatched" if number % 2 else "clean"
        of = other_than(picture, pictures, rng) if number % 2 else picture
        rows.append(row(picture, pick(rng, of), kind, number=number))
    return rows


def drawn_kinds(n: int, rng: np.random.Generator) -> list[str]:
    kinds = [kind for kind, share in SHARES.items() for _ in range(round(share * n))]
    kinds += ["clean"] * (n - len(kinds))
    return [kinds[i] for i in rng.permutation(n)]


def other_than(picture: Picture, pictures: Sequence[Picture], rng: np.random.Generator) -> Picture:
    """Another picture, whose captions cannot be said of this one."""
    while (other := pictures[int(rng.integers(len(pictures)))]).answers(picture):
        pass
    return other


def spoiled(image: bytes, kind: str, rng: np.random.Generator) -> bytes:
    """A thumbnail, or a strip out of the middle; other kinds keep their bytes."""
    if kind not in ("thumbnail", "strip"):
        return image
    opened = Image.open(io.BytesIO(image)).convert("RGB")
    wide, high = opened.size
    if kind == "thumbnail":
        side = int(rng.integers(SIDES[0], SIDES[1]))
        opened = opened.resize((side, side * high // wide), Image.Resampling.LANCZOS)
    else:
        part = int(wide / ASPECT)
        opened = opened.crop((0, (high - part) // 2, wide, (high + part) // 2))
    out = io.BytesIO()
    opened.save(out, "JPEG", quality=85)
    return out.getvalue()


def with_copies(rows: list[dict[str, Any]], rng: np.random.Generator) -> list[dict[str, Any]]:
    """A few rows many times more: half of the copies byte for byte, half encoded anew."""
    n = len(rows)
    copied = rng.permutation(n)[: max(1, round(COPIED * n))]
    more = []
    for number in range(round(n * COPIES / (1 - COPIES))):
        first = rows[int(copied[number % len(copied)])]
        image = first["image"]
        if number // len(copied) % 2:
            image = encoded_anew(image, quality=int(rng.integers(60, 96)))
        more.append(first | {"uid": f"{first['uid']}+{number}", "image": image, "truth": "copy"})
    everything = [*rows, *more]
    return [everything[i] for i in rng.permutation(len(everything))]


def titles_of(data: Path) -> list[str]:
    """What people called their photos: file names, places, jokes."""
    said = pq.read_table(data / "text/openimages_xm3600_titles.parquet", columns=["title"]).column("title").to_pylist()
    return sorted({t.strip() for t in said if t and t.strip()})


def foreign_of(data: Path) -> dict[str, list[str]]:
    """Key -> true captions in Chinese and Arabic."""
    found: dict[str, list[str]] = {}
    for path in sorted((data / "images").glob("pairs_flickr8k-*.parquet")):
        for r in pq.read_table(path, columns=["key", "captions_zh", "captions_ar"]).to_pylist():
            found[r["key"]] = [t.strip() for t in [*(r["captions_zh"] or []), *(r["captions_ar"] or [])] if t.strip()]
    return found


# ---------------------------------------------------------------- what recipes are given


def give(data: Path, folder: Path, network: Path) -> None:
    """given/ in the folder: for each name that a published recipe asks for, what stands in for it here.

    All CLIPs are the one network. Targets are the pictures and captions of the clean quarter.
    """
    given = folder / "given"
    given.mkdir(exist_ok=True)
    for name in ("dfn.pt", "openai-b32.pt", "openai-l14.pt", "xlm-roberta-b32.pt"):
        (given / name).symlink_to(network.absolute())
    vectors = clean_vectors(folder / "clean.parquet", network)
    for name in ("imagenet_l14.npy", "downstream_l14.npy"):
        np.save(given / name, vectors)
    (given / "captions.txt").write_text("".join(f"{line}\n" for line in captions(folder / "clean.parquet")), "utf-8")
    (given / "profanity.txt").write_text("".join(f"{word}\n" for word in CURSES))
    (given / "metadata.json").symlink_to((data / "classnames" / "metadata_standin.json").absolute())
    for name in ("imagenet21k_synsets.txt", "imagenet1k_synsets.txt"):
        (given / name).symlink_to((data / "classnames" / name).absolute())


def clean_vectors(path: Path, network: Path) -> np.ndarray:
    """float32 [pictures, dim], unit length: the network's, of each clean picture once."""
    from training_smoke.evaluate.encoders import TowerEncoders
    from training_smoke.evaluate.folders import Sample
    from training_smoke.evaluate.measures import encode
    from training_smoke.towers_file import load_towers

    table = pq.read_table(path, columns=["picture", "image"]).to_pylist()
    pictures = {r["picture"]: r["image"] for r in table}
    samples = (Sample(key, image, ()) for key, image in sorted(pictures.items()))
    vectors: np.ndarray = encode(TowerEncoders(load_towers(network)), samples).features.numpy()
    return vectors


def captions(path: Path) -> Iterator[str]:
    """One line each, white space made single."""
    for text in pq.read_table(path, columns=["caption"]).column("caption").to_pylist():
        yield " ".join(text.split())
