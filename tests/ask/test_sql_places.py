"""Pools that lie elsewhere, and recipes that change: what a query sees of them."""

from __future__ import annotations

import gc
import io
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

import curate
from curate.errors import UserError
from tests import pools


def numbers(shard: int, uid: pa.Array) -> pa.Table:
    """A column whose value says where it belongs."""
    return pa.table({"place": pa.array(shard * 1_000_000 + np.arange(len(uid)))})


def rows(handle: curate.ask.handle.Handle, query: str) -> list[tuple]:
    return handle.sql(query).fetchall()


def test_a_pool_on_an_object_store(s3_root, tmp_path):
    """Only what a query needs is downloaded; it may read this pool's copies and no other's."""
    pool = pools.synthetic(f"{s3_root}/pool", [4, 5])
    pools.add_column(pool, "score", numbers, [1])
    pools.add_fetches(pool, 1, ["ok"] * 5 + ["dns"])
    verdict = pools.add_verdict(pool, "where", lambda s, u: np.arange(len(u)) % 2 == 0)
    pools.add_pick(pool, "demo", [("w", verdict)])
    handle = curate.open(f"{s3_root}/pool")
    local = handle._session.views.local.root
    assert rows(handle, "SELECT count(*), max(shard) FROM samples") == [(9, 1)]
    assert {p.parent.name for p in local.rglob("*.parquet")} == {"pixels"}
    assert rows(handle, "SELECT place FROM samples WHERE shard = 1 AND row = 3") == [(1_000_003,)]
    assert rows(handle, "SELECT shard, count(*) FROM fetches GROUP BY 1") == [(1, 6)]
    assert rows(handle, "SELECT left_after FROM funnel WHERE step = 1") == [(5,)]
    assert rows(handle, "SELECT count(*) FROM picks WHERE times > 0") == [(5,)]
    with pytest.raises(UserError, match=r"glob\(\) is refused: a query asks the views"):
        rows(handle, f"SELECT * FROM glob('{local.parent}/files/*')")
    del handle
    gc.collect()  # the refused query left frames behind
    assert not local.exists()


def test_a_recipe_file_means_its_pick_as_it_stands_now(tmp_path):
    """Before a run it has none; after another threshold the old pick is not taken for it."""
    from curate.recipe import load_recipe
    from curate.run.main import run_recipe

    images = pa.table({"image": [drawn_png(i) for i in range(6)], "caption": [f"picture {i}" for i in range(6)]})
    pq.write_table(images, tmp_path / "in.parquet")
    recipe = tmp_path / "mine.yaml"
    source = {"path": str(tmp_path / "in.parquet"), "image": "image", "text": "caption"}
    text = "recipe: other\npool: {pool}\nsource: {source}\nfilters:\n"
    text += "  - id: bright\n    where: 'mean >= {least}'\n    on_missing: drop\n"

    def say(least: int) -> None:
        recipe.write_text(text.format(pool=tmp_path / "pool", source=json.dumps(source), least=least))

    say(100)
    run_recipe(load_recipe(str(recipe), []), "inline", 1, pack=False, report=tmp_path / "page.html", command="")
    handle = curate.open(str(tmp_path / "pool"), str(recipe))
    assert rows(handle, "SELECT count(*), count_if(times > 0), min(mean) FROM samples") == [(6, 4, 0.0)]
    assert (tmp_path / "page.html").read_text().startswith("<!doctype html>")
    say(200)
    with pytest.raises(UserError, match="has not been run on"):
        curate.open(str(tmp_path / "pool"), str(recipe))


def drawn_png(i: int) -> bytes:
    sink = io.BytesIO()
    Image.new("L", (80, 80 + i), i * 50).convert("RGB").save(sink, "PNG")
    return sink.getvalue()
