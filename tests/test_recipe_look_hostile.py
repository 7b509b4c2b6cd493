"""No caption, name or host can say anything in the recipe or on the terminal; inputs that are none; the command."""

from __future__ import annotations

import re
import sys
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from init_parts import ENGLISH, seen, urls, written

from curate.ask.output import visible
from curate.cli import main
from curate.errors import UserError
from curate.init import write_recipe
from curate.init.say import summary
from curate.init.write import comment
from curate.recipe_yaml import Document

# ---------------------------------------------------------------- hostile words

LINE_ENDS = "\n\r\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029"
WILD = st.one_of(st.characters(codec="utf-8"), st.sampled_from(LINE_ENDS))


def is_harmless(text: str) -> bool:
    """No control or format character, no line end but the plain one."""
    kinds = {unicodedata.category(c) for c in text.replace("\n", "")}
    return not kinds & {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}


@given(st.text(alphabet=st.one_of(st.characters(), st.sampled_from(LINE_ENDS + "#: -\u202e\ufeff\x00")), max_size=300))
def test_a_comment_stays_a_comment_whatever_is_in_it(text: str) -> None:
    made = comment(text, 2)
    assert all(re.fullmatch(r"  # .*", line) and len(line) <= 120 for line in made.splitlines())
    assert is_harmless(made)
    document = Document("c", f"recipe: x\n{made}seed: 3\n")
    assert (document.value, document.problems) == ({"recipe": "x", "seed": 3}, [])


@settings(max_examples=25, deadline=None)
@given(
    texts=st.lists(st.text(WILD, max_size=80), min_size=1, max_size=5),
    name=st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=20),
    hosts=st.lists(st.text(st.characters(codec="utf-8"), max_size=20), max_size=5),
)
def test_nothing_in_an_input_breaks_out_of_its_place(
    tmp_path_factory: pytest.TempPathFactory, texts: list[str], name: str, hosts: Sequence[str]
) -> None:
    folder = tmp_path_factory.mktemp("hostile")
    n = len(texts)
    column = "extra " + name
    links = [f"http://{h}/x" for h in hosts[:n]] + urls(n - len(hosts[:n]))
    values = {"url": links, "text": texts, column: texts, "licence": texts}
    pq.write_table(pa.table(values), folder / "a.parquet")
    recipe, text = written(folder, folder / "a.parquet")
    assert set(recipe.raw) <= {"recipe", "pool", "shard_size", "source", "ingest", "filters", "pack"}
    assert recipe.raw["source"].keys() <= {"path", "kind", "url", "text", "keep"}
    assert recipe.raw["ingest"] == {"resize": "long", "side": 512}
    assert is_harmless(text)
    assert max(map(len, text.split("\n"))) < 260
    said = summary(seen(folder / "a.parquet"), folder / "r.yaml")
    assert is_harmless(said)
    assert all(len(line) <= 100 for line in said.split("\n")[: said.split("\n").index("")])


def test_captions_that_would_end_a_comment_are_escaped(tmp_path: Path) -> None:
    text = f"nice{LINE_ENDS}pool: /etc # \x1b[31m\u202eegnp \U0001f600"
    pq.write_table(pa.table({"url": urls(3), "text": [text] * 3}), tmp_path / "a.parquet")
    _, written_text = written(tmp_path, tmp_path / "a.parquet")
    assert f'"{visible(text)}"' in " ".join(line.strip("# ") for line in written_text.splitlines())


# ---------------------------------------------------------------- errors and the command

EMPTY = {
    "names.csv": ("url,text\n", "names.csv: is empty: there is no row in it"),
    "nothing.csv": ("", "nothing.csv: is empty; its first line must name the columns"),
    "nothing.jsonl": ("", "nothing.jsonl: is empty: there is no row in it"),
    "ragged.csv": ("url,text\nhttp://a/1,a,b\n", "ragged.csv:2: 3 fields where the header has 2"),
    "no.parquet": ("PAR1 and then none", "no.parquet: cannot be read as parquet: Parquet magic bytes not found"),
    "no.tar": ("text" * 500, "no.tar: is not a tar: invalid header"),
    "cut.csv.gz": ("\x1f\x8b cut", "cut.csv.gz: damaged or cut-off gzip"),
    "what.xyz": ("text", "what.xyz: cannot tell its kind by its name"),
}


@pytest.mark.parametrize("name", EMPTY)
def test_inputs_that_are_none_are_refused_in_words(tmp_path: Path, name: str) -> None:
    content, message = EMPTY[name]
    (tmp_path / name).write_bytes(content.encode("latin-1"))
    with pytest.raises(UserError) as e:
        write_recipe(str(tmp_path / name), tmp_path / "r.yaml")
    assert str(e.value).startswith(f"{tmp_path}/{message}"), e.value
    assert not (tmp_path / "r.yaml").exists()


def test_empty_parquet_and_folders_without_pictures(tmp_path: Path) -> None:
    pq.write_table(pa.table({"url": pa.array([], pa.string())}), tmp_path / "a.parquet")
    with pytest.raises(UserError, match=r"a.parquet: is empty: there is no row in it"):
        seen(tmp_path / "a.parquet")
    with pytest.raises(UserError, match=r"it has .parquet files: give them as '.*/\*.parquet'"):
        seen(tmp_path)
    (tmp_path / "none").mkdir()
    with pytest.raises(UserError, match=r"none: no picture lies in this folder or below it$"):
        seen(tmp_path / "none")


def run(monkeypatch: pytest.MonkeyPatch, *words: Any) -> int:
    monkeypatch.setattr(sys, "argv", ["curate", *map(str, words)])
    try:
        main()
    except SystemExit as e:
        return int(e.code or 0)
    return 0


def test_the_command_says_what_it_saw_and_what_comes_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    pq.write_table(pa.table({"URL": urls(60), "TEXT": ENGLISH * 30}), "list.parquet")
    assert run(monkeypatch, "init", "list.parquet") == 0
    lines = capsys.readouterr().out.splitlines()
    assert re.fullmatch(r"looked at all of 60 rows in 1 file, [\d.]+ KB", lines[0])
    assert "  read as     url: URL, text: TEXT" in lines
    assert any(line.startswith("  captions    median 10 words") and "none empty" in line for line in lines)
    assert any(line.startswith("  hosts       7 in the sample, the largest host0.example 15%") for line in lines)
    assert "  curate plan recipe.yaml" in lines
    assert run(monkeypatch, "plan", "recipe.yaml") == 0
    assert run(monkeypatch, "init", "list.parquet") == 1
    assert "recipe.yaml: exists already" in capsys.readouterr().err
