"""Vectors in a recipe, from a list that has them to the samples that are kept."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curate.errors import UserError
from stages.cosine import cosines
from tests.person import Person
from tests.stages.clip_parts import picture
from tests.stages.vector_parts import as_stored, clumps, directions, vectors

ROWS = 36
COLUMNS = """columns:
  - cosine: {a: image_vector, b: text_vector, name: agree}
  - neg_clip_loss: {image: image_vector, text: text_vector, batch: 10, repeats: 2}
  - norm_sim: {vectors: image_vector, target: TARGET}
  - kmeans: {vectors: image_vector, k: n/9, assign: dot, spherical: true}
  - cluster_match: {vectors: image_vector, clusters: {k: n/9, assign: dot, spherical: true}, target: TARGET}
"""


def image() -> np.ndarray:
    return clumps(6, 6, 8)


def text() -> np.ndarray:
    x = image() + 0.5 * directions(ROWS, 8, 5)
    return np.asarray(x / np.linalg.norm(x, axis=1, keepdims=True))


@pytest.fixture
def person(tmp_path: Path) -> Person:
    table = {
        "image": pa.array([picture(i, 20 + 9 * i) for i in range(ROWS)], pa.binary()),
        "text": [f"picture number {i}" for i in range(ROWS)],
        "n": range(ROWS),
        "image_vector": vectors(image()),
        "text_vector": vectors(text()),
    }
    pq.write_table(pa.table(table), tmp_path / "rows.parquet")
    np.save(tmp_path / "target.npy", image()[:6])
    return Person(tmp_path)


def source(person: Person) -> str:
    return f"{{path: {person.folder}/rows.parquet, url: null}}\ningest: {{resize: none}}"


def columns(person: Person) -> str:
    return COLUMNS.replace("TARGET", f"{person.folder}/target.npy")


def test_scores_and_clusters_of_a_list_with_vectors(person: Person) -> None:
    rules = (
        "  - where: cluster_match\n    on_missing: drop\n"
        "  - top_fraction: {column: neg_clip_loss, fraction: 0.5, over: survivors, on_missing: drop}\n"
    )
    outcome, _ = person.run(source(person), rules, columns(person))
    found = person.sql("SELECT n, agree, norm_sim, cluster_match, kmeans_cluster FROM samples ORDER BY n")
    assert [r["agree"] for r in found] == pytest.approx(cosines(as_stored(image()), as_stored(text())), abs=6e-5)
    assert [r["norm_sim"] for r in found[:6]] == pytest.approx([1] * 6, abs=1e-4)
    matched = [r["n"] for r in found if r["cluster_match"]]
    assert set(range(6)) <= set(matched)
    assert len(matched) < ROWS
    assert {r["kmeans_cluster"] for r in found} == {0, 1, 2, 3}
    assert outcome.kept == len(matched) // 2


def test_targets_that_are_not_there_are_told_before_anything_runs(person: Person) -> None:
    (person.folder / "target.npy").unlink()
    with pytest.raises(UserError, match=r"no target vectors at .*target\.npy"):
        person.run(source(person), "  - where: cluster_match\n    on_missing: drop\n", columns(person))
    assert not (person.folder / "pool" / "pixels").exists()


PRUNE = """  - semdedup: {vectors: image_vector, clusters: {k: 3, spherical: true}, epsilon: 0.0001, over: pool}
  - prototypes: {vectors: image_vector, k: n/9, fraction: 0.9, over: survivors}
  - density_pruning: {cluster: kmeans_cluster, fraction: 0.8, over: survivors}
  - norm_sim_2d: {vectors: image_vector, fraction: 0.8, steps: 2, over: survivors}
  - balanced_sample: {levels: [hkm_1, hkm_2], samples: 15, over: survivors}
"""
CLUSTERS = """columns:
  - kmeans: {vectors: image_vector, k: 3, spherical: true}
  - hierarchical_kmeans: {vectors: image_vector, k: [9, 3]}
"""


def test_every_filter_over_vectors_in_one_recipe(person: Person) -> None:
    """Each keeps what its fraction says of what the one above left."""
    outcome, _ = person.run(source(person), PRUNE, CLUSTERS)
    funnel = person.sql("SELECT left_after FROM funnel ORDER BY step")
    left = [r["left_after"] for r in funnel][-6:]
    unique = left[1]
    expected = [int(unique * 0.9), int(int(unique * 0.9) * 0.8), int(int(int(unique * 0.9) * 0.8) * 0.8)]
    assert left == [ROWS, unique, *expected, min(15, expected[-1])]
    assert outcome.kept == left[-1]
    clusters = person.sql("SELECT count(DISTINCT kmeans_cluster) AS n FROM samples")
    assert clusters == [{"n": 3}]


def test_what_is_no_cluster_is_refused_with_its_place(person: Person) -> None:
    rule = "  - density_pruning: {cluster: norm_sim, fraction: 0.8, over: pool}\n"
    with pytest.raises(UserError, match=r"r\.yaml:6.*is no column <name>_cluster of a `kmeans`"):
        person.run(source(person), rule, columns(person))
