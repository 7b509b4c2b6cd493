"""The linear mixer: the file, the sum, what is missing; and learning it from labelled samples."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from stages.auroc import auroc
from stages.base import Batch
from stages.linear_mixer import LinearMixer, Mixer, Part
from stages.mixer_learning import learn

MIXER = Mixer(0.5, {"clip": Part(0.25, 0.05, 2.0), "size": Part(10.0, 4.0, -1.0)}, {})


@pytest.fixture
def path(tmp_path: Path) -> Path:
    MIXER.save(tmp_path / "mixer.json")
    return tmp_path / "mixer.json"


def test_standardised_weighted_and_added(path: Path) -> None:
    stage = LinearMixer(columns=("clip", "size"), weights=str(path))
    batch = Batch.of(pa.table({"clip": pa.array([0.25, 0.3, 0.1], pa.float32()), "size": [10, 2, 30]}))
    found = stage.run(batch)
    assert found["mixed"].to_pylist() == pytest.approx([0.5, 0.5 + 2 + 2, 0.5 - 6 - 5])
    assert found["mixed"].type == pa.float32()
    assert found["error"].null_count == 3
    other = LinearMixer(columns=("size", "clip"), weights=str(path))  # the order says nothing
    assert other.run(batch).equals(found)


def test_a_sample_without_a_score_has_none_and_it_says_why(path: Path) -> None:
    stage = LinearMixer(columns=("clip", "size"), weights=str(path), name="m")
    columns = {"clip": [0.2, None, float("nan"), 0.2, float("inf")], "size": [1.0, 1.0, None, None, 1.0]}
    found = stage.run(Batch.of(pa.table(columns)))
    assert [v is None for v in found["m"].to_pylist()] == [False, True, True, True, True]
    assert found["error"].to_pylist() == [None, "no clip", "no clip", "no size", "no clip"]


def test_a_batch_of_any_size_gives_the_same_bits(path: Path) -> None:
    rng = np.random.default_rng(0)
    table = pa.table({"clip": rng.normal(size=300), "size": rng.normal(size=300)})
    stage = LinearMixer(columns=("clip", "size"), weights=str(path))
    whole = stage.run(Batch.of(table))["mixed"].to_pylist()
    parts = [stage.run(Batch.of(table.slice(i, 7)))["mixed"].to_pylist() for i in range(0, 300, 7)]
    assert [v for part in parts for v in part] == whole


def test_files_names_the_weights_and_checks_them(path: Path) -> None:
    assert LinearMixer(columns=("clip", "size"), weights=str(path)).files() == (str(path),)
    with pytest.raises(ValueError, match=r"is of the columns clip, size; here are clip, dfn"):
        LinearMixer(columns=("clip", "dfn"), weights=str(path)).files()
    with pytest.raises(ValueError, match=r"no weights at .*nowhere.json; they are made by stages.mixer_learning.learn"):
        LinearMixer(columns=("clip",), weights=str(path.with_name("nowhere.json"))).files()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("{", "is no mixer"),
        ("[]", "is no mixer"),
        ('{"columns": {}}', "KeyError: 'bias'"),
        ('{"bias": 0, "columns": {}}', "has no columns"),
        ('{"bias": 0, "columns": {"a": {"mean": 0, "std": 0, "weight": 1}}}', "a std above 0"),
        ('{"bias": 0, "columns": {"a": {"mean": 0, "weight": 1}}}', "is no mixer"),
        ('{"bias": 0, "columns": {"a": {"mean": 0, "std": "wide", "weight": 1}}}', "is no mixer"),
        ('{"bias": NaN, "columns": {"a": {"mean": 0, "std": 1, "weight": 1}}}', "a bias of nan"),
    ],
)
def test_files_that_are_no_mixer(tmp_path: Path, words: str, told: str) -> None:
    (tmp_path / "m.json").write_text(words)
    with pytest.raises(ValueError, match=told):
        Mixer.load(tmp_path / "m.json")


def test_a_column_of_words_is_refused(path: Path) -> None:
    stage = LinearMixer(columns=("clip", "size"), weights=str(path))
    with pytest.raises(ValueError, match="column 'clip' is string"):
        stage.run(Batch.of(pa.table({"clip": ["x"], "size": [1]})))


def labelled(n: int, seed: int = 0) -> pa.Table:
    """Good with the chance of a logistic function of 2 a - b + 0.5; c is noise."""
    rng = np.random.default_rng(seed)
    a, b, c = rng.normal(5, 2, n), rng.normal(0, 10, n), rng.normal(size=n)
    logit = 2 * (a - 5) / 2 - b / 10 + 0.5
    return pa.table({"a": a, "b": b, "c": c, "good": rng.random(n) < 1 / (1 + np.exp(-logit))})


def test_what_was_planted_is_learned() -> None:
    mixer = learn(labelled(20_000), ("a", "b", "c"), "good", penalty=1e-3)
    assert [p.weight for p in mixer.columns.values()] == pytest.approx([2, -1, 0], abs=0.08)
    assert mixer.bias == pytest.approx(0.5, abs=0.06)
    assert mixer.columns["b"].std == pytest.approx(10, rel=0.03)
    assert mixer.learned["samples"] == 20_000
    assert 0.85 < mixer.learned["auroc"] < 0.92


def test_it_is_the_minimum_of_the_penalised_loss() -> None:
    """Against scipy, which is told the loss only."""
    from scipy.optimize import minimize

    table = labelled(300)
    x = np.column_stack([table[n].to_numpy() for n in ("a", "b", "c")])
    x = np.column_stack([np.ones(300), (x - x.mean(axis=0)) / x.std(axis=0)])
    sign = np.where(table["good"].to_numpy(), -1, 1)

    def loss(w: np.ndarray) -> float:
        return float(np.logaddexp(0, sign * (x @ w)).sum() + 3.0 * (w[1:] ** 2).sum() / 2)

    expected = minimize(loss, np.zeros(4), method="BFGS", options={"gtol": 1e-8}).x
    mixer = learn(table, ("a", "b", "c"), "good", penalty=3.0)
    assert [mixer.bias, *(p.weight for p in mixer.columns.values())] == pytest.approx(expected, abs=1e-4)


def test_what_can_be_told_apart_for_sure_has_finite_weights() -> None:
    table = pa.table({"a": np.arange(40.0), "good": np.arange(40) >= 20})
    mixer = learn(table, ("a",), "good")
    assert 0 < mixer.columns["a"].weight < 20
    assert mixer.learned["auroc"] == 1


def test_learned_saved_and_used(tmp_path: Path) -> None:
    table = labelled(2000)
    mixer = learn(table, ("a", "b"), "good")
    mixer.save(tmp_path / "m.json")
    assert Mixer.load(tmp_path / "m.json") == mixer
    stage = LinearMixer(columns=("a", "b"), weights=str(tmp_path / "m.json"))
    score = stage.run(Batch.of(table.select(["a", "b"])))["mixed"].to_numpy()
    assert auroc(score, table["good"].to_numpy()) == pytest.approx(mixer.learned["auroc"], abs=1e-3)
    assert json.loads((tmp_path / "m.json").read_text())["learned"]["left_out"] == 0


def test_rows_without_a_score_or_a_label_are_left_out() -> None:
    table = pa.table({"a": [1.0, 2, None, 4, 5], "good": [0, 1, 1, None, 1]})
    assert learn(table, ("a",), "good").learned["left_out"] == 2


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"a": [1.0, 2.0], "good": [True, True]}, "of 2 samples with all scores 2 are good"),
        ({"a": [1.0, 1.0], "good": [True, False]}, "a is the same for all samples"),
        ({"a": [1.0, 2.0], "good": [1, 3]}, "good has values other than 0 and 1"),
        ({"a": ["x", "y"], "good": [1, 0]}, "column 'a' is string"),
    ],
)
def test_what_nothing_can_be_learned_from(columns: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        learn(pa.table(columns), ("a",), "good")


def test_it_can_be_made_again_from_what_it_says_of_itself(path: Path) -> None:
    stage = LinearMixer(columns=("clip", "size"), weights=str(path))
    assert LinearMixer(**stage.identity()["parameters"]) == stage
