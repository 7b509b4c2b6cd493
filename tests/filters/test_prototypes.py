"""Pruning by prototypes against a plain sort of distances to centroids that were made of those asked."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

import filters.measured as module
from filters.prototypes import Prototypes
from stages.kmeans import KMeans
from tests.phase_runner import PhaseRunner
from tests.stages.vector_parts import CUTS, answers, clumps, directions, kept, plain_lists, pool_of, vectors

ROWS = 72


def prototypes(**more: Any) -> Prototypes:
    return Prototypes(**{"vectors": "v", "k": 6, "fraction": 0.3, "over": "pool", **more})


def pool(
    shards: int = 1, seed: int | None = None, null: tuple[int, ...] = (), asked: bool = False
) -> dict[int, pa.Table]:
    columns = {"v": vectors(clumps(6, 12, 8, 0.7), null=null)}
    if asked:
        columns["asked"] = pa.array([i % 3 > 0 for i in range(ROWS)])
    return pool_of(columns, shards, seed)


def distances(**more: Any) -> np.ndarray:
    """By the column of the barrier, which is tested apart."""
    return np.array([d for _, d, _ in answers(pool(), KMeans(vectors="v", k=6, **more))])


@pytest.mark.parametrize("drop", ["nearest", "farthest"])
@pytest.mark.parametrize("fraction", [0.01, 0.3, 1.0])
def test_the_hard_or_the_easy_ones_stay(drop: Any, fraction: float) -> None:
    chosen = prototypes(drop=drop, fraction=fraction)
    far = distances()
    order = np.lexsort((np.arange(ROWS), -far if drop == "nearest" else far))
    found = answers(pool(), chosen)
    assert kept(found) == sorted(order[: int(fraction * ROWS)].tolist())
    assert [d for *_, d in found] == far.tolist()
    reason = {"nearest": "near_centroid", "farthest": "far_from_centroid"}[drop]
    assert {r for keep, r, _ in found if not keep} <= {reason}


def test_the_footer_has_the_last_distance() -> None:
    runner = PhaseRunner(pool())
    runner.run(prototypes())
    (stats,) = runner.stats(prototypes(), "threshold").values()
    assert stats == {
        "asked": ROWS,
        "present": ROWS,
        "missing": 0,
        "threshold": pytest.approx(np.sort(distances())[-21], abs=1e-6),
    }


def test_clusters_are_made_of_those_asked() -> None:
    """Survivors that are the whole pool elsewhere get the same answer there."""
    whole = answers(pool(3, 1, asked=True), prototypes(over="survivors", k="n/8"))
    asked = [i for i in range(ROWS) if i % 3 > 0]
    again = pool_of({"v": vectors(clumps(6, 12, 8, 0.7)), "asked": pa.array([i in asked for i in range(ROWS)])})
    alone = {0: again[0].filter(again[0].column("asked"))}
    found = PhaseRunner(alone).run(prototypes(over="pool", k="n/8"))[0]
    numbers = [int.from_bytes(u, "big") for u in alone[0]["uid"].to_pylist()]
    assert {n for n, keep in zip(numbers, found["keep"].to_pylist(), strict=True) if keep} == set(kept(whole))
    assert [keep is None for keep, *_ in whole] == [i not in asked for i in range(ROWS)]
    assert len(kept(whole)) == int(0.3 * len(asked))


@pytest.mark.parametrize("rows", [1 << 17, 13])
def test_no_cut_shows(rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ROWS", rows)
    chosen = prototypes(over="survivors", k="n/8", on_missing="drop", spherical=True)
    first, *others = (answers(pool(shards, seed, (5, 7), asked=True), chosen, seed) for shards, seed in CUTS)
    assert all(other == first for other in others)
    assert len(kept(first)) == int(0.3 * 48)


@pytest.mark.parametrize(("policy", "expected"), [("drop", (False, "missing", None)), ("keep", (True, None, None))])
def test_missing_vectors_follow_the_policy(policy: Any, expected: tuple[bool, str | None, None]) -> None:
    found = answers(pool(2, 1, (7,)), prototypes(on_missing=policy))
    assert found[7] == expected
    assert len([n for n in kept(found) if n != 7]) == int(0.3 * ROWS)


def test_what_cannot_be_is_said() -> None:
    with pytest.raises(ValueError, match=r"sample 0{31}7 has no 'v'.*on_missing: drop"):
        answers(pool(2, 1, (7,)), prototypes())
    with pytest.raises(ValueError, match="72 vectors are too few for k: 80"):
        answers(pool(), prototypes(k=80))


def test_nobody_is_asked() -> None:
    columns = {"v": vectors(directions(4, 3)), "asked": pa.array([False] * 4)}
    assert answers(pool_of(columns, 2), prototypes(over="survivors", k="n/8")) == [(None, None, None)] * 4


@pytest.mark.parametrize("policy", ["drop", "keep"])
def test_nobody_with_a_vector_is_nothing_to_cluster(policy: Any) -> None:
    """An explicit k, too: how many a filter above leaves is not known when the recipe is written."""
    none = {"v": vectors(clumps(6, 12, 8), null=range(ROWS))}
    expected = (True, None, None) if policy == "keep" else (False, "missing", None)
    assert set(answers(pool_of(none, 3, 1), prototypes(on_missing=policy))) == {expected}
    unasked = {"v": vectors(clumps(6, 12, 8)), "asked": pa.array([False] * ROWS)}
    assert set(answers(pool_of(unasked, 3, 1), prototypes(over="survivors"))) == {(None, None, None)}


def test_fewer_survivors_than_centroids_follow_the_rule() -> None:
    """A number is meant; `min(n, ...)` is for those who want what there is."""
    few = {"v": vectors(clumps(6, 12, 8)), "asked": pa.array([i < 4 for i in range(ROWS)])}
    with pytest.raises(ValueError, match=r"4 vectors are too few for k: 6; .*min\(n, 6\)"):
        answers(pool_of(few, 2, 1), prototypes(over="survivors"))
    found = answers(pool_of(few, 2, 1), prototypes(over="survivors", k="min(n, 6)", fraction=0.5))
    assert len(kept(found)) == 2
    assert found[4] == (None, None, None)


def test_shards_of_plain_lists_may_have_no_vectors() -> None:
    table = pool(null=tuple(range(24, 48)))[0]
    shards = plain_lists(table, (0, 24, 48, 48, ROWS))
    chosen = prototypes(on_missing="drop")
    assert answers(shards, chosen) == answers({0: table}, chosen)
