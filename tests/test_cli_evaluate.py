"""`curate evaluate`: one model on its sets, two against each other, and what is said where that cannot be."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
import typer
from compared import held_out
from typer.testing import CliRunner, Result

from curate.cli_evaluate import evaluate
from curate.errors import UserError
from training_smoke import checkpoint
from training_smoke.config import Config, Towers
from training_smoke.evaluate import TASKS
from training_smoke.evaluate.aggregate import read_results
from training_smoke.objectives import OBJECTIVES
from training_smoke.towers import build
from training_smoke.towers_file import save_towers

app = typer.Typer()
app.command()(evaluate)

TOWERS = Towers("tiny-conv", image_size=16, context=8)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """a.pt and b.pt: networks that know nothing; sets/scenes, sets/colours: held out; probed: colours with a train/."""
    root = tmp_path_factory.mktemp("evaluate")
    torch.set_num_threads(1)
    for name, seed in (("a", 0), ("b", 1)):
        config = Config(towers=TOWERS)
        about = {"config": config.as_json(), "objective": {"logit_scale": 2.0}}
        save_towers(root / f"{name}.pt", build(TOWERS, seed), TOWERS, about)
    _, colours = held_out(root / "sets", 24)
    shutil.copytree(colours, root / "probed")
    shutil.copytree(colours / "test", root / "probed" / "train")
    return root


def asked(folder: Path, model: str, *words: object) -> Result:
    return CliRunner().invoke(app, [str(folder / model), *map(str, words), "--device", "cpu"], catch_exceptions=False)


def found(folder: Path, *words: object) -> dict[str, dict[str, object]]:
    said = json.loads(asked(folder, "a.pt", *words, "--json", "-q").stdout)
    return {one["name"]: one for one in said["sets"]}


def test_a_model_alone(folder: Path) -> None:
    said = asked(folder, "a.pt", folder / "sets", "-q")
    assert said.exit_code == 0
    head, colours, scenes = said.stdout.splitlines()
    assert head.split() == ["set", "metric", "items", "score", "95", "%", "of", "items"]
    assert colours.split()[:3] == ["colours", "acc1", "24"]
    assert scenes.split()[:3] == ["scenes", "mean_recall@1", "24"]
    one = found(folder, folder / "sets")["colours"]
    assert one["interval"]["low"] <= one["score"] <= one["interval"]["high"]
    assert one["score"] == one["metrics"]["acc1"] == one["interval"]["mean"]
    assert "loss" in one["metrics"]  # the file says with which objective it was trained


def test_two_models_against_each_other(folder: Path) -> None:
    said = asked(folder, "a.pt", folder / "sets", "--against", folder / "b.pt", "-q").stdout
    assert f"a.pt against {folder}/b.pt: " in said.replace("\n", " ")
    assert "takes several seeds" in said.replace("\n", " ")
    one = found(folder, folder / "sets", "--against", folder / "b.pt")["colours"]
    difference = one["difference"]
    assert difference["mean"] == pytest.approx(one["score"] - one["other"])
    assert difference["low"] <= difference["mean"] <= difference["high"]
    same = found(folder, folder / "sets", "--against", folder / "a.pt")["scenes"]
    assert (same["difference"]["low"], same["difference"]["high"]) == (0, 0)


def test_probes_where_there_is_a_part_to_train_on(folder: Path) -> None:
    sets = found(folder, folder / "probed", folder / "sets" / "scenes", "--probe")
    assert sets["probed"]["metrics"]["knn_acc1"] >= 0
    assert sets["probed"]["metrics"]["lp_acc1"] > sets["probed"]["score"]  # it was fitted on the very pictures
    assert "lp_acc1" not in sets["scenes"]["metrics"]
    said = asked(folder, "a.pt", folder / "probed", "--probe", "-q").stdout
    assert "linear probe" in said
    with pytest.raises(UserError, match="--probe: none of the sets has classes and a train/ beside test/: scenes"):
        asked(folder, "a.pt", folder / "sets" / "scenes", "--probe")


def test_results_are_kept_and_not_made_again(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "results.jsonl"
    first = asked(folder, "a.pt", folder / "sets" / "colours", "--out", out)
    lines = read_results(out)
    assert [(line["dataset"], line["task"]) for line in lines] == [("colours", "zeroshot_classification")]
    assert "evaluating on colours" in first.stderr
    lines[0]["metrics"]["main_metric"] = 0.25  # what is read is what the file says
    out.write_text(json.dumps(lines[0]) + "\n")
    again = asked(folder, "a.pt", folder / "sets", "--out", out, "-q").stdout
    assert "25.0 %" in again
    assert {line["dataset"] for line in read_results(out)} == {"colours", "scenes"}
    asked(folder, "b.pt", folder / "sets" / "colours", "--out", out, "-q")
    assert len({line["checkpoint"] for line in read_results(out)}) == 2
    asked(folder, "a.pt", folder / "probed", "--out", out, "-q")
    asked(folder, "a.pt", folder / "probed", "--out", out, "--probe", "-q")  # asks for more than the line says
    (probed,) = [line for line in read_results(out) if line["dataset"] == "probed"]
    assert "lp_acc1" in probed["metrics"]


def test_the_folder_of_a_run(folder: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    (run / "checkpoints").mkdir(parents=True)
    config = Config(towers=TOWERS)
    (run / "config.json").write_text(json.dumps(config.as_json()))
    with pytest.raises(UserError, match="there is no model in it"):
        asked(tmp_path, "run", folder / "sets", "-q")
    objective = OBJECTIVES["clip"]()
    state = {"towers": build(TOWERS, 0).state_dict(), "objective": objective.state_dict(), "step": 1}
    checkpoint.save(run / "checkpoints", state)
    said = json.loads(asked(tmp_path, "run", folder / "sets", "-q", "--json").stdout)
    assert {s["name"]: s["score"] for s in said["sets"]} == {
        n: s["score"] for n, s in found(folder, folder / "sets").items()
    }


def test_of_datacomps_sets_what_is_missing_is_named(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder / "sets" / "colours", tmp_path / "evalsets" / "wds_mnist_test")
    shutil.copytree(folder / "sets" / "scenes", tmp_path / "evalsets" / "mine")
    said = json.loads(asked(folder, "a.pt", tmp_path / "evalsets", "-q", "--json").stdout)
    assert [s["name"] for s in said["sets"]] == ["mine"]
    assert "holds 24 of the 10,000 samples of MNIST" in said["missing"]["MNIST"]
    assert len(said["missing"]) == len(TASKS)
    assert said["datacomp"] == {}
    assert "not evaluated: " in asked(folder, "a.pt", tmp_path / "evalsets", "-q").stdout


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("nothing.pt", "sets"), "nothing.pt: no such file or folder. A model is a file"),
        (("sets/colours/classnames.txt", "sets"), "is no file of towers"),
        (("a.pt", "a.pt"), "no evaluation set"),
        (("a.pt", "sets", "--against", "ViT-Z:none"), "no towers 'ViT-Z'"),
    ],
)
def test_what_cannot_be_is_said(folder: Path, words: Sequence[str], told: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    with pytest.raises(UserError, match=told):
        CliRunner().invoke(app, [*words, "--device", "cpu"], catch_exceptions=False)


@pytest.mark.parametrize("device", ["tpu", "cuda"])
def test_a_device_that_is_not_here(folder: Path, device: str) -> None:
    if device == "cuda" and torch.cuda.is_available():
        pytest.skip("a GPU is here")
    with pytest.raises(UserError, match=f"--device {device}: it is cpu, or cuda where torch sees a GPU; here"):
        CliRunner().invoke(
            app, [str(folder / "a.pt"), str(folder / "sets"), "--device", device], catch_exceptions=False
        )
