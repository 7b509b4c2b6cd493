"""Hostile and mutated images through the decoders: an outcome each, no crash of the run, no hang, bounded memory.

    python bench/decode_fuzz.py [--quick] [--save bench/decode_fuzz.json]

Every file of shared/data/hostile, then 100,000 mutations (--quick: 2,000) of good JPEG, PNG, WebP and GIF files: bits
turned, bytes changed near the header, cut short, parts of another file put in. Seeded: a run can be repeated.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import json
import sys
import tarfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
from PIL import Image

sys.path[:0] = [str(Path(__file__).resolve().parent), str(Path(__file__).resolve().parent.parent)]
import common  # noqa: E402

from curate.run.fetch.decoder import Decoders  # noqa: E402
from curate.run.fetch.examine import Examined  # noqa: E402
from curate.run.fetch.spec import IngestSpec  # noqa: E402

NAMED = {"ok", "not_image", "bomb", "decode_error", "truncated", "too_small"}
MEMORY_GB = 1.0
SPEC = IngestSpec(allow_loopback=True, side=256, decode_timeout_s=20, decode_memory_gb=MEMORY_GB, decoders=2)
KINDS = ("bits", "header", "cut", "splice")


def good_files() -> dict[str, list[bytes]]:
    """A few small valid files of each format, of the kinds that go different ways in the codecs."""
    y, x = np.mgrid[0:96, 0:128]
    rgb = np.stack([x * 2 % 256, y * 2 % 256, (x * y) % 256], -1).astype(np.uint8)
    image = Image.fromarray(rgb)
    clear = Image.fromarray(np.dstack([rgb, (x * 2 % 256).astype(np.uint8)]))
    exif = Image.Exif()
    exif[0x0112] = 6

    def saved(picture: Image.Image, format: str, **options: object) -> bytes:
        out = io.BytesIO()
        picture.save(out, format, **options)
        return out.getvalue()

    frames = {"save_all": True, "append_images": [image.rotate(90), image.rotate(180)]}
    return {
        "jpeg": [
            saved(image, "JPEG"),
            saved(image, "JPEG", progressive=True, exif=exif),
            saved(image.convert("L"), "JPEG"),
            saved(image.convert("CMYK"), "JPEG"),
        ],
        "png": [
            saved(image, "PNG"),
            saved(clear, "PNG"),
            saved(image.convert("P"), "PNG"),
            saved(Image.fromarray((x * 500).astype(np.uint16)), "PNG"),
        ],
        "webp": [saved(image, "WEBP"), saved(clear, "WEBP", lossless=True), saved(image, "WEBP", **frames)],
        "gif": [saved(image, "GIF"), saved(image, "GIF", **frames)],
    }


def mutations(count: int, seed: int = 4) -> Iterator[tuple[str, bytes]]:
    """(format and kind, bytes) of `count` broken files."""
    files = good_files()
    everything = [data for group in files.values() for data in group]
    random = np.random.default_rng(seed)
    for i in range(count):
        name = list(files)[i % len(files)]
        kind = KINDS[i // len(files) % len(KINDS)]
        raw = bytearray(files[name][random.integers(len(files[name]))])
        if kind == "bits":
            for at in random.integers(0, len(raw), random.integers(1, 12)):
                raw[at] ^= 1 << random.integers(8)
        elif kind == "header":
            for at in random.integers(0, min(120, len(raw)), random.integers(1, 5)):
                raw[at] = random.integers(256)
        elif kind == "cut":
            del raw[random.integers(len(raw)) :]
        else:
            other = everything[random.integers(len(everything))]
            a, b = sorted(random.integers(0, len(other), 2))
            at = random.integers(len(raw))
            raw[at : at + random.integers(200)] = other[a:b]
        yield f"{name} {kind}", bytes(raw)


def hostile() -> Iterator[tuple[str, bytes]]:
    path = common.SHARED / "hostile/hostile_images.tar"
    if not path.exists():
        return
    with tarfile.open(path) as tar:
        for member in tar:
            file = tar.extractfile(member)
            if file is not None:
                yield "hostile", file.read()


class Watch(threading.Thread):
    """The largest memory of one decoder, in MB (resident)."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.peak = 0.0
        self.over = threading.Event()

    def run(self) -> None:
        while not self.over.wait(0.02):
            for process in psutil.Process().children():
                try:
                    self.peak = max(self.peak, process.memory_info().rss / 1e6)
                except psutil.NoSuchProcess:
                    continue


class Tally:
    """What became of all of them."""

    def __init__(self) -> None:
        self.outcomes: dict[str, Counter[str]] = {}
        self.given = 0
        self.slowest = 0.0
        self.lost: Counter[str] = Counter()
        self.wrong: list[str] = []

    def add(self, kind: str, found: Examined, seconds: float) -> None:
        self.outcomes.setdefault(kind, Counter())[found.outcome] += 1
        self.slowest = max(self.slowest, seconds)
        detail = found.detail or ""
        if detail.startswith("the decoder "):
            self.lost[detail] += 1
        if (
            found.outcome not in NAMED
            or not detail.isprintable()
            or (found.outcome == "ok") != (found.facts is not None)
        ):
            self.wrong.append(f"{kind}: {found.outcome} {detail!r}")


async def through(pool: Decoders, files: Iterator[tuple[str, bytes]], tally: Tally) -> None:
    """All files, a few at a time."""
    waiting: set[asyncio.Task[None]] = set()

    async def one(kind: str, data: bytes) -> None:
        started = time.monotonic()
        tally.add(kind, await pool.examine(data, None, SPEC), time.monotonic() - started)

    for kind, data in files:
        tally.given += 1
        waiting.add(asyncio.create_task(one(kind, data)))
        if len(waiting) >= pool.ahead:
            done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
    for task in waiting:
        await task


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--quick", action="store_true", help="2,000 mutations, not 100,000")
    options.add_argument("--save", type=Path, help="write the bars to this file too")
    asked = options.parse_args()
    count = 2_000 if asked.quick else 100_000
    pool, tally, watch = Decoders(SPEC), Tally(), Watch()
    watch.start()
    started = time.monotonic()

    async def work() -> None:
        await through(pool, hostile(), tally)
        await through(pool, mutations(count), tally)

    try:
        asyncio.run(work())
    finally:
        watch.over.set()
        pool.close()
    seconds = time.monotonic() - started
    for kind, outcomes in sorted(tally.outcomes.items()):
        print(f"{kind:<14} " + "  ".join(f"{name} {n}" for name, n in sorted(outcomes.items())))
    for what, n in tally.lost.items():
        print(f"lost decoders: {n} x {what}")
    for line in tally.wrong[:20]:
        print("WRONG", line)
    answered = sum(outcomes.total() for outcomes in tally.outcomes.values())
    print(f"{answered} images in {seconds:.0f} s")
    # Two images are with a decoder at a time, so one may wait for the other.
    bars = {
        "fuzz_mutations": common.bar(count, 100_000, None if asked.quick else count >= 100_000),
        "fuzz_without_an_outcome": common.at_most(tally.given - answered + len(tally.wrong), 0),
        "fuzz_slowest_seconds": common.at_most(tally.slowest, 2 * SPEC.decode_timeout_s + 5),
        "fuzz_decoder_peak_mb": common.at_most(watch.peak, 1000 * MEMORY_GB + 200, 0),
        "fuzz_hung": common.at_most(sum(n for what, n in tally.lost.items() if "not done" in what), 0),
    }
    print(json.dumps({"lost_decoders": dict(tally.lost)}))
    common.finish(bars, asked.save)


if __name__ == "__main__":
    main()
