"""Every kind of model says what transformers' own `generate` says, and the same in any company."""

from __future__ import annotations

import shutil
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stages.captioner import Caption
from stages.captioner_models import Asking, load
from stages.prompts import one_line
from tests.stages import captioner_parts as parts
from tests.stages.captioner_parts import PROMPT, QUESTION, batch_of, image, images, opened, said

torch = parts.packages()
KINDS = ("blip", "blip2", "blip2_t5", "llava", "qwen2", "qwen2_5")
TOKENS = 6


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    def at(name: str) -> Path:
        return tmp_path_factory.mktemp(name)

    over_opt = parts.blip2(at("blip2"))
    return {
        "blip": parts.blip(at("blip")),
        "blip2": over_opt,
        "blip2_t5": parts.blip2_of_t5(at("blip2_t5"), over_opt),
        "llava": parts.llava(at("llava")),
        "qwen2": parts.qwen(at("qwen2"), newer=False),
        "qwen2_5": parts.qwen(at("qwen2_5"), newer=True),
        "judge_blip": parts.judge_blip_file(at("judge") / "towers.pt"),
        "judge_coca": parts.judge_coca_file(at("judge") / "coca.pt"),
    }


def prompt_of(kind: str) -> str:
    return QUESTION if kind in ("llava", "qwen2", "qwen2_5") else PROMPT


def theirs(folder: str, kind: str, pictures: list[bytes], prompt: str, **how: Any) -> list[str]:
    """What transformers says, a picture at a time."""
    from transformers import AutoModelForImageTextToText, AutoProcessor

    model, processor = AutoModelForImageTextToText.from_pretrained(folder).eval(), AutoProcessor.from_pretrained(folder)
    found = []
    for picture in opened(pictures):
        text: str | None = prompt or None
        if processor.chat_template:
            content = [{"type": "image"}, {"type": "text", "text": prompt}]
            asked = [{"role": "user", "content": content}]
            text = processor.apply_chat_template(asked, add_generation_prompt=True, tokenize=False)
        given = processor(images=picture, text=text, return_tensors="pt")
        given.pop("token_type_ids", None)
        tokens = model.generate(**given, do_sample=False, max_new_tokens=TOKENS, **how)[0]
        if kind != "blip2_t5" and prompt:
            # Of BLIP the prompt's end is taken away again.
            tokens = tokens[given["input_ids"].shape[1] - (kind == "blip") :]
        found.append(one_line(processor.decode(tokens, skip_special_tokens=True)))
    return found


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("sampling", ["greedy", "beam"])
def test_it_says_what_transformers_says(folders: dict[str, str], kind: str, sampling: str) -> None:
    pictures, prompt = images(5), prompt_of(kind)
    stage = Caption(
        weights=folders[kind], prompt=prompt, sampling=sampling, max_tokens=TOKENS, batch=3, beams=3, min_tokens=0
    )
    how = {"num_beams": 3} if sampling == "beam" else {}
    found = said(stage, pictures)
    assert found == theirs(folders[kind], kind, pictures, prompt, **how)
    assert len(set(found)) > 1, "pictures make no difference: this shows nothing"


@pytest.mark.parametrize("kind", ["blip", "blip2_t5"])
def test_without_a_prompt(folders: dict[str, str], kind: str) -> None:
    pictures = images(3)
    stage = Caption(weights=folders[kind], sampling="greedy", max_tokens=TOKENS, min_tokens=2)
    found = stage.run(batch_of(pictures)).column("caption").to_pylist()
    assert found == [text or None for text in theirs(folders[kind], kind, pictures, "", min_new_tokens=2)]
    assert any(found)


@pytest.mark.parametrize(
    ("kind", "n"), [("blip", 1), ("blip", 5), ("judge_blip", 4), *((kind, 2) for kind in (*KINDS, "judge_coca"))]
)
def test_texts_are_the_same_in_any_company(folders: dict[str, str], kind: str, n: int) -> None:
    pictures = images(5)
    how: dict[str, Any] = {"n": n, "prompt": prompt_of(kind), "max_tokens": 5, "seed": 4, "temperature": 2.0}
    many = said(Caption(weights=folders[kind], batch=3, **how), pictures)
    stage = Caption(weights=folders[kind], batch=1, **how)
    assert many == [said(stage, [picture], first=i)[0] for i, picture in enumerate(pictures)]
    if n > 1:
        assert [len(row) for row in many] == [n] * 5
        assert len({t["text"] for row in many for t in row}) > n
        first = said(Caption(weights=folders[kind], batch=3, **{**how, "n": 1}), pictures)
        assert [row[0]["text"] for row in many] == first, "text i is one of (seed, uid, i), however many there are"


# ---------------------------------------------------------------------------------------------- chats


def test_a_template_that_writes_the_first_token_gets_no_second(folders: dict[str, str], tmp_path: Path) -> None:
    from tokenizers.processors import TemplateProcessing
    from transformers import AutoProcessor

    folder = str(shutil.copytree(folders["llava"], tmp_path / "begun"))
    processor = AutoProcessor.from_pretrained(folder)
    bos, begin = processor.tokenizer.bos_token, processor.tokenizer.bos_token_id
    adding = TemplateProcessing(single=f"{bos} $A", special_tokens=[(bos, begin)])
    processor.tokenizer.backend_tokenizer.post_processor = adding
    processor.save_pretrained(folder)
    processor = AutoProcessor.from_pretrained(folder)
    assert processor.tokenizer("a")["input_ids"][0] == begin, "else this shows nothing: the tokenizer adds it"
    assert load(folder, None, Asking(QUESTION)).asked.startswith(bos), "as the template does"  # type: ignore[attr-defined]
    (picture,) = opened(images(1))
    said: list[dict[str, Any]] = [{"type": "image", "image": picture}, {"type": "text", "text": QUESTION}]
    wanted = processor.apply_chat_template(
        [{"role": "user", "content": said}],
        add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt",
    )["input_ids"]  # fmt: skip
    writer: Any = load(folder, None, Asking(QUESTION))
    found = writer.shown(np.asarray(picture)).given["input_ids"]
    assert found.tolist() == wanted.tolist()
    assert found[0].tolist().count(begin) == 1


def test_large_pictures_are_bounded_and_held_as_bytes(folders: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    from stages import captioner_chat

    pictures = [image(i, (64 + 8 * i, 48)) for i in range(5)]
    how: dict[str, Any] = {"weights": folders["qwen2"], "prompt": QUESTION, "max_tokens": 4, "seed": 2}
    kept = said(Caption(**how, batch=3), pictures)
    monkeypatch.setattr(captioner_chat, "KEPT_BYTES", 0)
    stage = Caption(**how, batch=3)
    assert said(stage, pictures) == kept
    writer: Any = stage._writer()
    rgb = np.zeros((300, 1000, 3), np.uint8)
    monkeypatch.setattr(writer, "max_pixels", 4096)
    small = writer.shown(rgb)
    assert small.given is None
    assert small.picture.shape == (35, 116, 3)
    assert captioner_chat.bounded(rgb, 300_000) is rgb
    assert captioner_chat.bounded(np.zeros((1, 9000, 3), np.uint8), 4096).shape == (1, 4096, 3)


@pytest.mark.parametrize("kind", ["llava", "qwen2"])
def test_decoded_pictures_of_a_chat_are_held_one_at_a_time(
    folders: dict[str, str], monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """256 of 12 megapixels are 9 GB, and `need` asks for a tenth of that: each is bounded as soon as it is decoded."""
    from stages import captioner_chat, decode

    monkeypatch.setattr(captioner_chat, "KEPT_BYTES", 0)  # so that the bounded pictures are held
    decoded: list[weakref.ref[np.ndarray]] = []
    alive: list[int] = []
    to_array = decode.to_array

    def watched(*how: Any, **more: Any) -> np.ndarray:
        alive.append(sum(one() is not None for one in decoded))
        decoded.append(weakref.ref(found := to_array(*how, **more)))
        return found

    monkeypatch.setattr(decode, "to_array", watched)
    stage = Caption(weights=folders[kind], prompt=QUESTION, max_tokens=3, max_pixels=4096)
    pictures = [image(i, (200, 160)) for i in range(6)]
    table = stage.run(batch := batch_of([*pictures, b"no picture"]))
    assert table.column("caption").null_count == 1
    assert "not_image" in table.column("error")[6].as_py()
    assert len(decoded) == 6
    assert max(alive) == 1, "the one before, while the next is decoded"
    assert all(one() is None for one in decoded), "nor by the batch"
    batch.images()
    assert stage.run(batch).equals(table), "what another stage has had decoded is taken as it is"
    assert len(decoded) == 12


def test_long_pictures_go_fewer_at_a_time(folders: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    from stages import captioner_chat

    pictures = [image(i, (64, 48) if i % 2 else (24, 24)) for i in range(6)]
    stage = Caption(weights=folders["qwen2"], prompt=QUESTION, max_tokens=4, batch=6)
    whole, writer = said(stage, pictures), stage._writer()
    lengths = [writer.length(writer.shown(np.asarray(picture))) for picture in opened(pictures)]
    assert max(lengths) > min(lengths)
    monkeypatch.setattr(captioner_chat, "TOKENS", max(lengths) // 3)
    passes: list[tuple[int, int]] = []
    write = type(writer).texts

    def watched(self: Any, shown: Any, *rest: Any) -> Any:
        passes.append((len(shown), max(s.tokens for s in shown)))
        return write(self, shown, *rest)

    monkeypatch.setattr(type(writer), "texts", watched)
    assert said(stage, pictures) == whole
    assert len(passes) > 1
    assert all(count * longest <= 6 * (max(lengths) // 3) for count, longest in passes)
    assert writer.together(1, 10**9) == 1


def test_max_pixels_decides_what_a_chat_model_says(folders: dict[str, str]) -> None:
    def known(**how: Any) -> dict[str, Any]:
        return Caption(weights=folders["qwen2"], **how).identity()

    assert known() != known(max_pixels=5000)
    assert Caption(weights=folders["qwen2"], max_pixels=10**7).need().memory_gb > 7


@pytest.mark.parametrize("kind", ["blip", "qwen2", "judge_coca"])
def test_equal_models_are_held_once(folders: dict[str, str], kind: str) -> None:
    one, other = (load(folders[kind], None, Asking(prompt=prompt, batch=2)) for prompt in ("a photo of", "a"))
    models: list[Any] = [one, other, load(folders[kind], None, Asking(precision="bf16"))]
    assert models[0].model is models[1].model
    assert models[0].model is not models[2].model
