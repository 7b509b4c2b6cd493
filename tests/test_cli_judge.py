"""`curate compare` as a person calls it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from compared import build_pool, held_out, recipe_file


def curate(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    program = [sys.executable, "-c", "from curate.cli import main; main()"]
    return subprocess.run([*program, *words], cwd=folder, capture_output=True, text=True, timeout=240, check=False)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("judged")
    pool = build_pool(folder / "pool", 160)
    recipe_file(folder, "right", pool, "url LIKE '%/right/%'")
    held_out(folder / "sets", 12)
    return folder


ASKED = ("--scale", "feature", "--samples-seen", "512", "--executor", "inline", "--quiet")


def test_the_verdict_the_page_and_the_same_as_json(folder: Path) -> None:
    words = ("compare", "right.yaml", *ASKED, "--seeds", "2", "--evaluate", "sets")
    said = curate(folder, *words, "--out", "page.html")
    assert said.returncode == 0, said.stderr
    assert "right" in said.stdout
    assert "no_filter again" in said.stdout
    assert said.stdout.rstrip().endswith("page: page.html")
    assert "<h1" in (folder / "page.html").read_text()
    again = curate(folder, *words, "--json")
    found = json.loads(again.stdout)
    assert [e["name"] for e in found["entries"]] == ["no_filter", "right", "random subset", "no_filter again"]
    assert {r["seed"] for e in found["entries"] for r in e["runs"]} == {0, 1}


def test_a_scale_for_gpus_says_so_where_there_is_none(folder: Path) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("a GPU is here")
    said = curate(folder, "compare", "right.yaml", "--scale", "debug", "--executor", "inline", "--evaluate", "sets")
    assert said.returncode == 1
    assert "asks for 1 GPU, and torch sees 0 here; `--gpus 0` trains on the CPU" in said.stderr


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--scale", "huge"), "--scale huge: there are feature, tiny"),
        (("--scale", "feature"), "nothing to evaluate on"),
        (("--evaluate", "pool"), "pool: no evaluation set"),
        (("--evaluate", "sets", "--controls", "oracle"), "--controls oracle: there are no_filter, random, a_a"),
        (("--evaluate", "sets", "--primary", "cenes/loss"), "primary metric cenes/loss: no such set"),
        (("--evaluate", "sets", "--gpus", "2", "--scale", "tiny"), "--gpus 2: a run of scale tiny is too small"),
        (("--evaluate", "sets", "--family", "vilt"), "family vilt: the judge trains clip, siglip, meru, "),
    ],
)
def test_what_is_wrong_is_said_before_anything_runs(folder: Path, words: Sequence[str], told: str) -> None:
    said = curate(folder, "compare", "right.yaml", *words)
    assert said.returncode == 1
    assert told in said.stderr
    assert "Traceback" not in said.stderr
