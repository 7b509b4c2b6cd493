"""Near vectors, the same however they are cut, and kept as by the rules of SemDeDup and NeMo Curator.

40,000 vectors of 512 dimensions in 40 clusters, as in the specification's table of rules (3.2). The rules are written
here as their code has them, on a matrix of all products of a cluster:

- SemDeDup (facebookresearch/SemDeDup, semdedup.py): rows in the order of their distance to the centroid, farthest
  first; the upper triangle of the products; a row goes if the largest above it is > 1 - epsilon.
- NeMo Curator (semantic_deduplication, pairwise.py): the same with >= 1 - epsilon; rows are ranked by their distance to
  the centroid and then by their id, both descending ("hard").

Both are asked about products in whole millionths, as edges have them: "the same edges".
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pyarrow as pa

sys.path[:0] = [str(Path(__file__).resolve().parent), str(Path(__file__).resolve().parent.parent)]

from common import Bar, bar  # noqa: E402
from dedup_vectors import EPSILON, made, stored_vectors  # noqa: E402

import stages.near_vector_cells as cells  # noqa: E402
import stages.near_vector_phases as phases  # noqa: E402
import stages.near_vector_tiles as tiles  # noqa: E402
import stages.shuffle as shuffle  # noqa: E402
from filters.keep_one import KeepOne  # noqa: E402
from filters.semdedup import SemDeDup  # noqa: E402
from stages.kmeans import Clusters  # noqa: E402
from stages.kmeans_training import centroids  # noqa: E402
from stages.near_vectors import Coarse, NearVectors  # noqa: E402
from tests.phase_runner import PhaseRunner  # noqa: E402

CLUSTERS, SHARDS = 40, 4


def same(quick: bool) -> dict[str, Bar]:
    rows = 8_000 if quick else 40_000
    x = stored_vectors(made(rows))
    found = {
        "vectors_same_for_tiles_64_1024_4096": same_tiles(x),
        "vectors_same_with_clusters_cut": same_cut(x),
        "vectors_same_in_smaller_partitions": same_quarter(x),
    }
    kept = rules(x)
    for name, (ours, theirs) in kept.items():
        print(f"{name}: {ours.sum():,} of {len(ours):,} kept, by their rule {theirs.sum():,}")
    return {n: bar(ok, "same bytes", ok) for n, ok in found.items()} | {
        f"kept_as_by_{name}": bar(bool((ours == theirs).all()), "the same set", bool((ours == theirs).all()))
        for name, (ours, theirs) in kept.items()
    }


def pool(x: np.ndarray, **more: np.ndarray) -> dict[int, pa.Table]:
    """Shards of rows whose uid is their number."""
    halves = np.stack([np.zeros(len(x), np.uint64), np.arange(len(x), dtype=np.uint64)], axis=1)
    columns = {
        "uid": pa.Array.from_buffers(pa.binary(16), len(x), [None, pa.py_buffer(halves.astype(">u8").tobytes())]),
        "v": pa.FixedSizeListArray.from_arrays(pa.array(x.reshape(-1)), x.shape[1]),
    }
    table = pa.table({**columns, **more})
    cuts = np.linspace(0, len(x), SHARDS + 1).astype(int)
    return {s: table.slice(cuts[s], cuts[s + 1] - cuts[s]) for s in range(SHARDS)}


# ---------------------------------------------------------------- any cut


def edges(x: np.ndarray) -> pa.Table:
    barrier = NearVectors(vectors="v", epsilon=EPSILON, clusters=Coarse(k=CLUSTERS))
    runner = PhaseRunner(pool(x))
    runner.run(barrier)
    outputs = runner.files[barrier]["edges"].values()
    return pa.concat_tables(t for o in outputs for t in ([o.tables] if isinstance(o.tables, pa.Table) else o.tables))


def same_tiles(x: np.ndarray) -> bool:
    found = []
    for tile in (64, 1024, 4096):
        usual, tiles.TILE = tiles.TILE, tile
        found.append(edges(x))
        tiles.TILE = usual
    return bool(found[0].num_rows and found[0].equals(found[1]) and found[0].equals(found[2]))


def same_cut(x: np.ndarray) -> bool:
    """Clusters of more than 300 rows in tiles."""
    whole = edges(x)
    usual, cells.CAP = cells.CAP, 300
    cut = edges(x)
    cells.CAP = usual
    return bool(whole.num_rows and whole.equals(cut))


def same_quarter(x: np.ndarray) -> bool:
    """In a quarter of the rows a bucket and span, and as few of narrow rows as make several buckets here."""
    whole = edges(x)
    usual = phases.FEW, phases.ROWS, shuffle.ROWS
    phases.FEW, phases.ROWS, shuffle.ROWS = phases.FEW // 4, phases.ROWS // 16, len(x) // 4
    cut = edges(x)
    phases.FEW, phases.ROWS, shuffle.ROWS = usual
    by = [("a", "ascending"), ("b", "ascending")]
    return bool(whole.num_rows and whole.sort_by(by).equals(cut.sort_by(by)))


# ---------------------------------------------------------------- the rules of others


def rules(x: np.ndarray) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """name -> (kept by us, kept by their rule), bool (n,)."""
    near = NearVectors(vectors="v", epsilon=EPSILON, clusters=Coarse(k=CLUSTERS), within_clusters=True)
    strict = near.model_copy(update={"epsilon": EPSILON - 1e-6})
    runner = PhaseRunner(pool(x))
    runner.run(near)
    ((_, trained),) = runner.files[near]["centroids"].items()
    assert isinstance(trained.tables, pa.Table)
    product = x.astype(np.float64) @ centroids(trained.tables).astype(np.float64).T
    home = product.argmax(axis=1)
    far = np.round(1 - product[np.arange(len(x)), home], 4)
    number = np.arange(len(x))
    columns = {"far": far, "number": number}
    one = KeepOne(over="pool", near=strict, rule="reference", prefer=("far desc", "number asc"))
    other = KeepOne(over="pool", near=near, rule="local", prefer=("far desc", "number desc"))
    clusters = Clusters(k=CLUSTERS, iterations=near.clusters.iterations, spherical=True)
    filtered = SemDeDup(over="pool", vectors="v", clusters=clusters, epsilon=EPSILON, semantics="reference")
    semdedup, nemo = by_semdedup(x, home, far), by_nemo(x, home, far)
    return {
        "semdedup": (kept(pool(x, **columns), one), semdedup),
        "semdedup_by_its_filter": (kept(pool(x), filtered), semdedup),
        "nemo": (kept(pool(x, **columns), other), nemo),
    }


def kept(shards: dict[int, pa.Table], chosen: KeepOne | SemDeDup) -> np.ndarray:
    found = PhaseRunner(shards).run(chosen)
    return np.concatenate([found[s].column("keep").to_numpy(zero_copy_only=False) for s in sorted(found)]).astype(bool)


def _millionths(x: np.ndarray) -> np.ndarray:
    unit = x.astype(np.float64)
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    return np.rint(unit @ unit.T * 1e6)


def by_semdedup(x: np.ndarray, home: np.ndarray, far: np.ndarray) -> np.ndarray:
    keep = np.ones(len(x), bool)
    for cluster in range(home.max() + 1):
        rows = np.flatnonzero(home == cluster)
        rows = rows[np.argsort(-far[rows], kind="stable")]
        if len(rows) < 2:
            continue
        upper = np.triu(_millionths(x[rows]), k=1)
        keep[rows] = ~(upper.max(axis=0) > round(1e6 - EPSILON * 1e6))
    return keep


def by_nemo(x: np.ndarray, home: np.ndarray, far: np.ndarray) -> np.ndarray:
    keep = np.ones(len(x), bool)
    for cluster in range(home.max() + 1):
        rows = np.flatnonzero(home == cluster)
        rows = np.array(sorted(rows, key=lambda r: (far[r], r), reverse=True), np.int64)
        if len(rows) < 2:
            continue
        above = np.tril(_millionths(x[rows]), k=-1)  # row j against rows 0..j-1, as its blocks do
        keep[rows] = ~(above.max(axis=1) >= round(1e6 - EPSILON * 1e6))
    return keep
