"""`curate plan --sample`: rates and sizes measured on some shards, and not a byte written into the pool."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from run.plan_parts import EXACT, Planner, planner
from tiny import jpeg

from curate.errors import UserError


@pytest.fixture
def person(tmp_path: Path) -> Planner:
    return planner(tmp_path)


@pytest.fixture
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where temporary folders go."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def tree(folder: Path) -> dict[str, tuple[int, int, int]]:
    """Everything below a folder with size, inode and time of change."""
    found = {p: p.lstat() for p in folder.rglob("*")}
    return {str(p): (s.st_size, s.st_ino, s.st_mtime_ns) for p, s in found.items()}


def test_a_sample_measures_what_nobody_did_and_leaves_no_trace(person: Planner, scratch: Path) -> None:
    before = tree(person.pool)
    plan = person.plan(sample=2)
    assert tree(person.pool) == before
    assert list(scratch.iterdir()) == []
    assert plan.sampled.startswith("measured on 2 of 3 shards")
    assert plan.totals.unmeasured == ()
    assert {r.origin.split(",")[0] for r in plan.rates.values()} == {"this sample"}
    assert all(not p.guessed for p in plan.steps if p.step.kind in ("columns", "filter", "pick", "pack")), plan.steps
    outcome = person.run()
    fill = next(p for p in plan.steps if p.step.name == "pack: fill")
    assert fill.todo.rows == pytest.approx(outcome.times, rel=0.3)


def test_a_sample_says_what_a_run_then_needs(person: Planner) -> None:
    step = next(p for p in person.plan(sample=3).steps if p.step.name == "describe")
    person.run()
    written = sum(f.stat().st_size for f in person.pool.glob("columns/*/*.parquet"))
    assert step.todo.written == pytest.approx(written, rel=0.1)


def test_columns_that_are_there_are_taken_over(person: Planner, monkeypatch: pytest.MonkeyPatch) -> None:
    person.run()
    monkeypatch.setattr("run.plan_parts.Weighed.run", lambda *_: pytest.fail("it was there, and its rate is known"))
    person.least = 3.0
    plan = person.plan(sample=2)
    assert plan.rates["least"].origin.startswith("this sample")
    assert next(p for p in plan.steps if p.step.name == "describe").step.missing == 0


def test_what_is_for_survivors_or_for_a_gpu_is_left_out(person: Planner, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("curate.run.planning.sample.gpus", lambda: 0)
    person.columns = "  - run.plan_parts:OnGpu\n  - run.plan_parts:Lettered\n"
    person.more = '  - id: lettered\n    where: "letters > 3"\n' + EXACT
    plan = person.plan(sample=1)
    assert set(plan.totals.unmeasured) == {"on_gpu", "lettered"}


def test_a_stage_that_fails_is_told_before_a_run(person: Planner, scratch: Path) -> None:
    person.columns = "  - run.plan_parts:Fails\n"
    with pytest.raises(
        UserError, match=r"^--sample: describe fails on the first rows of shard 00000000, .* RuntimeError"
    ):
        person.plan(sample=1)
    assert list(scratch.iterdir()) == []


def test_of_a_list_of_urls_nothing_is_fetched(tmp_path: Path) -> None:
    (tmp_path / "w.txt").write_text("1")
    (tmp_path / "urls.csv").write_text("url,text\nhttp://127.0.0.1:9/a.jpg,a dog\n")
    person = Planner(tmp_path, source=f"source: {{path: {tmp_path / 'urls.csv'}}}\n")
    plan = person.plan(sample=3)
    assert plan.sampled == "nothing is fetched yet, and a plan does not touch the web: run a small list first"
    assert "ingest" in plan.totals.unmeasured
    assert not person.pool.exists()


def pictures(path: Path, images: list[bytes | None]) -> Path:
    urls = [f"http://127.0.0.1:9/{i}.jpg" for i in range(len(images))]
    texts = [f"text {i}" for i in range(len(images))]
    table = {"image": pa.array(images, pa.binary()), "url": urls, "text": texts, "score": [1.5] * len(images)}
    pq.write_table(pa.table(table), path)
    return path


def test_the_first_rows_of_a_list_with_images_are_ingested_elsewhere(tmp_path: Path, scratch: Path) -> None:
    (tmp_path / "w.txt").write_text("1")
    path = pictures(tmp_path / "some.parquet", [*(jpeg(i) for i in range(30)), b"no picture", b"nor this"])
    person = Planner(tmp_path, source=f"source: {{path: {path}}}\n")
    person.more += '  - id: scored\n    where: "score > 1"\n'
    plan = person.plan(sample=1)
    assert not person.pool.exists()
    assert list(scratch.iterdir()) == []
    assert plan.totals.unmeasured == ()
    assert plan.sampled == "measured on the first 32 rows of list some"
    steps = {p.step.name: p for p in plan.steps}
    assert (steps["ingest"].todo.rows, steps["describe"].todo.rows) == (32, 30), "two of the rows are no pictures"
    outcome = person.run()
    assert outcome.rows == 30
    tars = sum(f.stat().st_size for f in person.pool.glob("pixels/*"))
    assert steps["ingest"].todo.written == pytest.approx(tars, rel=0.35)


def test_rows_without_bytes_are_not_fetched_either(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("curate.run.fetch.http.download", lambda *_: pytest.fail("asked the web"))
    (tmp_path / "w.txt").write_text("1")
    person = Planner(tmp_path, source=f"source: {{path: {pictures(tmp_path / 'some.parquet', [jpeg(1), None])}}}\n")
    assert person.plan(sample=1).totals.unmeasured == ()


def test_more_shards_than_there_are(person: Planner) -> None:
    assert person.plan(sample=50).sampled.startswith("measured on 3 of 3 shards")


def test_a_recipe_that_keeps_nothing(person: Planner) -> None:
    person.long = 1000
    plan = person.plan(sample=2)
    person.run_without_pack()
    for found in (plan, person.plan()):
        fill = next(p for p in found.steps if p.step.name == "pack: fill")
        assert (fill.todo.rows, fill.why[0][:29]) == (0, "the pick keeps no sample, as ")
