"""An InstructBLIP is refused by name: transformers loads it where it loads BLIP-2 and LLaVA."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

pytest.importorskip("transformers", reason="transformers is not installed: nothing writes captions")

from stages import captioner_models
from stages.captioner_models import Asking


def test_an_instructblip_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    net = SimpleNamespace(config=SimpleNamespace(model_type="instructblip"))
    monkeypatch.setattr(captioner_models, "once", lambda *_: net)
    monkeypatch.setattr(captioner_models, "_processor", lambda _: SimpleNamespace(chat_template=None))
    with pytest.raises(ValueError, match="is an InstructBLIP, which is not known here: give a BLIP-2 or"):
        captioner_models._of_transformers(tmp_path, [], Asking())
