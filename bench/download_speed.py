"""Images per CPU-second and per second of the clock: same pixels, scaled decode, original bytes; ours and img2dataset.

The server is nginx on this machine, so what is measured is the client. Start-up is measured apart, as a short run of
the same kind, and subtracted. The codec alone, on the same images, is what no downloader can be faster than.
"""

from __future__ import annotations

import json
import math
import statistics
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from common import NOT_MEASURED, Bar, at_least, environment
from download_common import MOSAICS, Rate, Took, img2dataset_python, mosaics, ours, static_server, theirs

SPEC: dict[str, Any] = {"allow_loopback": True, "host_rate": None, "per_host": 64, "concurrency": 64}
PIXELS: dict[str, Any] = {"resize": "short", "side": 256, "quality": 95}
EQUAL_WORK: dict[str, Any] = {"phash": False}
"""img2dataset makes no perceptual hash. What ours costs is told beside, as "same, hashed"."""
MINE: dict[str, dict[str, Any]] = {
    "same": SPEC | PIXELS | EQUAL_WORK,
    "same, hashed": SPEC | PIXELS,
    "scaled": SPEC | PIXELS | EQUAL_WORK | {"decode": "scaled"},
    "original": SPEC | {"resize": "none", "decode": "header"},
}
SAME = {"image_size": 256, "resize_mode": "keep_ratio", "resize_only_if_bigger": True, "encode_quality": 95}
CORES = {"processes_count": 2, "thread_count": 32}
"""Its manual: as many processes as cores. Of 32 and 64 threads 32 were faster with pixels, and no slower without."""
THEIRS: dict[str, dict[str, Any]] = {
    "same": SAME | CORES,
    "original": {"disable_all_reencoding": True} | CORES | {"thread_count": 64},
}
SHORT = 200


def measure(quick: bool) -> dict[str, Bar]:
    urls, passes = (800, 1) if quick else (10_000, 5)
    short: dict[str, list[Took]] = {}
    long: dict[str, list[Took]] = {}
    with static_server(mosaics()) as base:
        for i in range(passes):
            for side in ("theirs", "ours"):
                for kind in THEIRS if side == "theirs" else MINE:
                    if side == "theirs" and img2dataset_python() is None:
                        continue
                    name = f"{side} {kind}"
                    more = 4 * urls if quick and kind == "original" else urls  # so quick that start-up drowns it
                    short.setdefault(name, []).append(_run(side, kind, _urls(base, SHORT, f"{i}s")))
                    long.setdefault(name, []).append(_run(side, kind, _urls(base, more, f"{i}l")))
                    rate = Rate.between(short[name][-1], long[name][-1])
                    print(f"{name}: {rate.cpu_ms:.3f} CPU-ms an image, {rate.per_s:.0f}/s", flush=True)
    found = {name: Rate.between(_median(short[name]), _median(long[name])) for name in long}
    _show(found, short)
    return _bars(found, _alone(mosaics(), 100 if quick else MOSAICS))


def _alone(folder: Path, count: int) -> dict[str, float]:
    """codec_ms in two processes at once, as many as decoders, so that both have the same share of caches and memory."""
    command = [sys.executable, __file__, str(folder), str(count)]
    one_thread = environment({"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"})
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=one_thread) for _ in range(2)]
    said = [process.communicate()[0] for process in running]
    print(said[0], end="", flush=True)
    found = [json.loads(each.splitlines()[-1]) for each in said]
    return {kind: statistics.mean(f[kind] for f in found) for kind in found[0]}


def _urls(base: str, count: int, tag: str) -> list[str]:
    """Different URLs of the same few hundred files."""
    return [f"{base}/{i % MOSAICS}.jpg?{tag}{i}" for i in range(count)]


def _run(side: str, kind: str, urls: list[str]) -> Took:
    """All images must come; shards so large that each process of img2dataset has several."""
    shard = max(100, len(urls) // 8)
    if side == "ours":
        took = ours(f"speed-ours-{kind}", urls, MINE[kind], len(urls))
    else:
        took = theirs(f"speed-theirs-{kind}", urls, THEIRS[kind], shard)
    if took.ok != took.urls:
        raise RuntimeError(f"{side}, {kind}: only {took.ok} of {took.urls} came: {took.outcomes}")
    return took


def _median(runs: list[Took]) -> Took:
    """Of equal runs; start-up varies by seconds, so that medians are subtracted, not runs."""
    wall, cpu = statistics.median(t.wall for t in runs), statistics.median(t.cpu for t in runs)
    return replace(runs[0], wall=wall, cpu=cpu)


def _show(found: dict[str, Rate], started: dict[str, list[Took]]) -> None:
    print(f"{'':<18} {'CPU-ms/image':>13} {'images/CPU-s':>13} {'images/s':>9}   start-up (with {SHORT} images)")
    for name, r in found.items():
        s = _median(started[name])
        start = f"{s.cpu:.1f} CPU-s, {s.wall:.1f} s"
        print(f"{name:<18} {r.cpu_ms:>13.3f} {1000 / r.cpu_ms:>13.0f} {r.per_s:>9.0f}   {start}", flush=True)


def _bars(found: dict[str, Rate], codec: dict[str, float]) -> dict[str, Bar]:
    mine = {kind: found[f"ours {kind}"] for kind in MINE}
    names = {"same": 1.15, "scaled": 1.7, "original": 4.0}
    bars = {f"{k}_times_img2dataset_per_cpu_s": NOT_MEASURED for k in names} | {"same_times_wall": NOT_MEASURED}
    if "theirs same" in found:
        their = {"same": found["theirs same"], "original": found["theirs original"]}
        for kind, limit in names.items():
            base = their["original" if kind == "original" else "same"].cpu_ms
            bars[f"{kind}_times_img2dataset_per_cpu_s"] = at_least(base / mine[kind].cpu_ms, limit)
        bars["same_times_wall"] = at_least(mine["same"].per_s / their["same"].per_s, 1.5)
    bars["same_share_of_codec"] = at_least(codec["full"] / mine["same"].cpu_ms, 0.85)
    bars["scaled_share_of_codec"] = at_least(codec["scaled"] / mine["scaled"].cpu_ms, 0.70)
    return bars


def codec_ms(folder: Path, count: int) -> dict[str, float]:
    """CPU milliseconds an image of decoding, our area averages and encoding at q95 alone, in one thread."""
    import cv2
    import simplejpeg

    from curate.run.fetch.examine import examine
    from curate.run.fetch.spec import IngestSpec
    from stages.resize import resized

    cv2.setNumThreads(1)
    images = [(folder / f"{i}.jpg").read_bytes() for i in range(count)]

    def smaller(pixels: Any) -> Any:
        return resized(pixels, "short", 256)  # faster than cv2.resize, with the same pixels

    def full(data: bytes) -> object:
        pixels = smaller(simplejpeg.decode_jpeg(data, "BGR"))
        return cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, 95])[1]

    def scaled(data: bytes) -> object:
        h, w, *_ = simplejpeg.decode_jpeg_header(data)
        least = 256 / min(h, w)
        part = 2 ** -min(3, math.floor(math.log2(1 / least)))
        small = simplejpeg.decode_jpeg(data, "BGR", min_height=math.ceil(h * part), min_width=math.ceil(w * part))
        return cv2.imencode(".jpg", smaller(small), [cv2.IMWRITE_JPEG_QUALITY, 95])[1]

    found = {"full": _ms(full, images), "scaled": _ms(scaled, images)}
    parts = {k: _ms(lambda d, s=IngestSpec(**MINE[k]): examine(d, None, s), images) for k in MINE}
    print("codec alone:", ", ".join(f"{k} {v:.3f} ms" for k, v in found.items()))
    print("our examine:", ", ".join(f"{k} {v:.3f} ms" for k, v in parts.items()), "(the rest is HTTP, gate, tar, log)")
    return found


def _ms(work: Any, images: list[bytes]) -> float:
    for data in images[:5]:
        work(data)
    began = time.process_time()
    for data in images:
        work(data)
    return 1000 * (time.process_time() - began) / len(images)


if __name__ == "__main__":
    print(json.dumps(codec_ms(Path(sys.argv[1]), int(sys.argv[2]))))
