"""What a plan says is to be done is what the run does; what it says that costs is near what it cost."""

from __future__ import annotations

import io
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from run.plan_parts import ROWS, Planner, planner
from tiny import jpeg

from curate.errors import UserError
from curate.run.engine import Pass
from curate.run.job import Job
from curate.run.progress import Progress


class Listening(Progress):
    """Remembers what passes were to do."""

    def __init__(self) -> None:
        super().__init__(None, "a test", io.StringIO())
        self.items: dict[str, int] = {}

    def begin(self, passes: Sequence[Pass]) -> None:
        self.items |= {p.name: len(p.items) for p in passes}
        super().begin(passes)


def did(person: Planner) -> Listening:
    recipe = person.recipe()
    job = Job(recipe, "inline")
    with Listening() as heard:
        outcome = job.run(heard)
        if recipe.pack:
            job.pack(heard, outcome.pick)
    return heard


@pytest.fixture
def person(tmp_path: Path) -> Planner:
    return planner(tmp_path)


# ---------------------------------------------------------------- what is to be done

FOLDERS = ["columns/run.plan_parts.Weighed", "verdicts/run.plan_parts.Least", "verdicts/where", "picks/mine"]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("finished")
    planner(folder).run()
    return folder


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    gone=st.sets(st.tuples(st.sampled_from(FOLDERS), st.integers(0, 2)), max_size=6),
    grown=st.booleans(),
    least=st.sampled_from([1.0, 60.0]),
)
def test_plan_and_run_agree_on_parts_and_rows(
    finished: Path, gone: set[tuple[str, int]], grown: bool, least: float
) -> None:
    with tempfile.TemporaryDirectory() as place:
        shutil.copytree(finished, place, dirs_exist_ok=True)
        person = Planner(Path(place), least=least)
        for folder, shard in gone:
            for found in person.pool.glob(f"{folder}@*/{shard:08d}.parquet"):
                found.unlink()
        if grown:
            person.add_shard(3)
        plan = person.plan()
        heard = did(person)
        steps = {p.step.name: p for p in plan.steps}
        said = {n: p.step.missing for n, p in steps.items() if p.step.missing and p.step.kind != "pack"}
        assert said == {n: k for n, k in heard.items.items() if not n.startswith("pack")}
        for name, state in heard.states.items():
            if steps[name].step.kind in ("columns", "filter", "pick"):
                assert (name, steps[name].todo.rows) == (name, state.rows)
        assert plan.pick is not None
        assert (person.pool / plan.pick).is_dir()
        assert [p.step.name for p in person.plan().steps if p.open] == []


def test_bytes_are_near_where_earlier_shards_tell(person: Planner) -> None:
    person.run()
    for number in range(3, 9):
        person.add_shard(number)
    plan = person.plan()
    heard = did(person)
    for priced in plan.steps:
        state = heard.states.get(priced.step.name)
        if state is None or (priced.step.kind == "all shards" and priced.step.total == 1):
            continue  # a single part is mostly what every parquet file has
        assert priced.todo.written is not None
        assert 0.5 < priced.todo.written / state.bytes_written < 2, priced.step.name
        if priced.step.kind in ("columns", "filter", "pick"):
            assert priced.todo.read is not None
            assert 0.7 < priced.todo.read / state.bytes_read < 1.4, priced.step.name
            assert not priced.guessed
    assert plan.totals.written == pytest.approx(sum(s.bytes_written for s in heard.states.values()), rel=0.5)


def test_an_interrupted_pack_is_planned_as_it_goes_on(person: Planner) -> None:
    person.run()
    (manifest,) = person.pool.glob("packs/*/manifest.json")
    manifest.unlink()
    plan = person.plan()
    packing = {p.step.name: p.step.missing for p in plan.steps if p.step.kind == "pack"}
    assert packing == {"pack: rank": 3, "pack: fill": 3}, "what the manifest does not vouch for was cleared"
    assert plan.pack == f"packs/{manifest.parent.name}"


@pytest.mark.parametrize("rows", [60, 600, 6_000_000])
def test_costs_for_other_numbers_of_rows_are_in_proportion(person: Planner, rows: int) -> None:
    person.run()
    plan = person.plan()
    assert plan.listed == 3 * ROWS
    steps = plan.for_rows(rows)
    assert {p.step.missing for p in steps if p.step.kind in ("columns", "filter", "pick")} == {rows // ROWS}
    by_name = {p.step.name: p for p in plan.steps}
    for scaled in steps:
        one = by_name[scaled.step.name].all
        assert scaled.all.rows == pytest.approx(one.rows * rows / 60)
        for name in ("seconds", "read", "written"):
            value = getattr(one, name)
            assert getattr(scaled.all, name) == (None if value is None else pytest.approx(value * rows / 60))


# ---------------------------------------------------------------- lists that nobody has read


def photos(path: Path, rows: int) -> Path:
    data = {"image": pa.array([jpeg(i) for i in range(rows)], pa.binary()), "text": [f"text {i}" for i in range(rows)]}
    pq.write_table(pa.table(data | {"score": [i / rows for i in range(rows)]}), path)
    return path


def test_a_pool_that_is_not_there_is_planned_from_its_lists(tmp_path: Path) -> None:
    (tmp_path / "w.txt").write_text("1")
    person = Planner(tmp_path, source=f"source: {{path: {photos(tmp_path / 'some.parquet', 50)}}}\n")
    person.more += '  - id: scored\n    where: "score > 0.2"\n'
    plan = person.plan()
    assert not person.pool.exists(), "a plan makes no pool"
    assert (plan.exists, plan.shards, plan.listed, plan.pick, plan.pack) == (False, 0, 50, None, None)
    (list_,) = plan.ahead
    assert (list_.claim.rows, list_.claim.shards, list_.exact, list_.claim.columns) == (
        50,
        3,
        True,
        {"score": "double"},
    )
    steps = {p.step.name: p for p in plan.steps}
    assert (steps["ingest"].step.missing, steps["ingest"].why, steps["ingest"].todo.rows) == (3, ("never fetched",), 50)
    assert {w for n, p in steps.items() if n != "ingest" for w in p.why} == {"after ingest"}
    assert steps["describe"].todo.rows == 50
    assert steps["describe"].at_most
    heard = did(person)
    assert {n: p.step.missing for n, p in steps.items() if p.step.kind not in ("all shards", "pack")} == {
        n: k for n, k in heard.items.items() if n in ("ingest", "describe", "pick") or n.startswith("filter")
    }
    assert [p.step.name for p in person.plan().steps if p.open] == []


def test_a_second_list_comes_on_top(tmp_path: Path) -> None:
    (tmp_path / "w.txt").write_text("1")
    first = photos(tmp_path / "some.parquet", 50)
    person = Planner(tmp_path, source=f"source: {{path: {first}}}\n")
    person.run()
    person.source = f"source: [{{path: {first}}}, {{path: {photos(tmp_path / 'more.parquet', 30)}}}]\n"
    plan = person.plan()
    steps = {p.step.name: p for p in plan.steps}
    assert [u.claim.list for u in plan.ahead] == ["more"]
    assert (steps["describe"].step.total, steps["describe"].step.missing, steps["describe"].todo.rows) == (5, 2, 30)
    assert steps["describe"].why == ("3 of 5 shards are there, the others are still to be fetched",)
    assert steps["exact verdict"].why == ("the pool grew: 3 -> 5 shards",)
    assert plan.pick is None


def test_a_list_whose_content_changed_is_read_again(tmp_path: Path) -> None:
    (tmp_path / "w.txt").write_text("1")
    path = photos(tmp_path / "some.parquet", 20)
    person = Planner(tmp_path, source=f"source: {{path: {path}}}\n")
    person.run()
    assert person.plan().ahead == ()
    photos(path, 45)
    assert [u.claim.rows for u in person.plan().ahead] == [45]


def test_a_column_of_an_unread_list_that_is_misspelt_is_refused(tmp_path: Path) -> None:
    (tmp_path / "w.txt").write_text("1")
    person = Planner(tmp_path, source=f"source: {{path: {photos(tmp_path / 'some.parquet', 5)}}}\n")
    person.more = '  - id: scored\n    where: "scoer > 0.2"\n'
    with pytest.raises(UserError, match="did you mean 'score'"):
        person.plan()


def test_input_columns_that_hide_others_are_told(tmp_path: Path) -> None:
    (tmp_path / "w.txt").write_text("1")
    pq.write_table(
        pa.table({"image": pa.array([jpeg(1)], pa.binary()), "text": ["a"], "weight": [1.0]}), tmp_path / "p.parquet"
    )
    person = Planner(tmp_path, source=f"source: {{path: {tmp_path / 'p.parquet'}}}\n")
    assert [name for name, _ in person.plan().shadowed] == ["weight"]
