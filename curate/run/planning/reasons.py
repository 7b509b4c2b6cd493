"""Why a step has something to do: never computed, interrupted, failed, or computed under other parameters or inputs.

Reasons(pool, walk.notes).of(step)    # ("parameter `min_prob`: 0.5 -> 0.6",) one a folder that the step fills
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any

from curate.pool.layout import failure
from curate.pool.pool import Pool
from curate.run.planned import Made, Planned
from curate.run.planning.differ import Look, Note, differences, pick_differences
from curate.text import one_line

NEVER = "never computed here"
FETCHED = "never fetched"
AHEAD = "after ingest"
OLDER = "what is there was made by an older curate, which did not note from what"
SUFFIX = ".failed.json"
MOST = 3  # differences that are told
Compare = Callable[[Note, Note, Look], list[str]]


class Reasons:
    """Reasons for the steps of one plan. `notes`: those of the folders that this plan would fill or use."""

    def __init__(self, pool: Pool, notes: Mapping[str, Note], waiting: frozenset[str], *, empty: bool) -> None:
        """Args: waiting: names of shards whose images are not there yet. empty: are those all?"""
        self.pool, self.notes, self.waiting, self.empty = pool, notes, waiting, empty
        self.note = cache(self._note)
        self.folders = cache(pool.storage.folders)

    def of(self, step: Planned) -> tuple[str, ...]:
        """One reason for each folder of the step, "" where nothing is missing in it."""
        failed = self._failed(step)
        return tuple(self._one(step, made, failed) if made.todo or step.missing is None else "" for made in step.makes)

    def _one(self, step: Planned, made: Made, failed: str) -> str:
        there = 0 if step.total is None else step.total - len(made.todo)
        if there:
            return "; ".join(filter(None, [self._partly(step, made, there), failed]))
        if failed:
            return failed
        if step.kind == "ingest":
            return FETCHED
        if step.kind == "sparse" and self.pool.storage.list(made.folder):
            return "other survivors than it was asked about: only those that it has not seen are asked"
        return self._compared(made, pick_differences if step.kind == "pick" else differences)

    def _partly(self, step: Planned, made: Made, there: int) -> str:
        parts = "shards" if step.kind != "all shards" or made.todo[0].isdecimal() else "parts"
        begun = f"{there:,} of {step.total:,} {parts} are there"
        late = sum(name in self.waiting for name in made.todo) if step.kind != "ingest" else 0
        if late == len(made.todo):
            return f"{begun}, the others are still to be fetched"
        return f"{begun}: an interrupted run or new {parts}"

    def _failed(self, step: Planned) -> str:
        """How many of the missing parts failed for good, and the last line of what one died of."""
        found: dict[str, str] = {}
        for made in step.makes:
            if made.todo:
                todo = set(made.todo)
                names = [e.name for e in self.pool.storage.list(made.folder) if e.name.endswith(SUFFIX)]
                found |= {n.removesuffix(SUFFIX): made.folder for n in names if n.removesuffix(SUFFIX) in todo}
        if not found:
            return ""
        part, folder = next(iter(found.items()))
        return f"{len(found):,} failed for good last time: {last_line(self.pool.storage.read(failure(folder, part)))}"

    # ---- compared with what is there

    def _compared(self, made: Made, compare: Compare) -> str:
        """The fewest differences to a folder of the same method that this plan does not use."""
        home = made.root or made.folder
        others = self._others(home, made.about)
        if not others:
            return AHEAD if self.empty or self.waiting >= set(made.todo) else NEVER
        found = [compare(made.about, self.note(f), self.note) for f in others]
        nearest: list[str] = min((f for f in found if f), key=lambda f: len(f), default=[])
        if not nearest:
            return OLDER
        more = len(nearest) - MOST
        return "; ".join(nearest[:MOST]) + (f"; and {more} more" if more > 0 else "")

    def _others(self, folder: str, about: Note) -> list[str]:
        kind, _, name = folder.partition("/")
        method = name.rpartition("@")[0]
        there = [f"{kind}/{n}" for n in self.folders(kind) if n.rpartition("@")[0] == method]
        others = [f for f in there if f != folder and f not in self.notes]
        with ThreadPoolExecutor(16) as threads:
            notes = dict(zip(others, threads.map(self.note, others), strict=True))
        # Of filters, a step of another id is another filter, not what this one was before.
        alike = [f for f in others if notes[f] and ("id" not in about or notes[f].get("id") == about["id"])]
        return [f for f in alike if notes[f].keys() >= about.keys()] or alike  # older notes say less

    def _note(self, folder: str) -> Note:
        return self.notes[folder] if folder in self.notes else self.pool.about(folder)


def last_line(data: bytes) -> str:
    """The last line of an error that was kept, which may be JSON with the traceback under "error"."""
    text = data.decode(errors="replace")
    try:
        value: Any = json.loads(text)
    except ValueError:
        value = text
    error = str(value.get("error", "")) if isinstance(value, dict) else text
    return one_line(error, 120) or "no error was kept"
