"""What a keep-one filter compares samples by, and what its barrier found in the whole pool: from the pool's notes.

    for hashes in find_compared(ground): ...        # the filters whose samples may differ, with column and bound
    found = in_the_pool(ground.pool, step)          # groups by size and pairs by distance, from footers

Nothing is computed here, and no class is loaded: a filter's or barrier's note has its parameters and where it read.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from curate.ask.report.found import InPool
from curate.ask.report.margins import Asked
from curate.ask.report.shards import Ground
from curate.pool.columns import read_footer, read_metadata
from curate.pool.layout import PIXELS, part_file
from curate.pool.pool import Pool
from stages.base import shard_name

Notes = Mapping[str, Any]
SIMILAR = "similarity"  # the verdict's column, and the margin, of filters that say cosines


@dataclass(frozen=True)
class Compared:
    """A filter that drops what is near: the column that it compares, and how far apart near may be.

    column: (folder, field); PIXELS holds the facts. bound: the largest distance of a pair, in bits for hashes and as
    1 - cosine for vectors. node: the column that is null where a sample takes part in nothing, where there is one.
    """

    step: Asked
    column: tuple[str, str]
    bound: float
    node: tuple[str, str] | None = None


def keep_one_steps(ground: Ground) -> list[Asked]:
    """The filters whose verdicts name the sample that one goes for. Others may read the same columns and barriers, for
    what they ask of a group, or to compare with what is no sample of the pool."""
    return [s for s in ground.steps if ground.shards and "dup_of" in _verdict_columns(ground, s)]


def _verdict_columns(ground: Ground, step: Asked) -> list[str]:
    metadata, _ = read_metadata(ground.pool.storage, part_file(step.folder, shard_name(ground.shards[0])))
    return list(metadata.schema.names)


def find_compared(ground: Ground) -> list[Compared]:
    """The keep-one filters that compare by a column with a bound above zero: not those that drop equal ones alone."""
    found = []
    for step in keep_one_steps(ground):
        chosen = next(filter(None, (_compared(ground.pool, step, n) for n in _notes(ground.pool, step))), None)
        if chosen is not None:
            found.append(chosen)
    return found


def _notes(pool: Pool, step: Asked) -> Iterator[tuple[str, Notes]]:
    """(folder, note) of each barrier that the filter reads, which know who takes part; then of the filter."""
    note = pool.about(step.folder)
    for root in barriers(note):
        yield root, pool.about(root)
    yield step.folder, note


def barriers(note: Notes) -> list[str]:
    """Folders of the barriers whose columns or phases a filter reads."""
    homes = [entry.rpartition(":")[0] for entry in note.get("reads", [])]
    return list(dict.fromkeys([*note.get("barriers", []), *(h for h in homes if h.startswith("barriers/"))]))


def _compared(pool: Pool, step: Asked, of: tuple[str, Notes]) -> Compared | None:
    folder, note = of
    parameters = (note.get("identity") or {}).get("parameters") or {}
    bound = _bound(step, parameters)
    names = [parameters.get("vectors"), parameters.get("by")]
    places = {field: home for home, _, field in (entry.rpartition(":") for entry in note.get("reads", []))}
    name = next((n for n in names if n in places), None)
    if name is None or not bound:
        return None
    nodes = [w for w in note.get("writes", []) if w.endswith("_node")]
    node = (_aligned(pool, folder), nodes[0]) if nodes else None
    return Compared(step, (_aligned(pool, places[name]), name), bound, node)


def beside(pool: Pool, step: Asked) -> str:
    """What the sample is that a dropped one names: one that stays, or by rules that ask no more, a better one."""
    parameters = (pool.about(step.folder).get("identity") or {}).get("parameters") or {}
    any_better = parameters.get("rule") in ("local", "reference") or parameters.get("semantics") == "reference"
    return "better" if any_better else "stays"


def _bound(step: Asked, parameters: Notes) -> float:
    """Of a filter that chose its epsilon by a share to keep, the last similarity that it kept says it; else 0."""
    for name in ("distance", "epsilon"):
        value = parameters.get(name)
        if isinstance(value, int | float) and not isinstance(value, bool):
            return float(value)
    ends = [bound[0] for m in step.margins if m.value == SIMILAR for bound in m.bounds]
    return 1 - ends[0] if "vectors" in parameters and ends else 0.0


def _aligned(pool: Pool, home: str) -> str:
    """The folder with files row-aligned with shards."""
    if home == "fact":
        return PIXELS
    return f"{home}/{pool.about(home)['last']}" if home.startswith("barriers/") else home


# ---------------------------------------------------------------- what footers know


def in_the_pool(pool: Pool, step: Asked) -> InPool | None:
    """What the filter's barrier found in the whole pool, whoever was asked; None where no barrier says it."""
    for root in barriers(pool.about(step.folder)):
        labels = _stats(pool, f"{root}/labels")
        if labels:
            return _summed(step, labels, _stats(pool, f"{root}/edges"), _stats(pool, f"{root}/unique"))
    return None


def _stats(pool: Pool, folder: str) -> list[Notes]:
    """What each part of a phase left in its footer."""
    names = sorted(e.name for e in pool.storage.list(folder) if e.name.endswith(".parquet") and e.name[0] != "_")
    return [read_footer(pool.storage, f"{folder}/{name}").get("stats", {}) for name in names]


def _summed(step: Asked, labels: list[Notes], edges: list[Notes], unique: list[Notes]) -> InPool:
    sizes: Counter[int] = Counter()
    for part in labels:
        sizes.update({int(size): n for size, n in part.get("sizes", {}).items()})
    return InPool(
        step.id,
        groups=sum(part.get("groups", 0) for part in labels),
        largest=max((part.get("largest", 0) for part in labels), default=0),
        most_equal=max((part.get("most_equal", 0) for part in unique), default=0),
        pairs=sum(part.get("edges", 0) for part in edges),
        sizes=tuple(sorted(sizes.items())),
        distances=_distances(edges),
    )


def _distances(edges: list[Notes]) -> tuple[tuple[int, int], ...] | None:
    """(distance, pairs); None where a part has too many of them to tell, as those of vectors have."""
    counted: Counter[int] = Counter()
    for part in edges:
        spread = part.get("distances")
        if spread is None:
            return None
        items = spread.items() if isinstance(spread, dict) else enumerate(spread)
        counted.update({int(value): n for value, n in items if n})
    return tuple(sorted(counted.items()))
