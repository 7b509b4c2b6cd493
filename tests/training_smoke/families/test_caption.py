"""Captions alone: the loss as loops over tokens, what is hidden in a parallel caption, and the abilities."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests.training_smoke.families.captioner_parts import NOW, SIZE, TEXTS, log_odds, made, pictures
from training_smoke.abilities import Captioner, Encoders
from training_smoke.config import Config, Towers
from training_smoke.errors import TrainingError
from training_smoke.families import family
from training_smoke.families.base import Moment
from training_smoke.families.caption import CaptionOnly
from training_smoke.families.captioner import half_masked
from training_smoke.families.decoder import causal
from training_smoke.objectives.caption import caption_loss_of
from training_smoke.sampling import Sampling
from training_smoke.towers_file import save_model


def by_loops(model: CaptionOnly, images: Tensor, texts: tuple[str, ...], at_once: list[bool]) -> tuple[float, int]:
    """(sum over tokens of minus the log likelihood, how many): one text after the other, without any padding."""
    total, count = 0.0, 0
    for image, text, parallel in zip(images, texts, at_once, strict=True):
        tokens = [t for t in model.tokenize([text])[0].tolist() if t != model.vocabulary.pad]
        memory = model.memory(image[None])
        masks = torch.full((1, SIZE.context - 1), model.vocabulary.mask)
        for place, token in enumerate(tokens[1:]):
            if parallel:
                everything = torch.ones(SIZE.context - 1, SIZE.context - 1, dtype=torch.bool)
                odds = log_odds(model, model.decoder(masks, memory, everything))[0, place]
            else:
                before = torch.tensor([tokens[: place + 1]])
                odds = log_odds(model, model.decoder(before, memory, causal(place + 1)))[0, -1]
            total, count = total - odds[token].item(), count + 1
    return total, count


@pytest.mark.parametrize("parallel", [0.0, 0.5, 1.0])
def test_the_loss_is_its_definition(parallel: float) -> None:
    model = made(CaptionOnly, parallel=parallel)
    at_once = (NOW.uniform("parallel", len(TEXTS))[:, 0] < parallel).tolist()
    assert len(set(at_once)) == (2 if parallel == 0.5 else 1)
    total, count = by_loops(model, pictures(), TEXTS, at_once)
    loss = model(pictures(), model.tokenize(TEXTS), None, NOW)["loss"]
    assert loss.item() == pytest.approx(total / count, rel=1e-10)


def test_elsewhere_than_on_a_cpu_all_places_are_computed() -> None:
    """The loss of all places, labelled or not, is that of the labelled ones, which a CPU alone computes."""
    computed: dict[type[CaptionOnly], int] = {}

    class Elsewhere(CaptionOnly):
        def written(self, hidden: Tensor, labels: Tensor, moment: Moment) -> Tensor:
            return caption_loss_of(hidden, self.decoder.head, labels, world=moment.world)

    def loss_of(kind: type[CaptionOnly]) -> float:
        model = made(kind)
        model.decoder.head.register_forward_hook(lambda _, __, out: computed.update({kind: out.shape[:-1].numel()}))
        return model(pictures(), model.tokenize(TEXTS), None, NOW)["loss"].item()

    assert loss_of(Elsewhere) == pytest.approx(loss_of(CaptionOnly), rel=1e-12)
    labels = made(CaptionOnly).labels(made(CaptionOnly).tokenize(TEXTS))
    assert computed == {CaptionOnly: int((labels >= 0).sum()), Elsewhere: labels.numel()}


def test_a_parallel_caption_tells_the_model_nothing_of_itself() -> None:
    tokens = made(CaptionOnly).tokenize(TEXTS)
    inputs, seen = half_masked(tokens, 3, 1.0, NOW)
    assert inputs.unique().tolist() == [3]
    assert seen.all()
    inputs, seen = half_masked(tokens, 3, 0.0, NOW)
    assert inputs.equal(tokens[:, :-1])
    assert seen.equal(causal(SIZE.context - 1).expand_as(seen))


def test_draws_are_the_same_in_parts() -> None:
    tokens = made(CaptionOnly).tokenize(TEXTS[:4])
    whole, _ = half_masked(tokens, 3, 0.5, NOW)
    parts = [half_masked(tokens[i : i + 2], 3, 0.5, replace(NOW, part=i // 2, parts=2))[0] for i in (0, 2)]
    assert torch.cat(parts).equal(whole)


def test_micro_batches_are_exact() -> None:
    model = made(CaptionOnly, parallel=0.4)
    images, tokens = pictures(4), model.tokenize(TEXTS[:4])
    whole = model(images, tokens, None, NOW)["loss"]
    parts, weights = [], []
    for part in range(2):
        rows = slice(2 * part, 2 * part + 2)
        parts.append(model(images[rows], tokens[rows], None, replace(NOW, part=part, parts=2))["loss"])
        weights.append(model.weight(tokens[rows]))
    assert weights[0] != weights[1]
    mean = sum(loss * weight for loss, weight in zip(parts, weights, strict=True)) / sum(weights)
    assert mean.item() == pytest.approx(whole.item(), rel=1e-12)


# ------------------------------------------------------------------------------------------- abilities


def test_it_says_how_likely_a_caption_is() -> None:
    model = made(CaptionOnly)
    assert isinstance(model, Captioner)
    assert not isinstance(model, Encoders)
    sums, counts = model.caption_loss(pictures(), TEXTS)
    assert (sums.dtype, counts.dtype) == (torch.float32, torch.int64)
    for row, text in enumerate(TEXTS):
        total, count = by_loops(model, pictures()[row : row + 1], (text,), [False])
        assert (sums[row].item(), counts[row].item()) == (pytest.approx(total, rel=1e-6), count)


def test_captions_are_of_the_picture_and_its_key() -> None:
    model, keys = made(CaptionOnly), ["a", "b", "c"]
    images, how = pictures(3), Sampling("nucleus", max_tokens=6, seed=2)
    said = model.caption(images, how, keys)
    assert len(set(said)) > 1
    assert model.caption(images[1:2], how, ["b"]) == said[1:2]
    assert model.caption(images.flip(0), how, keys[::-1]) == said[::-1]
    assert model.caption(images, how, ["d", "e", "f"]) != said


def test_a_caption_fits_into_the_context() -> None:
    """As many tokens as a caption in training may have, however many are asked for."""
    model = made(CaptionOnly)
    with torch.no_grad():
        model.decoder.head.weight[model.vocabulary.eos] = 0
        model.decoder.head.weight[300] = 100 * model.decoder.head.weight[300].abs()  # says one token and no end
    images = pictures(2)
    for text in model.caption(images, Sampling(max_tokens=500), ["a", "b"]):
        assert 1 <= (model.tokenize([text])[0] != 0).sum() <= SIZE.context
    assert not model.training


def test_vectors_for_probes_are_means_of_patches() -> None:
    model = made(CaptionOnly)
    found = model.image_vectors(pictures())
    assert found.shape == (len(TEXTS), SIZE.width)
    torch.testing.assert_close(found.double(), model.memory(pictures()).mean(dim=1).detach(), rtol=1e-6, atol=1e-6)


# ------------------------------------------------------------------------------------------- how it is made


def test_weights_of_another_run_are_where_it_begins(tmp_path: Path) -> None:
    towers = Towers("tiny", image_size=16, context=10)
    config = Config(objective="caption", towers=towers, samples=256, batch=256)
    first = family("caption").build(towers, {}, seed=1)
    save_model(tmp_path / "towers.pt", first, config, {})
    begun = replace(towers, weights=str(tmp_path / "towers.pt"))
    second = family("caption").build(begun, {}, seed=2)
    for name, value in first.state_dict().items():
        assert second.state_dict()[name].equal(value)
    with pytest.raises(TrainingError, match=r"has a caption \(name tiny, image_size 16, context 10\)"):
        family("caption").build(replace(begun, context=12), {}, seed=2)
    with pytest.raises(TrainingError, match="and not a SimVLM"):
        family("simvlm").build(begun, {}, seed=2)


@pytest.mark.parametrize(
    ("towers", "settings", "said"),
    [
        (Towers("huge"), {}, "no size 'huge': there are tiny, small, base, large"),
        (Towers("tiny", weights="nowhere.pt"), {}, "no such file"),
        (Towers("tiny", checkpointing=True), {}, "leave out checkpointing"),
        (Towers("tiny", context=2), {}, "context 2: a text has a start, an end, and a word between"),
        (Towers("tiny"), {"parallel": 2}, "parallel is a share, not 2"),
        (Towers("tiny"), {"alpha": 2}, "no settings alpha; there are parallel"),
    ],
)
def test_what_cannot_be_is_refused(towers: Towers, settings: dict[str, object], said: str) -> None:
    with pytest.raises(TrainingError, match=said):
        family("caption").build(towers, settings, seed=0)


def test_no_library_knows_it(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="no library has models like CaptionOnly"):
        made(CaptionOnly).export(tmp_path)
