"""ALBEF: its parts against loops, what moves and when, and what it refuses."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

pytest.importorskip("transformers")

from training_smoke.abilities import Captioner, Encoders, Matcher
from training_smoke.config import Towers, scale
from training_smoke.errors import TrainingError
from training_smoke.families import albef, family
from training_smoke.families.albef import Albef, Reader
from training_smoke.families.base import Moment
from training_smoke.objectives.mlm import SEEN, hidden

SETTINGS = {"width": 32, "layers": 1, "image_layers": 1, "queue": 8, "patch": 8, "momentum": 0.9, "hidden": 0.5}
TOWERS = Towers("tiny", image_size=16, context=12)
CAPTIONS = ["A dog runs over the grass.", "Two men.", "The red car is on the street", "A woman sits by a lake"]
MOMENT = Moment(step=5, steps=100, seed=0)


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def made(**settings: object) -> Albef:
    """Weights of which no two parts are alike: momentum encoders, gains and biases."""
    built = family("albef").build(TOWERS, SETTINGS | settings, seed=0)
    assert isinstance(built, Albef)
    draws = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in built.parameters():
            parameter += 0.05 * torch.randn(parameter.shape, generator=draws)
        built.tau.fill_(0.1)
    return built


def pictures() -> Tensor:
    return torch.randint(0, 256, (4, 3, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


def softmax(logits: np.ndarray) -> np.ndarray:
    odds = np.exp(logits - logits.max())
    return odds / odds.sum()


# ------------------------------------------------------------------------------------------- one text at a time


def text_of(model: Albef, reader: Reader, row: Tensor) -> Tensor:
    """One text without its padding through the text layers: [1, t, width]."""
    return reader.encoders.text(input_ids=row[row != model.words.pad][None]).last_hidden_state


def picture_of(model: Albef, reader: Reader, number: int) -> Tensor:
    return reader.encoders.vision(pixel_values=model.normalised(pictures()[number : number + 1])).last_hidden_state


def fused(reader: Reader, said: Tensor, picture: Tensor) -> Tensor:
    return reader.fusion(encoder_embeds=said, encoder_hidden_states=picture).last_hidden_state[0]


def features(model: Albef, tokens: Tensor, reader: Reader) -> tuple[np.ndarray, np.ndarray]:
    encoders, n = reader.encoders, range(len(tokens))
    images = encoders.image_projection(torch.cat([picture_of(model, reader, i)[:, 0] for i in n]))
    texts = encoders.text_projection(torch.cat([text_of(model, reader, tokens[i])[:, 0] for i in n]))
    a, b = images.double().numpy(), texts.double().numpy()
    return a / np.linalg.norm(a, axis=1, keepdims=True), b / np.linalg.norm(b, axis=1, keepdims=True)


def contrast_by_hand(model: Albef, tokens: Tensor, alpha: float) -> float:
    (images, texts), (slow_images, slow_texts) = (features(model, tokens, r) for r in (model.reader, model.slow))
    total = 0.0
    for queries, teachers, batch, queue in (
        (images, slow_images, slow_texts, model.queue.texts),
        (texts, slow_texts, slow_images, model.queue.images),
    ):
        candidates = np.concatenate([batch, queue.double().numpy()])
        for i in range(len(queries)):
            said, opinion = (softmax(candidates @ q[i] / 0.1) for q in (queries, teachers))
            target = alpha * opinion + (1 - alpha) * (np.arange(len(candidates)) == i)
            total -= float(target @ np.log(said)) / len(queries) / 2
    return total


def matching_by_hand(model: Albef, tokens: Tensor) -> float:
    (images, texts), (slow_images, slow_texts) = (features(model, tokens, r) for r in (model.reader, model.slow))
    draws, n = MOMENT.uniform("itm", len(tokens), 2), len(tokens)

    def drawn(query: np.ndarray, candidates: np.ndarray, own: int, draw: float) -> int:
        weights = softmax(candidates @ query / 0.1) + 1e-4
        weights[own] = 0
        passed = 0.0
        for j in sorted(range(n), key=lambda j: -weights[j]):
            passed += weights[j] / weights.sum()
            if passed > draw:
                return j
        raise AssertionError

    pairs = [(i, i, 1) for i in range(n)]
    pairs += [(drawn(texts[i], slow_images, i, draws[i, 0].item()), i, 0) for i in range(n)]
    pairs += [(i, drawn(images[i], slow_texts, i, draws[i, 1].item()), 0) for i in range(n)]
    total = 0.0
    for picture, text, label in pairs:
        shown, said = picture_of(model, model.reader, picture), text_of(model, model.reader, tokens[text])
        logits = model.matching(fused(model.reader, said, shown)[0]).double().numpy()
        total -= math.log(softmax(logits)[label])
    return total / len(pairs)


def finding_by_hand(model: Albef, tokens: Tensor, alpha: float) -> float:
    draws = MOMENT.uniform("mlm", 4, 3 * tokens.shape[1]).view(4, -1, 3)
    keep = (tokens == model.words.pad) | (tokens == model.words.first)
    asked = hidden(tokens, keep, draws, mask=3, vocabulary=4096, share=0.5)
    total, count = 0.0, 0
    for i in range(4):
        there = tokens[i] != model.words.pad
        row, labels = asked.tokens[i][there], asked.labels[i][there]
        said, opinion = (
            reader.head(fused(reader, text_of(model, reader, row), picture_of(model, reader, i))).double().numpy()
            for reader in (model.reader, model.slow)
        )
        for place in (labels != SEEN).nonzero()[:, 0].tolist():
            log_odds = np.log(softmax(said[place]))
            total -= (1 - alpha) * log_odds[labels[place]] + alpha * float(softmax(opinion[place]) @ log_odds)
            count += 1
    assert count > 3
    return total / count


def test_the_loss_is_its_definition() -> None:
    """ITC with queue and soft targets, ITM over the drawn pairs, hidden words with the momentum model's opinion."""
    model = made(alpha=0.4, ramp=0.1)
    tokens = model.tokenize(CAPTIONS)
    parts = {name: value.item() for name, value in model(pictures(), tokens, None, MOMENT).items()}
    assert parts["loss"] == pytest.approx(parts["itc"] + parts["itm"] + parts["mlm"], rel=1e-6)
    with torch.no_grad():
        assert parts["itc"] == pytest.approx(contrast_by_hand(model, tokens, 0.2), rel=1e-5)
        assert parts["itm"] == pytest.approx(matching_by_hand(model, tokens), rel=1e-5)
        assert parts["mlm"] == pytest.approx(finding_by_hand(model, tokens, 0.2), rel=1e-5)


# ------------------------------------------------------------------------------------------- what moves, and when


def test_forward_changes_nothing_and_after_step_does() -> None:
    model = made().train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    model(pictures(), model.tokenize(CAPTIONS), None, MOMENT)["loss"].backward()
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert {n for n, p in model.named_parameters() if p.grad is None} == {
        n for n, _ in model.named_parameters() if n.startswith("slow.")
    }
    model.after_step(MOMENT)
    changed = {name.split(".")[0] for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert changed == {"slow", "queue"}
    for name, slow in model.slow.named_parameters():
        torch.testing.assert_close(slow, 0.9 * before[f"slow.{name}"] + 0.1 * model.reader.get_parameter(name))
    assert model.queue.place == 4


def test_the_head_is_the_embeddings_in_both_models() -> None:
    model = made()
    for reader in (model.reader, model.slow):
        assert reader.head.predictions.decoder.weight is reader.encoders.text.embeddings.word_embeddings.weight


def test_text_layers_do_not_see_pictures_and_fusion_layers_do() -> None:
    model = made(layers=2)
    assert len(model.reader.encoders.text.encoder.layer) == len(model.reader.fusion.encoder.layer) == 2
    assert not any(hasattr(layer, "crossattention") for layer in model.reader.encoders.text.encoder.layer)
    assert all(hasattr(layer, "crossattention") for layer in model.reader.fusion.encoder.layer)


def test_no_parameter_is_in_two_blocks() -> None:
    seen = [p for block in made().blocks() for p in block.parameters()]
    assert len(seen) == len({id(p) for p in seen})


def test_tau_is_held_and_told() -> None:
    model = made()
    model.tau.data.fill_(5.0)
    model.after_step(MOMENT)
    assert model.tau.item() == 0.5
    model.train()(pictures(), model.tokenize(CAPTIONS), None, MOMENT)
    assert model.told() == {"tau": 0.5}


# ------------------------------------------------------------------------------------------- use


def test_abilities() -> None:
    model = made()
    assert isinstance(model, Encoders)
    assert isinstance(model, Matcher)
    assert not isinstance(model, Captioner)
    torch.testing.assert_close(model.encode_images(pictures()).norm(dim=1), torch.ones(4))
    torch.testing.assert_close(model.encode_texts(CAPTIONS).norm(dim=1), torch.ones(4))
    with torch.no_grad():
        said = text_of(model, model.reader, model.tokenize(CAPTIONS)[2])
        logits = model.matching(fused(model.reader, said, picture_of(model, model.reader, 2))[0])
    odds = 2 * math.exp(logits[1] - logits[0])  # as if half of the pairs were true
    assert model.match(pictures(), CAPTIONS)[2].item() == pytest.approx(odds / (1 + odds), rel=1e-4)


def test_what_there_is_not_is_refused(tmp_path: object) -> None:
    with pytest.raises(TrainingError, match="no library has weights of ALBEF"):
        family("albef").build(Towers("base", weights=str(tmp_path)), {}, 0)
    with pytest.raises(TrainingError, match="no library has models like Albef"):
        made().export(tmp_path)  # type: ignore[arg-type]
    with pytest.raises(TrainingError, match="hidden lies in"):
        family("albef").build(TOWERS, {"hidden": 0.0}, 0)


def test_every_scale_is_a_configuration() -> None:
    for name in ("tiny", "small", "medium", "large"):
        assert scale(name, "albef").samples % scale(name, "albef").batch == 0


def test_on_a_gpu_all_places_are_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that nothing waits for a count of hidden ones; loss and gradients are the same."""
    model, found = made(), []
    for everywhere in (False, True):
        if everywhere:
            monkeypatch.setattr(albef, "_places", lambda labels: None)
        losses = model(pictures(), model.tokenize(CAPTIONS), None, MOMENT)
        model.zero_grad()
        losses["loss"].backward()
        found.append((losses, {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}))
    assert found[0][0]["mlm"].item() > 0
    torch.testing.assert_close(found[0], found[1], rtol=1e-5, atol=1e-6)
