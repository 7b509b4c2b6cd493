"""Sentences as texts: where they are cut, windows, several columns in order, and draws by the uid."""

from __future__ import annotations

import time
from collections import Counter
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curate.catalog import STAGES, load
from stages.base import TEXT, UID, Batch, fact
from stages.sentences import Sentences, sentences
from stages.texts import TEXTS

LONG = "A dog runs. It has a red ball. The grass is wet. Two people look on."
UIDS = pa.array([i.to_bytes(16, "big") for i in range(400)], pa.binary(16))


def said(stage: Sentences, **columns: pa.Array) -> list[Any]:
    table = stage.run(Batch.of(pa.table(columns)))
    assert table.schema == stage.writes() == pa.schema([(stage.name, TEXTS)])
    rows: list[Any] = table.column(0).to_pylist()
    return [None if row is None else [piece["text"] for piece in row] for row in rows]


def test_cut_as_dreamlip_does() -> None:
    texts = pa.array([LONG, "one", "", None, " . . ", "3.5 metres. Yes!  No. "])
    assert said(Sentences(), text=texts) == [
        ["A dog runs", "It has a red ball", "The grass is wet", "Two people look on."],
        ["one"],
        [],
        None,
        [],
        ["3.5 metres", "Yes! No"],
    ]


def test_cut_at_ends() -> None:
    text = 'Dr. J. Smith, of the U.S. team, ran 3.5 km! "Why?" he asked... I know. So do I. 犬です。猫です。End'
    assert sentences(text, "ends") == [
        "Dr. J. Smith, of the U.S. team, ran 3.5 km!",
        '"Why?"',
        "he asked...",
        "I know.",
        "So do I.",
        "犬です。",
        "猫です。",
        "End",
    ]
    assert sentences("a title\n\nand a text", "ends") == ["a title", "and a text"]


def test_ends_are_found_in_time() -> None:
    start = time.process_time()
    for text in ("." * 20_000 + "a", "." * 10_000 + "'" * 9_999 + "a", ".'" * 9_999 + "a", "\n " * 9_999 + "a"):
        assert [piece[-1] for piece in sentences(text, "ends")] == ["a"]
    assert sentences("He ran...!?” And '(no.)' Then...a", "ends") == ["He ran...!?”", "And '(no.)'", "Then...a"]
    assert time.process_time() - start < 1


def test_windows_of_some_in_a_row() -> None:
    assert said(Sentences(window=3), text=pa.array([LONG, "A. B", ""])) == [
        ["A dog runs. It has a red ball. The grass is wet", "It has a red ball. The grass is wet. Two people look on."],
        ["A. B"],
        [],
    ]
    assert Sentences(window=2, split="ends").pieces("A cat. A dog! A cow.") == ["A cat. A dog!", "A dog! A cow."]


def test_short_pieces_are_left_out() -> None:
    assert Sentences(min_words=3).pieces("Home. Shop. A dog runs. Buy now") == ["A dog runs"]
    assert Sentences(min_words=3, split="ends").pieces("犬が走っています。はい。") == ["犬が走っています。"]


def test_columns_in_their_order_with_their_sources() -> None:
    several = pa.array([[{"source": "blip", "text": "A. B"}, {"source": "coca", "text": None}], None], TEXTS)
    plain = pa.array([["C. D"], ["E"]], pa.list_(pa.string()))
    stage = Sentences(text=("made", "told"), name="pieces")
    table = stage.run(Batch.of(pa.table({"made": several, "told": plain})))
    rows = table.column("pieces").to_pylist()
    assert [(p["source"], p["text"]) for p in rows[0]] == [("blip", "A"), ("blip", "B"), ("told", "C"), ("told", "D")]
    assert [(p["source"], p["text"]) for p in rows[1]] == [("told", "E")]
    assert stage.reads() == (fact("made"), fact("told"))


def test_draws_are_of_the_uid_and_even() -> None:
    stage = Sentences(draw=2)
    assert stage.reads() == (TEXT, UID)
    texts = pa.array([LONG] * 400)
    found = said(stage, text=texts, uid=UIDS)
    assert {len(row) for row in found} == {2}
    assert all(LONG.index(a) < LONG.index(b) for a, b in found)
    assert found[7:9] == said(stage, text=texts[:2], uid=UIDS[7:9])
    assert found != said(Sentences(draw=2, seed=1), text=texts, uid=UIDS)
    assert found != said(Sentences(draw=2, name="other"), text=texts, uid=UIDS)
    counts = Counter(piece for row in found for piece in row)  # each of 4 in half of the rows: 200, variance 100
    assert sum((n - 200) ** 2 / 100 for n in counts.values()) < 4 / 3 * 16.27  # chi-square of 3 degrees at 0.001
    assert said(Sentences(draw=9), text=texts[:1], uid=UIDS[:1]) == said(Sentences(), text=texts[:1])


def test_parameters() -> None:
    assert Sentences(text="story").text == (fact("story"),)
    assert load("sentences", STAGES) is Sentences
    one, several = Sentences.model_json_schema()["properties"]["text"]["anyOf"]
    assert (one["type"], several["type"], several["items"]) == ("string", "array", one)
    with pytest.raises(ValueError, match="at least 1 item"):
        Sentences(text=())
    assert len(Sentences(most=3).pieces(". ".join("abcdef"))) == 3


@given(st.text(max_size=200), st.sampled_from(["period", "ends"]))
def test_no_piece_is_empty_and_nothing_is_invented(text: str, split: Any) -> None:
    pieces = sentences(text, split)
    assert all(piece.strip() == piece != "" for piece in pieces)
    if split == "ends":  # not a character is lost but white space and marks that stand alone
        kept = "".join("".join(pieces).split())
        assert [c for c in kept if c.isalnum()] == [c for c in text if c.isalnum()]


@given(st.lists(st.sampled_from(["a b", "c", "d e f"]), max_size=8), st.integers(1, 4))
def test_windows_cover_all(parts: list[str], window: int) -> None:
    found = Sentences(window=window).pieces(". ".join(parts))
    assert len(found) == max(len(parts) - window + 1, min(len(parts), 1))
    assert all(found[i].split(". ")[0] == parts[i] for i in range(len(found)))
