"""Training k-means over many shards, with the same centroids whatever their order, cut, threads and device.

    training = Training(k="n/128", iterations=20)
    training.training(layout)                      # phases: count, total-0, sample, [start, sums-001, ...], centroids
    training.train(phase, inputs, read)            # the work of each; `read` gives a table's vectors
    centroids(table)                               # what the last of them wrote: float32 (k, dim), on the grid

The algorithm is Lloyd's as FAISS runs it: from `k` of the vectors, drawn; `iterations` times all are assigned to the
nearest centroid and centroids become means; `spherical` brings these to length one; an empty cluster takes half of
the largest, moved apart by 1/1024 in alternate coordinates (FAISS draws which cluster is halved, here it is the
largest). FAISS itself only searches (`stages.vectors.Nearest`): its own training hangs on threads and device in the
last bits, and holds the whole sample. Sums of vectors on a grid are exact, so that here nothing hangs on anything.

What is trained on: `sample` says it; left out, some 256 vectors a centroid, as FAISS, drawn by uid. (DataComp's
image_based trains on all rows of its two smaller pools, on 0.3 of `large` and 0.03 of `xlarge`: write `sample: 1`, 0.3
or 0.03.) A sample of up to `IN_MEMORY` vectors that one part trains on within hours is trained on there, and it stops
where nothing moves. Another stays in files, and each iteration is a phase of parts that read some of them, as many as
make a part last about an hour (`stages.kmeans_size`), and phases that add their sums up.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Literal

import numpy as np
import pyarrow as pa
from pydantic import Field, field_validator

from stages.base import Inputs, Need, Output, Parameters, Phase, PhaseFile, Shape, tree
from stages.draws import hash64_halves
from stages.kmeans_parts import Smallest, add_table, merged, sums_table
from stages.kmeans_size import HOUR, count_of, machine, parts_for, seconds
from stages.lloyd import add_up, lloyd, means
from stages.shuffle import Layout, halves
from stages.vectors import Device, Nearest, as_column, joined, rows_of, unit

IN_MEMORY = 1 << 17
"""Vectors of a sample that one part may hold: 400 MB in 768 dimensions."""

EACH = 256  # vectors a centroid in the sample, where none is said: as FAISS
PARTS = 32  # parts that share the work of an iteration, at least
FAN_IN = 64  # sums of parts that are added up at a time
HOURS = 8  # of training in one part, at most

Read = Callable[[pa.Table], tuple[np.ndarray, np.ndarray]]
"""A shard's table -> (vectors as they are (n, dim), bool (n,): which take part)."""


class Training(Parameters):
    """Parameters of k-means, and its phases."""

    k: int | str = Field(
        description='centroids: a number, "n/128", or "min(max(n/128, 1000), 100000)"; n is the number of vectors '
        "clustered. Where n is 0 there are none; a number above n is an error, a text means n then.",
    )
    sample: float | None = Field(
        default=None,
        gt=0,
        description="vectors to train on, drawn by uid: a share of them (up to 1), or about how many; left out, 256 a "
        "centroid, which is all of them where n is less than 256 k.",
    )
    iterations: int = Field(default=20, ge=1, le=1000, description="of Lloyd's algorithm.")
    spherical: bool = Field(default=False, description="centroids are brought to length one after each iteration.")
    assign: Literal["nearest", "dot"] = Field(
        default="nearest",
        description="nearest (L2), or dot: the largest inner product, as DataComp's image_based assigns to centroids "
        "of L2.",
    )
    seed: int = Field(default=0, description="of the sample, and of the vectors that centroids start from.")
    device: Device = Field(
        default="cpu", exclude=True, description="cuda searches on a GPU, with torch; the answer is the same one."
    )

    @field_validator("k")
    @classmethod
    def _readable(cls, k: int | str) -> int | str:
        if isinstance(k, str):
            count_of(k)
        elif k < 1:
            raise ValueError('k: write a number above 0, "n/128", or "max(n/128, 1000)"')
        return k

    def centroids_of(self, n: int) -> int:
        """How many centroids n vectors get: none where there are none.

        Raises:
            ValueError: vectors, but fewer than the number asked for.
        """
        if n > 0 and isinstance(self.k, int) and n < self.k:
            raise ValueError(
                f"k-means: {n} vectors are too few for k: {self.k}; write a smaller k, as n/128, or "
                f'"min(n, {self.k})" for one of each vector where there are no more'
            )
        return min(self.most(n), n)

    def most(self, n: int) -> int:
        """Centroids that up to n vectors get, at most."""
        return self.k if isinstance(self.k, int) else max(count_of(self.k)(n), 1)

    def share_of(self, n: int) -> float:
        """The share of n vectors that is trained on."""
        wanted = self.sample
        if wanted is None:
            wanted = EACH * self.centroids_of(n) if n else 1
        return wanted if wanted <= 1 else min(1, wanted / max(n, 1))

    def at_most(self, n: int) -> float:
        """Vectors in the sample, of up to n that are there."""
        if self.sample is not None:
            return self.sample * n if self.sample <= 1 else min(n, self.sample)
        return min(n, EACH * self.most(n))

    # ---- phases

    def training(self, layout: Layout) -> tuple[Phase, ...]:
        """The phases up to the one named "centroids", with one part "all"."""
        count = layout.from_shards("count")
        total = tree("total", "count", layout.spans)
        known = PhaseFile(total[-1].name, "all")
        plain = layout.from_shards("sample")
        sample = Phase("sample", layout.spans, lambda part: (known, *plain.inputs(part)), need=plain.need)
        head = (count, *total, sample)
        files = tuple(PhaseFile("sample", span) for span in layout.spans)
        rows = layout.shape.total
        vectors, k = self.at_most(rows), self.most(rows)
        pairs = vectors * k * self.iterations
        if vectors <= IN_MEMORY and seconds(pairs, "cpu") <= HOURS * HOUR:  # whatever the device: files are shared
            need = machine(k, self.device, pairs)
            return (*head, Phase("centroids", ("all",), lambda _: (known, *files), need=need))
        return (*head, *self._iterations(known, files, vectors, k))

    def _iterations(self, known: PhaseFile, files: tuple[PhaseFile, ...], vectors: float, k: int) -> Iterator[Phase]:
        count = min(len(files), max(PARTS, parts_for(vectors, k)))
        shared = {f"{i:05d}-of-{count:05d}": files[i::count] for i in range(count)}
        searches, adds = machine(k, self.device, vectors * k / count), machine(k, "cpu")
        yield Phase("start", ("all",), lambda _: (known, *files), need=adds)
        before = PhaseFile("start", "all")
        for i in range(1, self.iterations + 1):
            sums, after = f"sums-{i:03d}", "centroids" if i == self.iterations else f"step-{i:03d}"
            yield Phase(sums, tuple(shared), _files(before, shared), need=searches)
            added = tuple(PhaseFile(sums, part) for part in shared)
            if count > FAN_IN:  # the sums of a part are as large as all centroids
                merges = tree(f"merge-{i:03d}", sums, tuple(shared), FAN_IN)
                yield from (replace(phase, need=adds) for phase in merges)
                added = (PhaseFile(merges[-1].name, "all"),)
            yield Phase(after, ("all",), _files(before, {"all": added}), need=adds)
            before = PhaseFile(after, "all")

    def trains(self, phase: str) -> bool:
        """Is the phase one of those?"""
        return phase in ("count", "sample", "start", "centroids") or phase.startswith(
            ("total-", "sums-", "merge-", "step-")
        )

    def machine(self, shape: Shape) -> Need:
        """A worker that searches among as many centroids as the vectors of that shape may get, for one shard."""
        k = self.most(shape.total)
        return machine(k, self.device, k * max(shape.rows, default=0))

    def train(self, phase: str, inputs: Inputs, read: Read) -> Output:
        """The work of the phases above."""
        if phase == "count":
            return Output(pa.table({"n": pa.array([sum(int(read(t)[1].sum()) for t in inputs)], pa.int64())}))
        if phase.startswith("total-"):
            return Output(pa.table({"n": pa.array([_total(inputs)], pa.int64())}))
        if phase == "sample":
            return self._sample(inputs, read)
        if phase.startswith("sums-"):
            return self._sums(inputs)
        if phase.startswith("merge-"):
            return merged(inputs)
        if phase == "start" or (phase == "centroids" and len(inputs.select(PhaseFile, "sample"))):
            return self._start(inputs) if phase == "start" else self._train(inputs)
        if phase == "centroids" or phase.startswith("step-"):
            return self._step(inputs)
        raise ValueError(f"k-means has no phase {phase!r}")

    def _sample(self, inputs: Inputs, read: Read) -> Output:
        """(high, low, vector) of the rows that are trained on, as they are stored."""
        n = _total(inputs.select(PhaseFile))
        share = self.share_of(n)
        found = []
        for table in (t for key, t in zip(inputs.keys, inputs, strict=True) if not isinstance(key, PhaseFile)):
            x, mine = read(table)
            high, low = halves(table.column("uid"))
            drawn = (hash64_halves(self.seed, "kmeans_sample", high, low) >> np.uint64(11)) * 2.0**-53
            mine = mine & (drawn < share)
            found.append(pa.table({"high": high[mine], "low": low[mine], "vector": as_column(x[mine])}))
        table = joined(found)
        return Output(table, {"of": n, "sampled": table.num_rows})

    def _start(self, inputs: Inputs) -> Output:
        """The first centroids: the vectors with the smallest draws."""
        return Output(table_of(*self._first(inputs.select(PhaseFile, "sample"), self._wanted(inputs))))

    def _wanted(self, inputs: Inputs) -> int:
        return self.centroids_of(_total(_of_first(inputs)))

    def _first(self, sample: Iterable[pa.Table], wanted: int) -> tuple[np.ndarray, np.ndarray]:
        smallest = Smallest(wanted)
        for table in sample:
            high, low = (table.column(name).to_numpy() for name in ("high", "low"))
            drawn = hash64_halves(self.seed, "kmeans_start", high, low)
            near = np.flatnonzero(drawn <= smallest.limit)
            if len(near):
                x, _ = unit(table.column("vector").take(pa.array(near)), "k-means")
                smallest.add(np.stack([drawn, high, low])[:, near], x)
        best = smallest.rows()
        if len(best) < wanted:
            raise ValueError(
                f"k-means: a sample of {len(best)} vectors is too small for {wanted} centroids; write a larger sample"
            )
        return best, np.zeros(len(best), np.int64)

    def _train(self, inputs: Inputs) -> Output:
        """All iterations over a sample that fits in memory."""
        sample = joined(inputs.select(PhaseFile, "sample"))
        first, counts = self._first([sample], self._wanted(inputs))
        x, _ = unit(sample.column("vector"), "k-means")
        found, counts, rounds = lloyd(x, first, self.iterations, self.spherical, self.device)
        return Output(table_of(found, counts), {"k": len(found), "sampled": len(x), "iterations": rounds})

    def _sums(self, inputs: Inputs) -> Output:
        """(cluster, count, sum) over some files of the sample."""
        nearest = Nearest(centroids(_of_first(inputs).only()), device=self.device)
        counts, sums = np.zeros(len(nearest.rows), np.int64), np.zeros(nearest.rows.shape)
        for table in inputs.select(PhaseFile, "sample"):
            x, _ = unit(table.column("vector"), "k-means")
            add_up(x, nearest.of(x)[0], counts, sums)
        return Output(sums_table(counts, sums), {"sampled": int(counts.sum())})

    def _step(self, inputs: Inputs) -> Output:
        """Centroids from the sums of all parts."""
        before = centroids(_of_first(inputs).only())
        counts, sums = np.zeros(len(before), np.int64), np.zeros(before.shape)
        for table in (t for t in inputs if "sum" in t.column_names):
            add_table(table, counts, sums)
        found = means(before, counts, sums, self.spherical)
        return Output(table_of(found, counts), {"k": len(found), "empty": int((counts == 0).sum())})


def _files(before: PhaseFile, table: Mapping[str, tuple[PhaseFile, ...]]) -> Callable[[str], tuple[PhaseFile, ...]]:
    return lambda part: (before, *table[part])


def _of_first(inputs: Inputs) -> Inputs:
    """The inputs of the phase that the first one is of: its only file."""
    first = inputs.keys[0]
    assert isinstance(first, PhaseFile)
    return inputs.select(PhaseFile, first.phase)


def _total(inputs: Iterable[pa.Table]) -> int:
    return sum(int(n) for table in inputs for n in table.column("n").to_pylist())


# ---------------------------------------------------------------- centroids as a file


def table_of(found: np.ndarray, counts: np.ndarray) -> pa.Table:
    """Centroids, and how many vectors of the sample each was made of."""
    return pa.table({"centroid": as_column(found), "count": counts})


def centroids(table: pa.Table) -> np.ndarray:
    """float32 (k, dim), on the grid."""
    return rows_of(table.column("centroid"), "k-means")[0]
