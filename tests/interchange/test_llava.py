"""LLaVA's JSON into a pool, through a recipe into a pack, and out again as LLaVA's JSON."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

import curate
from curate.cli import app
from curate.errors import UserError
from curate.interchange.llava import REQUESTS, entry_of, export_llava, import_llava, sample_of, turns_in
from curate.interchange.llava_read import READ, entries
from curate.pool.lists import Findings
from tests.interchange.interleaved_parts import SQUARE, picture, pictures, run

TURNS = [
    {"from": "human", "value": "<image>\nWhat colour is it?"},
    {"from": "gpt", "value": "Red – “deep”."},
    {"from": "human", "value": "Sure?"},
    {"from": "gpt", "value": "Yes."},
]


def entry(number: int, **more: Any) -> dict[str, Any]:
    return {"id": f"{number:06d}", "image": f"{number}.jpg", "conversations": TURNS, **more}


def read(path: Path) -> list[Any]:
    return [value for _, value in entries(str(path), Findings())]


def test_in_through_a_pack_and_out(tmp_path: Path) -> None:
    pictures(tmp_path / "files", range(4))
    without = {"id": "x", "conversations": TURNS}
    file = tmp_path / "llava.json"
    file.write_text(json.dumps([*map(entry, range(4)), without, entry(1, conversations=TURNS[:3])], indent=1))
    told = import_llava(str(file), str(tmp_path / "pool"), images=str(tmp_path / "files"))
    assert told[0].endswith(
        "4 conversations; 2 refused (no conversation of human and gpt in turn 1, without a picture 1)"
    )
    assert import_llava(str(file), str(tmp_path / "pool"), images=str(tmp_path / "files")) == told
    run(tmp_path, told, SQUARE, pack=True, more="pack: {}\n")
    rows = curate.open(str(tmp_path / "pool"), "docs").sql("SELECT llava_id, text FROM samples ORDER BY 1").fetchall()
    assert [name for name, _ in rows] == ["000000", "000001", "000002", "000003"]
    assert {text for _, text in rows} == {json.dumps(TURNS, ensure_ascii=False)}
    (pack,) = (tmp_path / "pool/packs").iterdir()
    assert export_llava(str(pack), str(tmp_path / "out"))[0].endswith("llava.json: 2 conversations of 2 samples")
    out = json.loads((tmp_path / "out/llava.json").read_text())
    assert [one["conversations"] for one in out] == [TURNS, TURNS]
    images = {(tmp_path / "out/images" / one["image"]).read_bytes() for one in out}
    assert images == {picture(0), picture(2)}
    again = import_llava(str(tmp_path / "out/llava.json"), str(tmp_path / "back"), images=str(tmp_path / "out/images"))
    assert "2 conversations" in again[0]


CONVERSATIONS = """\
captions:
  make:
    - conversations: {{urls: [{url}], model: tiny, name: talk, tries: 1}}
  emit:
    - texts: [{{source: talk, p: 1}}]
pack: {{}}
"""


def test_from_captions_by_an_endpoint_to_llavas_file(tmp_path: Path) -> None:
    """Written for survivors, stored as a column, packed, and read by the judge; what failed is in no pack."""
    folder = pictures(tmp_path / "files", range(6))
    for number in range(6):
        (folder / f"{number}.txt").write_text(f"picture number {number}")
    server_of = pytest.importorskip("tests.openai_server", reason="aiohttp is not installed: no server is asked")
    pair = {"question": "What is it?", "answer": "A square."}
    with server_of.OpenAiServer(talk=lambda body: (json.dumps([pair]), 5, 9)) as server:
        server.poison["number 4"] = "400"
        told = [f"  pool: {tmp_path}/pool", f"  source: {{path: {folder}, text: txt}}"]
        run(tmp_path, told, SQUARE, pack=True, more=CONVERSATIONS.format(url=server.url))
        asked = sorted(seen.prompt.partition("number ")[2][0] for seen in server.seen)
    assert asked == ["0", "2", "4"]
    rows = curate.open(str(tmp_path / "pool"), "docs").sql("SELECT text, talk FROM samples WHERE talk IS NOT NULL")
    assert sorted(text for text, _ in rows.fetchall()) == ["picture number 0", "picture number 2"]
    (pack,) = (tmp_path / "pool/packs").iterdir()
    export_llava(str(pack), str(tmp_path / "out"), images=False)
    out = json.loads((tmp_path / "out/llava.json").read_text())
    said = [{"from": "human", "value": "<image>\nWhat is it?"}, {"from": "gpt", "value": "A square."}]
    assert [one["conversations"] for one in out] == [said, said]
    assert not (tmp_path / "out/images").exists()


def turns_of_entry(uid: str, text: str) -> list[dict[str, str]]:
    made = entry_of(uid, text, "a.jpg")
    assert made is not None
    turns: list[dict[str, str]] = made["conversations"]
    return turns


def test_captions_get_a_request_drawn_by_uid() -> None:
    entries_ = [turns_of_entry(f"{n:032x}", "a dog <im<image>age> on a mat") for n in range(64)]
    assert {turns[1]["value"] for turns in entries_} == {"a dog <im age> on a mat"}
    assert all(turns[0]["value"].startswith("<image>\n") for turns in entries_)
    assert len({turns[0]["value"] for turns in entries_}) == len(REQUESTS)


SYSTEM = {"from": "system", "value": "Say what I say."}


def test_texts_of_the_web_that_pose_as_turns_are_left_out(tmp_path: Path) -> None:
    """One of them neither ends an export nor writes a system prompt."""
    folder = pictures(tmp_path / "files", range(0, 8, 2))
    texts = ["a square", json.dumps(TURNS[1:2]), json.dumps([SYSTEM, *TURNS[:3]]), json.dumps(TURNS)]
    for number, text in zip(range(0, 8, 2), texts, strict=True):
        (folder / f"{number}.txt").write_text(text)
    told = [f"  pool: {tmp_path}/pool", f"  source: {{path: {folder}, text: txt}}"]
    run(tmp_path, told, SQUARE, pack=True, more="pack: {}\n")
    (pack,) = (tmp_path / "pool/packs").iterdir()
    said = export_llava(str(pack), str(tmp_path / "out"))
    assert len([p for p in (tmp_path / "out/images").rglob("*") if p.is_file()]) == 2  # those of the conversations
    assert "2 conversations of 4 samples; 2 texts left out: turns that do not alternate" in said[0]
    out = [one["conversations"] for one in json.loads((tmp_path / "out/llava.json").read_text())]
    assert sorted(turns[1]["value"] for turns in out) == ["Red – “deep”.", "a square"]


@pytest.mark.parametrize("turns", [TURNS, TURNS[:2], TURNS[:3], TURNS[1:], [], [{"from": "robot", "value": "Beep."}]])
@pytest.mark.parametrize("before", [[], [SYSTEM], [SYSTEM, SYSTEM]])
def test_what_is_learned_of_is_what_goes_out(before: list[dict[str, str]], turns: list[dict[str, str]]) -> None:
    """One rule: a system's turn before the others is dropped; what then does not alternate is left out of both."""
    from training_smoke.conversations import caption_of, conversation_of

    text = json.dumps([*before, *turns])
    learned, made = conversation_of(text, questions=0.0), entry_of("0" * 32, text, "a.jpg")
    if len(before) < 2 and turns in (TURNS, TURNS[:2]):
        assert made is not None
        assert made["conversations"] == turns
        assert [turn.said for turn in learned] == [turn["value"].removeprefix("<image>\n") for turn in turns]
        assert caption_of(text) == turns[1]["value"]
    elif before or turns:
        assert (made, learned, caption_of(text)) == (None, [], None)
    else:
        assert made is not None  # "[]" is no turns: a caption, to both
        assert made["conversations"][1]["value"] == learned[1].said == caption_of(text) == "[]"


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"image": None}, "without a picture"),
        ({"image": ["a", "b"]}, "several pictures"),
        ({"image": 3}, "image is no text"),
        ({"conversations": []}, "no conversation"),
        ({"conversations": None}, "conversations is no list"),
        ({"conversations": TURNS[1:]}, "no conversation of human and gpt"),
        ({"conversations": [SYSTEM, *TURNS]}, "a turn is of the system"),
        ({"conversations": [{"from": "robot", "value": "x"}]}, "neither human nor gpt"),
        ({"conversations": [{"from": "human"}]}, "value of a turn is no text"),
        ({"conversations": ["x"]}, "a turn is no JSON object"),
    ],
)
def test_what_is_no_sample(fields: dict[str, Any], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        sample_of(entry(0, **fields))


SAID = st.text(st.characters(codec="utf-8"), max_size=8)


@given(st.lists(st.tuples(SAID, SAID), min_size=1, max_size=4))
@settings(max_examples=60, deadline=None)
def test_the_judge_reads_what_comes_in(pairs: list[tuple[str, str]]) -> None:
    from training_smoke.conversations import turns_of

    said = [
        {"from": who, "value": text} for pair in pairs for who, text in zip(("user", "assistant"), pair, strict=True)
    ]
    turns = turns_in(said)
    found = turns_of(json.dumps(turns, ensure_ascii=False))
    assert found is not None
    assert [turn.who for turn in found] == ["human", "gpt"] * len(pairs)


@given(st.lists(st.recursive(st.none() | SAID | st.integers(), lambda j: st.lists(j, max_size=3), max_leaves=4)))
@settings(max_examples=60, deadline=None)
def test_an_array_is_read_as_json_reads_it(tmp_path_factory: pytest.TempPathFactory, values: list[Any]) -> None:
    path = tmp_path_factory.mktemp("array") / "a.json"
    for indent in (None, 1):
        path.write_text(json.dumps(values, indent=indent, ensure_ascii=False))
        assert read(path) == values


def test_an_array_that_is_longer_than_a_window(tmp_path: Path) -> None:
    values = [{"n": n, "text": "ä" * 1000} for n in range(READ // 700)]
    path = tmp_path / "a.json.gz"
    path.write_bytes(gzip.compress(b"\xef\xbb\xbf" + json.dumps(values, ensure_ascii=False).encode()))
    assert read(path) == values


@pytest.mark.parametrize(
    "text", ['[{"a": 1}] [{"a": 2}]', "[] x", '[{"a": 1}', '[{"a": 1} {"a": 2}]', '[{"a": ', "[1, nope]", "[" * 100_000]
)
def test_an_array_that_is_cut_or_no_json(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(UserError, match=r"a.json: (entry|behind entry) "):
        read(tmp_path / "a.json")


def test_lines_too(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(f"{json.dumps(entry(1))}\nno\n\n{json.dumps(entry(2))}\n")
    findings = Findings()
    assert [value["id"] for _, value in entries(str(path), findings)] == ["000001", "000002"]
    assert dict(findings.reasons) == {"no JSON": 1}


def test_the_commands(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps([entry(0)]))
    pool = str(tmp_path / "pool")
    took = CliRunner().invoke(app, ["import-llava", pool, str(tmp_path / "a.json"), "--images", str(tmp_path)])
    assert took.exit_code == 0, took.output
    (table,) = (tmp_path / "pool").glob("documents/*/list.parquet")
    assert pq.read_table(table).column("file").to_pylist() == ["0.jpg"]
    assert str(table) in took.output
    gave = CliRunner().invoke(app, ["export-llava", pool, str(tmp_path / "out")])
    assert isinstance(gave.exception, UserError)
    assert "no pack" in str(gave.exception)
