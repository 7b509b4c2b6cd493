"""However long a text is asked for, a model says what it has places for."""

from __future__ import annotations

import pytest
import torch

from tests.training_smoke.families.family_parts import alone, drawn_images, small
from training_smoke.abilities import Captioner
from training_smoke.learners import learner_of
from training_smoke.sampling import Sampling

torch.set_num_threads(1)


@pytest.mark.parametrize("name", ["blip", "blip2", "blip2_generate", "caption", "coca", "siglip_caption", "simvlm"])
def test_no_text_is_longer_than_its_model(name: str) -> None:
    model = learner_of(small(name), alone()).model
    assert isinstance(model, Captioner)
    images = drawn_images(1, model.image_size)
    (text,) = model.caption(images, Sampling("greedy", min_tokens=500, max_tokens=600), ["a"])
    assert text
