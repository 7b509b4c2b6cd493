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
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from common import NOT_MEASURED, Bar, at_least, bar, environment
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
    codec: list[dict[str, float]] = []
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
            codec.append(_alone(mosaics(), 100 if quick else MOSAICS))
    rates = {name: [Rate.between(_median(short[name]), each) for each in long[name]] for name in long}
    _show({name: Rate.between(_median(short[name]), _median(long[name])) for name in long}, short)
    return _bars(rates, codec)


def _bars(rates: dict[str, list[Rate]], codec: list[dict[str, float]]) -> dict[str, Bar]:
    """Ratios are medians over the passes, each of what was measured beside each other."""

    def cpu(name: str) -> list[float]:
        return [rate.cpu_ms for rate in rates[name]]

    names = {"same": 1.15, "scaled": 1.7, "original": 4.0}
    bars = {f"{k}_times_img2dataset_per_cpu_s": NOT_MEASURED for k in names} | {"same_times_wall": NOT_MEASURED}
    if "theirs same" in rates:
        for kind, limit in names.items():
            theirs = cpu("theirs original" if kind == "original" else "theirs same")
            bars[f"{kind}_times_img2dataset_per_cpu_s"] = at_least(_ratio(theirs, cpu(f"ours {kind}")), limit)
        walls = ([rate.per_s for rate in rates[f"{side} same"]] for side in ("ours", "theirs"))
        bars["same_times_wall"] = at_least(_ratio(*walls), 1.5)
    for kind, limit in (("same", 0.85), ("scaled", 0.70)):
        mine = cpu(f"ours {kind}")
        bars[f"{kind}_share_of_codec"] = at_least(_ratio([c[kind] for c in codec], mine), limit)
        own = _ratio([c[f"{kind}, own areas"] for c in codec], mine)
        bars[f"{kind}_share_of_codec_with_our_areas"] = bar(round(own, 3), "told only", None)
    return bars


def _ratio(a: list[float], b: list[float]) -> float:
    return statistics.median(x / y for x, y in zip(a, b, strict=True))


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


def codec_ms(folder: Path, count: int) -> dict[str, float]:
    """CPU milliseconds an image of decoding, averaging areas and encoding at q95 alone, in one thread.

    "same", "scaled": with the fastest libraries there are (simplejpeg, OpenCV). "..., own areas": with our loop in
    place of OpenCV's, to the same pixels: what is left then is all that is not pixels.
    """
    import cv2
    import simplejpeg

    from curate.run.fetch.examine import examine
    from curate.run.fetch.spec import IngestSpec
    from stages.resize import resized

    cv2.setNumThreads(1)
    images = [(folder / f"{i}.jpg").read_bytes() for i in range(count)]

    def theirs(pixels: Any) -> Any:
        height, width = pixels.shape[:2]
        factor = 256 / min(height, width)
        return cv2.resize(pixels, (round(width * factor), round(height * factor)), interpolation=cv2.INTER_AREA)

    def own(pixels: Any) -> Any:
        return resized(pixels, "short", 256)

    def codec(decode: Callable[[bytes], Any], smaller: Callable[[Any], Any]) -> Callable[[bytes], object]:
        quality = [cv2.IMWRITE_JPEG_QUALITY, 95]
        return lambda data: cv2.imencode(".jpg", smaller(decode(data)), quality)[1]

    def whole(data: bytes) -> Any:
        return simplejpeg.decode_jpeg(data, "BGR")

    def scaled(data: bytes) -> Any:
        h, w, *_ = simplejpeg.decode_jpeg_header(data)
        least = 256 / min(h, w)
        part = 2 ** -min(3, math.floor(math.log2(1 / least)))
        return simplejpeg.decode_jpeg(data, "BGR", min_height=math.ceil(h * part), min_width=math.ceil(w * part))

    decoders = {"same": whole, "scaled": scaled}
    found = {kind: _ms(codec(decode, theirs), images) for kind, decode in decoders.items()}
    found |= {f"{kind}, own areas": _ms(codec(decode, own), images) for kind, decode in decoders.items()}
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
