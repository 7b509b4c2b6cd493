"""A captioner that notes whom it asks, scores of texts, and runs of recipes over tiny pools with them."""

from __future__ import annotations

import io
import os
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pyarrow as pa
import pyarrow.compute as pc

from curate.pool.columns import read_table
from curate.pool.pool import Pool
from curate.recipe import Recipe, load_recipe
from curate.run.fetch.spec import IngestSpec
from curate.run.job import Job, Outcome
from curate.run.planned import Planned
from curate.run.progress import Progress
from stages.base import TEXT, UID, Batch, Column, Source, Stage, fact
from stages.texts import TEXTS, like, texts_of
from tests.tiny import add_shard, sample

Rows = list[dict[str, Any]]


class Says(Stage):
    """A captioner: n captions a sample, none of those whose web text has the word `silent`."""

    sparse: ClassVar[bool] = True
    name: str = "said"
    n: int = 1
    notes: str = ""
    pause: float = 0.0

    def reads(self) -> tuple[Column, ...]:
        return (TEXT, UID)

    def writes(self) -> pa.Schema:
        return pa.schema([(self.name, pa.string() if self.n == 1 else TEXTS)])

    def run(self, batch: Batch) -> pa.Table:
        self._note(batch[UID])
        texts = batch[TEXT].to_pylist()
        said = [None if "silent" in t else [f"{i} of {t}" for i in range(self.n)] for t in texts]
        error = ["nothing to say" if s is None else None for s in said]
        if self.n == 1:
            values = pa.array([None if s is None else s[0] for s in said], pa.string())
        else:
            several = [None if s is None else [{"source": self.name, "text": t} for t in s] for s in said]
            values = pa.array(several, TEXTS)
        return pa.table({self.name: values, "error": pa.array(error, pa.string())})

    def _note(self, uids: pa.Array) -> None:
        """One line a sample, before anything is answered: what a captioner was paid for."""
        if not self.notes:
            return
        with open(self.notes, "ab", buffering=0) as f:
            f.write(b"".join(u.hex().encode() + b"\n" for u in uids.to_pylist()))
            os.fsync(f.fileno())
        self._wait()

    def _wait(self) -> None:
        time.sleep(self.pause)


class Interrupted(Says):
    """While it says something, something else happens, once."""

    meanwhile: ClassVar[list[Callable[[], None]]] = []

    def run(self, batch: Batch) -> pa.Table:
        if self.meanwhile:
            self.meanwhile.pop()()
        return super().run(batch)


class Afar(Stage):
    """A captioner on another machine, which answers when it is asked for the answer; notes what happened when."""

    sparse: ClassVar[bool] = True
    ahead: ClassVar[bool] = True
    order: ClassVar[list[str]] = []
    second: ClassVar[threading.Event] = threading.Event()

    def reads(self) -> tuple[Column, ...]:
        return (TEXT,)

    def writes(self) -> pa.Schema:
        return pa.schema([("far", pa.string())])

    def prepare(self, batch: Batch) -> None:
        self.order.append("sent")
        if self.order.count("sent") == 2:
            self.second.set()

    def run(self, batch: Batch) -> pa.Table:
        assert self.second.wait(10), "the second batch was never sent"
        self.order.append("got")
        return pa.table({"far": batch[TEXT]})


class Slowly(Says):
    """A captioner on another machine: asked ahead, and its answers take their time."""

    ahead: ClassVar[bool] = True

    def prepare(self, batch: Batch) -> None:
        """The requests go out, and are paid."""
        self._note(batch[UID])

    def run(self, batch: Batch) -> pa.Table:
        time.sleep(self.pause)
        return pa.table({self.name: batch[TEXT]})

    def _wait(self) -> None:
        """Not where it asks."""


class Length(Stage):
    """A score of texts, dense by itself: their length in characters; list in, list out."""

    text: Source = fact("text")
    name: str = "length"

    def reads(self) -> tuple[Column, ...]:
        return (self.text,)

    def writes(self) -> pa.Schema:
        return pa.schema([(self.name, pa.int32())])

    def run(self, batch: Batch) -> pa.Table:
        return pa.table({self.name: pc.cast(pc.utf8_length(batch[self.text]), pa.int32())})


class Lengths(Length):
    """The same of columns with several texts."""

    def writes(self) -> pa.Schema:
        return pa.schema([(self.name, pa.list_(pa.int32()))])

    def run(self, batch: Batch) -> pa.Table:
        texts, _ = texts_of(batch[self.text])
        lengths = [None if t is None else len(t) for t in texts]
        return pa.table({self.name: like(batch[self.text], lengths, pa.int32())})


@dataclass
class Captioned:
    """A pool of `texts`, cut into shards, and recipes over it that are written below a head."""

    folder: Path
    executor: str = "inline"

    @property
    def url(self) -> str:
        return str(self.folder / "pool")

    @property
    def pool(self) -> Pool:
        return Pool.open(self.url)

    @property
    def notes(self) -> Path:
        return self.folder / "asked.txt"

    def asked(self) -> list[str]:
        """uids in hex, in the order in which the captioner was asked about them."""
        return self.notes.read_text().split() if self.notes.exists() else []

    def recipe(self, yaml: str) -> Recipe:
        path = self.folder / "r.yaml"
        path.write_text(f"recipe: mine\npool: {self.url}\ningest: {{resize: none}}\nrun: {{tries: 1}}\n{yaml}")
        return load_recipe(str(path))

    def run(self, yaml: str) -> Outcome:
        with Progress(None, "a test", io.StringIO()) as progress:
            return Job(self.recipe(yaml), self.executor).run(progress)

    def pack(self, yaml: str) -> dict[str, Any]:
        job = Job(self.recipe(yaml), self.executor)
        with Progress(None, "a test", io.StringIO()) as progress:
            return job.pack(progress, job.run(progress).pick)

    def plan(self, yaml: str) -> list[Planned]:
        return Job(self.recipe(yaml), self.executor).plan()[1]

    def picked(self, outcome: Outcome) -> Rows:
        """Rows of the pick beside the samples' texts."""
        rows: Rows = []
        for shard in self.pool.shards():
            facts = self.pool.facts(shard, ["uid", "text"])[0].to_pylist()
            pick = read_table(self.pool.storage, f"{outcome.pick}/{shard:08d}.parquet")[0].to_pylist()
            rows += [f | p for f, p in zip(facts, pick, strict=True)]
        return rows


def captioned(folder: Path, texts: Iterable[str], shards: int = 1, **more: Any) -> Captioned:
    """Samples of these texts, spread over shards as they come; `more`: further facts, one of each a sample."""
    texts = list(texts)
    made = Captioned(folder)
    pool = Pool.create(made.url, IngestSpec(resize="none").pixels(), 10_000)
    for s in range(shards):
        numbers = range(s * len(texts) // shards, (s + 1) * len(texts) // shards)
        add_shard(pool, s, [sample(i, text=texts[i], **{k: v[i] for k, v in more.items()}) for i in numbers])
    return made
