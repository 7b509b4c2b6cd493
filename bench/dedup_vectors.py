"""Near vectors at a million: time, memory and recall of the barrier's phases on two processes, from file to file.

The vectors are drawn to be like those of CLIP (spec 3.1): 512 dimensions, mean cosine .5, and a quarter of them copies
of others with cosines of .955 to .9999. 64 of the dimensions carry the topics, of very different sizes; copies are
moved in all 512. Columns lie in shards on disk, and every phase reads and writes its files. Recall is told twice: of
planted pairs within the epsilon, and of all pairs that the exact products of some vectors with all others find.

Also: does the same come out with tiles of 64, 1024 and 4096 rows, with clusters cut into tiles, of vectors of other
lengths; and are the kept sets those of the rules of SemDeDup and of NeMo Curator, written here as their code does it.
"""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

sys.path[:0] = [str(Path(__file__).resolve().parent), str(Path(__file__).resolve().parent.parent)]

from common import WORK, Bar, at_least, at_most, bar, fresh  # noqa: E402

from curate.pool.columns import read_table, write_groups  # noqa: E402
from curate.pool.storage import Storage  # noqa: E402
from stages.base import Input, Inputs, Output, Shape, ShardColumns  # noqa: E402
from stages.near_vectors import NearVectors  # noqa: E402

DIM, LATENT = 512, 64
ROWS_OF_SHARD = 50_000
EPSILON = 0.05
LIMIT_S, LIMIT_MB, LIMIT_RECALL = 300, 2000, 0.999
SAMPLED = 256  # vectors that are compared with all others

CHOSEN = NearVectors(vectors="v", epsilon=EPSILON)


def measure(quick: bool) -> dict[str, Bar]:
    rows = 100_000 if quick else 1_000_000
    folder = made(rows)
    took, peaks = run_apart(folder)
    whole, cpu = (sum(t[n] for t in took.values()) for n in (0, 1))
    shown = ", ".join(f"{name} {s:.1f}" for name, (s, _) in took.items() if s >= 0.5)
    print(f"{rows:,} vectors: {whole:.0f} s ({shown}), {cpu:.0f} s of CPU; {max(peaks):.0f} MB in one worker at most")
    found = edges(folder)
    planted, exact = recall_of_planted(folder, found), recall_of_all(folder, found)
    print(f"{len(found):,} pairs; recall of planted {planted[0]:.5f} of {planted[1]:,}, of all {exact[0]:.5f} of "
          f"{exact[1]:,} pairs of {SAMPLED} vectors")  # fmt: skip
    one, two = recall_of_nearest(folder)
    print(f"the own cluster alone would find {one:.5f} of planted pairs, the own and the second nearest {two:.5f}")
    bars = {
        "vectors_s": bar(round(whole, 1), f"{LIMIT_S} at a million", None) if quick else at_most(whole, LIMIT_S, 1),
        "vectors_mb_a_worker": at_most(max(peaks), LIMIT_MB, 0),
        "vectors_recall_planted": at_least(planted[0], LIMIT_RECALL, 5),
        "vectors_recall_all": at_least(exact[0], LIMIT_RECALL, 5),
    }
    from dedup_vectors_same import same

    return bars | same(quick)


# ---------------------------------------------------------------- the vectors


def made(rows: int) -> Path:
    """A folder of shards: uid and the vector `v`, as float16; and planted.npy, (copy, original) by row number."""
    folder = WORK / f"dedup-vectors-{rows}"
    if not (folder / "planted.npy").exists():
        folder = fresh(folder.name)
        rng = np.random.default_rng(7)
        original = np.arange(rows)
        copies = rng.permutation(rows)[: rows // 4]
        originals = np.setdiff1d(original, copies)
        original[copies] = rng.choice(originals, len(copies))
        for shard in range(-(-rows // ROWS_OF_SHARD)):
            here = original[shard * ROWS_OF_SHARD : (shard + 1) * ROWS_OF_SHARD]
            number = np.arange(shard * ROWS_OF_SHARD, shard * ROWS_OF_SHARD + len(here))
            _write(folder / f"{shard:08d}.parquet", number, _copied(number, here))
        np.save(folder / "planted.npy", np.stack([copies, original[copies]], axis=1))
    return folder


def _write(path: Path, number: np.ndarray, x: np.ndarray) -> None:
    uid = np.random.default_rng(number[0]).bytes(16 * len(number))
    flat = pa.array(x.astype(np.float16).reshape(-1))
    columns = {
        "uid": pa.Array.from_buffers(pa.binary(16), len(number), [None, pa.py_buffer(uid)]),
        "v": pa.FixedSizeListArray.from_arrays(flat, DIM),
    }
    pq.write_table(pa.table(columns), path, compression="zstd")


BASIS, TOPICS = 11, 2000


def drawn(number: np.ndarray) -> np.ndarray:
    """float32 (n, DIM), of length one: a function of the row numbers."""
    fixed = np.random.default_rng(BASIS)
    basis, _ = np.linalg.qr(fixed.standard_normal((DIM, LATENT + 1)))
    topics = fixed.standard_normal((TOPICS, LATENT))
    weights = 1 / np.arange(1, TOPICS + 1) ** 0.7
    ends = np.cumsum(weights / weights.sum())
    out = np.empty((len(number), DIM), np.float32)
    for at, n in enumerate(number.tolist()):
        rng = np.random.default_rng(n)
        latent = 0.7 * topics[min(int(np.searchsorted(ends, rng.random())), TOPICS - 1)]
        latent = latent + 0.7 * rng.standard_normal(LATENT, dtype=np.float32)
        latent = latent / np.linalg.norm(latent)
        noise = rng.standard_normal(DIM, dtype=np.float32)
        rest = basis[:, 1:] @ latent + 0.1 * noise / np.linalg.norm(noise)
        x = basis[:, 0] + rest / np.linalg.norm(rest)
        out[at] = x / np.linalg.norm(x)
    return out


def _copied(number: np.ndarray, original: np.ndarray) -> np.ndarray:
    """The vectors of these rows; where the original is another, a copy of it."""
    x = drawn(original)
    for at in np.flatnonzero(number != original):
        rng = np.random.default_rng([int(number[at]), 1])
        cosine = rng.uniform(0.955, 0.9999)
        away = rng.standard_normal(DIM)
        away -= (away @ x[at]) * x[at]
        x[at] = cosine * x[at] + np.sqrt(1 - cosine**2) * away / np.linalg.norm(away)
    return x


# ---------------------------------------------------------------- the work, in processes of its own


Took = dict[str, tuple[float, float]]
"""Of each phase: seconds, and seconds of CPU in all workers."""


def run_apart(folder: Path) -> tuple[Took, list[float]]:
    """(what each phase took, peak MB of each worker) of a run on two processes of one thread."""
    env = os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    command = [sys.executable, __file__, str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=env)
    if done.returncode:
        raise RuntimeError(f"the phases did not end:\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}")
    said = dict(line.split(" ", 1) for line in done.stdout.splitlines())
    peaks = [float(mb) for mb in said.pop("peaks").split()]
    return {name: (float(both.split()[0]), float(both.split()[1])) for name, both in said.items()}, peaks


def main(folder: str) -> None:
    shutil.rmtree(Path(folder) / "out", ignore_errors=True)
    pa.set_cpu_count(1)
    peaks: dict[int, float] = {}
    with ProcessPoolExecutor(2, get_context("forkserver")) as workers:
        for number, phase in enumerate(CHOSEN.phases(shape(folder))):
            began, cpu = time.monotonic(), 0.0
            assert not callable(phase.parts)
            for peak, pid, took in workers.map(_part, [(folder, number, p) for p in phase.parts]):
                peaks[pid] = max(peak, peaks.get(pid, 0.0))
                cpu += took
            print(phase.name, time.monotonic() - began, cpu)
    print("peaks", *peaks.values())


def _part(given: tuple[str, int, str]) -> tuple[float, int, float]:
    """One part of one phase, from file to file; (peak MB of this process, its number, seconds of CPU)."""
    began = time.process_time()
    folder, number, part = given
    phase, storage = CHOSEN.phases(shape(folder))[number], Storage.at(folder)
    output = CHOSEN.run(phase.name, part, Inputs(phase.inputs(part), lambda key: _load(folder, storage, key)))
    write(storage, f"out/{phase.name}/{part}.parquet", output)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, os.getpid(), time.process_time() - began


def write(storage: Storage, rel: str, output: Output) -> None:
    tables = [output.tables] if isinstance(output.tables, pa.Table) else output.tables
    storage.commit(rel, write_groups(tables, {"stats": dict(output.stats or {})}))


def _load(folder: str, storage: Storage, key: Input) -> pa.Table:
    if isinstance(key, ShardColumns):
        return pq.read_table(f"{folder}/{key.shard:08d}.parquet")
    return read_table(storage, f"out/{key.phase}/{key.part}.parquet", group=key.bucket)[0]


def shape(folder: str) -> Shape:
    files = sorted(Path(folder).glob("*.parquet"))
    rows = tuple(pq.read_metadata(f).num_rows for f in files)
    return Shape(tuple(int(f.stem) for f in files), rows, (0,) * len(files), tuple(f.stem for f in files))


# ---------------------------------------------------------------- what came out


def edges(folder: Path) -> set[tuple[int, int]]:
    return {pair for part in (folder / "out" / "edges").glob("*.parquet") for pair in _pairs(part)}


def _pairs(path: Path) -> Iterator[tuple[int, int]]:
    table = pq.read_table(path, columns=["a", "b"])
    return zip(*(table.column(n).to_pylist() for n in ("a", "b")), strict=True)


def nodes(folder: Path) -> np.ndarray:
    """uint64: of each row."""
    files = sorted((folder / "out" / "nodes").glob("*.parquet"))
    return np.concatenate([pq.read_table(f, columns=["node"]).column("node").to_numpy() for f in files])


def stored_vectors(folder: Path) -> np.ndarray:
    """float32 (rows, DIM), of length one, on the grid."""
    from stages.vectors import unit

    files = sorted(folder.glob("*.parquet"))
    return np.concatenate([unit(pq.read_table(f, columns=["v"]).column("v"), "v")[0] for f in files])


def recall_of_planted(folder: Path, found: set[tuple[int, int]]) -> tuple[float, int]:
    """(share found, how many) of planted pairs that are within the epsilon, as exact products say."""
    x, node = stored_vectors(folder), nodes(folder)
    planted = np.load(folder / "planted.npy")
    cosine = np.concatenate([_exact(x, some) for some in np.array_split(planted, len(planted) // 8192 + 1)])
    near = planted[np.rint((1 - cosine) * 1e6) <= EPSILON * 1e6]
    hit = sum((min(p), max(p)) in found for p in node[near].tolist())
    return hit / len(near), len(near)


def _exact(x: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    a, b = (x[pairs[:, n]].astype(np.float64) for n in (0, 1))
    both = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    return np.asarray(np.einsum("nd,nd->n", a, b) / both)


def recall_of_nearest(folder: Path) -> tuple[float, float]:
    """Share of 20,000 planted pairs that meet in the nearest cluster of both, and in that of one and the best two of
    the other."""
    from stages.kmeans_training import centroids
    from stages.vectors import Nearest

    (file,) = (folder / "out" / "centroids").glob("*.parquet")
    pairs = np.load(folder / "planted.npy")[:20_000]
    ends = [Nearest(centroids(pq.read_table(file))).of(_rows(folder, pairs[:, n]))[:2] for n in (0, 1)]
    (first, second), (other, next_) = ends
    one = first == other
    return float(one.mean()), float((one | (second == other) | (next_ == first)).mean())


def _rows(folder: Path, number: np.ndarray) -> np.ndarray:
    return stored_vectors(folder)[number]


def recall_of_all(folder: Path, found: set[tuple[int, int]]) -> tuple[float, int]:
    """The same of all pairs that some of the vectors are in."""
    x, node = stored_vectors(folder), nodes(folder)
    some = np.random.default_rng(3).choice(len(x), SAMPLED, replace=False)
    hit = total = 0
    for start in range(0, len(x), 65536):
        i, j = np.nonzero(x[some] @ x[start : start + 65536].T >= 1 - EPSILON - 1e-3)
        pairs = np.stack([some[i], j + start], axis=1)
        pairs = pairs[node[pairs[:, 0]] != node[pairs[:, 1]]]
        near = pairs[np.rint((1 - _exact(x, pairs)) * 1e6) <= EPSILON * 1e6]
        total += len(near)
        hit += sum((min(p), max(p)) in found for p in node[near].tolist())
    return hit / total, total


if __name__ == "__main__":
    main(sys.argv[1])
