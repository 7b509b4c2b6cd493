"""A pack of drawn pictures for a machine that has no curate: as `curate run` writes it, as far as training reads it.

pack = drawn_pack(Path("/tmp/pack"), samples=8192, side=256)
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import tarfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

SHARD = 1024
WORDS = (
    "a",
    "red",
    "old",
    "small",
    "house",
    "dog",
    "tree",
    "on",
    "the",
    "hill",
    "in",
    "evening",
    "light",
    "photo",
    "of",
)


def drawn_pack(folder: Path, samples: int, side: int) -> Path:
    """The folder of a pack of JPEGs of `side` pixels, some 20 kB each, in tars of 1,024."""
    if not (folder / "manifest.json").exists():
        (folder / "samples").mkdir(parents=True, exist_ok=True)
        files = {}
        with ThreadPoolExecutor(os.cpu_count()) as threads:
            for first in range(0, samples, SHARD):
                numbers = range(first, min(first + SHARD, samples))
                images = list(threads.map(lambda i: drawn(i, side), numbers))
                name = f"{first // SHARD:08d}.tar"
                files[name] = written(folder, name, dict(zip(numbers, images, strict=True)))
        manifest = {"files": files, "pack": {"samples": SHARD, "format": "webdataset", "repeat": "copies", "seed": 0}}
        (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder


def drawn(number: int, side: int) -> bytes:
    """Colours that change slowly, with the grain of a photo."""
    rng = np.random.default_rng(number)
    coarse = Image.fromarray(rng.integers(0, 255, (12, 12, 3), np.uint8)).resize((side, side), Image.Resampling.BICUBIC)
    grain = rng.normal(0, 8, (side, side, 1))
    out = io.BytesIO()
    Image.fromarray(np.clip(np.asarray(coarse) + grain, 0, 255).astype(np.uint8)).save(out, "JPEG", quality=90)
    return out.getvalue()


def caption(number: int) -> str:
    """Five to fourteen words."""
    rng = np.random.default_rng(number)
    return " ".join(rng.choice(WORDS, int(rng.integers(5, 15))))


def written(folder: Path, name: str, images: dict[int, bytes]) -> dict[str, int | str]:
    """Write a tar and its index; what the manifest says of it."""
    rows = []
    with tarfile.open(folder / name, "w", format=tarfile.USTAR_FORMAT) as tar:
        for number, image in images.items():
            uid, text = hashlib.md5(b"%d" % number).hexdigest(), caption(number)
            said = json.dumps({"uid": uid, "texts": [{"text": text, "p": 1.0}]}).encode()
            offset = tar.offset + tarfile.BLOCKSIZE
            for suffix, data in (("jpg", image), ("txt", text.encode()), ("json", said)):
                member = tarfile.TarInfo(f"{uid}.{suffix}")
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))
            sha256 = hashlib.sha256(image).hexdigest()
            rows.append({"uid": uid, "copy": 0, "offset": offset, "bytes": len(image), "sha256": sha256, "text": text})
    cut_padding(folder / name)
    pq.write_table(pa.Table.from_pylist(rows), folder / "samples" / name.replace(".tar", ".parquet"))
    data = (folder / name).read_bytes()
    return {"samples": len(images), "bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}


def cut_padding(path: Path) -> None:
    """tarfile fills the last record of 10 kB; ours end with two blocks of zeros."""
    data = path.read_bytes().rstrip(b"\0")
    with path.open("r+b") as file:
        file.truncate(-(-len(data) // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE + 2 * tarfile.BLOCKSIZE)
