"""Word and character counts, each against a plain reading of its definition."""

from __future__ import annotations

import re

import pyarrow as pa
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from stages.base import Batch
from stages.text_facts import TextFacts


def facts(*texts: str | None) -> list[dict[str, int | None]]:
    table = TextFacts().run(Batch.of(pa.table({"text": pa.array(texts, pa.string())})))
    assert table.schema == TextFacts().writes()
    return table.to_pylist()


def read_words(data: bytes) -> list[bytes]:
    """fastText's `Dictionary::readWord` in a loop, byte by byte, as its `tokenize` calls it."""
    words, word, at = [], b"", 0
    while at < len(data):
        byte = data[at : at + 1]
        at += 1
        if byte not in (b" ", b"\n", b"\r", b"\t", b"\v", b"\f", b"\0"):
            word += byte
        elif word:
            words.append(word)
            word = b""
            at -= byte == b"\n"  # put back: it comes next, as a token of its own
        elif byte == b"\n":
            words.append(b"</s>")
    return [*words, word] if word else words


@pytest.mark.parametrize(
    ("text", "n_chars", "n_words", "fasttext", "n_chars_clean"),
    [
        ("a red car", 9, 3, 3, 9),
        ("  a \t red\r\ncar ", 15, 3, 4, 9),  # the newline is a token of fastText's
        ("", 0, 0, 0, 0),
        (" \n\n ", 4, 0, 2, 0),
        ("no\u00a0break\u3000space", 14, 3, 1, 14),  # fastText splits on ASCII white space only
        ("nul\0byte", 8, 1, 2, 8),  # str.split does not split on NUL
        ("unit\x1fseparator", 14, 2, 1, 14),  # str.split does split on U+001F
        ("红色的汽车", 5, 1, 1, 5),
        ("👩\u200d👩\u200d👧 family", 12, 2, 2, 12),  # code points, not what is seen
    ],
)
def test_definitions(text: str, n_chars: int, n_words: int, fasttext: int, n_chars_clean: int) -> None:
    assert facts(text) == [
        {
            "n_chars": n_chars,
            "n_words": n_words,
            "n_words_fasttext": fasttext,
            "n_chars_clean": n_chars_clean,
            "n_words_clean": n_words,
        }
    ]


def test_null_text_has_null_counts() -> None:
    null, empty = facts(None, "")
    assert set(null.values()) == {None}
    assert set(empty.values()) == {0}


def test_no_rows() -> None:
    assert facts() == []


def test_a_megabyte_of_text() -> None:
    (found,) = facts("ab " * 350_000)
    assert (found["n_chars"], found["n_words"], found["n_chars_clean"]) == (1_050_000, 350_000, 1_049_999)


whitespace = " \t\n\r\v\f\0\x1c\x1d\x1e\x1f\x85\u00a0\u1680\u2003\u2028\u3000\u200b"
captions = st.text(st.one_of(st.sampled_from(whitespace), st.characters(exclude_categories=["Cs"])))


@given(st.lists(st.one_of(st.none(), captions)))
@example([whitespace, "a\n\nb\n", "\na", "a\r\n"])
def test_counts_equal_the_definitions(texts: list[str | None]) -> None:
    for text, found in zip(texts, facts(*texts), strict=True):
        if text is None:
            assert set(found.values()) == {None}
            continue
        cleaned = re.sub(r"\s+", " ", text).strip()
        assert found == {
            "n_chars": len(text),
            "n_words": len(text.split()),
            "n_words_fasttext": len(read_words(text.encode())),
            "n_chars_clean": len(cleaned),
            "n_words_clean": len(cleaned.split(" ")) if cleaned else 0,
        }
