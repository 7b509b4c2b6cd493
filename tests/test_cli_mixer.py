"""`curate train-mixer`: from samples called good or bad to the file that `linear_mixer` reads."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner, Result

from curate.cli import app
from curate.errors import UserError
from stages.base import Batch
from stages.linear_mixer import LinearMixer


@pytest.fixture
def samples(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    good = rng.random(400) < 0.5
    table = {"a": good + rng.normal(0, 1, 400), "b": -2 * good + rng.normal(0, 1, 400), "noise": rng.normal(0, 1, 400)}
    pq.write_table(pa.table(table | {"good": good}), tmp_path / "samples.parquet")
    return tmp_path / "samples.parquet"


def told(samples: Path, *more: str) -> Result:
    command = ["train-mixer", str(samples), "--good", "good", "--out", str(samples.parent / "mixer.json"), *more]
    return CliRunner().invoke(app, command)


def test_what_tells_good_from_bad_has_the_weight(samples: Path) -> None:
    done = told(samples, "--column", "a", "--column", "b", "--column", "noise")
    assert done.exit_code == 0, done.output
    assert "400 samples" in done.output
    mixer = LinearMixer(columns=("a", "b", "noise"), weights=str(samples.parent / "mixer.json"))
    table = pq.read_table(samples)
    mixed = np.array(mixer.run(Batch.of(table)).column("mixed").to_pylist())
    good = table.column("good").to_numpy()
    above = (mixed[good][:, None] > mixed[~good][None]).mean()
    learned = json.loads((samples.parent / "mixer.json").read_text())["learned"]
    assert above == pytest.approx(learned["auroc"], abs=2e-4)  # what it says of itself is what it does
    assert above > 0.9


def test_a_score_that_is_not_there_is_named(samples: Path) -> None:
    done = told(samples, "--column", "c")
    assert isinstance(done.exception, UserError)
    assert "no column 'c'; it has a, b, noise, good" in str(done.exception)


def test_samples_of_one_kind_teach_nothing(samples: Path) -> None:
    table = pq.read_table(samples)
    pq.write_table(table.set_column(3, "good", pa.array([True] * 400)), samples)
    done = told(samples, "--column", "a")
    assert isinstance(done.exception, UserError)
    assert "both kinds are needed" in str(done.exception)
