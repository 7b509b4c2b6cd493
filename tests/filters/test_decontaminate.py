"""Samples of evaluation sets go: every one that matches, its component where that is asked, and nobody else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

import stages.shuffle as shuffle
from filters.base import OnMissing
from filters.decontaminate import Decontaminate
from stages.base import Column, fact
from stages.eval_sets import EvalSet
from tests.phase_runner import PhaseRunner
from tests.stages.eval_pictures import FACTS, easy, encoded, facts, photo, shards_of, write_pictures

KEPT = {"keep": True, "reason": None}
Rows = list[dict[str, Any]]


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> tuple[EvalSet, ...]:
    folder = tmp_path_factory.mktemp("sets")
    for name, first in (("one", 0), ("two", 4)):
        write_pictures(folder / name, {f"{i}.png": encoded(photo(i), "PNG") for i in range(first, first + 4)})
    return tuple(EvalSet(name=name, path=str(folder / name)) for name in ("one", "two"))


def verdicts(pool: dict[int, pa.Table], chosen: Decontaminate, seed: int | None = None) -> dict[int, dict[str, Any]]:
    """uid as a number -> its verdict"""
    found = {}
    for shard, table in PhaseRunner(pool, seed).run(chosen).items():
        for uid, row in zip(pool[shard].column("uid").to_pylist(), table.to_pylist(), strict=True):
            if row["eval_of"] is not None:
                row["eval_of"] = int.from_bytes(row["eval_of"], "big")
            found[int.from_bytes(uid, "big")] = row
    return found


def said(found: dict[int, dict[str, Any]]) -> dict[int, str | None]:
    return {uid: row["reason"] for uid, row in sorted(found.items())}


def with_columns(pool: dict[int, pa.Table], **columns: dict[int, Any]) -> dict[int, pa.Table]:
    """Further columns, given by uid."""
    kinds = {"asked": pa.bool_(), "group": pa.binary(16)}
    done = {}
    for shard, table in pool.items():
        uids = [int.from_bytes(u, "big") for u in table.column("uid").to_pylist()]
        for name, values in columns.items():
            table = table.append_column(name, pa.array([values.get(u) for u in uids], kinds[name]))
        done[shard] = table
    return done


def test_every_easy_transform_is_dropped_and_nothing_else(sets: tuple[EvalSet, ...]) -> None:
    copies = easy(photo(1))
    rows = facts([*copies.values(), *(encoded(photo(seed)) for seed in range(50, 70))])
    found = verdicts(shards_of(rows, 3, np.random.default_rng(0)), Decontaminate(sets=sets, over="pool"))
    assert [r for uid, r in said(found).items() if uid <= len(copies)] == ["in_one"] * len(copies)
    assert [r for uid, r in said(found).items() if uid > len(copies)] == [None] * 20
    assert {(f["eval_item"], f["eval_by"]) for f in found.values() if not f["keep"]} == {("1.png", "phash256")}
    assert all(f["eval_of"] == uid for uid, f in found.items() if not f["keep"])


def test_a_set_pushed_through_is_flagged_whole(sets: tuple[EvalSet, ...]) -> None:
    files = [p.read_bytes() for s in sets for p in sorted(Path(s.path or "").iterdir())]
    found = verdicts(shards_of(facts(files), 2, np.random.default_rng(0)), Decontaminate(sets=sets, over="pool"))
    assert list(said(found).values()) == ["in_one"] * 4 + ["in_two"] * 4
    again = facts([encoded(photo(i), "WEBP", 60) for i in range(8)])
    found = verdicts(shards_of(again, 2, np.random.default_rng(0)), Decontaminate(sets=sets, over="pool"))
    assert list(said(found).values()) == ["in_one"] * 4 + ["in_two"] * 4


def test_all_copies_go_and_none_is_kept(sets: tuple[EvalSet, ...]) -> None:
    rows = facts([encoded(photo(2), quality=q) for q in (95, 90, 60, 30)])
    found = verdicts(shards_of(rows, 2, np.random.default_rng(0)), Decontaminate(sets=sets, over="pool"))
    assert set(said(found).values()) == {"in_one"}


def test_only_those_asked_have_a_verdict(sets: tuple[EvalSet, ...]) -> None:
    rows = facts([encoded(photo(i)) for i in (0, 1, 60)])
    pool = with_columns(shards_of(rows, 1, np.random.default_rng(0)), asked={1: False, 2: True, 3: True})
    found = verdicts(pool, Decontaminate(sets=sets, over="survivors"))
    assert [found[uid]["keep"] for uid in (1, 2, 3)] == [None, False, True]
    assert found[1] == dict.fromkeys(found[1])
    assert [found[uid]["eval_item"] for uid in (1, 2, 3)] == [None, "1.png", None]


# ---------------------------------------------------------------- components


GROUPS = {uid: (700 + group).to_bytes(16, "big") for uid, group in {1: 0, 2: 0, 3: 1, 4: 1, 5: 2, 6: 2, 7: 2}.items()}


def grouped(sets: tuple[EvalSet, ...], cut: int = 1, seed: int = 0, **asked: bool) -> dict[int, pa.Table]:
    """1, 2: a match and another; 3, 4: two others; 5, 6, 7: matches of both sets, the farther first, and another;
    8: a match in no group; 9: another."""
    pictures = [(0, 80), (60, 80), (61, 80), (62, 80), (1, 30), (5, 95), (63, 80), (2, 80), (64, 80)]
    rows = facts([encoded(photo(i), quality=q) for i, q in pictures])
    pool = shards_of(rows, cut, np.random.default_rng(seed))
    return with_columns(pool, group=GROUPS, asked={uid: asked.get(f"of_{uid}", True) for uid in range(1, 10)})


def test_components_go_whole_where_that_is_asked(sets: tuple[EvalSet, ...]) -> None:
    alone = verdicts(grouped(sets), Decontaminate(sets=sets, over="pool"))
    own = {1: "in_one", 5: "in_one", 6: "in_two", 8: "in_one"}
    assert said(alone) == {uid: own.get(uid) for uid in range(1, 10)}
    found = verdicts(grouped(sets), Decontaminate(sets=sets, over="pool", components=fact("group")))
    assert said(found) == {uid: own.get(uid) for uid in range(1, 10)} | {2: "component_in_one", 7: "component_in_two"}
    assert {uid: f["eval_of"] for uid, f in found.items() if f["eval_of"]} == {1: 1, 2: 1, 5: 5, 6: 6, 7: 6, 8: 8}
    assert (found[7]["eval_set"], found[7]["eval_item"], found[7]["eval_by"]) == ("two", None, None)
    assert found[5]["eval_distance"] > found[6]["eval_distance"]


def test_a_match_that_was_dropped_before_still_takes_its_component(sets: tuple[EvalSet, ...]) -> None:
    chosen = Decontaminate(sets=sets, over="survivors", components=fact("group"))
    found = verdicts(grouped(sets, of_1=False), chosen)
    assert (found[1]["keep"], found[2]["reason"]) == (None, "component_in_one")
    assert said(verdicts(grouped(sets, of_2=False), chosen))[2] is None


def test_a_group_of_many_samples_is_a_row_a_span(sets: tuple[EvalSet, ...]) -> None:
    """Two matches, the stronger one in another span; 8 is not asked, and 9 is of a group without a match."""
    equal = (Path(sets[0].path or "") / "2.png").read_bytes()
    one, two, other = facts([encoded(photo(1), quality=30), equal, encoded(photo(60))])
    rows = [{**(one if n == 3 else two if n == 290 else other), "uid": n.to_bytes(16, "big")} for n in range(1, 301)]
    groups = {n: (8 if n == 9 else 7).to_bytes(16, "big") for n in range(1, 301)}
    pool = with_columns(shards_of(rows, 5, np.random.default_rng(0)), group=groups, asked={n: n != 8 for n in groups})
    chosen = Decontaminate(sets=sets, over="survivors", components=fact("group"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shuffle, "ROWS", 64)
        runner = PhaseRunner(pool)
        found = runner.run(chosen)
    sent = [t.num_rows for output in runner.files[chosen]["touched"].values() for t in list(output.tables)[:-1]]
    assert (len(runner.files[chosen]["touched"]), sum(sent)) == (5, 6)
    rows = [r for table in found.values() for r in table.to_pylist()]
    reasons = [r["reason"] for r in rows]
    assert (reasons.count("in_one"), reasons.count("component_in_one"), reasons.count(None)) == (2, 296, 2)
    whose = {r["eval_of"] for r in rows if r["reason"] == "component_in_one"}
    assert whose == {(290).to_bytes(16, "big")}
    assert sum(s["with_others"] for s in runner.stats(chosen, "gather").values()) == 296


@settings(max_examples=6)
@given(st.integers(0, 1000), st.sampled_from([1, 3, 7]), st.booleans())
def test_order_and_cut_change_nothing(sets: tuple[EvalSet, ...], seed: int, cut: int, whole: bool) -> None:
    chosen = Decontaminate(sets=sets, over="survivors", components=fact("group") if whole else None)
    wanted = verdicts(grouped(sets), chosen)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shuffle, "ROWS", 2)
        assert verdicts(grouped(sets, cut, seed), chosen, seed) == wanted


# ---------------------------------------------------------------- what lacks a value


def test_a_sample_without_a_hash_needs_a_word(sets: tuple[EvalSet, ...]) -> None:
    rows = facts([encoded(photo(i)) for i in (0, 60)])
    rows[1] |= {"phash256": None}
    pool = {0: pa.Table.from_pylist(rows, FACTS)}
    with pytest.raises(ValueError, match="has no hash or vector to compare by"):
        verdicts(pool, Decontaminate(sets=sets, over="pool"))
    assert said(verdicts(pool, Decontaminate(sets=sets, over="pool", on_missing="drop"))) == {1: "in_one", 2: "missing"}
    assert said(verdicts(pool, Decontaminate(sets=sets, over="pool", on_missing="keep"))) == {1: "in_one", 2: None}
    assert verdicts(pool, Decontaminate(sets=sets, over="pool", distance=None, on_missing="error"))[2]["keep"] is True


@pytest.mark.parametrize("on_missing", ["error", "drop", "keep"])
@pytest.mark.parametrize("components", [None, fact("group")])
def test_a_pool_without_hashes_is_refused_at_once(
    sets: tuple[EvalSet, ...], components: Column | None, on_missing: OnMissing
) -> None:
    """Also by who would drop all that lacks a hash, or keep it; unless equal bytes are all that is asked."""
    rows = [r | {"phash64": None, "phash256": None, "phash_quality": None} for r in facts([encoded(photo(60))] * 5)]
    rows[0] |= {"sha256": facts([(Path(sets[0].path or "") / "2.png").read_bytes()])[0]["sha256"]}
    pool = with_columns({0: pa.Table.from_pylist(rows, FACTS), 1: FACTS.empty_table()}, group={})
    chosen = Decontaminate(sets=sets, over="pool", components=components, on_missing=on_missing)
    runner = PhaseRunner(pool)
    with pytest.raises(ValueError, match=r"none of 5 samples has a perceptual hash.*phash: true.*distance: null"):
        runner.run(chosen)
    assert runner.files.get(chosen, {}) == {}  # already its first phase says so
    equal = Decontaminate(sets=sets, over="pool", components=components, on_missing=on_missing, distance=None)
    assert said(verdicts(pool, equal)) == {1: "in_one"} | dict.fromkeys(range(2, 6))
    assert said(verdicts({0: pool[1]}, chosen)) == {}


def test_a_set_that_is_not_there_is_said_before_anything_runs(tmp_path: Path) -> None:
    chosen = Decontaminate(sets=(EvalSet(name="a", path=str(tmp_path / "none")),), over="pool")
    with pytest.raises(ValueError, match="evaluation set a: nothing at"):
        chosen.files()
    with pytest.raises(ValidationError, match="over"):
        Decontaminate(sets=(EvalSet(name="a", path=str(tmp_path)),))  # type: ignore[call-arg]
