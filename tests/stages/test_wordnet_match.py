"""`wordnet_match`: DataComp's text-based rule row for row, its traps, and refusal of lists of another WordNet."""

from __future__ import annotations

import json
import pickle
import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from stages.base import Batch
from stages.wordnet_index import file_names
from stages.wordnet_match import WordnetMatch
from tests.stages.wordnet_parts import real_wordnet, write_wordnet


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, dict[str, list[int]]]]:
    folder = tmp_path_factory.mktemp("dict")
    return folder, write_wordnet(folder)


@pytest.fixture
def stage(world: Any, tmp_path: Path) -> WordnetMatch:
    """The list has the first `dog`, `man` and the first `box`."""
    folder, offsets = world
    wanted = [offsets["n"]["dog"][0], offsets["n"]["man"][0], offsets["n"]["box"][0]]
    return WordnetMatch(synsets=synset_list(tmp_path, wanted), wordnet=str(folder))


def synset_list(folder: Path, offsets: list[int]) -> str:
    (folder / "list.txt").write_text("# synsets\n" + "".join(f"n{offset:08d}\tand more\n" for offset in offsets))
    return str(folder / "list.txt")


def found(stage: WordnetMatch, *texts: str | None) -> list[str | None]:
    table = stage.run(Batch.of(pa.table({"text": pa.array(texts, pa.string())})))
    assert table.schema == stage.writes()
    rows = table.to_pylist()
    for text, row in zip(texts, rows, strict=True):
        assert row["wordnet_match"] == (None if text is None else row["wordnet_word"] is not None)
    return [row["wordnet_word"] for row in rows]


def test_the_first_word_that_names_a_synset(stage: WordnetMatch) -> None:
    assert found(stage, "Two DOGS and a man", "a cat", None, "", "men\u3000run") == ["DOGS", None, None, None, "men"]


def test_what_is_too_long_for_a_word_is_no_word_and_is_not_remembered(stage: WordnetMatch) -> None:
    began = time.process_time()
    assert found(stage, "s" * 1_000_000, "s" * 999_999 + " dogs") == [None, "dogs"]
    assert time.process_time() - began < 1
    remembered = [cell.cell_contents for cell in stage._known.__closure__ if hasattr(cell.cell_contents, "cache_info")]
    assert [cache.cache_info().currsize for cache in remembered] == [1]


def test_punctuation_hides_a_word_unless_it_is_stripped(stage: WordnetMatch) -> None:
    texts = ("dog, cat", "(man)", "--", "dog")
    assert found(stage, *texts) == [None, None, None, "dog"]
    stripped = WordnetMatch(**stage.model_dump() | {"punctuation": "strip"})
    assert found(stripped, *texts) == ["dog", "man", None, "dog"]


def test_only_the_first_sense_counts_unless_any_does(world: Any, tmp_path: Path) -> None:
    folder, offsets = world
    second = WordnetMatch(synsets=synset_list(tmp_path, [offsets["n"]["dog"][1]]), wordnet=str(folder))
    assert found(second, "a dog", "a frump") == [None, "frump"]
    assert found(WordnetMatch(**second.model_dump() | {"sense": "any"}), "a dog") == ["dog"]


def test_offsets_are_compared_without_the_part_of_speech_unless_nouns_are_asked(world: Any, tmp_path: Path) -> None:
    folder, offsets = world
    verb = offsets["v"]["run"][0]
    assert verb in offsets["n"]["entity"]  # both files begin alike: the collision that the code has
    stage = WordnetMatch(synsets=synset_list(tmp_path, [verb]), wordnet=str(folder))
    assert found(stage, "they ran", "an entity") == ["ran", "entity"]
    nouns = WordnetMatch(**stage.model_dump() | {"part_of_speech": "noun"})
    assert found(nouns, "they ran", "an entity") == [None, "entity"]


def test_base_forms_once_or_again(stage: WordnetMatch) -> None:
    once = WordnetMatch(**stage.model_dump() | {"base_forms": "once"})
    assert found(stage, "dogss", "dogs") == ["dogss", "dogs"]
    assert found(once, "dogss", "dogs") == [None, "dogs"]


def test_travels_and_is_the_same_stage_wherever_the_files_lie(stage: WordnetMatch, world: Any) -> None:
    assert found(pickle.loads(pickle.dumps(stage)), "a dog") == found(stage, "a dog")
    assert [Path(f).name for f in stage.files()] == ["list.txt", *file_names()]
    assert str(world[0]) not in json.dumps(stage.identity())


def test_what_is_missing_is_said(stage: WordnetMatch, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"wordnet_match: no list of synsets at /nowhere/list\.txt; for ImageNet-21k"):
        WordnetMatch(synsets="/nowhere/list.txt").files()
    with pytest.raises(ValueError, match=r"wordnet_match: no WordNet .*apt-get install wordnet-base"):
        WordnetMatch(synsets=stage.synsets, wordnet=str(tmp_path)).files()


@pytest.mark.parametrize(
    ("text", "said"),
    [("n00000001\ndog\n", r"list\.txt, line 2: 'dog' does not begin with a synset"), ("# none\n", "has no synset")],
)
def test_a_damaged_list_is_named(stage: WordnetMatch, tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "list.txt").write_text(text)
    with pytest.raises(ValueError, match=said):
        stage.open()


def test_a_list_of_another_release_is_refused(world: Any, tmp_path: Path) -> None:
    folder, offsets = world
    moved = [offset + 1 for offset in offsets["n"]["dog"]]
    with pytest.raises(ValueError, match=r"2 of the 2 synsets in .*list\.txt are not in the WordNet at .*3\.0"):
        WordnetMatch(synsets=synset_list(tmp_path, moved), wordnet=str(folder)).open()


def test_datacomp_on_captions_of_the_web(shared_data: Path) -> None:
    """The reference's loop with NLTK as it is installed (base forms once), caption by caption."""
    synsets = shared_data / "classnames" / "imagenet21k_synsets.txt"
    stage = WordnetMatch(synsets=str(synsets), base_forms="once")
    _, reader = real_wordnet()
    wanted = {int(line[1:9]) for line in synsets.read_text().split()}
    texts = pq.read_table(shared_data / "text" / "laion_urls_10k.parquet").column("text").to_pylist()[:1500]

    def contains(text: str | None) -> bool | None:
        if text is None:
            return None
        first = [reader.synsets(word)[:1] for word in text.split()]
        return any(synsets and synsets[0].offset() in wanted for synsets in first)

    answers = stage.run(Batch.of(pa.table({"text": pa.array(texts, pa.string())}))).column("wordnet_match").to_pylist()
    assert answers == [contains(text) for text in texts]
    assert 0.3 < sum(bool(a) for a in answers) / len(texts) < 0.95
