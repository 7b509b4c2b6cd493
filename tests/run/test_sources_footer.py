"""Footers of parquet, read without pyarrow's objects for columns: the same numbers, and of damaged ones no crash."""

from __future__ import annotations

import contextlib
import io
import time
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.run.sources.footer import Column, Damaged, Group, groups
from tests.interchange.interleaved_parts import obelics

TABLE = pa.Table.from_pylist([{**obelics([n]), "n": n, "x": n / 7, "b": n % 2 == 0} for n in range(40)])
WAYS: list[dict[str, Any]] = [
    {},
    {"row_group_size": 7, "write_page_index": True},
    {"compression": "zstd", "version": "1.0", "use_dictionary": False, "write_statistics": False},
    {"data_page_version": "2.0", "store_schema": False, "sorting_columns": [pq.SortingColumn(4)]},
]


def written(**way: Any) -> bytes:
    out = io.BytesIO()
    pq.write_table(TABLE, out, **way)
    return out.getvalue()


def told(chunk: pq.ColumnChunkMetaData) -> Column:
    nulls = chunk.statistics.null_count if chunk.statistics else None
    sizes = chunk.total_compressed_size, chunk.total_uncompressed_size
    return Column(tuple(chunk.path_in_schema.split(".")), chunk.num_values, *sizes, nulls)


@pytest.mark.parametrize("way", WAYS)
def test_as_pyarrow_reads_them(way: dict[str, Any]) -> None:
    data = written(**way)
    metadata = pq.ParquetFile(io.BytesIO(data)).metadata
    said = []
    for group in (metadata.row_group(i) for i in range(metadata.num_row_groups)):
        chunks = [group.column(i) for i in range(group.num_columns)]
        said.append(Group(group.num_rows, [told(c) for c in chunks]))
    assert groups(io.BytesIO(data)) == said
    assert sum(g.rows for g in said) == 40
    assert ({c.nulls for g in said for c in g.columns} == {None}) == (way.get("write_statistics") is False)


def with_footer(footer: bytes) -> io.BytesIO:
    return io.BytesIO(b"PAR1" + footer + len(footer).to_bytes(4, "little") + b"PAR1")


FOOTERS = [data[-8 - int.from_bytes(data[-8:-4], "little") : -8] for data in (written(**way) for way in WAYS[:2])]


@pytest.mark.parametrize(
    "footer",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"\x00", id="nothing said"),
        pytest.param(b"\x1c" * 10_000, id="structs within structs"),
        pytest.param(b"\x19" * 10_000, id="lists within lists"),
        pytest.param(b"\x15" + b"\xff" * 1_000_000, id="a number without an end"),
        pytest.param(b"\x19\xf7" + b"\xff" * 8 + b"\x7f", id="so many doubles"),
        pytest.param(b"\x19\xf8" + b"\xff" * 8 + b"\x7f", id="so many texts"),
        pytest.param(b"\x1b\x00", id="a map"),
        pytest.param(b"\x48\x02ab\x00", id="row groups that are a text"),
        pytest.param(b"\x49\x1c\x19\x0c\x28\x01a\x00\x00", id="a number of rows that is a text"),
        pytest.param(b"\x49\x1c\x19\x1c\x3c\x39\x08\x00\x00\x00\x00", id="a column without a name"),
        pytest.param(FOOTERS[0][:-40], id="cut"),
    ],
)
def test_a_damaged_footer_is_told(footer: bytes) -> None:
    with pytest.raises(Damaged, match="damaged footer: "):
        groups(with_footer(footer))


def test_many_row_groups_and_columns_are_quick() -> None:
    """As pyarrow's own objects, once for each column of each row group, were: a list may have thousands."""
    out = io.BytesIO()
    pq.write_table(pa.table({f"c{i}": [f"{i} {n}" for n in range(2000)] for i in range(12)}), out, row_group_size=1)
    before = time.process_time()
    assert len(groups(out)) == 2000
    assert time.process_time() - before < 2  # 0.3


@given(
    st.sampled_from(FOOTERS), st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), min_size=1, max_size=4)
)
@settings(max_examples=300, deadline=None)
def test_whatever_bytes_are_in_it(footer: bytes, changes: list[tuple[int, int]]) -> None:
    data = bytearray(footer)
    for place, value in changes:
        data[place % len(data)] = value
    with contextlib.suppress(Damaged):
        groups(with_footer(bytes(data)))
