"""The main job from end to end: run a recipe, pack its pick, write the report, say what came out."""

from __future__ import annotations

import errno
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from curate.errors import PartialFailure, UserError
from curate.pool.pool import Pool
from curate.pool.storage import full_disk
from curate.run.choice import EXECUTORS
from curate.run.job import Job, Outcome
from curate.run.progress import Progress, Telling, duration
from curate.run.retry import say_again

if TYPE_CHECKING:
    from curate.recipe import Recipe

FULL = (errno.ENOSPC, errno.EROFS, errno.EDQUOT)


def run_recipe(
    recipe: Recipe,
    executor: str | None,
    workers: int | None,
    *,
    pack: bool,
    report: Path | None,
    command: str,
    subset: Path | None = None,
    always_pack: bool = False,
    telling: Telling | None = None,
    retry: tuple[str, ...] = (),
) -> Outcome:
    """Run, pack (where the recipe has a `pack:` section), and write the report where `report` names a page.

    Args:
        retry: outcomes that are tried again.

    Raises:
        UserError: an error to mend; PartialFailure at the end, when shards failed within the allowed share.
    """
    if executor is not None and executor not in EXECUTORS:
        raise UserError(f"--executor {executor}: it is one of {', '.join(EXECUTORS)}")
    job = Job(recipe, executor, workers, retry)
    with Progress(None, command, telling=telling or Telling()) as progress:
        progress.facts["recipe"] = recipe.name
        try:
            outcome = job.run(progress)
            progress.facts["pick"] = outcome.pick
            manifest = job.pack(progress, outcome.pick) if pack and (recipe.pack or always_pack) else None
        except OSError as e:
            if e.errno in FULL:
                raise full_disk(e, recipe.pool) from e
            raise
        finally:
            if job.choice.started is not None:
                progress.facts["executor"] = job.choice.started.name
            job.choice.close()
    if not progress.telling.quiet and progress.telling.log == "text":
        for line in summary_lines(progress):
            print(line, file=sys.stderr)
    for line in [*funnel_lines(recipe, outcome), *say_again(outcome.outcomes, recipe.ingest, command)]:
        print(line)
    if manifest is not None:
        counts = manifest["counts"]
        print(f"pack: {counts['samples']:,} samples in {counts['files']:,} files: {manifest['folder']}")
    if subset is not None:
        from curate.subset import write_subset

        write_subset(Pool.open(recipe.pool), outcome.pick, subset)
        print(f"subset: {subset}")
    if report is not None:
        print(f"report: {report_of(recipe, report, outcome.pick)}")
    if outcome.failed:
        failed = ", ".join(f"{name} ({len(items)})" for name, items in outcome.failed.items())
        raise PartialFailure(f"done, but for shards that failed for good within the allowed share: {failed}")
    return outcome


def summary_lines(progress: Progress) -> list[str]:
    """What the run did, in words: time, passes that took some of it, and where the log lies."""
    lines = [f"done in {duration(time.time() - progress.began)}, log: {progress.log}"]
    for name, s in progress.states.items():
        took = s.ended - s.began
        if s.done and took >= 1:
            rate = f", {s.rows / took:,.0f} rows/s" if s.rows else ""
            lines.append(f"  {name}: {s.done:,} done in {duration(took)}{rate}")
    return lines


def funnel_lines(recipe: Recipe, outcome: Outcome) -> list[str]:
    """The funnel in words: samples with an image, what each filter dropped first, what is left."""
    lines = []
    if outcome.outcomes:
        kinds = sorted(outcome.outcomes.items(), key=lambda kv: -kv[1])
        lines.append("fetched in this run: " + ", ".join(f"{kind} {count:,}" for kind, count in kinds))
    left = outcome.rows
    lines.append(f"{'samples with an image':<32} {left:>12,}")
    for name in [*(s.id for s in recipe.steps), "removed", "no_text"]:
        gone = outcome.dropped.get(name, 0)
        left -= gone
        if gone or name not in ("removed", "no_text"):
            lines.append(f"  {name:<30} {-gone:>12,}   {left:>12,} left")
    share = outcome.kept / outcome.rows if outcome.rows else 0.0
    lines.append(f"{'kept':<32} {outcome.kept:>12,}   ({share:.1%}), {outcome.times:,} copies")
    return lines


def report_of(recipe: Recipe, out: Path, pick: str | None = None, *, folder: Path | None = None) -> Path:
    """Write the report of a recipe's pick, a page or (with `folder`) pages; finds the pick if it is not given.

    Raises:
        UserError: the recipe has not been run on its pool as it is now.
    """
    from curate.ask.report import write_report

    pool = Pool.open(recipe.pool)
    if pick is None:
        _, planned, pick = Job(recipe, "inline").plan()
        if any(p.missing for p in planned):
            raise UserError(f"recipe {recipe.name} has not been run on this pool as it is; first: curate run")
    return write_report(pool, pick, out, folder=folder)
