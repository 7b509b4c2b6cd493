"""Margins: the quantities and bounds that filters show say the same as the filters decide."""

from __future__ import annotations

import math
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from filters.base import Filter, Margin, RowFilter
from filters.caption_length import CaptionLength
from filters.image_size import ImageSize
from filters.keep_one import KeepOne
from filters.language import Language
from filters.top_fraction import TopFraction
from filters.where import Where
from tests.filters.run_rules import reasons
from tests.phase_runner import PhaseRunner
from tests.pools import uids


def values(margins: tuple[Margin, ...], table: pa.Table) -> list[list[float | None]]:
    """Of each margin its value a row."""
    with duckdb.connect() as connection:
        connection.register("samples", table)
        rows = connection.execute(f"SELECT {', '.join(m.value for m in margins)} FROM samples").fetchall()
    return [list(column) for column in zip(*rows, strict=True)]


def within(margin: Margin, value: float | None) -> bool:
    """Does a value satisfy all bounds of its margin?"""
    return value is not None and all(value >= at if side == "above" else value <= at for at, side, _ in margin.bounds)


def agree(chosen: RowFilter, table: pa.Table) -> None:
    """A row is kept exactly where all values are within their bounds."""
    margins = chosen.margins()
    found = values(margins, table)
    for row, reason in enumerate(reasons(chosen, table)):
        inside = all(within(m, column[row]) for m, column in zip(margins, found, strict=True))
        assert inside == (reason is None), (row, reason, table.slice(row, 1).to_pylist())


def labels(chosen: Filter) -> list[tuple[str, list[str]]]:
    return [(m.name, [label for _, _, label in m.bounds]) for m in chosen.margins()]


SIDES = st.integers(1, 300)


@settings(deadline=None)
@given(
    st.lists(st.tuples(SIDES, SIDES), min_size=1, max_size=20),
    st.fixed_dictionaries(
        {"min_side": st.none() | st.integers(1, 150), "max_side": st.none() | st.integers(150, 300)}
        | {"max_aspect": st.none() | st.floats(1, 5), "min_pixels": st.integers(1, 10_000)}
        | {"max_pixels": st.none() | st.integers(10_000, 90_000)}
    ),
)
def test_sizes(sizes: list[tuple[int, int]], bounds: dict[str, Any]) -> None:
    widths, heights = zip(*sizes, strict=True)
    columns = {"original_width": pa.array(widths, pa.int32()), "original_height": pa.array(heights, pa.int32())}
    agree(ImageSize(**bounds), pa.table(columns))


def test_a_size_of_which_one_side_is_unknown_has_no_value() -> None:
    chosen = ImageSize(min_side=1, max_side=9, max_aspect=3, min_pixels=1)
    columns = {"original_width": pa.array([None, 5], pa.int32()), "original_height": pa.array([5, None], pa.int32())}
    assert values(chosen.margins(), pa.table(columns)) == [[None, None]] * 4


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 12), st.integers(0, 60)), min_size=1, max_size=20),
    st.none() | st.integers(0, 5),
    st.none() | st.integers(5, 12),
    st.integers(0, 40),
    st.sampled_from(["datacomp", "fasttext", "coyo"]),
)
def test_lengths(rows: list[tuple[int, int]], least: int | None, most: int | None, chars: int, count: Any) -> None:
    chosen = CaptionLength(min_words=least, max_words=most, min_chars=chars, count=count)
    words, letters = zip(*rows, strict=True)
    every = {"n_words": words, "n_words_fasttext": words, "n_words_clean": words}
    agree(
        chosen,
        pa.table(
            {n: pa.array(v, pa.int32()) for n, v in every.items()} | {"n_chars": letters, "n_chars_clean": letters}
        ),
    )


@settings(deadline=None)
@given(st.lists(st.floats(0, 1, width=32), min_size=1), st.floats(0, 1))
def test_probabilities_of_languages(probs: list[float], least: float) -> None:
    table = pa.table({"lang": ["en"] * (len(probs) + 1), "lang_prob": pa.array([*probs, least], pa.float32())})
    agree(Language(keep=("en",), min_prob=least), table)
    assert Language(keep=("en",)).margins() == ()


NUMBER = st.integers(-20, 20) | st.floats(-20, 20)
SIGN = st.sampled_from(["<", "<=", ">", ">="])


@st.composite
def predicates(draw: Any) -> str:
    """Comparisons of doubles with numbers, all of which must hold."""
    number = draw(NUMBER)
    left = draw(st.sampled_from(["a", '"b c"', 'a + "b c"', "abs(a)"]))
    match draw(st.integers(0, 3)):
        case 0:
            return f"{left} {draw(SIGN)} ({number!r})::DOUBLE"
        case 1:
            return f"({number!r})::DOUBLE {draw(SIGN)} {left}"
        case 2:
            return f"{left} BETWEEN ({number!r})::DOUBLE AND {draw(NUMBER)!r}::DOUBLE"
        case _:
            return f"NOT ({left} {draw(SIGN)} ({number!r})::DOUBLE OR a > 19.5)"


@settings(deadline=None)
@given(st.lists(predicates(), min_size=1, max_size=4), st.lists(st.tuples(NUMBER, NUMBER), min_size=1, max_size=20))
def test_predicates_that_are_comparisons(parts: list[str], rows: list[tuple[float, float]]) -> None:
    a, b = zip(*rows, strict=True)
    agree(
        Where(sql=" AND ".join(f"({p})" for p in parts)),
        pa.table({"a": pa.array(a, pa.float64()), "b c": pa.array(b, pa.float64())}),
    )


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("sharpness >= 50 AND NOT blank", [("sharpness", ["sharpness >= 50"])]),
        ("50 <= sharpness", [("sharpness", ["sharpness >= 50"])]),
        ("width / height < 3", [("width / height", ["width / height < 3"])]),
        ("clip BETWEEN 0.2 AND 0.9", [("clip", ["clip >= 0.2", "clip <= 0.9"])]),
        ("NOT (n < 3 OR m > 1e3)", [("n", ["n >= 3"]), ("m", ["m <= 1000"])]),
        ("n > 3 OR m > 4 OR n > 9", [("n", ["n > 3", "n > 9"]), ("m", ["m > 4"])]),
        ('"A b" > 1/3.0', [("A b", ["A b > 0.3333333333"])]),
        ("(a + 1) * (b + 2) > 7", [("(a + 1) * (b + 2)", ["(a + 1) * (b + 2) > 7"])]),
        ("n = 3 AND lang > 'en' AND a > b AND d > '5' AND x > NULL AND y < 1e999 AND a IN (1, 2)", []),
    ],
)  # fmt: skip
def test_what_a_predicate_bounds(sql: str, expected: list[tuple[str, list[str]]]) -> None:
    assert labels(Where(sql=sql)) == expected


def test_a_strict_bound_starts_at_the_next_number() -> None:
    (margin,) = Where(sql="a > 3").margins()
    assert margin.bounds == ((math.nextafter(3, math.inf), "above", "a > 3"),)


def test_a_long_expression_has_a_short_name() -> None:
    (margin,) = Where(sql=" + ".join(["length_x"] * 12) + " > 3").margins()
    assert len(margin.name) == 80
    assert margin.name.endswith("...")


@pytest.mark.parametrize("lowest", [False, True])
def test_the_best_fraction_says_which_side_it_keeps(lowest: bool) -> None:
    scores = np.array([0.1, 0.9, 0.5, 0.3, 0.7, 0.2, 0.8, 0.4, 0.6, 0.0])
    chosen = TopFraction(over="pool", column="clip score", fraction=0.3, lowest=lowest)
    (margin,) = chosen.margins()
    assert margin.cut == (("below", "lowest 30 %") if lowest else ("above", "top 30 %"))
    table = pa.table({"uid": uids(0, 10), "clip score": scores, "asked": [True] * 10})
    keep = PhaseRunner({0: table}).run(chosen)[0].column("keep").to_numpy()
    (value,) = values((margin,), table)
    kept = [v for v, k in zip(value, keep, strict=True) if k and v is not None]
    last = max(kept) if lowest else min(kept)
    assert [v is not None and (v <= last if lowest else v >= last) for v in value] == keep.tolist()


def test_who_is_dropped_as_a_duplicate_lies_within_the_distance() -> None:
    near = KeepOne(over="pool", by="phash64", distance=3, prefer=("rank asc",))
    a, b, c = 0x0F1E2D3C4B5A6978, 0x123456789ABCDEF0, 0xFEDCBA9876543210
    hashes = np.array([a, a ^ 1, a ^ 3, b, b ^ 7, c], np.uint64)
    table = pa.table({"uid": uids(0, 6), "phash64": hashes, "rank": np.arange(6), "asked": [True] * 6,
                      "phash_quality": pa.array([100] * 6, pa.uint8())})  # fmt: skip
    verdict = PhaseRunner({0: table}).run(near)[0]
    (margin,) = near.margins()
    (distance,) = values((margin,), verdict)
    assert distance == [None, 1, 2, None, 3, None]
    assert not any(within(margin, d) for d in distance)
    assert margin.bounds[0][2] == "distance 3"
    assert KeepOne(over="pool", by="sha256").margins() == ()


def test_a_filter_of_ones_own() -> None:
    class MinSharpness(RowFilter):
        at_least: float

        def reads(self) -> tuple[str, ...]:
            return ("sharpness",)

        def rules(self) -> dict[str, str]:
            return {"blurred": f"sharpness >= {self.at_least}"}

        def margins(self) -> tuple[Margin, ...]:
            return (Margin("sharpness", "sharpness", ((self.at_least, "above", f"at_least {self.at_least}"),)),)

    agree(MinSharpness(at_least=3), pa.table({"sharpness": [2.9, 3.0, 3.1]}))
