"""Ranking by numbers that earlier phases of the same filter have made, a file a shard, instead of by columns.

def phases(self, shape):
    return (..., Phase(MEASURED, ...), *from_measured(super().phases(shape)))

def run(self, phase, part, inputs):
    ...
    return super().run(phase, part, as_shards(inputs))        # `Ranked` reads (uid, asked, ...) of the file
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pyarrow as pa

from stages.base import Input, Inputs, Output, Phase, PhaseFile, Shape, ShardColumns, per_shard, shard_name
from stages.kmeans import CENTROIDS, assigned, placed
from stages.kmeans_training import Training, centroids
from stages.shuffle import Layout
from stages.vectors import ROWS, stored, unit

MEASURED = "measured"
"""Name of the phase that writes the files: one part a shard, with `uid`, `asked`, and what `order()` looks at."""


def from_measured(phases: Sequence[Phase]) -> tuple[Phase, ...]:
    """The phases with the files of `MEASURED` in place of the shards' columns."""
    return tuple(replace(phase, inputs=_instead(phase.inputs)) for phase in phases)


def _instead(inputs: Callable[[str], Sequence[Input]]) -> Callable[[str], Sequence[Input]]:
    def files(part: str) -> tuple[Input, ...]:
        keys = inputs(part)
        return tuple(PhaseFile(MEASURED, shard_name(k.shard)) if isinstance(k, ShardColumns) else k for k in keys)

    return files


def as_shards(inputs: Inputs) -> Inputs:
    """The files presented as the shards' columns; still loaded one at a time."""
    real: dict[Input, Input] = {}
    for key in inputs.keys:
        measured = isinstance(key, PhaseFile) and key.phase == MEASURED
        real[ShardColumns(int(key.part)) if isinstance(key, PhaseFile) and measured else key] = key
    return Inputs(tuple(real), lambda key: inputs.load(real[key]))


# ---------------------------------------------------------------- clusters that are made of those asked


def clustering(training: Training, shape: Shape) -> tuple[Phase, ...]:
    """The phases of k-means over the rows that are asked, up to `MEASURED`."""
    measured = per_shard(MEASURED, shape, extra=(PhaseFile(CENTROIDS, "all"),))
    return (*training.training(Layout(shape, ROWS)), replace(measured, need=training.machine(shape)))


def cluster(training: Training, phase: str, inputs: Inputs, vectors: str) -> Output | None:
    """The work of these phases; None where the phase is none of them.

    Files of `MEASURED` have (uid, asked, cluster, distance), the last two null without a vector, or where nobody asks.
    """
    if training.trains(phase):
        return training.train(phase, inputs, lambda table: _of_those_asked(table, vectors))
    if phase != MEASURED:
        return None
    table = inputs.select(ShardColumns).only()
    x, there = unit(table.column(vectors), vectors)
    mine = there & table.column("asked").to_numpy()
    first, _, distance = assigned(x[mine], centroids(inputs.select(PhaseFile).only()), training)
    columns = {"cluster": placed(first, mine, pa.int32()), "distance": placed(distance, mine, pa.float32())}
    return Output(pa.table({"uid": table.column("uid"), "asked": table.column("asked"), **columns}))


def _of_those_asked(table: pa.Table, vectors: str) -> tuple[np.ndarray, np.ndarray]:
    x, there = stored(table, vectors)
    return x, there & table.column("asked").to_numpy()
