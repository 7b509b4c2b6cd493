"""What a phase refuses it refuses at once, with its reason and its trace; what storage spoils is tried again."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from tiny import tiny_pool

import curate.run.phases
from curate.errors import UserError
from curate.pool.pool import Pool
from curate.run.engine import Rules
from curate.run.graph import asked
from curate.run.job import walk_recipe
from curate.run.progress import Progress
from curate.run.walk import ExecutorChoice, Ground, Walk
from filters.hard_cap import HardCap
from stages.base import Inputs, Output, fact


def filtered(pool: Pool, chosen: HardCap) -> Walk:
    ground = Ground(pool, Progress(None, "test"), ExecutorChoice("inline"), Rules(tries=3))
    walk = Walk(ground, pool.claimed(), None, dry=False)
    walk_recipe(walk, [asked("cap", chosen, fact)], ())
    return walk


def traces(folder: Path) -> list[str]:
    return [json.loads(path.read_text())["error"] for path in folder.rglob("*.failed.json")]


def test_a_filter_that_is_asked_too_much_says_so_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, parts = HardCap.run, []

    def run(self: HardCap, phase: str, part: str, inputs: Inputs) -> Output:
        parts.append((phase, part))
        return real(self, phase, part, inputs)

    monkeypatch.setattr(HardCap, "run", run)
    pool = tiny_pool(str(tmp_path / "p"))
    said = (
        r"^phase plan, part all: hard_cap: 1,000 copies are asked for, and 60 samples .* raise `most` or ask for fewer$"
    )
    with pytest.raises(UserError, match=said):
        filtered(pool, HardCap(over="pool", column="width", temperature=100, total=1000, most=2))
    assert parts.count(("plan", "all")) == 1
    (trace,) = traces(tmp_path)
    assert "in plan\n" in trace
    assert "ValueError: hard_cap: 1,000 copies" in trace


def spoilt(error: Callable[[], Exception], times: int, real: Any) -> Any:
    """`read_table` as storage might have it: some of the first reads fail."""
    left = [times]

    def read(*arguments: Any, **named: Any) -> Any:
        if left[0]:
            left[0] -= 1
            raise error()
        return real(*arguments, **named)

    return read


@pytest.mark.parametrize("error", [lambda: pa.ArrowInvalid("no magic bytes"), lambda: ValueError("cut off")])
def test_what_cannot_be_read_is_tried_again(
    error: Callable[[], Exception], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = tiny_pool(str(tmp_path / "p"))
    phases = curate.run.phases
    monkeypatch.setattr(phases, "read_table", spoilt(error, 2, phases.read_table))
    walk = filtered(pool, HardCap(over="pool", column="width", temperature=100, total=50, most=2))
    assert walk.failed == {}


def test_an_error_that_may_be_a_files_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, tries = HardCap.run, []

    def run(self: HardCap, phase: str, part: str, inputs: Inputs) -> Output:
        tries.append(phase)
        if tries.count("plan") == 1 and phase == "plan":
            raise UnicodeDecodeError("utf-8", b"\xff", 0, 1, "cut off")
        return real(self, phase, part, inputs)

    monkeypatch.setattr(HardCap, "run", run)
    filtered(tiny_pool(str(tmp_path / "p")), HardCap(over="pool", column="width", temperature=100, total=50, most=2))
    assert tries.count("plan") == 2
