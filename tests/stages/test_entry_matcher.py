"""Matching entries against the rule written out in plain Python: the padded entry lies in the padded text."""

from __future__ import annotations

import json
import re
import string
import weakref
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stages import entry_kernels, entry_matcher
from stages.entry_matcher import Listed, Matcher, Mode, Padding, count_entries, open_matcher, read_entries

ENTRIES = ["dog", "hot dog", "New York", "dogs", "U.S.", "new york", "3", "."]
SPEC = {  # section 10.2 of the specification
    "A hot dog, in New York!": ["dog", "hot dog", "New York"],
    "hotdogs": [],
    "dog's bowl": [],
    "(dog)": [],
    "dog-dog": [],
    "DOG": [],
    "hot  dog": ["dog"],
    "hot\ndog": ["dog", "hot dog"],
    "U.S. flag": ["."],
    "3.5 dogs": ["3", ".", "dogs"],
}
MARKS = set(string.punctuation) | set("，。、；：？！“”‘’（）【】《》〈〉「」『』～—")


def norm(text: str) -> str:
    padded = f" {text} "
    for mark in (",", ".", ";", ":", "?", "!", "`"):
        padded = padded.replace(mark, f" {mark} ")
    for blank in ("\t", "\n", "\r"):
        padded = padded.replace(blank, " ")
    return padded


def one_space(text: str) -> str:
    return re.sub(" +", " ", norm(text))


def spaceless(character: str) -> bool:
    """Han, radicals, Thai, Lao, Tibetan, Burmese, Khmer."""
    ranges = [(0x4E00, 0x9FFF), (0x3400, 0x4DBF), (0x20000, 0x2A6DF), (0x2A700, 0x2EBEF), (0xF900, 0xFAFF)]
    ranges += [(0x2E80, 0x2FDF), (0x2FF0, 0x2FFF), (0x0E00, 0x0FFF), (0x1000, 0x109F), (0x1780, 0x17FF)]
    return any(low <= ord(character) <= high for low, high in ranges)


def kana(character: str) -> bool:
    return any(low <= ord(character) <= high for low, high in [(0x3040, 0x30FF), (0x31F0, 0x31FF), (0xFF66, 0xFF9F)])


def naive(entries: list[str], text: str, mode: Mode, padding: Padding) -> list[int]:
    """The rule itself; of entries that `fixed` makes the same, the first."""
    fixed = mode == "fixed"
    hay = one_space(text) if fixed else norm(text)
    found, seen = [], set()
    for number, entry in enumerate(entries):
        needle = one_space(entry) if fixed else f" {entry} "
        if needle == " ":
            continue  # nothing is in everything
        entry = entry.strip(" \t\n\r") if fixed else entry
        if padding == "per_side" and entry:
            bare = (lambda c: spaceless(c) or kana(c)) if fixed else (lambda c: spaceless(c) or c in MARKS)
            needle = needle[1:] if bare(entry[0]) else needle
            needle = needle[:-1] if bare(entry[-1]) else needle
        if needle in hay and needle not in seen:
            found.append(number)
        seen.add(needle)
    return found


def matched(entries: list[str], texts: list[str | None], mode: Mode = "faithful", padding: Padding = "both") -> list:
    return Matcher(entries, mode, padding).match(pa.array(texts, pa.string())).to_pylist()


@pytest.mark.parametrize(("text", "expected"), SPEC.items())
def test_values_of_the_specification(text: str, expected: list[str]) -> None:
    (found,) = matched(ENTRIES, [text])
    assert found == sorted(ENTRIES.index(e) for e in expected)


def test_fixed_wakes_dead_entries_and_bridges_white_space() -> None:
    found = matched(ENTRIES, ["the U.S. flag", "U.S.A. flag", "hot  dog", "(dog)", "\t3\n"], "fixed")
    assert found == [[4, 7], [4, 7], [0, 1], [], [6]]


def test_no_text_no_entries_and_no_rows() -> None:
    assert matched(ENTRIES, [None, "", " ", "dog", None]) == [None, [], [], [0], None]
    assert matched([], ["dog"]) == [[]]
    assert matched(ENTRIES, []) == []


def test_each_entry_once_and_ascending_in_a_text_of_thousands() -> None:
    words = [f"w{i}" for i in range(3000)]
    (found,) = matched(words, [" ".join(reversed(words * 2))])
    assert found == list(range(3000))


def test_slices_and_chunks_are_read_where_they_begin() -> None:
    matcher = Matcher(ENTRIES)
    texts = pa.array(["dogs", "dog", None, "new york"])
    assert matcher.match(texts.slice(1, 3)).to_pylist() == [[0], None, [5]]
    assert matcher.match(pa.chunked_array([texts, texts.slice(3)])).to_pylist() == [[3], [0], None, [5], [5]]
    assert matcher.match(texts.cast(pa.large_string())).to_pylist() == [[3], [0], None, [5]]


def test_entries_without_spaces_match_inside_words_as_the_second_version_does() -> None:
    entries = ["犬", "大きな犬", "りんご", "-dog", "dog", "바다"]
    texts = ["小さな犬です", "大きな犬です", "りんごです", "りんご", "hot-dog dog", "바다의"]
    assert matched(entries, texts, "faithful", "per_side") == [[0], [0, 1], [], [2], [3, 4], []]
    fixed = matched(entries, texts, "fixed", "per_side")
    assert fixed == [[0], [0, 1], [2], [2], [4], []]  # kana bare, punctuation not
    assert naive(entries, texts[2], "fixed", "per_side") == [2]


ALPHABET = ["a", "b", " ", "  ", ",", ".", "`", "\n", "\t", "\r", "'", "é", "日", "の", "、", "ก", "\U0001f600", "\0"]
strings = st.lists(st.sampled_from(ALPHABET), max_size=12).map("".join) | st.text(
    st.characters(exclude_categories=["Cs"]), max_size=8
)


@settings(max_examples=150, deadline=None)
@given(
    st.lists(strings, max_size=12, unique=True),
    st.lists(strings.flatmap(lambda a: strings.map(lambda b: a + b)), max_size=6),
    st.sampled_from(["faithful", "fixed"]),
    st.sampled_from(["both", "per_side"]),
)
def test_same_as_the_rule_on_any_unicode(entries: list[str], texts: list[str], mode: Mode, padding: Padding) -> None:
    texts += [f"x {e} y" for e in entries]
    assert matched(entries, texts, mode, padding) == [naive(entries, t, mode, padding) for t in texts]


def test_an_entry_that_stands_twice_is_refused_by_its_places() -> None:
    with pytest.raises(ValueError, match="entries 1 and 3 are both 'dog'"):
        Matcher(["cat", "dog", "cow", "dog"])


def test_lists_are_arrays_or_objects_of_strings(tmp_path: Path) -> None:
    path = tmp_path / "list.json"
    for data, expected in [
        ('["a", "b"]', ["a", "b"]),
        ('{"b": "w", "a": "u"}', ["b", "a"]),
        ('["\\ud800"]', ["\ud800"]),
    ]:
        path.write_text(data)
        assert read_entries(str(path)) == expected
    assert Matcher(["\ud800", "a"]).match(pa.array(["a"])).to_pylist() == [[1]]  # no text has half a character
    for bad in ("dog\ncat", "[1, 2]", '"dog"'):
        path.write_text(bad)
        with pytest.raises(ValueError, match=r"list\.json"):
            read_entries(str(path))


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.text(st.sampled_from('ab"\\\\[],{}: é犬\n')), unique=True), st.booleans(), st.sampled_from([None, 2])
)
def test_entries_are_counted_without_reading_them(
    tmp_path_factory: pytest.TempPathFactory, entries: list[str], ascii_: bool, indent: int | None
) -> None:
    path = tmp_path_factory.getbasetemp() / "counted.json"
    for listed in (entries, dict.fromkeys(entries, "value")):
        path.write_text(json.dumps(listed, ensure_ascii=ascii_, indent=indent), encoding="utf-8")
        assert count_entries(str(path)) == len(read_entries(str(path))) == len(entries)


def test_an_array_is_counted_without_its_strings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "list.json").write_text('["dog", "hot dog", "\\\\"]')
    monkeypatch.setattr(entry_matcher, "read_entries", None)
    assert count_entries(str(tmp_path / "list.json")) == 3


def test_a_list_is_loaded_once_and_again_when_it_changes(tmp_path: Path) -> None:
    path = tmp_path / "list.json"
    path.write_text('["dog"]')
    first = open_matcher(str(path))
    assert open_matcher(str(path)) is first
    path.write_text('["cat", "dog"]')
    assert open_matcher(str(path)).match(pa.array(["a dog"])).to_pylist() == [[1]]
    path.write_text('["cat", "dog", "cat"]')
    with pytest.raises(ValueError, match=r"list\.json: entries 0 and 2"):
        open_matcher(str(path))


def test_strings_are_let_go_before_the_tables_are_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """500,000 of them are 36 MB beside tables of 50."""

    class Entries(list[str]):
        """A list that one can ask for whether it is still there."""

    path = tmp_path / "list.json"
    path.write_text('["dog", "hot dog"]')
    held: list[weakref.ref[Entries]] = []
    alive: list[bool] = []

    def read(path: str) -> Entries:
        entries = Entries(read_entries(path))
        held.append(weakref.ref(entries))
        return entries

    def number(*regions: Any) -> Any:
        alive.append(held[0]() is not None)
        return numbered(*regions)

    numbered = entry_kernels.number_words
    monkeypatch.setattr(entry_matcher, "read_entries", read)
    monkeypatch.setattr(entry_kernels, "number_words", number)
    assert open_matcher(str(path)).match(pa.array(["a hot dog"])).to_pylist() == [[0, 1]]
    assert alive == [False]


@pytest.mark.parametrize("mode", ["faithful", "fixed"])
@pytest.mark.parametrize("padding", ["both", "per_side"])
def test_a_list_without_its_strings_is_the_same_list(mode: Mode, padding: Padding) -> None:
    entries = [*ENTRIES, "東京", "タワー", "", " a  b "]
    texts = pa.array([*SPEC, "東京タワー a b"])
    listed = Listed.of(entries, mode, padding)
    assert [listed[number] for number in range(len(entries))] == entries
    assert Matcher(listed, mode, padding).match(texts).equals(Matcher(entries, mode, padding).match(texts))


def test_same_as_pyahocorasick_on_all_texts_of_the_shared_data(shared_data: Path) -> None:
    ahocorasick = pytest.importorskip("ahocorasick")
    entries = json.loads((shared_data / "classnames" / "metadata_standin.json").read_text())
    automaton = ahocorasick.Automaton()
    for number, entry in enumerate(entries):
        automaton.add_word(f" {entry} ", number)
    automaton.make_automaton()
    texts = list(dict.fromkeys(all_texts(shared_data)))
    assert len(texts) > 100_000
    found = Matcher(entries).match(pa.array(texts)).to_pylist()
    different = [t for t, f in zip(texts, found, strict=True) if f != sorted({n for _, n in automaton.iter(norm(t))})]
    assert different == []


def all_texts(shared_data: Path) -> list[str]:
    """Every string of every parquet there, titles and keys too."""
    found: list[str] = []
    for path in sorted(shared_data.rglob("*.parquet")):
        for field in pq.read_schema(path):
            if field.type in (pa.string(), pa.large_string(), pa.list_(pa.string())):
                column = pq.read_table(path, columns=[field.name]).column(0).combine_chunks()
                strings_ = column.flatten() if pa.types.is_list(column.type) else column
                found += strings_.drop_null().to_pylist()
    return found
