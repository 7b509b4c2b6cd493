"""Near vectors in a recipe: one of each group stays, and a second list is compared with the first, which stays."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tests.person import Person
from tests.stages.clip_parts import picture
from tests.stages.vector_parts import clumps, directions, vectors

KEPT = "SELECT n FROM samples WHERE uid IN (SELECT uid FROM picks WHERE dropped_by IS NULL) ORDER BY n"
NEAR = """  - id: look_alikes
    keep_one: {near: {vectors: v, epsilon: 0.02, clusters: {k: 3}}, over: pool, prefer: ["n asc"]}
"""


def write(person: Person, name: str, first: int, x: np.ndarray) -> str:
    rows = range(first, first + len(x))
    table = {
        "image": pa.array([picture(n, 20 + n) for n in rows], pa.binary()),
        "text": [f"picture number {n}" for n in rows],
        "n": rows,
        "v": vectors(x),
    }
    pq.write_table(pa.table(table), person.folder / f"{name}.parquet")
    return f"{{path: {person.folder}/{name}.parquet, url: null}}\ningest: {{resize: none}}"


def kept(person: Person, source: str) -> list[int]:
    outcome, _ = person.run(source, NEAR)
    keep = [r["n"] for r in person.sql(KEPT)]
    assert outcome.kept == len(keep)
    return keep


def written(person: Person, phase: str) -> dict[str, int]:
    """Files of a phase and when they were written."""
    files = (p for p in (person.folder / "pool" / "barriers").rglob(f"{phase}/*.parquet"))
    return {p.name: p.stat().st_mtime_ns for p in files}


def test_a_list_and_then_another(tmp_path: Path) -> None:
    person = Person(tmp_path)
    old = clumps(5, 4, 16, 0.05)
    first = kept(person, write(person, "first", 0, old))
    assert first == [0, 4, 8, 12, 16]
    before = {phase: written(person, phase) for phase in ("nodes", "centroids", "assign", "compared")}
    assert all(before.values())
    new = np.concatenate([clumps(5, 1, 16, 0.05), clumps(2, 3, 16, 0.05, seed=9), directions(1, 16, 44)])
    both = kept(person, write(person, "second", 20, new))
    assert both == [*first, 25, 28, 31]
    for phase, files in before.items():
        after = written(person, phase)
        assert files.items() <= after.items(), f"{phase}: files of the first list were written again"
        assert (len(after) > len(files)) == (phase != "centroids")
