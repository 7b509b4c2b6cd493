"""Answers as tables, files and data frames: whole, parseable, and harmless on a terminal."""

from __future__ import annotations

import csv
import io
import json
import sys
import unicodedata

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

import curate
from curate.ask.output import CELL, FORMATS, _width, print_result, table_text, visible
from curate.errors import UserError
from tests import pools

HOSTILE = "图像 é \x1b[2J\x1b]0;gone\x07\r\n‮evil\x9b31m\x00 ​﻿"


class Terminal(io.BytesIO):
    def isatty(self) -> bool:
        return True


def printed(table: pa.Table, format: str, terminal: bool = False) -> bytes:
    out = Terminal() if terminal else io.BytesIO()
    print_result(table, format, out)
    return out.getvalue()


TABLE = pa.table(
    {
        "uid": pa.array([b"\x00" * 15 + b"\x01", None], pa.binary(16)),
        "text": ['say "hi", you', HOSTILE],
        "score": pa.array([0.5, float("nan")]),
        "texts": [[{"source": "a", "text": "b"}], None],
        "ok": [True, None],
        "when": pa.array([1_700_000_000_000, None], pa.timestamp("ms", tz="UTC")),
    }
)


def test_json_and_jsonl_parse_back():
    rows = json.loads(printed(TABLE, "json"))
    assert [json.loads(line) for line in printed(TABLE, "jsonl").splitlines()] == rows
    assert rows[0]["uid"] == "0" * 31 + "1"
    assert rows[0]["texts"] == [{"source": "a", "text": "b"}]
    assert rows[0]["when"].startswith("2023-11-14T22:13:20")
    assert rows[1] == {"uid": None, "text": HOSTILE, "score": None, "texts": None, "ok": None, "when": None}


def test_csv_parses_back():
    rows = list(csv.reader(io.StringIO(printed(TABLE, "csv").decode(), newline="")))
    assert rows[0] == TABLE.column_names
    assert rows[1][:5] == ["0" * 31 + "1", 'say "hi", you', "0.5", '[{"source":"a","text":"b"}]', "true"]
    assert rows[2][1] == HOSTILE


def test_parquet_is_the_table(tmp_path):
    back = pq.read_table(io.BytesIO(printed(TABLE, "parquet")))
    assert back.schema.names == TABLE.schema.names
    assert back.column("text").to_pylist() == TABLE.column("text").to_pylist()
    with pytest.raises(UserError, match="parquet is not for a terminal"):
        printed(TABLE, "parquet", terminal=True)


@pytest.mark.parametrize("format", [f for f in FORMATS if f != "parquet"])
def test_nothing_on_a_terminal_moves_the_cursor(format):
    shown = printed(TABLE, format, terminal=True).decode()
    hidden = {c for c in shown if unicodedata.category(c) in ("Cc", "Cf")} - {"\n", "\r"}
    assert not hidden
    assert "\\u001b[2J" in shown
    assert "图像" in shown


@given(st.lists(st.text(max_size=200), min_size=1, max_size=4))
def test_every_line_of_a_table_is_aligned(cells):
    lines = table_text(pa.table({"a": cells, "b": ["|"] * len(cells)})).split("\n")
    assert len(lines) == len(cells) + 3
    ends = {_width(line) for line in lines[2:-1]}
    assert len(ends) == 1
    assert max(ends) <= CELL + 3


@given(st.text())
def test_visible_text_has_no_control_characters_and_keeps_the_rest(text):
    shown = visible(text)
    assert all(unicodedata.category(c) not in ("Cc", "Cf", "Cs") for c in shown)
    if shown == text:
        return
    assert "\\" in shown


def test_a_megabyte_in_a_cell_is_cut():
    assert len(table_text(pa.table({"text": ["x" * 1_000_000]}))) < 400


def test_long_answers_are_counted_and_cut():
    text = table_text(pa.table({"n": list(range(1234))}))
    assert text.endswith("(1,234 rows; the first 100 are shown, other formats give all)")
    assert len(printed(pa.table({"n": list(range(1234))}), "jsonl").splitlines()) == 1234


@pytest.mark.parametrize("format", FORMATS)
def test_empty_answers(format):
    out = printed(pa.table({"a": pa.array([], pa.int64())}), format)
    expected = {"table": b"(0 rows)\n", "csv": b"a\r\n", "json": b"[]\n", "jsonl": b""}
    if format == "parquet":
        assert pq.read_table(io.BytesIO(out)).num_rows == 0
    else:
        assert out.endswith(expected[format])
        assert format in ("table",) or out == expected[format]


def test_columns_of_one_name_are_numbered(tmp_path):
    pools.synthetic(tmp_path / "pool", [2])
    answer = curate.open(str(tmp_path / "pool")).sql("SELECT 1 AS a, 2 AS a")
    assert json.loads(printed(answer, "jsonl")) == {"a": 1, "a_2": 2}


def test_an_unknown_format():
    with pytest.raises(UserError, match="'xml': it is one of table, csv"):
        printed(TABLE, "xml")


def test_result_in_all_shapes(tmp_path, monkeypatch):
    pools.synthetic(tmp_path / "pool", [3, 4])
    handle = curate.open(str(tmp_path / "pool"))
    result = handle.sql("SELECT shard, count(*) AS n FROM samples GROUP BY 1 ORDER BY 1")
    assert result.to_arrow().to_pydict() == {"shard": [0, 1], "n": [3, 4]}
    assert result.to_pandas().n.tolist() == [3, 4]
    assert result.fetchall() == [(0, 3), (1, 4)]
    assert repr(result).splitlines()[0].split() == ["shard", "n"]
    assert len(result) == 2
    monkeypatch.setitem(sys.modules, "polars", None)
    with pytest.raises(UserError, match=r"polars is not installed; pip install polars, or use .to_arrow\(\)"):
        result.to_polars()


def test_a_streamed_answer_is_read_once(tmp_path):
    pools.synthetic(tmp_path / "pool", [3])
    result = curate.open(str(tmp_path / "pool")).sql("SELECT * FROM range(250000)")
    assert sum(len(b) for b in result.batches()) == 250_000
    with pytest.raises(UserError, match="streamed already"):
        result.to_arrow()


def test_an_error_on_the_way_is_told(tmp_path):
    pools.synthetic(tmp_path / "pool", [3])
    with pytest.raises(UserError, match="the query failed"):
        curate.open(str(tmp_path / "pool")).sql("SELECT CAST('x' || range AS INT) FROM range(3)").fetchall()


@pytest.mark.parametrize("kind", [pa.float16(), pa.float32()], ids=["float16", "float32"])
def test_embeddings_come_as_arrays(tmp_path, kind):
    """In SQL, where they can be compared with each other, and in Arrow, pandas and Polars."""
    given = [[1.0, 0.0, 0.5], None, [0.25, 2.0, -1.0]]
    pool = pools.synthetic(tmp_path / "pool", [3])
    rows = [None if v is None else [kind.to_pandas_dtype()(x) for x in v] for v in given]
    for name in "ab":
        made = pa.array(rows if name == "a" else rows[::-1], pa.list_(kind, 3))
        pools.add_column(pool, name, lambda s, u, n=name, m=made: pa.table({n: m}))
    handle = curate.open(str(tmp_path / "pool"))
    answer = handle.sql("SELECT a FROM samples ORDER BY row")
    assert answer.to_arrow().schema.field("a").type == pa.list_(pa.float32(), 3)
    assert answer.fetchall() == [(v,) for v in given]
    assert [None if v is None else list(v) for v in answer.to_pandas()["a"]] == given
    assert str(answer.to_polars().schema["a"]) == "Array(Float32, shape=(3,))"
    found = handle.sql(
        "SELECT array_cosine_similarity(a, b), array_distance(a, a) FROM samples ORDER BY row"
    ).fetchall()
    cosine = (0.25 - 0.5) / ((1.25**0.5) * (1 + 4 + 0.0625) ** 0.5)
    assert [f[0] for f in found] == [pytest.approx(cosine, abs=1e-6), None, pytest.approx(cosine, abs=1e-6)]
    assert [f[1] for f in found] == [0.0, None, 0.0]
