"""The report's bars: a million samples in 100 shards, six filters, 1.2 million URLs on 5,000 hosts.

    python bench/report_speed.py [--quick]

The pool is made once and kept. Facts, columns and scores are drawn, row filters decide by their own SQL, and behind
every sample lies a real small photo (2,000 of them, in one tar that all shards name). The report is written by a
process of its own; its peak memory is that of the whole process.
"""

from __future__ import annotations

import io
import json
import shutil
import subprocess
import sys
import tarfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from common import ROOT, WORK, Bar, at_most, bar, environment, photos
from sql_speed import peak_mb

SHARDS, ROWS, HOSTS, PHOTOS, SIDE = 100, 10_000, 5_000, 2_000, 256
FAILED = 2_000  # URLs of a shard that gave no image
OUTCOMES = ("http_4xx", "timeout", "dns", "http_429", "not_image", "connect")
WORDS = (
    "a",
    "dog",
    "red",
    "photo",
    "of",
    "in",
    "street",
    "two",
    "people",
    "with",
    "woman",
    "blue",
    "car",
    "small tree",
)
LANGUAGES = ("en", "de", "zh", "ar", "es", "fr", "ru", "ja")
LICENCES = ("CC-BY", "CC0", "CC-BY-SA", None)
LIMITS = {"seconds": 60.0, "peak_mb": 1024.0, "page_mb": 15.0}


# ---------------------------------------------------------------- the pool


def tar_of_photos(path: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Write a tar of real photos, small; returns (offset, bytes, size as (width, height)) of each."""
    from PIL import Image

    offsets, lengths, sizes = [], [], []
    with path.open("wb") as file, tarfile.open(fileobj=file, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for number, data in enumerate(pq.read_table(photos(PHOTOS), columns=["image"]).column("image").to_pylist()):
            image = Image.open(io.BytesIO(data)).convert("RGB")
            image.thumbnail((SIDE, SIDE))
            sink = io.BytesIO()
            image.save(sink, "JPEG", quality=90)
            member = tarfile.TarInfo(f"{number:032x}.jpg")
            member.size = len(sink.getvalue())
            offsets.append(file.tell() + 512)
            tar.addfile(member, io.BytesIO(sink.getvalue()))
            lengths.append(member.size)
            sizes.append(image.size)
    return np.array(offsets), np.array(lengths), np.array(sizes)


def draw(shard: int, salt: int) -> np.random.Generator:
    return np.random.default_rng([shard, salt])


def hosts(shard: int, rows: int, salt: int) -> np.ndarray:
    """Numbers of hosts: as on the web, few have most URLs."""
    weights = 1.0 / np.arange(1, HOSTS + 1)
    return draw(shard, salt).choice(HOSTS, rows, p=weights / weights.sum())


def urls(shard: int, host: np.ndarray, first: int = 0) -> pa.Array:
    numbers = pa.array(np.arange(first, first + len(host))).cast(pa.string())
    return pc.binary_join_element_wise(
        "https://Host",
        pa.array(host).cast(pa.string()),
        f".example.org/pictures/{shard}/",
        numbers,
        ".jpg?size=large",
        "",
    )


def facts(shard: int, tar: tuple[np.ndarray, np.ndarray, np.ndarray]) -> pa.Table:
    from tests.pools import facts_table

    rng, table = draw(shard, 1), facts_table(shard, ROWS)
    photo = rng.integers(0, PHOTOS, ROWS)
    wide = np.exp(rng.normal(6.3, 0.7, ROWS)).astype(np.int32) + 16
    shape = np.exp(rng.normal(0.25, 0.35, ROWS))
    texts = [" ".join(WORDS[i] for i in row) for row in np.split(*word_numbers(shard))]
    changed: dict[str, Any] = {
        "url": urls(shard, hosts(shard, ROWS, 2)),
        "text": texts,
        "original_width": wide,
        "original_height": np.maximum(wide / shape, 8).astype(np.int32),
        "received_format": pa.array(["jpeg", "png", "webp", "gif"]).take(
            pa.array(rng.choice(4, ROWS, p=[0.8, 0.1, 0.08, 0.02]))
        ),
        "tar_offset": tar[0][photo],
        "bytes": tar[1][photo],
        "width": tar[2][photo, 0],
        "height": tar[2][photo, 1],
    }
    for name, values in changed.items():
        at = table.schema.get_field_index(name)
        table = table.set_column(at, table.schema.field(name), pa.array(values).cast(table.schema.field(name).type))
    return table.append_column("license", pa.array(LICENCES).take(pa.array(rng.integers(0, len(LICENCES), ROWS))))


def word_numbers(shard: int) -> tuple[np.ndarray, np.ndarray]:
    """(all words of the shard's captions, where each caption but the first begins)."""
    rng = draw(shard, 3)
    counts = rng.geometric(0.12, ROWS)
    return rng.integers(0, len(WORDS), counts.sum()), np.cumsum(counts)[:-1]


def word_counts(shard: int) -> np.ndarray:
    words, starts = word_numbers(shard)
    return np.diff(np.concatenate([[0], starts, [len(words)]]))


def fetch_log(shard: int, uid: pa.Array) -> pa.Table:
    """The shard's samples, which came, and FAILED more URLs."""
    from curate.pool.facts import FETCHES
    from tests.pools import uids

    rng = draw(shard, 4)
    host = hosts(shard, FAILED, 5)
    kinds = rng.choice(len(OUTCOMES), FAILED, p=[0.5, 0.15, 0.15, 0.1, 0.05, 0.05])
    status = np.where(kinds == 0, rng.choice([404, 403, 410], FAILED), 0)
    known = {
        "uid": pa.concat_arrays([uid, uids(shard + 1_000_000, FAILED)]),
        "url": pa.concat_arrays([urls(shard, hosts(shard, ROWS, 2)), urls(shard, host, ROWS)]),
        "outcome": pa.concat_arrays([pa.array(["ok"] * ROWS), pa.array(OUTCOMES).take(pa.array(kinds))]),
        "status": np.concatenate([np.full(ROWS, 200), status]),
        "attempt": np.zeros(ROWS + FAILED),
    }
    whole = [
        pa.array(known[f.name]).cast(f.type) if f.name in known else pa.nulls(ROWS + FAILED, f.type) for f in FETCHES
    ]
    return pa.table(whole, schema=FETCHES)


def build(path: Path, shards: int) -> str:
    """Make the pool; returns its pick."""
    from curate.pool.columns import write_parquet
    from curate.pool.layout import PIXELS
    from curate.pool.layout import fetch_log as log_file
    from tests import pools

    pool = pools.empty_pool(path, [shards])
    (path / PIXELS).mkdir(parents=True, exist_ok=True)
    tar = tar_of_photos(path / PIXELS / "00000000.00000000.tar")
    for shard in range(shards):
        table = facts(shard, tar)
        pools.write_facts(pool, shard, table, "00000000.00000000.tar")
        log = fetch_log(shard, table.column("uid").combine_chunks())
        pools.write(pool, log_file(shard, 0), write_parquet(log, {"rows": log.num_rows}))
    return decide(pool)


def columns(pool: Any) -> dict[str, dict[str, str]]:
    """What stages would have computed: name -> folder and field."""
    from tests import pools

    def language(shard: int, uid: pa.Array) -> pa.Table:
        rng = draw(shard, 6)
        lang = pa.array(LANGUAGES).take(pa.array(rng.choice(8, len(uid), p=[0.65, *[0.05] * 7])))
        return pa.table({"lang": lang, "lang_prob": rng.beta(6, 1.5, len(uid)).astype(np.float32)})

    def clip(shard: int, uid: pa.Array) -> pa.Table:
        scores = draw(shard, 7).normal(0.27, 0.05, len(uid)).round(4).astype(np.float32)
        return pa.table(
            {"clip_score": scores, "sharpness": draw(shard, 8).lognormal(5, 1, len(uid)).astype(np.float32)}
        )

    def lengths(shard: int, uid: pa.Array) -> pa.Table:
        return pa.table({"n_words": pa.array(word_counts(shard), pa.int32())})

    made = {
        pools.add_column(pool, "text_facts", lengths): ["n_words"],
        pools.add_column(pool, "language", language): ["lang", "lang_prob"],
        pools.add_column(pool, "scores", clip): ["clip_score", "sharpness"],
    }
    return {name: {"folder": folder, "field": name} for folder, names in made.items() for name in names}


def decide(pool: Any) -> str:
    """Verdicts of six filters and the pick: row filters by their SQL; the best fraction and duplicates as drawn."""
    from curate.pool.columns import read_table
    from curate.pool.layout import marker, part_file
    from curate.run.verdict import RowVerdict
    from curate.run.verdict import decide as ask
    from filters.base import Filter, RowFilter
    from filters.caption_length import CaptionLength
    from filters.image_size import ImageSize
    from filters.keep_one import KeepOne
    from filters.language import Language
    from filters.top_fraction import TopFraction
    from filters.where import Where
    from stages.base import shard_name
    from tests import pools

    known = columns(pool)

    def by_rules(chosen: RowFilter) -> Any:
        def make(shard: int, uid: pa.Array) -> pa.Table:
            table = {}
            for name in map(str, chosen.reads()):
                rel = part_file(known[name]["folder"], shard_name(shard)) if name in known else marker(shard)
                table[name] = read_table(pool.storage, rel, [name])[0].column(name).combine_chunks()
            return ask(RowVerdict("bench", chosen, (), "", None), pa.table(table))

        return make

    def best(shard: int, uid: pa.Array) -> pa.Table:
        rel = part_file(known["clip_score"]["folder"], shard_name(shard))
        keep = read_table(pool.storage, rel, ["clip_score"])[0].column("clip_score").to_numpy() >= np.float32(0.2438)
        return pa.table({"keep": keep, "reason": pa.array(["below_threshold"] * len(keep), mask=keep)})

    def one_of_each(shard: int, uid: pa.Array) -> pa.Table:
        """A tenth of the rows are duplicates of few rows of their shard, some of them of one."""
        rng, n = draw(shard, 9), len(uid)
        lost = (rng.random(n) < 0.1) & (np.arange(n) >= 100)
        of = uid.take(pa.array(np.minimum(rng.geometric(0.1, n) - 1, 99)))
        return pa.table(
            {
                "keep": ~lost,
                "reason": pa.array(["duplicate"] * n, mask=~lost),
                "dup_of": pc.if_else(pa.array(lost), of, pa.nulls(n, of.type)),
                "distance": pa.array(rng.choice([0, 2, 4], n), pa.int16(), mask=~lost),
            }
        )

    def verdict(id: str, chosen: Filter, make: Any) -> tuple[str, str]:
        folder = pools.add_verdict(pool, chosen.method(), make, id)
        pools.about(pool, folder, id=id, identity=chosen.identity())
        return id, folder

    size, words = ImageSize(min_side=200, max_aspect=3), CaptionLength(min_words=3, max_words=40)
    english, sharp = Language(keep=("en",), min_prob=0.4), Where(sql="sharpness BETWEEN 20 AND 5000")
    steps = [
        verdict(id, f, by_rules(f)) for id, f in (("size", size), ("words", words), ("en", english), ("sharp", sharp))
    ]
    steps.append(verdict("clip", TopFraction(over="pool", column="clip_score", fraction=0.7), best))
    steps.append(verdict("near", KeepOne(over="pool", by="phash64", distance=4), one_of_each))
    return pools.add_pick(pool, "million", steps, known)


# ---------------------------------------------------------------- the measurement


def ready(shards: int) -> tuple[Path, str]:
    """The pool and its pick, made where they are not there."""
    path = WORK / f"report-{shards * ROWS}"
    if not (path / "built").exists():
        shutil.rmtree(path, ignore_errors=True)
        began = time.perf_counter()
        (path.parent / f"{path.name}.pick").write_text(build(path, shards))
        print(f"made a pool of {shards * ROWS:,} samples in {time.perf_counter() - began:.0f} s", flush=True)
        (path / "built").touch()
    return path, (path.parent / f"{path.name}.pick").read_text()


def written(path: str, pick: str, out: str) -> dict[str, float]:
    from curate.ask.report import write_report
    from curate.pool.pool import Pool

    began, cpu = time.perf_counter(), time.process_time()
    page = write_report(Pool.open(path), pick, Path(out))
    seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
    return {"seconds": seconds, "cpu_s": cpu, "peak_mb": peak_mb(), "page_mb": page.stat().st_size / 1e6}


def measure(quick: bool) -> dict[str, Bar]:
    """Bars of a million samples; a quick run writes the report of a tenth and measures none of them."""
    path, pick = ready(SHARDS // 10 if quick else SHARDS)
    began = time.perf_counter()
    command = [sys.executable, str(Path(__file__)), "--measure", str(path), pick, str(WORK / "report.html")]
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment())
    found = json.loads(done.stdout) | {"process_s": time.perf_counter() - began}
    print("report:", ", ".join(f"{name} {value:.2f}" for name, value in found.items()), flush=True)
    names = {
        "report_million_seconds": "process_s",
        "report_million_peak_mb": "peak_mb",
        "report_million_page_mb": "page_mb",
    }
    limits = (LIMITS["seconds"], LIMITS["peak_mb"], LIMITS["page_mb"])
    return {
        name: bar(None, limit, None) if quick else at_most(found[what], limit)
        for (name, what), limit in zip(names.items(), limits, strict=True)
    }


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    if sys.argv[1:2] == ["--measure"]:
        print(json.dumps(written(*sys.argv[2:5])))
    else:
        print(measure("--quick" in sys.argv))
