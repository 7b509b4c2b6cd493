"""Prefix language modelling: the loss as loops, what is read and what is said, and prefixes of all lengths."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from tests.training_smoke.families.captioner_parts import NOW, TEXTS, log_odds, made, pictures
from training_smoke.abilities import Captioner, Encoders
from training_smoke.errors import TrainingError
from training_smoke.families.caption import CaptionOnly
from training_smoke.families.decoder import causal
from training_smoke.families.simvlm import SimVLM


def by_loops(model: SimVLM, images: Tensor, texts: tuple[str, ...], lengths: list[int]) -> tuple[float, int]:
    """(sum over tokens said of minus the log likelihood, how many): a text at a time, without padding and masks."""
    total, count = 0.0, 0
    for image, text, length in zip(images, texts, lengths, strict=True):
        tokens = [t for t in model.tokenize([text])[0].tolist() if t != model.vocabulary.pad]
        read = torch.tensor([tokens[1 : 1 + length]], dtype=torch.int64)
        words = model.decoder.tokens(read) + model.prefix_positions[:, :length]
        memory = model.encoder(model.normalised(image[None]), words)
        for place in range(length, len(tokens) - 1):
            before, where = torch.tensor([tokens[length : place + 1]]), torch.arange(length, place + 1)[None]
            hidden = model.decoder(before, memory, causal(before.shape[1]), places=where)
            total, count = total - log_odds(model, hidden)[0, -1, tokens[place + 1]].item(), count + 1
    return total, count


@pytest.mark.parametrize("whole", [0.0, 0.5])
def test_the_loss_is_its_definition(whole: float) -> None:
    model = made(SimVLM, whole=whole)
    tokens = model.tokenize(TEXTS)
    lengths = model.prefixes(tokens, NOW)
    assert lengths.max() > 1
    total, count = by_loops(model, pictures(), TEXTS, lengths.tolist())
    assert model(pictures(), tokens, None, NOW)["loss"].item() == pytest.approx(total / count, rel=1e-10)


def test_without_prefixes_it_is_a_captioner() -> None:
    model, alone = made(SimVLM, whole=1.0), made(CaptionOnly, parallel=0.0)
    tokens = model.tokenize(TEXTS)
    assert not model.prefixes(tokens, NOW).any()
    alone.load_state_dict({name: value for name, value in model.state_dict().items() if name != "prefix_positions"})
    mine, its = (m(pictures(), tokens, None, NOW)["loss"].item() for m in (model, alone))
    assert mine == pytest.approx(its, rel=1e-12)
    assert isinstance(model, Captioner)
    assert not isinstance(model, Encoders)
    for mine, its in zip(model.caption_loss(pictures(), TEXTS), alone.caption_loss(pictures(), TEXTS), strict=True):
        torch.testing.assert_close(mine, its, rtol=1e-6, atol=0)


def test_a_prefix_has_any_length_that_leaves_something_to_say() -> None:
    model = made(SimVLM)
    tokens = model.tokenize(["a dog", ""]).repeat_interleave(400, dim=0)
    lengths = model.prefixes(tokens, NOW)
    dog, nothing = lengths[:400].bincount(), lengths[400:].bincount()
    to_say = int((tokens[0] != model.vocabulary.pad).sum()) - 1  # the end is always said
    assert len(dog) == to_say > 3
    assert ((dog - 400 / to_say).abs() < 4 * (400 / to_say) ** 0.5).all()
    assert nothing.tolist() == [400]
    parts = [model.prefixes(tokens[i : i + 200], replace(NOW, part=i // 200, parts=4)) for i in range(0, 800, 200)]
    assert torch.cat(parts).equal(lengths)


def test_micro_batches_are_exact() -> None:
    """Lengths are drawn for the batch, and parts weigh what they say."""
    model = made(SimVLM)
    images, tokens = pictures(4), model.tokenize(TEXTS[:4])
    read = model.read(tokens, NOW)
    assert model.read(read, replace(NOW, step=NOW.step + 1)).equal(read)
    whole = model(images, tokens, None, NOW)["loss"]
    losses = [model(images[i : i + 2], read[i : i + 2], None, NOW)["loss"] for i in (0, 2)]
    weights = [model.weight(read[i : i + 2]) for i in (0, 2)]
    assert weights[0] != weights[1]
    mean = (losses[0] * weights[0] + losses[1] * weights[1]) / (weights[0] + weights[1])
    assert mean.item() == pytest.approx(whole.item(), rel=1e-12)


def test_what_is_read_and_what_is_said() -> None:
    model = made(SimVLM)
    tokens = torch.tensor([[1, 7, 8, 9, 2, 0, 0, 0, 0, 0]])
    inputs, labels, places = model.rest(tokens, torch.tensor([2]))
    assert inputs[0, :3].tolist() == [8, 9, 2]
    assert labels[0].tolist() == [9, 2, *[-100] * 7]
    assert places[0].tolist() == [2, 3, 4, 5, 6, 7, 8, 9, 9]
    _, seen = model.remembered(pictures(1), tokens, torch.tensor([2]))
    assert seen.flatten().tolist() == [*[True] * 4, True, True, *[False] * 7]


def test_the_rest_of_a_text_is_not_read() -> None:
    """Patches and prefix see each other; what is to be said is seen by neither."""
    model, length = made(SimVLM), torch.tensor([2])
    tokens = torch.tensor([[1, 7, 8, 9, 10, 2, 0, 0, 0, 0]])
    before, seen = model.remembered(pictures(1), tokens, length)
    there = seen.flatten()
    for place in range(1, 6):
        other = tokens.clone()
        other[0, place] += 20
        after, _ = model.remembered(pictures(1), other, length)
        assert after[0, there].equal(before[0, there]) == (place > 2)
    moved, _ = model.remembered(pictures(1).flip(3), tokens, length)
    assert not moved[0, 4:6].isclose(before[0, 4:6]).all(dim=1).any()


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(TrainingError, match="whole is a share, not 3"):
        SimVLM.checked({"whole": 3})
