"""Cards say what is in the files of their folder, and nothing in those can break out of its place."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import torch
import yaml

from curate.recipe import load_recipe
from stages.clip import ClipScore
from tests.training_smoke.pack_parts import thirty
from training_smoke import train as loop
from training_smoke.average import Average
from training_smoke.card import card, code, filter_card
from training_smoke.config import Config, Optimiser, Towers
from training_smoke.errors import TrainingError
from training_smoke.filter_network import FineTune, Plan, train_filter
from training_smoke.packs import Pack

SMALL = Config(
    towers=Towers("tiny-conv", image_size=16, context=8),
    optimiser=Optimiser(lr=1e-3, warmup=8),
    samples=96,
    batch=8,
    log_every=1,
)
HOSTILE = "`x` | <b>\n# title\x1b[31m ``` \u202e\n---"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Pack]:
    """(a run's folder, a filter's folder, their pack)."""
    torch.set_num_threads(1)
    root = tmp_path_factory.mktemp("card")
    pack = Pack.open(thirty(root))
    loop.train(root / "run", SMALL, {pack: 1.0}, device="cpu")
    plan = Plan(SMALL, {pack: 1.0}, FineTune({pack: 1.0}, 24), Average(last=3), wise=0.5)
    train_filter(root / "filter", plan, device="cpu")
    return root / "run", root / "filter", pack


def front(text: str) -> dict[str, object]:
    head = text.split("---\n")[1]
    found: dict[str, object] = yaml.safe_load(head)
    return found


def test_a_run_tells_data_settings_and_course(made: tuple[Path, Path, Pack]) -> None:
    folder, _, pack = made
    text = card(folder)
    assert text == card(folder)
    assert front(text) == {
        "pipeline_tag": "zero-shot-image-classification",
        "tags": ["curate", "clip", "image-text", "tiny-conv"],
    }
    assert f"| `{pack.url}` | `{pack.digest[:16]}` |" in text
    assert "objective of CLIP on 96 samples seen, 8 at a time, seeds 0 (weights) and 0 (order)" in text
    settings = re.search(r"```json\n(.*?)\n```", text, re.DOTALL)
    assert settings is not None
    assert json.loads(settings[1]) == json.loads((folder / "config.json").read_text())
    course = [line for line in text.splitlines() if re.match(r"\| \d+ \| ", line)]
    assert len(course) == 10  # of twelve lines of metrics
    assert course[0].startswith("| 1 | 8 | ")
    assert course[-1].startswith("| 12 | 96 | ")


def test_scores_are_told_where_there_are_any(made: tuple[Path, Path, Pack]) -> None:
    folder = made[0]
    assert "## Scores" not in card(folder)
    (folder / "scores").mkdir()
    record = {"dataset": "cifar|10", "task": "zeroshot_classification", "metrics": {"main_metric": 0.3126}}
    (folder / "scores" / "a.json").write_text(json.dumps(record))
    assert "| `cifar¦10` | `zeroshot_classification` | 0.3126 |" in card(folder)


def test_a_filter_tells_how_its_weights_were_made(made: tuple[Path, Path, Pack]) -> None:
    text = (made[1] / "README.md").read_text()
    assert text == filter_card(made[1])
    assert "# Data filtering network `filter`" in text
    assert (
        "the mean of the last 3 of 20 points of the training, then 50% of the fine-tuned and the rest of those" in text
    )
    assert text.count("### How it went") == 2
    assert text.count("```json") == 2
    assert json.loads((made[1] / "filter.json").read_text())["filter.pt"] in text


def test_its_recipe_runs_as_it_stands(made: tuple[Path, Path, Pack], monkeypatch: pytest.MonkeyPatch) -> None:
    folder = made[1]
    monkeypatch.chdir(folder)
    block = re.search(r"```yaml\n(.*?)```", (folder / "README.md").read_text(), re.DOTALL)
    assert block is not None
    (folder / "r.yaml").write_text("recipe: mine\npool: pool\n" + block[1])
    recipe = load_recipe("r.yaml")
    assert recipe.stages == (ClipScore(weights=str(folder / "filter.pt"), name="dfn"),)
    assert recipe.resolve("dfn_score").owner == recipe.stages[0]


@pytest.mark.parametrize("which", [0, 1])
def test_its_python_runs_as_it_stands(
    made: tuple[Path, Path, Pack], which: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = made[which]
    monkeypatch.chdir(folder)
    text = card(folder) if which == 0 else filter_card(folder)
    block = re.search(r"```python\n(.*?)```", text, re.DOTALL)
    assert block is not None
    exec(block[1], {})
    assert "[1, 128]" in capsys.readouterr().out


def test_hostile_words_stay_where_they_are(made: tuple[Path, Path, Pack], tmp_path: Path) -> None:
    for name in ("config.json", "packs.json", "environment.json"):
        (tmp_path / name).write_bytes((made[0] / name).read_bytes())
    (tmp_path / "packs.json").write_text(json.dumps({HOSTILE: "a" * 64}))
    machine = json.loads((tmp_path / "environment.json").read_text())
    (tmp_path / "environment.json").write_text(json.dumps({**machine, "device": HOSTILE}))
    config = json.loads((tmp_path / "config.json").read_text())
    config["towers"]["weights"] = HOSTILE
    (tmp_path / "config.json").write_text(json.dumps(config))
    text = card(tmp_path)
    assert "\x1b" not in text
    assert "\u202e" not in text
    assert not re.search(r"^# title", text, re.MULTILINE)
    assert next(line for line in text.splitlines() if line.startswith("| ") and "title" in line).count(" | ") == 1
    fence = re.search(r"^(````+)json$", text, re.MULTILINE)
    assert fence is not None  # longer than any in the settings
    assert text.count(f"\n{fence[1]}\n") == 1


@pytest.mark.parametrize("text", ["", "plain", "`", "``a`", "a|b", "\n", "x" * 500, "\ud800"])
def test_a_code_span_ends_where_it_should(text: str) -> None:
    found = code(text)
    assert "\n" not in found
    assert "|" not in found
    if text:
        fence = re.match(r"`+", found)
        assert fence is not None
        inner = found[len(fence[0]) : -len(fence[0])]
        assert found.endswith(fence[0])
        assert fence[0] not in inner.strip(" ") or inner.strip() == ""


def test_a_folder_that_is_no_runs_is_named(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"config\.json: .*No such file.*of a run's folder"):
        card(tmp_path)
