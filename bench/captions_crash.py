"""Kill -9 in mid-captioning: nobody is asked twice beyond the parts in flight, and every survivor has one caption.

    python bench/captions_crash.py [--quick]         # also a part of bench/captions.py

A captioner notes each sample that it is asked about (bench/captions_stages.py). Each trial kills the driver of a run
some times, at moments drawn over the parts that an undisturbed run writes, then lets the same command end. What a kill
costs is how many samples were asked about once more; at most it is what the workers had in hand: a part of 256 each.
(A stage that asks another machine has up to four parts of 64 under way, which are as many: tests/run/
test_captions_crash.py.) Afterwards every sample that the filter keeps has one caption. A second recipe, which keeps
more, must then ask only for those that no part has.
"""

from __future__ import annotations

import os
import random
import sys
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import pyarrow.parquet as pq
from common import ROOT, WORK, Bar, at_least, at_most, bar, finish, fresh, photos
from jobs import Job, family, few_photos, leftovers, run

from curate.run.reader import BATCH

SHARD = 700
RECIPE = """\
recipe: {name}
shard_size: {shard}
source: {{path: {photos}, name: photos, url: null, image: image, text: caption}}
ingest: {{resize: short, side: 64}}
filters:
  - where: "length(text) % {every} <> 0"
captions:
  make:
    - captions_stages:Counted: {{log: {log}, each_ms: {each_ms}}}
  emit:
    - texts: [{{source: counted}}]
run: {{workers: {workers}}}
"""
PATHS = {"PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests"), str(ROOT / "bench")])}


@dataclass(frozen=True)
class Trial:
    """One pool, its recipes and the log of whom the captioner was asked about."""

    folder: Path
    rows: int
    executor: str
    workers: int
    each_ms: float

    @property
    def pool(self) -> Path:
        return self.folder / "pool"

    @property
    def log(self) -> Path:
        return self.folder / "asked.txt"

    def job(self, name: str, every: int) -> Job:
        """A recipe that drops texts whose length `every` divides."""
        source = self.folder / "photos.parquet"
        if not source.exists():
            few_photos(photos(self.rows), self.rows, source)
        recipe = self.folder / f"{name}.yaml"
        recipe.write_text(
            RECIPE.format(
                name=name,
                shard=SHARD,
                photos=source,
                every=every,
                log=self.log,
                each_ms=self.each_ms,
                workers=self.workers,
            )
        )
        return Job(recipe, self.folder)

    def asked(self) -> Counter[str]:
        return Counter(self.log.read_text().split()) if self.log.exists() else Counter()

    def captioned(self) -> Counter[str]:
        """uid -> in how many parts it has a row."""
        parts = sorted((self.pool / "columns").glob("*ounted@*/*.parquet"))
        return Counter(
            u.hex() for part in parts for u in pq.read_table(part, columns=["uid"]).column("uid").to_pylist()
        )

    def survivors(self, every: int) -> set[str]:
        """uids that the filter of `job(name, every)` keeps, by its rule and the pool's facts."""
        facts = [pq.read_table(f, columns=["uid", "text"]) for f in sorted((self.pool / "pixels").glob("*.parquet"))]
        rows = [row for table in facts for row in table.to_pylist()]
        return {r["uid"].hex() for r in rows if len(r["text"]) % every}

    def parts(self) -> int:
        return len(list((self.pool / "columns").glob("*ounted@*/*.parquet")))


@dataclass(frozen=True)
class Found:
    """worst: of one kill, samples asked about again. lost: survivors without a caption, of either recipe.

    doubled: rows of the parts. asked_by_second, new_to_second: what the second recipe asked about, and first of all.
    """

    kills: int
    worst: int
    lost: int
    doubled: int
    asked_by_second: int
    new_to_second: int


def disturbed(trial: Trial, seed: int, kills: int) -> Found:
    """Kill so often, let it end, then run a recipe that keeps more."""
    draw = random.Random(f"captions {trial.executor} {seed}")
    job = trial.job("first", 3)
    worst = done = 0
    for _ in range(kills):
        before = sum(n - 1 for n in trial.asked().values())
        done += killed(trial, job, trial.parts() + 1 + draw.randrange(3), draw.random() * BATCH * trial.each_ms / 1000)
        worst = max(worst, sum(n - 1 for n in trial.asked().values()) - before)
    before = sum(n - 1 for n in trial.asked().values())
    run(job, trial.pool, trial.executor, env=PATHS).ok(600)
    again = sum(n - 1 for n in trial.asked().values())
    worst = max(worst, again - before)
    first, captioned = set(trial.asked()), trial.captioned()
    lost = len(trial.survivors(3) - captioned.keys())
    run(trial.job("second", 5), trial.pool, trial.executor, env=PATHS).ok(600)
    total = trial.asked()
    new = set(total) - first
    lost += len(trial.survivors(5) - trial.captioned().keys())
    return Found(
        done,
        worst,
        lost,
        sum(n - 1 for n in captioned.values()),
        sum(total.values()) - sum(captioned.values()) - again,
        len(new),
    )


def killed(trial: Trial, job: Job, parts: int, later_s: float) -> bool:
    """Start, wait for so many parts and a little longer, kill -9 the driver and see that what it started has ended."""
    running = run(job, trial.pool, trial.executor, env=PATHS)
    while running.alive and trial.parts() < parts:
        time.sleep(0.01)
    time.sleep(later_s)
    hit = running.alive
    started = family(running.process.pid)
    running.kill()
    leftovers(started, 120)
    return hit


def measure(quick: bool) -> dict[str, Bar]:
    cases = [("inline", 1, 2, 1)] if quick else [("inline", 1, 4, 5), ("ray", 2, 3, 3)]
    rows, each_ms = (1400, 1.0) if quick else (4200, 2.0)
    bars: dict[str, Bar] = {}
    for executor, workers, kills, trials in cases:
        found = []
        for seed in range(trials):
            trial = Trial(fresh(f"captions-crash-{executor}"), rows, executor, workers, each_ms)
            found.append(disturbed(trial, seed, kills))
            print(f"{executor} {seed}: {found[-1]}", flush=True)
        worst = max(f.worst for f in found)
        wrong = sum(f.lost + f.doubled + abs(f.asked_by_second - f.new_to_second) for f in found)
        bars |= {
            f"asked_again_after_a_kill_{executor}": at_most(worst, workers * BATCH, 0),
            f"captions_lost_doubled_or_asked_for_nothing_{executor}": bar(wrong, 0, wrong == 0),
            f"kills_that_hit_{executor}": at_least(sum(f.kills for f in found), kills * trials / 2, 0),
        }
    return bars


if __name__ == "__main__":
    WORK.mkdir(parents=True, exist_ok=True)
    finish(measure("--quick" in sys.argv), None)
