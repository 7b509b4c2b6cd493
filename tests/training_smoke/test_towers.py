"""Towers give unit vectors, draw their weights by the seed alone, and load what they are told to."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from torch import Tensor

from training_smoke.config import Towers
from training_smoke.errors import TrainingError
from training_smoke.learners import begun as begun_objective
from training_smoke.open_clip_towers import check
from training_smoke.tokens import tokenize_words
from training_smoke.towers import build
from training_smoke.towers_file import save_towers

TINY = [Towers("tiny-conv", image_size=32, context=16), Towers("tiny-vit", image_size=32, context=16)]
OPEN = Towers("ViT-S-32", image_size=64, context=12)


@pytest.mark.parametrize("towers", [*TINY, OPEN], ids=lambda t: t.name)
def test_pixels_and_words_become_unit_vectors(towers: Towers) -> None:
    model = build(towers, 0).eval()
    images = torch.randint(0, 256, (3, 3, model.image_size, model.image_size), dtype=torch.uint8)
    tokens = model.tokenize(["a red bicycle", "", "many words " * 40])
    assert tokens.shape == (3, towers.context)
    with torch.no_grad():
        for features in model(images, tokens):
            assert torch.isfinite(features).all()
            assert torch.allclose(features.norm(dim=-1), torch.ones(3), atol=1e-5)


@pytest.mark.parametrize("towers", TINY, ids=lambda t: t.name)
def test_weights_are_the_seeds_and_no_generator_is_touched(towers: Towers) -> None:
    before = torch.get_rng_state()
    first, again, other = (build(towers, seed).state_dict() for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not all(torch.equal(first[name], other[name]) for name in first)


def test_open_clips_weights_come_from_a_file(tmp_path: Path) -> None:
    trained = build(OPEN, 1)
    torch.save(trained.model.state_dict(), tmp_path / "weights.pt")  # type: ignore[union-attr, operator]
    loaded = build(Towers(OPEN.name, str(tmp_path / "weights.pt"), OPEN.image_size, OPEN.context), 2)
    ours, theirs = trained.state_dict(), loaded.state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


@pytest.mark.parametrize(
    ("towers", "said"),
    [
        (Towers("ViT-Z-99"), "no towers 'ViT-Z-99'"),
        (Towers("ViT-S-32", weights="nowhere.pt"), "no such file"),
        (Towers("tiny-conv", weights="x"), "no published weights"),
        (Towers("ViT-B-32", weights="openai"), "another activation: name the towers 'ViT-B-32-quickgelu'"),
        (Towers("ViT-B-32-quickgelu", weights="laion2b_e16"), r"no such file, and no weights of .* \(openai, .*\)"),
    ],
)
def test_what_is_not_there_is_named(towers: Towers, said: str) -> None:
    with pytest.raises(TrainingError, match=said):
        build(towers, 0)


@pytest.mark.parametrize(
    "towers",
    [
        Towers("ViT-B-32-quickgelu", "openai"),
        Towers("ViT-B-32", "laion2b_e16"),
        Towers("roberta-ViT-B-32", "laion2b_s12b_b32k"),  # has no twin with the other activation
    ],
)
def test_weights_that_fit_are_let_through(towers: Towers) -> None:
    check(towers)


def test_padding_says_nothing() -> None:
    model = build(TINY[0], 0).eval()
    short = tokenize_words(["a dog"], 16)
    with torch.no_grad():
        features = model.encode_texts(short)
        words = model.text.words.weight  # type: ignore[union-attr, operator]
        words.data[0] = 9.0  # the row of the padding
        assert torch.allclose(model.encode_texts(short), features, atol=1e-6)


@pytest.mark.parametrize("seed", range(3))
def test_pictures_and_captions_begin_apart(seed: int) -> None:
    """Where all lie in one direction at first, large steps make them one and the same, and it takes long to part."""
    model = build(TINY[0], seed).eval()
    y, x = torch.meshgrid(torch.linspace(0, 1, 32), torch.linspace(0, 1, 32), indexing="ij")
    waves = [torch.sin(a * x + b * y + c) for a, b, c in torch.rand(24, 3, generator=torch.manual_seed(seed)) * 12]
    images = (torch.stack(waves).view(8, 3, 32, 32) * 127 + 128).to(torch.uint8)
    nouns = ("dog", "ship", "airplane", "truck", "frog", "horse", "bird", "deer")
    with torch.no_grad():
        pictures, captions = model(images, model.tokenize([f"a photo of a {noun}" for noun in nouns]))
    assert apart(pictures) > 0.5
    assert apart(captions) > 0.1


def apart(features: Tensor) -> float:
    """1 - mean cosine of different rows."""
    n = len(features)
    return float(1 - ((features @ features.T).sum() - n) / (n * (n - 1)))


def test_columns_of_padding_change_nothing() -> None:
    model = build(TINY[0], 0).eval()
    with torch.no_grad():
        alone = model.encode_texts(model.tokenize(["a dog"]))
        beside = model.encode_texts(model.tokenize(["a dog", "a long caption of many more words than that"]))
    assert torch.allclose(alone[0], beside[0], atol=1e-6)


def test_a_training_begins_where_a_file_of_towers_ends(tmp_path: Path) -> None:
    of = Towers("tiny-conv", image_size=32, context=16)
    trained = build(of, 3)
    save_towers(tmp_path / "filter.pt", trained, of, {"objective": {"logit_scale": 3.5, "logit_bias": -7.0}})
    begun = build(Towers("tiny-conv", weights=str(tmp_path / "filter.pt")), 4)
    for name, value in trained.state_dict().items():
        assert torch.equal(begun.state_dict()[name], value), name
    clip, siglip = begun_objective("clip", begun), begun_objective("siglip", begun)
    assert clip.logit_scale.item() == 3.5
    assert (siglip.logit_scale.item(), siglip.logit_bias.item()) == (3.5, -7.0)
    assert begun_objective("clip", trained).logit_scale.item() == pytest.approx(math.log(1 / 0.07))
    begun.learned = {"logit_scale": 1.0, "log_curvature": 0.5, "image_scale": 0.1, "text_scale": 0.1}  # MERU's
    assert begun_objective("clip", begun).logit_scale.item() == pytest.approx(math.log(1 / 0.07))


def test_weights_of_other_towers_are_refused(tmp_path: Path) -> None:
    of = Towers("tiny-conv", image_size=32, context=16)
    save_towers(tmp_path / "filter.pt", build(of, 3), of, {})
    with pytest.raises(TrainingError, match=r"has towers of image_size 32, and 64 is asked for"):
        build(Towers("tiny-conv", weights=str(tmp_path / "filter.pt"), image_size=64), 0)
    with pytest.raises(TrainingError, match=r"has towers of name 'tiny-conv', and 'tiny-vit' is asked for"):
        build(Towers("tiny-vit", weights=str(tmp_path / "filter.pt")), 0)
