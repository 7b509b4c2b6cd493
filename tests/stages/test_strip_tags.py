"""What is taken out of texts, what stays, and that cleaning twice is cleaning once, whatever the text."""

from __future__ import annotations

import time

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curate.catalog import STAGES, load
from stages.base import Batch, Column
from stages.sentences import Sentences
from stages.strip_tags import StripTags
from stages.text_cleaning import tidy, without_medium
from stages.texts import TEXTS

TAKEN = {
    "<b>A dog</b> &amp; a <i class='x'>cat</i><br/>": "A dog & a cat",
    "&lt;p&gt;A dog&lt;/p&gt;": "A dog",
    "&amp;lt;p&amp;gt;A dog": "A dog",
    "A <script>alert(1)</script>dog <!-- hidden -->runs<style>p{}</style>": "A dog runs",
    "<<b>b>A dog": "A dog",
    "{{title}} A dog [caption id=3]on grass[/caption] ${price} {% if x %}": "A dog on grass",
    "A dog<|im_end|><|endoftext|> [[File:x]] <%= name %>": "A dog",
    "<PERSON> walks with <person>": "someone walks with someone",
    "A dog #puppy #cute_dogs": "A dog",
    "Photo of a dog": "a dog",
    "A stock photo of a dog on a beach": "a dog on a beach",
    "this is a black and white close-up photograph of two dogs": "two dogs",
    "Stock Photo: a dog": "a dog",
    "A dog on a beach, royalty free stock vector illustration": "A dog on a beach",
    "A dog - Stock Photos": "A dog",
    "A dog (IMG_20190304.jpg) at www.example.com/a?b=c": "A dog at",
    "DSC_0123 A dog, write to a.b@example.co.uk": "A dog, write to",
    "A dog. Click  to enlarge": "A dog.",
    "ALL RIGHTS RESERVED | A dog | free shipping": "A dog",
    "<img src=x onerror=alert(1)>": None,
    " ": None,
}
STAYS = [
    "3 < 4 and 5 > 2",
    "the #1 dog",
    "a photographer of dogs",
    "a stock photo",
    "Picture frames on a wall",
    "a {red} dog [left] of a cat (old)",
    "R&B singer at AT&T Park, Pearl-grey -- no. 5!",
    "犬、ビーチにて #1",
    "photo album with a red cover",
    "a child draws a picture of a dog",
]

_HOSTILE = "<|<a |{{|<!--|<!---|photo |a photo of |#a |-|, |(|&amp;|a.|[b |stock |a@b|<script>|stock photo "
HOSTILE = _HOSTILE.split("|")


def cleaned(stage: StripTags, *texts: str | None) -> list[str | None]:
    table = stage.run(Batch.of(pa.table({"text": pa.array(texts, pa.string())})))
    assert table.schema == stage.writes()
    assert table.column("error").null_count == len(texts)
    found: list[str | None] = table.column(stage.name).to_pylist()
    return found


@pytest.mark.parametrize("text", TAKEN)
def test_taken_out(text: str) -> None:
    assert cleaned(StripTags(), text) == [TAKEN[text]]


@pytest.mark.parametrize("text", STAYS)
def test_stays(text: str) -> None:
    assert cleaned(StripTags(), text) == [text]


def test_each_kind_can_be_left() -> None:
    text = "<b>Photo of</b> a dog #dog at www.x.org {{a}} x.jpg <PERSON> buy now"
    nothing = StripTags(
        markup=False,
        placeholders=(),
        medium=False,
        hashtags="keep",
        addresses=False,
        file_names=False,
        boilerplate=(),
    )
    assert cleaned(nothing, text, None) == [text, None]
    assert cleaned(StripTags(hashtags="words"), "A dog #beach") == ["A dog beach"]
    assert cleaned(StripTags(instead=""), "<PERSON> walks") == ["walks"]
    assert cleaned(StripTags(boilerplate=("c++ (2nd)",)), "a C++  (2nd) book, buy now") == ["a book, buy now"]


def test_lists_stay_lists() -> None:
    maker = Sentences(name="pieces")
    stage = StripTags(text=Column(maker, "pieces"), name="clean")
    assert stage.writes().field("clean").type == TEXTS
    column = pa.array([[{"source": "a", "text": "<b>x y</b>"}, {"source": "b", "text": "<b>"}], None, []], TEXTS)
    table = stage.run(Batch({Column(maker, "pieces"): column}, 3))
    assert table.column("clean").to_pylist() == [
        [{"source": "a", "text": "x y"}, {"source": "b", "text": None}],
        None,
        [],
    ]
    assert load("strip_tags", STAGES) is StripTags


def test_hostile_texts_fail_alone_and_in_time() -> None:
    deep, long = "<" * 30 + "b>" * 30 + "dog", "x" * 20_001
    start = time.process_time()
    table = StripTags().run(Batch.of(pa.table({"text": [deep, "a dog", long]})))
    assert table.column(0).to_pylist() == [None, "a dog", None]
    first, none, last = table.column("error").to_pylist()
    assert "more than 12 deep" in first
    assert none is None
    assert "20001 characters" in last
    for part in (
        "<",
        "<a ",
        "{{",
        "<!--",
        "photo ",
        "a photo of ",
        "#a ",
        "-",
        ", ",
        "(",
        "&amp;",
        "a.",
        "[b ",
        "stock ",
        "- ",
        ",|",
        "stock photo,",
    ):
        within = f"<b>a {part * 20_000}"[:19_999] + "x"  # so that something is taken out, and what is behind is no end
        StripTags().run(Batch.of(pa.table({"text": [(part * 20_000)[:20_000], within]})))
    assert time.process_time() - start < 8


def test_marks_in_a_row_are_one() -> None:
    assert tidy("a dog, , | - on grass") == "a dog, on grass"
    assert tidy("a dog, , -5 degrees") == "a dog, -5 degrees"
    assert tidy("a dog, -5 degrees") == "a dog, -5 degrees"
    assert tidy("well--known") == "well--known"
    assert tidy("a dog,, ;") == "a dog"


def test_phrases_must_be_some() -> None:
    with pytest.raises(ValueError, match="a phrase or placeholder is empty"):
        StripTags(boilerplate=(" ",))


_PARTS = st.sampled_from(
    ["<b>", "</b>", "<", ">", "&lt;", "&amp;", "{{", "}}", "a photo of ", "dog", " ", "#tag", ", ", "-", "stock image",
     "(", ")", "<PERSON>", "x.jpg", "buy now", ".", "[b]", "www.a.b", "犬", "\n"]
)  # fmt: skip


@given(st.lists(_PARTS, max_size=14).map("".join) | st.text(max_size=60))
def test_cleaning_twice_is_cleaning_once(text: str) -> None:
    stage = StripTags()
    once = stage.cleaned(text)
    assert stage.cleaned(once) == once
    assert len(without_medium(text)) <= len(text)
