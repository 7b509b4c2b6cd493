"""How many centroids a text means, and that memory, time and parts grow with the work."""

from __future__ import annotations

from typing import Any

import pytest

from stages.base import Shape
from stages.kmeans_size import DAY, HOUR, count_of, machine, parts_for
from stages.kmeans_training import FAN_IN, PARTS, Training
from stages.shuffle import Layout
from stages.vectors import ROWS

DATACOMP = "min(max(n/128, 1000), 100000)"


@pytest.mark.parametrize(
    ("text", "n", "expected"),
    [
        (DATACOMP, 0, 1000),
        (DATACOMP, 12_800, 1000),
        (DATACOMP, 1_280_000, 10_000),
        (DATACOMP, 12_800_000, 100_000),
        (DATACOMP, 12_800_000_000, 100_000),
        ("n/128", 1280, 10),
        ("min(n, 500)", 20, 20),
        (" max( n/2 , min(n,3),7 ) ", 20, 10),
    ],
)
def test_what_texts_mean(text: str, n: int, expected: int) -> None:
    assert count_of(text)(n) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "n",
        "128",
        "n/0",
        "max(3, 4)",
        "max(n/128)",
        "max(n/2, )",
        "max(n/2, 3",
        "max(n/2),(3)",
        "n*2",
        "max(n, 3) 4",
    ],
)
def test_other_texts_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match='k: write a number above 0, "n/128"'):
        count_of(text)


def layout(shards: int) -> Layout:
    """Shards of 131,072 rows."""
    return Layout(Shape(tuple(range(shards)), (ROWS,) * shards), ROWS)


def phases(shards: int, **more: Any) -> dict[str, Any]:
    return {p.name: p for p in Training(**{"k": DATACOMP, **more}).training(layout(shards))}


def test_memory_counts_centroids_also_of_a_text() -> None:
    by_text, by_number, few = (Training(k=k).machine(layout(100).shape).memory_gb for k in (DATACOMP, 100_000, 5))
    assert by_text == by_number > few + 3
    found = phases(100)
    for name in ("start", "sums-001", "step-001", "centroids"):
        assert found[name].need.memory_gb == by_text, name


def test_no_part_takes_a_day_however_large_the_pool() -> None:
    """DataComp's xlarge: 0.03 of 12.8 billion rows, 100,000 centroids."""
    assert len(phases(100)["sums-001"].parts) == PARTS
    large, larger = (len(phases(shards, sample=1.0)["sums-001"].parts) for shards in (1000, 3000))
    assert PARTS < large < larger <= 3 * large
    vectors = 0.03 * 12.8e9
    assert parts_for(vectors, 100_000) * HOUR * 2e7 >= vectors * 100_000
    for phase in phases(3000, sample=1.0).values():
        assert phase.need.deadline_s <= DAY


@pytest.mark.parametrize(("shards", "more"), [(1, {"k": "n/2", "iterations": 100}), (1000, {"sample": 1.0})])
def test_the_device_changes_no_part(shards: int, more: dict[str, Any]) -> None:
    """It is no part of the identity, so a run that goes on with a GPU reads what a CPU has made."""
    cpu, gpu = (phases(shards, device=device, **more) for device in ("cpu", "cuda"))
    assert list(cpu) == list(gpu)
    for name, phase in cpu.items():
        assert {p: phase.inputs(p) for p in phase.parts} == {p: gpu[name].inputs(p) for p in gpu[name].parts}, name
    assert gpu["sums-001"].need.gpus == 1
    assert cpu["sums-001"].parts[0].endswith(f"-of-{len(cpu['sums-001'].parts):05d}")


def test_many_sums_are_added_up_in_a_tree() -> None:
    """A part's sums are as large as all centroids: nobody reads more than `FAN_IN` of them."""
    found = phases(3000, sample=1.0)
    assert "merge-001-1" in found
    assert "merge-001-0" not in phases(100)
    for name, phase in found.items():
        if name.startswith(("merge-", "step-", "centroids")):
            assert max(len(phase.inputs(part)) for part in phase.parts) <= FAN_IN, name


def test_a_small_sample_with_very_many_centroids_is_not_left_to_one_part() -> None:
    assert "sums-001" not in phases(1, k=100)
    assert "sums-001" in phases(1, k="n/2", iterations=100)


def test_a_long_part_has_a_long_deadline() -> None:
    assert machine(1, "cpu", 1e15).deadline_s > 1e7
    assert machine(1, "cpu").deadline_s == DAY
    assert machine(1, "cuda").gpus == 1
