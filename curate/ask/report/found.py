"""What the report tells, as numbers and samples: gathered by one half of this package, drawn by the other.

found = gather(pool, "picks/demo@0123456789ab")      # curate.ask.report.gather
html = draw(found)                                   # curate.ask.report.page
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from curate.ask.funnel import Funnel
from curate.ask.pictures import Shown

if TYPE_CHECKING:
    from curate.ask.report.contamination import Contamination


@dataclass(frozen=True)
class Threshold:
    """A bound that a filter drew on a quantity. keeps: the side on which a value stays.

    value: where the line stands, which is an edge of the histogram. Bounds are inclusive; of whole numbers that stay
    below, the line stands at the next number, as bin n is [n, n + 1).
    """

    value: float
    keeps: Literal["above", "below"]
    label: str  # in the recipe's words: "min_side 200"


@dataclass(frozen=True)
class Histogram:
    """How a quantity is spread over the rows that a filter was asked about.

    edges: n + 1 ascending numbers; bin i is [edges[i], edges[i + 1]), the last one closed. Per bin, disjoint:
    kept: rows of the final pick. lost: dropped by this filter first. other: the rest, dropped by other filters.
    below, above: rows outside the edges. missing: rows without a value. All together: the rows that were asked.
    log: the edges grow by factors: draw the axis logarithmic.
    words: what the three are called; "" where there is no third.
    """

    title: str
    edges: tuple[float, ...]
    kept: tuple[int, ...]
    lost: tuple[int, ...]
    other: tuple[int, ...]
    thresholds: tuple[Threshold, ...] = ()
    below: int = 0
    above: int = 0
    missing: int = 0
    log: bool = False
    words: tuple[str, str, str] = ("kept", "dropped here", "dropped by others")


@dataclass(frozen=True)
class Counts:
    """How many samples have each value of something, most frequent first (or in the values' own order).

    rows: (value, samples, of them kept). A last row may stand for the rest ("37 others").
    """

    title: str
    rows: tuple[tuple[str, int, int], ...]


@dataclass(frozen=True)
class HostRow:
    """Downloads of one host: all URLs by their last attempt, how many came, and the commonest failure."""

    host: str
    urls: int
    ok: int
    worst: str  # outcome, "" where all came
    worst_count: int


@dataclass(frozen=True)
class Downloads:
    """outcomes: (outcome, URLs), most frequent first. hosts: those with the most failures first.

    diagnosis: sentences in plain words on what a low success rate comes from, most important first.
    """

    outcomes: tuple[tuple[str, int], ...]
    hosts: tuple[HostRow, ...]
    hosts_in_all: int
    diagnosis: tuple[str, ...]


@dataclass(frozen=True)
class Group:
    """Samples that one keep-one filter found equal or near: the keeper, and some of those dropped for it.

    size: all members, the keeper included. A keeper outside the pick's shards is None.
    """

    step: str
    size: int
    keeper: Shown | None
    lost: tuple[Shown, ...]


@dataclass(frozen=True)
class GroupSizes:
    """Of one keep-one filter: how many groups have each size, ascending: (size, groups)."""

    step: str
    sizes: tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class InPool:
    """What the barrier of a keep-one filter found in the whole pool, whoever was asked about.

    groups: connected components; largest: samples in the largest of them; most_equal: samples of one hash or vector.
    sizes: (samples, groups), ascending. distances: (distance, pairs), ascending; None where they are too many to tell.
    """

    step: str
    groups: int
    largest: int
    most_equal: int
    pairs: int
    sizes: tuple[tuple[int, int], ...]
    distances: tuple[tuple[int, int], ...] | None


@dataclass(frozen=True)
class NearPairs:
    """Of one keep-one filter the pairs nearest to its bound: (sample, sample, distance in words).

    dropped: who went, and who stayed for it, farthest apart first. kept: two that both stayed, nearest to the bound
    first. spread: pairs by distance, `kept` both stayed, `lost` at least one went. looked_at: samples that `kept` and
    `spread` are of: all that take part, unless they were `drawn`.
    """

    step: str
    dropped: tuple[tuple[Shown, Shown | None, str], ...]
    kept: tuple[tuple[Shown, Shown, str], ...]
    spread: Histogram | None
    looked_at: int
    drawn: bool


@dataclass(frozen=True)
class Timing:
    """One pass of the runs that made this pool's data, summed over runs. None: not recorded."""

    name: str
    runs: int
    parts: int
    rows: int
    worker_s: float
    wall_s: float | None = None
    failed: int = 0


@dataclass(frozen=True)
class UidList:
    """Uids that a filter dropped first for one reason. uids: 32 hex digits each, sorted; None: too many for a page.

    step: the filter's id, or a reason of the pick itself (no_text), whose `reason` is "". Removed samples are in none.
    query: SQL for `curate sql`, which gives all of them.
    """

    step: str
    reason: str
    count: int
    uids: tuple[str, ...] | None
    query: str


@dataclass
class FilterFound:
    """What one filter did. lost, kept (by it and all above it): drawn by uid. borderline: nearest to a threshold, those
    just lost first, then those just kept (`reason`, None where kept, tells which). `score` says the values.
    beside: what the sample is that a lost one names: "stays", or "better", which may be lost itself."""

    histograms: tuple[Histogram, ...] = ()
    lost: list[Shown] = field(default_factory=list)
    kept: list[Shown] = field(default_factory=list)
    borderline: list[Shown] = field(default_factory=list)
    beside: str = "stays"


@dataclass
class Found:
    """All that a report tells about one pick. filters: by step id, in the funnel's order."""

    pick: Funnel
    about: dict[str, Any]
    filters: dict[str, FilterFound]
    keepers: dict[bytes, Shown]  # uid -> the sample that stayed for a lost duplicate
    groups: list[Group]  # filter by filter, largest first
    group_sizes: list[GroupSizes]
    downloads: Downloads | None
    counts: list[Counts]
    timings: list[Timing]
    uid_lists: list[UidList]
    final: list[Shown]  # a sample of what the pick kept
    near_pairs: list[NearPairs] = field(default_factory=list)
    in_pool: list[InPool] = field(default_factory=list)
    contamination: list[Contamination] = field(default_factory=list)
