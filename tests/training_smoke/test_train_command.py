"""`python -m training_smoke.train`: what is said there is what is trained, and errors are one line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.training_smoke.pack_parts import thirty
from tests.training_smoke.ranks import SMALL, told
from training_smoke.config import Config
from training_smoke.train import main


@pytest.fixture(scope="module")
def pack(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(thirty(tmp_path_factory.mktemp("pack")))


def test_a_configuration_is_trained_with_what_is_said_beside_it(
    tmp_path: Path, pack: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "config.json").write_text(json.dumps(SMALL.as_json()))
    said = [str(tmp_path / "run"), "--pack", pack, "--config", str(tmp_path / "config.json")]
    assert main([*said, "--objective", "siglip", "--seed", "3"]) == 0
    expected = SMALL.but(objective="siglip", init_seed=3, order_seed=3)
    assert Config.load(tmp_path / "run/config.json") == expected
    assert [line["step"] for line in told(tmp_path / "run")] == [2, 4, 6, 8]
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:2] for line in lines] == [["step", str(n)] for n in (2, 4, 6, 8)]
    assert main([*said, "--seed", "4"]) == 1
    assert "is the folder of another run" in capsys.readouterr().err


def test_a_pack_that_is_not_there_is_named(tmp_path: Path, pack: str, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "config.json").write_text(json.dumps(SMALL.as_json()))
    said = [str(tmp_path / "run"), "--config", str(tmp_path / "config.json"), "--pack", pack]
    assert main([*said, "--pack", str(tmp_path / "none")]) == 1
    captured = capsys.readouterr()
    assert captured.err.startswith("error: ")
    assert str(tmp_path / "none") in captured.err
    assert "Traceback" not in captured.err
    assert not (tmp_path / "run").exists()
