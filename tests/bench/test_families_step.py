"""Before steps are timed, both sides are shown to have one model and one loss."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch", reason="torch is not installed: there are no steps")
pytest.importorskip("transformers", reason="transformers is not installed: there is nothing to set steps beside")
sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "bench"))

import families_step
import torch
from families_plain import PlainBlip
from torch import Tensor

from tests.training_smoke.pack_parts import packed, pictures
from training_smoke.packs import Pack

Given = tuple[Any, Pack, Tensor, Tensor]


@pytest.fixture
def given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Given:
    monkeypatch.setattr("common.WORK", tmp_path / "work")
    monkeypatch.setenv("CURATE_CACHE", str(tmp_path / "cache"))
    pack = Pack.open(str(packed(tmp_path, pictures(16), samples=16)))
    config = families_step.step_config("blip").but(towers={"image_size": 32})
    return config, pack, *families_step.in_memory(config, pack)


def test_blip_has_one_loss_on_both_sides(given: Given) -> None:
    families_step.check_same("blip", *given)


def test_another_contrast_or_another_smoothing_is_noticed(given: Given, monkeypatch: pytest.MonkeyPatch) -> None:
    right = PlainBlip.parts

    def other(part: str) -> Any:
        def parts(self: PlainBlip, images: Tensor, *inputs: Tensor) -> dict[str, Tensor]:
            found = right(self, images, *inputs)
            return found | {part: found[part] * 1.001}

        return parts

    for part in ("itc", "lm"):
        monkeypatch.setattr(PlainBlip, "parts", other(part))
        with pytest.raises(ValueError, match=r"blip: .* parameters, plain .*; itc .*, plain .*; lm .*, plain"):
            families_step.check_same("blip", *given)
    monkeypatch.setattr(PlainBlip, "parts", other("itm"))  # in it there are draws
    families_step.check_same("blip", *given)
    assert torch.is_grad_enabled()
