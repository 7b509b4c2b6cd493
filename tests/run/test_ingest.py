"""A shard is made once, whole, from the web or from files; every row has its outcome, every picture is its source."""

from __future__ import annotations

import hashlib
import io
import json
import os
import signal
import subprocess
import sys
import tarfile
import threading
import time
from pathlib import Path
from typing import Any

import imagehash
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from curate.errors import UserError
from curate.pool.columns import read_footer, read_table, uid_digest
from curate.pool.facts import FACTS, FETCHES, OUTCOMES
from curate.pool.storage import Storage
from curate.pool.tar import TarWriter, members
from curate.run import ingest
from curate.run.fetch.examine import examine
from curate.run.fetch.spec import IngestSpec
from curate.run.fetch.spool import OrderedTar
from curate.run.ingest import ingest_shard
from stages.decode import to_array
from tests.run.ingest_parts import listed, picture, turned_picture
from tests.web import Route, Web, drip, ok, status

ROOT = Path(__file__).resolve().parents[2]
SPEC = IngestSpec(allow_loopback=True, timeout_s=5, shard_deadline_s=60)
MARKER = "pixels/00000007.parquet"


def from_files(folder: Path, images: list[bytes]) -> pa.Table:
    """A list shard whose images lie in a tar."""
    with (folder / "source.tar").open("wb") as file, TarWriter(file) as tar:
        places = [
            {"path": str(folder / "source.tar"), "offset": tar.add(f"{i}.jpg", data), "size": len(data), "row": None}
            for i, data in enumerate(images)
        ]
    return listed([{"place": p, "similarity": i / 4} for i, p in enumerate(places)])


def made(pool: Path, table: pa.Table, spec: IngestSpec = SPEC, **options: Any) -> dict[str, Any]:
    return ingest_shard(Storage.at(pool), table, 7, "things@0123456789ab", spec, options.get("bytes_column"))


def facts_of(pool: Path) -> list[dict[str, Any]]:
    return read_table(Storage.at(pool), MARKER)[0].to_pylist()


def log_of(pool: Path, attempt: int = 0) -> list[dict[str, Any]]:
    return pq.read_table(pool / f"fetch/00000007.{attempt}.parquet").to_pylist()


def tar_of(pool: Path) -> Path:
    return pool / "pixels" / read_footer(Storage.at(pool), MARKER)["tar"]


def stored_bytes(pool: Path) -> list[bytes]:
    raw = tar_of(pool).read_bytes()
    return [raw[f["tar_offset"] : f["tar_offset"] + f["bytes"]] for f in facts_of(pool)]


def files_of(pool: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in sorted((pool / "pixels").iterdir())}


def test_a_shard_of_files_has_facts_tar_log_and_footer(tmp_path: Path) -> None:
    images = [picture(0), b"<html>", picture(2, 700, 300), picture(3, format="PNG")]
    table = from_files(tmp_path, images)
    result = made(tmp_path / "pool", table)
    told = {k: result.pop(k) for k in ("seconds", "parts_rows", "bytes_read", "bytes_written")}
    assert (list(told["seconds"]), told["parts_rows"]) == (["ingest"], {"ingest": 4})
    assert told["bytes_read"] == sum(map(len, images))
    assert told["bytes_written"] == sum(p.stat().st_size for p in (tmp_path / "pool").rglob("*") if p.is_file())
    assert result == {
        "rows": 4,
        "images": 3,
        "outcomes": {"not_image": 1, "ok": 3},
        "received_bytes": sum(map(len, images)),
        "tar_bytes": result["tar_bytes"],
    }
    stored, footer = read_table(Storage.at(tmp_path / "pool"), MARKER)
    assert stored.schema.names == [*FACTS.names, "similarity"]
    assert stored.select(FACTS.names).schema.equals(FACTS)
    assert (footer["rows"], footer["uid_digest"]) == (3, uid_digest(stored.column("uid")))
    assert footer["settings"] == SPEC.pixels()
    assert set(footer["fingerprint"]) == {"phash", "pillow", "simplejpeg"}  # what the hashes hang on
    assert footer["tar_bytes"] == (tmp_path / "pool/pixels" / footer["tar"]).stat().st_size == result["tar_bytes"]
    rows = stored.to_pylist()
    assert [r["text"] for r in rows] == ["caption 0", "caption 2", "caption 3"]
    assert [r["similarity"] for r in rows] == [0, 0.5, 0.75]
    assert [(r["original_width"], r["original_height"], r["width"], r["height"]) for r in rows] == [
        (60, 40, 60, 40),
        (700, 300, 512, 219),
        (60, 40, 60, 40),
    ]
    assert [(r["received_format"], r["format"], r["list"]) for r in rows] == [
        ("jpeg", "jpg", "things@0123456789ab"),
        ("jpeg", "jpg", "things@0123456789ab"),
        ("png", "jpg", "things@0123456789ab"),
    ]
    for row, data in zip(rows, (images[0], images[2], images[3]), strict=True):
        assert (row["sha256"], row["received_bytes"]) == (hashlib.sha256(data).hexdigest(), len(data))
        as_received = Image.open(io.BytesIO(data))
        assert f"{row['phash64']:016x}" == str(imagehash.phash(as_received))
        assert row["phash256"].hex() == str(imagehash.phash(as_received, hash_size=16))
    log = pq.read_table(tmp_path / "pool/fetch/00000007.0.parquet")
    assert log.select(FETCHES.names).schema.remove_metadata().equals(FETCHES)
    assert [(r["outcome"], r["detail"], r["bytes"], r["attempt"]) for r in log.to_pylist()] == [
        ("ok", None, len(images[0]), 0),
        ("not_image", "a web page", 6, 0),
        ("ok", None, len(images[2]), 0),
        ("ok", None, len(images[3]), 0),
    ]
    assert log.column("uid").to_pylist() == table.column("uid").to_pylist()


def test_members_are_named_by_uid_and_lie_where_the_facts_say(tmp_path: Path) -> None:
    made(tmp_path / "pool", from_files(tmp_path, [picture(i) for i in range(5)]))
    facts = facts_of(tmp_path / "pool")
    tar = tar_of(tmp_path / "pool")
    assert [(m.name, m.offset, m.size) for m in members(tar)] == [
        (f"{f['uid'].hex()}.jpg", f["tar_offset"], f["bytes"]) for f in facts
    ]
    with tarfile.open(tar) as file:
        assert file.getnames() == [f"{f['uid'].hex()}.jpg" for f in facts]
    for data, fact in zip(stored_bytes(tmp_path / "pool"), facts, strict=True):
        assert to_array(data).shape == (fact["height"], fact["width"], 3)


def test_the_same_files_give_the_same_bytes_twice(tmp_path: Path) -> None:
    table = from_files(tmp_path, [picture(i, 600 + i) for i in range(12)] + [b"junk"])
    made(tmp_path / "a", table)
    made(tmp_path / "b", table, SPEC.model_copy(update={"decoders": 3}))
    assert files_of(tmp_path / "a") == files_of(tmp_path / "b")


def test_from_the_web_the_tar_is_in_list_order_whatever_came_first(tmp_path: Path) -> None:
    images = [picture(i) for i in range(30)]

    def late(data: bytes, seconds: float) -> Route:
        def route(request: Any) -> None:
            request.stopping.wait(seconds)
            ok(data)(request)

        return route

    routes = {f"/{i}": late(data, 0.3 if i % 3 == 0 else 0) for i, data in enumerate(images)}
    with Web(routes) as web:
        table = listed([{"url": web.url(f"/{i}")} for i in range(30)])
        made(tmp_path / "pool", table)
    assert stored_bytes(tmp_path / "pool") == images  # small upright JPEGs are stored as they came
    assert [f["text"] for f in facts_of(tmp_path / "pool")] == [f"caption {i}" for i in range(30)]
    tar = next((tmp_path / "pool/pixels").glob("*.tar"))
    assert [m.name[:32] for m in members(tar)] == [u.hex() for u in table.column("uid").to_pylist()]
    assert list((tmp_path / "pool").rglob("tmp/*/*")) == []


def test_every_kind_of_row_has_its_outcome(tmp_path: Path) -> None:
    good = picture(1)
    digest = hashlib.sha256(good).hexdigest()
    with Web({"/good": ok(good), "/html": ok(b"<html>", "text/html"), "/cut": ok(good[:-200])}) as web:
        rows: list[tuple[dict[str, Any], str]] = [
            ({"url": web.url("/good")}, "ok"),
            ({"url": web.url("/good"), "sha256": digest}, "ok"),
            ({"url": web.url("/good"), "sha256": digest.upper()}, "ok"),
            ({"url": web.url("/good"), "sha256": "0" * 64}, "hash_mismatch"),
            ({"url": web.url("/html")}, "not_image"),
            ({"url": web.url("/cut")}, "truncated"),
            ({"url": web.url("/none")}, "http_4xx"),
            ({"url": "ftp://example.org/x"}, "blocked_address"),
            ({}, "unreadable"),
            ({"place": {"path": str(tmp_path / "gone.jpg"), "offset": None, "size": None, "row": None}}, "unreadable"),
        ]
        result = made(tmp_path / "pool", listed([r for r, _ in rows]))
    log = log_of(tmp_path / "pool")
    assert [entry["outcome"] for entry in log] == [outcome for _, outcome in rows]
    assert set(result["outcomes"]) <= set(OUTCOMES)
    assert sum(result["outcomes"].values()) == len(rows)
    assert log[3]["detail"] == f"sha256 {digest}, expected {'0' * 64}"
    assert (log[6]["status"], log[6]["final_url"]) == (404, web.url("/none"))
    assert log[8]["detail"] == "neither a url nor a place"
    assert len(facts_of(tmp_path / "pool")) == 3


def test_size_limits_are_outcomes(tmp_path: Path) -> None:
    table = from_files(tmp_path, [picture(0, 60, 40), picture(1, 300, 200), picture(2, 60, 60, quality=100)])
    spec = SPEC.model_copy(update={"min_side": 50, "max_pixels": 10_000, "max_bytes": 1_000_000})
    made(tmp_path / "pool", table, spec)
    assert [e["outcome"] for e in log_of(tmp_path / "pool")] == ["too_small", "bomb", "ok"]
    made(tmp_path / "other", table, SPEC.model_copy(update={"max_bytes": 100}))
    assert {e["outcome"] for e in log_of(tmp_path / "other")} == {"too_big"}


def test_facts_are_upright_and_stored_pixels_too(tmp_path: Path) -> None:
    data = turned_picture()
    made(tmp_path / "pool", from_files(tmp_path, [data]))
    (fact,) = facts_of(tmp_path / "pool")
    assert (fact["original_width"], fact["original_height"], fact["width"], fact["height"]) == (40, 60, 40, 60)
    (stored,) = stored_bytes(tmp_path / "pool")
    assert stored != data
    assert Image.open(io.BytesIO(stored)).size == (40, 60)  # to a reader that knows nothing of EXIF


def test_bytes_are_kept_where_nothing_has_to_change() -> None:
    def kept(data: bytes, **settings: Any) -> tuple[bool, str]:
        found = examine(data, None, IngestSpec(**settings))
        assert found.facts is not None
        return found.stored == data, found.facts["format"]

    turned = turned_picture()
    assert kept(picture(0)) == (True, "jpg")
    assert kept(turned) == (False, "jpg")
    assert kept(turned, resize="none") == (True, "jpg")
    assert kept(picture(0, format="PNG")) == (False, "jpg")
    assert kept(picture(0, format="PNG"), format=None) == (True, "png")
    assert kept(picture(0, format="PNG"), resize="none") == (True, "png")
    assert kept(picture(0, format="WEBP"), resize="none") == (True, "webp")
    assert kept(picture(0, format="GIF"), resize="none") == (False, "png")
    assert kept(picture(0), resize="none", format="webp") == (False, "webp")
    assert kept(picture(0, 600)) == (False, "jpg")
    assert kept(picture(0, 512, 512)) == (True, "jpg")


@pytest.mark.filterwarnings(r"ignore::UserWarning:PIL\..*")
def test_every_hostile_file_ends_in_an_outcome(shared_data: Path, tmp_path: Path) -> None:
    with tarfile.open(shared_data / "hostile/hostile_images.tar") as tar:
        images = {m.name: tar.extractfile(m).read() for m in tar}  # type: ignore[union-attr]
    started = time.monotonic()
    at_once = SPEC.model_copy(update={"host_rate": None})
    with Web({f"/{name}": ok(data) for name, data in images.items()}) as web:
        result = made(tmp_path / "pool", listed([{"url": web.url(f"/{name}")} for name in images]), at_once)
    assert time.monotonic() - started < 60
    assert sum(result["outcomes"].values()) == len(images) == 277
    assert set(result["outcomes"]) <= {"ok", "not_image", "bomb", "decode_error", "truncated", "too_small", "timeout"}
    assert result["outcomes"]["ok"] > 150
    for data in stored_bytes(tmp_path / "pool"):
        assert to_array(data).ndim == 3


def test_real_photos_from_parquet_are_their_source(shared_data: Path, tmp_path: Path) -> None:
    path = shared_data / "images/pairs_flickr8k-00000.parquet"
    source = next(pq.ParquetFile(path).iter_batches(50, columns=["image", "sha256"])).to_pylist()
    places = [{"path": str(path), "offset": None, "size": None, "row": i} for i in range(50)]
    table = listed([{"place": p, "sha256": s["sha256"]} for p, s in zip(places, source, strict=True)])
    result = made(tmp_path / "pool", table, bytes_column="image")
    assert result["outcomes"] == {"ok": 50}
    assert stored_bytes(tmp_path / "pool") == [s["image"] for s in source]  # 224 px: nothing to shrink
    assert [f["sha256"] for f in facts_of(tmp_path / "pool")] == [s["sha256"] for s in source]


def test_a_shard_that_exists_is_not_made_again(tmp_path: Path) -> None:
    with Web({"/a": ok(picture(0))}) as web:
        table = listed([{"url": web.url("/a")}])
        first = made(tmp_path / "pool", table)
        before = files_of(tmp_path / "pool")
        again = made(tmp_path / "pool", table)
        assert [path for path in web.asked if path == "/a"] == ["/a"]
    assert again == {k: first[k] for k in again}
    assert "seconds" not in again, "what was not done takes no part in a rate"
    assert files_of(tmp_path / "pool") == before
    assert not (tmp_path / "pool/fetch/00000007.1.parquet").exists()


def test_of_two_drivers_at_once_one_shard_comes_and_one_tar(tmp_path: Path) -> None:
    """The server answers the two differently, so that their tars differ."""
    turn, lock = iter(range(100)), threading.Lock()
    together = threading.Barrier(2)

    def route(request: Any) -> None:
        with lock:
            mine = next(turn)
        together.wait(10)
        ok(picture(mine))(request)

    with Web({"/a": route}) as web:
        table = listed([{"url": web.url("/a")}])
        results: list[dict[str, Any]] = []
        both = [threading.Thread(target=lambda: results.append(made(tmp_path / "pool", table))) for _ in range(2)]
        for thread in both:
            thread.start()
        for thread in both:
            thread.join(30)
    assert [r["outcomes"] for r in results] == [{"ok": 1}, {"ok": 1}]
    assert sorted(files_of(tmp_path / "pool")) == sorted(["00000007.parquet", tar_of(tmp_path / "pool").name])
    (fact,), (data,) = facts_of(tmp_path / "pool"), stored_bytes(tmp_path / "pool")
    assert hashlib.sha256(data).hexdigest() == fact["sha256"]
    assert len(list((tmp_path / "pool/fetch").iterdir())) == 2  # both asked, and the log says so


def test_the_loser_keeps_a_tar_that_the_marker_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = from_files(tmp_path, [picture(0)])
    original = ingest._commit_log

    def and_then_somebody_is_faster(*args: Any) -> None:
        monkeypatch.setattr(ingest, "_commit_log", original)
        original(*args)
        made(tmp_path / "pool", table)

    monkeypatch.setattr(ingest, "_commit_log", and_then_somebody_is_faster)
    made(tmp_path / "pool", table)
    assert tar_of(tmp_path / "pool").name in files_of(tmp_path / "pool")
    assert stored_bytes(tmp_path / "pool") == [picture(0)]


KILLED = """
import os, pickle, signal, sys
from curate.pool.storage import Storage
from curate.run import ingest
table, spec = pickle.load(open(sys.argv[2], "rb"))
if sys.argv[3] == "log":
    ingest._commit_log = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
else:
    ingest.write_parquet = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
    ingest._commit_log = lambda *_: None
ingest.ingest_shard(Storage.at(sys.argv[1]), table, 7, "things@0123456789ab", spec, None)
"""


@pytest.mark.parametrize("before", ["log", "marker"])
def test_killed_between_tar_and_marker_the_next_try_makes_the_same_shard(tmp_path: Path, before: str) -> None:
    import pickle

    table = from_files(tmp_path, [picture(i) for i in range(4)])
    (tmp_path / "job").write_bytes(pickle.dumps((table, SPEC)))
    command = [sys.executable, "-c", KILLED, str(tmp_path / "pool"), str(tmp_path / "job"), before]
    done = subprocess.run(command, cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)}, check=False)
    assert done.returncode == -signal.SIGKILL
    assert [Path(n).suffix for n in files_of(tmp_path / "pool")] == [".tar"]
    made(tmp_path / "pool", table)
    made(tmp_path / "undisturbed", table)
    assert files_of(tmp_path / "pool") == files_of(tmp_path / "undisturbed")


def test_the_deadline_ends_a_shard_and_what_came_before_is_kept(tmp_path: Path) -> None:
    spec = SPEC.model_copy(update={"shard_deadline_s": 1.0, "timeout_s": 60, "idle_timeout_s": 60})
    with Web({"/good": ok(picture(0)), "/slow": drip(picture(0), 1)}) as web:
        table = listed([{"url": web.url("/slow")}, {"url": web.url("/good")}, {"url": web.url("/slow")}])
        started = time.monotonic()
        result = made(tmp_path / "pool", table, spec)
        assert time.monotonic() - started < 4
    assert result["outcomes"] == {"gave_up": 2, "ok": 1}
    assert log_of(tmp_path / "pool")[0]["detail"] == "not done when the shard's 1 s were over"
    assert stored_bytes(tmp_path / "pool") == [picture(0)]


def test_a_shard_without_any_image_is_a_shard(tmp_path: Path) -> None:
    with Web({"/a": status(404)}) as web:
        result = made(tmp_path / "pool", listed([{"url": web.url("/a")}]))
    assert (result["images"], result["outcomes"]) == (0, {"http_4xx": 1})
    assert facts_of(tmp_path / "pool") == []
    made(tmp_path / "empty", listed([]))
    assert facts_of(tmp_path / "empty") == []


def test_a_failure_in_mid_shard_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = from_files(tmp_path, [picture(0), picture(1)])

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(OrderedTar, "put", full)
    with pytest.raises(UserError, match="make room"):
        made(tmp_path / "pool", table)
    assert [p for p in (tmp_path / "pool").rglob("*") if p.is_file()] == []


def test_the_web_is_not_entered_without_a_contact(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="contact"):
        made(tmp_path / "pool", listed([{"url": "http://example.org/a.jpg"}]), IngestSpec())


def test_footers_are_json(tmp_path: Path) -> None:
    made(tmp_path / "pool", from_files(tmp_path, [picture(0)]))
    metadata = pq.read_metadata(tmp_path / "pool" / MARKER).metadata
    assert json.loads(metadata[b"curate"])["settings"]["side"] == 512
