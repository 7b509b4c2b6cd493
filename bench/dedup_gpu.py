"""Near vectors on one GPU beside faiss-cpu: k-means, clusters and products of 10 million vectors of 512 dimensions.

    python bench/dedup_gpu.py [--quick] [--rows 10000000]           # or as part `gpu` of bench/dedup.py

Both sides have the same vectors in memory, the same number of centroids (10,000 for 10 million), as large a sample (64
a centroid) and 5 iterations. faiss-cpu has all cores; it assigns and compares a part of the rows, and its times for all
of them are extrapolated from that, and marked so:

- k-means: `stages.lloyd` with device: cuda, and faiss.Kmeans;
- clusters: `stages.near_vector_visits` with device: cuda, and an IndexFlatIP over the centroids, the best two;
- products: `stages.near_vector_tiles` with device: cuda, cluster by cluster, own rows with one another and with
  visitors; and range_search of some rows in an IndexIVFFlat of all, two clusters a row.

The recheck in exact numbers must give the same edges on both devices: asked of clusters that the CPU does again.
It needs an NVIDIA GPU and torch; elsewhere it says so and measures nothing. It has not run on a GPU yet.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

sys.path[:0] = [str(Path(__file__).resolve().parent), str(Path(__file__).resolve().parent.parent)]

from common import NOT_MEASURED, Bar, bar, finish  # noqa: E402

from stages.kmeans_training import Training  # noqa: E402
from stages.lloyd import lloyd  # noqa: E402
from stages.near_vector_tiles import Products, bound_units  # noqa: E402
from stages.near_vector_visits import Visits  # noqa: E402
from stages.vectors import Device, as_column, unit  # noqa: E402

DIM, EPSILON, ITERATIONS = 512, 0.05, 5
REACH = 0.05 * (2 * EPSILON) ** 0.5
ROWS, A_CLUSTER, A_CENTROID = 10_000_000, 1000, 64
ASKED = 100_000  # rows that faiss-cpu assigns and searches for
AGAIN = 50  # clusters whose products the CPU does again
BARS = ("gpu_same_edges_as_cpu", "gpu_seconds", "faiss_cpu_seconds", "gpu_times_faster")


def measure(quick: bool) -> dict[str, Bar]:
    if not has_gpu():
        print("no GPU here (torch with CUDA and an NVIDIA GPU): nothing is measured")
        return dict.fromkeys(BARS, NOT_MEASURED)
    return measured(ROWS // 10 if quick else ROWS, "cuda")


def has_gpu() -> bool:
    from importlib.util import find_spec

    if find_spec("torch") is None:
        return False
    import torch

    return bool(torch.cuda.is_available())


def measured(rows: int, device: Device) -> dict[str, Bar]:
    x = drawn(rows, device)
    k = max(rows // A_CLUSTER, 1)
    sample = x[np.random.default_rng(1).permutation(rows)[: A_CENTROID * k]]
    took, again = ours(x, sample, k, device)
    theirs = faiss_cpu(x, sample, k)
    for name in took:
        marked = "" if name == "k-means" else " (extrapolated)"
        print(f"{name}: {took[name]:.1f} s here, {theirs[name]:.1f} s by faiss-cpu{marked}")
    whole, whole_faiss = sum(took.values()), sum(theirs.values())
    return {
        "gpu_same_edges_as_cpu": bar(again, "same edges", again),
        "gpu_seconds": bar(round(whole, 1), "told", None),
        "faiss_cpu_seconds": bar(round(whole_faiss, 1), "told, extrapolated", None),
        "gpu_times_faster": bar(round(whole_faiss / whole, 1), "told", None),
    }


# ---------------------------------------------------------------- vectors


def drawn(rows: int, device: Device) -> np.ndarray:
    """float32 (rows, DIM), of length one, on the grid: as of bench/dedup_vectors.py, drawn in blocks; every fourth a
    copy of the one before it."""
    import torch

    g = torch.Generator(device).manual_seed(7)
    basis = torch.linalg.qr(torch.randn(DIM, 65, generator=g, device=device))[0]
    topics = torch.randn(20_000, 64, generator=g, device=device)
    out = np.empty((rows, DIM), np.float32)

    def one(start: int) -> tuple[int, np.ndarray]:
        return start, _block(min(100_000, rows - start), basis, topics, g)

    def place(found: tuple[int, np.ndarray]) -> None:
        start, some = found
        out[start : start + len(some)] = unit(as_column(some), "drawn")[0]

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(place, (one(start) for start in range(0, rows, 100_000))))
    return out


def _block(rows: int, basis: Any, topics: Any, g: Any) -> np.ndarray:
    import torch

    like = {"generator": g, "device": basis.device}
    latent = 0.7 * topics[torch.randint(len(topics), (rows,), **like)] + 0.7 * torch.randn(rows, 64, **like)
    rest = _unit(latent) @ basis[:, 1:].T + 0.1 * _unit(torch.randn(rows, DIM, **like))
    x = _unit(basis[:, 0] + _unit(rest))
    copies = torch.arange(3, rows, 4, device=basis.device)
    cosine = 0.955 + 0.0449 * torch.rand(len(copies), 1, **like)
    away = torch.randn(len(copies), DIM, **like)
    away = _unit(away - (away * x[copies - 1]).sum(1, keepdim=True) * x[copies - 1])
    x[copies] = cosine * x[copies - 1] + torch.sqrt(1 - cosine**2) * away
    return np.asarray(x.half().cpu().numpy())


def _unit(x: Any) -> Any:
    return x / x.norm(dim=-1, keepdim=True)


# ---------------------------------------------------------------- ours


def ours(x: np.ndarray, sample: np.ndarray, k: int, device: Device) -> tuple[dict[str, float], bool]:
    """(seconds of each step, whether the CPU finds the same edges in some clusters)."""
    took = {}
    began = time.monotonic()
    found, _, _ = lloyd(sample, sample[:k], ITERATIONS, spherical=True, device=device)
    took["k-means"] = time.monotonic() - began
    began = time.monotonic()
    visits = Visits(found, Training(k=k, spherical=True, device=device), REACH).of(x)
    took["clusters"] = time.monotonic() - began
    began = time.monotonic()
    search = Products(bound_units(EPSILON), DIM, device)
    edges = [_edges(x, own, guests, search) for own, guests in clusters(visits, k)]
    took["products"] = time.monotonic() - began
    print(f"{sum(len(e) for e in edges):,} edges in {k:,} clusters; {search.candidates:,} products rechecked")
    plain = Products(bound_units(EPSILON), DIM)
    some = [pair for number, pair in enumerate(clusters(visits, k)) if number < AGAIN]
    return took, all(np.array_equal(_edges(x, *pair, plain), e) for pair, e in zip(some, edges, strict=False))


def clusters(visits: np.ndarray, k: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """(rows at home, rows that visit) of each cluster."""
    row, which = np.nonzero(visits >= 0)
    key = visits[row, which].astype(np.int64) * 2 + (which > 0)
    order = np.argsort(key, kind="stable")
    cuts = np.searchsorted(key[order], np.arange(2 * k + 1))
    for cluster in range(k):
        first, middle, end = cuts[2 * cluster : 2 * cluster + 3]
        yield row[order[first:middle]], row[order[middle:end]]


def _edges(x: np.ndarray, own: np.ndarray, guests: np.ndarray, search: Products) -> np.ndarray:
    """int64 (n, 3): two rows and their distance, in order. A pair at two homes is found in both."""
    home, away = x[own], x[guests]
    found = [search.among(home), search.between(home, away)]
    ends = (own, guests)
    rows = [np.stack([own[i], at[j], d], axis=1) for at, (i, j, d) in zip(ends, found, strict=True)]
    edges = np.concatenate(rows)
    return edges[np.lexsort((edges[:, 1], edges[:, 0]))]


# ---------------------------------------------------------------- theirs


def faiss_cpu(x: np.ndarray, sample: np.ndarray, k: int) -> dict[str, float]:
    """Seconds of each step, by all cores; of the last two those of ASKED rows, times as many as there are."""
    import faiss

    took = {}
    began = time.monotonic()
    kmeans = faiss.Kmeans(DIM, k, niter=ITERATIONS, spherical=True, seed=1, max_points_per_centroid=A_CENTROID)
    kmeans.train(sample)
    took["k-means"] = time.monotonic() - began
    some = x[: min(ASKED, len(x))]
    times = len(x) / len(some)
    coarse = faiss.IndexFlatIP(DIM)
    coarse.add(kmeans.centroids)
    began = time.monotonic()
    coarse.search(some, 2)
    took["clusters"] = (time.monotonic() - began) * times
    index = faiss.IndexIVFFlat(coarse, DIM, k, faiss.METRIC_INNER_PRODUCT)
    index.train(sample)
    index.add(x)
    index.nprobe = 2
    began = time.monotonic()
    index.range_search(some, 1 - EPSILON)
    took["products"] = (time.monotonic() - began) * times
    return took


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a tenth of the rows")
    parser.add_argument("--rows", type=int, default=0)
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda", help="cpu: to try this script itself")
    given = parser.parse_args()
    if given.device == "cuda" and not has_gpu():
        sys.exit(
            "error: bench/dedup_gpu.py needs an NVIDIA GPU, and torch sees none; bench/dedup_vectors.py is for CPUs"
        )
    finish(measured(given.rows or (ROWS // 10 if given.quick else ROWS), given.device), None)


if __name__ == "__main__":
    main()
