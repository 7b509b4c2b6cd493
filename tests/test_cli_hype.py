"""`curate train-filter --objective meru` and `curate hype-reference`: from a pack to what `hype` names."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from curate.cli import app
from curate.errors import UserError
from stages.hype import Hype
from tests.training_smoke.pack_parts import packed, pictures
from training_smoke.config import Config, Towers
from training_smoke.models import build_model
from training_smoke.towers_file import save_model


def asked(*words: object) -> Result:
    return CliRunner().invoke(app, [str(w) for w in words])


@pytest.fixture(scope="module")
def pack(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return packed(tmp_path_factory.mktemp("pack"), pictures(24), samples=8)


@pytest.fixture(scope="module")
def network(pack: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("meru")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CURATE_CACHE", str(folder / "cache"))
        done = asked("train-filter", pack, "--out", folder / "net", "--objective", "meru", "--samples", 512)
    assert done.exit_code == 0, done.output
    return folder / "net"


def test_from_a_pack_to_the_columns_stage(
    pack: Path, network: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights, out = network / "filter.pt", tmp_path / "reference.npz"
    monkeypatch.chdir(network)  # as people do: names without a slash may be tags elsewhere
    done = asked("hype-reference", pack, "--weights", "filter.pt", "--out", out, "--count", 20, "--seed", 3)
    assert done.exit_code == 0, done.output
    assert done.output == f"reference: {out}, 20 pairs\n"
    assert np.load(out)["image"].shape == (20, 128)
    assert Hype(weights=str(weights), reference=str(out)).files() == (str(weights), str(out))


def test_its_card_names_the_stage_that_reads_it(network: Path) -> None:
    card = (network / "README.md").read_text()
    assert "objective of MERU" in card
    assert "hype:" in card
    assert "hype-reference" in card
    assert "clip_score:" not in card


def test_towers_of_another_objective_are_refused_before_a_pair_is_read(tmp_path: Path) -> None:
    config = Config(objective="clip", towers=Towers("tiny-conv", image_size=16, context=8))
    weights = tmp_path / "clip.pt"
    save_model(weights, build_model(config), config, {"objective": {"logit_scale": 2.0}})
    nothing = tmp_path / "no such pack"  # is not looked for
    done = asked("hype-reference", nothing, "--weights", weights, "--out", tmp_path / "r.npz")
    assert isinstance(done.exception, UserError)
    assert "clip.pt is of towers trained with clip; `curate train-filter --objective meru` makes one" in str(
        done.exception
    )
    assert not (tmp_path / "r.npz").exists()


def test_a_folder_that_is_no_pack_is_refused(network: Path, tmp_path: Path) -> None:
    done = asked("hype-reference", tmp_path, "--weights", network / "filter.pt", "--out", tmp_path / "r.npz")
    assert isinstance(done.exception, UserError)
    assert "no pack" in str(done.exception)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--objective", "blip"), "it is one of clip, siglip, meru"),
        (("--objective", "meru", "--config", "x"), "one of"),
    ],
)
def test_an_objective_that_a_filter_cannot_have(
    pack: Path, tmp_path: Path, options: tuple[str, ...], said: str
) -> None:
    done = asked("train-filter", pack, "--out", tmp_path / "net", *options)
    assert isinstance(done.exception, UserError)
    assert said in str(done.exception)
