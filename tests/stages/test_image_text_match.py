"""Matching of pictures and texts: the answers of the judge's models and of transformers', each picture seen once."""

from __future__ import annotations

import io
import json
import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

pytest.importorskip("torch", reason="torch is not installed: image_text_match is not tested")
pytest.importorskip("transformers", reason="transformers is not installed: image_text_match is not tested")

import torch

from curate.run.prints import Prints
from stages import matcher_files
from stages.base import IMAGE, TEXT, Batch
from stages.image_text_match import ImageTextMatch
from stages.matchers import Matcher, probability
from tests.stages.image_parts import picture, pictures
from tests.stages.text_lists import MANY, ONE, many, one
from tests.training_smoke.families.blip_cases import SETTINGS, TOWERS, fair, made, moved
from training_smoke.config import Config, Towers
from training_smoke.families import family
from training_smoke.objectives.itm import balanced
from training_smoke.towers_file import load_model, save_model

SAID: list[str | None] = ["A dog runs over the grass.", "Two men.", None, "a red car " * 30, "", "the street"]


@pytest.fixture(scope="module")
def towers(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A BLIP of the judge's, whose answers differ."""
    model = moved(made(), 0.1)
    path = tmp_path_factory.mktemp("blip") / "towers.pt"
    save_model(path, model, Config(objective="blip", towers=TOWERS, settings=SETTINGS), {})
    return str(path)


@pytest.fixture(scope="module")
def stage(towers: str) -> ImageTextMatch:
    stage = ImageTextMatch(weights=towers, batch=4)
    stage.open()
    return stage


def batch(texts: Sequence[str | None] = SAID, images: Sequence[bytes] | None = None) -> Batch:
    return Batch.of(pa.table({"text": pa.array(texts, pa.string())}), images or pictures(len(texts)))


def asked(stage: ImageTextMatch, rows: Batch) -> list[Any]:
    table = stage.run(rows)
    assert table.schema == stage.writes()
    return list(table.column(0).to_pylist())


def by_the_judge(path: str, images: Sequence[bytes], texts: Sequence[str]) -> list[float]:
    """What the model says by itself, of pictures cut as evaluation cuts them."""
    from training_smoke.evaluate.encode import pixels
    from training_smoke.evaluate.folders import Sample

    model: Any = load_model(path)
    squares = np.stack([pixels(Sample("0", image, None), model.image_size) for image in images])
    found: list[float] = model.match(torch.from_numpy(squares), list(texts)).tolist()
    return found


# ---------------------------------------------------------------------------------------------- answers


def test_answers_are_the_judges_own(stage: ImageTextMatch, towers: str) -> None:
    images = pictures(len(SAID))
    there = [i for i, text in enumerate(SAID) if text is not None]
    expected = by_the_judge(towers, [images[i] for i in there], [SAID[i] or "" for i in there])
    found = asked(ImageTextMatch(weights=towers, batch=4, fair=True), batch(images=images))
    assert [f is None for f in found] == [text is None for text in SAID]
    assert [found[i] for i in there] == pytest.approx(expected, abs=2e-5)
    assert np.ptp(expected) > 0.01  # of pictures and texts that the model tells from each other
    strict = asked(stage, batch(images=images))
    for plain, even in zip(strict, found, strict=True):
        assert plain is None or even == pytest.approx(fair(torch.tensor(plain)).item(), abs=3e-5)


@pytest.mark.parametrize("kind", ["albef", "blip2"])
def test_other_families_match_too(kind: str, tmp_path: Path) -> None:
    small = TOWERS if kind == "albef" else Towers("tiny")
    given_settings = SETTINGS | {"layers": 1} if kind == "albef" else {}
    model = family(kind).build(small, given_settings, seed=0)
    draws = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.05 * torch.randn(parameter.shape, generator=draws)
    path = tmp_path / "towers.pt"
    save_model(path, model, Config(objective=kind, towers=small, settings=given_settings), {})
    images, texts = pictures(3), ["a dog", "two men on a long street", "x"]
    found = asked(ImageTextMatch(weights=str(path), batch=2, fair=True), batch(texts, images))
    assert found == pytest.approx(by_the_judge(str(path), images, texts), abs=2e-5)


def test_answers_are_those_of_transformers(tmp_path: Path) -> None:
    from transformers import AutoProcessor, BlipForImageTextRetrieval

    model = moved(made(), 0.1).eval()
    model.export(tmp_path)
    theirs = BlipForImageTextRetrieval.from_pretrained(tmp_path / "retrieval").eval()
    processor = AutoProcessor.from_pretrained(tmp_path / "retrieval")
    # Squares: where half a pixel is to be cut off, transformers and torchvision do not round alike.
    images, texts = [picture(i, 16, 16) for i in range(4)], ["a dog", "two men on a street", "x", "A red car."]
    expected = []
    for image, text in zip(images, texts, strict=True):
        rgb = Image.open(io.BytesIO(image)).convert("RGB")
        with torch.no_grad():
            said = theirs(**processor(images=rgb, text=text, return_tensors="pt")).itm_score
        expected.append(said.softmax(1)[0, 1].item())
    for place in (tmp_path, tmp_path / "retrieval"):
        assert asked(ImageTextMatch(weights=str(place), batch=3), batch(texts, images)) == pytest.approx(
            expected, abs=2e-4
        )


def test_a_published_folder_is_asked_as_it_was_trained(tmp_path: Path) -> None:
    """[ENC] first, both sides of the picture brought to size, the colours of its processor."""
    from transformers import BertTokenizerFast, BlipConfig, BlipForImageTextRetrieval

    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *(f"word{i}" for i in range(120)), "dog", "red"]
    (tmp_path / "vocab.txt").write_text("\n".join(words))
    tokenizer = BertTokenizerFast(str(tmp_path / "vocab.txt"))
    tokenizer.save_pretrained(tmp_path)
    part = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
    begin = len(words)
    text = part | {"vocab_size": begin + 2, "encoder_hidden_size": 32, "bos_token_id": begin, "pad_token_id": 0}
    config = BlipConfig(
        vision_config=part | {"image_size": 32, "patch_size": 8, "initializer_range": 0.2},
        text_config=text | {"sep_token_id": 3, "initializer_range": 0.2},
        image_text_hidden_size=16,
    )
    theirs = BlipForImageTextRetrieval(config).eval()
    theirs.save_pretrained(tmp_path)
    (tmp_path / "preprocessor_config.json").write_text(
        '{"size": {"height": 32, "width": 32}, "resample": 3, "image_mean": [0.5, 0.5, 0.5],'
        ' "image_std": [0.25, 0.25, 0.25]}'
    )
    (image,) = pictures(1)
    rgb = Image.open(io.BytesIO(image)).convert("RGB").resize((32, 32), Image.Resampling.BICUBIC)
    pixels = (torch.from_numpy(np.asarray(rgb).copy()).permute(2, 0, 1)[None] / 255 - 0.5) / 0.25
    tokens = tokenizer("red dog", return_tensors="pt")["input_ids"]
    tokens[0, 0] = begin + 1
    with torch.no_grad():
        expected = theirs(input_ids=tokens, pixel_values=pixels).itm_score.softmax(1)[0, 1].item()
    (found,) = asked(ImageTextMatch(weights=str(tmp_path)), batch(["red dog"], [image]))
    assert found == pytest.approx(expected, abs=2e-4)


def test_the_probability_of_logits() -> None:
    logits = np.log(np.array([[2.0, 1.0], [1, 1], [1, 3]]))
    assert probability(logits).tolist() == pytest.approx([1 / 3, 0.5, 0.75])
    assert probability(logits, fair=True).tolist() == pytest.approx(balanced(torch.tensor(logits)).tolist())
    assert probability(np.array([[1e4, -1e4], [-1e4, 1e4]])).tolist() == [0, 1]


# ---------------------------------------------------------------------------------------------- several texts


def test_bf16_is_near(stage: ImageTextMatch, towers: str) -> None:
    exact = asked(stage, batch())
    low = asked(ImageTextMatch(weights=towers, batch=4, precision="bf16"), batch())
    differ = [abs(a - b) for a, b in zip(exact, low, strict=True) if a is not None]
    assert 0 < max(differ) < 0.05


def test_a_list_of_texts_has_a_list_of_answers(towers: str, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [["a dog", "two men", None], None, [], ["the street"], ["a red car " * 9, ""]]
    images = pictures(len(rows))
    stage = ImageTextMatch(weights=towers, text=MANY, batch=2)
    assert stage.writes().field("told_itm").type == pa.list_(pa.float32())
    seen: list[int] = []
    see = Matcher.see
    monkeypatch.setattr(Matcher, "see", lambda self, squares: seen.append(len(squares)) or see(self, squares))
    found = asked(stage, many(rows, images))
    assert seen == [2, 2]  # three pictures with a text, two in a pass
    assert [None if f is None else len(f) for f in found] == [3, None, 0, 1, 2]
    assert found[0][2] is None
    flat = [
        (image, text) for image, texts in zip(images, rows, strict=True) for text in texts or () if text is not None
    ]
    alone = asked(ImageTextMatch(weights=towers, batch=2), batch([t for _, t in flat], [i for i, _ in flat]))
    assert [p for row in found for p in row or () if p is not None] == pytest.approx(alone, abs=2e-5)


def test_one_caption_a_sample_is_a_scalar(towers: str) -> None:
    stage = ImageTextMatch(weights=towers, text=ONE, batch=4)
    assert stage.reads() == (IMAGE, ONE)
    assert stage.writes().names == ["told_itm", "error"]
    found = asked(stage, one(["a dog", None], pictures(2)))
    assert found[1] is None
    assert found[0] == pytest.approx(
        asked(ImageTextMatch(weights=towers, batch=4), batch(["a dog"], pictures(1)))[0], abs=2e-5
    )
    assert ImageTextMatch(weights=towers, text=ONE, name="fit").writes().names == ["fit", "error"]


def test_further_texts_are_scored_by_the_same_look(towers: str, monkeypatch: pytest.MonkeyPatch) -> None:
    rows, web, images = [["a dog", "two men"], None, ["x", "x"]], ["a dog", "the street", None], pictures(3)
    expected = [
        ImageTextMatch(weights=towers, batch=2, text=text).run(many(rows, images, web)).column(0)
        for text in (TEXT, MANY)
    ]
    seen: list[int] = []
    see = Matcher.see
    monkeypatch.setattr(Matcher, "see", lambda self, squares: seen.append(len(squares)) or see(self, squares))
    stage = ImageTextMatch(weights=towers, batch=2, also=(MANY,))
    assert stage.reads() == (IMAGE, TEXT, MANY)
    found = stage.run(many(rows, images, web))
    assert found.column_names == ["itm", "told_itm", "error"]
    assert found.column("itm").to_pylist() == pytest.approx(expected[0].to_pylist(), abs=2e-5)
    for a, b in zip(found.column("told_itm").to_pylist(), expected[1].to_pylist(), strict=True):
        assert a == (b if b is None else pytest.approx(b, abs=2e-5))
    assert seen == [2, 2]
    assert len(stage._inputs(many(rows, images, web)).tokens) == 4  # a picture and equal texts are one pair
    with pytest.raises(ValueError, match="would be called itm"):
        ImageTextMatch(weights=towers, also=("text",))


@settings(max_examples=15, deadline=None)
@given(st.lists(st.one_of(st.none(), st.lists(st.one_of(st.none(), st.text(max_size=30)), max_size=4)), max_size=6))
def test_the_company_of_a_text_does_not_change_its_answer(towers: str, rows: list[list[str | None] | None]) -> None:
    stage, images = ImageTextMatch(weights=towers, text=MANY, batch=3), pictures(len(rows))
    rows = [None if row is None else [t and t.encode("utf8", "ignore").decode() for t in row] for row in rows]
    together = asked(stage, many(rows, images))
    for row, image, found in zip(rows, images, together, strict=True):
        (alone,) = asked(stage, many([row], [image]))
        assert (found is None) == (row is None)
        assert found is None or [f is None for f in found] == [text is None for text in row or ()]
        if found is not None:
            assert [f for f in found if f is not None] == pytest.approx([a for a in alone if a is not None], abs=2e-5)
            assert all(0 <= f <= 1 for f in found if f is not None)


# ---------------------------------------------------------------------------------------------- what goes wrong


def test_a_broken_picture_and_an_answer_that_is_no_number(stage: ImageTextMatch, tmp_path: Path) -> None:
    images = [*pictures(2), b"no picture"]
    table = stage.run(batch(["a", "b", "c"], images))
    assert [v is None for v in table.column("itm").to_pylist()] == [False, False, True]
    assert table.column("error").to_pylist()[2].startswith("not_image: ")
    model = made()
    with torch.no_grad():
        model.matching.bias.fill_(float("nan"))
    save_model(tmp_path / "bad.pt", model, Config(objective="blip", towers=TOWERS, settings=SETTINGS), {})
    bad = ImageTextMatch(weights=str(tmp_path / "bad.pt"), batch=2).run(batch(["a", None, "c"], images))
    assert bad.column("itm").to_pylist() == [None, None, None]
    said = bad.column("error").to_pylist()
    assert said[0] == "image_text_match: the model's answer is not a finite number"
    assert said[1] is None
    assert said[2].startswith("not_image: ")


def test_nothing_to_ask(stage: ImageTextMatch) -> None:
    assert stage.run(batch([], [])).num_rows == 0
    assert asked(stage, batch([None, None], pictures(2))) == [None, None]


def test_what_cannot_match_says_so(tmp_path: Path) -> None:
    from training_smoke.towers import build
    from training_smoke.towers_file import save_towers

    tiny = Towers("tiny-conv", image_size=16, context=8)
    save_towers(tmp_path / "clip.pt", build(tiny, 3), tiny, {})
    with pytest.raises(ValueError, match=r"image_text_match: .*no head|needs a head that matches"):
        ImageTextMatch(weights=str(tmp_path / "clip.pt")).open()
    with pytest.raises(ValueError, match=r"image_text_match: nothing at .*none\.pt"):
        ImageTextMatch(weights=str(tmp_path / "none.pt")).files()
    run = tmp_path / "run"
    (run / "checkpoints").mkdir(parents=True)
    with pytest.raises(ValueError, match="has no checkpoint yet"):
        ImageTextMatch(weights=str(run)).files()
    captioner = tmp_path / "captioning"
    made().export(tmp_path)
    with pytest.raises(ValueError, match="is of class BlipForConditionalGeneration; image_text_match needs a head"):
        ImageTextMatch(weights=str(captioner)).open()


def test_where_weights_lie(towers: str, tmp_path: Path) -> None:
    from training_smoke import checkpoint, towers_file

    assert matcher_files.WHOLE == towers_file.WHOLE
    (tmp_path / "towers.pt").write_bytes(Path(towers).read_bytes())
    assert ImageTextMatch(weights=str(tmp_path)).files() == (str(tmp_path / "towers.pt"),)
    run = tmp_path / "run"
    (run / "checkpoints").mkdir(parents=True)
    for step in (9, 1000, 20):
        checkpoint.save(run / "checkpoints", {"step": step, "towers": made().state_dict()})
    config = Config(objective="blip", towers=TOWERS, settings=SETTINGS)
    (run / "config.json").write_text(json.dumps(config.as_json()))
    stage = ImageTextMatch(weights=str(run), batch=2)
    assert stage.files() == (str(run / "config.json"), str(checkpoint.path_of(run / "checkpoints", 1000)))
    (found,) = asked(stage, batch(["a dog"], pictures(1)))
    assert 0 < found < 1


def test_lists_of_the_input_are_refused(towers: str) -> None:
    rows = Batch.of(pa.table({"all": pa.array([["a", "b"]])}), pictures(1))
    with pytest.raises(ValueError, match="column of the input with lists of texts"):
        ImageTextMatch(weights=towers, text="all").run(rows)


# ---------------------------------------------------------------------------------------------- what names the column


def test_fingerprint_covers_the_weights_and_not_their_place(towers: str, tmp_path: Path) -> None:
    copy = tmp_path / "other.pt"
    copy.write_bytes(Path(towers).read_bytes())

    def hashed(**more: Any) -> str:
        return Prints().base(ImageTextMatch(**{"weights": towers, **more}))

    assert hashed(weights=str(copy)) == hashed(device="cuda") == hashed(cpus=2) == hashed()
    others = [hashed(**m) for m in ({"batch": 8}, {"precision": "bf16"}, {"fair": True}, {"text": ONE}, {"name": "x"})]
    assert len({hashed(), *others}) == 6
    copy.write_bytes(copy.read_bytes() + b"\0")
    assert hashed(weights=str(copy)) != hashed()


def test_same_batch_same_bytes_wherever_it_is_opened(stage: ImageTextMatch) -> None:
    again = pickle.loads(pickle.dumps(stage))
    assert again == stage
    assert again._matcher is None
    ahead = batch()
    stage.prepare(ahead)
    assert stage.run(ahead).equals(again.run(batch()))
    assert (stage.reads(), stage.sparse) == ((IMAGE, TEXT), True)
