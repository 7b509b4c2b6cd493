"""The funnel of a pick: for each filter whom it dropped first, and whom it would drop alone.

Counted from the footers of verdict and pick files; no row is read.
"""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from curate.errors import UserError
from curate.pool.columns import read_footer
from curate.pool.layout import part_file
from curate.pool.pool import Pool
from stages.base import shard_name


@dataclass(frozen=True)
class Step:
    """One filter of a pick. `asked` None: not a filter but a reason of the pick itself (removed, no_text)."""

    number: int
    id: str
    filter: str
    folder: str | None
    over: str | None
    asked: int | None
    dropped_first: int  # nobody above had dropped them
    dropped_alone: int | None  # dropped here, whatever the others say
    left: int
    reasons: dict[str, int]


@dataclass(frozen=True)
class Funnel:
    """A pick in numbers."""

    recipe: str
    folder: str
    rows: int
    kept: int
    times: int
    steps: list[Step]


def pick_folders(pool: Pool) -> list[str]:
    return [f"picks/{name}" for name in pool.storage.folders("picks")]


def find_pick(pool: Pool, recipe: str) -> str:
    """The pick folder that a person means: ``picks/x@hash``, ``x@hash``, or ``x`` where it has one pick.

    Raises:
        UserError: none, or several; the message names them.
    """
    name = recipe.removeprefix("picks/").strip("/")
    folders = pick_folders(pool)
    exact = [f for f in folders if f == f"picks/{name}"]
    stem = name.rsplit("/", 1)[-1].removesuffix(".yaml").removesuffix(".yml")
    found = exact or [f for f in folders if f.removeprefix("picks/").rsplit("@", 1)[0] in (name, stem)]
    if len(found) == 1:
        return found[0]
    have = ", ".join(found or folders) or "none yet"
    if found:
        raise UserError(f"{pool.storage}: {recipe!r} has {len(found)} picks, name one in full: {have}")
    raise UserError(f"{pool.storage}: no pick of {recipe!r}; picks: {have}. `curate run RECIPE` makes one")


def funnel(pool: Pool, folder: str) -> Funnel:
    """The numbers of a pick.

    Raises:
        UserError: the pick is not finished.
    """
    about = pool.about(folder)
    if not about:
        raise UserError(f"{pool.storage}/{folder}: no {folder}/about.json; is this a pick?")
    shards = about["shards"]
    picks = _footers(pool, folder, shards)
    rows, kept, times = (sum(int(f[k]) for f in picks) for k in ("rows", "kept", "times"))
    first: Counter[str] = Counter()
    for f in picks:
        first.update(f["dropped"])
    steps: list[Step] = []
    left = rows
    for number, step in enumerate(about["steps"], 1):
        verdicts = _footers(pool, step["folder"], shards)
        asked, agreed = (sum(int(f[k]) for f in verdicts) for k in ("asked", "kept"))
        reasons: Counter[str] = Counter()
        for f in verdicts:
            reasons.update(f["reasons"])
        dropped = first.pop(step["id"], 0)
        left -= dropped
        what = (step["id"], step["filter"], step["folder"], step.get("over"))
        steps.append(Step(number, *what, asked, dropped, asked - agreed, left, dict(reasons.most_common())))
    for reason, count in sorted(first.items(), reverse=True):  # removed, no_text
        left -= count
        steps.append(Step(len(steps) + 1, reason, reason, None, None, None, count, None, left, {}))
    return Funnel(about["recipe"], folder, rows, kept, times, steps)


def _footers(pool: Pool, folder: str, shards: list[int]) -> list[dict[str, Any]]:
    def read(shard: int) -> dict[str, Any]:
        rel = part_file(folder, shard_name(shard))
        try:
            return read_footer(pool.storage, rel)
        except (FileNotFoundError, UserError):
            if pool.storage.exists(rel):
                raise  # it is there, but damaged
            raise UserError(
                f"{pool.storage}/{rel} is missing: the pick is not finished; run its recipe again"
            ) from None

    with ThreadPoolExecutor(32) as threads:
        return list(threads.map(read, shards))
