"""BLIP: its parts against loops and against transformers."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

pytest.importorskip("transformers")
from transformers import BlipForConditionalGeneration

from tests.training_smoke.families.blip_cases import CAPTIONS, MOMENT, made, moved, pictures
from training_smoke.abilities import Captioner, Encoders, Matcher
from training_smoke.config import Towers, scale
from training_smoke.families.blip import Blip
from training_smoke.families.blip_text import Words
from training_smoke.sampling import Sampling

# ------------------------------------------------------------------------------------------- the loss


def test_the_loss_is_its_definition() -> None:
    """ITC with queue and soft targets, ITM over the drawn pairs and smoothed LM, from features in numpy's float64."""
    model = moved(made(alpha=0.4, ramp=0.1))
    tokens = model.tokenize(CAPTIONS)
    losses = model(pictures(), tokens, None, MOMENT)
    parts = {name: value.item() for name, value in losses.items()}
    assert parts["loss"] == pytest.approx(parts["itc"] + parts["itm"] + parts["lm"], rel=1e-6)
    with torch.no_grad():
        assert parts["itc"] == pytest.approx(contrast_by_hand(model, tokens, alpha=0.4 * 0.05 / 0.1), rel=1e-5)
        assert parts["itm"] == pytest.approx(matching_by_hand(model, tokens), rel=1e-5)
        assert parts["lm"] == pytest.approx(writing_by_hand(model, tokens), rel=1e-5)


def hidden_of_text(model: Blip, row: Tensor, shown: Tensor | None, slow: bool = False) -> Tensor:
    """One text without its padding: what no mask has to hide."""
    row = row[row != model.words.pad][None]
    text = (model.slow if slow else model.encoders).text
    return text(input_ids=row, encoder_hidden_states=shown).last_hidden_state[0]


def features(model: Blip, tokens: Tensor, slow: bool) -> tuple[np.ndarray, np.ndarray]:
    encoders = model.slow if slow else model.encoders
    images = encoders.vision(pixel_values=model.normalised(pictures())).last_hidden_state[:, 0]
    texts = torch.stack([hidden_of_text(model, row, None, slow)[0] for row in tokens])
    both = encoders.image_projection(images), encoders.text_projection(texts)
    found = [x.double().numpy() for x in both]
    return tuple(x / np.linalg.norm(x, axis=1, keepdims=True) for x in found)  # type: ignore[return-value]


def softmax(logits: np.ndarray) -> np.ndarray:
    odds = np.exp(logits - logits.max())
    return odds / odds.sum()


def contrast_by_hand(model: Blip, tokens: Tensor, alpha: float) -> float:
    images, texts = features(model, tokens, slow=False)
    slow_images, slow_texts = features(model, tokens, slow=True)
    queues = model.queue.texts.double().numpy(), model.queue.images.double().numpy()
    total = 0.0
    for queries, teachers, batch, queue in (
        (images, slow_images, slow_texts, queues[0]),
        (texts, slow_texts, slow_images, queues[1]),
    ):
        candidates = np.concatenate([batch, queue])
        for i in range(len(queries)):
            said, opinion = (softmax(candidates @ q[i] / 0.1) for q in (queries, teachers))
            target = alpha * opinion + (1 - alpha) * (np.arange(len(candidates)) == i)
            total -= float(target @ np.log(said)) / len(queries) / 2
    return total


def negatives_by_hand(model: Blip, tokens: Tensor) -> tuple[list[int], list[int]]:
    """The candidates from the heaviest down, until their share passes the draw."""
    (images, texts), (slow_images, slow_texts) = (features(model, tokens, slow) for slow in (False, True))
    draws = MOMENT.uniform("itm", len(tokens), 2)

    def drawn(query: np.ndarray, candidates: np.ndarray, own: int, draw: float) -> int:
        weights = softmax(candidates @ query / 0.1) + 1e-4
        weights[own] = 0
        heaviest, passed = sorted(range(len(weights)), key=lambda j: -weights[j]), 0.0
        for j in heaviest:
            passed += weights[j] / weights.sum()
            if passed > draw:
                return j
        raise AssertionError

    n = range(len(tokens))
    of_texts = [drawn(texts[i], slow_images, i, draws[i, 0].item()) for i in n]
    return of_texts, [drawn(images[i], slow_texts, i, draws[i, 1].item()) for i in n]


def matching_by_hand(model: Blip, tokens: Tensor) -> float:
    wrong_pictures, wrong_texts = negatives_by_hand(model, tokens)
    shown = model.encoders.vision(pixel_values=model.normalised(pictures())).last_hidden_state
    n = len(tokens)
    pairs = [(i, i, 1) for i in range(n)]
    pairs += [(wrong_pictures[i], i, 0) for i in range(n)] + [(i, wrong_texts[i], 0) for i in range(n)]
    total = 0.0
    for picture, text, label in pairs:
        logits = model.matching(hidden_of_text(model, tokens[text], shown[picture][None])[0]).double().numpy()
        total -= math.log(softmax(logits)[label])
    return total / len(pairs)


def writing_by_hand(model: Blip, tokens: Tensor) -> float:
    """A token at a time, each from the tokens before it alone: nothing later can have been seen."""
    shown = model.encoders.vision(pixel_values=model.normalised(pictures())).last_hidden_state
    total, count = 0.0, 0
    for row, picture in zip(tokens, shown, strict=True):
        row = row[row != model.words.pad]
        for place in range(1, len(row)):
            logits = model.decoder(input_ids=row[None, :place], encoder_hidden_states=picture[None]).logits[0, -1]
            log_odds = np.log(softmax(logits.double().numpy()))
            total -= 0.9 * log_odds[row[place]] + 0.1 * log_odds.mean()
            count += 1
    return total / count


def test_padding_changes_no_loss() -> None:
    model = moved(made())
    images, more = pictures(), made(Towers("tiny", image_size=16, context=20))
    assert more.tokenize(CAPTIONS).shape[1] == 20
    short, long = (model(images, m.tokenize(CAPTIONS), None, MOMENT) for m in (model, more))
    for name in short:
        torch.testing.assert_close(short[name], long[name], rtol=1e-6, atol=0)


def test_duplicates_are_no_negatives() -> None:
    """All of one group: ITC has its own pair and the queue, ITM asks about true pairs only."""
    model = moved(made(queue=0))
    groups = torch.zeros(4, dtype=torch.int64)
    losses = model(pictures(), model.tokenize(CAPTIONS), groups, MOMENT)
    assert losses["itc"].item() == 0
    shown = model.encoders.images(model.normalised(pictures()))[0]
    true = F.cross_entropy(model._matched(shown, model.tokenize(CAPTIONS)), torch.ones(4, dtype=torch.int64))
    torch.testing.assert_close(losses["itm"], true)


# ------------------------------------------------------------------------------------------- what moves, and when


def test_forward_changes_nothing_and_after_step_does() -> None:
    model = moved(made()).train()
    tokens = model.tokenize(CAPTIONS)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    losses = model(pictures(), tokens, None, MOMENT)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    losses["loss"].backward()
    with torch.no_grad():
        pushed = model.slow.images(model.normalised(pictures()))[1]
    model.after_step(MOMENT)
    changed = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert {name.split(".")[0] for name in changed} == {"slow", "queue"}
    torch.testing.assert_close(model.queue.images[:4], pushed)
    assert model.queue.place == 4
    for name, slow in model.slow.named_parameters():
        own = model.encoders.get_parameter(name)
        torch.testing.assert_close(slow, 0.9 * before[f"slow.{name}"] + 0.1 * own)


def test_everything_that_is_to_learn_has_a_gradient_and_momentum_encoders_none() -> None:
    model = moved(made())
    model(pictures(), model.tokenize(CAPTIONS), None, MOMENT)["loss"].backward()
    without = {name for name, p in model.named_parameters() if p.grad is None}
    assert without == {name for name, _ in model.named_parameters() if name.startswith("slow.")}
    assert not any(p.requires_grad for p in model.slow.parameters())


def test_in_evaluation_nothing_is_put_by() -> None:
    model = made().eval()
    model(pictures(), model.tokenize(CAPTIONS), None, MOMENT)
    model.after_step(MOMENT)
    assert model.queue.place == 0


@pytest.mark.parametrize(("start", "end"), [(5.0, 0.5), (1e-5, 0.001), (0.07, 0.07)])
def test_tau_is_held(start: float, end: float) -> None:
    model = made()
    model.tau.data.fill_(start)
    model.after_step(MOMENT)
    assert model.tau.item() == pytest.approx(end, rel=1e-6)


def test_alpha_rises_over_the_first_part_of_the_run() -> None:
    settings = made(alpha=0.4, ramp=0.1).settings
    assert [settings.alpha_at(share) for share in (0, 0.05, 0.1, 0.9)] == pytest.approx([0, 0.2, 0.4, 0.4])
    assert made(alpha=0.4, ramp=0).settings.alpha_at(0) == 0.4


def test_encoder_and_decoder_share_all_but_self_attention() -> None:
    model = made()
    reading = {p.data_ptr() for p in model.encoders.text.parameters()}
    own = {name for name, p in model.decoder.named_parameters() if p.data_ptr() not in reading}
    assert all(".attention." in name or name.startswith("cls.predictions.") for name in own)
    of_attention = {name for name, _ in model.decoder.named_parameters() if ".attention." in name}
    assert of_attention <= own
    assert model.decoder.cls.predictions.decoder.weight is model.encoders.text.embeddings.word_embeddings.weight


def test_no_parameter_is_in_two_blocks() -> None:
    seen = [p for block in made().blocks() for p in block.parameters()]
    assert len(seen) == len({id(p) for p in seen})


def test_pictures_differ_to_the_model_from_the_start() -> None:
    """transformers' own initial deviation of the vision part, 1e-10, would make all pictures one."""
    with torch.no_grad():
        hidden = made().encoders.vision(pixel_values=made().normalised(pictures())).last_hidden_state[:, 0]
    assert (hidden[0] - hidden[1]).abs().max() > 0.01


# ------------------------------------------------------------------------------------------- what it can do


def test_abilities() -> None:
    model = made()
    assert isinstance(model, Encoders)
    assert isinstance(model, Captioner)
    assert isinstance(model, Matcher)
    torch.testing.assert_close(model.encode_images(pictures()).norm(dim=1), torch.ones(4))
    torch.testing.assert_close(model.encode_texts(CAPTIONS).norm(dim=1), torch.ones(4))
    assert model.match(pictures(), CAPTIONS).shape == (4,)


def test_caption_loss_is_the_sum_over_a_texts_tokens_and_its_end() -> None:
    model = moved(made(smoothing=0.0)).eval()
    sums, counts = model.caption_loss(pictures(), CAPTIONS)
    tokens = model.tokenize(CAPTIONS)
    assert counts.tolist() == [(row != model.words.pad).sum().item() - 1 for row in tokens]
    with torch.no_grad():
        shown = model.encoders.vision(pixel_values=model.normalised(pictures())).last_hidden_state
        for i in range(4):
            row = tokens[i][tokens[i] != model.words.pad]
            logits = model.decoder(input_ids=row[None, :-1], encoder_hidden_states=shown[i][None]).logits[0]
            expected = F.cross_entropy(logits, row[1:], reduction="sum")
            torch.testing.assert_close(sums[i], expected, rtol=1e-5, atol=0)
    assert (sums / counts).mean() == pytest.approx(model(pictures(), tokens, None, MOMENT)["lm"].item(), rel=0.2)


@pytest.mark.parametrize("how", [Sampling("greedy"), Sampling("beam", beams=3)], ids=["greedy", "beam"])
def test_captions_are_transformers(tmp_path: Path, how: Sampling) -> None:
    """The same weights through generate: the engine with our cache says what theirs says."""
    model = moved(made(), by=0.15).eval()
    model.export(tmp_path)
    theirs = BlipForConditionalGeneration.from_pretrained(tmp_path / "captioning").eval()
    ours = model.caption(pictures(), how, [str(i) for i in range(4)])
    said = theirs.generate(
        pixel_values=model.normalised(pictures()), max_new_tokens=model.context - 2, min_new_tokens=1, do_sample=False,
        num_beams=how.beams if how.kind == "beam" else 1, bad_words_ids=[[model.words.pad], [model.words.begin]],
    )  # fmt: skip
    assert ours == model.words.decode(said[:, 1:])
    assert len(set(ours)) > 1


def test_a_text_of_the_web_ends_where_it_ends() -> None:
    words: Words = made().words
    tokens = words.encode(["a </s> dog <pad> runs", ""], 12)
    assert (tokens[0] == words.end).sum() == 1
    assert tokens[1].tolist() == [words.first, words.end] + [words.pad] * 10
    assert words.decode(tokens)[1] == ""


def test_every_scale_is_a_configuration() -> None:
    for name in ("tiny", "small", "medium", "large"):
        config = scale(name, "blip")
        assert config.objective == "blip"
        assert config.samples % config.batch == 0
    assert scale("large", "blip").towers.name == "large"
