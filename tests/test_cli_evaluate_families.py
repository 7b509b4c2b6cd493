"""`curate evaluate` of a model that writes: captions, classes by likelihood, and what it is not able to do."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
import typer
from compared import held_out
from typer.testing import CliRunner, Result

from curate.cli_evaluate import evaluate
from curate.errors import UserError
from curate.run.compare.model import open_model
from training_smoke.config import Config, Towers, scale
from training_smoke.evaluate.aggregate import read_results
from training_smoke.evaluate.pictures import spread
from training_smoke.evaluate.run import evaluated
from training_smoke.models import build_model
from training_smoke.towers import build
from training_smoke.towers_file import save_model, save_towers

pytest.importorskip("tokenizers", reason="models that write need the extra `models`")

app = typer.Typer()
app.command()(evaluate)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """write.pt and other.pt: captioners that know nothing; blind.pt: one without vectors of pictures; pairs.pt: two
    towers; sets/scenes, sets/colours, sets/asked: captions, classes and questions."""
    root = tmp_path_factory.mktemp("families")
    torch.set_num_threads(1)
    for name, seed in (("write", 0), ("other", 1)):
        config = scale("tiny", "caption").but(towers={"image_size": 32, "context": 12}, init_seed=seed)
        save_model(root / f"{name}.pt", build_model(config), config, {})
    config = scale("tiny", "simvlm").but(towers={"image_size": 32, "context": 12})
    save_model(root / "blind.pt", build_model(config), config, {})
    towers = Towers("tiny-conv", image_size=16, context=8)
    about = {"config": Config(towers=towers).as_json(), "objective": {"logit_scale": 2.0}}
    save_towers(root / "pairs.pt", build(towers, 0), towers, about)
    scenes, _ = held_out(root / "sets", 12)
    asked = root / "sets" / "asked"
    shutil.copytree(scenes, asked)  # has captions and no questions: what is asked for is known before it is read
    (asked / "dataset_type.txt").write_text("vqa\n")
    return root


def asked(folder: Path, model: str, *words: object) -> Result:
    return CliRunner().invoke(app, [str(folder / model), *map(str, words), "--device", "cpu"], catch_exceptions=False)


def found(folder: Path, model: str, *words: object) -> dict[str, dict[str, object]]:
    said = json.loads(asked(folder, model, *words, "--json", "-q").stdout)
    return {one["name"]: one for one in said["sets"]}


def test_what_a_model_is_able_to_do(folder: Path) -> None:
    said = asked(folder, "write.pt", folder / "sets", "-q").stdout
    head, colours, scenes, *more = said.splitlines()
    assert head.split()[-2:] == ["grey", "others'"]
    assert colours.split()[:3] == ["colours", "acc1", "12"]
    assert scenes.split()[:3] == ["scenes", "cider", "12"]
    assert "not evaluated: asked" in more[0]
    assert "answers none" in " ".join(more)
    with pytest.raises(UserError, match=r"asked: .* answers none"):
        asked(folder, "write.pt", folder / "sets" / "asked")


def test_all_of_it_is_in_json(folder: Path) -> None:
    one = found(folder, "write.pt", folder / "sets" / "scenes", "--clipscore", folder / "pairs.pt")["scenes"]
    metrics = one["metrics"]
    assert isinstance(metrics, dict)
    assert one["task"] == "captioning"
    names = {"bleu4", "rouge_l", "distinct", "caption_loss", "caption_loss_shuffled", "cider_blind", "clipscore"}
    assert names < metrics.keys()
    assert one["interval"]["low"] <= one["score"] <= one["interval"]["high"]  # type: ignore[index]
    with pytest.raises(UserError, match=r"write.pt: the model compares no pictures and texts"):
        asked(folder, "write.pt", folder / "sets" / "scenes", "--clipscore", folder / "write.pt")


def test_a_line_says_how_much_was_asked(folder: Path, tmp_path: Path) -> None:
    out, scenes = tmp_path / "results.jsonl", folder / "sets" / "scenes"
    asked(folder, "write.pt", scenes, "--out", out, "--pictures", 6, "-q")
    (first,) = read_results(out)
    assert first["metrics"]["n_captioned"] == 6
    asked(folder, "write.pt", scenes, "--out", out, "--pictures", 6, "-q")
    assert read_results(out) == [first]
    asked(folder, "write.pt", scenes, "--out", out, "-q")
    assert [line["metrics"]["n_captioned"] for line in read_results(out)] == [6, 12]


def test_an_option_without_use_is_told_and_asks_for_nothing_else(folder: Path, tmp_path: Path) -> None:
    out, sets = tmp_path / "results.jsonl", folder / "sets"
    plain = asked(folder, "pairs.pt", sets / "scenes", "--out", out, "-q").stdout
    assert "made no difference" not in plain
    first = read_results(out)
    words = ("--pictures", 6, "--beams", 2, "--clipscore", folder / "pairs.pt", "--questions", 8)
    said = asked(folder, "pairs.pt", sets / "scenes", "--out", out, "-q", *words).stdout
    assert read_results(out) == first  # the line serves both
    said = " ".join(said.split())
    assert "made no difference: --pictures, --beams, --questions and --clipscore: no set here asks this model" in said
    said = asked(folder, "write.pt", sets / "colours", "--pictures", 8, "--beams", 1, "--out", out, "-q").stdout
    assert "made no difference: --beams: no set" in " ".join(said.split())
    (line,) = [line for line in read_results(out) if line not in first]
    asked(folder, "write.pt", sets / "colours", "--pictures", 8, "--out", out, "-q")
    assert line in read_results(out)
    assert len(read_results(out)) == 2


def test_the_table_says_that_a_part_was_asked(folder: Path) -> None:
    colours = folder / "sets" / "colours"
    one = found(folder, "write.pt", colours, "--pictures", 4)["colours"]
    assert (one["n"], one["metrics"]["n_set"]) == (4, 12)  # type: ignore[index]
    assert " 4 of 12 " in asked(folder, "write.pt", colours, "--pictures", 4, "-q").stdout
    assert " 12 " in asked(folder, "write.pt", colours, "-q").stdout
    classes = len((colours / "classnames.txt").read_text().splitlines())
    few = found(folder, "write.pt", colours, "--pairs", 5 * classes)["colours"]
    assert few["n"] == 5
    with pytest.raises(UserError, match=rf"colours: its {classes} classes .* it takes {4 * classes} pairs"):
        asked(folder, "write.pt", colours, "--pairs", 4 * classes - 1)


def test_a_probe_that_the_model_does_not_allow_takes_no_score_with_it(folder: Path, tmp_path: Path) -> None:
    probed, out = tmp_path / "probed", tmp_path / "results.jsonl"
    shutil.copytree(folder / "sets" / "colours", probed)
    shutil.copytree(probed / "test", probed / "train")
    for _ in range(2):  # the second time from the line
        said = json.loads(asked(folder, "blind.pt", probed, "--probe", "--out", out, "--json", "-q").stdout)
        assert [s["name"] for s in said["sets"]] == ["probed"]
        assert said["missing"] == {"probed/lp_acc1": "probes look at vectors of pictures, and the model has none"}
    assert len(read_results(out)) == 1
    said = json.loads(asked(folder, "write.pt", probed, "--probe", "--out", out, "--json", "-q").stdout)
    assert [s["name"] for s in said["sets"]] == ["probed"]
    assert said["missing"].keys() == {"probed/lp_acc1"}
    assert "no class has enough items" in said["missing"]["probed/lp_acc1"]


def test_by_likelihood_against_vectors(folder: Path) -> None:
    """One was asked about six pictures, the other about all twelve: the six count."""
    colours = folder / "sets" / "colours"
    for a, b in (("write.pt", "pairs.pt"), ("pairs.pt", "write.pt")):
        one = found(folder, a, colours, "--against", folder / b, "--pictures", 6)["colours"]
        assert (one["main"], one["n"]) == ("acc1", 6)
        difference = one["difference"]
        assert difference["n"] == 6  # type: ignore[index]
        assert difference["mean"] == pytest.approx(one["score"] - one["other"])  # type: ignore[index, operator]
        assert one["interval"]["mean"] == pytest.approx(one["score"])  # type: ignore[index]
        assert one["metrics"]["n_set"] == 12  # type: ignore[index]
    with_other = evaluated(open_model(str(folder / "pairs.pt"), "cpu").encoders, str(colours)).items
    assert with_other is not None
    assert one["score"] == pytest.approx(with_other[spread(12, 6)].mean())


def test_against_another(folder: Path) -> None:
    scenes = folder / "sets" / "scenes"
    one = found(folder, "write.pt", scenes, "--against", folder / "other.pt", "--pictures", 8)["scenes"]
    assert one["main"] == "cider"
    assert one["difference"]["mean"] == pytest.approx(one["score"] - one["other"])  # type: ignore[index, operator]
    with pytest.raises(UserError, match=r"write.pt is measured by cider, which .*pairs.pt does not have"):
        asked(folder, "write.pt", scenes, "--against", folder / "pairs.pt", "--pictures", 8)
