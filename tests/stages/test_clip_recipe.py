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
from tests.stages.text_parts import png, scene, written

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


def test_views_text_and_heads_in_one_recipe(person: Person, weights: Weights) -> None:
    """Pictures of which three have a line of text, scored without it; a head on the vectors by their plain name."""
    said = [written(scene(i), "Grand Opening Sale", (20, 60), 22)[0] if i < 3 else scene(i, discs=0) for i in range(8)]
    images = pa.array([png(rgb) for rgb in said], pa.binary())
    table = pa.table({"image": images, "text": [f"number {i}" for i in range(8)], "n": range(8)})
    pq.write_table(table, person.folder / "rows.parquet")
    np.savez(person.folder / "head.npz", weight=np.eye(128)[:1], bias=np.array([0.5]))
    clip = f"weights: {weights.ours}, name: dfn, batch: 4"
    columns = (
        f"columns:\n  - text_boxes: {{detector: strokes}}\n  - clip_score: {{{clip}}}\n"
        f"  - clip_view_score: {{{clip}, view: masked}}\n"
        f"  - clip_view_score: {{{clip}, view: flipped}}\n  - clip_embedding: {{{clip}}}\n"
        f"  - embedding_head: {{vectors: dfn_image, weights: {person.folder}/head.npz, kind: affine, name: liked}}\n"
    )
    filters = (
        '  - {id: scored, where: "dfn_masked_score IS NOT NULL AND dfn_flipped_score IS NOT NULL", on_missing: drop}\n'
        '  - {id: plain, where: "text_cover = 0 AND dfn_score >= -1", on_missing: drop}\n'
        '  - {id: liked, where: "liked > -1", on_missing: drop}\n'
    )
    outcome, _ = person.run(source(person), filters, columns)
    rows = {r["n"]: r for r in person.sql("SELECT * FROM samples")}
    assert outcome.kept == 5
    for n, row in rows.items():
        assert (row["text_cover"] > 0) == (n < 3) == (row["n_text_boxes"] > 0)
        assert (row["dfn_masked_score"] == row["dfn_score"]) == (n >= 3)
        first = np.array(row["dfn_image"], np.float64)
        assert row["liked"] == pytest.approx(0.5 + first[0] / np.linalg.norm(first), abs=6e-5)
    assert any(r["dfn_flipped_score"] != r["dfn_score"] for r in rows.values())
