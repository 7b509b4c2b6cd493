"""The same pack, byte for byte, from Ray's workers, from S3, and after a process was killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from curate.pool.pool import Pool
from curate.run.executors import RayExecutor
from curate.run.pack import drive, fill
from tests.run.packing import Packer, build, files_of, samples_of

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def plain(tmp_path: Path) -> dict[str, bytes]:
    """The pack as one process makes it."""
    packer = Packer(build(tmp_path / "plain", parts()))
    packer.pack(samples=10)
    return files_of(packer)


def parts() -> list[list[dict]]:
    samples = samples_of(45)
    return [samples[:20], samples[20:]]


@pytest.fixture
def two_workers(ray_session: None) -> Iterator[RayExecutor]:
    executor = RayExecutor(2)
    yield executor
    executor.close()


def test_ray(
    tmp_path: Path, plain: dict[str, bytes], monkeypatch: pytest.MonkeyPatch, two_workers: RayExecutor
) -> None:
    monkeypatch.setattr(drive, "TASK", 30_000)  # a file a task
    packer = Packer(build(tmp_path / "pool", parts()), executor=two_workers)
    packer.pack(samples=10)
    assert files_of(packer) == plain


def test_s3_through_segments(plain: dict[str, bytes], monkeypatch: pytest.MonkeyPatch, s3_root: str) -> None:
    monkeypatch.setattr(drive, "TASK", 30_000)
    monkeypatch.setattr(fill, "REMOTE_SWEEP", 20_000)
    packer = Packer(build(s3_root, parts()))
    packer.pack(samples=10)
    assert "pack: scatter" in packer.passes
    assert files_of(packer) == plain
    folder = f"packs/{packer.folders[0]}"
    assert [f for f in packer.pool.storage.folders(folder) if packer.pool.storage.list(f"{folder}/{f}")] == ["samples"]


KILLED = """
import os, sys
sys.path[:0] = [{root!r}, {root!r} + "/tests"]
from curate.pool.pool import Pool
from curate.run.pack import drive
from tests.run.packing import Packer
drive.TASK = 30_000
pool = Pool.open(sys.argv[1])
real, left = type(pool.storage).commit, [int(sys.argv[2])]
def commit(self, rel, data):
    done = real(self, rel, data)
    left[0] -= 1
    if left[0] == 0:
        os.kill(os.getpid(), 9)
    return done
type(pool.storage).commit = commit
Packer(pool).pack(samples=10)
"""


@pytest.mark.parametrize("commits", [3, 6, 13])
def test_kill_9_between_files_and_then_the_same_command(tmp_path: Path, plain: dict[str, bytes], commits: int) -> None:
    pool = build(tmp_path / "pool", parts())
    code = KILLED.format(root=str(ROOT))
    done = subprocess.run([sys.executable, "-c", code, pool.storage.url, str(commits)], env=os.environ, timeout=120)
    assert done.returncode == -signal.SIGKILL
    packer = Packer(Pool.open(pool.storage.url))
    assert "manifest.json" not in files_of(packer)
    packer.pack(samples=10)
    assert files_of(packer) == plain
