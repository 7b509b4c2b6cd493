"""What both stages of BLIP-2 begin with: weights of ours and of others, and files that need no folder any more."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from tests.training_smoke.families.mini_blip2 import TEXTS, mini, pictures, shaken
from training_smoke.config import Config, Towers
from training_smoke.errors import TrainingError
from training_smoke.families import family
from training_smoke.families.blip2 import Blip2
from training_smoke.families.blip2_parts import read_weights
from training_smoke.towers_file import load_model, save_model


@pytest.fixture(scope="module", autouse=True)
def _mini() -> Iterator[None]:
    with mini():
        yield


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A first stage in transformers' format."""
    model = Blip2.build(Towers("mini"), {}, seed=0)
    shaken(model)
    model.export(tmp_path / "theirs")
    return tmp_path / "theirs"


@pytest.mark.parametrize(("name", "where"), [("blip", "encoders"), ("albef", "reader.encoders")])
def test_the_image_encoder_of_a_run_is_not_its_momentum_encoder(tmp_path: Path, name: str, where: str) -> None:
    towers = Towers("tiny", image_size=32)
    settings = {"width": 32, "layers": 1, "image_layers": 2, "patch": 16, "queue": 4}
    model = family(name).build(towers, settings, seed=3)
    shaken(model)  # of which the momentum encoders know nothing
    save_model(tmp_path / "towers.pt", model, Config(objective=name, towers=towers, settings=settings), {})
    weights = read_weights(str(tmp_path / "towers.pt"))
    assert weights.vision == f"{where}.vision."
    begun = Blip2.build(Towers("mini", weights=str(tmp_path / "towers.pt")), {}, seed=0)
    for part, value in begun.model.vision_model.state_dict().items():
        assert torch.equal(value, model.state_dict()[f"{where}.vision.{part}"]), part


def test_a_file_needs_no_folder(folder: Path, tmp_path: Path) -> None:
    towers = Towers(str(folder), weights=str(folder), context=12)
    model = Blip2.build(towers, {}, seed=0).eval()
    save_model(tmp_path / "towers.pt", model, Config(objective="blip2", towers=towers), {})
    shutil.rmtree(folder)
    again = load_model(tmp_path / "towers.pt")
    assert isinstance(again, Blip2)
    assert torch.equal(again.tokenize(TEXTS), model.tokenize(TEXTS))
    assert torch.equal(again.match(pictures(), TEXTS), model.match(pictures(), TEXTS))
    assert again.words.decode(again.tokenize(TEXTS)) == model.words.decode(model.tokenize(TEXTS))
    again.export(tmp_path / "again")
    assert (tmp_path / "again" / "tokenizer.json").is_file()


def test_a_folder_without_its_tokenizer_is_refused(folder: Path) -> None:
    for file in folder.glob("*token*"):
        file.unlink()
    with pytest.raises(TrainingError, match=r"do not belong together|no model and tokenizer"):
        Blip2.build(Towers(str(folder)), {}, seed=0)


def test_what_is_in_half_precision_is_trained_in_single(folder: Path) -> None:
    Blip2.build(Towers("mini"), {}, seed=0).model.half().save_pretrained(folder)
    model = Blip2.build(Towers(str(folder), weights=str(folder)), {}, seed=0)
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    assert torch.isfinite(model.match(pictures(), TEXTS)).all()
