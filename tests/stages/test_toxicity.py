"""Toxicity: the highest of the heads that count, on a classifier whose answers are known and on random ones."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from stages.toxicity import Toxicity
from tests.stages.text_model_parts import TEXTS, answers, libraries, save_classifier, texts

DETOXIFY = ("toxicity", "severe_toxicity", "obscene", "identity_attack", "insult", "threat", "sexual_explicit")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    return save_classifier(tmp_path_factory.mktemp("bert"), DETOXIFY)


def scores(stage: Toxicity, *rows: str | None) -> list[float | None]:
    return [row["toxicity"] for row in answers(stage, *rows)]


def by_hand(folder: str, text: str) -> np.ndarray:
    """Logits of one text, unpadded, as Detoxify's code asks for them."""
    import torch

    model = libraries().AutoModelForSequenceClassification.from_pretrained(folder).eval()
    tokenizer = libraries().AutoTokenizer.from_pretrained(folder)
    with torch.inference_mode():
        logits: np.ndarray = model(**tokenizer(text, return_tensors="pt", truncation=True)).logits[0].double().numpy()
    return logits


def test_the_highest_head_speaks(tmp_path: Path) -> None:
    logits = np.array([-5, -1.0, 0.5])
    stage = Toxicity(weights=save_classifier(tmp_path, ("a", "b", "c"), biases=list(logits)), max_tokens=64)
    chances = 1 / (1 + np.exp(-logits))
    assert scores(stage, "x", None) == [pytest.approx(round(chances[2], 4)), None]
    assert scores(stage.model_copy(update={"heads": 2}), "x") == [pytest.approx(round(chances[1], 4))]
    assert scores(stage.model_copy(update={"heads": ("a",)}), "x") == [pytest.approx(round(chances[0], 4))]
    shared = np.exp(logits) / np.exp(logits).sum()
    one = Toxicity(weights=str(tmp_path), max_tokens=64, scale="softmax", heads=("b",))
    assert scores(one, "x") == [pytest.approx(round(shared[1], 4))]


@pytest.mark.parametrize("kind", ["Bert", "Roberta"])
def test_is_what_the_model_says_of_each_text_alone(kind: str, tmp_path: Path) -> None:
    """RoBERTa counts positions from its filling token: filling must change nothing."""
    folder = save_classifier(tmp_path, DETOXIFY, kind)
    stage = Toxicity(weights=folder, batch=3, max_tokens=128)
    for text, found in zip(TEXTS, scores(stage), strict=True):
        if not text:  # nothing, or no token of it
            assert found is None
        else:
            expected = 1 / (1 + np.exp(-by_hand(folder, text).max()))
            assert found == pytest.approx(expected, abs=6e-5), text
    long = "z" * 500
    assert scores(stage, long) == [pytest.approx(1 / (1 + np.exp(-by_hand(folder, long).max())), abs=6e-5)]


def test_rounded_and_the_same_again(folder: str) -> None:
    stage = Toxicity(weights=folder, max_tokens=128)
    table = stage.run(texts())
    exact = table.column("toxicity").cast(pa.float64())
    assert pc.all(pc.less(pc.abs(pc.subtract(exact, pc.round(exact, 4))), 1e-7)).as_py()
    again = pickle.loads(pickle.dumps(stage))
    assert again.run(texts()).equals(table)


def test_many_heads_must_be_told_apart(tmp_path: Path) -> None:
    folder = save_classifier(tmp_path, (*DETOXIFY, "male", "female"), biases=[-3.0] * 7 + [4.0, 4.0])
    with pytest.raises(
        ValueError, match=r"toxicity: the model has 9 heads: toxicity, .*female; say which .*`heads: 7`"
    ):
        Toxicity(weights=folder, max_tokens=64).open()
    assert scores(Toxicity(weights=folder, max_tokens=64, heads=7), "her") == [pytest.approx(0.0474)]
    assert scores(Toxicity(weights=folder, max_tokens=64, heads=DETOXIFY), "her") == [pytest.approx(0.0474)]


@pytest.mark.parametrize(
    ("parameters", "said"),
    [
        ({"heads": 8}, r"`heads: 8`, and the model has 7 heads"),
        ({"heads": ("toxic",)}, r"no head 'toxic': the model has 7 heads: toxicity, severe_toxicity"),
        ({"max_tokens": 512}, r"the model takes 128 tokens: say `max_tokens: 128`"),
    ],
)
def test_what_the_model_does_not_have_is_said_before_anything_runs(folder: str, parameters: dict, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Toxicity(weights=folder, **({"max_tokens": 128} | parameters)).open()


@pytest.mark.parametrize("heads", [0, ()])
def test_no_heads_at_all_are_refused(folder: str, heads: object) -> None:
    with pytest.raises(ValueError, match="how many of the first heads count"):
        Toxicity(weights=folder, heads=heads)


def test_a_causal_model_is_no_classifier(tmp_path: Path) -> None:
    from tests.stages.text_model_parts import save_causal

    with pytest.raises(
        ValueError, match=r"toxicity: the weights in .* are not of AutoModelForSequenceClassification: they lack score"
    ):
        Toxicity(weights=save_causal(tmp_path), max_tokens=64).open()
