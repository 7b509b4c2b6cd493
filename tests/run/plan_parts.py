"""A person with a pool of three shards, and stages and filters of their own, for tests of `curate plan`."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from tiny import add_shard, sample

from curate.pool.pool import Pool
from curate.recipe import Recipe, load_recipe
from curate.run.fetch.spec import IngestSpec
from curate.run.job import Job, Outcome
from curate.run.planning import Plan, make_plan
from curate.run.planning.amounts import Priced
from curate.run.progress import Progress
from filters.base import RowFilter, sql_number
from stages.base import IMAGE, TEXT, Batch, Column, Need, Stage

ROWS = 20


class Weighed(Stage):
    """A mean of pixels times what a file says."""

    weights: str
    power: float = 1.0

    def files(self) -> tuple[str, ...]:
        return (self.weights,)

    def reads(self) -> tuple[Column, ...]:
        return (IMAGE,)

    def writes(self) -> pa.Schema:
        return pa.schema([("weight", pa.float32())])

    def run(self, batch: Batch) -> pa.Table:
        factor = float(Path(self.weights).read_text()) * self.power
        return pa.table(
            {"weight": pa.array([i.mean() * factor for i in batch.images() if i is not None], pa.float32())}
        )


class Squared(Stage):
    """Reads another stage's column."""

    of: Weighed

    def reads(self) -> tuple[Column, ...]:
        return (Column(self.of, "weight"),)

    def writes(self) -> pa.Schema:
        return pa.schema([("squared", pa.float32())])

    def run(self, batch: Batch) -> pa.Table:
        column = batch[Column(self.of, "weight")]
        return pa.table({"squared": pc.multiply(column, column)})


class Lettered(Stage):
    """A caption of survivors."""

    sparse = True

    def reads(self) -> tuple[Column, ...]:
        return (TEXT,)

    def writes(self) -> pa.Schema:
        return pa.schema([("letters", pa.int64())])

    def run(self, batch: Batch) -> pa.Table:
        return pa.table({"letters": pc.cast(pc.utf8_length(batch[TEXT]), pa.int64())})


class OnGpu(Stage):
    """Asks for a GPU."""

    def reads(self) -> tuple[Column, ...]:
        return (TEXT,)

    def writes(self) -> pa.Schema:
        return pa.schema([("vector", pa.list_(pa.float16(), 512))])

    def need(self) -> Need:
        return Need(gpus=1)

    def run(self, batch: Batch) -> pa.Table:
        raise AssertionError("there is no GPU here")


class Fails(Stage):
    """Never gets anywhere."""

    def reads(self) -> tuple[Column, ...]:
        return (TEXT,)

    def writes(self) -> pa.Schema:
        return pa.schema([("never", pa.int32())])

    def run(self, batch: Batch) -> pa.Table:
        raise RuntimeError("bad \x1b[31mweather")


class Least(RowFilter):
    """At least so much of a column."""

    column: str
    least: float = 0.0

    def reads(self) -> tuple[str, ...]:
        return (self.column,)

    def rules(self) -> dict[str, str]:
        return {"less": f"{self.column} >= {sql_number(self.least)}"}


LEAST = "  - id: heavy\n    run.plan_parts:Least: {column: weight, least: %g}\n"
LONG = '  - id: long\n    where: "length(text) > %d"\n'
EXACT = "  - id: exact\n    keep_one: {by: sha256, over: survivors}\n"


@dataclass
class Planner:
    """Somebody with a recipe in parts, which are changed one by one."""

    folder: Path
    weights: str = "w.txt"
    power: float = 1.0
    least: float = 1.0
    long: int = 5
    columns: str = ""
    more: str = EXACT
    rest: str = "pack: {samples: 25}\n"
    source: str = ""
    tries: int = 1

    @property
    def pool(self) -> Path:
        return self.folder / "pool"

    def recipe(self) -> Recipe:
        path = self.folder / "r.yaml"
        weighed = f"{{weights: {self.folder / self.weights}, power: {self.power}}}"
        columns = f"columns:\n  - run.plan_parts:Weighed: {weighed}\n{self.columns}"
        filters = f"filters:\n{LEAST % self.least}{LONG % self.long}{self.more}"
        head = f"recipe: mine\npool: {self.pool}\nshard_size: {ROWS}\n"
        head += f"ingest: {{resize: none}}\nrun: {{tries: {self.tries}}}\n"
        path.write_text(head + self.source + columns + filters + self.rest)
        return load_recipe(str(path))

    def plan(self, **more: Any) -> Plan:
        return make_plan(self.recipe(), executor="inline", **more)

    def run_without_pack(self) -> Outcome:
        job = Job(self.recipe(), "inline")
        with Progress(None, "a test", io.StringIO()) as progress:
            return job.run(progress)

    def run(self) -> Outcome:
        job = Job(self.recipe(), "inline")
        with Progress(None, "a test", io.StringIO()) as progress:
            outcome = job.run(progress)
            if self.recipe().pack:
                job.pack(progress, outcome.pick)
        return outcome

    def why(self, **more: Any) -> dict[str, str]:
        """Owner (id or method) -> reason, of what is to be done."""
        from curate.run.planning.groups import owner_name

        plan = self.plan(**more)
        found: dict[str, str] = {}
        for priced in plan.steps:
            for made, why in zip(priced.step.makes, priced.why, strict=True):
                if why:
                    found[owner_name(made) or priced.step.name] = why
        return found

    def step(self, name: str, **more: Any) -> Priced:
        return next(p for p in self.plan(**more).steps if p.step.name == name)

    def add_shard(self, number: int) -> None:
        add_shard(Pool.open(str(self.pool)), number, [sample(ROWS * number + i) for i in range(ROWS)])


def planner(folder: Path, shards: int = 3) -> Planner:
    """With a pool of so many shards of 20 samples, whose texts have lengths of 16 and 17."""
    (folder / "w.txt").write_text("0.5")
    found = Planner(folder)
    Pool.create(str(found.pool), IngestSpec(resize="none").pixels(), ROWS)
    for shard in range(shards):
        found.add_shard(shard)
    return found
