"""The parts that stand for a billion images: their inputs feed every phase, and the page multiplies as it says."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "bench"))

import dedup_billion
import dedup_billion_data
from dedup_billion_page import Weighed, hours_on, phases, summary

HASHES = ["equal bytes (sha256)", "pHash-64 within 4 bits", "pHash-256 within 31 bits", "keep one of near pHash-256"]
ONE = Weighed("near", "pairs", parts=960, cpu_s=3.6, peak_mb=800, read_mb=10, written_mb=5)


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Shards of 300 samples, four in a bucket, and no process of its own for each part."""
    monkeypatch.setattr("stages.shuffle.ROWS", 1200)
    for module in (dedup_billion, dedup_billion_data):
        monkeypatch.setattr(module, "ROWS_OF_SHARD", 300)
    monkeypatch.setattr(dedup_billion, "in_a_fresh_process", dedup_billion.work)
    monkeypatch.setattr("common.WORK", tmp_path)


@pytest.mark.parametrize("step", HASHES)
def test_inputs_are_made_for_every_phase(step: str, small: None) -> None:
    owner = dedup_billion.STEPS[step]()
    found = dedup_billion.weighed(step, owner, shards=80)
    named = [p.name for p in owner.phases(dedup_billion.shape_of(80))]
    assert [w.phase for w in found] == named
    assert {w.scale for w in found} == {1.0}
    assert all(w.written_mb > 0 and w.read_mb > 0 and w.peak_mb > 0 for w in found)


def test_what_is_looked_up_is_found(small: None) -> None:
    """Of the samples of a bucket 45 % lie in groups of three; both pairs of a group find its label."""
    owner = dedup_billion.STEPS["pHash-64 within 4 bits"]()
    found = {p.name: p for p in owner.phases(dedup_billion.shape_of(80))}
    world = dedup_billion.world_of(owner, 80)
    name = dedup_billion.parts_of(found["edges"])[0]
    part = dedup_billion_data.Part("edges", name, tuple(found["edges"].inputs(name)))
    tables = world.tables(part)
    of = {kind: [t for k, t in tables.items() if k.phase == kind] for kind in ("pairs", "labels")}  # type: ignore[union-attr]
    nodes = {n for t in of["labels"] for n in t.column("node").to_pylist()}
    ends = {n for t in of["pairs"] for side in ("a", "b") for n in t.column(side).to_pylist()}
    assert len(ends & nodes) >= 0.95 * len(ends)  # but for the last group of three
    share = 80 * 300 * dedup_billion_data.TOUCHED / len(dedup_billion.parts_of(found["edges"]))
    assert sum(t.num_rows for t in of["labels"]) == pytest.approx(share, rel=0.2)


def test_hours_are_rounds_of_parts_that_fit() -> None:
    assert ONE.core_hours == pytest.approx(960 * 3.6 / 3600)
    assert hours_on(ONE, 1) == pytest.approx(60 * 3.6 / 3600)  # 16 at a time
    assert hours_on(ONE, 64) == pytest.approx(3.6 / 3600)
    alone = replace(ONE, parts=1, scale=10.0)
    assert hours_on(alone, 1) == hours_on(alone, 64) == pytest.approx(36 / 3600)
    heavy = replace(ONE, peak_mb=30_000)
    assert hours_on(heavy, 1) == pytest.approx(480 * 3.6 / 3600)  # two at a time in 64 GB


def test_the_page_marks_what_was_extrapolated() -> None:
    large = replace(ONE, phase="roots", parts=1, scale=10.0, need_gb=30)
    rows = phases([ONE, large, replace(ONE, step="other")], "near")[2:]
    assert rows == [
        "| `pairs` | 960 | 3.6 | 0.96 | 800 | 1 | 4.8 |",
        "| `roots` | 1 | ~36 | ~0.01 | ~6,740 | 30 | ~0.05 |",
    ]
    (line,) = summary([ONE, large], ["near"])[2:]
    assert line.startswith("| near | 0.97 | ")
    assert line.endswith("| 0.00485 | ~6,740 (roots) |")
