"""LLaVA talks as transformers has it talk, from folders that it loads without our code, and theirs load here."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from transformers import (
    AutoProcessor,
    CLIPVisionConfig,
    CLIPVisionModel,
    LlamaConfig,
    LlamaForCausalLM,
    LlavaForConditionalGeneration,
    SiglipVisionConfig,
)

from tests.training_smoke.families.llava_parts import (
    FIRST,
    LANGUAGE,
    SECOND,
    TEXTS,
    VISION,
    exported,
    mini,
    pictures,
)
from training_smoke.abilities import Answerer, Captioner
from training_smoke.config import Config, Towers
from training_smoke.conversations import REQUEST
from training_smoke.errors import TrainingError
from training_smoke.families.llava import TALK, Llava
from training_smoke.families.llava_generate import expanded
from training_smoke.sampling import Sampling
from training_smoke.towers_file import load_model, save_model

torch.set_num_threads(1)
QUESTIONS = ["is there a dog?", "what is the man in the red shirt doing?", "where is this?"]
KEYS = ["a", "b", "c"]


def theirs(folder: str, images: torch.Tensor, questions: list[str], **how: Any) -> list[str]:
    """What transformers says, from the folder alone."""
    processor = AutoProcessor.from_pretrained(folder)
    model = LlavaForConditionalGeneration.from_pretrained(folder).eval()
    processor.tokenizer.padding_side = "left"
    texts = [
        processor.apply_chat_template(
            [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": question}]}],
            add_generation_prompt=True,
        )
        for question in questions
    ]
    pixels = [Image.fromarray(image.permute(1, 2, 0).numpy()) for image in images]
    given = processor(text=texts, images=pixels, return_tensors="pt", padding=True)
    said = model.generate(**given, do_sample=False, **how)
    new = said[:, given["input_ids"].shape[1] :]
    return [text.strip() for text in processor.batch_decode(new, skip_special_tokens=True)]


# ---------------------------------------------------------------- what it says


@pytest.mark.parametrize("template", ["roles", "vicuna"])
def test_it_says_what_transformers_says(tmp_path: Path, template: str) -> None:
    model, images = mini(context=128, template=template), pictures(3)
    folder = exported(model, tmp_path)
    greedy = model.answer(images, QUESTIONS, Sampling("greedy", max_tokens=7), KEYS)
    assert greedy == theirs(folder, images, QUESTIONS, max_new_tokens=7)
    assert len(set(greedy)) == 3
    beams = model.answer(images, QUESTIONS, Sampling("beam", beams=3, max_tokens=7, min_tokens=0), KEYS)
    assert beams == theirs(folder, images, QUESTIONS, max_new_tokens=7, num_beams=3)
    assert model.caption(images, Sampling("greedy", max_tokens=7), KEYS) == theirs(
        folder, images, [REQUEST] * 3, max_new_tokens=7
    )


def test_what_is_said_of_one_does_not_depend_on_the_others() -> None:
    """Though prompts in one batch are padded to the longest."""
    model, images = mini(), pictures(3)
    for how in (Sampling("greedy", max_tokens=6), Sampling("nucleus", max_tokens=6, seed=2)):
        together = model.answer(images, QUESTIONS, how, KEYS)
        alone = [model.answer(images[i : i + 1], [QUESTIONS[i]], how, [KEYS[i]])[0] for i in range(3)]
        assert together == alone


def test_it_is_able() -> None:
    model = mini()
    assert isinstance(model, Captioner)
    assert isinstance(model, Answerer)


@pytest.mark.parametrize("alignment", [0.5, 1.0])
def test_caption_loss_is_of_the_caption_and_its_end(alignment: float) -> None:
    """A run that was all stage 1 knows captions in their plain form only, and is asked for these."""
    model = mini(alignment=alignment).eval()
    images, texts = pictures(3), TEXTS[:3]
    sums, counts = model.caption_loss(images, texts)
    for row in range(3):
        asked = [model.chat.plain(texts[row])] if alignment == 1 else None
        if asked is None:
            tokens = mini(questions=0.0).tokenize([texts[row]])[:, TALK]
        else:
            tokens = model.chat.encode(asked, model.context)
        with torch.no_grad():
            mean = model(images[row : row + 1], tokens, None, SECOND)["loss"]
        assert sums[row].item() == pytest.approx(mean.item() * counts[row].item(), rel=1e-5)
        assert counts[row] == model.weight(tokens)
    assert sums.dtype == torch.float32
    assert model.caption(images, Sampling("greedy", max_tokens=4), KEYS) == model.caption(
        images, Sampling("greedy", max_tokens=4), KEYS[::-1]
    )


# ---------------------------------------------------------------- files


def same(a: Llava, b: Llava) -> None:
    """In weights: what models are made of is said only where they came from elsewhere."""
    ours, others = ({n: v for n, v in m.state_dict().items() if n != "about"} for m in (a, b))
    assert ours.keys() == others.keys()
    for name in ours:
        assert torch.equal(ours[name], others[name]), name


def test_an_exported_folder_has_the_same_logits(tmp_path: Path) -> None:
    model = mini().eval()
    folder = exported(model, tmp_path / "out")
    plain = LlavaForConditionalGeneration.from_pretrained(folder).eval()
    ids, _ = expanded(model.tokenize(TEXTS)[:, TALK, 0], model.chat.image, model.patches)
    pixels = model.normalised(pictures())
    with torch.no_grad():
        ours, others = (m(input_ids=ids, pixel_values=pixels).logits for m in (model.model, plain))
    torch.testing.assert_close(ours, others, atol=1e-5, rtol=0)
    assert plain.lm_head.weight is plain.model.language_model.embed_tokens.weight


def test_a_folder_begins_a_training_by_weights_or_by_name(tmp_path: Path) -> None:
    model = mini(seed=1)
    folder = exported(model, tmp_path / "out")
    same(mini(weights=folder), model)
    named = Llava.build(Towers(folder, weights=folder, context=64), {"train_vision": True}, 0)
    assert isinstance(named, Llava)
    same(named, model)
    assert torch.equal(named.mean, model.mean)
    assert (named.image_size, named.patches) == (32, model.patches)
    images, tokens = pictures(), model.tokenize(TEXTS)
    assert named.tokenize(TEXTS).equal(tokens)
    assert named(images, tokens, None, SECOND)["loss"] == model(images, tokens, None, SECOND)["loss"]


def test_a_file_of_ours_is_a_whole_model(tmp_path: Path) -> None:
    model = mini(seed=1)
    said = Config(objective="llava", towers=Towers("mini", context=64), settings={"train_vision": True})
    save_model(tmp_path / "towers.pt", model, said, {})
    again = load_model(tmp_path / "towers.pt")
    assert isinstance(again, Llava)
    same(again, model)
    same(mini(weights=str(tmp_path / "towers.pt")), model)


def test_a_file_of_ours_needs_no_folder_of_theirs(tmp_path: Path) -> None:
    folder = exported(mini(seed=1), tmp_path / "out")
    towers, settings = Towers(folder, weights=folder, context=64), {"train_vision": True}
    model = Llava.build(towers, settings, 0).eval()
    save_model(tmp_path / "towers.pt", model, Config(objective="llava", towers=towers, settings=settings), {})
    shutil.rmtree(folder)
    again = load_model(tmp_path / "towers.pt")
    assert isinstance(again, Llava)
    same(again, model)
    assert torch.equal(again.tokenize(TEXTS), model.tokenize(TEXTS))
    assert (again.patches, again.chat.image, again.chat.end) == (model.patches, model.chat.image, model.chat.end)
    assert torch.equal(again.mean, model.mean)
    how = Sampling("greedy", max_tokens=6)
    assert again.answer(pictures(3), QUESTIONS, how, KEYS) == model.answer(pictures(3), QUESTIONS, how, KEYS)
    exported(again, tmp_path / "again")
    assert (tmp_path / "again" / "chat_template.jinja").is_file()


def test_a_folder_without_its_tokenizer_is_refused(tmp_path: Path) -> None:
    folder = exported(mini(), tmp_path / "out")
    for file in Path(folder).glob("*token*"):
        file.unlink()
    with pytest.raises(TrainingError):
        Llava.build(Towers(folder, weights=folder), {}, 0)


@pytest.mark.parametrize("changed", [{"hidden_size": 16}, {"vocab_size": 1100}])
def test_weights_of_another_shape_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changed: Any) -> None:
    from training_smoke.families.llava_settings import SIZES

    folder = exported(mini(), tmp_path / "out")
    monkeypatch.setitem(SIZES, "other", (VISION, LANGUAGE | changed))
    with pytest.raises(TrainingError, match=r"another (shape|tokenizer)"):
        Llava.build(Towers("other", weights=folder), {}, 0)


# ---------------------------------------------------------------- made of models of others


@pytest.fixture(scope="module")
def halves(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """Folders of a vision tower and of a language model, with its tokenizer."""
    from training_smoke.vocabulary import Vocabulary

    root = tmp_path_factory.mktemp("halves")
    torch.manual_seed(3)
    CLIPVisionModel(CLIPVisionConfig(**VISION)).save_pretrained(root / "vision")
    (root / "vision/preprocessor_config.json").write_text(
        '{"image_mean": [0.1, 0.2, 0.3], "image_std": [0.4, 0.5, 0.6]}'
    )
    numbers = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
    language = LlamaConfig(**(LANGUAGE | {"tie_word_embeddings": False, "vocab_size": 900}), **numbers)
    LlamaForCausalLM(language).save_pretrained(root / "language")
    Vocabulary.small(900).hf().save_pretrained(root / "language")
    return str(root / "vision"), str(root / "language")


def test_two_trained_models_become_one(halves: tuple[str, str], tmp_path: Path) -> None:
    vision, language = halves
    model = Llava.build(Towers("mini", context=128), {"vision": vision, "language": language, "template": "vicuna"}, 0)
    assert isinstance(model, Llava)
    tower, speaker = CLIPVisionModel.from_pretrained(vision), LlamaForCausalLM.from_pretrained(language)
    for name, value in tower.state_dict().items():
        assert torch.equal(model.model.model.vision_tower.state_dict()[name], value)
    for name, value in speaker.model.state_dict().items():
        assert torch.equal(model.model.model.language_model.state_dict()[name][: len(value)], value)
    assert torch.equal(model.model.lm_head.weight, speaker.lm_head.weight)
    assert model.mean.flatten().tolist() == pytest.approx([0.1, 0.2, 0.3])
    assert not model.model.model.vision_tower.embeddings.patch_embedding.weight.requires_grad
    plain = exported(model, tmp_path)
    again = Llava.build(Towers(plain, weights=plain, context=128), {"template": "vicuna"}, 0)
    assert isinstance(again, Llava)
    same(again, model)


@pytest.mark.parametrize(
    ("vision", "cls", "patches"),
    [
        (CLIPVisionConfig(**VISION), False, 4),
        (CLIPVisionConfig(**VISION), True, 5),
        (SiglipVisionConfig(**VISION), False, 4),
    ],
)
def test_towers_of_several_kinds(tmp_path: Path, vision: Any, cls: bool, patches: int) -> None:
    vision.to_json_file(tmp_path / "config.json", use_diff=False)
    settings = {"vision": str(tmp_path / "config.json"), "cls": cls, "train_vision": True}
    model = Llava.build(Towers("mini", context=64), settings, 0)
    assert isinstance(model, Llava)
    assert model.patches == model.features(model.normalised(pictures(1))).shape[1] == patches
    model(pictures(), model.tokenize(TEXTS), None, SECOND)["loss"].backward()
    assert all((p.grad is not None) == p.requires_grad for p in model.parameters())
    folder = exported(model, tmp_path / "out")
    said = Sampling("greedy", max_tokens=5)
    assert model.answer(pictures(1), QUESTIONS[:1], said, ["a"]) == theirs(
        folder, pictures(1), QUESTIONS[:1], max_new_tokens=5
    )


# ---------------------------------------------------------------- adapters


def test_adapters_learn_in_the_language_models_place(tmp_path: Path) -> None:
    pytest.importorskip("peft", reason="adapters need peft: pip install 'curate[lora]'")
    model = mini(lora=4, lora_alpha=8.0, train_vision=False, alignment=0.5).eval()
    learns = {n for n, p in model.named_parameters() if p.requires_grad}
    assert all("lora_" in n or "projector" in n for n in learns)
    model(pictures(), model.tokenize(TEXTS), None, FIRST)["loss"].backward()
    assert {n for n, p in model.named_parameters() if p.grad is not None} == {n for n in learns if "projector" in n}
    model(pictures(), model.tokenize(TEXTS), None, SECOND)["loss"].backward()
    assert {n for n, p in model.named_parameters() if p.grad is not None} == learns
    plain = LlavaForConditionalGeneration.from_pretrained(exported(model, tmp_path)).eval()
    ids, _ = expanded(model.tokenize(TEXTS)[:, TALK, 0], model.chat.image, model.patches)
    pixels = model.normalised(pictures())
    with torch.no_grad():
        ours, others = (m(input_ids=ids, pixel_values=pixels).logits for m in (model.model, plain))
    torch.testing.assert_close(ours, others, atol=1e-4, rtol=0)  # sums of weights in another order
    assert not any("lora" in name for name in plain.state_dict())


def test_without_peft_adapters_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(TrainingError, match=r"settings.lora needs peft: pip install 'curate\[lora\]'"):
        mini(lora=4)
