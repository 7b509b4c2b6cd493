"""Shrink a set, slice by slice, to what lies along its own main directions: NormSim-2-D, without targets.

    filters:
      - top_fraction: {column: neg_clip_loss, fraction: 0.3, over: pool, on_missing: drop}
      - norm_sim_2d: {vectors: l14_image, fraction: 0.6667, over: survivors}

Wang et al., NeurIPS 2024 (NormSim), VAS-D in baselines/vas2.py of the authors: Sigma is the second moment of the
vectors that are left; those with the smallest v^T Sigma v go; and again, `steps` times (the code: 100), to `fraction`.
Nothing here is [M]; no weights are needed.

Differences: slices are even, where the code's last one is smaller; between steps all that tie with the last row stay,
scores being rounded to 1e-6, and only the last cut is exact, equal ones by uid. Sigma and the scores are of exact
sums (`stages.moments`), so that no order or cut shows. Up to `IN_MEMORY` rows are shrunk in one part; more stay in
files, and a step is some five phases that read all vectors twice.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from pydantic import Field

from filters.base import Margin, OnMissing
from filters.measured import MEASURED, as_shards, from_measured
from filters.ranked import Ranked
from stages.base import Inputs, Need, Output, Phase, PhaseFile, Shape, ShardColumns, tree
from stages.moments import Moments, quadratic
from stages.shuffle import Layout, first_shard, places, rows_of, split
from stages.vectors import ROWS, unit

IN_MEMORY = 1 << 17
"""Rows that one part may hold: 400 MB in 768 dimensions."""

UNIT = 1e6  # scores are whole numbers of so many parts
OUT = -1  # the level of a row that went in an earlier slice


class NormSim2D(Ranked):
    """Keep int(fraction * n) of the n rows asked; reason "off_direction".

    Args:
        vectors: plain name of a column of vectors; they are brought to length one.
        fraction: above 0, at most 1.
        steps: slices; 1 ranks once by the directions of all.
        on_missing: what becomes of rows without a vector: drop (reason "missing"), keep, or error.

    Footers of the phase `threshold` have the last score that was kept, v^T Sigma v by the Sigma of the last step.
    """

    vectors: str = Field(min_length=1)
    fraction: float = Field(gt=0, le=1)
    steps: int = Field(default=20, ge=1, le=1000)
    on_missing: OnMissing = "error"

    @classmethod
    def method(cls) -> str:
        return "norm_sim_2d"

    def reads(self) -> tuple[str, ...]:
        return (self.vectors,)

    def extra_verdicts(self) -> pa.Schema:
        """The score of the last step, null for what went before."""
        return pa.schema([("norm_sim_2d", pa.float32())])

    def margins(self) -> tuple[Margin, ...]:
        return (Margin("norm_sim_2d", "norm_sim_2d", cut=("above", f"top {100 * self.fraction:.6g} %")),)

    # ---- what `Ranked` asks

    def last(self, asked: int) -> int:
        return int(asked * self.fraction) - 1

    def missing(self) -> OnMissing:
        return self.on_missing

    def beyond(self) -> str:
        return "off_direction"

    def order(self, table: pa.Table) -> tuple[np.ndarray, np.ndarray, str]:
        level = table.column("level")
        order = np.int64(1 << 62) - level.fill_null(OUT).to_numpy()
        return order.view(np.uint64), level.is_valid().to_numpy(), "score"

    def value(self, order: int, kind: str) -> float:
        return ((1 << 62) - order) / UNIT

    # ---- phases

    def phases(self, shape: Shape) -> tuple[Phase, ...]:
        layout = Layout(shape, ROWS)
        ranked = from_measured(super().phases(shape))
        if shape.total <= IN_MEMORY:
            everything = tuple(ShardColumns(s) for s in shape.shards)
            need = Need(memory_gb=4, deadline_s=86_400)
            shrunk = PhaseFile("shrink", "all")
            one = Phase("shrink", ("all",), lambda _: everything, need=need)
            measured = Phase(MEASURED, ranked[-1].parts, lambda part: (ShardColumns(int(part)), shrunk))
            return (one, measured, *ranked)
        steps = [p for step in range(1, self.steps + 1) for p in self._step(layout, step)]
        return (*steps, layout.to_shards(MEASURED, f"scores-{self.steps:03d}"), *ranked)

    def _step(self, layout: Layout, step: int) -> Iterator[Phase]:
        """moments -> sum -> scores [-> levels -> cut]; each span knows from the step before who is left."""
        here, before = f"{step:03d}", f"{step - 1:03d}"
        moments, scores = layout.from_shards(f"moments-{here}"), layout.from_shards(f"scores-{here}")
        sums = tree(f"sum-{here}", moments.name, layout.spans)
        sigma = PhaseFile(sums[-1].name, "all")

        def left(part: str) -> tuple[PhaseFile, ...]:
            return () if step == 1 else (PhaseFile(f"scores-{before}", part), PhaseFile(f"cut-{before}", "all"))

        spans, need = layout.spans, moments.need
        yield Phase(moments.name, spans, lambda part: (*moments.inputs(part), *left(part)), need=need)
        yield from sums
        yield Phase(scores.name, spans, lambda part: (*scores.inputs(part), *left(part), sigma), need=need)
        if step < self.steps:
            levels = tree(f"levels-{here}", scores.name, layout.spans)
            depth = len(tree("sum-001", "moments-001", layout.spans)) - 1
            known = (PhaseFile(levels[-1].name, "all"), PhaseFile(f"sum-001-{depth}", "all"))
            yield from levels
            yield Phase(f"cut-{here}", ("all",), lambda _: known)

    def run(self, phase: str, part: str, inputs: Inputs) -> Output:
        kind, _, rest = phase.partition("-")
        match kind:
            case "shrink":
                return self._shrink(inputs)
            case "moments":
                return self._moments(inputs)
            case "sum":
                return _summed(inputs)
            case "scores":
                return self._scores(part, inputs)
            case "levels":
                return Output(_levels(list(inputs)))
            case "cut":
                return self._cut(int(rest), inputs)
            case "measured":
                return self._measured(inputs)
        found = super().run(phase, part, as_shards(inputs))
        return self._with_score(found, inputs) if phase == "verdict" else found

    def _sizes(self, present: int, asked: int) -> list[int]:
        """How many are to be left after each step."""
        keep = min(int(asked * self.fraction), present)
        return [present - step * (present - keep) // self.steps for step in range(1, self.steps + 1)]

    # ---- all at once

    def _shrink(self, inputs: Inputs) -> Output:
        """(place, level) of what is left before the last cut."""
        found = [self._of_shard(key, table) for key, table in zip(inputs.keys, inputs, strict=True)]
        x, place = (np.concatenate([getattr(f, n) for f in _with_rows(found)]) for n in ("x", "place"))
        left = np.arange(len(x))
        moments = Moments.none(x.shape[1])
        moments.add(x)
        for size in self._sizes(len(x), sum(f.asked for f in found))[:-1]:
            level = levels_of(x[left], moments)
            stay = level >= bound_of(*np.unique(level, return_counts=True), size)
            moments.subtract(x[left[~stay]])
            left = left[stay]
        return Output(pa.table({"place": place[left], "level": levels_of(x[left], moments)}), {"left": len(left)})

    # ---- step by step

    def _of_shard(self, shard: object, table: pa.Table) -> _Rows:
        assert isinstance(shard, ShardColumns)
        x, there = unit(table.column(self.vectors), f"norm_sim_2d: {self.vectors}")
        asked = table.column("asked").to_numpy()
        mine = asked & there
        return _Rows(x[mine], places(shard.shard, table.num_rows)[mine], int(np.count_nonzero(asked)))

    def _left(self, inputs: Inputs) -> Iterator[_Rows]:
        """Rows of each shard that no cut has taken so far."""
        cuts = [k for k in inputs.keys if isinstance(k, PhaseFile) and k.phase.startswith("cut-")]
        stay = None
        if cuts:
            bound = inputs.select(PhaseFile, cuts[0].phase).only().column("bound")[0].as_py()
            before = inputs.select(PhaseFile, cuts[0].phase.replace("cut", "scores")).only()
            stay = before.column("place").to_numpy()[before.column("level").to_numpy() >= bound]
        shards = inputs.select(ShardColumns)
        for key, table in zip(shards.keys, shards, strict=True):
            rows = self._of_shard(key, table)
            mine = slice(None) if stay is None else np.isin(rows.place, stay)
            yield _Rows(rows.x[mine], rows.place[mine], rows.asked)

    def _moments(self, inputs: Inputs) -> Output:
        moments, asked = None, 0
        for rows in self._left(inputs):
            asked += rows.asked
            if len(rows.x):
                moments = moments or Moments.none(rows.x.shape[1])
                moments.add(rows.x)
        return Output(_with_asked(moments or Moments.none(1), asked))

    def _scores(self, part: str, inputs: Inputs) -> Output:
        """(place, level) of those that are left, a table a shard."""
        sums = [k for k in inputs.keys if isinstance(k, PhaseFile) and k.phase.startswith("sum-")]
        moments = Moments.of(inputs.select(PhaseFile, sums[0].phase).only())
        found = [(rows.place, levels_of(rows.x, moments)) for rows in self._left(inputs)]
        place, level = (np.concatenate([f[i] for f in found]) for i in (0, 1))
        first, last = first_shard(part), int(part.split("-")[1])
        shard = (place >> np.uint64(32)).astype(np.int64) - first
        return Output(split({"place": place, "level": level}, shard, last - first + 1), {"left": len(place)})

    def _cut(self, step: int, inputs: Inputs) -> Output:
        """The smallest level that stays."""
        levels, first = inputs
        size = self._sizes(Moments.of(first).count, first.column("asked")[0].as_py())[step - 1]
        bound = bound_of(levels.column("level").to_numpy(), levels.column("rows").to_numpy(), size)
        return Output(pa.table({"bound": [bound]}), {"wanted": size})

    # ---- the answer

    def _measured(self, inputs: Inputs) -> Output:
        """(uid, asked, level) of a shard."""
        (key,) = inputs.select(ShardColumns).keys
        table, scores = inputs
        rows = self._of_shard(key, table)
        level, there = np.full(table.num_rows, OUT), np.zeros(table.num_rows, bool)
        there[rows_of(rows.place)] = True
        place = scores.column("place").to_numpy()
        mine = place >> np.uint64(32) == np.uint64(key.shard)  # type: ignore[union-attr]
        level[rows_of(place[mine])] = scores.column("level").to_numpy()[mine]
        columns = {"uid": table.column("uid"), "asked": table.column("asked")}
        return Output(pa.table({**columns, "level": pa.array(level, pa.int64(), mask=~there)}))

    def _with_score(self, verdict: Output, inputs: Inputs) -> Output:
        assert isinstance(verdict.tables, pa.Table)
        level = inputs.select(PhaseFile, MEASURED).only().column("level").fill_null(OUT).to_numpy()
        score = pa.array(level / UNIT, pa.float32(), mask=level == OUT)
        return Output(verdict.tables.append_column(self.extra_verdicts().field(0), score), verdict.stats)


@dataclass(frozen=True)
class _Rows:
    """Vectors of a shard that take part, their places, and how many rows were asked."""

    x: np.ndarray
    place: np.ndarray
    asked: int


def _with_rows(found: list[_Rows]) -> list[_Rows]:
    """Those that have any; without rows the dimensions may not be known."""
    return [f for f in found if len(f.x)] or found[:1]


def levels_of(x: np.ndarray, moments: Moments) -> np.ndarray:
    """int64 (n,), not below 0: v^T Sigma v in millionths."""
    return np.rint(quadratic(x, moments.matrix(per=moments.count)) * UNIT).astype(np.int64).clip(0)


def bound_of(level: np.ndarray, rows: np.ndarray, size: int) -> int:
    """The largest level that leaves at least `size` rows at or above it."""
    above = np.cumsum(rows[::-1])[::-1]
    enough = np.flatnonzero(above >= size)
    return int(level[enough[-1]]) if len(enough) else 0


def _summed(inputs: Inputs) -> Output:
    whole, asked = None, 0
    for table in inputs:
        more = Moments.of(table)
        asked += table.column("asked")[0].as_py()
        if whole is None or not whole.count:  # of no rows, the dimensions may not be known
            whole = more
        elif more.count:
            whole.merge(more)
    assert whole is not None
    return Output(_with_asked(whole, asked))


def _with_asked(moments: Moments, asked: int) -> pa.Table:
    table = moments.table()
    return table.append_column("asked", pa.array([asked] * table.num_rows, pa.int64()))


def _levels(tables: list[pa.Table]) -> pa.Table:
    """(level, rows), by level, of scores or of such tables."""
    level = np.concatenate([t.column("level").to_numpy() for t in tables])
    rows = np.concatenate(
        [t.column("rows").to_numpy() if "rows" in t.column_names else np.ones(t.num_rows, np.int64) for t in tables]
    )
    values, at = np.unique(level, return_inverse=True)
    return pa.table({"level": values, "rows": np.bincount(at, rows, len(values)).astype(np.int64)})
