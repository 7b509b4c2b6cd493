"""A plan says why there is something to do: each reason is made by that very change."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from run.plan_parts import EXACT, Planner, Weighed, planner

from curate.errors import PartialFailure
from curate.pool.layout import ABOUT
from curate.pool.pool import Pool
from curate.run.planning.differ import differences

NEVER, WEIGHED = "never computed here", "weighed(weights=w.txt)"


@pytest.fixture
def person(tmp_path: Path) -> Planner:
    return planner(tmp_path)


def test_of_a_new_pool_nothing_was_ever_computed(person: Planner) -> None:
    steps = [WEIGHED, "heavy", "long", "hash_groups(by=sha256)", "exact", "pick", "pack: rank", "pack: fill"]
    assert person.why() == dict.fromkeys(steps, NEVER)


def test_what_is_there_needs_no_reason(person: Planner) -> None:
    person.run()
    plan = person.plan()
    assert [p.step.name for p in plan.steps if p.open] == []
    assert all(why == "" for p in plan.steps for why in p.why)


def weights_changed(person: Planner) -> None:
    (person.folder / "w.txt").write_text("0.75")


def moved(name: str, value: Any) -> Callable[[Planner], None]:
    return lambda person: setattr(person, name, value)


READS = "reads weighed, where "
CHANGES: dict[str, tuple[Callable[[Planner], None], dict[str, str]]] = {
    "a parameter of a stage": (
        moved("power", 2.0),
        {
            "weighed(weights=w.txt, power=2.0)": "parameter `power`: 1.0 -> 2.0",
            "heavy": f"{READS}parameter `power`: 1.0 -> 2.0",
            "exact": "the filters above changed: `heavy`",
            "pick": "filters changed: `heavy`, `exact`",
        },
    ),
    "a threshold": (
        moved("least", 2.0),
        {
            "heavy": "parameter `least`: 1.0 -> 2.0",
            "exact": "the filters above changed: `heavy`",
            "pick": "filters changed: `heavy`, `exact`",
        },
    ),
    "an SQL rule": (
        moved("long", 6),
        {
            "long": "parameter `where`: length(text) > 5 -> length(text) > 6",
            "exact": "the filters above changed: `long`",
            "pick": "filters changed: `long`, `exact`",
        },
    ),
    "the last filter goes": (moved("more", ""), {"pick": "filters are gone: `exact`"}),
    "a filter comes": (
        moved("more", EXACT + "  - caption_length: {min_words: 1}\n"),
        {"text_facts": NEVER, "caption_length": NEVER, "pick": "filters are new: `caption_length`"},
    ),
    "captions": (
        moved("rest", "captions: {emit: [{copies: 2, texts: [{source: web}]}]}\npack: {samples: 25}\n"),
        {"pick": "`captions:` changed"},
    ),
}


@pytest.mark.parametrize(("change", "reasons"), CHANGES.values(), ids=CHANGES)
def test_each_change_is_told_where_it_is_felt(
    person: Planner, change: Callable[[Planner], None], reasons: dict[str, str]
) -> None:
    person.run()
    change(person)
    found = person.why()
    assert {k: v for k, v in found.items() if not k.startswith("pack")} == reasons
    assert found["pack: rank"] == found["pack: fill"] == "the pick changed"


def test_weights_that_differ_are_told_by_their_digests(person: Planner) -> None:
    person.run()
    before = _digest(person)
    weights_changed(person)
    found = person.why()[WEIGHED]
    assert found.startswith(f"weights differ (digest {before} -> ")
    assert person.why()["heavy"] == f"{READS}{found}"


def _digest(person: Planner) -> str:
    (about,) = (person.pool / "columns").glob(f"run.plan_parts.Weighed@*/{ABOUT}")
    return str(json.loads(about.read_text())["identity"]["files"][0][:8])


def test_a_weights_file_that_moved_is_no_reason(person: Planner) -> None:
    person.run()
    (person.folder / "w.txt").rename(person.folder / "v.txt")
    person.weights = "v.txt"
    assert person.why() == {}


def test_a_version_that_rose(person: Planner, monkeypatch: pytest.MonkeyPatch) -> None:
    person.run()
    monkeypatch.setattr(Weighed, "version", 2)
    found = person.why()
    assert (found[WEIGHED], found["heavy"]) == ("version 1 -> 2", f"{READS}version 1 -> 2")


def test_a_column_that_reads_a_column_that_changed(person: Planner) -> None:
    squared = "  - run.plan_parts:Squared: {of: {weights: %s, power: %g}}\n"
    person.columns = squared % (person.folder / "w.txt", 3)
    person.run()
    person.columns = squared % (person.folder / "w.txt", 4)
    # Its parameters hold those of the stage that it reads: they are named once, as its own.
    found = {k: v for k, v in person.why().items() if k.startswith("squared")}
    assert [*found.values()] == ["parameter `of.power`: 3.0 -> 4.0; reads weighed, where parameter `power`: 3.0 -> 4.0"]


def test_a_pool_that_grew(person: Planner) -> None:
    person.run()
    person.add_shard(3)
    grown = "the pool grew: 3 -> 4 shards"
    assert person.why() == {
        WEIGHED: "3 of 4 shards are there: an interrupted run or new shards",
        "heavy": "3 of 4 shards are there: an interrupted run or new shards",
        "long": "3 of 4 shards are there: an interrupted run or new shards",
        "hash_groups(by=sha256)": grown,
        "exact": grown,
        "pick": f"{grown}; filters changed: `exact`",
        "pack: rank": "the pick changed",
        "pack: fill": "the pick changed",
    }


def test_what_was_interrupted(person: Planner) -> None:
    person.run()
    for folder in ("columns/run.plan_parts.Weighed@*", "picks/mine@*"):
        (found,) = person.pool.glob(f"{folder}/00000002.parquet")
        found.unlink()
    there = "2 of 3 shards are there: an interrupted run or new shards"
    assert person.why() == {WEIGHED: there, "pick": there}


def test_what_failed_for_good_says_of_what_and_harmlessly(person: Planner) -> None:
    person.columns = "  - run.plan_parts:Fails\n"
    with pytest.raises(PartialFailure):
        person.run()
    found = person.why()["fails"]
    assert found.startswith("3 failed for good last time: RuntimeError: bad ")
    assert "weather" in found
    assert "\x1b" not in found


def test_samples_taken_down_are_told(person: Planner) -> None:
    person.run()
    pool = Pool.open(str(person.pool))
    pool.remove(pool.facts(0, ["uid"])[0].column("uid").slice(0, 1).combine_chunks(), "asked to")
    assert person.why()["pick"] == "samples were removed from the pool"


def test_a_sparse_stage_says_that_its_survivors_are_others(person: Planner) -> None:
    person.columns = "  - run.plan_parts:Lettered\n"
    person.run()
    person.long = 16
    assert person.why()["lettered"].startswith("other survivors than it was asked about")


def test_a_pack_of_other_size_or_seed(person: Planner) -> None:
    person.run()
    person.rest = "seed: 3\npack: {samples: 30}\n"
    assert person.why() == dict.fromkeys(["pack: rank", "pack: fill"], "`samples`: 25 -> 30; `seed`: 0 -> 3")


def test_the_folder_with_fewest_differences_is_compared(person: Planner) -> None:
    person.run()
    person.power, person.least = 3.0, 5.0
    person.run()
    person.least = 6.0
    assert person.why()["heavy"] == "parameter `least`: 5.0 -> 6.0"


def test_folders_of_older_curates_are_not_misread(person: Planner) -> None:
    """Notes without what a step read: of those nothing is claimed."""
    person.run()
    (about,) = (person.pool / "verdicts").glob(f"keep_one@*/{ABOUT}")
    old = json.loads(about.read_text())
    about.write_text(json.dumps({k: v for k, v in old.items() if k not in ("above", "reads", "barriers", "seen")}))
    person.long = 6
    assert person.why()["exact"] == "what is there was made by an older curate, which did not note from what"


def test_long_and_nested_values_are_cut() -> None:
    old = {"identity": {"version": 1, "parameters": {"of": {"names": ["x" * 200]}}}}
    new = {"identity": {"version": 1, "parameters": {"of": {"names": ["y" * 200]}}}}
    (found,) = differences(new, old, lambda folder: {})
    assert found.startswith('parameter `of.names`: ["xxx')
    assert len(found) < 160


def test_notes_that_read_each_other_end() -> None:
    note = {"identity": {}, "reads": ["columns/a@1:x"]}
    other = {"identity": {}, "reads": ["columns/a@2:x"]}
    assert differences(note, other, lambda folder: note if folder.endswith("1") else other) == []
