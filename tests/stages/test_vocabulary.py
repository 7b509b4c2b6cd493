"""Counts of words from files of each kind, and what is said of files that are none."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stages.base import Batch
from stages.vocabulary import Vocabulary

COUNTS = {"a": 900, "dog": 20, "Dog": 3, "runs": 7}


@pytest.fixture
def tsv(tmp_path: Path) -> str:
    (tmp_path / "counts.tsv").write_text("".join(f"{w}\t{n}\n" for w, n in COUNTS.items()))
    return str(tmp_path / "counts.tsv")


def least(stage: Vocabulary, *texts: str | None) -> list[int | None]:
    table = stage.run(Batch.of(pa.table({"text": pa.array(texts, pa.string())})))
    assert table.schema == stage.writes()
    return table.column(0).to_pylist()


def test_the_rarest_word_decides(tsv: str) -> None:
    stage = Vocabulary(counts=tsv)
    assert least(stage, "a dog", "a Dog runs!", "a cat", None, "", "...") == [20, 3, 0, None, None, None]
    assert least(Vocabulary(counts=tsv, lower=True), "A DOG") == [20]
    assert least(Vocabulary(counts=tsv, tokens="whitespace"), "a dog,") == [0]


def test_files_of_each_kind(tsv: str, tmp_path: Path) -> None:
    (tmp_path / "c.json").write_text(json.dumps(COUNTS))
    pq.write_table(pa.table({"word": [*COUNTS, "dog"], "count": [900, 15, 3, 7, 5]}), tmp_path / "c.parquet")
    texts = ("a dog", "Dog runs", "a cat")
    for name in ("c.json", "c.parquet"):
        assert least(Vocabulary(counts=str(tmp_path / name)), *texts) == least(Vocabulary(counts=tsv), *texts)


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.lists(st.sampled_from([*COUNTS, "cat", "!"]), max_size=4), max_size=5))
def test_any_texts(tsv: str, texts: list[list[str]]) -> None:
    words = [[w for w in text if w != "!"] for text in texts]
    expected = [min((COUNTS.get(w, 0) for w in some), default=None) for some in words]
    assert least(Vocabulary(counts=tsv), *(" ".join(t) for t in texts)) == expected


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("c.tsv", "dog\t3\ncat 4\n", r"c\.tsv:2: expected a word, a tab and a count, found 'cat 4\\n'"),
        ("c.tsv", "", r"c\.tsv has no word"),
        ("c.json", "[", r"c\.json is no JSON"),
        ("c.json", "[1]", r"c\.json is no map of words to whole numbers"),
        ("c.json", '{"a": 1, "dog": "3"}', r"entry 2 of .*c\.json is no word with a whole number: 'dog', '3'"),
    ],
)
def test_files_that_are_none(tmp_path: Path, name: str, content: str, message: str) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(ValueError, match=message):
        Vocabulary(counts=str(tmp_path / name)).open()


def test_a_table_without_the_columns(tmp_path: Path) -> None:
    pq.write_table(pa.table({"word": ["a"], "n": [1]}), tmp_path / "c.parquet")
    with pytest.raises(ValueError, match=r"c\.parquet has no column count"):
        Vocabulary(counts=str(tmp_path / "c.parquet")).open()


def test_a_table_with_holes(tmp_path: Path) -> None:
    pq.write_table(pa.table({"word": ["a", "b"], "count": [1, None]}), tmp_path / "c.parquet")
    with pytest.raises(ValueError, match=r"entry 2 of .* is no word with a whole number: 'b', None"):
        Vocabulary(counts=str(tmp_path / "c.parquet")).open()


def test_a_file_that_is_not_there() -> None:
    with pytest.raises(ValueError, match=r"vocabulary: counts: no file /nowhere\.tsv"):
        Vocabulary(counts="/nowhere.tsv").files()
