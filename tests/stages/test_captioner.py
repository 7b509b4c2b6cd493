"""The stage `caption`: what its columns are, what fails, what its identity is made of."""

from __future__ import annotations

import pickle
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from stages.captioner import Caption
from stages.captioner_models import Asking, load
from stages.prompts import one_line
from stages.texts import TEXTS
from tests.stages import captioner_parts as parts
from tests.stages.captioner_parts import PROMPT, batch_of, images, said

torch = parts.packages()


@pytest.fixture(scope="module")
def blip(tmp_path_factory: pytest.TempPathFactory) -> str:
    return parts.blip(tmp_path_factory.mktemp("blip"))


# ---------------------------------------------------------------- columns


def test_columns(blip: str) -> None:
    one = Caption(weights=blip, max_tokens=5)
    assert one.sparse
    assert one.writes() == pa.schema([("caption", pa.string()), ("error", pa.string())])
    many = Caption(weights=blip, max_tokens=5, n=3, name="blip")
    assert many.writes().field("blip").type == TEXTS
    (row,) = said(many, images(1))
    assert [text["source"] for text in row] == ["blip"] * 3
    assert one.run(batch_of([])).num_rows == 0


def test_a_sample_that_fails_is_told_and_the_others_are_not_touched(blip: str) -> None:
    stage = Caption(weights=blip, max_tokens=5, batch=2)
    good = images(3)
    table = stage.run(batch_of([good[0], b"no picture", *good[1:]]))
    texts, errors = table.column("caption").to_pylist(), table.column("error").to_pylist()
    assert texts[1] is None
    assert errors[1]
    assert [errors[0], *errors[2:]] == [None] * 3
    assert texts[0] == said(stage, good[:1])[0]


def test_pictures_that_break_the_model_fail_alone(blip: str) -> None:
    stage = Caption(weights=blip, max_tokens=5, batch=4)
    good = said(stage, images(4))
    writer: Any = stage._writer()
    shown = [writer.shown(np.asarray(picture)) for picture in parts.opened(images(4))]
    normalised = writer.squares.passes

    def with_one_broken(cut: list[Any]) -> list[Any]:
        passes = normalised(cut)
        for at, picture in enumerate(cut):
            if torch.equal(picture, shown[2]):
                passes[at // 4][at % 4] = torch.nan
        return passes

    writer.squares.passes = with_one_broken
    table = stage.run(batch_of(images(4)))
    assert table.column("caption").to_pylist() == [good[0], good[1], None, good[3]]
    assert "logits" in table.column("error")[2].as_py()
    assert table.column("error").null_count == 3


def test_want_of_memory_halves_a_part_and_fails_one_alone(blip: str) -> None:
    stage = Caption(weights=blip, max_tokens=5, batch=4)
    good = said(stage, images(4))
    writer: Any = stage._writer()
    whole, large, tried = writer.texts, writer.shown(np.asarray(parts.opened(images(4))[2])), []

    def of_little_memory(shown: list[Any], *rest: Any) -> list[list[str]]:
        tried.append(len(shown))
        if len(shown) > 2 or any(torch.equal(picture, large) for picture in shown):
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9 GiB")
        return list(whole(shown, *rest))

    writer.texts = of_little_memory
    table = stage.run(batch_of(images(4)))
    assert table.column("caption").to_pylist() == [good[0], good[1], None, good[3]]
    assert table.column("error")[2].as_py().startswith("caption: the device has not enough memory for it (CUDA out")
    assert tried == [4, 2, 2, 1, 1]


def test_a_device_without_any_room_ends_the_work(blip: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory")

    stage = Caption(weights=blip, max_tokens=5)
    monkeypatch.setattr(type(stage._writer()), "texts", never)
    with pytest.raises(torch.OutOfMemoryError):
        stage.run(batch_of(images(2)))


def test_memory_grows_with_the_texts_that_are_written_at_a_time(blip: str) -> None:
    def asked(**how: Any) -> float:
        return Caption(weights=blip, **how).need().memory_gb

    assert asked(n=256) - asked() > 255 * 16 * 0.001
    assert asked(sampling="beam", beams=64) > asked(sampling="beam", beams=2)
    assert asked(n=256, device="cuda") == asked(device="cuda"), "there it is the GPU's"
    assert asked(max_pixels=10**8) == asked(), "of squares"


def test_a_text_of_nothing_is_no_text(blip: str, monkeypatch: pytest.MonkeyPatch) -> None:
    stage = Caption(weights=blip, n=2)
    monkeypatch.setattr(type(stage._writer()), "texts", lambda *_: [["\x00 \u202e", " "], [" a\n\tdog\x1b[31m", ""]])
    table = stage.run(batch_of(images(2)))
    assert table.column("caption").to_pylist() == [
        None,
        [{"source": "caption", "text": "a dog[31m"}, {"source": "caption", "text": None}],
    ]
    assert table.column("error").to_pylist() == ["caption: the model says nothing about this picture", None]


def test_prepared_is_the_same(blip: str) -> None:
    stage = Caption(weights=blip, max_tokens=5, batch=4)
    stage.open()
    batch = batch_of(images(5))
    stage.prepare(batch)
    assert stage.run(batch).equals(stage.run(batch_of(images(5))))


def test_draws_are_of_seed_and_uid(blip: str) -> None:
    def texts(seed: int, first: int = 0) -> list[str]:
        return said(Caption(weights=blip, max_tokens=8, seed=seed, temperature=3.0), images(4), first)

    assert texts(1) == texts(1)
    assert texts(1) != texts(2)
    assert texts(1) != texts(1, first=100)


def test_one_line() -> None:
    assert one_line(" a\u2028b\x07\n\n<i>c</i> \ud800") == "a b <i>c</i>"
    assert one_line("co\u00adoperate") == "cooperate", "as answers of a server are cleaned"


# ---------------------------------------------------------------- identity


def test_identity_has_what_decides_texts_and_no_more(blip: str, tmp_path: Path) -> None:
    elsewhere = tmp_path / "copy"
    shutil.copytree(blip, elsewhere)

    def known(**how: Any) -> dict[str, Any]:
        return Caption(**{"weights": blip, **how}).identity()

    assert known() == known(weights=str(elsewhere)) == known(device="cuda", cpus=4)
    assert known(sampling="greedy") == known(sampling="greedy", p=0.5, k=3, seed=9, beams=7, temperature=2.0)
    assert known() == known(k=3, beams=7, length_penalty=0.5) == known(max_pixels=5000)
    different = [{}, {"p": 0.5}, {"seed": 1}, {"prompt": PROMPT}, {"max_tokens": 9}, {"n": 2}, {"batch": 3}]
    different += [{"sampling": kind} for kind in ("greedy", "beam", "top_k")] + [{"name": "own"}, {"precision": "bf16"}]
    assert len({repr(known(**how)) for how in different}) == len(different)


def test_parameters_travel_without_the_model(blip: str) -> None:
    stage = Caption(weights=blip)
    stage.open()
    again = pickle.loads(pickle.dumps(stage))
    assert again == stage
    assert again._loaded is None
    assert said(again, images(2)) == said(stage, images(2))


# ---------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"n": 2, "sampling": "beam"}, "are alike"),
        ({"min_tokens": 9, "max_tokens": 3}, "min_tokens: 9 is above"),
        ({"p": 0.0}, "greater than 0"),
    ],
)
def test_parameters_that_do_not_fit(blip: str, how: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Caption(weights=blip, **how)


def test_weights_that_are_not_there(tmp_path: Path, blip: str) -> None:
    with pytest.raises(ValueError, match=r"no weights at .*; give a folder of transformers"):
        Caption(weights=str(tmp_path / "towers.pt")).files()
    broken = tmp_path / "broken"
    shutil.copytree(blip, broken)
    (broken / "model.safetensors").unlink()
    with pytest.raises(ValueError, match="weights"):
        Caption(weights=str(broken)).files()


def test_weights_of_another_class_are_refused(blip: str) -> None:
    retrieval = str(Path(blip).parent / "retrieval")
    with pytest.raises(ValueError, match="they lack text_decoder"):
        Caption(weights=retrieval).open()


def test_code_beside_weights_is_not_run(blip: str, tmp_path: Path) -> None:
    import json

    folder, ran = tmp_path / "hostile", tmp_path / "ran"
    shutil.copytree(blip, folder)
    (folder / "mine.py").write_text(f"open({str(ran)!r}, 'w')\nclass Config: ...\nclass Model: ...\n")
    config = json.loads((folder / "config.json").read_text())
    config |= {"auto_map": {"AutoConfig": "mine.Config", "AutoModelForImageTextToText": "mine.Model"}}
    (folder / "config.json").write_text(json.dumps(config))
    assert said(Caption(weights=str(folder), max_tokens=4), images(1)) == said(
        Caption(weights=blip, max_tokens=4), images(1)
    )
    assert not ran.exists()


def test_a_long_prompt_is_refused(tmp_path: Path) -> None:
    stage = Caption(weights=parts.judge_blip_file(tmp_path / "towers.pt"), prompt="a dog and " * 20)
    with pytest.raises(ValueError, match="the prompt has"):
        stage.open()


def test_a_blip_writes_about_as_many_pictures_at_once_wherever_it_was_trained(blip: str, tmp_path: Path) -> None:
    """256 texts at a time; one batch where the texts of each picture are many."""
    ours = parts.judge_blip_file(tmp_path / "towers.pt")
    for batch, wanted in ((16, [256, 128, 80, 16, 16]), (100, [200, 100, 100, 100, 100]), (512, [512] * 5)):
        for weights in (blip, ours):
            writer = load(weights, None, Asking(batch=batch))
            assert [writer.together(texts, 1) for texts in (1, 2, 3, 4, 10)] == wanted
