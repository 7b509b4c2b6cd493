"""Union, intersect, not: members see the same samples, and the answer is theirs put together."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from filters.combined import Combined, Intersect, Not, Union
from filters.keep_one import KeepOne
from filters.random_subset import RandomSubset
from filters.top_fraction import TopFraction
from filters.where import Where
from tests.phase_runner import PhaseRunner

SCHEMA = pa.schema(
    [("uid", pa.binary(16)), ("a", pa.float32()), ("b", pa.int32()), ("sha256", pa.string()), ("asked", pa.bool_())]
)
OVER: Any = "survivors"
Row = dict[str, Any]


def rows(n: int, seed: int = 0, missing: float = 0.0) -> list[Row]:
    rng = np.random.default_rng(seed)
    return [
        {
            "uid": int(rng.integers(1, 2**62)).to_bytes(16, "big"),
            "a": None if rng.random() < missing else round(float(rng.random()), 2),
            "b": int(rng.integers(0, 10)),
            "sha256": f"{rng.integers(0, n):064x}",
            "asked": bool(rng.random() < 0.9),
        }
        for _ in range(n)
    ]


def verdicts(chosen: Combined, of: list[Row], shards: int = 1, seed: int = 0) -> dict[bytes, tuple[Any, Any]]:
    rng = np.random.default_rng(seed)
    order, home = rng.permutation(len(of)), rng.integers(0, shards, len(of))
    pool = {s: pa.Table.from_pylist([of[i] for i in order if home[i] == s], SCHEMA) for s in range(shards)}
    found = {}
    for shard, table in PhaseRunner(pool, seed).run(chosen).items():
        answers = zip(table.column("keep").to_pylist(), table.column("reason").to_pylist(), strict=True)
        found |= dict(zip(pool[shard].column("uid").to_pylist(), answers, strict=True))
    return found


TOP = TopFraction(over=OVER, column="a", fraction=0.4, on_missing="drop")
EVEN = Where(sql="b % 2 = 0", on_missing="drop")


def by_hand(of: list[Row]) -> tuple[set[bytes], set[bytes], set[bytes]]:
    """(asked, the best 40 % by a, even b), by sorting."""
    asked = [r for r in of if r["asked"]]
    scored = sorted((r for r in asked if r["a"] is not None), key=lambda r: (-np.float32(r["a"]), r["uid"]))
    top = {r["uid"] for r in scored[: int(0.4 * len(asked))]}
    return {r["uid"] for r in asked}, top, {r["uid"] for r in asked if r["b"] % 2 == 0}


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 60), st.integers(0, 99), st.integers(1, 5), st.sampled_from([0.0, 0.3]))
def test_they_are_set_operations_however_the_pool_is_cut(n: int, seed: int, shards: int, missing: float) -> None:
    of = rows(n, seed, missing)
    asked, top, even = by_hand(of)
    for chosen, expected in (
        (Union(over=OVER, members=(TOP, EVEN)), top | even),
        (Intersect(over=OVER, members=(TOP, EVEN)), top & even),
        (Not(over=OVER, members=(EVEN,)), asked - even),
        (Not(over=OVER, members=(Union(over=OVER, members=(TOP, EVEN)),)), asked - top - even),
    ):
        found = verdicts(chosen, of, shards, seed)
        assert {uid for uid, (keep, _) in found.items() if keep} == expected
        assert {uid for uid, (keep, _) in found.items() if keep is None} == {r["uid"] for r in of} - asked
        assert all((reason is None) == (keep is not False) for keep, reason in found.values())


def test_reasons_are_the_members_own() -> None:
    of = [
        {"uid": bytes(15) + bytes([i]), "a": a, "b": b, "sha256": str(i), "asked": True}
        for i, (a, b) in enumerate([(0.9, 2), (0.8, 1), (0.1, 4), (0.05, 3), (None, 5)])
    ]
    both = [reason for _, reason in verdicts(Intersect(over=OVER, members=(TOP, EVEN)), of).values()]
    assert sorted(map(str, both)) == ["None", "below_threshold", "below_threshold", "missing", "where"]
    either = [reason for _, reason in verdicts(Union(over=OVER, members=(EVEN, TOP)), of).values()]
    assert sorted(map(str, either)) == ["None", "None", "None", "where", "where"]
    neither = [reason for _, reason in verdicts(Not(over=OVER, members=(EVEN,)), of).values()]
    assert sorted(map(str, neither)) == ["None"] * 3 + ["kept_by_where"] * 2


def test_two_members_of_one_kind_do_not_meet() -> None:
    """Both are made of phases of the same names; one is a barrier's reader, too."""
    of = rows(200, 3)
    lowest = TopFraction(over=OVER, column="a", fraction=0.2, lowest=True)
    subset = RandomSubset(over=OVER, fraction=0.3, seed=5)
    each = [
        {u for u, (k, _) in verdicts(Intersect(over=OVER, members=(m,)), of, 3).items() if k}
        for m in (lowest, TOP, subset)
    ]
    found = {u for u, (k, _) in verdicts(Union(over=OVER, members=(lowest, TOP, subset)), of, 4).items() if k}
    assert found == each[0] | each[1] | each[2]
    assert len(each[0] & each[1]) == 0
    assert len(found) > len(each[0] | each[1])


def test_members_with_barriers_are_asked_for_them() -> None:
    one = KeepOne(over="survivors", by="sha256")
    assert Intersect(over="survivors", members=(one, EVEN)).barriers() == one.barriers()
    assert set(Intersect(over="survivors", members=(one, EVEN)).reads()) == {*one.reads(), "b"}


def test_a_missing_value_without_a_policy_names_the_sample() -> None:
    of = [{"uid": bytes(15) + b"\x07", "a": None, "b": 1, "sha256": "", "asked": True}]
    with pytest.raises(ValueError, match=f"where: sample {'00' * 15}07 has no value for a"):
        verdicts(Union(over=OVER, members=(Where(sql="a > 0.5"),)), of)
    of[0]["asked"] = False
    assert list(verdicts(Union(over=OVER, members=(Where(sql="a > 0.5"),)), of).values()) == [(None, None)]


def test_members_over_something_else_are_refused() -> None:
    with pytest.raises(ValueError, match="leave `over` out of them"):
        Union(over="pool", members=(TOP,))


def test_members_decide_the_identity() -> None:
    a, b = (Union(over=OVER, members=(Where(sql=f"b > {n}"), TOP)) for n in (1, 2))
    assert a.identity() != b.identity()
    assert a.identity()["parameters"]["members"][0]["name"] == "where"
    assert a == Union(over=OVER, members=(Where(sql="b > 1"), TOP))
    assert hash(a) != hash(b)


def test_a_members_rules_decide_the_identity(monkeypatch: pytest.MonkeyPatch) -> None:
    """As they do of a row filter by itself: a filter of one's own may be edited without another version."""
    chosen = Union(over=OVER, members=(EVEN,))
    before = chosen.identity()
    monkeypatch.setattr(Where, "rules", lambda self: {"where": "b % 2 = 1"})
    assert chosen.identity() != before
