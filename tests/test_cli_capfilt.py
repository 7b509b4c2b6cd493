"""`curate capfilt`: from a BLIP, clean pairs and a web to a pack, and what is said where that cannot be."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from torch.optim.optimizer import register_optimizer_step_post_hook
from typer.testing import CliRunner, Result

from curate.cli import app
from curate.errors import UserError
from tests.run.capfilt_parts import CLEAN, WEB, blip, clean_pack, web_pack
from training_smoke.packs import Pack

SHORT = ("--epochs", "1", "--batch", "4", "--executor", "inline", "--quiet")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("capfilt")


@pytest.fixture(scope="module")
def words(root: Path) -> tuple[str, str, str]:
    """A BLIP, clean pairs, a web, as a person names them."""
    clean = clean_pack(root)
    return str(blip(root, clean)), clean.url, web_recipe(root, web_pack(root))


@pytest.fixture(autouse=True)
def cache(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CURATE_CACHE", str(root / "cache"))


def web_recipe(root: Path, pack: Pack) -> str:
    (root / "web.yaml").write_text(
        f"recipe: web\nsource: {{path: '{pack.url}/*.tar', kind: webdataset, uid: null}}\n"
        "filters:\n  - image_size: {min_side: 10}\n"
    )
    return str(root / "web.yaml")


def said(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["capfilt", *map(str, arguments)])


def test_from_end_to_end(words: tuple[str, str, str], tmp_path: Path) -> None:
    done = said(*words, "--out", tmp_path / "out", *SHORT)
    assert done.exit_code == 0, done.output
    found = json.loads((tmp_path / "out" / "summary.json").read_text())
    small = WEB // 4  # one in four pictures is 7 pixels wide
    assert (found["clean"], found["web"]["pictures"]) == (CLEAN, WEB - small)  # clean pairs are asked nothing
    assert f"recipe: {tmp_path}/out/capfilt.yaml" in done.output
    assert f"{'clean pairs':<32} {found['clean']:>12,}" in done.output
    assert (tmp_path / "out" / "report.html").exists()
    pack = Pack.open(next((tmp_path / "out" / "pool" / "packs").iterdir()))
    assert len(pack) == found["pairs"]


def test_without_a_run_models_and_recipe_are_there(words: tuple[str, str, str], tmp_path: Path) -> None:
    done = said(*words, "--out", tmp_path / "out", "--no-run", *SHORT)
    assert done.exit_code == 0, done.output
    there = {p.name for p in (tmp_path / "out").iterdir()}
    assert there == {"captioner", "captioner.pt", "filter", "filter.pt", "capfilt.yaml", "lock"}


def test_ctrl_c_says_how_to_go_on(words: tuple[str, str, str], tmp_path: Path) -> None:
    def stop(*_: Any) -> None:
        raise KeyboardInterrupt

    handle = register_optimizer_step_post_hook(stop)
    try:
        done = said(*words, "--out", tmp_path / "out", *SHORT)
    finally:
        handle.remove()
    assert done.exit_code == 130
    assert "interrupted; what was finished is kept. Go on with: curate" in done.output
    assert not (tmp_path / "out" / "captioner.pt").exists()


@pytest.mark.parametrize(
    ("place", "word", "expected"),
    [
        (0, "{root}/web", "is of class none: BLIP begins with"),
        (1, "{root}", "is a folder without manifest.json"),
        (2, "no_such_web", "no_such_web"),
    ],
)
def test_what_is_wrong_is_named(
    words: tuple[str, str, str], root: Path, tmp_path: Path, place: int, word: str, expected: str
) -> None:
    asked = [*words]
    asked[place] = word.format(root=root)
    done = said(*asked, "--out", tmp_path / "out", *SHORT)
    assert isinstance(done.exception, UserError), done.output
    assert expected in str(done.exception)


def test_another_fine_tuning_in_the_folder_is_refused(words: tuple[str, str, str], tmp_path: Path) -> None:
    assert said(*words, "--out", tmp_path / "out", "--no-run", *SHORT).exit_code == 0
    done = said(*words, "--out", tmp_path / "out", *SHORT, "--seed", "3")
    assert isinstance(done.exception, UserError)
    assert "another fine-tuning (another tuned): give another --out, or remove it" in str(done.exception)


@pytest.mark.slow
@pytest.mark.parametrize(
    "seen", ["captioner/checkpoints/step-000000001.pt", "captioner.pt", "filter.pt", "pool/columns"]
)
def test_a_killed_command_goes_on_to_the_same(
    words: tuple[str, str, str], root: Path, tmp_path: Path, seen: str
) -> None:
    """kill -9 as soon as something is there; then the pairs are those of a command that nobody killed."""
    command = [sys.executable, "-m", "curate.cli", "capfilt", *words, *SHORT, "--out"]
    with subprocess.Popen([*command, str(tmp_path / "out")], env=os.environ | {"OMP_NUM_THREADS": "1"}) as process:
        until = time.monotonic() + 900
        while not (tmp_path / "out" / seen).exists() and process.poll() is None and time.monotonic() < until:
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
    assert (tmp_path / "out" / seen).exists()
    assert not (tmp_path / "out" / "summary.json").exists()
    assert said(*words, "--out", tmp_path / "out", *SHORT).exit_code == 0
    if not (root / "whole").exists():
        assert said(*words, "--out", root / "whole", *SHORT).exit_code == 0
    one, other = (json.loads((out / "summary.json").read_text()) for out in (tmp_path / "out", root / "whole"))
    assert {n: v for n, v in one.items() if n != "pick"} == {n: v for n, v in other.items() if n != "pick"}
