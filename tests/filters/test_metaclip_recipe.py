"""MetaCLIP through recipes: matches are computed once, filters and columns read them, lists go by their content."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curate.errors import UserError
from tests.person import Person
from tests.stages.clip_parts import picture

TEXTS = ["a dog", "a dog", "a dog", "a dog and a cat", "un chien", None, "New York, a dog", "das Foto"]
LANGS = ["en", "en", "en", "en", "fr", None, "en", "de"]


@pytest.fixture
def person(tmp_path: Path) -> Person:
    images = pa.array([picture(i, 20 + 9 * i) for i in range(len(TEXTS))], pa.binary())
    rows = {"image": images, "text": TEXTS, "n": list(range(len(TEXTS))), "tongue": LANGS}
    pq.write_table(pa.table(rows), tmp_path / "rows.parquet")
    (tmp_path / "metadata.json").write_text(json.dumps(["dog", "cat", "New York"]))
    (tmp_path / "lists").mkdir()
    (tmp_path / "lists" / "en.json").write_text(json.dumps(["dog", "cat", "New York"]))
    (tmp_path / "lists" / "other.json").write_text(json.dumps(["Foto", "chien"]))
    return Person(tmp_path)


def source(person: Person) -> str:
    return f"{{path: {person.folder}/rows.parquet, url: null}}\ningest: {{resize: none}}\nshard_size: 3"


def dropped(person: Person, by: str) -> dict[int, str]:
    found = person.sql(f"SELECT n, reason FROM samples JOIN picks USING (uid) WHERE dropped_by = '{by}'")
    return {r["n"]: r["reason"] for r in found}


def test_filter_keeps_the_tail_and_drops_what_matches_nothing(person: Person) -> None:
    filters = f"  - metaclip: {{metadata: {person.folder}/metadata.json, t: 1, over: survivors}}\n"
    person.run(source(person), filters)
    found = dropped(person, "metaclip")
    assert {n: r for n, r in found.items() if r == "no_match"} == {4: "no_match", 5: "no_match", 7: "no_match"}
    assert {3, 6}.isdisjoint(found)  # a cat and New York are rare
    assert {r for n, r in found.items() if n in {0, 1, 2}} <= {"balanced_out"}


def test_columns_are_there_for_a_loader_and_matches_once_for_all(person: Person) -> None:
    metadata = f"{person.folder}/metadata.json"
    columns = (
        f"columns:\n  - metaclip_match: {{metadata: {metadata}}}\n  - metaclip_counts: {{metadata: {metadata}, t: 2}}\n"
    )
    person.run(source(person), rest=columns)
    rows = person.sql("SELECT n, match_ids, match_p, match_head, match_tail FROM samples ORDER BY n")
    assert [r["match_ids"] for r in rows] == [[0], [0], [0], [0, 1], [], None, [0, 2], []]
    assert [r["match_p"] for r in rows] == [np.float32(0.4)] * 3 + [1, 0, None, 1, 0]
    assert [r["match_head"] for r in rows] == [1, 1, 1, 1, 0, None, 1, 0]
    made = {p: p.stat().st_mtime_ns for p in (person.folder / "pool" / "columns").rglob("*.parquet")}
    copy = person.folder / "copy.json"
    copy.write_bytes(Path(metadata).read_bytes())
    person.run(source(person), f"  - query_cap: {{metadata: {copy}, most: 1, over: pool}}\n")
    assert {p: p.stat().st_mtime_ns for p in (person.folder / "pool" / "columns").rglob("*.parquet")} == made
    found = dropped(person, "query_cap")
    assert {n for n, r in found.items() if r == "no_query"} == {4, 5, 7}
    assert {3, 6}.isdisjoint(found)  # the only ones with a cat, and with New York
    assert sum(n in found for n in (0, 1, 2)) >= 2  # one at most is taken for its dog


def test_lists_of_languages(person: Person) -> None:
    filters = f"  - metaclip2: {{metadata: {person.folder}/lists, language: tongue, t: 2, tail: 0.5, over: pool}}\n"
    outcome, _ = person.run(source(person), filters)
    found = dropped(person, "metaclip2")
    assert found.get(5) == "no_match"
    assert {3, 4, 6, 7}.isdisjoint(found)
    assert outcome.kept == len(TEXTS) - len(found)


def test_without_a_list_nothing_is_begun(person: Person) -> None:
    filters = f"  - metaclip: {{metadata: {person.folder}/gone.json, t: 5, over: pool}}\n"
    with pytest.raises(
        (UserError, ValueError), match=r"no list of entries at .*gone\.json; make one with `curate meta"
    ):
        person.run(source(person), filters)
    assert not (person.folder / "pool" / "columns").exists()
