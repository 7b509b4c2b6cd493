"""Every kind of model says what transformers' own `generate` says, and the same in any company."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from stages.captioner import Caption, one_line
from tests.stages import captioner_parts as parts
from tests.stages.captioner_parts import PROMPT, QUESTION, batch_of, images, opened, said

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
