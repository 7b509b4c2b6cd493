"""`curate train-filter`: from a pack or a recipe to a file that recipes name, and what is said where that cannot be."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import typer
from typer.testing import CliRunner, Result

from curate.cli_training import train_filter
from curate.errors import UserError
from tests.training_smoke.pack_parts import packed, picture, pictures
from training_smoke.config import Config, Optimiser, Towers

app = typer.Typer()
app.command()(train_filter)

SMALL = Config(
    towers=Towers("tiny-conv", image_size=16, context=8),
    optimiser=Optimiser(warmup=8),
    samples=32,
    batch=8,
    log_every=2,
)


@pytest.fixture(scope="module")
def pack(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return packed(tmp_path_factory.mktemp("pack"), pictures(12), samples=8)


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("CURATE_CACHE", str(tmp_path / "cache"))
    (tmp_path / "config.json").write_text(json.dumps(SMALL.as_json()))
    return str(tmp_path / "config.json")


def asked(*words: object) -> Result:
    return CliRunner().invoke(app, [str(w) for w in words], catch_exceptions=False)


def test_from_a_pack(pack: Path, config: str, tmp_path: Path) -> None:
    out = tmp_path / "dfn"
    said = asked(pack, "--out", out, "--config", config, "--seed", 5, "--samples", 20, "--average", "ema:0.9")
    assert said.exit_code == 0
    assert said.output.splitlines()[-2:] == [f"filter: {out}/filter.pt", f"card: {out}/README.md"]
    about = json.loads((out / "filter.json").read_text())
    assert (about["config"]["init_seed"], about["config"]["order_seed"], about["config"]["samples"]) == (5, 5, 16)
    assert about["average"] == "ema:0.9"


def test_from_a_recipe_with_a_fine_tune(pack: Path, config: str, tmp_path: Path) -> None:
    rows = pa.table({"image": [picture(i, "PNG") for i in range(12)], "text": [f"picture {i}" for i in range(12)]})
    pq.write_table(rows, tmp_path / "rows.parquet")
    (tmp_path / "r.yaml").write_text(
        f"recipe: clean\npool: {tmp_path}/pool\nsource: {{path: {tmp_path}/rows.parquet, url: null}}\n"
        "filters:\n  - image_size: {min_side: 10}\nrun: {executor: inline}\n"
    )
    out = tmp_path / "dfn"
    words = [tmp_path / "r.yaml", "--out", out, "--config", config, "--fine-tune", pack, "--average", "wise:0.5", "-q"]
    assert asked(*words).exit_code == 0
    about = json.loads((out / "filter.json").read_text())
    assert f"{tmp_path}/pool/packs/clean@" in about["packs"][0]["pack"]
    assert about["packs"][0]["samples"] == 9  # one in four of the pictures is 7 pixels wide
    assert about["fine_tune"]["packs"][0]["pack"] == str(pack)
    assert about["wise"] == 0.5
    before = (out / "filter.pt").stat().st_mtime_ns
    assert asked(*words).exit_code == 0
    assert (out / "filter.pt").stat().st_mtime_ns == before


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--scale", "huge"], "--scale huge: it is one of .*tiny"),
        (["--scale", "tiny", "--config", "c.json"], "give one of them"),
        (["--config", "nowhere.json"], r"nowhere\.json is no configuration"),
        (["--average", "mean:3"], "average 'mean:3': it is ema:D"),
        (["--average", "wise:half"], "it is wise:S with S between 0 and 1"),
        (["--average", "wise:0.5"], "wise averages with the weights from before a fine-tune: it needs one"),
        (["--average", "ema:0.9", "--average", "last:3"], "one mean over steps"),
        (["--fine-tune-samples", "10"], "say on which pairs"),
    ],
)
def test_what_makes_no_sense_is_refused(pack: Path, tmp_path: Path, words: list[str], said: str) -> None:
    with pytest.raises(UserError, match=said):
        asked(pack, "--out", tmp_path / "dfn", *words)
    assert not (tmp_path / "dfn").exists()


def test_what_is_neither_pack_nor_recipe_is_named(config: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is a folder without manifest"):
        asked(tmp_path, "--out", tmp_path / "dfn", "--config", config)
    with pytest.raises(UserError, match="no_such_recipe"):
        asked("no_such_recipe", "--out", tmp_path / "dfn", "--config", config)
