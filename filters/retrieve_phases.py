"""How `retrieve` is cut into phases.

nearest     a part a span of shards and block of queries: the k best there
best        a part a block: the k best of all, by span

count ... measured      k-means over the rows asked (`filters.measured`)
hits        a part a set: the clusters that it asks
drawn       a part a span: who lies in them, thinned, by bucket of (set, cluster)
picked      a part a bucket: the samples of each cluster, a table a set
limit       a part a set: the draws that are among its `most`, by span

gather      a part a span: who is retrieved, each place once, by shard
verdict     a part a shard
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from filters.measured import MEASURED, clustering
from filters.retrieve_sets import QuerySet
from stages import shuffle
from stages.base import Phase, PhaseFile, Shape, ShardColumns, shard_name
from stages.kmeans import CENTROIDS
from stages.kmeans_training import Training
from stages.shuffle import Layout

Numbered = Sequence[tuple[int, QuerySet]]
"""Sets with their numbers among all."""

BLOCK = 1 << 16  # queries that a part holds, or
HELD = 1 << 21  # fewer, so that their nearest are no more than this
DAY_S = 86_400.0


def block_of(chosen: QuerySet) -> int:
    """Queries in a part."""
    return max(1, min(BLOCK, HELD // (chosen.nearest or 1)))


def phases(shape: Shape, nearest: Numbered, clustered: Numbered, by: Training | None, gpus: int) -> tuple[Phase, ...]:
    """All of them; those of a way that no set goes are left out."""
    layout = Layout(shape, max(1, shuffle.ROWS // max(1, len(clustered))))  # a row may be drawn for every set
    searched = _nearest(layout, nearest, gpus) if nearest else ()
    drawn = _clustered(layout, shape, clustered, by) if by is not None else ()
    found = [(p.name, part) for p in (*searched[-1:], *drawn[-1:]) if not callable(p.parts) for part in p.parts]
    number = {span: i for i, span in enumerate(layout.spans)}

    def files(span: str) -> tuple[PhaseFile, ...]:
        return tuple(PhaseFile(phase, part, number[span]) for phase, part in found)

    gather = Phase("gather", layout.spans, files, need=shuffle.NEED)
    return (*searched, *drawn, gather, layout.to_shards("verdict", "gather"))


def _nearest(layout: Layout, sets: Numbered, gpus: int) -> tuple[Phase, ...]:
    blocks = tuple(
        f"{number:03d}-{at:06d}"
        for number, chosen in sets
        for at in range(-(-chosen.file().shape[0] // block_of(chosen)))
    )
    shards = layout.from_shards("nearest")
    span_of = {f"{span}-{block}": span for span in layout.spans for block in blocks}
    need = replace(shuffle.NEED, gpus=gpus, deadline_s=DAY_S)
    return (
        Phase("nearest", tuple(span_of), lambda part: shards.inputs(span_of[part]), need=need),
        Phase(
            "best",
            blocks,
            lambda block: tuple(PhaseFile("nearest", f"{span}-{block}") for span in layout.spans),
            need=shuffle.NEED,
        ),
    )


def _clustered(layout: Layout, shape: Shape, sets: Numbered, by: Training) -> tuple[Phase, ...]:
    names = [f"{number:03d}" for number, _ in sets]
    hits = tuple(PhaseFile("hits", name) for name in names)
    shards = layout.from_shards("drawn")

    def measured(span: str) -> tuple[PhaseFile, ...]:
        known = (key for key in shards.inputs(span) if isinstance(key, ShardColumns))
        return *hits, *(PhaseFile(MEASURED, shard_name(key.shard)) for key in known)

    def of_set(name: str) -> tuple[PhaseFile, ...]:
        picked = (PhaseFile("picked", part, names.index(name)) for part in layout.bucket_parts)
        return *picked, *(PhaseFile("drawn", span) for span in layout.spans)  # the latter for their names only

    top = PhaseFile(CENTROIDS, "all")
    return (
        *clustering(by, shape),
        Phase("hits", tuple(names), lambda _: (top,), need=by.machine(shape)),
        Phase("drawn", layout.spans, measured, need=shuffle.NEED),
        layout.by_bucket("picked", ("drawn", layout.spans)),
        Phase("limit", tuple(names), of_set, need=shuffle.NEED),
    )
