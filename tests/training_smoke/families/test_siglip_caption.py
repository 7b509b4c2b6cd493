"""SigLIP with a caption term: both terms as loops, what pools leave out, and the scale."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from tests.objective_parts import siglip_by_loops
from tests.training_smoke.families.captioner_parts import NOW, SIZE, TEXTS, made, pictures
from training_smoke.abilities import Captioner, Encoders
from training_smoke.config import Towers
from training_smoke.errors import TrainingError
from training_smoke.families import family
from training_smoke.families.caption import CaptionOnly
from training_smoke.families.siglip_caption import SigLIPCaption
from training_smoke.objectives import SigLIP

GROUPS = torch.tensor([0, 1, 0, 2, 1])


@pytest.mark.parametrize("groups", [None, GROUPS])
def test_both_terms_are_their_definitions(groups: torch.Tensor | None) -> None:
    """Vectors as evaluation asks for them; captions as the captioner alone has them with the same weights."""
    model = made(SigLIPCaption, caption=0.7, init_scale=4.0, init_bias=-3.0)
    for parameter in (model.logit_scale, model.logit_bias):
        parameter.data /= 2  # `made` doubles all
    losses = model(pictures(), model.tokenize(TEXTS), groups, NOW)
    images, texts = model.encode_images(pictures()).double(), model.encode_texts(TEXTS).double()
    each = torch.arange(len(TEXTS)) if groups is None else groups
    assert losses["sigmoid"].item() == pytest.approx(siglip_by_loops(images, texts, 4.0, -3.0, each), rel=1e-5)
    alone = made(CaptionOnly, parallel=0.5)
    mine = {name: value for name, value in model.state_dict().items() if name in alone.state_dict()}
    alone.load_state_dict(mine)
    caption = alone(pictures(), alone.tokenize(TEXTS), None, NOW)["loss"]
    assert losses["caption"].item() == pytest.approx(caption.item(), rel=1e-12)
    total = losses["sigmoid"] + 0.7 * losses["caption"]
    assert losses["loss"].item() == pytest.approx(total.item(), rel=1e-12)


def test_without_its_caption_term_it_is_siglip() -> None:
    model = made(SigLIPCaption, caption=0.0)
    losses = model(pictures(), model.tokenize(TEXTS), None, NOW)
    losses["loss"].backward()
    assert losses["loss"].equal(losses["sigmoid"])
    assert not any(p.grad is not None and p.grad.any() for p in model.decoder.parameters())
    assert all(p.grad is not None and p.grad.any() for p in model.text.parameters())


def test_captions_teach_the_patches_and_not_the_pool() -> None:
    model = made(SigLIPCaption)
    model(pictures(), model.tokenize(TEXTS), None, NOW)["caption"].backward()
    assert all(p.grad is not None and p.grad.any() for p in model.encoder.parameters())
    assert all(p.grad is None for part in (model.pool, model.text, model.text_projection) for p in part.parameters())


def test_it_can_encode_and_write() -> None:
    model = made(SigLIPCaption)
    assert isinstance(model, Encoders)
    assert isinstance(model, Captioner)
    images, texts = model.encode_images(pictures()), model.encode_texts(TEXTS)
    assert images.dtype == texts.dtype == torch.float32
    for vectors in (images, texts):
        torch.testing.assert_close(vectors.norm(dim=1), torch.ones(len(TEXTS)))
        assert (vectors @ vectors.T).fill_diagonal_(0).max() < 0.9999  # no two alike


def test_a_text_does_not_see_padding() -> None:
    model = made(SigLIPCaption)
    wide = made(SigLIPCaption, size=replace(SIZE, context=14))
    state = model.state_dict()
    for name in ("text.positions", "decoder.positions"):
        state[name] = torch.cat([state[name], wide.state_dict()[name][:, SIZE.context :]], dim=1)
    wide.load_state_dict(state)
    short = [text for text in TEXTS if (model.tokenize([text])[0] == 0).any()]
    assert len(short) == 3
    torch.testing.assert_close(model.encode_texts(short), wide.encode_texts(short), rtol=0, atol=1e-6)


def test_scale_and_bias_begin_as_those_of_siglip_and_are_held() -> None:
    model = family("siglip_caption").build(Towers("tiny", image_size=16, context=10), {}, seed=0)
    assert model.told() == pytest.approx(SigLIP().told())
    assert isinstance(model, SigLIPCaption)
    model.logit_scale.data.fill_(9.0)
    model.after_step(NOW)
    assert model.told()["scale"] == pytest.approx(100)


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(TrainingError, match="caption is at least 0"):
        SigLIPCaption.checked({"caption": -1})
    with pytest.raises(TrainingError, match="no settings alpha"):
        SigLIPCaption.checked({"alpha": -1})
