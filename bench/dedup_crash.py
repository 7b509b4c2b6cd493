"""Kill -9 in each phase of each barrier and filter of deduplication: the pool ends byte for byte the same.

A job with keep-one filters over bytes, hashes and vectors, and with an evaluation set, runs undisturbed; that says
which folders of phases there are. Then it runs again and dies at the first commit into each of them, before the bytes
are written or between writing and linking, and is started again until it ends: `inline`, where the driver itself dies;
on Ray, where workers do under a driver that goes on. What was committed before each death must be what it has to become
already.
"""

from __future__ import annotations

import shutil
import time
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq
from common import ROOT, Bar, bar, fresh, photos
from jobs import Job, damaged, differences, few_photos, run, snapshot

PHOTOS, ROWS = 240, 60

RECIPE = """\
recipe: dedup_crash
shard_size: 30
source: {{path: {photos}, name: photos, url: null, image: image, text: caption}}
ingest: {{resize: short, side: 96}}
columns:
  - dedup_crash_parts:Thumb: {{}}
  - fingerprints: {{kinds: [colours]}}
filters:
  - id: exam
    decontaminate: {{sets: [{{name: exam, path: {exam}}}], over: pool}}
  - id: bytes
    keep_one: {{by: sha256, over: survivors}}
  - id: near64
    keep_one: {{by: phash64, distance: 4, over: survivors}}
  - id: near256
    keep_one: {{by: phash256, distance: 31, rule: component, over: pool}}
  - id: verified
    keep_one: {{by: phash256, distance: 48, verify: [{{column: colours, within: 4, measure: l1}}], over: pool}}
  - id: vectors
    keep_one: {{near: {{vectors: thumb, epsilon: 0.01, clusters: {{k: 4, sample: 100}}}}, rule: local, over: pool}}
  - id: semantic
    semdedup: {{vectors: thumb, clusters: {{k: 4}}, epsilon: 0.01, over: pool}}
"""
OURS = ("barriers/", "verdicts/")


@dataclass
class Trials:
    """The undisturbed pool, and what became of the disturbed ones."""

    job: Job
    expected: dict[str, str]
    folders: list[str]
    kills: int = 0
    wanted: int = 0
    done: int = 0
    same: int = 0


def measure(quick: bool) -> dict[str, Bar]:
    trials = undisturbed(quick)
    cases = [("inline", 0)] if quick else [("inline", 0), ("inline", 1), ("ray", 0)]
    for executor, odd in cases:
        killed_everywhere(trials, executor, odd)
    return {
        "phases_killed_in": bar(f"{trials.kills}/{trials.wanted}", "all", trials.kills == trials.wanted),
        "dedup_identical_after_kills": bar(f"{trials.same}/{trials.done}", "all", trials.same == trials.done),
    }


def undisturbed(quick: bool) -> Trials:
    """Run the job once; its folders of phases in the order in which they came."""
    folder = fresh("dedup-crash")
    source = few_photos(photos(2000), PHOTOS // 2 if quick else PHOTOS, folder / "photos.parquet")
    (folder / "recipe.yaml").write_text(RECIPE.format(photos=source, exam=exam_of(source)))
    job = Job(folder / "recipe.yaml", folder)
    pool = folder / "undisturbed"
    began = time.monotonic()
    run(job, pool, "inline", env=surroundings()).ok()
    expected = snapshot(pool)
    parts = {rel.rsplit("/", 1)[0] for rel in expected if rel.startswith(OURS) and rel.endswith(".parquet")}
    first = {f: min(p.stat().st_mtime_ns for p in (pool / f).glob("*.parquet")) for f in parts}
    print(f"undisturbed: {time.monotonic() - began:.1f} s, {len(expected)} files, {len(parts)} phases", flush=True)
    return Trials(job, expected, sorted(parts, key=first.__getitem__))


def exam_of(source: Path) -> Path:
    """Five of the photos as an evaluation set."""
    folder = source.parent / "exam"
    folder.mkdir()
    for i, image in enumerate(pq.read_table(source).column("image").to_pylist()[:50:10]):
        (folder / f"{i}.jpg").write_bytes(image)
    return folder


def surroundings(**more: str) -> dict[str, str]:
    paths = ":".join(str(p) for p in (ROOT, ROOT / "tests", ROOT / "bench"))
    return {"PYTHONPATH": paths, "DEDUP_ROWS": str(ROWS), **more}


def killed_everywhere(trials: Trials, executor: str, odd: int) -> None:
    """Run until it ends, dying once in each folder; on Ray the driver lives, and workers die."""
    folder = trials.job.folder / f"{executor}-{odd}"
    shutil.rmtree(folder, ignore_errors=True)
    pool, once = folder / "pool", folder / "once"
    once.mkdir(parents=True)
    env = surroundings(DEDUP_KILL=",".join(trials.folders), DEDUP_ODD=str(odd), DEDUP_ONCE=str(once))
    began, problems = time.monotonic(), []
    for _ in range(len(trials.folders) + 1):
        running = run(trials.job, pool, executor, env=env)
        status = running.wait(600)
        problems += damaged(trials.expected, snapshot(pool))
        if status == 0:
            break
        if status != -9:
            problems.append(f"exit status {status}: {running.said()[-1500:]}")
            break
    kills = len(list(once.iterdir()))
    problems += differences(trials.expected, snapshot(pool))
    trials.kills, trials.wanted = trials.kills + kills, trials.wanted + len(trials.folders)
    trials.done, trials.same = trials.done + 1, trials.same + (not problems)
    missed = [f for f in trials.folders if not (once / f.replace("/", "+")).exists()]
    print(
        f"{executor} {odd}: {kills} kills in {time.monotonic() - began:.0f} s: {'DIFFERENT' if problems else 'same'}",
        *problems[:5], *(f"not killed in {m}" for m in missed[:5]), flush=True,
    )  # fmt: skip
    if not problems:
        shutil.rmtree(folder)


def main() -> None:
    import sys

    print(measure("--quick" in sys.argv))


if __name__ == "__main__":
    main()
