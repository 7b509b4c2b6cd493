"""Documents of MMC4 and OBELICS as Python has them: nothing is lost on the way, and what is no document is refused."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.interchange import interleaved_mmc4, interleaved_obelics
from curate.interchange.interleaved import DEEPEST, LONGEST, Document, document_of, json_in, table_of
from curate.pool.uids import parse_uid
from tests.interchange.interleaved_parts import mmc4, obelics, url

TEXT = st.text(st.characters(codec="utf-8"), max_size=8)
JSON = st.recursive(st.none() | st.booleans() | st.integers() | TEXT, lambda j: st.lists(j, max_size=2), max_leaves=3)


def through(document: Document) -> Document:
    """Into the table and out of it."""
    (row,) = table_of([document]).to_pylist()
    return document_of(row)


def without_uids(said: dict[str, Any]) -> dict[str, Any]:
    return {**said, "image_info": [{k: v for k, v in i.items() if k != "uid"} for i in said["image_info"]]}


@st.composite
def mmc4_documents(draw: st.DrawFn) -> dict[str, Any]:
    texts = draw(st.lists(TEXT, max_size=4))
    index = st.none() | st.integers(0, len(texts) - 1) if texts else st.none()
    images = draw(st.lists(st.tuples(index, TEXT, JSON), max_size=4))
    infos = [
        {"raw_url": f"http://x/{u}", "image_name": u, "matched_text_index": i, "matched_sim": 0.5, "face_detections": j}
        for i, u, j in images
    ]
    row = st.lists(st.floats(-1, 1), min_size=len(texts), max_size=len(texts))
    matrix = draw(st.lists(row, min_size=len(images), max_size=len(images)))
    return {"url": draw(TEXT), "text_list": texts, "image_info": infos, "similarity_matrix": matrix, "more": draw(JSON)}


@given(mmc4_documents())
@settings(max_examples=60, deadline=None)
def test_mmc4_there_and_back(record: dict[str, Any]) -> None:
    told = without_uids(interleaved_mmc4.say(through(interleaved_mmc4.parse(record))))
    for info, was in zip(told["image_info"], record["image_info"], strict=True):
        if was["matched_text_index"] is None and record["text_list"]:  # it gets that of its place: the last
            assert info["matched_text_index"] == len(record["text_list"]) - 1
            info["matched_text_index"] = None
        info["image_name"] = was["image_name"]  # an empty one is named after the uid
    assert told == record


@given(st.lists(st.tuples(st.booleans(), TEXT, st.dictionaries(TEXT, JSON, max_size=2)), max_size=6))
@settings(max_examples=60, deadline=None)
def test_obelics_there_and_back(places: list[tuple[bool, str, dict[str, Any]]]) -> None:
    record = {
        "images": [f"http://x/{said}" if image else None for image, said, _ in places],
        "texts": [None if image else said for image, said, _ in places],
        "metadata": json.dumps([about if image else None for image, _, about in places]),
        "general_metadata": json.dumps({"url": "http://x/page", "n": 1}),
    }
    told = interleaved_obelics.say(through(interleaved_obelics.parse(record)))
    about = [m and {k: v for k, v in m.items() if k != "uid"} for m in json.loads(told["metadata"])]
    was = [m and {k: v for k, v in m.items() if k != "uid"} for m in json.loads(str(record["metadata"]))]
    assert [m or None for m in about] == [m or None for m in was]
    assert {**told, "metadata": None} == {**record, "metadata": None}


def test_the_uid_is_that_of_the_pools_rule() -> None:
    import hashlib

    (row,) = table_of([interleaved_mmc4.parse(mmc4([4]), "matched")]).to_pylist()
    text = mmc4([4])["text_list"][1]
    assert row["images"][0]["uid"] == hashlib.md5((text + url(4)).encode()).digest()
    (row,) = table_of([interleaved_obelics.parse(obelics([4]), "alt")]).to_pylist()
    assert row["images"][0]["uid"] == hashlib.md5(("picture 4" + url(4)).encode()).digest()
    (row,) = table_of([interleaved_obelics.parse(obelics([4]))]).to_pylist()
    assert row["images"][0]["uid"] == hashlib.md5(url(4).encode()).digest() != parse_uid(url(4))[0]


def test_a_picture_stands_before_its_sentence() -> None:
    document = interleaved_mmc4.parse(mmc4([1, 0, 4]))
    texts = document.texts
    assert document.nodes == (1, texts[0], 0, 2, texts[1], texts[2])
    fewer = document.without({0})
    assert fewer.nodes == (0, texts[0], 1, texts[1], texts[2])
    assert [p.url for p in fewer.pictures] == [url(0), url(4)]
    assert fewer.similarities is not None
    assert fewer.similarities.tolist() == mmc4([0, 4])["similarity_matrix"]


def test_of_one_format_in_the_other() -> None:
    said = interleaved_obelics.say(through(interleaved_mmc4.parse(mmc4([1, 0]))))
    texts = mmc4([])["text_list"]
    assert said["images"] == [url(0), None, url(1), None, None]
    assert said["texts"] == [None, texts[0], None, texts[1], texts[2]]
    assert json.loads(said["general_metadata"])["url"] == "http://h.test/page"
    back = interleaved_mmc4.say(through(interleaved_obelics.parse(obelics([7, 8]))))
    assert [i["matched_text_index"] for i in back["image_info"]] == [1, 2]
    assert back["text_list"] == ["Once.", "Behind 7.\n\nMore.", "Behind 8.\n\nMore."]
    assert back["image_info"][0]["image_name"] == f"{back['image_info'][0]['uid']}.jpg"


def changed(**fields: Any) -> dict[str, Any]:
    return {**mmc4([1]), **fields}


@pytest.mark.parametrize(
    ("record", "why"),
    [
        ([], "no JSON object"),
        (changed(text_list="a"), "text_list is no list"),
        (changed(text_list=[1]), "text_list is no text"),
        (changed(text_list=["a"] * 10_001), "more than 10,000"),
        (changed(image_info=[1]), "image_info has what is no JSON object"),
        (changed(image_info=[{"raw_url": ""}]), "raw_url is empty"),
        (changed(image_info=[{"raw_url": "u", "matched_text_index": 3}]), "matched_text_index is no number"),
        (changed(image_info=[{"raw_url": "u", "matched_text_index": True}]), "matched_text_index is no number"),
        (changed(image_info=[{"raw_url": "u", "matched_sim": float("nan")}]), "matched_sim has what is no number"),
        (changed(similarity_matrix=[[1, 2]]), "similarity_matrix is not pictures x texts"),
        (changed(similarity_matrix=[[1, 2, 10**400]]), "similarity_matrix has what is no number"),
        (changed(url=7), "url is no text"),
    ],
)
def test_what_is_no_document_of_mmc4(record: Any, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        interleaved_mmc4.parse(record)


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"texts": ["a"]}, "images and texts differ in length: 3 and 1"),
        ({"images": None}, "images is no list"),
        ({"metadata": "[null]"}, "metadata is no list with an object or null for each image: there are 3"),
        ({"metadata": "[" * 100_000}, "metadata has lists within lists"),
        ({"metadata": "[" * 101 + "]" * 101}, "metadata has lists within lists"),
        ({"metadata": "[1, 2, 3]"}, "metadata is no list with an object or null for each image: there are 3"),
        ({"general_metadata": "[]"}, "general_metadata is no JSON object"),
        ({"general_metadata": '{"a":' * 101 + "1" + "}" * 101}, "general_metadata has lists within lists"),
        ({"images": [None, "", None]}, "images has an empty url"),
    ],
)
def test_what_is_no_document_of_obelics(fields: dict[str, Any], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        interleaved_obelics.parse({**obelics([1]), **fields})


def test_one_sentence_of_many_pictures_is_not_copied_without_end() -> None:
    """Each picture gets its sentence whole: a line of 3 MB would be a gigabyte."""
    half = "x" * (LONGEST // 2)
    infos = [{"raw_url": f"http://x/{n}", "matched_text_index": 0} for n in range(3)]
    fits = {"text_list": [half], "image_info": infos[:2]}
    assert [p.text for p in interleaved_mmc4.parse(fits, "matched").pictures] == [half, half]
    more = {"text_list": [half], "image_info": infos}
    with pytest.raises(ValueError, match="the texts of its pictures have more than 4,194,304 characters"):
        interleaved_mmc4.parse(more, "matched")
    assert len(interleaved_mmc4.parse(more).pictures) == 3


@pytest.mark.parametrize(("before", "behind", "each"), [("[", "]", 1), ('{"a": ', "}", 1), ('[0, {"a": ', "}]", 2)])
def test_how_deep_json_may_be(before: str, behind: str, each: int) -> None:
    times = DEEPEST // each
    deepest = before * times + "1" + behind * times
    assert json.dumps(json_in(deepest)) == deepest
    with pytest.raises(ValueError, match="said has lists within lists within lists"):
        json_in(f"[{deepest}]", "said")


def test_half_a_character_does_not_reach_the_table() -> None:
    document = interleaved_mmc4.parse(json.loads('{"text_list": ["a\\ud800"], "image_info": []}'))
    assert through(document).texts == ["a?"]


@pytest.mark.parametrize(
    "fields",
    [
        {"general_metadata": '{"url": "http://a/\\ud800"}'},
        {"general_metadata": None, "metadata": '[null, {"document_url": "http://a/\\ud800"}, null]'},
    ],
)
def test_nor_does_one_in_the_address_of_a_page(fields: dict[str, Any]) -> None:
    document = interleaved_obelics.parse({**obelics([1]), **fields})
    assert through(document).url == "http://a/?"
