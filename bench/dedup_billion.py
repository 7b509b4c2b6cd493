"""A billion images by parts: one part of each phase at the size that a billion give it, timed and weighed here.

    python bench/dedup_billion.py            # measures, and writes docs/dedup-billion.md; --quick: ten million

The barriers and filters say how a pool of 100,000 shards of 10,000 samples is cut into parts, and what each part reads.
For one part of each phase such inputs are made (`dedup_billion_data`), and a fresh process reads them from files, does
the work and commits the output, as a worker does: that gives seconds, memory and bytes. What is beyond that is
multiplication, and the table says which numbers are.
"""

from __future__ import annotations

import multiprocessing
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

sys.path[:0] = [str(Path(__file__).resolve().parent), str(Path(__file__).resolve().parent.parent)]

from common import Bar, at_most, bar, fresh  # noqa: E402
from dedup_billion_data import CLUSTERS, ROWS_OF_SHARD, SHARES, Part, World, random_words, vectors_of_shards  # noqa: E402
from dedup_billion_page import Weighed, write  # noqa: E402

from curate.pool.columns import read_table, write_groups  # noqa: E402
from curate.pool.storage import Storage  # noqa: E402
from filters.base import GlobalFilter  # noqa: E402
from filters.keep_one import KeepOne  # noqa: E402
from stages.base import Barrier, Input, Inputs, Phase, Shape, ShardColumns, fact  # noqa: E402
from stages.hash_groups import HashGroups  # noqa: E402
from stages.near_hashes import NearHashes  # noqa: E402
from stages.near_vectors import NearVectors  # noqa: E402
from stages.shuffle import uid_array  # noqa: E402

BILLION, FEW = 100_000, 1000  # shards
USUAL_GB = 2  # what a worker has, where a phase asks for no more
Owner = Barrier | GlobalFilter

STEPS: dict[str, Callable[[], Owner]] = {
    "equal bytes (sha256)": lambda: HashGroups(by=fact("sha256")),
    "pHash-64 within 4 bits": lambda: NearHashes(by=fact("phash64"), distance=4),
    "pHash-256 within 31 bits": lambda: NearHashes(by=fact("phash256"), distance=31, bands=8),
    "vectors of 512 within .05": lambda: NearVectors(vectors=fact("vector"), epsilon=0.05),
    "keep one of near pHash-256": lambda: KeepOne(over="pool", by=fact("phash256"), distance=31, bands=8),
}


@dataclass(frozen=True)
class Work:
    """What a fresh process is to do: one part of one phase, its inputs lying in `folder` by their number."""

    owner: Owner
    part: Part
    folder: str


def measure(quick: bool) -> dict[str, Bar]:
    shards = FEW if quick else BILLION
    found = [w for name, make in STEPS.items() for w in weighed(name, make(), shards)]
    if not quick:
        write(found, shards * ROWS_OF_SHARD)
    usual = [w for w in found if w.scale == 1 and w.need_gb <= USUAL_GB]
    heaviest = max(usual, key=lambda w: w.peak_mb)
    over = [f"{w.step}, {w.phase}" for w in found if w.full_mb > 1000 * w.need_gb]
    print(f"heaviest: {heaviest.step}, {heaviest.phase}; over what they ask for: {', '.join(over) or 'none'}")
    peak = at_most(heaviest.peak_mb, 1000 * USUAL_GB, 0)
    return {
        "billion_usual_peak_mb": bar(peak["value"], peak["limit"], None) if quick else peak,
        "billion_over_their_need": bar(len(over), 0, None if quick else not over),
        "billion_core_hours": bar(round(sum(w.core_hours for w in found)), "reported", None),
    }


# ---------------------------------------------------------------- one step


def weighed(step: str, owner: Owner, shards: int) -> list[Weighed]:
    """Each phase of one barrier or filter, by its first part that reads as much as any."""
    world = world_of(owner, shards)
    mine = [p for p in owner.phases(shape_of(shards)) if p.name.split("-")[0] not in TRAINING]
    print(f"--- {step}", flush=True)
    return [weigh(step, owner, p, world) for p in mine]


def shape_of(shards: int) -> Shape:
    """Of one list."""
    digests = tuple(f"{i:032x}" for i in range(shards))
    return Shape(tuple(range(shards)), (ROWS_OF_SHARD,) * shards, (0,) * shards, digests)


def world_of(owner: Owner, shards: int) -> World:
    """What makes the inputs of the owner's phases, and of what it reads of barriers."""
    shape, schemas = shape_of(shards), schemas_of(owner)
    names = {p.name: parts_of(p) for o in (*barriers_of(owner), owner) for p in o.phases(shape)}
    read = {c if isinstance(c, str) else c.field for c in owner.reads()}
    return World(
        shards, totals(shards * ROWS_OF_SHARD, names), {n: len(p) for n, p in names.items()}, schemas,
        len(names["gather"]), {n: make for n, make in SHARD_COLUMNS.items() if n in read},
    )  # fmt: skip


TRAINING = ("count", "total", "sample", "start", "sums", "merge", "step", "centroids")
"""Phases of k-means, which go with the sample, not with the pool: see the page."""


def barriers_of(owner: Owner) -> tuple[Barrier, ...]:
    return owner.barriers() if isinstance(owner, GlobalFilter) else ()


def parts_of(phase: Phase) -> list[str]:
    assert not callable(phase.parts), f"{phase.name}: parts hang on footers"
    return list(phase.parts)


def totals(samples: int, names: dict[str, list[str]]) -> dict[str, float]:
    """Rows of all files of each phase."""
    found = {n: samples * SHARES.get(n.split("-")[0], 0.0) for n in names}
    found["centroids"] = CLUSTERS
    if "spread" in names:  # once for each choice of blocks, or band
        found["spread"] *= len({p.rsplit("-", 4)[0] for p in names["spread"]})
    return found


def weigh(step: str, owner: Owner, phase: Phase, world: World) -> Weighed:
    """Make the inputs of one part, and let a fresh process do it."""
    name = max(parts_of(phase)[:2], key=lambda p: len(phase.inputs(p)))
    part = Part(phase.name, name, tuple(phase.inputs(name)))
    folder = fresh("dedup-billion")
    storage = Storage.at(folder)
    numbers = {key: i for i, key in enumerate(part.keys)}
    for key, table in world.tables(part).items():
        storage.commit(f"{numbers[key]}.parquet", write_groups([table], {}))
    cpu_s, peak = in_a_fresh_process(Work(owner, part, str(folder)))
    sizes = {p.name: p.stat().st_size / 1e6 for p in folder.glob("*.parquet")}
    written = sizes.pop("out.parquet")
    scale = world.scale(part)
    opening = sum(opening_s(n) for n in (world.cuts(k) for k in part.keys) if n > 1)
    parts = world.files[phase.name]
    need = phase.need.memory_gb
    found = Weighed(step, phase.name, parts, cpu_s, peak, sum(sizes.values()), written, scale, opening, need)
    print(
        f"{phase.name:10} {found.parts:7,} parts of {found.seconds:7.1f} s, {found.full_mb:5.0f} MB, "
        f"{found.core_hours:8.1f} core-hours" + (f" (a {scale:.0f}th measured)" if scale > 1 else ""),
        flush=True,
    )
    return found


def in_a_fresh_process(given: Work) -> tuple[float, float]:
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as alone:
        return alone.submit(work, given).result()


def work(given: Work) -> tuple[float, float]:
    """As a worker does it: read, run, commit. (CPU seconds, peak MB of this process)"""
    pa.set_cpu_count(1)
    storage = Storage.at(given.folder)
    numbers = {key: i for i, key in enumerate(given.part.keys)}

    def load(key: Input) -> pa.Table:
        table = read_table(storage, f"{numbers[key]}.parquet")[0]
        if isinstance(key, ShardColumns) and isinstance(given.owner, GlobalFilter):
            return table.append_column("asked", pa.array(np.ones(table.num_rows, bool)))
        return table

    began = time.process_time()
    output = given.owner.run(given.part.phase, given.part.name, Inputs(given.part.keys, load))
    tables = [output.tables] if isinstance(output.tables, pa.Table) else output.tables
    storage.commit("out.parquet", write_groups(tables, {"stats": dict(output.stats or {})}))
    return time.process_time() - began, peak_mb()


def peak_mb() -> float:
    """Of this process alone: what getrusage says is inherited from the one that started it."""
    (line,) = (s for s in Path("/proc/self/status").read_text().splitlines() if s.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


# ---------------------------------------------------------------- what a small pool says of the files


def schemas_of(owner: Owner) -> dict[str, pa.Schema]:
    """What each phase writes, from a pool of a few hundred samples with many small buckets."""
    import stages.shuffle
    from tests.phase_runner import PhaseRunner

    rng, whole = np.random.default_rng(0), {}
    for shard in range(2):
        columns = {name: make(300, rng) for name, make in SHARD_COLUMNS.items() if name not in ("asked", OF_BARRIER)}
        whole[shard] = pa.table({"uid": uid_array(*random_words(rng, 300, 2)), **columns})
    usual, stages.shuffle.ROWS = stages.shuffle.ROWS, 30
    try:
        runner = PhaseRunner(whole)
        runner.run(owner)
    finally:
        stages.shuffle.ROWS = usual
    found: dict[str, pa.Schema] = {}
    for phases in runner.files.values():
        for phase, parts in phases.items():
            output = next(iter(parts.values())).tables
            found[phase] = (output if isinstance(output, pa.Table) else output[0]).schema
    return found


def sha256_hex(rows: int, rng: np.random.Generator) -> pa.Array:
    """One of twenty is that of the row before."""
    raw = rng.bytes(32 * rows).hex()
    found = [raw[64 * i : 64 * i + 64] for i in range(rows)]
    found[1::20] = found[0::20][: len(found[1::20])]
    return pa.array(found)


def hashes256(rows: int, rng: np.random.Generator) -> pa.Array:
    return pa.Array.from_buffers(pa.binary(32), rows, [None, pa.py_buffer(rng.bytes(32 * rows))])


def groups(rows: int, rng: np.random.Generator) -> pa.Array:
    """Uids of groups of three, null for a little more than half."""
    high, low = (np.repeat(w, 3)[:rows] for w in random_words(rng, -(-rows // 3), 2))
    return uid_array(high, low, rng.random(rows) < 0.45)


OF_BARRIER = "phash256_group"
SHARD_COLUMNS: dict[str, Callable[[int, np.random.Generator], pa.Array]] = {
    "sha256": sha256_hex,
    "phash64": lambda rows, rng: pa.array(random_words(rng, rows, 1)[0]),
    "phash256": hashes256,
    "phash_quality": lambda rows, rng: pa.array(np.full(rows, 90, np.uint8)),
    "original_width": lambda rows, rng: pa.array(rng.integers(64, 4000, rows, np.int32)),
    "original_height": lambda rows, rng: pa.array(rng.integers(64, 4000, rows, np.int32)),
    "vector": vectors_of_shards,
    OF_BARRIER: groups,
    "phash256_group_size": lambda rows, rng: pa.array(np.full(rows, 3)),
    "phash256_node": lambda rows, rng: pa.array(random_words(rng, rows, 1)[0]),
}


_opening: dict[int, float] = {}


def opening_s(tables: int) -> float:
    """CPU seconds that it takes longer to read one of so many tables of a file than a file of its own."""
    if tables not in _opening:
        storage = Storage.at(fresh("dedup-billion-opening"))
        small = pa.table({n: np.arange(16, dtype=np.uint64) for n in ("node", "high", "low", "place")})
        storage.commit("many.parquet", write_groups([small] * tables, {}))
        storage.commit("one.parquet", write_groups([small], {}))
        spent = []
        for name, group in (("many", tables // 2), ("one", None)):
            began = time.process_time()
            for _ in range(5):
                read_table(storage, f"{name}.parquet", group=group)
            spent.append((time.process_time() - began) / 5)
        _opening[tables] = max(spent[0] - spent[1], 0.0)
        print(f"a table among {tables}: {1000 * _opening[tables]:.1f} ms more than a file of its own", flush=True)
    return _opening[tables]


def main() -> None:
    print(measure("--quick" in sys.argv))


if __name__ == "__main__":
    main()
