"""`curate recipes`: what the list says is read off the recipes."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from curate.cli import main
from curate.recipe import Recipe, builtin_names, load_recipe
from curate.recipe_list import WIDTH, built_in_file, listed, needs, one_as_json, short_paper, shown, table
from stages.base import IMAGE, Column, Need, Stage


class Weighty(Stage):
    """A stage with weights and a GPU."""

    weights: str = "/nowhere/clip.pt"

    def reads(self) -> tuple[Column, ...]:
        return (IMAGE,)

    def writes(self) -> pa.Schema:
        return pa.schema([("weighty", pa.float32())])

    def need(self) -> Need:
        return Need(gpus=1)

    def files(self) -> tuple[str, ...]:
        return (self.weights,)


def recipe(folder: Path, text: str) -> Recipe:
    (folder / "r.yaml").write_text(f"recipe: mine\n{text}")
    return load_recipe(str(folder / "r.yaml"))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", []),
        ("filters: [{where: not blank}, {language: {keep: [en]}}]\n", []),  # its model comes with a package
        ("filters: [{where: similarity > 0.3 and width > 3}]\n", ["input column similarity"]),
        ("filters: [{in_subset: {path: a/best.npy, over: pool}}]\n", ["list best.npy"]),
        ("source: {path: web/list.parquet}\n", ["input list.parquet"]),
        ("columns: [{language: {model: gone/lid.176.bin}}]\n", ["lid.176.bin"]),
        ("columns: ['tests.test_recipe_list:Weighty']\n", ["weights clip.pt", "a GPU"]),
        ("filters: [{top_fraction: {column: score, fraction: 0.3, over: pool}}]\n", ["input column score"]),
        ("captions: {emit: [{texts: [{source: caption_de}]}]}\n", ["input column caption_de"]),
    ],
)
def test_needs_are_read_off_the_recipe(tmp_path: Path, text: str, expected: list[str]) -> None:
    assert needs(recipe(tmp_path, text)) == expected


def test_all_built_in_recipes_are_listed_with_year_and_paper() -> None:
    found = {f.name: f for f in listed()}
    assert list(found) == builtin_names()
    assert (found["datacomp_basic"].year, short_paper(found["datacomp_basic"].paper)) == (
        2023,
        "DataComp (Gadre et al. 2023)",
    )
    assert found["demo"].needs == ("input list.parquet",)
    for f in found.values():
        assert Path(f.file).is_file()
        assert (f.year is None) == (short_paper(f.paper) == ""), f.name  # a paper has its year, and only that
        assert f.year is None or str(f.year) in f.paper


@pytest.mark.parametrize(
    ("paper", "short"),
    [
        ("DataComp (Gadre et al. 2023), baseline; followed apply_filter.py", "DataComp (Gadre et al. 2023)"),
        ("MetaCLIP (Xu, Xie, Tan 2024), balancing", "MetaCLIP (Xu, Xie, Tan 2024)"),
        ("none: thresholds after DataComp", ""),
        ("", ""),
    ],
)
def test_papers_are_shortened(paper: str, short: str) -> None:
    assert short_paper(paper) == short


def test_the_table_is_aligned_and_fits_a_terminal() -> None:
    lines = table(listed()).splitlines()
    assert max(map(len, lines)) <= WIDTH == 100
    start = lines[0].index("what it keeps")
    body = lines[1 : lines.index("")]
    assert all(len(line) <= start or line[start - 1] == " " for line in body)
    assert {line.split()[0] for line in body if line[0] != " "} == set(builtin_names())
    words = " ".join(" ".join(line[start:] for line in body).split())
    assert all(f.description in words for f in listed())


@pytest.mark.parametrize("name", builtin_names())
def test_one_recipe_is_printed_so_that_it_loads_again(tmp_path: Path, name: str) -> None:
    text = shown(name)
    (tmp_path / "again.yaml").write_text(text)
    assert load_recipe(str(tmp_path / "again.yaml")) == load_recipe(name)
    assert str(built_in_file(name)) in text
    assert f"#   extends: {name}\n" in text
    example = next(line for line in text.splitlines() if line.startswith("#   --set ")).split()[-1]
    assert load_recipe(name, [example]).name == name


def test_a_file_of_ones_own_is_shown_with_what_it_extends_merged_in(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("recipe: mine\nextends: dedup\npack: {samples: 7}\n")
    text = shown(str(path))
    assert f"lies in {path}" in text
    assert "by: sha256" in text
    assert "samples: 7" in text


def call(words: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    monkeypatch.setattr(sys, "argv", ["curate", *words.split()])
    main_status = 0
    try:
        main()
    except SystemExit as e:
        main_status = int(e.code or 0)
    return main_status, *capsys.readouterr()


def test_the_command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    listing = call("recipes", monkeypatch, capsys)[1]
    assert " ".join(listing.splitlines()[0].split()) == "name year paper needs what it keeps"
    everything = json.loads(call("recipes --json", monkeypatch, capsys)[1])
    assert [f["name"] for f in everything] == builtin_names()
    one = json.loads(call("recipes dedup --json", monkeypatch, capsys)[1])
    assert (one["needs"], one["recipe"]["recipe"]) == ([], "dedup")
    status, out, err = call("recipes dedupe", monkeypatch, capsys)
    assert (status, out) == (1, "")
    assert "did you mean 'dedup'?" in err


def test_the_list_fetches_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Many recipes name weights of hubs: gigabytes, which who only asks what there is must not set off."""
    from stages import clip_weights, hub_weights

    asked: list[object] = []

    def fetch(*_: object, **how: object) -> None:
        if not how.get("local_files_only"):
            asked.append(how)
        raise FileNotFoundError("none here")

    monkeypatch.setattr("huggingface_hub.snapshot_download", fetch)
    monkeypatch.setattr("open_clip.pretrained.download_pretrained", fetch)
    clip_weights._fetched.cache_clear()
    monkeypatch.setattr(hub_weights, "_TAKEN", {})
    assert any(found.needs for found in listed())
    for name in ("blip_capfilt", "hype"):
        assert shown(name)
        assert one_as_json(name)
    assert asked == []
