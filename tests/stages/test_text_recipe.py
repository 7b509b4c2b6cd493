"""Counted texts in a recipe: ALIGN's and COYO's rules from a table to a pick, and what is counted among what."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import curate
from tests.person import Person
from tests.stages.clip_parts import picture

TEXTS = [
    *["a brown dog runs over the grass"] * 4,
    *["a brown dog  runs over the grass "] * 2,
    *["ein brauner Hund rennt über die Wiese"] * 3,
    "two brown dogs run over the grass",
    "Stock photo of a brown dog",
    "the the the dog dog dog on the grass",
    None,
]
COLUMNS = """columns:
  - key_counts: {by: text_clean}
  - key_counts: {by: text, distinct: sha256}
  - key_counts: {by: sha256, distinct: text}
  - key_counts: {by: n_words}
  - word_counts
  - ngram_rarity: {vocabulary: 9, orders: [1]}
  - caption_rules
  - dsir: {target: TARGET}
"""


@pytest.fixture(scope="module")
def person(tmp_path_factory: pytest.TempPathFactory) -> Person:
    folder = tmp_path_factory.mktemp("texts")
    images = [picture(i % 9, 40) for i in range(len(TEXTS))]
    table = pa.table({"image": pa.array(images, pa.binary()), "text": TEXTS, "n": range(len(TEXTS))})
    pq.write_table(table, folder / "rows.parquet")
    (folder / "target.txt").write_text("a brown dog\ntwo dogs on the grass\n")
    return Person(folder)


def kept(person: Person, filters: str) -> list[int]:
    source = f"{{path: {person.folder}/rows.parquet, url: null}}\nshard_size: 5\ningest: {{resize: none}}"
    outcome, _ = person.run(source, filters, COLUMNS.replace("TARGET", str(person.folder / "target.txt")))
    handle = curate.open(person.pool, outcome.pick.removeprefix("picks/"))
    query = "SELECT n FROM samples WHERE uid IN (SELECT uid FROM picks WHERE dropped_by IS NULL) ORDER BY n"
    return [row["n"] for row in handle.sql(query).to_arrow().to_pylist()]


def test_columns_are_what_they_say(person: Person) -> None:
    assert kept(person, '  - where: "text_clean_count >= 4"\n    on_missing: drop\n') == list(range(6))
    query = (
        "SELECT text_clean_count, text_sha256s, sha256_texts, n_words_count, words_min_count FROM samples WHERE n = "
    )
    assert list(person.sql(query + "0")[0].values()) == [6, 4, 2, 10, 6]
    assert list(person.sql(query + "12")[0].values()) == [None, None, 1, None, None]


def test_align(person: Person) -> None:
    """Both counts are of the raw pool; three texts have a word that is not among the nine most frequent."""
    rules = '  - where: "text_sha256s <= 3"\n    on_missing: drop\n'
    rules += '  - id: rare\n    where: "ngrams_oov = 0"\n    on_missing: drop\n'
    said = [t for t in TEXTS if t]
    words = sorted((sum(t.split().count(w) for t in said) for w in {w for t in said for w in t.split()}), reverse=True)
    often = {w for t in said for w in t.split() if sum(x.split().count(w) for x in said) > words[9]}
    expected = [i for i in (4, 5, 6, 7, 8, 9, 10, 11) if set(TEXTS[i].split()) <= often]  # type: ignore[union-attr]
    assert kept(person, rules) == expected
    assert 0 < len(expected) < 8


def test_it_matters_what_came_before(person: Person) -> None:
    """Ten captions have seven words, three of them German: below the language filter seven are left, and pass."""
    language = "  - language: {keep: [en]}\n    on_missing: drop\n"
    limit = "  - count_limit: {by: n_words, most: 7, over: survivors}\n    on_missing: drop\n"
    assert kept(person, language + limit) == [0, 1, 2, 3, 4, 5, 9, 10, 11]
    assert kept(person, limit + language) == [10, 11]
    assert kept(person, language + limit.replace("survivors", "pool")) == [10, 11]


def test_rules_and_weights(person: Person) -> None:
    assert 10 not in kept(person, '  - where: "NOT boilerplate"\n    on_missing: drop\n')
    assert 11 not in kept(person, '  - where: "word_repetition <= 0.2"\n    on_missing: drop\n')
    best = kept(person, "  - top_fraction: {column: dsir, fraction: 0.1, over: pool, on_missing: drop}\n")
    assert len(best) == 1
    assert best[0] not in (6, 7, 8)
