"""Scores, parts of DataComp's score, and which differences are asked for."""

from __future__ import annotations

import pytest

from curate.run.compare.found import Entry, Kind, RunFound
from curate.run.compare.gather import _counts, _families, _is_control, _metrics, _paired, of_datacomp, seen
from training_smoke.evaluate.tasks import RETRIEVAL, TASKS


def record(name: str, score: float) -> dict[str, object]:
    return {"dataset": name, "metrics": {"main_metric": score}}


def test_a_meanof_datacomp_is_there_when_all_of_its_tasks_are() -> None:
    assert of_datacomp([record("CIFAR-10", 0.5)]) == {}
    parts = [record(name, score) for name, score in zip(sorted(RETRIEVAL), (0.1, 0.2, 0.6), strict=True)]
    assert of_datacomp(parts) == {"DataComp/retrieval": pytest.approx(0.3)}
    whole = of_datacomp(record(name, 0.5) for name in TASKS)
    assert whole["DataComp/average"] == 0.5
    assert set(whole) == {
        f"DataComp/{n}" for n in ("average", "imagenet", "imagenet_shifts", "vtab", "retrieval", "above_chance")
    }


def entry(name: str, kind: Kind, of: str | None = None) -> Entry:
    run = RunFound(0, "judge/x", 0.5, {}, (), 1.0, 100.0)
    return Entry(name, kind, of, "picks/x", "packs/x", 10, 10, 100, None, None, (run,))


def test_differences_with_controls_and_among_recipes_are_two_families() -> None:
    entries = [
        entry("no_filter", "no_filter"), entry("a", "recipe"), entry("b", "recipe"), entry("c", "recipe"),
        entry("random, as a", "random", "a, b"), entry("random, as c", "random", "c"), entry("no_filter again", "a_a"),
    ]  # fmt: skip
    controls, recipes = _families(entries)
    assert set(controls) == {
        ("a", "no_filter"), ("b", "no_filter"), ("c", "no_filter"),
        ("a", "random, as a"), ("b", "random, as a"), ("c", "random, as c"),
        ("random, as a", "no_filter"), ("random, as c", "no_filter"),
    }  # fmt: skip
    assert recipes == [("b", "a"), ("c", "a"), ("c", "b")]


def test_differences_are_over_the_seeds_that_both_have() -> None:
    found = _paired({0: 3.0, 1: 5.0, 2: 7.0}, {0: 1.0, 2: 3.0})
    assert found is not None
    assert (found.n, found.mean) == (2, 3.0)
    assert _paired({0: 3.0}, {1: 1.0}) is None


def test_what_is_compared_of_a_record() -> None:
    """Counts and controls of one model are no measures of a recipe."""
    said = {
        "cider": 0.5, "cider_blind": 0.1, "cider_shuffled": 0.2, "n": 9, "n_captioned": 9, "main_metric": 0.5,
        "caption_loss": 3.0, "caption_words": 9.5, "acc5": None, "templates": 2, "loss": float("nan"),
    }  # fmt: skip
    assert [name for name, value in said.items() if _counts(name, value)] == ["cider", "caption_loss", "caption_words"]
    assert [name for name, value in said.items() if _is_control(name, value)] == ["cider_blind", "cider_shuffled"]
    run = RunFound(0, "judge/x", 0.5, {"a/cider": 0.5, "a/caption_loss": 3.0, "a/caption_words": 9.5}, (), 1.0, 100.0)
    metrics = _metrics({"none/0": run})
    assert [(m.lower, m.percent) for m in metrics.values()] == [(False, True), (True, False), (False, False)]


def test_what_was_seen_is_what_lies_above_another_s_picture() -> None:
    scores = {"a/cider": 0.5, "a/exact_match_other": 0.25, "a/exact_match": 0.5, "a/acc1": 0.9, "a/caption_loss": 3.0}
    controls = {"a/cider_shuffled": 0.125, "a/cider_blind": 0.4, "a/exact_match_other_shuffled": 0.5,
                "a/acc1_shuffled": 0.1, "a/caption_loss_shuffled": 4.0}  # fmt: skip
    assert seen(scores, controls) == {"a/cider_seen": 0.375, "a/exact_match_other_seen": -0.25}
