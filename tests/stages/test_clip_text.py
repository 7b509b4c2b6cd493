"""Short texts at fewer places: the vectors that the whole context gives, whatever the company."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stages.clip_model import Clip
from stages.clip_pixels import Fit
from stages.clip_text import SHORT, lengths, text_encoders

torch = pytest.importorskip("torch", reason="torch is not installed: the CLIP stages are not tested")
open_clip = pytest.importorskip("open_clip", reason="open_clip is not installed: the CLIP stages are not tested")

TEXTS = [
    "a dog",
    "",
    "a red bicycle " * 4,
    "a cat on a mat " * 6,
    "very long " * 80,
    "犬 🐕",
    "x " * 13,
    "x " * 14,
    "x " * 30,
]
TEXT = {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2}


def clip(folder: Path, name: str, **more: Any) -> Clip:
    from training_smoke.towers import OpenClip

    text = {**TEXT, **more.pop("text", {})}
    vision = {"image_size": 32, "layers": 1, "width": 64, "patch_size": 16}
    (folder / f"{name}.json").write_text(json.dumps({"embed_dim": 24, "vision_cfg": vision, "text_cfg": text, **more}))
    open_clip.add_model_config(folder / f"{name}.json")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        net = open_clip.create_model(name)
    towers = OpenClip(net, open_clip.get_tokenizer(name), 32, 77).eval().requires_grad_(False)
    return Clip(towers, towers, Fit(32), "cpu")


KINDS = {
    "clip": {},
    "custom": {"custom_text": True},
    "eos": {"text": {"pool_type": "eos", "eos_id": 49407}},
}


@pytest.mark.parametrize("kind", KINDS)
def test_equal_to_the_whole_context(kind: str, tmp_path: Path) -> None:
    model = clip(tmp_path, f"tiny-text-{kind}", **KINDS[kind])
    tokens = model.tokens(TEXTS)
    assert [*text_encoders(model.texts)] == [*SHORT, 77]
    ends = lengths(model.texts, tokens)
    assert ends.tolist() == [int((row == 49407).argmax()) + 1 for row in tokens]
    assert {int(np.searchsorted([*SHORT, 77], e)) for e in ends} == {0, 1, 2}
    with torch.inference_mode():
        whole = torch.nn.functional.normalize(model.texts.text_features(torch.from_numpy(tokens)), dim=-1).numpy()
    np.testing.assert_allclose(model.text_vectors(tokens, 4), whole, atol=2e-6)


def test_a_text_does_not_depend_on_its_company(tmp_path: Path) -> None:
    model = clip(tmp_path, "tiny-text-company")
    tokens = model.tokens(TEXTS)
    whole = model.text_vectors(tokens, 8)
    order = np.random.default_rng(0).permutation(len(TEXTS))
    np.testing.assert_allclose(model.text_vectors(tokens[order], 8), whole[order], atol=1e-7)
    alone = np.concatenate([model.text_vectors(tokens[i : i + 1], 8) for i in range(len(TEXTS))])
    np.testing.assert_allclose(alone, whole, atol=1e-7)


def test_each_length_has_one_shape_of_about_as_many_tokens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = clip(tmp_path, "tiny-text-shapes")
    shapes: list[tuple[int, ...]] = []
    given = Clip._there
    monkeypatch.setattr(Clip, "_there", lambda self, rows: shapes.append(rows.shape) or given(self, rows))
    model.text_vectors(model.tokens(TEXTS * 3), 16)
    assert {*shapes} == {(16, 16), (8, 32), (3, 77)}


@pytest.mark.parametrize("more", [{"no_causal_mask": True, "pool_type": "last"}, {"embed_cls": True}], ids=str)
def test_towers_that_look_ahead_see_the_whole_context(more: dict[str, Any], tmp_path: Path) -> None:
    model = clip(tmp_path, f"tiny-text-{'-'.join(more)}", custom_text=True, text=more)
    assert [*text_encoders(model.texts)] == [77]
    assert lengths(model.texts, model.tokens(["a", "b"])).tolist() == [77, 77]
    assert model.text_vectors(model.tokens(["a", "b"]), 2).shape == (2, 24)


def test_towers_trained_here_see_the_whole_context() -> None:
    from training_smoke.config import Towers
    from training_smoke.towers import build

    towers = build(Towers("tiny-conv", image_size=16, context=8), 3)
    assert [*text_encoders(towers)] == [8]


@pytest.mark.slow
def test_compiled_towers_say_the_same(tmp_path: Path) -> None:
    plain = clip(tmp_path, "tiny-text-compiled")
    compiled = Clip(plain.images, plain.texts, plain.fit, "cpu", compiled=True)
    squares = plain.squares([np.random.default_rng(i).integers(0, 256, (40, 50, 3), np.uint8) for i in range(5)])
    tokens = plain.tokens(TEXTS)
    np.testing.assert_allclose(compiled.image_vectors(squares, 4), plain.image_vectors(squares, 4), atol=1e-5)
    np.testing.assert_allclose(compiled.text_vectors(tokens, 4), plain.text_vectors(tokens, 4), atol=1e-5)
