"""Language of captions: right on real sentences, calm on hostile ones, clear when the model cannot run."""

from __future__ import annotations

import pickle
import sys
import types
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.base import Batch
from stages.language import BUNDLED, Language, model_path

MAIN = ("ar", "cs", "de", "en", "es", "fr", "it", "ja", "ko", "nl", "pl", "pt", "ru", "tr", "vi", "zh")


@pytest.fixture(scope="module")
def stage() -> Language:
    stage = Language()
    stage.open()
    return stage


def answers(stage: Language, *texts: str | None) -> list[tuple[str | None, float | None]]:
    table = stage.run(Batch.of(pa.table({"text": pa.array(texts, pa.string())})))
    assert table.schema == stage.writes()
    return [(row["lang"], row["lang_prob"]) for row in table.to_pylist()]


def test_names_languages(stage: Language) -> None:
    found = answers(
        stage, "a brown dog runs over the grass", "ein Hund rennt über die Wiese", "一只棕色的狗在草地上奔跑"
    )
    assert [lang for lang, _ in found] == ["en", "de", "zh"]
    assert all(0.5 < prob <= 1 for _, prob in found)


def test_no_words_no_language(stage: Language) -> None:
    assert answers(stage, None, "", "  ", "\n\t\r", "\0", " \0\n", "\u3000") == [(None, None)] * 7


def test_text_without_letters_has_the_answer_that_the_model_gives(stage: Language) -> None:
    assert answers(stage, "1234", "!!!") == [("en", pytest.approx(0.1245, abs=1e-4))] * 2


def test_newlines_count_as_spaces(stage: Language) -> None:
    one, other = answers(stage, "a brown dog\nruns over\nthe grass", "a brown dog runs over the grass")
    assert one == other


def test_probabilities_are_rounded_to_four_digits(stage: Language) -> None:
    table = stage.run(Batch.of(pa.table({"text": ["a dog", "une rue", "der Hund", "x1", "IMG_4894.JPG"]})))
    exact = table.column("lang_prob").cast(pa.float64())
    assert pc.all(pc.less(pc.abs(pc.subtract(exact, pc.round(exact, 4))), 1e-7)).as_py()


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"])), max_size=5))
def test_any_text_has_an_answer_that_depends_on_it_alone(stage: Language, texts: list[str]) -> None:
    found = answers(stage, *texts)
    assert found == [answers(stage, text)[0] for text in texts]
    for text, (lang, prob) in zip(texts, found, strict=True):
        assert (lang is None) == (prob is None) == (not text.replace("\0", " ").strip())
        assert prob is None or 0 < prob <= 1


def test_a_megabyte_of_text(stage: Language) -> None:
    one_word, many = answers(stage, "x" * 1_000_000, "the dog runs over the grass and " * 32_000)
    assert one_word[0] is not None
    assert many[0] == "en"


def test_control_characters(stage: Language) -> None:
    plain, spoiled = answers(stage, "the dog is here with us", "the dog\0is \x01\x1b here with us")
    assert plain[0] == spoiled[0] == "en"


def test_real_sentences(shared_data: Path, stage: Language) -> None:
    rows = pq.read_table(
        shared_data / "text" / "langid.parquet", filters=[("source", "=", "lingua"), ("kind", "=", "sentences")]
    )
    for lang in MAIN:
        texts = rows.filter(pc.equal(rows["lang"], lang))["text"].to_pylist()
        right = sum(found == lang for found, _ in answers(stage, *texts))
        assert right > 0.9 * len(texts) > 0, f"{lang}: {right} of {len(texts)}"


def test_the_model_is_a_file_that_the_fingerprint_covers(tmp_path: Path) -> None:
    bundled = model_path(BUNDLED)
    assert Language().files() == (str(bundled),)
    copy = tmp_path / "my.ftz"
    copy.write_bytes(bundled.read_bytes())
    named = Language(model=str(copy))
    assert named.files() == (str(copy),)
    assert answers(named, "ein Hund rennt über die Wiese") == answers(Language(), "ein Hund rennt über die Wiese")
    # with paths replaced by digests, as fingerprints do, equal weights are one stage wherever they lie
    assert named.identity()["parameters"] == {"model": str(copy)}
    assert Language().identity()["parameters"] == {"model": str(bundled)}


def test_an_unopened_stage_travels_to_workers() -> None:
    assert pickle.loads(pickle.dumps(Language())) == Language()


def test_a_missing_model_names_path_and_remedy() -> None:
    with pytest.raises(ValueError, match=r"language: no model at /nowhere/lid\.bin; give `model: "):
        Language(model="/nowhere/lid.bin").files()


def test_a_file_that_is_no_model_is_refused(tmp_path: Path) -> None:
    (tmp_path / "noise.ftz").write_bytes(b"x" * 1000)
    with pytest.raises(ValueError, match=r"is not a fastText model: .*wrong file format"):
        Language(model=str(tmp_path / "noise.ftz")).open()


class _BrokenModel:
    def predict(self, text: str, k: int) -> None:
        raise ValueError("Unable to avoid copy while creating an array as requested.")


def test_another_package_called_fasttext_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    other = types.ModuleType("fasttext")
    other.load_model = lambda path: _BrokenModel()  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "fasttext", other)
    with pytest.raises(ValueError, match=r"not fasttext-predict \(Unable to avoid copy.*pip uninstall fasttext"):
        Language().open()


def test_no_fasttext_at_all_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "fasttext", types.ModuleType("fasttext"))
    with pytest.raises(
        ValueError, match=r"language: no fastText here .*pip install --force-reinstall fasttext-predict"
    ):
        Language().open()
