"""One run of a comparison: the same numbers after kill -9, on several processes, and in an object store."""

from __future__ import annotations

import json
import os
import pickle
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from compared import build_pool, held_out, recipe

from curate.errors import UserError
from curate.pool.storage import Storage
from curate.run.compare.sets import open_sets
from curate.run.compare.work import Training, TrainWork, train_one
from curate.run.job import Job
from curate.run.progress import Progress, Telling
from training_smoke.config import SCALES, Config
from training_smoke.packs import Pack

CONFIG = SCALES["feature"].but(samples=2048, save_every=2, log_every=1)
TINY = SCALES["tiny"].but(samples=1024, log_every=1)  # without dropout, which draws by process


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, Path]:
    """(pool, pack, evaluation set)"""
    folder = tmp_path_factory.mktemp("work")
    pool = build_pool(folder / "pool", 160)
    job = Job(recipe(folder, "all", pool, None), "inline")
    with Progress(None, "test", telling=Telling(quiet=True)) as progress:
        pack = job.pack(progress, job.run(progress).pick)["folder"]
        job.choice.close()
    return pool, pack, held_out(folder / "sets", 12)[0]


def work_of(packed: tuple[Path, str, Path], seed: int, processes: int = 1, config: Config = CONFIG) -> TrainWork:
    pool, pack, where = packed
    digest = Pack.open(f"{pool}/{pack}").digest
    run = Training(pack, digest, config.but(init_seed=seed, order_seed=seed))
    sets, missing = open_sets([str(where)])
    assert missing == {}
    return TrainWork(str(pool), {"all/0": run}, tuple(sets), threads=1, processes=processes)


def told(work: TrainWork) -> tuple[list[list[float]], dict[str, object]]:
    """(curve, metrics)"""
    storage, folder = Storage.at(work.pool), work.runs["all/0"].folder
    curve = json.loads(storage.read(f"{folder}/run.json"))["curve"]
    return curve, json.loads(storage.read(next(iter(work.scores("all/0")))))["metrics"]


def forget(work: TrainWork) -> None:
    storage, folder = Storage.at(work.pool), work.runs["all/0"].folder
    for path in sorted((Path(storage.url) / folder).rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()


CHILD = """
import pickle, sys
from curate.run.compare.work import train_one
train_one(pickle.load(open(sys.argv[1], "rb")), "all/0")
"""


def test_killed_in_training_it_goes_on_to_the_same_numbers(packed: tuple[Path, str, Path], tmp_path: Path) -> None:
    work = work_of(packed, 1)
    train_one(work, "all/0")
    whole = told(work)
    forget(work)
    (tmp_path / "work.pickle").write_bytes(pickle.dumps(work))
    checkpoints = Path(work.pool) / work.runs["all/0"].folder / "checkpoints"
    paths = os.pathsep.join([p for p in sys.path if p])
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, str(tmp_path / "work.pickle")], env=os.environ | {"PYTHONPATH": paths}
    )
    until = time.monotonic() + 60
    while not list(checkpoints.glob("step-*.pt")):
        assert child.poll() is None
        assert time.monotonic() < until
        time.sleep(0.005)
    child.send_signal(signal.SIGKILL)
    child.wait()
    assert not (checkpoints.parent / "run.json").exists()
    train_one(work, "all/0")
    assert told(work) == whole


def test_on_two_processes_it_is_the_same_training(packed: tuple[Path, str, Path]) -> None:
    one, two = work_of(packed, 2, config=TINY), work_of(packed, 2, processes=2, config=TINY)
    train_one(one, "all/0")
    alone = told(one)
    forget(one)
    train_one(two, "all/0")
    together = told(two)
    assert [s for s, _ in together[0]] == [s for s, _ in alone[0]]
    first, last = together[0][0][1] / alone[0][0][1], together[0][-1][1] / alone[0][-1][1]
    assert first == pytest.approx(1, abs=1e-5)
    assert last == pytest.approx(1, abs=0.02)  # Adam's first steps make much of rounding


def test_what_goes_wrong_in_another_process_is_told(packed: tuple[Path, str, Path]) -> None:
    work = work_of(packed, 3, processes=3)  # does not divide the batch
    with pytest.raises(UserError, match="training on 3 processes ended with status 1: 3 processes cannot share a"):
        train_one(work, "all/0")


@pytest.mark.parametrize("processes", [1, 2])
def test_a_run_that_diverges_is_a_result_and_not_tried_again(packed: tuple[Path, str, Path], processes: int) -> None:
    wild = TINY.but(optimiser={"lr": 1e20, "warmup": 0, "clip_norm": None}, samples=2048)
    work = work_of(packed, 5, processes, wild)
    train_one(work, "all/0")
    storage, folder = Storage.at(work.pool), work.runs["all/0"].folder
    assert json.loads(storage.read(f"{folder}/run.json"))["diverged"].startswith("training diverged at step ")
    assert not [file for file in work.scores("all/0") if storage.exists(file)]
    assert not work.missing("all/0", storage)
    forget(work)


def test_a_set_that_is_broken_is_named(packed: tuple[Path, str, Path], tmp_path: Path) -> None:
    broken = held_out(tmp_path / "sets", 4)[0]
    (broken / "test" / "0.tar").write_bytes(b"no tar at all" * 100)
    sets, _ = open_sets([str(broken)])
    work = TrainWork(str(packed[0]), work_of(packed, 1).runs, tuple(sets), threads=1)
    with pytest.raises(UserError, match=r"all/0: .*0\.tar is broken"):
        train_one(work, "all/0")


def test_in_an_object_store_it_is_the_same_run(packed: tuple[Path, str, Path], s3_server: str, tmp_path: Path) -> None:
    import s3fs

    s3fs.S3FileSystem(endpoint_url=s3_server).mkdir("judged")
    s3fs.S3FileSystem.clear_instance_cache()
    pool = "s3://judged/pool"
    build_pool(pool, 160)
    job = Job(recipe(tmp_path, "all", pool, None), "inline")
    with Progress(None, "test", telling=Telling(quiet=True)) as progress:
        pack = job.pack(progress, job.run(progress).pick)["folder"]
        job.choice.close()
    here, there = work_of(packed, 4), work_of((pool, pack, packed[2]), 4)
    for work in (here, there):
        train_one(work, "all/0")
    assert told(there) == told(here)
    storage, folder = Storage.at(pool), there.runs["all/0"].folder
    for name in ("config.json", "packs.json", "environment.json", "metrics.jsonl", "towers.pt", "README.md"):
        assert storage.exists(f"{folder}/{name}"), name
