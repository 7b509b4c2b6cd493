"""A pool in the layout of img2dataset: webdataset opens it, and taken in again it is the same pool."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

import curate
from curate.cli import app
from curate.errors import UserError
from curate.interchange.export import export_folder
from curate.interchange.take import import_folder
from curate.pool.columns import read_table
from curate.pool.lists import claims, listed
from curate.pool.pool import Pool
from curate.pool.storage import Storage
from curate.run.progress import Telling
from curate.run.retry import Retry
from tests.interchange.i2d_parts import Row, image, stored_bytes, write
from tests.run.test_retry import ALL, NOW, SPEC, fetched, pool_of

QUIET = Telling(quiet=True)
ROWS = [Row(0), Row(1), Row(2, "HTTP Error 404: Not Found"), Row(3), Row(4, "<urlopen error timed out>")]


def made(folder: Path) -> Pool:
    write(folder / "out", 0, ROWS)
    write(folder / "out", 1, [Row(10), Row(11, "Image decoding error", "failed_to_resize")])
    import_folder(str(folder / "out"), str(folder / "pool"), telling=QUIET, executor="inline", shard_size=4)
    return Pool.open(str(folder / "pool"))


def exported(folder: Path) -> list[str]:
    return export_folder(str(folder / "pool"), str(folder / "exported"), telling=QUIET)


def contents(pool: Path) -> list[tuple[str, bytes]]:
    return sorted(stored_bytes(pool).items())


def test_there_and_back_again(tmp_path: Path) -> None:
    made(tmp_path)
    assert exported(tmp_path)[0].endswith("2 shards, 2 of them written now; 4 images")
    import_folder(str(tmp_path / "exported"), str(tmp_path / "back"), telling=QUIET, executor="inline")
    assert contents(tmp_path / "back") == contents(tmp_path / "pool")
    assert len(contents(tmp_path / "back")) == 4
    sql = "SELECT uid, outcome, status FROM fetches WHERE attempt = 0 ORDER BY uid"
    before, after = (curate.open(tmp_path / p).sql(sql).fetchall() for p in ("pool", "back"))
    assert before == after
    further = "SELECT uid, url, text, similarity, original_width FROM samples ORDER BY uid"
    before, after = (curate.open(tmp_path / p).sql(further).fetchall() for p in ("pool", "back"))
    assert before == after


def test_the_layout(tmp_path: Path) -> None:
    made(tmp_path)
    exported(tmp_path)
    names = sorted(p.name for p in (tmp_path / "exported").iterdir())
    assert names == [f"{n:05d}{s}" for n in (0, 1) for s in (".parquet", ".tar", "_stats.json")]
    stats = json.loads((tmp_path / "exported/00000_stats.json").read_text())
    counts = {k: stats[k] for k in ("count", "successes", "failed_to_download", "failed_to_resize")}
    assert counts == {"count": 4, "successes": 3, "failed_to_download": 1, "failed_to_resize": 0}
    assert stats["status_dict"] == {"http_4xx": 1, "success": 3}
    rows = pq.read_table(tmp_path / "exported/00000.parquet").to_pylist()
    assert [r["key"] for r in rows] == ["000000", "000001", "000002", "000003"]
    assert [r["status"] for r in rows] == ["success", "success", "failed_to_download", "success"]
    assert rows[2]["error_message"] == "http_4xx: 404 HTTP Error 404: Not Found"
    assert (rows[0]["url"], rows[0]["caption"], rows[0]["width"]) == (Row(0).url, "caption 0", 40)
    last = pq.read_table(tmp_path / "exported/00001.parquet").to_pylist()
    assert [r["status"] for r in last] == ["failed_to_download", "success", "failed_to_resize"]


def test_webdataset_opens_it(tmp_path: Path) -> None:
    wds = pytest.importorskip("webdataset")
    made(tmp_path)
    exported(tmp_path)
    urls = [str(tmp_path / f"exported/{n:05d}.tar") for n in (0, 1)]
    samples = list(wds.WebDataset(urls, shardshuffle=False))
    assert [s["__key__"] for s in samples] == ["000000", "000001", "000003", "000011"]
    assert [s["jpg"] for s in samples] == [image(n) for n in (0, 1, 3, 10)]
    assert [s["txt"].decode() for s in samples] == [f"caption {n}" for n in (0, 1, 3, 10)]
    assert json.loads(samples[0]["json"])["similarity"] == 0.0


def test_the_same_again_writes_nothing(tmp_path: Path) -> None:
    made(tmp_path)
    exported(tmp_path)
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "exported").iterdir()}
    assert "0 of them written now" in exported(tmp_path)[0]
    assert before == {p: p.stat().st_mtime_ns for p in (tmp_path / "exported").iterdir()}


def test_killed_half_way_it_goes_on(tmp_path: Path) -> None:
    made(tmp_path)
    exported(tmp_path)
    whole = {p.name: p.read_bytes() for p in (tmp_path / "exported").iterdir() if p.suffix != ".json"}
    (tmp_path / "exported/00001_stats.json").unlink()
    (tmp_path / "exported/00001.tar").write_bytes(b"torn")
    assert "1 of them written now" in exported(tmp_path)[0]
    assert whole == {p.name: p.read_bytes() for p in (tmp_path / "exported").iterdir() if p.suffix != ".json"}


def test_what_was_removed_stays_out(tmp_path: Path) -> None:
    pool = made(tmp_path)
    exported(tmp_path)
    facts, _ = pool.facts(0)
    pool.remove(facts["uid"].slice(0, 1), "asked")
    assert exported(tmp_path)[0].endswith("1 of them written now; 3 images"), "only its shard is written again"
    assert facts["uid"][0].as_py().hex().encode() not in (tmp_path / "exported/00000.parquet").read_bytes()
    assert Row(0).url.encode() not in (tmp_path / "exported/00000.tar").read_bytes()


def test_of_what_was_tried_again_the_last_state_is_there(tmp_path: Path) -> None:
    pool = pool_of(tmp_path, 10)
    fetched(pool, 0, ["dns"] * 10)
    Retry(pool, SPEC, ALL).claim(NOW + 700)
    fetched(pool, 1, ["http_4xx"] * 10, attempt=1)
    with pytest.MonkeyPatch.context() as patched:  # a pool without tars
        patched.setattr("curate.interchange.export.Exporter._tar", lambda *_: None)
        exported(tmp_path)
    tables = [pq.read_table(tmp_path / f"exported/{n:05d}.parquet").to_pylist() for n in (0, 1)]
    assert [len(t) for t in tables] == [0, 10]
    assert {r["error_message"] for r in tables[1]} == {"http_4xx"}


def test_lists_of_retries_are_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not by every shard before them: of 1,000 shards with as many retries that were half a million readings."""
    pool = pool_of(tmp_path, 40)
    for shard in range(4):
        fetched(pool, shard, ["dns"] * 10)
    Retry(pool, SPEC, ALL).claim(NOW + 700)
    for shard in range(4, 7):
        fetched(pool, shard, ["timeout"] * 10, attempt=1)
    Retry(pool, SPEC, ALL).claim(NOW + 1_000_000)
    retries = [c for c in claims(pool.storage) if c.kind == "retry"]
    assert next(c.numbers for c in retries) == range(4, 8)
    last = [c for c in retries[1:] if c.attempt == 2]
    for claim in last:
        for shard in claim.numbers:
            fetched(pool, shard, ["http_4xx"] * len(listed(pool.storage, claim, shard)), attempt=2)
    read: list[str] = []

    def noted(storage: Storage, rel: str, columns: list[str] | None = None) -> object:
        read.append(rel)
        return read_table(storage, rel, columns)

    monkeypatch.setattr("curate.interchange.export.read_table", noted)
    monkeypatch.setattr("curate.interchange.export.Exporter._tar", lambda *_: None)
    exported(tmp_path)
    again = [c.file(s) for c in retries for s in c.numbers]
    once = Counter(rel for rel in read if rel in again)
    assert set(once.values()) == {1}
    shards = pool.shards()
    tables = {n: pq.read_table(tmp_path / f"exported/{n:05d}.parquet").to_pylist() for n in shards}
    uids = [row["uid"] for rows in tables.values() for row in rows]
    assert len(uids) == len(set(uids)) == 40, "each in one shard, that of its last attempt"
    words = Counter(row["error_message"] for n in last[0].numbers for row in tables[n])
    assert words == {"http_4xx": 30}


def test_not_into_a_pool_and_not_of_nothing(tmp_path: Path) -> None:
    made(tmp_path)
    with pytest.raises(UserError, match="this is a pool"):
        export_folder(str(tmp_path / "pool"), str(tmp_path / "pool"), telling=QUIET)
    (tmp_path / "other").mkdir()
    empty = pool_of(tmp_path / "other", 3)
    with pytest.raises(UserError, match="nothing has been fetched yet"):
        export_folder(empty.storage.url, str(tmp_path / "exported"), telling=QUIET)
    assert len(claims(empty.storage)) == 1


def test_the_command(tmp_path: Path) -> None:
    made(tmp_path)
    done = CliRunner().invoke(app, ["export-img2dataset", str(tmp_path / "pool"), str(tmp_path / "exported")])
    assert done.exit_code == 0, done.output
    assert "2 shards, 2 of them written now; 4 images" in done.output
