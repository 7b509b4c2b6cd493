"""Size bounds at their boundaries, on sizes as received."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from filters.image_size import ImageSize
from tests.filters.run_rules import reasons

DATACOMP = ImageSize(min_side=200, max_aspect=3.0)


def dropped(chosen: ImageSize, *sizes: tuple[int | None, int | None]) -> list[str | None]:
    widths, heights = zip(*sizes, strict=True)
    columns = {"original_width": pa.array(widths, pa.int32()), "original_height": pa.array(heights, pa.int32())}
    return reasons(chosen, pa.table(columns))


def test_the_boundaries_of_datacomps_basic_filter() -> None:
    sizes = [(200, 200), (199, 900), (900, 199), (600, 200), (601, 200), (200, 600), (200, 601), (700, 100)]
    assert dropped(DATACOMP, *sizes) == [
        None,
        "min_side",
        "min_side",
        None,
        "max_aspect",
        None,
        "max_aspect",
        "min_side",  # the first that fails
    ]


def test_other_bounds() -> None:
    assert dropped(ImageSize(max_side=300), (300, 10), (301, 10), (10, 301)) == [None, "max_side", "max_side"]
    pixels = ImageSize(min_pixels=100, max_pixels=10**10)
    assert dropped(pixels, (10, 10), (9, 11), (100_000, 100_000), (100_001, 100_000)) == [
        None,
        "min_pixels",
        None,  # beyond 32 bits
        "max_pixels",
    ]
    assert dropped(ImageSize(max_aspect=1), (5, 5), (5, 6)) == [None, "max_aspect"]


@given(st.integers(1, 30_000), st.integers(1, 30_000), st.integers(1, 400), st.floats(1, 20))
def test_equals_the_reference(width: int, height: int, side: int, aspect: float) -> None:
    """`min(w, h) >= side` and `max(w, h) / min(w, h) <= aspect`, in double as pandas has it."""
    expected = (
        "min_side"
        if min(width, height) < side
        else "max_aspect"
        if max(width, height) / min(width, height) > aspect
        else None
    )
    assert dropped(ImageSize(min_side=side, max_aspect=aspect), (width, height)) == [expected]


def test_missing_sizes_follow_the_policy() -> None:
    unknown = [(None, None), (None, 900), (900, None)]
    with pytest.raises(ValueError, match="min_side is NULL"):
        dropped(DATACOMP, *unknown)
    assert dropped(DATACOMP.model_copy(update={"on_missing": "drop"}), *unknown) == ["missing"] * 3
    assert dropped(DATACOMP.model_copy(update={"on_missing": "keep"}), *unknown) == [None] * 3


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({}, "image_size needs a bound: min_side, max_side, max_aspect"),
        ({"min_side": 10, "max_side": 9}, "min_side 10 is above max_side 9"),
        ({"min_pixels": 10, "max_pixels": 9}, "min_pixels 10 is above max_pixels 9"),
        ({"min_side": 0}, "greater than or equal to 1"),
        ({"max_aspect": 0.5}, "greater than or equal to 1"),
        ({"max_aspect": float("inf")}, "finite"),
        ({"min_sides": 200}, "min_sides"),
    ],
)
def test_bounds_that_make_no_sense(parameters: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ImageSize(**parameters)
