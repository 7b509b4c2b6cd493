"""Perplexity: the formula on a model whose answers are known, and on a random one beside a plain loop over texts."""

from __future__ import annotations

import json
import math
import pickle
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.perplexity import Perplexity
from tests.stages.text_model_parts import BEGIN, TEXTS, answers, libraries, save_causal


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    return save_causal(tmp_path_factory.mktemp("causal"))


@pytest.fixture(scope="module")
def stage(folder: str) -> Perplexity:
    stage = Perplexity(weights=folder, batch=3, max_tokens=127)
    stage.open()
    return stage


def by_hand(folder: str, text: str, begin: bool = True, most: int = 127) -> float:
    """exp of the loss that transformers itself computes for one text, unpadded."""
    import torch

    model = libraries().GPT2LMHeadModel.from_pretrained(folder).eval()
    tokenizer = libraries().AutoTokenizer.from_pretrained(folder)
    ids = [BEGIN] * begin + tokenizer(text, add_special_tokens=False)["input_ids"][:most]
    with torch.inference_mode():
        return math.exp(model(input_ids=torch.tensor([ids]), labels=torch.tensor([ids])).loss.item())


def test_a_model_that_knows_nothing_is_as_surprised_as_its_vocabulary_is_large(tmp_path: Path) -> None:
    flat = Perplexity(weights=save_causal(tmp_path, flat=True), max_tokens=100)
    found = answers(flat, "any text at all", "犬 🐕")
    # the mean log-probability is rounded to 1e-4
    assert [row["perplexity"] for row in found] == [pytest.approx(258, rel=1e-4)] * 2
    assert [row["perplexity_tokens"] for row in found] == [15, 8]


def test_is_the_loss_of_each_text_alone(stage: Perplexity, folder: str) -> None:
    for text, row in zip(TEXTS, answers(stage), strict=True):
        tokens = None if text is None else len(text.encode())
        assert row["perplexity_tokens"] == tokens
        assert row["error"] is None
        if text is None or len(text.encode()) < 5:
            assert row["perplexity"] is None
        else:
            assert row["perplexity"] == pytest.approx(by_hand(folder, text), rel=2e-4), text


def test_the_first_token_counts_only_after_a_beginning(folder: str, tmp_path: Path) -> None:
    without = Perplexity(weights=folder, begin=False, max_tokens=100)
    assert answers(without, TEXTS[0])[0]["perplexity"] == pytest.approx(
        by_hand(folder, TEXTS[0] or "", False), rel=2e-4
    )
    # a model without such a token: the same, whatever is asked
    none = Perplexity(weights=save_causal(tmp_path, begin=False), max_tokens=100)
    assert answers(none, TEXTS[0])[0]["perplexity"] == answers(without, TEXTS[0])[0]["perplexity"]


def test_bounds_of_length(folder: str) -> None:
    long = "a dog on a beach, and what came of it"
    cut = Perplexity(weights=folder, max_tokens=20)
    (whole,) = answers(cut, long)
    assert whole["perplexity_tokens"] == len(long)
    assert whole["perplexity"] == pytest.approx(by_hand(folder, long[:20]), rel=2e-4)
    assert [
        row["perplexity"] is None
        for row in answers(Perplexity(weights=folder, min_tokens=4, max_tokens=20), "abc", "abcd")
    ] == [True, False]


@settings(max_examples=20, deadline=None)
@given(st.lists(st.one_of(st.none(), st.text(st.characters(exclude_categories=["Cs"]), max_size=40)), max_size=7))
def test_the_company_of_a_text_does_not_change_its_answer(stage: Perplexity, rows: list[str | None]) -> None:
    together = answers(stage, *rows) if rows else []
    for text, found in zip(rows, together, strict=True):
        (alone,) = answers(stage, text)
        assert found["perplexity_tokens"] == alone["perplexity_tokens"]
        assert (found["perplexity"] is None) == (alone["perplexity"] is None) == (len((text or "").encode()) < 5)
        if found["perplexity"] is not None:
            assert found["perplexity"] == pytest.approx(alone["perplexity"], rel=2.1e-4)
            assert found["perplexity"] >= 1


def test_the_same_batch_gives_the_same_bytes(stage: Perplexity) -> None:
    again = pickle.loads(pickle.dumps(stage))
    assert again == stage
    assert answers(again) == answers(stage)


def test_an_answer_that_is_no_number_is_an_error_of_the_row(folder: str, tmp_path: Path) -> None:
    import torch

    broken = libraries().GPT2LMHeadModel.from_pretrained(folder)
    with torch.no_grad():
        broken.transformer.wte.weight[ord("z") - 33] = float("nan")  # printable bytes come first, from "!" on
    broken.save_pretrained(tmp_path)
    libraries().AutoTokenizer.from_pretrained(folder).save_pretrained(tmp_path)
    (row,) = answers(Perplexity(weights=str(tmp_path), max_tokens=20), "zzzzzz")
    assert row["perplexity"] is None
    assert row["error"] == "perplexity: the model's answer is not a finite number"


def test_more_tokens_than_the_model_takes_are_refused_before_anything_runs(folder: str) -> None:
    with pytest.raises(ValueError, match=r"perplexity: the model takes 128 tokens: say `max_tokens: 127`"):
        Perplexity(weights=folder, max_tokens=128).open()
    Perplexity(weights=folder, max_tokens=127).open()


def test_equal_weights_are_one_stage_wherever_they_lie(folder: str, tmp_path: Path) -> None:
    for file in Path(folder).iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    one, other = Perplexity(weights=folder, cpus=2), Perplexity(weights=str(tmp_path))
    assert one.identity() == other.identity()
    assert str(tmp_path) not in json.dumps(other.identity())
    assert [Path(f).name for f in other.files()] == one.identity()["parameters"]["weights"]
    assert Perplexity(weights=folder, batch=2).identity() != one.identity()
