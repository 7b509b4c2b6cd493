"""Connected components: 100 million edges between 64-bit nodes, and chains of one and two million.

The random graph has 0.4 nodes an edge, as in the specification; beside it scipy on nodes numbered already, at a tenth
of the size. A forest of eight parts, merged, must be the forest of the whole. Chains have their nodes and their links
in random order, the worst for union-find; numbers come before, so that only the finding of components is timed.

The last phase of a large pool's forest (`stages.near_forest`) holds a number for each node that is near another: it is
weighed with groups of three, whose nodes are in random order, from file to file.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

sys.path[:0] = [str(Path(__file__).resolve().parent), str(Path(__file__).resolve().parent.parent)]

from common import Bar, at_most, bar, environment, fresh  # noqa: E402

from stages.near_forest import AT_THE_TOP  # noqa: E402

NODES = 0.4  # an edge
PARTS = 8
BUCKETS = 64
LINEAR = 3
"""Times a chain may take that is twice as long: its nodes leave the cache on the way (measured: 2.5)."""


def measure(quick: bool) -> dict[str, Bar]:
    edges = 10_000_000 if quick else 100_000_000
    whole, parts, scipy = run("whole", edges), run("parts", edges // 10), run("scipy", edges // 10)
    print(f"{edges:,} edges: {whole['seconds']:.1f} s, {whole['cpu']:.1f} CPU-s, {whole['mb']:.0f} MB, of which the")
    print(f"edges are {whole['mb_before']:.0f}; {whole['nodes']:,} nodes, {whole['components']:,} components")
    print(f"{edges // 10:,} edges: ours {parts['seconds']:.2f} s, numbered before {scipy['ours']:.2f} s; scipy then")
    print(f"{scipy['seconds']:.2f} s; in {PARTS} parts and merged {parts['merged']:.2f} s")
    top = run("top", edges)
    a_node = (top["mb"] - top["mb_before"]) * 2**20 / edges
    print(f"{edges:,} nodes by numbers: {top['cpu']:.1f} CPU-s, {top['mb']:.0f} MB, {a_node:.1f} bytes a node")
    chain, longer = (run("chain", n)["cpu"] for n in (1_000_000, 2_000_000))
    print(f"a chain of a million nodes: {chain:.3f} CPU-s; of two million: {longer:.3f}")
    seconds = bar(round(whole["seconds"], 1), "25 at 1e8", None) if quick else at_most(whole["seconds"], 25, 1)
    return {
        "components_s": seconds,
        "components_mb": bar(round(whole["mb"]), "told", None),
        "forest_top_bytes_a_node": bar(round(a_node, 1), AT_THE_TOP, None) if quick else at_most(a_node, AT_THE_TOP, 1),
        "components_of_parts_are_the_same": bar(parts["same"] and scipy["same"], True, parts["same"] and scipy["same"]),
        "chain_of_a_million_s": at_most(chain, 1),
        "chain_of_two_million_over_one": at_most(longer / chain, LINEAR, 2),
    }


# ---------------------------------------------------------------- the work, in processes of their own


def run(what: str, n: int) -> dict[str, Any]:
    command = [sys.executable, __file__, what, str(n)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment(), check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} gave {done.returncode}:\n{done.stderr[-3000:]}")
    return dict(json.loads(done.stdout.splitlines()[-1]))


def drawn(edges: int) -> tuple[np.ndarray, np.ndarray]:
    """Random edges between random nodes, uint64."""
    rng = np.random.default_rng(0)
    nodes = rng.integers(0, 2**64, int(NODES * edges), dtype=np.uint64)
    a, b = (nodes[rng.integers(0, len(nodes), edges, dtype=np.uint32)] for _ in range(2))
    return a, b


def whole(edges: int) -> dict[str, Any]:
    from stages.components import components

    a, b = drawn(edges)
    components(a[:1000], b[:1000])  # loads the kernels
    before = _peak_mb()
    began, cpu = time.perf_counter(), time.process_time()
    nodes, label = components(a, b)
    seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
    found = {"nodes": len(nodes), "components": int((nodes == label).sum())}
    return {"seconds": seconds, "cpu": cpu, "mb": _peak_mb(), "mb_before": before, **found}


def parts(edges: int) -> dict[str, Any]:
    """The same forest from parts of the edges, each reduced by itself, as a tree of phases does it."""
    from stages.components import components, merged

    a, b = drawn(edges)
    components(a[:1000], b[:1000])
    began = time.perf_counter()
    at_once = components(a, b)
    seconds, began = time.perf_counter() - began, time.perf_counter()
    forest = merged(components(a[part::PARTS], b[part::PARTS]) for part in range(PARTS))
    took = time.perf_counter() - began
    same = all(np.array_equal(x, y) for x, y in zip(at_once, forest, strict=True))
    return {"seconds": seconds, "merged": took, "same": same}


def scipy(edges: int) -> dict[str, Any]:
    """The rival, from numbers of nodes: it knows no others."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    from stages.components import component_labels

    rng, n = np.random.default_rng(0), int(NODES * edges)
    i, j = (rng.integers(0, n, edges) for _ in range(2))
    component_labels(3, i[:0], j[:0])
    began = time.perf_counter()
    ours = component_labels(n, i, j)
    took, began = time.perf_counter() - began, time.perf_counter()
    graph = coo_array((np.ones(edges, np.int8), (i, j)), shape=(n, n))
    _, component = connected_components(graph, directed=False)
    seconds = time.perf_counter() - began
    _, first = np.unique(component, return_index=True)
    return {"ours": took, "seconds": seconds, "same": bool(np.array_equal(ours, first[component]))}


def chain(n: int) -> dict[str, Any]:
    from stages.components import component_labels

    rng = np.random.default_rng(0)
    nodes, at = rng.permutation(n), rng.permutation(n - 1)
    i, j = nodes[:-1][at], nodes[1:][at]
    component_labels(3, i[:0], j[:0])
    times = []
    for _ in range(7):
        began = time.process_time()
        if component_labels(n, i, j).any():
            raise RuntimeError("a chain is one component")
        times.append(time.process_time() - began)
    return {"cpu": min(times)}


def top(nodes: int) -> dict[str, Any]:
    """The phase `forest` of numbered nodes, as a worker does it: read, run, commit."""
    import pyarrow as pa

    from curate.pool.columns import read_table, write_groups
    from curate.pool.storage import Storage
    from stages.base import Input, Inputs, PhaseFile
    from stages.components import components
    from stages.near_forest import numbered_forest

    storage = Storage.at(run("joins", nodes)["folder"])

    def load(key: Input) -> pa.Table:
        assert isinstance(key, PhaseFile)
        return read_table(storage, f"{key.part}.parquet")[0]

    few = np.arange(9, dtype=np.uint64)
    components(few, few)  # loads the kernels
    before, cpu = _peak_mb(), time.process_time()
    keys = [PhaseFile("joins", f"{b:05d}") for b in range(BUCKETS)]
    output = numbered_forest(f"all-of-{BUCKETS:05d}", Inputs(keys, load))
    assert not isinstance(output.tables, pa.Table)
    storage.commit("forest.parquet", write_groups(output.tables, {}))
    return {"cpu": time.process_time() - cpu, "mb": _peak_mb(), "mb_before": before}


def joins(nodes: int) -> dict[str, Any]:
    """Files of links (i, j), a bucket of i each: two for every three nodes."""
    import pyarrow as pa

    from curate.pool.columns import write_groups
    from curate.pool.storage import Storage

    folder = fresh("dedup-components")
    storage, rng = Storage.at(folder), np.random.default_rng(0)
    node = np.arange(nodes // 3 * 3, dtype=np.uint32)
    rng.shuffle(node)
    groups = node.reshape(-1, 3)
    a, b = (np.concatenate([groups[:, x], groups[:, x + 1]]) for x in (0, 1))
    for bucket in range(BUCKETS):
        here = a % BUCKETS == bucket
        i, j = (
            ((x[here] % BUCKETS).astype(np.uint64) << np.uint64(32)) + (x[here] // BUCKETS).astype(np.uint64)
            for x in (a, b)
        )
        order = np.argsort(i)
        storage.commit(f"{bucket:05d}.parquet", write_groups([pa.table({"i": i[order], "j": j[order]})], {}))
    return {"folder": str(folder)}


def _peak_mb() -> float:
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


WORK = {"whole": whole, "parts": parts, "scipy": scipy, "chain": chain, "top": top, "joins": joins}

if __name__ == "__main__":
    print(json.dumps(WORK[sys.argv[1]](int(sys.argv[2]))))
