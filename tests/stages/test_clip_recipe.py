"""`clip_score` in a recipe: from a list of pictures to the half that matches best, and nothing done without weights."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curate.errors import UserError
from curate.recipe import load_recipe
from stages.clip import ClipScore
from tests.person import Person
from tests.stages.clip_parts import Weights, batch, make_weights, picture, scored

ROWS = 13
FILTERS = "  - top_fraction: {column: dfn_score, fraction: 0.5, over: pool, on_missing: drop}\n"


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Weights:
    return make_weights(tmp_path_factory.mktemp("clip"))


@pytest.fixture
def person(tmp_path: Path) -> Person:
    texts = [None if i == 4 else f"picture number {i}" for i in range(ROWS)]
    images = pa.array([picture(i, 20 + 9 * i) for i in range(ROWS)], pa.binary())
    pq.write_table(pa.table({"image": images, "text": texts, "n": range(ROWS)}), tmp_path / "rows.parquet")
    return Person(tmp_path)


def source(person: Person) -> str:
    return f"{{path: {person.folder}/rows.parquet, url: null}}\ningest: {{resize: none}}"


def stages(weights: str) -> str:
    return f"columns:\n  - clip_score: {{weights: {weights}, name: dfn, batch: 4}}\n"


def test_the_best_half_is_kept(person: Person, weights: Weights) -> None:
    outcome, _ = person.run(source(person), FILTERS, stages(weights.ours))
    found = {r["n"]: r["dfn_score"] for r in person.sql("SELECT n, dfn_score FROM samples")}
    texts = [None if i == 4 else f"picture number {i}" for i in range(ROWS)]
    _, expected = scored(ClipScore(weights=weights.ours, batch=4), batch(texts, ()))
    for n, score in enumerate(expected):  # what company it has in a batch moves the last bits
        assert (found[n] is None) == (score is None)
        assert score is None or found[n] == pytest.approx(score, abs=1.1e-4)
    ranked = sorted((s for s in found.values() if s is not None), reverse=True)
    assert found[4] is None
    assert outcome.kept == 6
    kept = person.sql("SELECT n FROM samples WHERE uid IN (SELECT uid FROM picks WHERE dropped_by IS NULL)")
    assert {r["n"] for r in kept} == {n for n, s in found.items() if s is not None and s >= ranked[5]}
    vector = np.array(person.sql("SELECT dfn_image FROM samples LIMIT 1")[0]["dfn_image"])
    assert vector.shape == (128,)
    assert np.linalg.norm(vector) == pytest.approx(1, abs=1e-3)


def test_vectors_are_computed_once_for_all_recipes(person: Person, weights: Weights) -> None:
    person.run(source(person), FILTERS, stages(weights.ours))
    before = {p: p.stat().st_mtime_ns for p in (person.folder / "pool" / "columns").rglob("*.parquet")}
    copy = person.folder / "copy.pt"
    copy.write_bytes(Path(weights.ours).read_bytes())
    person.run(source(person), FILTERS.replace("0.5", "0.2"), stages(str(copy)))
    assert {p: p.stat().st_mtime_ns for p in (person.folder / "pool" / "columns").rglob("*.parquet")} == before
    abouts = [json.loads(p.read_text()) for p in (person.folder / "pool" / "columns").rglob("*.json")]
    assert abouts
    assert not any(weights.ours in json.dumps(about) for about in abouts)  # named by what is in it


def test_without_weights_nothing_is_begun(person: Person) -> None:
    recipe = load_recipe(person.recipe(source(person), FILTERS, stages("nowhere/filter.pt")))
    assert recipe.resolve("dfn_score").field == "dfn_score"  # it can be looked at
    with pytest.raises((UserError, ValueError), match=r"no weights at /.*/nowhere/filter\.pt; give a file"):
        person.run(source(person), FILTERS, stages("nowhere/filter.pt"))
    assert not (person.folder / "pool" / "columns").exists()
