"""Languages by cld3: as DataComp's LAION-2B baseline asks it, and LAION-5B's three parts."""

from __future__ import annotations

import importlib.util
import pickle
import re
from importlib.metadata import PackageNotFoundError
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from filters.language import Language as LanguageFilter
from stages.base import Batch
from stages.language_cld3 import LanguageCld3
from tests.filters.run_rules import reasons

needs_cld3 = pytest.mark.skipif(
    importlib.util.find_spec("gcld3") is None, reason="no package gcld3 (pip install cld3-py): cld3 is not tested"
)


def answers(stage: LanguageCld3, *texts: str | None) -> list[tuple[Any, ...]]:
    table = stage.run(Batch.of(pa.table({"text": pa.array(texts, pa.string())})))
    assert table.schema == stage.writes()
    return [tuple(row.values()) for row in table.to_pylist()]


@needs_cld3
def test_names_languages() -> None:
    found = answers(
        LanguageCld3(),
        "This text is written in English.",
        "ein Hund rennt über die Wiese",
        "Този текст е на Български.",
    )
    assert [(lang, sure) for lang, _, sure in found] == [("en", True), ("de", True), ("bg", True)]
    assert all(0.9 < prob <= 1 for _, prob, _ in found)


@needs_cld3
def test_no_words_no_language() -> None:
    assert answers(LanguageCld3(), None, "", " \n", "\0", "\u3000") == [(None, None, None)] * 5


@needs_cld3
def test_text_without_letters_has_the_answer_that_the_detector_gives() -> None:
    assert answers(LanguageCld3(), "1234", "!!!") == [("ja", pytest.approx(0.7838, abs=1e-4), True)] * 2
    assert answers(LanguageCld3(min_bytes=1), "1234", "!!!") == [("und", 0.0, False)] * 2


@needs_cld3
def test_the_answer_is_the_packages() -> None:
    from gcld3 import NNetLanguageIdentifier

    theirs = NNetLanguageIdentifier(min_num_bytes=0, max_num_bytes=1000)
    texts = ["a dog", "Hund", "IMG_4894", "un chien noir", "Kühlschrank 3000", "犬"]
    for text, found in zip(texts, answers(LanguageCld3(), *texts), strict=True):
        expected = theirs.FindLanguage(text=text)
        assert found == (expected.language, pytest.approx(expected.probability, abs=1e-4), expected.is_reliable)


@needs_cld3
def test_laions_three_parts() -> None:
    parts = LanguageCld3(labels={"en": "en", "*": "other"}, nolang=True, min_bytes=1)
    found = answers(parts, "This text is written in English.", "ein Hund rennt über die Wiese", "IMG 4894", "1234")
    assert [lang for lang, _, _ in found] == ["en", "other", "nolang", "nolang"]


@needs_cld3
def test_the_filter_reads_it() -> None:
    stage = LanguageCld3()
    table = stage.run(Batch.of(pa.table({"text": ["This text is in English", "ein Hund rennt über die Wiese", ""]})))
    chosen = LanguageFilter(keep=("en",), column="lang_cld3", min_prob=0.5, on_missing="drop")
    assert reasons(chosen, table) == [None, "language", "missing"]


@needs_cld3
@settings(deadline=None)
@given(st.lists(st.text(st.characters(exclude_categories=["Cs"])), max_size=4))
def test_any_text_has_an_answer_that_depends_on_it_alone(texts: list[str]) -> None:
    stage = LanguageCld3()
    found = answers(stage, *texts)
    assert found == [answers(stage, text)[0] for text in texts]


@needs_cld3
def test_a_travelled_stage_and_a_megabyte() -> None:
    stage = LanguageCld3()
    stage.open()
    travelled = pickle.loads(pickle.dumps(stage))
    assert travelled == stage
    assert answers(travelled, "the dog runs over the grass and " * 32_000)[0][0] == "en"


def test_without_the_package_nothing_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stages.language_cld3.find_spec", lambda name: None)
    for first in (LanguageCld3().files, LanguageCld3().open, LanguageCld3().identity):
        with pytest.raises(ValueError, match=r"language_cld3: no package gcld3 here; pip install cld3-py"):
            first()


@needs_cld3
def test_another_release_of_the_package_is_another_stage(monkeypatch: pytest.MonkeyPatch) -> None:
    now = LanguageCld3().identity()
    assert re.fullmatch(r"(cld3-py|gcld3) \d+(\.\d+)+", now["detector"])
    monkeypatch.setattr("stages.language_cld3.version", lambda name: "99.1")
    assert LanguageCld3().identity() == {**now, "detector": now["detector"].split()[0] + " 99.1"}

    def unknown(name: str) -> str:
        raise PackageNotFoundError(name)

    monkeypatch.setattr("stages.language_cld3.version", unknown)
    with pytest.raises(ValueError, match=r"language_cld3: gcld3 is here, but no package cld3-py or gcld3 that says"):
        LanguageCld3().identity()


@needs_cld3
def test_what_it_is() -> None:
    assert LanguageCld3(name="cld").writes().names == ["cld", "cld_prob", "cld_reliable"]
    assert LanguageCld3().identity()["parameters"] == {}
    assert LanguageCld3(nolang=True).identity()["parameters"] == {"nolang": True}
