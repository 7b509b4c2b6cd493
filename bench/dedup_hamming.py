"""All pairs of 64-bit hashes within 4 bits: a million, ten million, heavy hitters, and beside faiss and imagededup.

Hashes are drawn as in the specification: 70 % random, 30 % copies of those in groups of skewed sizes with Poisson(2)
bits turned; with `identical`, 3 % of them are one hash; with `blank`, 3 % are noise of Poisson(5) bits around the hash
of a flat picture, which a pool would set aside before: here they are joined. Ours is timed from hashes as they come,
equal ones still in, to ordered pairs, in a process of its own with the kernels loaded, best of five (of ten
million: of two). faiss answers a sample of queries and is extrapolated to all of them, index included; for each of its
indexes, at its better number of threads, ours at the same. Its answers must be ours.
"""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

sys.path[:0] = [str(Path(__file__).resolve().parent), str(Path(__file__).resolve().parent.parent)]

from common import NOT_MEASURED, ROOT, WORK, Bar, at_most, bar, environment  # noqa: E402

DISTANCE = 4
HEAVY = 0.03
"""Share of the heavy hitters: 30,000 in a million."""
THREADS = (1, 2)
QUERIES = {"flat": 2_000, "multihash": 20_000}
FOLDER = WORK / "hamming"
PATIENCE_S = 60  # what imagededup gets for a size
THEIRS = WORK / "imagededup-venv"

Answer = dict[str, Any]


def measure(quick: bool) -> dict[str, Bar]:
    few, many = (100_000, 1_000_000) if quick else (1_000_000, 10_000_000)
    ours = {threads: run("ours", "clean", few, threads) for threads in THREADS}
    large = run("ours", "clean", many, max(THREADS))
    heavy = {kind: run("ours", kind, few, max(THREADS)) for kind in ("identical", "blank")}
    for name, a in [*((f"{few:,} on {t}", a) for t, a in ours.items()), (f"{many:,} on 2", large), *heavy.items()]:
        print(f"{name}: {a['seconds']:.2f} s, {a['cpu']:.2f} CPU-s, {a['pairs']:,} pairs, {a['mb']:.0f} MB")
    bars = {} if quick else _times(ours[max(THREADS)], large)
    bars["hamming_exponent"] = at_most(_exponent(ours[max(THREADS)], large, many / few), 1.5)
    for kind, answer in heavy.items():
        bars[f"hamming_30k_{kind}_ratio"] = at_most(answer["seconds"] / ours[max(THREADS)]["seconds"], 2.5, 2)
    for index, limit in (("flat", 500), ("multihash", 20)):
        bars |= _beside_faiss(index, few, ours, None if quick else limit)
    return bars | {"imagededup": _imagededup(3_000 if quick else 100_000, ours[1]["seconds"], few)}


def _times(few: Answer, many: Answer) -> dict[str, Bar]:
    return {
        "hamming_1m_s": at_most(few["seconds"], 3, 2),
        "hamming_1m_mb": at_most(few["mb"], 4096, 0),
        "hamming_10m_s": at_most(many["seconds"], 120, 1),
        "hamming_10m_mb": at_most(many["mb"], 4096, 0),
    }


def _exponent(few: Answer, many: Answer, ratio: float) -> float:
    return math.log(many["seconds"] / few["seconds"]) / math.log(ratio)


def _beside_faiss(index: str, n: int, ours: dict[int, Answer], limit: float | None) -> dict[str, Bar]:
    """How many times our time one of its indexes takes, and whether both find the same neighbours of the sample."""
    try:
        import faiss  # noqa: F401
    except ImportError:
        print("faiss is not installed: pip install faiss-cpu")
        return {f"times_faiss_{index}": NOT_MEASURED}
    theirs = {threads: run(index, "clean", n, threads) for threads in THREADS}
    for threads, a in theirs.items():
        print(f"{index} on {threads}: {a['seconds']:.0f} s extrapolated from {QUERIES[index]:,} queries")
    best = min(THREADS, key=lambda threads: theirs[threads]["seconds"])
    ratio = theirs[best]["seconds"] / ours[best]["seconds"]
    name = f"times_faiss_{index}_extrapolated"
    same = all(_same(index, n, threads) for threads in THREADS)
    return {
        name: bar(round(ratio), limit or "at a million", ratio >= limit if limit else None),
        f"faiss_{index}_says_the_same": bar(same, True, same),
    }


def _same(index: str, n: int, threads: int) -> bool:
    """Has each query of the sample as many neighbours there as here, and the same sum of their numbers?"""
    theirs = np.load(FOLDER / f"{index}-{n}-{threads}.npy")
    ours = np.load(FOLDER / f"ours-clean-{n}.npy")
    return bool(np.array_equal(theirs[:, 1:], ours[theirs[:, 0]]))


def _imagededup(most: int, seconds: float, n: int) -> Bar:
    """The largest size at which each of its methods ends in PATIENCE_S."""
    if not (THEIRS / "installed").exists() and not _install():
        print("imagededup could not be installed: not measured")
        return NOT_MEASURED
    told = []
    for method in ("brute_force_cython", "bktree"):
        last = (0, 0.0)
        for size in (s for s in (1_000, 3_000, 10_000, 30_000, 100_000) if s <= most):
            answer = _theirs_of(size, method)
            if answer is None:
                break
            print(
                f"imagededup {method}: {size:,} in {answer['seconds']:.1f} s; {answer['pairs']:,} of {_pairs(size):,}"
            )
            last = (size, answer["seconds"])
        told.append(f"{method} {last[0]:,} in {last[1]:.0f} s" if last[0] else f"{method} none")
    return bar("; ".join(told), f"told; ours {n:,} in {seconds:.2f} s", None)


def _theirs_of(size: int, method: str) -> Answer | None:
    """None where it did not end in time, or failed."""
    script = str(ROOT / "bench" / "dedup_imagededup.py")
    command = [str(THEIRS / "bin" / "python"), script, str(_data("clean", size)), method]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        said, complaint = process.communicate(timeout=PATIENCE_S)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)  # its workers too, which would wait for ever
        process.communicate()
        print(f"imagededup {method}: {size:,} not in {PATIENCE_S} s")
        return None
    if process.returncode:
        print(f"imagededup {method}: {size:,} failed: {complaint[-300:]}")
        return None
    return dict(json.loads(said.splitlines()[-1]))


def _install() -> bool:
    """Without torch, which its search never uses: see dedup_imagededup.py."""
    pip = [str(THEIRS / "bin" / "python"), "-m", "pip", "install", "-q"]
    steps = (
        [sys.executable, "-m", "venv", str(THEIRS)],
        [*pip, "--no-deps", "imagededup"],
        [*pip, "numpy", "tqdm", "scikit-learn", "scipy", "PyWavelets", "pillow", "matplotlib"],
    )
    if any(subprocess.run(step, capture_output=True, check=False).returncode for step in steps):
        return False
    (THEIRS / "installed").touch()
    return True


def _pairs(n: int) -> int:
    from stages.hamming import distinct, pairs_within

    return len(pairs_within(distinct(np.load(_data("clean", n))), DISTANCE)[0])


# ---------------------------------------------------------------- data


def _data(kind: str, n: int) -> Path:
    path = FOLDER / f"hashes-{kind}-{n}.npy"
    if not path.exists():
        FOLDER.mkdir(parents=True, exist_ok=True)
        np.save(path, hashes(kind, n))
    return path


def hashes(kind: str, n: int, seed: int = 0) -> np.ndarray:
    """uint64 (n,), shuffled; different ones, but for `identical`."""
    from stages.hamming import distinct

    rng = np.random.default_rng(seed)
    base = rng.integers(0, 2**64, 7 * n // 10, dtype=np.uint64)
    found = base
    while len(found) < n:
        found = distinct(np.concatenate([found, copies(base, n - len(found), rng)]))
    found = rng.permutation(found)
    heavy = int(HEAVY * n)
    if kind == "identical":
        found[:heavy] = found[0]
    if kind == "blank":
        turned = (rng.random((heavy, 64)) < 5 / 64) * (np.uint64(1) << np.arange(64, dtype=np.uint64))
        found[:heavy] = np.uint64(1 << 63) ^ turned.sum(axis=1, dtype=np.uint64)
    return rng.permutation(found)


def copies(base: np.ndarray, n: int, rng: np.random.Generator) -> np.ndarray:
    """n copies of some of `base`, Zipf(2.6) of one, at most 1000, each with Poisson(2) bits turned."""
    sizes = np.minimum(rng.zipf(2.6, n), 1000)
    found = np.repeat(rng.choice(base, n), sizes)[:n]
    flips = rng.poisson(2, n)
    for flip in range(int(flips.max(initial=0))):
        more = flips > flip
        found[more] ^= np.uint64(1) << rng.integers(0, 64, more.sum(), dtype=np.uint64)
    return found


# ---------------------------------------------------------------- the work, in processes of their own


def run(what: str, kind: str, n: int, threads: int) -> Answer:
    _data(kind, n)
    command = [sys.executable, __file__, what, kind, str(n), str(threads)]
    env = environment({"OMP_NUM_THREADS": str(threads)})
    done = subprocess.run(command, capture_output=True, text=True, env=env, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} gave {done.returncode}:\n{done.stderr[-3000:]}")
    return dict(json.loads(done.stdout.splitlines()[-1]))


def ours(kind: str, n: int, threads: int) -> Answer:
    from stages.hamming import distinct, pairs_within

    given = np.load(_data(kind, n))
    pairs_within(distinct(given[:10_000]), DISTANCE, threads=threads)  # loads the kernels
    before = _peak_mb()
    times = []
    for _ in range(5 if n <= 1_000_000 else 2):
        began, cpu = time.perf_counter(), time.process_time()
        unique = distinct(given)
        i, j, _ = pairs_within(unique, DISTANCE, threads=threads)
        times.append((time.perf_counter() - began, time.process_time() - cpu))
    if kind == "clean":
        size = len(unique)
        degree = np.bincount(i, minlength=size) + np.bincount(j, minlength=size)
        total = np.bincount(i, j, size) + np.bincount(j, i, size)  # float64 holds these sums exactly
        np.save(FOLDER / f"ours-{kind}-{n}.npy", np.stack([degree, total.astype(np.int64)], axis=1))
    seconds, cpu = min(times)
    return {"seconds": seconds, "cpu": cpu, "pairs": len(i), "mb": _peak_mb(), "mb_before": before}


def theirs(what: str, n: int, threads: int) -> Answer:
    import faiss

    from stages.hamming import distinct

    faiss.omp_set_num_threads(threads)
    unique = distinct(np.load(_data("clean", n)))
    codes = unique.view(np.uint8).reshape(-1, 8)
    asked = np.sort(np.random.default_rng(1).choice(len(unique), min(QUERIES[what], len(unique)), replace=False))
    began = time.perf_counter()
    if what == "flat":
        index = faiss.IndexBinaryFlat(64)
    else:
        index = faiss.IndexBinaryMultiHash(64, 3, 21)
        index.nflip = 1
    index.add(codes)
    built = time.perf_counter() - began
    began = time.perf_counter()
    limits, _, found = index.range_search(codes[asked], DISTANCE + 1)  # it gives what is nearer than that
    answered = time.perf_counter() - began
    of = np.repeat(np.arange(len(asked)), np.diff(limits).astype(np.int64))
    other = found != asked[of]  # a query finds itself
    degree = np.bincount(of[other], minlength=len(asked))
    total = np.bincount(of[other], found[other], len(asked)).astype(np.int64)
    np.save(FOLDER / f"{what}-{n}-{threads}.npy", np.stack([asked, degree, total], axis=1))
    return {"seconds": built + answered * len(unique) / len(asked), "mb": _peak_mb()}


def _peak_mb() -> float:
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    what, kind, n, threads = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    print(json.dumps(ours(kind, n, threads) if what == "ours" else theirs(what, n, threads)))
