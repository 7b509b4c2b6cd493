"""CoCa is open_clip's module: same features, logits, losses, gradients and texts"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from training_smoke.abilities import Captioner, Encoders, Matcher
from training_smoke.config import Towers, scale
from training_smoke.errors import TrainingError
from training_smoke.families import coca, coca_config, family
from training_smoke.families.coca import CoCa
from training_smoke.families.coca_generate import CachedDecoder
from training_smoke.families.coca_parts import read_texts
from training_smoke.generation import generate
from training_smoke.sampling import Sampling

open_clip = pytest.importorskip("open_clip")

from tests.training_smoke.families.coca_cases import NOW, PLAIN, SIZE, TEXTS, TINY, build, narrow, pictures  # noqa: E402
from tests.training_smoke.families.waits import waits_after_pictures  # noqa: E402


@pytest.fixture(scope="module", autouse=True)
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with narrow(tmp_path_factory.mktemp("configurations")):
        yield


@pytest.fixture(scope="module", params=["tiny", PLAIN])
def made(request: pytest.FixtureRequest, small: None) -> CoCa:
    return build(request.param)


# ------------------------------------------------------------------------------------------ it is open_clip's module


def test_losses_and_gradients_are_those_of_open_clip(made: CoCa) -> None:
    """Their forward at all places and their loss, but for "!", the number of their padding, which ours learns too."""
    images, tokens = pictures(2), made.tokenize(TEXTS[1:])
    ours = made(images, tokens, None, NOW)
    found = torch.autograd.grad(ours["loss"], list(made.parameters()))
    out = made.model(made.normalised(images), tokens)
    parts = open_clip.CoCaLoss(caption_loss_weight=2.0, clip_loss_weight=1.0)(
        out["image_features"], out["text_features"], out["logits"], out["labels"], out["logit_scale"].squeeze()
    )
    theirs = torch.autograd.grad(sum(parts), list(made.parameters()))
    torch.testing.assert_close(ours["loss"], sum(parts), rtol=1e-5, atol=0)
    torch.testing.assert_close(ours["contrastive"], parts[0], rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(2 * ours["caption"], parts[1], rtol=1e-5, atol=1e-6)
    for (name, _), a, b in zip(made.named_parameters(), found, theirs, strict=True):
        assert torch.allclose(a, b, rtol=1e-3, atol=1e-5), name


def test_checkpointing_changes_nothing(made: CoCa) -> None:
    images, tokens = pictures(), made.tokenize(TEXTS)

    def gradients() -> tuple[Tensor, ...]:
        return torch.autograd.grad(made(images, tokens, None, NOW)["loss"], list(made.parameters()))

    plain = gradients()
    made.model.set_grad_checkpointing(True)
    again = gradients()
    made.model.set_grad_checkpointing(False)
    torch.testing.assert_close(again, plain)


@pytest.mark.parametrize("shortest", [True, False])
def test_columns_of_padding_are_left_out_and_nothing_else(made: CoCa, shortest: bool) -> None:
    tokens = made.tokenize(TEXTS[1:2] if shortest else TEXTS)
    tokens[0, 1] = made.model.text.pad_id  # CLIP's "!", which is no padding there
    with torch.no_grad():
        features, hidden = read_texts(made.model.text, tokens)
        theirs, all_hidden = made.model.text(tokens)
    assert hidden.shape[1] < tokens.shape[1] or not shortest
    torch.testing.assert_close(features, theirs, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(hidden, all_hidden[:, : hidden.shape[1]], rtol=1e-5, atol=1e-5)


def test_unit_vectors_are_theirs(made: CoCa) -> None:
    with torch.no_grad():
        images = made.model.encode_image(made.normalised(pictures()))
        texts = made.model.encode_text(made.tokenize(TEXTS))
    torch.testing.assert_close(made.encode_images(pictures()), images, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(made.encode_texts(TEXTS), texts, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(texts.norm(dim=-1), torch.ones(3))
    assert isinstance(made, Encoders)
    assert isinstance(made, Captioner)
    assert not isinstance(made, Matcher)


def test_what_open_clip_leaves_as_memory_is_drawn_by_the_seed() -> None:
    first, again, other = (CoCa.build(TINY, {}, seed).model.text_decoder.text_projection for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert first.std().item() == pytest.approx(32**-0.5, rel=0.02)


# ------------------------------------------------------------------------------------------ what it says


def anew(made: CoCa, images: Tensor, tokens: Tensor) -> Tensor:
    """Logits after the last token, by open_clip's forward on the whole text."""
    out: dict[str, Tensor] = made.model(made.normalised(images), tokens, output_labels=False)
    return out["logits"][:, -1]


def test_kept_keys_give_the_logits_of_the_whole_text(made: CoCa) -> None:
    images, tokens = pictures(), made.tokenize(TEXTS)[:, :8]
    tokens[0, 3:5] = made.model.text.pad_id  # hides a place of open_clip's mask
    with torch.no_grad():
        decoder = CachedDecoder(made.model, made.model.visual(made.normalised(images))[1])
        state = decoder.begin()
        for place in range(tokens.shape[1]):
            logits, state = decoder.next(tokens[:, place], state)
            theirs = anew(made, images, tokens[:, : place + 1])
            torch.testing.assert_close(logits, theirs, rtol=1e-4, atol=1e-4)
            if place == 4:  # rows go, stay and change places
                index = torch.tensor([2, 0])
                images, tokens, state = images[index], tokens[index], decoder.rows(state, index)


def test_greedy_captions_are_the_likeliest_tokens_of_open_clips_forward(made: CoCa) -> None:
    how = Sampling("greedy", max_tokens=6, min_tokens=2)
    said, words = [], made.words
    for image in pictures(4, seed=2).split(1):
        tokens = torch.tensor([[words.bos]])
        while tokens.shape[1] <= how.max_tokens and words.eos not in tokens:
            with torch.no_grad():
                logits = anew(made, image, tokens)[0]
            never = {
                words.bos,
                *({words.pad} - {words.eos}),
                *([words.eos] if tokens.shape[1] <= how.min_tokens else []),
            }
            logits[list(never)] = -torch.inf
            tokens = torch.cat([tokens, logits.argmax().view(1, 1)], dim=1)
        said += words.decode(tokens[:, 1:])
    assert made.caption(pictures(4, seed=2), how, list("abcd")) == said


def test_a_caption_never_outgrows_the_context(made: CoCa, monkeypatch: pytest.MonkeyPatch) -> None:
    """A start, ten tokens, an end: so a text is twelve, as in training."""
    asked: list[Sampling] = []

    def watched(decoder: CachedDecoder, rows: int, how: Sampling, *arguments: Any) -> Tensor:
        asked.append(how)
        return generate(decoder, rows, how, *arguments)

    monkeypatch.setattr(coca, "generate", watched)
    for how in (Sampling("nucleus", max_tokens=500, min_tokens=400), Sampling("beam", beams=2, max_tokens=500)):
        assert len(made.caption(pictures(), how, ["a", "b", "c"])) == 3
    assert [(how.min_tokens, how.max_tokens) for how in asked] == [(10, 10), (1, 10)]


def test_caption_loss_is_minus_the_log_likelihood_with_the_end(made: CoCa) -> None:
    texts = [TEXTS[1], TEXTS[2], "what! a dog!"]
    losses, counts = made.caption_loss(pictures(), texts)
    for i, row in enumerate(made.tokenize(texts).tolist()):
        said = row[: len(row) - row[::-1].index(made.words.eos)]
        total = 0.0
        for place in range(1, len(said)):
            with torch.no_grad():
                logits = anew(made, pictures()[i : i + 1], torch.tensor([said[:place]]))[0].double()
            total -= F.log_softmax(logits, dim=0)[said[place]].item()
        assert losses[i].item() == pytest.approx(total, rel=1e-4)
        assert counts[i].item() == len(said) - 1
    assert losses.dtype == torch.float32
    assert counts.dtype == torch.int64


def test_learns_which_picture_is_which() -> None:
    """48 steps on four pictures: each caption becomes likelier under its own picture than under another."""
    made = CoCa.build(TINY, {}, seed=0).train()
    flat = torch.tensor([[250, 20, 20], [20, 200, 20], [20, 20, 250], [240, 240, 240]], dtype=torch.uint8)
    images = flat[:, :, None, None].expand(4, 3, SIZE, SIZE).contiguous()
    texts = ["a red wall", "the green grass", "some blue water", "snow is white"]
    optimiser, tokens = torch.optim.AdamW(made.parameters(), lr=1e-2), made.tokenize(texts)
    for _ in range(48):
        made(images, tokens, None, NOW)["loss"].backward()
        optimiser.step()
        optimiser.zero_grad()
        made.after_step(NOW)
    own, other = (made.caption_loss(images.roll(by, 0), texts)[0] for by in (0, 1))
    assert (own < other - 1).all()
    assert (made.encode_images(images) @ made.encode_texts(texts).T).argmax(1).tolist() == [0, 1, 2, 3]


def test_scale_is_told_and_held_in_its_bounds() -> None:
    made = CoCa.build(TINY, {"caption_weight": 0.5}, seed=0)
    assert made.settings.contrastive_weight == 1.0
    assert made.told()["scale"] == pytest.approx(1 / 0.07)
    with torch.no_grad():
        made.model.logit_scale.fill_(9)
    made.after_step(NOW)
    assert made.told()["scale"] == pytest.approx(100)


@pytest.mark.parametrize(
    ("towers", "said"),
    [
        (Towers("ViT-B-32"), r"no CoCa 'ViT-B-32': tiny, or one of open_clip's: .*coca_ViT-B-32"),
        (Towers("coca_roberta-ViT-B-32"), r"text encoder \(roberta-base\) sees the tokens that its decoder has to"),
        (Towers("tiny", weights="nowhere"), r"nowhere: no such file or folder, and no weights of tiny have this tag"),
        (Towers("tiny", image_size=30), r"image_size 30: tiny has patches of 16"),
        (Towers("tiny", context=3), r"context 3: a text has a start"),
    ],
)
def test_what_cannot_be_is_named(towers: Towers, said: str) -> None:
    with pytest.raises(TrainingError, match=said):
        CoCa.build(towers, {}, seed=0)


def test_settings_are_checked() -> None:
    with pytest.raises(TrainingError, match=r"settings of CoCa: weights are not below 0"):
        CoCa.build(TINY, {"caption_weight": -1.0}, seed=0)
    with pytest.raises(
        TrainingError, match=r"CoCa has no settings weight; there are contrastive_weight, caption_weight"
    ):
        CoCa.build(TINY, {"weight": 1.0}, seed=0)


def test_published_configurations_are_known_by_name() -> None:
    """None is built: the smallest has 250 million parameters."""
    assert family("coca") is CoCa
    for name, size, context in [("coca_ViT-B-32", 224, 76), ("coca_ViT-L-14", 224, 76), ("coca_base", 288, 76)]:
        config: dict[str, Any] = coca_config.configuration(Towers(name))
        assert (config["vision_cfg"]["image_size"], config["text_cfg"]["context_length"]) == (size, context)
        shorter = coca_config.configuration(Towers(name, context=32))
        assert shorter["multimodal_cfg"]["context_length"] == 32
        assert isinstance(coca_config.words_of(config), coca_config.ClipWords)


def test_words_of_clip_come_back() -> None:
    words = coca_config.ClipWords()
    tokens = words.encode(["A dog runs, and barks!", "two men"], 16)
    assert words.decode(tokens) == ["a dog runs, and barks!", "two men"]
    assert words.decode(torch.tensor([[words.bos, 320, 63_999, 1929]])) == ["a dog"]  # no such piece


def test_the_end_of_a_text_is_no_token_within_it() -> None:
    """A caption of the web does not end where it likes; all others are as open_clip has them."""
    words = coca_config.ClipWords()
    found = words.encode(["a <end_of_text> dog", "a &LT;START_of_text> dog", "a dog"], 8)
    assert torch.equal(found[0], found[2])
    assert torch.equal(found[1], found[2])
    texts = [*TEXTS, "", "\u00e9t\u00e9 &amp; sea " * 9]
    for context in (4, 16):
        assert torch.equal(words.encode(texts, context), open_clip.SimpleTokenizer()(texts, context_length=context))


def test_nothing_is_asked_of_the_device_once_pictures_are_on_their_way(made: CoCa) -> None:
    before, after = waits_after_pictures(lambda: made(pictures(), made.tokenize(TEXTS), None, NOW))
    assert before
    assert not after


def test_scales_for_a_gpu_are_not_compiled() -> None:
    """A forward pass that draws, or whose shapes are those of the batch's texts, is not one graph."""
    for name in ("coca", "caption", "siglip_caption", "simvlm", "blip", "albef", "blip2", "blip2_generate"):
        for one in family(name).scales:
            assert not scale(one, name).compile, (name, one)
