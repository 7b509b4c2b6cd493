"""SIEVE and the cosine of sentences: the formula beside transformers alone, phrases, and what is missing."""

from __future__ import annotations

import json
import pickle
import re
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.run.prints import Prints
from stages.base import TEXT, Batch, Stage
from stages.sentence_cosine import SentenceCosine
from stages.sentence_encoder import _check_modules, _pooling, _trained_with
from stages.sieve import PHRASES, Sieve, without
from tests.stages.sentence_parts import by_hand, save_encoder
from tests.stages.text_lists import MANY, ONE, many, one


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    return save_encoder(tmp_path_factory.mktemp("encoder"))


def asked(stage: Stage, batch: Batch) -> list[Any]:
    table = stage.run(batch)
    assert table.schema == stage.writes()
    return list(table.column(0).to_pylist())


# ---------------------------------------------------------------------------------------------- SIEVE


def test_the_largest_cosine_without_the_phrases(folder: str) -> None:
    captions = ["a photo of a red bus", None, "two dogs", "an image of a cat " * 9]
    stage = Sieve(captions=MANY, weights=folder, batch=2)
    (found,) = asked(stage, many([captions], web=["Stock Photo red bus tour"]))
    web, *others = by_hand(folder, ["red bus tour", "a red bus", "two dogs", without(captions[3] or "", PHRASES)])
    cosines = [float(web @ other) for other in others]
    assert found == pytest.approx(max(cosines), abs=1e-4)
    assert np.ptp(cosines) > 0.01
    plain = by_hand(folder, ["Stock Photo red bus tour", *[c for c in captions if c]])
    (unstripped,) = asked(
        Sieve(captions=MANY, weights=folder, phrases=()), many([captions], web=["Stock Photo red bus tour"])
    )
    assert unstripped == pytest.approx((plain[1:] @ plain[0]).max(), abs=1e-4)


def test_one_caption_a_sample_will_do(folder: str) -> None:
    found = asked(
        Sieve(captions=ONE, weights=folder), one(["a dog", "a dog", None, "x"], web=["a dog", None, "y", "z"])
    )
    assert found[:3] == [1, None, None]
    assert -1 <= found[3] < 1


def test_what_is_empty_without_the_phrases_is_zero(folder: str) -> None:
    rows = many(
        [["a photo", "a photo of"], ["x"], [], None, ["a photo", "a photo"]], web=["dog", "image", "a", "b", ""]
    )
    assert asked(Sieve(captions=MANY, weights=folder), rows) == [0, 0, None, None, 0]


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("A photo of a dog, stock photo", "a dog,"),
        ("AN IMAGE OF a photo of it", "it"),
        ("photography", "graphy"),  # as the reference has it
        ("a dog", "a dog"),
        ("an image", ""),
    ],
)
def test_phrases(text: str, left: str) -> None:
    assert without(text, PHRASES) == left


def test_phrases_are_no_patterns() -> None:
    assert without("a (b) c.d", ("(b)", ".")) == "a  cd"
    with pytest.raises(ValueError, match="phrases are words"):
        Sieve(captions="c", weights="w", phrases=("a", " "))


def test_many_texts_are_not_judged(folder: str) -> None:
    with pytest.raises(ValueError, match="'told' has several texts a sample"):
        Sieve(captions=MANY, text=MANY, weights=folder).run(many([["a", "b"]]))


def test_an_answer_that_is_no_number_is_an_error_of_the_row(folder: str, tmp_path: Path) -> None:
    import torch
    from transformers import AutoModel

    bad = save_encoder(tmp_path)
    model = AutoModel.from_pretrained(bad)
    with torch.no_grad():
        model.embeddings.word_embeddings.weight[ord("z") - 33] = float("nan")  # printable bytes come first, from "!" on
    model.save_pretrained(bad)
    rows = many([["a dog", "zebra"], ["a dog"]], web=["b", "b"])
    table = Sieve(captions=MANY, weights=bad).run(rows)
    assert [v is None for v in table.column("sieve").to_pylist()] == [True, False]
    assert table.column("error").to_pylist() == ["sieve: the encoder's answer is not a finite number", None]
    table = SentenceCosine(text=MANY, weights=bad).run(rows)
    assert [[v is None for v in row] for row in table.column(0).to_pylist()] == [[False, True], [False]]
    assert table.column("error").to_pylist() == ["sentence_cosine: the encoder's answer is not a finite number", None]


# ---------------------------------------------------------------------------------------------- agreement


def test_agreement_of_each_text(folder: str) -> None:
    stage = SentenceCosine(text=MANY, weights=folder, batch=3)
    assert stage.writes().field("told_agreement").type == pa.list_(pa.float32())
    found = asked(stage, many([["red bus", None, " ", "a red bus, two dogs"], None, ["x"]], web=["red bus", "a", None]))
    a, b = by_hand(folder, ["red bus", "a red bus, two dogs"])
    assert found == [[pytest.approx(1), None, None, pytest.approx(float(a @ b), abs=1e-4)], None, [None]]
    single = SentenceCosine(text=ONE, weights=folder, name="near")
    assert asked(single, one(["red bus"], web=["red bus"])) == [1]
    assert single.reads() == (ONE, TEXT)


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)


@settings(max_examples=20, deadline=None)
@given(st.lists(st.tuples(texts, st.lists(st.one_of(st.none(), texts), max_size=3)), max_size=4))
def test_the_company_of_a_text_does_not_change_its_answer(
    folder: str, rows: list[tuple[str, list[str | None]]]
) -> None:
    for stage in (
        SentenceCosine(text=MANY, weights=folder, batch=4),
        Sieve(captions=MANY, weights=folder, batch=4),
    ):
        found = asked(stage, many([c for _, c in rows], web=[w for w, _ in rows]))
        alone = [asked(stage, many([c], web=[w]))[0] for w, c in rows]
        flat = [
            np.array([v for v in np.ravel(side) if v is not None], float) for side in (_padded(found), _padded(alone))
        ]
        np.testing.assert_allclose(*flat, atol=2.1e-4)
        assert np.all(np.abs(flat[0]) <= 1)


def _padded(answers: list[Any]) -> list[Any]:
    """All numbers in one list."""
    return [v for answer in answers for v in (answer if isinstance(answer, list) else [answer])]


# ---------------------------------------------------------------------------------------------- the encoder


def test_the_folder_says_how_tokens_become_one_vector(tmp_path: Path) -> None:
    first = save_encoder(tmp_path / "cls", "cls_token")
    a, b = by_hand(first, ["red bus", "two dogs"], first=True)
    assert asked(SentenceCosine(text=ONE, weights=first), one(["red bus"], web=["two dogs"])) == [
        pytest.approx(float(a @ b), abs=1e-4)
    ]
    silent = save_encoder(tmp_path / "none", None)
    assert asked(SentenceCosine(text=ONE, weights=silent), one(["red bus"], web=["red bus"])) == [1]
    other = save_encoder(tmp_path / "max", "max_tokens")
    with pytest.raises(ValueError, match=r"sieve: .*pools by max_tokens; known are mean_tokens and cls_token"):
        Sieve(captions=ONE, weights=other).open()


def test_layers_that_are_not_computed_are_refused(tmp_path: Path) -> None:
    """LaBSE and sentence-t5 have one behind the pooling: without it their vectors are others."""
    said = [{"idx": i, "type": f"sentence_transformers.models.{t}"} for i, t in enumerate(("Transformer", "Pooling"))]
    folder = save_encoder(tmp_path / "whole")
    file = Path(folder) / "modules.json"
    file.write_text(json.dumps([*said, {"idx": 2, "type": "sentence_transformers.models.Normalize"}]))
    Sieve(captions=ONE, weights=folder).open()
    file.write_text(json.dumps([*said, {"idx": 2, "type": "sentence_transformers.models.Dense"}]))
    with pytest.raises(ValueError, match=r"sieve: .*modules.json has a module Dense"):
        Sieve(captions=ONE, weights=folder).open()


READ: dict[str, Any] = {
    "modules.json": _check_modules, "1_Pooling/config.json": _pooling, "sentence_bert_config.json": _trained_with,
}  # fmt: skip
DAMAGED = [(name, written) for name in READ for written in (b"", b"[", b"3", b"\xff", b"[" * 100_000)]
DAMAGED += [("modules.json", written) for written in (b'{"a": 1}', b"{}", b'[{"idx": 0}]', b'["a"]', b'[{"type": 1}]')]
DAMAGED += [(name, b"[]") for name in READ if name != "modules.json"]


@pytest.mark.parametrize(("name", "written"), DAMAGED, ids=lambda part: str(part)[:20])
def test_a_damaged_file_is_named_with_the_remedy(tmp_path: Path, name: str, written: bytes) -> None:
    file = tmp_path / name
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(written)
    with pytest.raises(ValueError, match=rf"^{re.escape(str(file))} (is no|has a) .*: copy the whole model again$"):
        READ[name](tmp_path)


def test_a_stage_says_which_file_is_damaged(tmp_path: Path) -> None:
    folder = save_encoder(tmp_path / "whole")
    (Path(folder) / "modules.json").write_text('[{"idx": 0}]')
    with pytest.raises(
        ValueError, match=r"^sieve: .*modules.json is no list of modules .*: copy the whole model again"
    ):
        Sieve(captions=ONE, weights=folder).open()


def test_what_is_no_encoder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"sieve: .* has no weights"):
        Sieve(captions=ONE, weights=str(tmp_path)).files()


def test_fingerprint_covers_weights_pooling_and_phrases(folder: str, tmp_path: Path) -> None:
    import shutil

    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)

    def hashed(**more: Any) -> str:
        return Prints().base(Sieve(**{"captions": MANY, "weights": folder, **more}))

    assert hashed(weights=str(copy)) == hashed(device="cuda") == hashed(cpus=2) == hashed()
    assert len({hashed(), hashed(batch=8), hashed(phrases=()), hashed(captions=ONE), hashed(text=ONE)}) == 5
    (copy / "1_Pooling" / "config.json").write_text('{"pooling_mode_cls_token": true}')
    assert hashed(weights=str(copy)) != hashed()


def test_same_batch_same_bytes_wherever_it_is_opened(folder: str) -> None:
    stage = Sieve(captions=MANY, weights=folder)
    rows = many([["a dog", "two"], ["x"]], web=["a cat", "b"])
    stage.open()
    again = pickle.loads(pickle.dumps(stage))
    assert again == stage
    assert again._encoder is None
    assert again.run(rows).equals(stage.run(rows))
