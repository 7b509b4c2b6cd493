"""Nothing that is quoted ends its span, its cell or its block."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from training_smoke.markdown import code, fenced, table


def test_a_table() -> None:
    assert table(["a", "b"], [["1", "2"], ["3", ""]]) == "| a | b |\n| --- | --- |\n| 1 | 2 |\n| 3 |  |"


@pytest.mark.parametrize(
    ("text", "shown"),
    [("a", "`a`"), ("", ""), ("a|b", "`a¦b`"), ("a`b", "``a`b``"), ("`a", "`` `a ``"), ("```", "```` ``` ````")],
)
def test_a_span(text: str, shown: str) -> None:
    assert code(text) == shown


@given(st.text(alphabet="`|ab ", min_size=1, max_size=40))
def test_a_span_is_one_span_whatever_stands_in_it(text: str) -> None:
    shown = code(text)
    fence = re.match(r"`+", shown)
    assert fence is not None
    inside = shown[len(fence[0]) : -len(fence[0])]
    assert shown.endswith(fence[0])
    assert len(fence[0]) not in map(len, re.findall(r"`+", inside))  # no run within is as long as the fence
    assert "|" not in shown


def test_a_span_is_cut() -> None:
    assert code("x" * 300) == f"`{'x' * 200}`"
    assert code("x" * 300, 3) == "`xxx`"


@given(st.text(alphabet="`a\n", max_size=40))
def test_a_block_ends_where_it_should(text: str) -> None:
    lines = fenced(text, "yaml").splitlines()
    fence = lines[0].removesuffix("yaml")
    assert lines[-1] == fence
    assert len(fence) > max([2, *map(len, re.findall(r"`+", text))])
