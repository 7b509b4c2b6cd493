"""Models that others published, whose folder has code of its own: nothing of it runs, and nobody is asked."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from training_smoke.config import Towers
from training_smoke.errors import TrainingError
from training_smoke.families import family
from training_smoke.families.published import published

torch.set_num_threads(1)
CODE = "from pathlib import Path\nPath(__file__).with_name('has-run').touch()\nclass Strange: ...\n"
KINDS = ("AutoConfig", "AutoTokenizer", "AutoModelForCausalLM")


@pytest.fixture
def strange(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A model of a kind that transformers does not have. Whoever asks on the terminal gets a yes."""

    def yes(asked: str = "") -> str:
        (tmp_path / "was-asked").touch()
        return "y"

    monkeypatch.setattr("builtins.input", yes)
    named = {"auto_map": dict.fromkeys(KINDS, "code.Strange")}
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "strange"} | named))
    (tmp_path / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "Strange", "auto_map": {"AutoTokenizer": ["code.Strange", None]}})
    )
    (tmp_path / "code.py").write_text(CODE)
    return str(tmp_path)


def refused(folder: str) -> None:
    names = {path.name for path in Path(folder).iterdir()}
    assert names == {"config.json", "tokenizer_config.json", "code.py"}


@pytest.mark.parametrize("kind", [AutoConfig, AutoTokenizer, AutoModelForCausalLM])
def test_code_beside_weights_does_not_run(strange: str, kind: Any) -> None:
    with pytest.raises(TrainingError, match="needs Python code that lies beside its weights"):
        published(kind, strange)
    refused(strange)


@pytest.mark.parametrize(
    ("name", "where", "settings"),
    [
        ("llava", {"name": "{}"}, {}),
        ("llava", {"name": "tiny"}, {"vision": "{}"}),
        ("llava", {"name": "tiny"}, {"language": "{}"}),
        ("blip2", {"name": "{}"}, {}),
        ("blip2", {"name": "tiny", "weights": "{}"}, {}),
        ("blip2_generate", {"name": "{}"}, {}),
        ("blip2_generate", {"name": "tiny"}, {"language": "{}"}),
    ],
)
def test_no_family_runs_it(strange: str, name: str, where: dict[str, str], settings: dict[str, str]) -> None:
    towers = Towers(**{field: said.replace("{}", strange) for field, said in where.items()})
    with pytest.raises(TrainingError, match="needs Python code that lies beside its weights"):
        family(name).build(towers, {field: said.replace("{}", strange) for field, said in settings.items()}, seed=0)
    refused(strange)


def test_any_other_error_is_transformers(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="Unrecognized model"):
        published(AutoConfig, tmp_path)
