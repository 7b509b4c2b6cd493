"""The walls hold: a user's stages, barriers and filters go through one walk, and nothing is done twice."""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pydantic import PrivateAttr
from run.parts import (
    Brighter,
    BrighterBrightness,
    Brightness,
    Captioner,
    Doubled,
    EveryOther,
    RankOfAll,
    TextLength,
)
from tiny import add_shard, sample, tiny_pool

from curate.pool.columns import read_table
from curate.pool.pool import Pool
from curate.run.describe import opened
from curate.run.engine import Rules
from curate.run.graph import asked
from curate.run.job import walk_recipe
from curate.run.pick import Emit
from curate.run.progress import Progress
from curate.run.walk import ExecutorChoice, Ground, Walk
from stages.base import Column, Stage, fact

WEB = ((Emit(1, (("web", 1.0),)),), {"web": fact("text")})


def go(
    pool: Pool, filters: dict[str, Any], columns: Sequence[Column] = (), *, executor: str = "inline", dry: bool = False
) -> tuple[Walk, str]:
    ground = Ground(pool, Progress(None, "test"), ExecutorChoice(executor), Rules(tries=1))
    walk = Walk(ground, pool.claimed(), None, dry=dry)
    steps = [asked(i, f, fact) for i, f in filters.items()]
    walk_recipe(walk, steps, columns)
    more = {"yaml": "", "columns": columns, "steps": {i: {} for i in filters}}
    return walk, walk.choose("test", *WEB, more)


def column(pool: Pool, walk: Walk, owner: Any, field: str) -> list[Any]:
    tables = [read_table(pool.storage, f"{walk.places[owner]}/{s:08d}.parquet")[0] for s in walk.shards]
    return pa.concat_tables(tables).column(field).to_pylist()


def dropped(pool: Pool, folder: str) -> list[str | None]:
    tables = [read_table(pool.storage, f"{folder}/{s:08d}.parquet")[0] for s in pool.claimed()]
    return pa.concat_tables(tables).column("dropped_by").to_pylist()


def snapshot(folder: Path) -> dict[str, bytes]:
    kept = ("columns", "barriers", "verdicts", "picks")
    return {str(p.relative_to(folder)): p.read_bytes() for k in kept for p in (folder / k).rglob("*") if p.is_file()}


EVERYTHING = {"bright": Brighter(than=120), "half": EveryOther(over="survivors")}
COLUMNS = [
    Column(Doubled(), "doubled"),
    Column(RankOfAll(), "rank"),
    Column(TextLength(), "share"),
    Column(Captioner(), "caption"),
    Column(BrighterBrightness(), "brightness"),
]


def test_a_users_classes_go_through_the_walls(tmp_path: Path) -> None:
    pool = tiny_pool(str(tmp_path / "p"))
    walk, folder = go(pool, EVERYTHING, COLUMNS)
    bright = np.array(column(pool, walk, Brightness(), "brightness"))
    assert column(pool, walk, Doubled(), "doubled") == pytest.approx(list(2 * bright))
    assert sorted(column(pool, walk, RankOfAll(), "rank")) == list(range(60))
    assert column(pool, walk, RankOfAll(), "rank")[int(bright.argmax())] == 59
    assert max(column(pool, walk, TextLength(), "share")) == 1.0
    fate = dropped(pool, folder)
    assert [f == "bright" for f in fate] == list(bright <= 120)
    assert fate.count(None) == -(-int((bright > 120).sum()) // 2)
    assert walk.places[Brightness()] != walk.places[BrighterBrightness()], "a new version is another folder"


def test_a_sparse_stage_is_asked_about_survivors_only_and_never_twice(tmp_path: Path) -> None:
    pool = tiny_pool(str(tmp_path / "p"))
    walk, folder = go(pool, {"bright": Brighter(than=127.5)}, [Column(Captioner(), "caption")])
    parts = pool.storage.list(walk.places[Captioner()])
    uids = [u for e in parts for u in _uids(pool, walk.places[Captioner()], e.name)]
    assert len(uids) == len(set(uids)) == dropped(pool, folder).count(None)
    wider, folder = go(pool, {"bright": Brighter(than=100)}, [Column(Captioner(), "caption")])
    more = [
        u for e in pool.storage.list(wider.places[Captioner()]) for u in _uids(pool, wider.places[Captioner()], e.name)
    ]
    assert len(more) == len(set(more)) == dropped(pool, folder).count(None)
    assert set(uids) <= set(more)


def _uids(pool: Pool, folder: str, name: str) -> list[bytes]:
    return (
        read_table(pool.storage, f"{folder}/{name}")[0].column("uid").to_pylist() if name.endswith(".parquet") else []
    )


def test_a_second_walk_does_nothing_and_starts_no_executor(tmp_path: Path) -> None:
    pool = tiny_pool(str(tmp_path / "p"))
    go(pool, EVERYTHING, COLUMNS)
    before = snapshot(tmp_path / "p")
    walk, _ = go(pool, EVERYTHING, COLUMNS, executor="no such executor")
    assert snapshot(tmp_path / "p") == before
    assert [p.missing for p in walk.planned if p.missing] == []


def test_moving_a_threshold_opens_no_image_and_no_other_column(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pool = tiny_pool(str(tmp_path / "p"))
    go(pool, EVERYTHING, COLUMNS)
    opened: list[tuple[str, Any]] = []

    def spy(storage: Any, rel: str, columns: Any = None, group: Any = None) -> Any:
        opened.append((rel.split("@")[0], tuple(columns or ())))
        return read_table(storage, rel, columns, group)

    for module in ("reader", "phases", "pick"):
        monkeypatch.setattr(f"curate.run.{module}.read_table", spy)
    monkeypatch.setattr("stages.decode.to_array", lambda *_, **__: pytest.fail("an image was decoded"))
    go(pool, {"bright": Brighter(than=125)})
    files = {rel.split("/0")[0] for rel, _ in opened}
    assert files == {"pixels", "columns/run.parts.Brightness", "verdicts/run.parts.Brighter"}
    assert {c for rel, c in opened if rel.startswith("pixels")} == {("uid",), ("text",)}


def test_dry_walks_change_nothing_and_say_what_is_missing(tmp_path: Path) -> None:
    pool = tiny_pool(str(tmp_path / "p"))
    before = sorted(p for p in (tmp_path / "p").rglob("*"))
    walk, _ = go(pool, EVERYTHING, COLUMNS, dry=True)
    assert sorted(p for p in (tmp_path / "p").rglob("*")) == before
    missing = {p.name: p.missing for p in walk.planned}
    assert missing["describe"] == missing["filter bright"] == missing["pick"] == 3
    assert missing["rank_of_all merge-1"] == 1


def test_a_grown_pool_reuses_what_is_local_and_renews_what_is_not(tmp_path: Path) -> None:
    pool = tiny_pool(str(tmp_path / "p"))
    first, _ = go(pool, EVERYTHING, COLUMNS)
    add_shard(pool, 3, [sample(1000 + i) for i in range(5)])
    grown, _ = go(pool, EVERYTHING, COLUMNS)
    done = {p.name: (p.total, p.missing) for p in grown.planned}
    assert done["describe"] == (4, 1)
    assert done["rank_of_all values"] == (4, 1), "the local phase of old shards is still good"
    assert done["rank_of_all ranks"] == (4, 4)
    assert first.places[RankOfAll()] != grown.places[RankOfAll()]
    assert first.places[Brightness()] == grown.places[Brightness()]


def test_order_of_shards_and_executor_change_no_byte(tmp_path: Path) -> None:
    found = []
    for name in ("a", "b"):
        pool = tiny_pool(str(tmp_path / name))
        if name == "b":
            pool.claimed = lambda p=pool: [2, 0, 1]  # type: ignore[method-assign]
        go(pool, EVERYTHING, COLUMNS)
        found.append({k: v for k, v in snapshot(tmp_path / name).items() if k.startswith("columns")})
    assert found[0] == found[1]


@pytest.mark.usefixtures("ray_session")
def test_ray_gives_the_same_bytes_as_inline(tmp_path: Path) -> None:
    for name in ("inline", "ray"):
        go(tiny_pool(str(tmp_path / name)), EVERYTHING, COLUMNS, executor=name)
    assert snapshot(tmp_path / "inline") == snapshot(tmp_path / "ray")


class Heavy(Brightness):
    """Holds something that neither compares nor pickles, as weights do."""

    _weights: Any = PrivateAttr(default=None)

    def open(self) -> None:
        self._weights = lambda: None


def test_opening_a_stage_leaves_the_recipes_own_object_as_it_was() -> None:
    stage = Heavy()
    ready = opened(stage)
    assert ready._weights is not None
    assert opened(Heavy()) is ready, "opened once in a process"
    assert stage == Heavy()
    assert pickle.loads(pickle.dumps(stage)) == stage


class Wrong(Stage):
    """Promises one thing and gives another."""

    what: str = "rows"

    def reads(self) -> tuple[Column, ...]:
        return (fact("text"),)

    def writes(self) -> pa.Schema:
        return pa.schema([("x", pa.int32())])

    def run(self, batch: Any) -> pa.Table:
        if self.what == "rows":
            return pa.table({"x": pa.array([1], pa.int32())})
        return pa.table({"x": pa.array([1.0] * batch.num_rows, pa.float64())})


@pytest.mark.parametrize(("what", "message"), [("rows", "gave 1 rows for a batch of 20"), ("type", "promised int32")])
def test_a_stage_that_breaks_its_promise_is_refused(tmp_path: Path, what: str, message: str) -> None:
    from curate.errors import UserError

    pool = tiny_pool(str(tmp_path / "p"))
    with pytest.raises(UserError, match=message):
        go(pool, {}, [Column(Wrong(what=what), "x")])
