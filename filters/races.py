"""The first so many arrivals of a race, exactly, over the whole pool or what is left: how `soft_cap`, `hard_cap` and
`mix` draw with repetition and by quota.

Every sample arrives at times of its own, which are draws of (seed, salt, uid): it needs no other sample to know them.
The first `places` arrivals of each race win, and a sample goes on in as many copies as it has winning arrivals; there
may be several races (a source each). Who wins is a function of the set, so no order and no cut of shards changes it.

Two scans find the last winner without holding all that arrive. `survey` counts what the race's plan depends on
(`plan`), of which a subclass allows so many numbers; `count` counts arrivals by bins of time (`bins`), and `bracket`
finds the bin of the last winner; a second scan takes the arrivals in that bin only (`collect`), and sorted by (time,
uid) they hold it (`threshold`). Counts are integers and add up in a tree. `verdict` looks at a shard's own arrivals
once more; that it finds the same times is why they come of `stages.elementary`.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import numpy as np
import pyarrow as pa

from filters.base import MISSING, VERDICT, GlobalFilter
from filters.missing import refuse_missing
from stages.base import Inputs, Output, Phase, PhaseFile, Shape, ShardColumns, shard_name, tree
from stages.shuffle import NEED, Arrays, Layout, arrays, halves, joined, stacked
from stages.tally import FAN_IN, add_up, summed

BINS = 4096.0  # to a unit of time; of log time, for weights
HELD_BYTES = 100  # a count or an arrival, while it is sorted
CERTAIN = np.iinfo(np.int64).min
"""The bin of copies that need no draw; among keys of the survey, those that are asked and take no part."""

Laps = Iterable[tuple[np.ndarray, np.ndarray]]
"""(index, time): int64 and float64 (k,). A runner arrives at this time; later laps have later times."""


@dataclass(frozen=True)
class Runners:
    """Those of a shard that take part. Arrays of length n, but for `asked` and `missing`: of all rows of the shard."""

    row: np.ndarray
    race: np.ndarray
    score: np.ndarray
    high: np.ndarray
    low: np.ndarray
    asked: np.ndarray
    missing: np.ndarray


class Race(GlobalFilter):
    """Subclasses say who takes part, what to count first, how many win, and when samples arrive.

    Verdicts have `copies`, int32: how often the sample goes on; null where it was not asked.
    """

    most_surveyed: ClassVar[int] = 1 << 20

    seed: int = 0
    on_missing: Literal["drop", "error"] = "error"

    @abstractmethod
    def entrants(self, table: pa.Table) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """(race, score, present, runs) of a shard's rows: int64, float64; bool: has a value; bool: takes part."""

    @abstractmethod
    def surveyed(self, runners: Runners) -> np.ndarray:
        """int64 (n,): what is counted before the start."""

    @abstractmethod
    def crowded(self) -> str:
        """What is said where more than `most_surveyed` different numbers are counted."""

    @abstractmethod
    def plan(self, keys: np.ndarray, counts: np.ndarray, asked: int) -> pa.Table:
        """One row a race, in their order: `places`, int64, how many arrivals win, and what else `arrivals` needs.

        Args:
            keys, counts: int64: each surveyed number once, ascending, and how many have it.
        """

    @abstractmethod
    def arrivals(self, runners: Runners, plan: Arrays) -> tuple[np.ndarray, Laps]:
        """(certain, laps): int64 (n,), copies before any draw, which take places too; and the times."""

    def bins(self, plan: Arrays) -> np.ndarray:
        """float64, one a race: bins to a unit of its time. There are so many counts, and a bin's arrivals are held."""
        return np.full(len(plan["places"]), BINS)

    def held(self, samples: int) -> int:
        """How many counts or arrivals one part may hold, where they are many; of a pool of so many samples."""
        return 0

    def told(self, plan: pa.Table) -> dict[str, Any]:
        """What the footer says of the plan."""
        return dict(plan.to_pydict())

    def seated(self, runners: Runners, plan: Arrays) -> Runners:
        """The runners with the numbers of their races, where only the plan knows them."""
        return runners

    def extra_verdicts(self) -> pa.Schema:
        return pa.schema([("copies", pa.int32())])

    def phases(self, shape: Shape) -> tuple[Phase, ...]:
        layout = Layout(shape)
        shards, spans = layout.from_shards("").inputs, layout.spans
        need = replace(NEED, memory_gb=NEED.memory_gb + self.held(shape.total) * HELD_BYTES // 2**30)
        total, added = tree("total", "survey", spans, FAN_IN, NEED), tree("sum", "count", spans, FAN_IN, need)
        plan, bracket = PhaseFile("plan", "all"), PhaseFile("bracket", "all")
        collected = tuple(PhaseFile("collect", span) for span in spans)
        last = PhaseFile("threshold", "all")
        return (
            layout.from_shards("survey"),
            *total,
            Phase("plan", ("all",), lambda _: (PhaseFile(total[-1].name, "all"),), need=NEED),
            Phase("count", spans, lambda part: (plan, *shards(part)), need=NEED),
            *added,
            Phase("bracket", ("all",), lambda _: (plan, PhaseFile(added[-1].name, "all")), need=need),
            Phase("collect", spans, lambda part: (plan, bracket, *shards(part)), need=NEED),
            Phase("threshold", ("all",), lambda _: (bracket, *collected), need=need),
            Phase("verdict", [shard_name(s) for s in shape.shards], lambda part: (plan, last, ShardColumns(int(part)))),
        )

    def run(self, phase: str, part: str, inputs: Inputs) -> Output:
        match phase.split("-")[0]:
            case "survey":
                return Output(pa.table(self._survey(inputs)))
            case "total":
                return Output(pa.table(summed(map(arrays, inputs), check=self._few_enough)))
            case "sum":
                return Output(pa.table(summed(map(arrays, inputs))))
            case "plan":
                return self._plan(inputs)
            case "count":
                return self._count(inputs)
            case "bracket":
                return self._bracket(inputs)
            case "collect":
                return self._collect(inputs)
            case "threshold":
                return self._threshold(inputs)
            case "verdict":
                return self._verdict(inputs)
        raise ValueError(f"{self.method()} has no phase {phase!r}")

    # ---- the start

    def runners(self, table: pa.Table) -> Runners:
        """Who of a shard takes part.

        Raises:
            ValueError: a sample that is asked has no value, and the policy is "error".
        """
        race, score, present, runs = self.entrants(table)
        asked = table.column("asked").to_numpy()
        if self.on_missing == "error":
            (read,) = self.reads()
            name = read if isinstance(read, str) else read.field
            refuse_missing(self.method(), table, asked & ~present, repr(name), ("drop",))
        row = np.flatnonzero(asked & present & runs)
        high, low = (half[row] for half in halves(table.column("uid")))
        return Runners(row, race[row], score[row], high, low, asked, ~present)

    def _shards(self, inputs: Inputs, plan: Arrays) -> Iterator[Runners]:
        return (self.seated(self.runners(table), plan) for table in inputs.select(ShardColumns))

    def _survey(self, inputs: Inputs) -> Arrays:
        return summed((self._surveyed(self.runners(table)) for table in inputs), check=self._few_enough)

    def _surveyed(self, runners: Runners) -> Arrays:
        absent = int(np.count_nonzero(runners.asked)) - len(runners.row)
        key = np.append(self.surveyed(runners), CERTAIN)
        return add_up({"key": key, "n": np.append(np.ones(len(runners.row), np.int64), absent)})

    def _few_enough(self, rows: Arrays) -> None:
        if len(rows["key"]) > self.most_surveyed + 1:  # one is of those that take no part
            raise ValueError(f"{self.method()}: {self.crowded()}")

    def _plan(self, inputs: Inputs) -> Output:
        rows = stacked(inputs)
        runs = rows["key"] != CERTAIN
        asked = int(rows["n"].sum())
        plan = self.plan(rows["key"][runs], rows["n"][runs], asked)
        return Output(plan, {"asked": asked, "entrants": int(rows["n"][runs].sum())} | self.told(plan))

    # ---- the last winner

    def _count(self, inputs: Inputs) -> Output:
        plan = stacked(inputs.select(PhaseFile))
        shards = self._shards(inputs, plan)
        return Output(pa.table(summed(rows for runners in shards for rows in self._binned(runners, plan))))

    def _binned(self, runners: Runners, plan: Arrays) -> Iterator[Arrays]:
        """(race, bin, n) of a shard, a lap at a time."""
        certain, laps = self.arrivals(runners, plan)
        bins = self.bins(plan)
        yield add_up({"race": runners.race, "bin": np.full(len(runners.race), CERTAIN), "n": certain})
        for index, time in laps:
            race = runners.race[index]
            yield add_up({"race": race, "bin": bin_of(time, bins[race]), "n": np.ones_like(index)})

    def _bracket(self, inputs: Inputs) -> Output:
        """(bin, left) of each race: where its last winner arrives, and how many of those in the bin win."""
        plan, sums = inputs
        places = plan.column("places").to_numpy()
        race, bins, n = (sums.column(name).to_numpy() for name in ("race", "bin", "n"))
        bracket = np.full(len(places), CERTAIN)
        left = np.zeros(len(places), np.int64)
        for number, wanted in enumerate(places.tolist()):
            mine = slice(*np.searchsorted(race, [number, number + 1]))
            upto = np.cumsum(n[mine])
            there = int(upto[-1]) if len(upto) else 0
            if there < wanted:
                raise ValueError(f"{self.method()}: {wanted:,} copies are asked for, and {there:,} can be drawn")
            at = int(np.searchsorted(upto, wanted))
            if wanted and bins[mine][at] == CERTAIN:
                assert upto[at] == wanted, f"{self.method()}: more copies are certain than win"
            elif wanted:
                bracket[number] = bins[mine][at]
                left[number] = wanted - (upto[at - 1] if at else 0)
        return Output(pa.table({"bin": bracket, "left": left}))

    def _collect(self, inputs: Inputs) -> Output:
        plan, bracket = (stacked(inputs.select(PhaseFile, name)) for name in ("plan", "bracket"))
        none, bins = np.empty(0, np.uint64), self.bins(plan)
        found: list[Arrays] = [{"race": none.astype(np.int64), "time": none.astype(float), "high": none, "low": none}]
        for runners in self._shards(inputs, plan):
            for index, time in self.arrivals(runners, plan)[1]:
                race = runners.race[index]
                near = bin_of(time, bins[race]) == bracket["bin"][race]
                at = index[near]
                found.append(
                    {"race": runners.race[at], "time": time[near], "high": runners.high[at], "low": runners.low[at]}
                )
        rows = joined(found)
        return Output(pa.table(rows), {"near": len(rows["race"])})

    def _threshold(self, inputs: Inputs) -> Output:
        """(time, high, low) of each race's last winner; -inf where no draw is needed."""
        left = stacked(inputs.select(PhaseFile, "bracket"))["left"]
        rows = stacked(inputs.select(PhaseFile, "collect"))
        order = np.lexsort((rows["low"], rows["high"], rows["time"], rows["race"]))
        rows = {name: a[order] for name, a in rows.items()}
        drawn = np.flatnonzero(left)
        at = np.searchsorted(rows["race"], drawn) + left[drawn] - 1
        last = {"time": np.full(len(left), -np.inf)}
        last |= {name: np.zeros(len(left), np.uint64) for name in ("high", "low")}
        for name in last:
            last[name][drawn] = rows[name][at]
        return Output(pa.table(last))

    # ---- the answer

    def _verdict(self, inputs: Inputs) -> Output:
        plan, last = (stacked(inputs.select(PhaseFile, name)) for name in ("plan", "threshold"))
        (runners,) = self._shards(inputs, plan)
        copies, laps = self.arrivals(runners, plan)
        copies = copies.copy()
        for index, time in laps:
            race, high, low = runners.race[index], runners.high[index], runners.low[index]
            late = (high > last["high"][race]) | ((high == last["high"][race]) & (low > last["low"][race]))
            won = (time < last["time"][race]) | ((time == last["time"][race]) & ~late)
            copies[index[won]] += 1  # an index stands once in a lap
        return self.answer(runners, copies)

    def answer(self, runners: Runners, copies: np.ndarray) -> Output:
        """The verdict from the copies, int64 (n,), of those that took part."""
        times = np.zeros(len(runners.asked), np.int64)
        times[runners.row] = copies
        keep, asked = times > 0, runners.asked
        reason = np.where(runners.missing, MISSING, f"not_in_{self.method()}")
        columns: list[Any] = [pa.array(keep, mask=~asked), pa.array(reason, pa.string(), mask=keep | ~asked)]
        columns.append(pa.array(times, pa.int32(), mask=~asked))
        schema = pa.schema([*VERDICT, *self.extra_verdicts()])
        return Output(pa.table(columns, schema=schema), {"kept": int(keep.sum()), "copies": int(times.sum())})


def bin_of(time: np.ndarray, bins: np.ndarray) -> np.ndarray:
    """int64 (k,)"""
    return np.floor(time * bins).astype(np.int64)
