"""Found against planted: each URL counted once, at the reason it had to have."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curate.demo.score import SCORE, found_against_planted, printed
from curate.demo.web import CLEAN, KEPT, PLANTED, build_web
from curate.recipe import load_recipe


@pytest.fixture(scope="module")
def truth(tmp_path_factory: pytest.TempPathFactory) -> pa.Table:
    return pq.read_table(build_web(tmp_path_factory.mktemp("score"), scenes=150, port=1).truth)


def scored(truth: pa.Table, changes: dict[str, str] | None = None) -> dict[str, dict[str, Any]]:
    """The score of verdicts that are all right but for `changes` (url -> fate)."""
    rows = []
    for row in truth.to_pylist():
        fate = (changes or {}).get(row["url"], row["expected"][0])
        step, _, reason = fate.partition(": ")
        got = fate == KEPT or bool(reason)
        verdict = {"outcome": "ok" if got else fate, "dropped_by": step if reason else None, "reason": reason or None}
        rows.append({"url": row["url"], **verdict})
    return {line["kind"]: line for line in found_against_planted(truth, verdicts(rows)).to_pylist()}


def verdicts(rows: list[dict[str, Any]]) -> pa.Table:
    schema = pa.schema([(n, pa.string()) for n in ("url", "outcome", "dropped_by", "reason")])
    return pa.Table.from_pylist(rows, schema=schema)


def family(truth: pa.Table, kind: str) -> tuple[str, str]:
    """(url of a copy, url of its original)."""
    copy = next(r for r in truth.to_pylist() if r["kind"] == kind)
    return copy["url"], copy["copy_of"]


def test_all_right(truth: pa.Table) -> None:
    score = scored(truth)
    assert list(score) == [*PLANTED, CLEAN]
    assert sum(line["planted"] for line in score.values()) == truth.num_rows
    assert all(line["found"] == line["planted"] and not line["missed"] for line in score.values())


def test_a_copy_may_stand_in_for_its_original(truth: pa.Table) -> None:
    copy, original = family(truth, "near copy")
    score = scored(truth, {copy: KEPT, original: "near: duplicate"})
    assert all(not line["missed"] for line in score.values())


def test_two_that_stay_are_a_copy_missed(truth: pa.Table) -> None:
    copy, _ = family(truth, "exact copy")
    score = scored(truth, {copy: KEPT})
    assert score["exact copy"]["elsewhere"] == [{"fate": KEPT, "count": 1}]


def test_an_original_lost_for_another_reason_is_wrongly_dropped(truth: pa.Table) -> None:
    _, original = family(truth, "near copy")
    score = scored(truth, {original: "english: language"})
    assert score[CLEAN]["elsewhere"] == [{"fate": "english: language", "count": 1}]
    assert score["near copy"]["missed"] == 1  # for its picture did not stay


def test_the_right_filter_with_the_wrong_reason_is_missed(truth: pa.Table) -> None:
    tiny = next(r["url"] for r in truth.to_pylist() if r["kind"] == "tiny")
    assert scored(truth, {tiny: "image_size: max_aspect"})["tiny"]["elsewhere"] == [
        {"fate": "image_size: max_aspect", "count": 1}
    ]


def test_a_url_without_a_trace_is_missed(truth: pa.Table) -> None:
    score = found_against_planted(truth, verdicts([]))
    assert score.schema.equals(SCORE)
    assert score["found"].to_pylist() == [0] * (len(PLANTED) + 1)
    assert {e["fate"] for line in score.to_pylist() for e in line["elsewhere"]} == {"no trace"}


def test_the_table_for_people(truth: pa.Table) -> None:
    gone = next(r["url"] for r in truth.to_pylist() if r["kind"] == CLEAN)
    rows = [
        {"url": r["url"], "outcome": "timeout" if r["url"] == gone else "ok", "dropped_by": None, "reason": None}
        for r in truth.to_pylist()
    ]
    shown = printed(found_against_planted(truth, verdicts(rows))).splitlines()
    assert shown[0].split() == ["planted", "count", "must", "end", "as", "found", "missed"]
    assert shown[1].split() == ["exact", "copy", "8", "exact:", "duplicate", "0", "8", "(8", "kept)"]
    assert shown[-1].startswith("clean samples wrongly dropped: ")


def test_expected_fates_are_steps_of_the_recipe(tmp_path: Path) -> None:
    from curate.pool.facts import OUTCOMES

    text = (Path(__file__).parents[2] / "recipes" / "demo.yaml").read_text()
    assert load_recipe("demo", [f"pool={tmp_path}/pool"]) is not None
    for _, fates in PLANTED.values():
        for fate in fates:
            step, _, reason = fate.partition(": ")
            assert f"{step}:" in text or f"id: {step}" in text if reason else fate in OUTCOMES
