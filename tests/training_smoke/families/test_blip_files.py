"""BLIP's weights in transformers' format, both ways, and in files of ours."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

pytest.importorskip("transformers")
from transformers import (
    BertTokenizerFast,
    BlipConfig,
    BlipForConditionalGeneration,
    BlipForImageTextRetrieval,
    BlipProcessor,
)

from tests.training_smoke.families.blip_cases import CAPTIONS, SETTINGS, TOWERS, fair, made, moved, pictures
from training_smoke.config import Config, Towers
from training_smoke.errors import TrainingError
from training_smoke.families import family
from training_smoke.families.blip import Blip
from training_smoke.families.blip_text import Words, check_words
from training_smoke.objectives.caption import IGNORED
from training_smoke.towers_file import load_model, save_model
from training_smoke.vocabulary import Vocabulary


def by_transformers(folder: Path, images: Tensor, captions: list[str]) -> dict[str, Tensor]:
    """What transformers makes of an export, from pictures and strings, without any code of ours."""
    retrieval = BlipForImageTextRetrieval.from_pretrained(folder / "retrieval").eval()
    captioning = BlipForConditionalGeneration.from_pretrained(folder / "captioning").eval()
    processor = BlipProcessor.from_pretrained(folder / "captioning")
    given = processor(
        images=[i.permute(1, 2, 0).numpy() for i in images], text=captions, padding=True, return_tensors="pt"
    )
    with torch.no_grad():
        return {
            "match": fair(retrieval(**given).itm_score.softmax(1)[:, 1]),
            "similarity": retrieval(**given, use_itm_head=False).itm_score,
            "logits": captioning(**given).logits,
        }


def by_us(model: Blip, images: Tensor, captions: list[str]) -> dict[str, Tensor]:
    tokens = model._tokens(captions)
    with model.inference():
        hidden, labels = model._written(model.encoders.images(model.normalised(images))[0], tokens)
        logits = model.decoder.cls(hidden)
    assert (labels == IGNORED).any()
    similarity = model.encode_images(images) @ model.encode_texts(captions).T
    return {"match": model.match(images, captions), "similarity": similarity, "logits": logits}


def assert_same(ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> None:
    places = ours["logits"].shape[1]
    for name, found in ours.items():
        expected = theirs[name][:, :places] if name == "logits" else theirs[name]
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-5, msg=lambda m, name=name: f"{name}: {m}")


def test_transformers_loads_ours(tmp_path: Path) -> None:
    model = moved(made()).eval()
    model.export(tmp_path)
    assert_same(by_us(model, pictures(), CAPTIONS), by_transformers(tmp_path, pictures(), CAPTIONS))


def test_ours_come_back(tmp_path: Path) -> None:
    model = moved(made()).eval()
    model.export(tmp_path)
    again = made(Towers("tiny", weights=str(tmp_path), context=12)).eval()
    assert_same(by_us(again, pictures(), CAPTIONS), by_us(model, pictures(), CAPTIONS))
    for name, slow in again.slow.named_parameters():
        assert torch.equal(slow, again.encoders.get_parameter(name))


def theirs_with_berts_words(folder: Path) -> BlipForImageTextRetrieval:
    """As on the hub: a tokenizer of BERT's kind that does not know [DEC] and [ENC], the last two of the embeddings."""
    pieces = [
        "[PAD]",
        "[UNK]",
        "[CLS]",
        "[SEP]",
        "[MASK]",
        "a",
        "dog",
        "runs",
        "over",
        "the",
        "grass",
        "two",
        "men",
        ".",
        *(f"word{i}" for i in range(100)),
    ]
    (folder / "vocab.txt").write_text("\n".join(pieces))
    tokenizer = BertTokenizerFast(vocab=str(folder / "vocab.txt"))
    n = len(tokenizer)
    shape = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
    ids = {"vocab_size": n + 2, "bos_token_id": n, "sep_token_id": 3, "pad_token_id": 0}
    config = BlipConfig(
        text_config=shape | ids | {"max_position_embeddings": 16},
        vision_config=shape | {"image_size": 16, "patch_size": 8, "initializer_range": 0.2},
        image_text_hidden_size=24,
    )
    torch.manual_seed(3)
    model = BlipForImageTextRetrieval(config).eval()
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return model


def test_theirs_load_here(tmp_path: Path) -> None:
    theirs = theirs_with_berts_words(tmp_path)
    with pytest.warns(UserWarning, match="has no writing head"):
        model = made(Towers(str(tmp_path), weights=str(tmp_path), context=10)).eval()
    w = model.words
    assert (w.pad, w.first, w.begin, w.fused, w.end) == (0, 2, 114, 115, 3)
    tokens = model.tokenize(["A dog runs over the grass."])
    assert tokens.tolist() == [[2, 5, 6, 7, 8, 9, 10, 13, 3, 0]]
    assert w.decode(tokens) == ["a dog runs over the grass."]
    pixels = model.normalised(pictures(1))
    there, fused = w.there(tokens), tokens.clone()
    fused[:, 0] = 115
    with torch.no_grad():
        score = theirs(input_ids=fused, pixel_values=pixels, attention_mask=there).itm_score.softmax(1)[:, 1]
        score = fair(score)
        similarity = theirs(input_ids=tokens, pixel_values=pixels, attention_mask=there, use_itm_head=False).itm_score
    torch.testing.assert_close(model.match(pictures(1), ["a dog runs over the grass."]), score, rtol=0, atol=1e-5)
    ours = model.encode_images(pictures(1)) @ model.encode_texts(["a dog runs over the grass."]).T
    torch.testing.assert_close(ours, similarity, rtol=0, atol=1e-5)


def test_a_file_of_ours_needs_no_folder_of_theirs(tmp_path: Path) -> None:
    there = tmp_path / "theirs"
    there.mkdir()
    theirs_with_berts_words(there)
    towers = Towers(str(there), weights=str(there), context=10)
    config = Config(objective="blip", settings=SETTINGS, towers=towers)
    with pytest.warns(UserWarning, match="has no writing head"):
        model = made(towers).eval()
    save_model(tmp_path / "towers.pt", model, config, {})
    shutil.rmtree(there)
    again = load_model(tmp_path / "towers.pt")
    assert isinstance(again, Blip)
    captions = ["a dog runs", "two men."]
    assert again.tokenize(captions).tolist() == model.tokenize(captions).tolist()
    assert torch.equal(again.match(pictures(2), captions), model.match(pictures(2), captions))
    # And begins a training.
    begun = made(Towers(str(tmp_path / "towers.pt"), weights=str(tmp_path / "towers.pt"), context=10)).eval()
    assert torch.equal(begun.match(pictures(2), captions), model.match(pictures(2), captions))


def test_a_file_of_ours_begins_a_run(tmp_path: Path) -> None:
    """With all that was learned, momentum encoders and tau too; the queue is new, of whatever size."""
    model = moved(made()).eval()
    file = str(tmp_path / "towers.pt")
    save_model(file, model, Config(objective="blip", settings=SETTINGS, towers=TOWERS), {})
    begun = made(replace(TOWERS, weights=file), queue=4).eval()
    assert begun.queue.images.shape == (4, 32)
    learned = {n: v for n, v in model.state_dict().items() if not n.startswith("queue.")}
    for name, value in learned.items():
        assert torch.equal(begun.state_dict()[name], value), name
    with pytest.raises(TrainingError, match="is of other sizes"):
        made(replace(TOWERS, weights=file), width=64)
    other = family("caption").build(Towers("tiny"), {}, seed=0)
    save_model(file, other, Config(objective="caption", towers=Towers("tiny")), {})
    with pytest.raises(TrainingError, match="is no BLIP"):
        made(replace(TOWERS, weights=file))


def test_towers_say_the_size_of_weights_or_where_they_lie(tmp_path: Path) -> None:
    moved(made()).export(tmp_path)
    with pytest.raises(TrainingError, match=r"2 layers of width 32.*that is not 'base'"):
        made(Towers("base", weights=str(tmp_path)))
    with pytest.raises(TrainingError, match="that is not 'tiny'"):
        made(Towers("tiny", weights=str(tmp_path)), width=64)
    assert made(Towers(str(tmp_path), weights=str(tmp_path)), width=64).plan.text.hidden_size == 32


def test_a_folder_without_its_tokenizer_is_refused(tmp_path: Path) -> None:
    """Of such a folder transformers makes a tokenizer of five words."""
    moved(made()).export(tmp_path)
    for file in (tmp_path / "retrieval").glob("*token*"):
        file.unlink()
    with pytest.raises(TrainingError, match="do not belong together, or the tokenizer's files"):
        made(Towers("tiny", weights=str(tmp_path)))


@pytest.mark.parametrize(("words", "knows"), [(120, 100), (99, 99), (120, 300)])
def test_tokenizers_that_do_not_belong_to_a_model(words: int, knows: int) -> None:
    tokenizer = Words.ours(Vocabulary.small(600)).tokenizer

    class Some:
        def get_vocab(self) -> dict[str, int]:
            return {str(i): i for i in range(words)}

        def get_added_vocab(self) -> dict[str, int]:
            return {"119": 119, "118": 118}

    with pytest.raises(TrainingError, match="do not belong together"):
        check_words(Some(), knows, "there")
    check_words(Some(), 118, "there", may_add=True) if words == 120 else None
    check_words(tokenizer, 600, "there")


def test_folders_that_lack_weights_are_refused(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    moved(made()).export(tmp_path)
    file = tmp_path / "retrieval" / "model.safetensors"
    state = load_file(file)
    state.pop("itm_head.weight")
    save_file(state, file, metadata={"format": "pt"})
    with pytest.raises(TrainingError, match=r"lacks 1 tensors, first itm_head.weight"):
        made(Towers("tiny", weights=str(tmp_path)))
    file.write_bytes(b"nothing")
    with pytest.raises(TrainingError, match="retrieval is no model of transformers' BLIP classes"):
        made(Towers("tiny", weights=str(tmp_path)))
    file.unlink()
    with pytest.raises(TrainingError, match="retrieval is no model of transformers' BLIP classes"):
        made(Towers("tiny", weights=str(tmp_path)))


def test_its_processor_prepares_pictures_as_we_do(tmp_path: Path) -> None:
    """The centre of a picture, not all of it pressed into a square."""
    pytest.importorskip("torchvision")
    from PIL import Image

    model = made()
    model.export(tmp_path)
    colours = np.random.default_rng(0).integers(0, 256, (32, 64, 3), dtype=np.uint8)
    given = BlipProcessor.from_pretrained(tmp_path / "captioning")(images=Image.fromarray(colours), return_tensors="pt")
    small = Image.fromarray(colours).resize((32, 16), Image.Resampling.BICUBIC).crop((8, 0, 24, 16))
    ours = model.normalised(torch.from_numpy(np.array(small)).permute(2, 0, 1)[None])
    torch.testing.assert_close(given["pixel_values"], ours, rtol=0, atol=0.02)


def test_what_is_no_blip_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="is no model of transformers"):
        made(Towers("base", weights=str(tmp_path / "nothing")))
    with pytest.raises(TrainingError, match="is of class none"):
        made(Towers("base", weights=str(tmp_path)))
    (tmp_path / "config.json").write_text('{"model_type": "blip", "architectures": ["BlipForQuestionAnswering"]}')
    with pytest.raises(TrainingError, match="is of class BlipForQuestionAnswering"):
        made(Towers("base", weights=str(tmp_path)))
    with pytest.raises(TrainingError, match="towers 'huge'"):
        made(Towers("huge"))
    with pytest.raises(TrainingError, match="multiple of the patch"):
        made(Towers("tiny", image_size=20))
    with pytest.raises(TrainingError, match="a context of 400"):
        made(Towers("tiny", image_size=16, context=400))
    with pytest.raises(TrainingError, match="tau lies in"):
        made(tau=2.0)
    with pytest.raises(TrainingError, match="momentum and alpha"):
        made(momentum=1.5)
