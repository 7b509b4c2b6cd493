"""In a pool on disk: a list that comes later is searched, and what was searched before stays as it lies."""

from __future__ import annotations

from pathlib import Path

from curate.pool.pool import Pool
from filters.decontaminate import Decontaminate
from stages.eval_sets import EvalSet
from tests.ask.report_runs import everything, run
from tests.stages.eval_pictures import encoded, facts, photo, write_pictures
from tests.tiny import PIXELS_SETTINGS, add_shard, sample


def add(pool: Pool, shard: int, seeds: list[int]) -> None:
    images = [encoded(photo(seed), quality=60) for seed in seeds]
    known = [{k: v for k, v in f.items() if k != "uid"} for f in facts(images)]
    rows = enumerate(zip(images, known, strict=True))
    add_shard(pool, shard, [sample(10 * shard + n, image=i, **k) for n, (i, k) in rows])


def written(pool: Path) -> dict[str, int]:
    """Parts of the phases that know no generation -> when they were written."""
    found = (p for phase in ("prints", "search") for p in pool.glob(f"barriers/eval_matches@*/{phase}/*.parquet"))
    return {f"{p.parent.name}/{p.name}": p.stat().st_mtime_ns for p in found if p.name[0] != "_"}


def test_a_list_that_comes_later_is_all_that_is_searched(tmp_path: Path) -> None:
    folder = write_pictures(tmp_path / "set", {f"{i}.png": encoded(photo(i), "PNG") for i in range(3)})
    filters = {"clean": Decontaminate(sets=(EvalSet(name="mine", path=str(folder)),), over="pool")}
    pool = Pool.create(str(tmp_path / "pool"), PIXELS_SETTINGS, 4)
    add(pool, 0, [0, 50, 51])
    add(pool, 1, [1, 52])
    first = run(Pool.open(str(tmp_path / "pool")), filters)
    before = written(tmp_path / "pool")
    assert len(before) >= 2
    add(pool, 2, [53, 2])
    second = run(Pool.open(str(tmp_path / "pool")), filters)
    after = written(tmp_path / "pool")
    assert {name: after[name] for name in before} == before
    (new,) = after.keys() - before.keys()
    assert new.startswith("search/00000002-00000002-")
    told = everything(Pool.open(str(tmp_path / "pool")), second, ["dropped_by", "reason"])
    assert told["reason"] == ["in_mine", None, None, "in_mine", None, None, "in_mine"]
    assert first != second
    again = Pool.create(str(tmp_path / "at_once"), PIXELS_SETTINGS, 4)
    for shard, seeds in enumerate(([0, 50, 51], [1, 52], [53, 2])):
        add(again, shard, seeds)
    at_once = run(Pool.open(str(tmp_path / "at_once")), filters)
    assert everything(again, at_once, ["dropped_by", "reason"]) == told
