"""Parquet lists with wrong bytes: each ends in an error that names the file, never without a word."""

from __future__ import annotations

import contextlib
import io
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curate.errors import UserError
from curate.init.take import take
from curate.pool.lists import Findings
from curate.run.sources import SourceSpec, open_source
from curate.run.sources.footer import Damaged

SAYS = "fetch or write the file again"
FLIPPED = 1500
"""Files with one or two other bytes."""

READ = """
import random, sys
from pathlib import Path
from tests.run.test_sources_damaged import encoded, read_through

file, kind, count = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
whole = encoded(kind)
random.seed(kind)
for number in range(count):
    data = bytearray(whole)
    for _ in range(random.choice((1, 1, 2))):
        data[random.randrange(4, len(data) - 4)] = random.randrange(256)
    file.write_bytes(data)
    print(number, flush=True)
    read_through(file)
print("read")
"""
"""In a process of its own, for pyarrow may end it."""


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CURATE_CACHE", str(tmp_path / "cache"))


def encoded(kind: str) -> bytes:
    """A parquet list of three row groups. kind: urls, bytes, or struct as Hugging Face has pictures."""
    n = range(12)
    columns = {"caption": [f"naïf {i}" if i % 5 else None for i in n], "tags": [["a", "b"][: i % 3] for i in n]}
    columns |= {"url": [f"http://x/{i}" for i in n]} if kind == "urls" else {"text": [[f"{i}", "also"] for i in n]}
    if kind == "bytes":
        columns["image"] = [b"jpeg%d" % i for i in n]
    if kind == "struct":
        columns["image"] = [{"bytes": b"jpeg%d" % i, "path": "p"} for i in n]
    columns.pop("text" if kind == "urls" else "caption", None)
    out = io.BytesIO()
    pq.write_table(pa.table(columns), out, row_group_size=5, compression="none", store_schema=False)
    return out.getvalue()


def read_through(file: Path) -> None:
    """Both readings of a list, as a run does them, and the look of `curate init`; a `UserError` that names the file is
    as good as rows."""
    with contextlib.suppress(UserError):
        assert take(open_source(SourceSpec(path=str(file)))).rows.n >= 0
    try:
        source, found = open_source(SourceSpec(path=str(file))), Findings()
        for read in (source.survey, source.rows):
            assert sum(len(rows.table) for rows in read(found)) >= 0
    except UserError as e:
        assert str(file) in str(e)  # noqa: PT017 (no error is as good)


def in_a_process(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False)


@pytest.mark.parametrize("kind", ["urls", "bytes", "struct"])
def test_whatever_bytes_are_wrong(tmp_path: Path, kind: str) -> None:
    done = in_a_process(READ, str(tmp_path / "a.parquet"), kind, str(FLIPPED // 3))
    assert done.stdout.endswith("read\n"), (done.stdout[-80:], done.stderr[-800:])


ASKED = """
import sys
from pathlib import Path
from tests.run import test_sources_damaged
try:
    getattr(test_sources_damaged, sys.argv[2])(Path(sys.argv[1]))
except Exception as e:
    print(type(e).__name__, e)
"""


def survey(file: Path) -> None:
    for _ in open_source(SourceSpec(path=str(file))).survey(Findings()):
        pass


def look(file: Path) -> None:
    take(open_source(SourceSpec(path=str(file))))


@pytest.mark.parametrize("asked", ["survey", "look"])
@pytest.mark.parametrize(
    ("kind", "name"), [("urls", b"\x18\x03url"), ("bytes", b"\x18\x05image"), ("struct", b"\x18\x05bytes")]
)
def test_a_footer_at_which_pyarrow_ends_the_process(tmp_path: Path, kind: str, name: bytes, asked: str) -> None:
    """A column that is required, but has the numbers of one that is optional."""
    data = encoded(kind)
    assert data.count(b"\x25\x02" + name) == 1
    file = tmp_path / "a.parquet"
    file.write_bytes(data.replace(b"\x25\x02" + name, b"\x25\x00" + name))
    done = in_a_process(ASKED, str(file), asked)
    assert done.returncode == 0, done.stderr
    if asked == "look" and kind != "urls":  # it looks at no pictures yet
        assert done.stdout == ""
        return
    assert done.stdout.startswith(f"UserError {file}: cannot be read as parquet: ")
    assert done.stdout.endswith(f"; {SAYS}\n")


@pytest.mark.parametrize("name", ["url", "naïf"])
def test_the_name_of_a_column_is_no_utf8(tmp_path: Path, name: str) -> None:
    out = io.BytesIO()
    pq.write_table(pa.table({"url": ["u"], "text": ["t"], "naïf": ["x"]}), out, store_schema=False)
    file = tmp_path / "a.parquet"
    file.write_bytes(out.getvalue().replace(name.encode(), b"\xff" * len(name.encode())))
    with pytest.raises(UserError, match=f"{file}: cannot be read as parquet: 'utf-8' codec .*; {SAYS}"):
        survey(file)


@pytest.mark.parametrize(
    ("error", "says"),
    [
        pytest.param(Damaged("damaged\x1b[2J\nfooter."), rf"damaged\\u001b\[2J footer; {SAYS}", id="footer"),
        pytest.param(OSError("Corrupt snappy."), f"Corrupt snappy; {SAYS}", id="pyarrow"),
        pytest.param(pa.ArrowKeyError("no such"), f"no such'?; {SAYS}", id="another of pyarrow's"),
        pytest.param(OSError(5, "Input/output error"), "Input/output error$", id="the machine"),
        pytest.param(ConnectionError("reset"), "reset$", id="the net"),
    ],
)
def test_the_remedy_is_that_of_the_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, says: str
) -> None:
    """To fetch or write a file again mends no disk and no net."""
    file = tmp_path / "a.parquet"
    file.write_bytes(encoded("urls"))

    def failing(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("curate.run.sources.tables.groups", failing)
    with pytest.raises(UserError, match=f"^{file}: cannot be read( as parquet)?: {says}"):
        survey(file)


def test_texts_of_lists_that_are_no_utf8_are_replaced_and_counted(tmp_path: Path) -> None:
    file = tmp_path / "a.parquet"
    file.write_bytes(encoded("bytes").replace(b"also", b"al\xffo").replace(b"11", b"1\xff"))
    found = Findings()
    source = open_source(SourceSpec(path=str(file)))
    texts = [text for rows in source.survey(found) for text in rows.table.column("text").to_pylist()]
    assert texts == [*map(str, range(11)), "1\ufffd"]
    assert found.invalid_utf8 == 1
    out = io.BytesIO()
    pq.write_table(pa.table({"url": ["u"], "text": ["also"]}), out, store_schema=False)
    file.write_bytes(out.getvalue().replace(b"also", b"al\xffo"))
    assert take(open_source(SourceSpec(path=str(file)))).values["text"] == ["al\ufffdo"]


def test_lists_of_what_is_no_text_are_told(tmp_path: Path) -> None:
    pq.write_table(pa.table({"url": ["u"], "text": [[1, 2]]}), tmp_path / "a.parquet")
    with pytest.raises(UserError, match="the column for `text` is int64, not text"):
        survey(tmp_path / "a.parquet")


def test_where_nulls_are_not_counted_bytes_are_read(tmp_path: Path) -> None:
    """The second reading leaves them out where the footer says that each row has some."""
    table = pa.table({"image": [b"one", None, b"three"], "text": ["a", "b", "c"]})
    for statistics in (True, False):
        pq.write_table(table, tmp_path / "a.parquet", row_group_size=1, write_statistics=statistics)
        source, found = open_source(SourceSpec(path=str(tmp_path / "a.parquet"))), Findings()
        assert sum(len(rows.table) for rows in source.survey(found)) == 2
        assert [t for rows in source.rows(found) for t in rows.table.column("text").to_pylist()] == ["a", "c"]
