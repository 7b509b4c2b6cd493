"""kill -9, again and again, while a real process trains: the run ends as if nothing had happened."""

from __future__ import annotations

import json
import signal
import time
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from tests.training_smoke.pack_parts import thirty
from tests.training_smoke.ranks import SMALL, Job, check_same, run, started, told
from training_smoke import checkpoint, models
from training_smoke.checkpoint import alone
from training_smoke.errors import TrainingError
from training_smoke.towers import TwoTowers, build
from training_smoke.writers import read_metrics

LONG = SMALL.but(samples=16 * 40, save_every=3, log_every=4)
# Seconds after a checkpoint was seen, from the next step to the middle of the next checkpoint.
DELAYS = (0.0, 0.004, 0.009, 0.016)


@pytest.fixture(scope="module")
def pack(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(thirty(tmp_path_factory.mktemp("pack")))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, pack: str) -> Path:
    """Folder of the run that nobody killed."""
    folder = tmp_path_factory.mktemp("whole")
    run(Job(folder, LONG), pack)
    return folder


def newest(folder: Path) -> int:
    found = checkpoint.checkpoints(folder / "checkpoints")
    return checkpoint.step_of(found[-1]) if found else 0


def killed(process: BaseProcess, folder: Path, after: int, delay: float) -> None:
    """Wait for a checkpoint beyond a step, and a little, then kill."""
    until = time.monotonic() + 60
    while newest(folder) <= after and process.is_alive() and time.monotonic() < until:
        time.sleep(0.001)
    time.sleep(delay)
    process.kill()
    process.join()


def test_killed_again_and_again_nothing_changes(tmp_path: Path, pack: str, whole: Path) -> None:
    folder, step, kills = tmp_path / "run", 0, 0
    for delay in DELAYS:
        process = started(Job(folder, LONG), pack)
        killed(process, folder, step, delay)
        kills += process.exitcode == -signal.SIGKILL
        assert newest(folder) > step
        step = newest(folder)
        if step == LONG.steps:
            break
    assert kills >= 3
    last = started(Job(folder, LONG), pack)
    last.join()
    assert last.exitcode == 0
    check_same(folder, whole)
    assert [line["step"] for line in told(folder)] == list(range(4, 41, 4))
    assert [p.name for p in (folder / "checkpoints").iterdir() if "part" in p.name] == []


def test_what_a_kill_leaves_half_written_is_no_part_of_the_run(tmp_path: Path, pack: str, whole: Path) -> None:
    """As if killed in the middle of a line, of a checkpoint, and after lines that no checkpoint has behind it."""
    folder = tmp_path / "run"
    run(Job(folder, LONG, cut=14, again=False), pack)
    with (folder / "metrics.jsonl").open("a") as file:
        file.write(json.dumps(read_metrics(folder)[-1] | {"step": 16, "loss": 0.0}) + "\n" + '{"step": 20, "loss": 1.')
    (folder / "checkpoints/step-000000015.part").write_bytes(b"half")
    run(Job(folder, LONG), pack)
    check_same(folder, whole)
    assert not (folder / "checkpoints/step-000000015.part").exists()


def test_a_folder_is_trained_by_one_at_a_time(tmp_path: Path, pack: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoint, "PATIENCE_S", 0.2)
    with alone(tmp_path / "run"), pytest.raises(TrainingError, match="another process trains in this folder"):
        run(Job(tmp_path / "run", SMALL), pack)
    run(Job(tmp_path / "run", SMALL), pack)  # and then it is free


def test_who_comes_while_another_is_being_killed_waits(tmp_path: Path, pack: str) -> None:
    folder = tmp_path / "run"
    process = started(Job(folder, LONG), pack)
    while newest(folder) == 0 and process.is_alive():
        time.sleep(0.001)
    process.kill()  # not waited for
    run(Job(folder, LONG), pack)
    process.join()
    assert told(folder)[-1]["step"] == LONG.steps


def test_draws_go_on_too_and_are_the_runs_own(tmp_path: Path, pack: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With dropout: masks are functions of the step, and the caller's generator is left alone."""

    def with_dropout(*arguments: Any) -> TwoTowers:
        towers = build(*arguments)
        towers.text_projection = nn.Sequential(nn.Dropout(0.5), towers.text_projection)
        return towers

    monkeypatch.setattr(models, "build", with_dropout)
    torch.manual_seed(1)
    before = torch.get_rng_state()
    run(Job(tmp_path / "whole", SMALL), pack)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    run(Job(tmp_path / "cut", SMALL, cut=5), pack)
    check_same(tmp_path / "cut", tmp_path / "whole")
    monkeypatch.setattr(models, "build", build)
    run(Job(tmp_path / "plain", SMALL), pack)
    assert told(tmp_path / "plain")[0]["loss"] != told(tmp_path / "whole")[0]["loss"]
