"""What `curate plan` prints: for a person at most 110 columns wide and harmless, for programs a stable object."""

from __future__ import annotations

import json
import subprocess
import sys
import unicodedata
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from run.plan_parts import EXACT, Planner, planner

from curate.errors import UserError
from curate.run.account import called
from curate.run.planning import print_plan
from curate.run.planning.as_json import as_object
from curate.run.planning.show import as_lines
from curate.run.planning.units import size
from filters.where import Where
from stages.near_hashes import NearHashes
from stages.text_facts import TextFacts


@pytest.fixture
def person(tmp_path: Path) -> Planner:
    return planner(tmp_path)


def lines(person: Planner, rows: float | None = None, **more: Any) -> list[str]:
    return as_lines(person.plan(**more), rows)


def test_a_finished_pool(person: Planner) -> None:
    person.run()
    assert [" ".join(line.split()) for line in lines(person)] == [
        f"plan of recipe mine, pool {person.pool}",
        "3 of 3 shards have images, 60 samples",
        "",
        "(* waits for all shards) to do rows read written worker time",
        "ingest there",
        "describe there",
        "weighed(weights=w.txt)",
        "filters there",
        "heavy, long",
        "* hash_groups(by=sha256) there",
        "* exact (keep_one) there",
        "pick there",
        "pack there",
        "",
        "nothing to do: all of it is there",
        f"pick {person.plan().pick}",
    ]


def test_a_changed_threshold_stands_below_its_step(person: Planner) -> None:
    person.run()
    person.least = 2.0
    found = lines(person)
    at = next(i for i, line in enumerate(found) if line.startswith("  filters"))
    assert found[at].split()[1:4] == ["3", "of", "3"]
    assert found[at + 1 : at + 3] == ["      heavy: parameter `least`: 1.0 -> 2.0", "      there: long"]
    assert not any(line.startswith("signs") and "+" in line for line in found), "all of it was measured"


def test_a_new_pool_says_that_nothing_is_measured_and_what_would(person: Planner) -> None:
    found = "\n".join(lines(person))
    assert "work       not measured" in found
    assert "unmeasured all of it; a run of a small list or --sample 3 measures it" in found


def test_no_line_is_too_wide_whatever_the_names(person: Planner) -> None:
    person.more += "".join(f"  - id: {'very_' * 8}long_{i}\n    where: 'width > {i}'\n" for i in range(8)) + EXACT
    person.more = person.more.replace("id: exact", "id: exact_but_with_a_name_that_goes_on_and_on_for_ever", 1)
    for rows in (None, 12.8e12):
        assert max(map(len, lines(person, rows))) <= 110
    person.run()
    person.power = 1 / 3
    assert max(map(len, lines(person, 12.8e12))) <= 110


def test_costs_for_many_rows(person: Planner) -> None:
    person.run()
    plan = person.plan()
    found = as_lines(plan, 12.8e9)
    start = next(i for i, line in enumerate(found) if line.startswith("for 12,800,000,000 rows of input"))
    rows = {line.split()[0]: line.split()[1:] for line in found[start + 2 :] if line.startswith("  ")}
    assert rows["describe"][:2] == ["640,000,000", "12,800,000,000"]
    describe = next(p for p in plan.steps if p.step.name == "describe")
    assert describe.all.written is not None
    assert " ".join(rows["describe"][4:6]) == size(describe.all.written * 12.8e9 / 60)
    assert any(line.startswith("time") and "1,000 workers" in line for line in found[start:])


def test_costs_for_many_rows_of_nothing(tmp_path: Path) -> None:
    (tmp_path / "w.txt").write_text("1")
    found = lines(planner(tmp_path, shards=0), 1e9)
    assert found[-1].endswith("so that there is nothing to go by")
    assert "nothing to do: the pool has no list, and the recipe names none (`source:`)" in found


def test_endless_rows_are_refused(person: Planner) -> None:
    with pytest.raises(UserError, match=r"^--rows inf: it is a number such as 12\.8e9$"):
        print_plan(person.recipe(), as_json=False, rows=float("inf"))


@given(st.text(max_size=60))
def test_no_name_steers_a_terminal(text: str) -> None:
    from curate.run.planning.show import _wrapped

    found = "".join(_wrapped(f"list {text}\x1b[31m: {text}"))
    assert not [c for c in found if unicodedata.category(c) in ("Cc", "Cf", "Cs", "Zl", "Zp")]


# ---------------------------------------------------------------- JSON

AMOUNT = {"rows", "seconds", "bytes_read", "bytes_written", "unmeasured"}
STEP = {"name", "kind", "folder", "total", "missing", "note", "why", "all", "bytes_guessed", "at_most", "need", "makes"}
TOTALS = {"bytes_read", "bytes_written", "cpu_hours", "gpu_hours", "hours", "unmeasured", "bytes_read_unknown"}
PLAN = {
    "schema", "recipe", "pool", "exists", "claimed", "shards", "samples", "listed", "unread", "lists", "shadowed",
    "pick", "pack", "executor", "steps", "totals", "rates", "sample", "for_rows",
}  # fmt: skip


def test_the_object_keeps_its_fields(person: Planner) -> None:
    """Programs read these: whoever changes one raises `schema`."""
    person.run()
    person.least = 2.0
    found = as_object(person.plan(), 6000)
    assert json.loads(json.dumps(found)) == found, "plain JSON"
    assert found["schema"] == 1
    assert found.keys() == PLAN
    assert all(s.keys() == STEP | AMOUNT and s["all"].keys() == AMOUNT for s in found["steps"])
    assert found["totals"].keys() == TOTALS | {"bytes_written_unknown"} == found["for_rows"]["totals"].keys()
    assert found["executor"] == {"name": "inline", "workers": None, "cluster": False}
    assert [s["name"] for s in found["for_rows"]["steps"]] == [s["name"] for s in found["steps"]]
    step = next(s for s in found["steps"] if s["kind"] == "filter")
    assert [(m["name"], m["missing"], m["why"]) for m in step["makes"]] == [
        ("heavy", 3, "parameter `least`: 1.0 -> 2.0"),
        ("long", 0, None),
    ]


def test_printed_json_is_the_object(person: Planner, capsys: pytest.CaptureFixture[str]) -> None:
    print_plan(person.recipe(), as_json=True, executor="inline", sample=1)
    out, err = capsys.readouterr()
    assert json.loads(out)["sample"].startswith("measured on 1 of 3 shards")
    assert err.startswith("measuring on 1 of 3 shards")


# ---------------------------------------------------------------- names, and what is imported


def test_methods_are_named_with_what_decides_their_cost() -> None:
    assert called(TextFacts()) == "text_facts"
    assert called(NearHashes(by="phash64", distance=4)) == "near_hashes(by=phash64, distance=4)"
    assert called(Where(sql="width > 3")) == "where"


def test_a_plan_loads_neither_ray_nor_torch(person: Planner) -> None:
    person.recipe()
    script = (
        "import sys; sys.argv = ['curate', 'plan', sys.argv[1]]\nfrom curate.cli import app\n"
        "try:\n    app()\nexcept SystemExit as e:\n    assert not e.code\n"
        "assert not {'ray', 'torch', 'rich'} & set(sys.modules), sorted({'ray', 'torch', 'rich'} & set(sys.modules))"
    )
    tests = str(Path(__file__).parents[1])
    done = subprocess.run(
        [sys.executable, "-c", script, str(person.folder / "r.yaml")], capture_output=True, text=True, check=False,
        env={"PYTHONPATH": tests, "PATH": "", "HOME": str(person.folder)}, timeout=120,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
