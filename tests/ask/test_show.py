"""`curate show` and the pictures of a handle: everything of a sample, nothing of a removed one."""

from __future__ import annotations

import hashlib
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image
from typer.testing import CliRunner, Result

import curate
from curate.ask.blocks import blocks
from curate.cli import app
from curate.errors import UserError
from curate.pool.columns import write_parquet
from curate.pool.facts import LISTED
from curate.pool.layout import marker
from curate.pool.pool import Pool
from curate.pool.upkeep import purge
from stages.decode import open_image
from tests import pools, tiny
from tests.ask.terminal import ROOT, Terminal

HOSTILE = "<script>alert(1)</script>\x1b[2J\x1b]0;owned\x07\u202e" + "long " * 2000
LATE = hashlib.md5(b"listed, not fetched").digest()


def uid_of(number: int) -> str:
    return hashlib.md5(f"sample {number}".encode()).hexdigest()


TWIN = next(n for n in range(5, 999) if uid_of(n)[0] == uid_of(0)[0])  # its uid begins as that of sample 0


@pytest.fixture
def pool(tmp_path) -> Pool:
    """Two shards of three; sample 1 has a hostile caption, 0 and 2 are one group, shard 1 came after the pick."""
    pool = Pool.create(str(tmp_path / "pool"), tiny.PIXELS_SETTINGS, 3)
    hostile = tiny.sample(1, text=HOSTILE, url="http://x/'\"><img src=x onerror=alert(1)>.jpg", source_id="mine-1")
    tiny.add_shard(pool, 0, [tiny.sample(0), hostile, tiny.sample(2)])
    group = bytes.fromhex(uid_of(0))
    pools.add_column(
        pool,
        "facts",
        lambda s, u: pa.table(
            {
                "sharpness": [1.5, 2.5, None],
                "phash64_group": pa.array([group, None, group], pa.binary(16)),
                "vector": pa.array([[0.5] * 20] * 3, pa.list_(pa.float16(), 20)),
            }
        ),
        [0],
    )
    verdicts = pools.add_verdict(pool, "sharp", lambda s, u: np.array([True, False, True]))
    pools.add_pick(pool, "demo", [("sharp", verdicts)])
    pools.add_fetches(pool, 0, ["ok", "ok", "ok", "dns"])
    tiny.add_shard(pool, 1, [tiny.sample(n) for n in (3, 4, TWIN)])
    listed = [{"uid": LATE, "url": "http://x/late.jpg", "text": "a late picture"}]
    table = pa.Table.from_pylist(listed, LISTED)
    pools.write(pool, f"lists/tiny@{1:012x}/00000001.parquet", write_parquet(table, {"rows": 1}))
    return pool


def show(pool: Pool, *words: str, input: str | None = None) -> Result:
    return CliRunner().invoke(app, ["show", pool.storage.url, *words], input=input)


def shown(pool: Pool, *words: str, input: str | None = None) -> str:
    done = show(pool, *words, input=input)
    assert done.exit_code == 0, (done.output, done.exception)
    return done.stdout


def refused(pool: Pool, *words: str) -> str:
    done = show(pool, *words)
    assert isinstance(done.exception, UserError), done.output
    return str(done.exception)


# ---------------------------------------------------------------- in words


def test_everything_of_a_sample(pool):
    said = shown(pool, uid_of(0))
    for words in (
        f"{uid_of(0)}  in the pool: shard 0, row 0",
        "text             picture number 0",
        "url              http://127.0.0.1/0.jpg",
        "  columns/facts@",
        "sharpness        1.5",
        "[0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, …] of 20",
        ": kept, 1 copy",
        "sharp  keep",
        f"in one phash64_group with: {uid_of(2)}",
    ):
        assert words in said, words
    assert "drop: not_sharp" in shown(pool, uid_of(1))
    assert "dropped by sharp (not_sharp)" in shown(pool, uid_of(1))
    late = shown(pool, uid_of(4))
    assert "shard 1, row 1" in late
    assert "made before this shard was in the pool; run its recipe again" in late


def test_several_also_from_standard_input_each_once(pool):
    said = shown(pool, uid_of(3), "-", input=f"uid\n{uid_of(0)}\n{uid_of(3)} {uid_of(TWIN)}\n")
    assert [line.split()[0] for line in said.splitlines() if "in the pool:" in line] == [
        uid_of(n) for n in (3, 0, TWIN)
    ]


def test_the_first_digits_are_enough_where_they_are_unique(pool):
    assert uid_of(0) in shown(pool, uid_of(0)[:6])
    assert uid_of(0) in shown(pool, uid_of(0)[:6].upper())
    assert "in the pool" in shown(pool, "mine-1")  # the input's own name of it
    both = sorted([uid_of(0), uid_of(TWIN)])
    said = refused(pool, uid_of(0)[0])
    assert f"{uid_of(0)[0]!r} begins several uids: " in said
    assert both == sorted(u for u in (uid_of(n) for n in (0, 1, 2, 3, 4, TWIN)) if u in said)
    assert "give more digits" in said
    for nothing in ("f" * 32, "zzz", "0" * 33):
        assert f"no sample, download or list has the uid {nothing!r}" in refused(pool, nothing)


def test_a_download_that_failed_says_how(pool):
    handle = curate.open(pool.storage.url)
    ((lost,),) = handle.sql("SELECT uid FROM fetches WHERE outcome = 'dns'").fetchall()
    said = shown(pool, lost)
    assert f"{lost}  no image (shard 0)" in said
    assert "fetched          dns" in said
    with pytest.raises(UserError, match=f"{lost} has no image: its download failed"):
        handle.show(lost)


def test_listed_and_not_fetched(pool):
    said = shown(pool, LATE.hex())
    assert f"{LATE.hex()}  not fetched yet" in said
    assert "a late picture" in said
    assert "no run has fetched it yet" in said


@pytest.mark.parametrize("how", ["prefix", "whole"])
def test_nothing_of_a_removed_sample_is_shown(pool, tmp_path, how):
    purge(pool, pa.array([bytes.fromhex(uid_of(1)), LATE], pa.binary(16)), "takedown")
    word = uid_of(1)[:10] if how == "prefix" else uid_of(1)
    said = shown(pool, word, "--out", str(tmp_path / "out"))
    assert said.strip() == f"{uid_of(1)}  removed: it was taken out of this pool, and nothing of it is shown"
    assert json.loads(shown(pool, word, "--json")) == [{"uid": uid_of(1), "state": "removed"}]
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["index.html"]
    page = (tmp_path / "out" / "index.html").read_text()
    assert "was removed from this pool" in page
    assert "script" not in page
    assert "owned" not in page
    assert "removed" in shown(pool, LATE.hex())
    assert "a late picture" not in shown(pool, LATE.hex())
    with pytest.raises(UserError, match="was removed from the pool"):
        curate.open(pool.storage.url).show(word)
    assert uid_of(1) not in shown(pool, uid_of(0))


def test_bytes_that_are_gone_are_said_to_be(pool):
    footer = pool.facts(0)[1]
    facts = pool.facts(0)[0].slice(2, 1).to_pylist()[0]
    pool.storage.blank(f"pixels/{footer['tar']}", [(facts["tar_offset"], facts["bytes"])])
    assert "its bytes were purged" in shown(pool, uid_of(2))
    (Path(pool.storage.url) / "pixels" / footer["tar"]).unlink()
    assert f"pixels/{footer['tar']} is gone" in shown(pool, uid_of(0))
    assert (Path(pool.storage.url) / marker(0)).exists()


def test_under_a_recipe_or_under_every_pick(pool):
    other = pools.add_verdict(pool, "none", lambda s, u: np.zeros(len(u), bool))
    pools.add_pick(pool, "strict", [("none", other)])
    assert {"pick demo", "pick strict"} <= {line.strip()[: len("pick strict")].split("@")[0] for line in
                                            shown(pool, uid_of(0)).splitlines()}  # fmt: skip
    said = shown(pool, uid_of(0), "--recipe", "strict")
    assert "pick strict@" in said
    assert "pick demo@" not in said
    assert "no pick of 'other'" in refused(pool, uid_of(0), "--recipe", "other")


def test_a_sparse_column_shows_what_was_asked(pool):
    schema = pa.schema([("uid", pa.binary(16)), ("caption", pa.string()), ("error", pa.string())])
    part = pa.Table.from_pylist([{"uid": bytes.fromhex(uid_of(2)), "caption": "a made caption", "error": None}], schema)
    pools.add_sparse(pool, "captioner", 0, [part])
    assert "a made caption" in shown(pool, uid_of(2))
    assert "captioner" not in shown(pool, uid_of(0))


# ---------------------------------------------------------------- as data, as files, as pictures


def test_json_has_every_value_whole(pool):
    done = subprocess.run(
        [sys.executable, "-m", "curate.cli", "show", pool.storage.url, uid_of(1), "--json"],
        capture_output=True, env={**os.environ, "PYTHONPATH": str(ROOT)}, timeout=60,
    )  # fmt: skip
    ((told,), error) = (json.loads(done.stdout), done.stderr.decode())
    assert (done.returncode, error) == (0, "")
    assert told["columns"]["pixels"]["text"] == HOSTILE
    facts = next(v for k, v in told["columns"].items() if k.startswith("columns/facts@"))
    assert len(facts["vector"]) == 20
    assert told["fates"][0]["dropped_by"] == "sharp"
    assert told["fates"][0]["verdicts"][0] == {
        "id": "sharp", "filter": told["fates"][0]["verdicts"][0]["filter"], "keep": False, "reason": "not_sharp",
        "more": {},
    }  # fmt: skip


def test_out_writes_the_stored_bytes_and_a_page_that_runs_nothing(pool, tmp_path):
    shown(pool, uid_of(0), uid_of(1), "--out", str(tmp_path / "out" / "here"))
    folder = tmp_path / "out" / "here"
    assert sorted(p.name for p in folder.iterdir()) == sorted(["index.html", f"{uid_of(0)}.jpg", f"{uid_of(1)}.jpg"])
    assert (folder / f"{uid_of(0)}.jpg").read_bytes() == tiny.jpeg(0)
    page = (folder / "index.html").read_text()
    assert "<script" not in page
    assert "<img src=x" not in page
    assert "\x1b" not in page
    assert "\u202e" not in page
    assert "&lt;script&gt;alert(1)" in page
    assert page.count('<img src="data:image/webp;base64,') == 2
    assert "default-src 'none'" in page


def test_hostile_text_on_a_terminal(pool, tmp_path):
    """Whatever comes from the web is shown and not sent; the picture comes as coloured blocks, or not at all."""
    for environment, coloured in (({"COLORTERM": "truecolor"}, True), ({"NO_COLOR": "1"}, False)):
        with Terminal(["show", pool.storage.url, uid_of(1)], tmp_path, **environment) as t:
            assert "owned" in t.see("pick demo@")
            assert t.status() == 0
            for code in (b"\x1b[2J", b"\x1b]0;", b"\x07", "\u202e".encode()):
                assert code not in t.raw
            assert (b"\x1b[38;2;" in t.raw) is coloured
            assert ("▀" in t.text) is coloured
            assert "(10,0" in t.text  # a long caption is cut, with its length


@pytest.mark.parametrize("colorterm", ["truecolor", ""])
@pytest.mark.parametrize(("width", "height", "lines"), [(64, 64, 20), (64, 32, 10), (40, 41, 20), (1, 1, 1)])
def test_blocks_are_two_pixels_high(monkeypatch, colorterm, width, height, lines):
    monkeypatch.setenv("COLORTERM", colorterm)
    sink = io.BytesIO()
    Image.new("RGB", (width, height), (255, 0, 0)).save(sink, "PNG")
    made = blocks(sink.getvalue())
    assert len(made) == lines
    assert all(line.startswith("  \x1b[38;") and line.endswith("\x1b[0m") for line in made)
    assert ("38;2;255;0;0" in made[0]) is bool(colorterm)
    assert ("38;5;196" in made[0]) is not bool(colorterm)
    assert blocks(b"no picture")[0].startswith("  cannot be shown: ")


def test_pictures_of_a_handle(pool):
    handle = curate.open(pool.storage.url)
    pictures = handle.images([uid_of(4), uid_of(0)[:12]])
    for picture, number in zip(pictures, (4, 0), strict=True):
        expected = open_image(tiny.jpeg(number)).convert("RGB")
        assert picture.mode == "RGB"
        assert picture.tobytes() == expected.tobytes()
    assert handle.show(uid_of(4)).tobytes() == pictures[0].tobytes()
    assert handle.images([]) == []
    with pytest.raises(UserError, match="no sample, download or list has the uid"):
        handle.show("abcdefabcdef")


def test_an_empty_pool_knows_no_uid(tmp_path):
    pools.empty_pool(tmp_path / "p", [])
    with pytest.raises(UserError, match="no sample, download or list has the uid"):
        curate.open(str(tmp_path / "p")).show("ab")


def test_a_pool_on_an_object_store(s3_root):
    pool = tiny.tiny_pool(f"{s3_root}/pool", 2, 3)
    said = shown(pool, uid_of(4)[:10])
    assert f"{uid_of(4)}  in the pool: shard 1, row 1" in said
    assert "picture number 4" in said
    assert curate.open(pool.storage.url).show(uid_of(4)).size == (16, 16)
