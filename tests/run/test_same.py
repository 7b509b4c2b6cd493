"""The same recipe gives the same bytes here, on Ray and on an object store. More ways: bench/engine_same.py."""

from __future__ import annotations

import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "bench"))

from jobs import Job, differences, faults, make_job, noise, run_here, snapshot

KINDS = ("columns/", "barriers/", "verdicts/", "picks/", "packs/", "pixels/", "lists/")


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> Job:
    folder = tmp_path_factory.mktemp("same")
    made = make_job(folder, noise(folder, 40), shard=20, pack=20, gpus=0)
    run_here(made.recipe, folder / "inline", "inline")
    return made


def test_the_job_goes_through_every_kind_of_work(job: Job) -> None:
    """What is compared below must not be empty."""
    pool = job.folder / "inline"
    found = snapshot(pool)
    assert {k for k in KINDS if any(n.startswith(k) for n in found)} == set(KINDS)
    fates = {f for p in pool.glob("picks/*/0*.parquet") for f in pq.read_table(p).column("dropped_by").to_pylist()}
    assert {None, "where", "top_fraction", "keep_one", "EveryOther"} <= fates
    assert any("Captioner" in n for n in found)
    assert any("RankOfAll" in n for n in found)
    assert not faults(pool)


@pytest.mark.usefixtures("ray_session")
def test_ray_gives_the_same_files(job: Job) -> None:
    run_here(job.recipe, job.folder / "ray", "ray")
    assert differences(snapshot(job.folder / "inline"), snapshot(job.folder / "ray")) == []


def test_an_object_store_gives_the_same_files(job: Job, s3_root: str) -> None:
    run_here(job.recipe, s3_root, "inline")
    assert differences(snapshot(job.folder / "inline"), snapshot(s3_root)) == []


def test_a_damaged_file_would_be_seen(job: Job, tmp_path: Path) -> None:
    before = snapshot(job.folder / "inline")
    name = next(n for n in before if n.startswith("packs/"))
    assert differences(before, before | {name: "0" * 64}) == [f"other bytes: {name}"]
    assert differences(before, {n: d for n, d in before.items() if n != name}) == [f"missing: {name}"]
