"""Files of towers that cannot be read say why."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from training_smoke.config import Config, Towers
from training_smoke.errors import TrainingError
from training_smoke.towers import build
from training_smoke.towers_file import is_ours, load_model, save_model

SMALL = Towers("tiny-conv", image_size=16, context=8)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    save_model(tmp_path / "towers.pt", build(SMALL, seed=0), Config(towers=SMALL), {})
    return tmp_path / "towers.pt"


def changed(file: Path, **parts: Any) -> None:
    said = torch.load(file, weights_only=True)
    said = {name: value for name, value in (said | parts).items() if value is not None}
    torch.save(said, file)


@pytest.mark.parametrize("part", ["about", "towers", "state"])
def test_a_part_that_is_not_there_is_named(file: Path, part: str) -> None:
    changed(file, **{part: None})
    assert is_ours(file)
    with pytest.raises(TrainingError, match=f"towers.pt lacks its part {part}"):
        load_model(file)
    with pytest.raises(TrainingError, match=f"towers.pt lacks its part {part}"):
        build(Towers("tiny-conv", weights=str(file)), seed=0)


def test_a_field_of_another_version_is_named(file: Path) -> None:
    changed(file, towers={"name": "tiny-conv", "image_size": 16, "depth": 3})
    with pytest.raises(TrainingError, match=r"towers.pt says depth of its towers: it is of another version"):
        load_model(file)


def test_settings_may_be_null(file: Path) -> None:
    said = torch.load(file, weights_only=True)
    changed(file, about={"config": said["about"]["config"] | {"settings": None}})
    assert load_model(file).image_size == 16
