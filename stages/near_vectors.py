"""Groups of near vectors over the whole pool: what `filters.keep_one` thins by `near`.

    NearVectors(vectors="clip_image", epsilon=0.05)           # pairs whose cosine is at least .95

    filters:
      - keep_one: {near: {vectors: clip_image, epsilon: 0.05}, over: survivors, prefer: ["clip_score desc"]}

Vectors are brought to length one and cut into clusters by spherical k-means. Each is compared with those of its own
cluster, and as a visitor with those of clusters that are nearly as near (`stages.near_vector_visits`): pairs whose two
ends lie on either side of a border are lost otherwise. What is compared is decided in exact numbers; a pair is lost
only where neither end visits the other's cluster. On a million vectors drawn to be like CLIP's, in 1000 clusters, with
2.1 places a vector, 1 planted pair of 250,000 was lost (`python bench/dedup.py --only vectors`, which also says what
one and two clusters for each lose). How it is with real vectors is not measured: `reach` trades time for pairs.
`within_clusters` compares own clusters only, as SemDeDup (Abbas et al. 2023) and NeMo Curator do, and loses more.
SemDeDup's code drops above 1 - epsilon, NeMo Curator from it on, as here.

Phases, after `nodes` (see `stages.near`):

    count ... centroids   k-means on the first list that the pool was made of, frozen afterwards: what comes later is
                          assigned to the same centroids (`stages.kmeans_training`)
    assign                a part a span of shards: each vector to its cluster and to those it visits, by bucket
    compared              a part a list and bucket: pairs of one of that list and one of it or of an earlier list
    pairs, ...            the same by bucket of nodes, then as in `stages.near`

All of these are reused when the pool grows: old vectors are neither assigned nor compared again. So k, the number of
buckets and how large clusters are cut hang on the first list alone, or where that is less than 1/64 of the pool, on as
many of the first lists as make that up (`stages.near_vector_phases`): a pool that has grown so far is clustered anew.

A part holds 0.8 GB of vectors, and what memory does not hold it reads again in chunks, so that a cluster may be of
any size. Its pairs are held, too. Thousands of vectors that are all near to one another, but not equal, would make
millions: a cluster that finds more than 2^21 = 2,097,152 pairs, and more than 16 for each vector in it, keeps of each
vector those with its nearest (`stages.near_vector_crowds`). So of such a crowd a keep rule keeps some where one could
do; what it drops still has a near one. Footers of `compared` name these clusters, and say how many pairs were left out.
Equal vectors make no pairs.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

import numpy as np
import pyarrow as pa
from pydantic import Field

from stages.base import Column, Inputs, Output, Phase, PhaseFile, Shape, ShardColumns, Source
from stages.kmeans_training import Training, centroids
from stages.near import Near, pairs_output
from stages.near_vector_cells import groups_of, meetings
from stages.near_vector_pairs import Bucket
from stages.near_vector_phases import Plan, first_shard_of_list
from stages.near_vector_rows import node_of, packed
from stages.near_vector_tiles import UNIT, bound_units
from stages.near_vector_visits import MOST, Visits
from stages.shuffle import Layout, bucket, buckets_of, first_shard, stacked
from stages.vectors import as_column, joined, rows_of, split_table, stored, unit

BLOCK = 8192  # vectors at a time
NAME = "^[a-z][a-z0-9_]{0,31}$"


class Coarse(Training):
    """How the vectors are cut into clusters; trained on the first list that the pool was made of."""

    k: int | str = Field(
        default="min(max(n/1000, 1), 50000)", description="as of `kmeans`; n is the number of vectors of that list."
    )
    iterations: int = Field(default=5, ge=1, le=1000, description="of Lloyd's algorithm.")
    spherical: bool = Field(default=True, description="centroids are brought to length one after each iteration.")


class NearVectors(Near):
    """Pairs of vectors whose 1 - cosine, rounded to 1e-6, is at most epsilon.

    Args:
        vectors: column of vectors; they are brought to length one. Null, zero and infinite ones take part in nothing.
        epsilon: the largest 1 - cosine of a pair.
        clusters: of the k-means whose clusters are compared; `device: cuda` assigns and compares on a GPU, with torch:
            the answer is the same one.
        reach: a vector visits clusters, up to seven, whose product with it is less than that of its own by no more than
            this share of sqrt(2 epsilon), the step between the ends of a pair at the bound.
        within_clusters: compare each vector with those of its own cluster only.
        name: begins the names of the columns; left out, it is the vectors'.

    Footers: of `nodes`, how many samples take part; of `compared`, how many pairs there are, and `crowds`, clusters
    that left some out: `left_out`, `limits_halved`, `largest_crowds` (`stages.near_vector_crowds.PartPairs.stats`).

    Raises:
        ValueError: vectors of several lengths; no GPU.
    """

    scale: ClassVar[float] = 1 / UNIT

    vectors: Source
    epsilon: float = Field(ge=0, le=2)
    clusters: Coarse = Coarse()
    reach: float = Field(default=0.05, ge=0)
    within_clusters: bool = False
    name: str | None = Field(default=None, pattern=NAME)

    @property
    def label(self) -> str:
        return self.name or self.vectors.field

    def bound(self) -> tuple[float, str]:
        return self.epsilon, f"epsilon {self.epsilon:g}"

    def reads(self) -> tuple[Column, ...]:
        return (self.vectors,)

    def nodes_of(self, table: pa.Table) -> tuple[np.ndarray, np.ndarray]:
        x, there = unit(table.column(self.vectors.field), self.vectors.field)
        node = np.zeros(len(x), np.uint64)
        node[there] = node_of(x[there])
        return node, there

    def phases(self, shape: Shape) -> tuple[Phase, ...]:
        layout, plan = Layout(shape, stamped=True), Plan(shape, self.clusters)
        pairs = plan.pairs(layout.buckets)
        assert not callable(pairs.parts)
        return (
            self.nodes_phase(shape),
            *plan.training(),
            plan.assign(),
            plan.compared(),
            pairs,
            *self.closing(layout, pairs.parts),
        )

    def run(self, phase: str, part: str, inputs: Inputs) -> Output:
        match phase:
            case "assign":
                return self._assign(part, inputs)
            case "compared":
                return self._compare(part, inputs)
            case "pairs":
                found = stacked(inputs)
                return pairs_output(found["a"], found["b"], found["distance"], buckets_of(part))
        if self.clusters.trains(phase):
            return self.clusters.train(phase, inputs, self._read)
        done = self.close(phase, part, inputs)
        if done is None:
            raise ValueError(f"NearVectors has no phase {phase!r}")
        return done

    def _read(self, table: pa.Table) -> tuple[np.ndarray, np.ndarray]:
        """(vectors, which are there) of a shard, or of its file of `nodes`, for k-means; the latter has no vectors."""
        if "node" in table.column_names:
            return np.zeros((table.num_rows, 0)), table.column("node").is_valid().to_numpy()
        return stored(table, self.vectors.field)

    # ---- vectors to their clusters

    def _assign(self, part: str, inputs: Inputs) -> Output:
        """(node, cluster, tile, group, home, visits, vector_*) of each place that a vector is sent to, by bucket."""
        trained, total = (inputs.load(key) for key in inputs.select(PhaseFile).keys)
        found, groups, visits = centroids(trained), np.ones(1, np.int64), None
        if len(found):
            groups = groups_of(trained.column("count").to_numpy(), sum(total.column("n").to_pylist()))
            visits = self._visits(found)
        shards = inputs.select(ShardColumns)
        rows = joined(self._sent(some, visits, groups) for table in shards for some in _slices(table))
        count = buckets_of(part)
        cluster, tile = (rows.column(n).to_numpy().astype(np.uint64) for n in ("cluster", "tile"))
        into = bucket(cluster, tile, count)
        return Output(split_table(rows, into, count), {"sent": rows.num_rows})

    def _sent(self, table: pa.Table, visits: Visits | None, groups: np.ndarray) -> pa.Table:
        """Rows of one shard. Without centroids, for there was no vector in the first list, there is one cluster."""
        raw = rows_of(table.column(self.vectors.field), self.vectors.field)[0]
        x, there = unit(table.column(self.vectors.field), self.vectors.field)
        x, raw = x[there], raw[there]
        clusters = np.full((len(x), MOST), -1, np.int32)
        clusters[:, 0] = 0
        if visits is not None:
            clusters = visits.of(x)
        node = node_of(x)
        places = meetings(node, clusters, groups)
        row = places.pop("row")
        visited = as_column(clusters[row, 1:])
        return pa.table({"node": node[row], **places, "visits": visited, **packed(raw[row])})

    def _visits(self, found: np.ndarray) -> Visits:
        reach = self.reach * (2 * self.epsilon) ** 0.5
        return Visits(found, self.clusters, reach, 1 if self.within_clusters else MOST)

    # ---- pairs

    def _compare(self, part: str, inputs: Inputs) -> Output:
        """(a, b, distance) of the near pairs of one bucket of clusters that have a vector of this part's list."""
        begin = first_shard_of_list(part)
        fresh = [isinstance(key, PhaseFile) and first_shard(key.part) >= begin for key in inputs.keys]
        found = Bucket(inputs, fresh, bound_units(self.epsilon), self.clusters.device)
        pairs = found.pairs()
        return Output(pa.table(pairs), {"pairs": len(pairs["a"]), **found.stats()})


def _slices(table: pa.Table) -> Iterator[pa.Table]:
    """The table, some rows at a time; of an empty one, itself."""
    return (table.slice(start, BLOCK) for start in range(0, table.num_rows or 1, BLOCK))
