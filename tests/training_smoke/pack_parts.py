"""Packs as `curate run` makes them, small, with pictures of all stored formats and several shapes."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import torch
from PIL import Image
from torch import Tensor

from stages.base import fact
from tests.run.packing import WEB, Packer, build
from tests.tiny import sample
from training_smoke.packs import Pack

SHAPES = ((16, 16), (40, 24), (24, 41), (7, 90))
FORMATS = (("jpg", "JPEG"), ("png", "PNG"), ("webp", "WEBP"))
TWO = ({"copies": 1, "texts": [{"source": "web", "index": 0, "p": 0.25}, {"source": "alt", "index": 0, "p": 0.75}]},)


def picture(number: int, format: str) -> bytes:
    """Smooth colours that differ by number."""
    width, height = SHAPES[number % len(SHAPES)]
    y, x = np.mgrid[0:height, 0:width]
    rgb = np.stack([x * 255 // width, y * 255 // height, np.full_like(x, number * 37 % 256)], -1).astype(np.uint8)
    out = io.BytesIO()
    Image.fromarray(rgb).save(out, format)
    return out.getvalue()


def pictures(count: int, first: int = 0, **more: Any) -> list[dict[str, Any]]:
    """Samples first, first + 1, ... as `tests.tiny.sample` has them."""
    found = []
    for i in range(first, first + count):
        suffix, name = FORMATS[i % len(FORMATS)]
        found.append(sample(i, **{"image": picture(i, name), "format": suffix, "emit": WEB} | more))
    return found


def copies(n: int) -> tuple[dict[str, Any], ...]:
    return ({"copies": n, "texts": WEB[0]["texts"]},)


def packed(folder: Path, samples: Sequence[dict[str, Any]], /, seed: int = 0, **spec: Any) -> Path:
    """The folder of a pack of these samples; the text source "alt" is their url."""
    packer = Packer(build(folder / "pool", [samples]), {"web": fact("text"), "alt": fact("url")})
    packer.pack(seed, **spec)
    return folder / "pool" / "packs" / packer.folders[0]


def codes(texts: list[str]) -> Tensor:
    """A tokeniser that loses nothing of a short text: its bytes, int64 [n, 48]."""
    out = torch.zeros(len(texts), 48, dtype=torch.int64)
    for row, text in zip(out, texts, strict=True):
        raw = text.encode()[:48]
        row[: len(raw)] = torch.tensor(list(raw))
    return out


def words(tokens: Tensor) -> list[str]:
    """What `codes` was given."""
    return [bytes(t for t in row if t).decode() for row in tokens.tolist()]


EMITS = (WEB, TWO, copies(3), (), WEB)


def thirty(root: Path) -> Path:
    """The folder of a pack of 30 samples of 20 pictures in 4 tars: some with two texts, some in three copies."""
    return packed(root, [pictures(1, i, emit=EMITS[i % 5])[0] for i in range(25)], samples=8)


def put(folder: Path, url: str) -> None:
    fs, root = fsspec.core.url_to_fs(url)
    for path in folder.rglob("*.*"):
        fs.pipe_file(f"{root}/{path.relative_to(folder)}", path.read_bytes())


def by_tarfile(folder: Path) -> list[dict[str, Any]]:
    """Samples in the order of the tars, by Python's own reader."""
    found: list[dict[str, Any]] = []
    for path in sorted(folder.glob("*.tar")):
        with tarfile.open(path) as tar:
            members = [(m.name, tar.extractfile(m).read()) for m in tar]  # type: ignore[union-attr]
        for image, _, said in zip(*[iter(members)] * 3, strict=True):
            found.append({"name": image[0], "image": image[1], "json": json.loads(said[1])})
    return found


def check_same(pack: Pack, folder: Path) -> None:
    expected = by_tarfile(folder)
    assert len(pack) == len(expected)
    for i, e in enumerate(expected):
        texts = [(t["text"], t["p"]) for t in e["json"]["texts"]]
        one = pack.read(i)
        assert (one.uid, one.image, one.texts) == (e["json"]["uid"], e["image"], texts)
        assert (pack.image_bytes(i), pack.texts(i)) == (e["image"], texts)
