"""What img2dataset left becomes a pool without a download, and its failures can be tried again."""

from __future__ import annotations

import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

import curate
from curate.cli import app
from curate.errors import UserError
from curate.interchange.said import SAID, outcome_of, words
from curate.interchange.take import import_folder
from curate.pool.facts import OUTCOMES, TRANSIENT
from curate.pool.lists import claims
from curate.pool.pool import Pool
from curate.pool.uids import identify
from curate.run.fetch.spec import IngestSpec
from curate.run.job import Ingest, ingest
from curate.run.progress import Telling
from curate.run.retry import Retry, transient
from tests.interchange.i2d_parts import Row, image, stored_bytes, write
from tests.web import Web, ok, status

QUIET = Telling(quiet=True)
GONE, SLOW = Row(3, "HTTP Error 404: Not Found"), Row(5, "<urlopen error timed out>")
ROWS = [Row(4), Row(0), GONE, Row(1), SLOW, Row(2)]
"""In the order in which they came, not in that of the input."""


def taken(folder: Path, **options: str | None) -> list[str]:
    return import_folder(str(folder / "out"), str(folder / "pool"), telling=QUIET, executor="inline", **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("form", ["webdataset", "files", "parquet"])
def test_every_layout_gives_the_same_pool(tmp_path: Path, form: str) -> None:
    write(tmp_path / "out", 0, ROWS, form)
    write(tmp_path / "out", 1, [Row(10), Row(11, "hash mismatch")], form)
    said = taken(tmp_path)
    assert said[0] == "out: 8 URLs of 2 shards (ok 5, http_4xx 1, timeout 1, hash_mismatch 1)"
    assert said[-1] == "1 URL may be had later: `curate run RECIPE --retry transient`"
    handle = curate.open(tmp_path / "pool")
    rows = handle.sql("SELECT url, text, similarity, source_sha256, width, list FROM samples ORDER BY row").to_arrow()
    (claim,) = claims(Pool.open(str(tmp_path / "pool")).storage)
    assert rows.to_pylist() == [
        {
            "url": Row(n).url, "text": f"caption {n}", "similarity": n / 4, "source_sha256": "ab" * 32, "width": 40,
            "list": f"out@{claim.hash}",
        }
        for n in (0, 1, 2, 4, 10)
    ]  # fmt: skip
    uids = dict(handle.sql("SELECT uid, url FROM samples").fetchall())
    stored = {uids[uid]: data for uid, data in stored_bytes(tmp_path / "pool").items()}
    assert stored == {Row(n).url: image(n) for n in (0, 1, 2, 4, 10)}, "the bytes as they were"


def test_failures_stand_in_the_log_with_what_was_said(tmp_path: Path) -> None:
    write(tmp_path / "out", 0, ROWS)
    taken(tmp_path)
    sql = "SELECT url, outcome, status, attempt, detail FROM fetches WHERE outcome <> 'ok' ORDER BY url"
    assert curate.open(tmp_path / "pool").sql(sql).fetchall() == [
        (GONE.url, "http_4xx", 404, 0, GONE.error),
        (SLOW.url, "timeout", None, 0, SLOW.error),
    ]


def test_the_uids_are_those_of_the_list_itself(tmp_path: Path) -> None:
    import pyarrow as pa

    write(tmp_path / "out", 0, ROWS)
    taken(tmp_path)
    url, text, none = pa.array([Row(1).url]), pa.array(["caption 1"]), pa.nulls(1, pa.string())
    uid = identify(none, url, text, none).uid[0].as_py().hex()
    assert curate.open(tmp_path / "pool").sql(f"SELECT url FROM samples WHERE uid = '{uid}'").fetchall() == [
        (Row(1).url,)
    ]


def test_failures_that_may_pass_are_tried_again(tmp_path: Path) -> None:
    write(tmp_path / "out", 0, ROWS)
    taken(tmp_path)
    pool = Pool.open(str(tmp_path / "pool"))
    spec = IngestSpec(resize="none", retry_backoff_s=0.001)
    (claim,) = Retry(pool, spec, transient("transient")).claim(4e9).claims
    assert (claim.rows, claim.attempt) == (1, 1)


def test_a_run_with_retry_adds_what_was_missing(tmp_path: Path) -> None:
    with Web({"/0.jpg": status(404), "/1.jpg": ok(image(1)), "/2.jpg": ok(image(2))}) as web:
        base = web.url("")
        rows = [Row(0, base=base), Row(1, "timed out", base=base), Row(2, "HTTP Error 404: Not Found", base=base)]
        write(tmp_path / "out", 0, rows)
        taken(tmp_path)
        recipe = tmp_path / "r.yaml"
        recipe.write_text(
            f"recipe: mine\npool: {tmp_path / 'pool'}\nfilters:\n  - image_size: {{min_side: 1}}\n"
            "ingest: {resize: none, allow_loopback: true, retry_backoff_s: 0.001, ignore: [robots, tdm]}\n"
        )
        time.sleep(0.02)
        words = ["run", str(recipe), "--no-report", "--executor", "inline", "--retry", "transient"]
        done = CliRunner().invoke(app, words)
        assert done.exit_code == 0, done.output
        assert web.asked == ["/1.jpg"], "neither what came nor what is gone is asked for"
    rows_now = curate.open(tmp_path / "pool").sql("SELECT url, text FROM samples ORDER BY url").fetchall()
    assert rows_now == [(rows[0].url, "caption 0"), (rows[1].url, "caption 1")]
    assert sorted(stored_bytes(tmp_path / "pool").values()) == sorted([image(0), image(1)])


def test_the_same_again_does_nothing_and_more_adds_it(tmp_path: Path) -> None:
    write(tmp_path / "out", 0, ROWS)
    taken(tmp_path)
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "pool").rglob("*") if p.is_file() and "runs" not in p.parts}
    taken(tmp_path)
    assert all(p.stat().st_mtime_ns == t for p, t in before.items())
    write(tmp_path / "out", 1, [Row(7)])
    taken(tmp_path)
    assert [c.rows for c in claims(Pool.open(str(tmp_path / "pool")).storage)] == [6, 1]
    assert curate.open(tmp_path / "pool").sql("SELECT count(*), count(DISTINCT uid) FROM samples").fetchall() == [
        (5, 5)
    ]


def test_killed_between_claim_and_pixels_any_run_goes_on_without_a_download(tmp_path: Path) -> None:
    """The spec has no contact: a download would be refused."""
    write(tmp_path / "out", 0, ROWS)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("curate.interchange.take.Engine", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            taken(tmp_path)
    pool = Pool.open(str(tmp_path / "pool"))
    known = tuple(claims(pool.storage))
    assert [c.rows for c in known] == [6]
    assert pool.shards() == []
    assert ingest(Ingest(pool.storage.url, known, IngestSpec(resize="none")), "00000000")["images"] == 4


# ---------------------------------------------------------------- what is no output of img2dataset


def refused(folder: Path) -> str:
    with pytest.raises(UserError) as caught:
        taken(folder)
    assert not (folder / "pool").exists(), "no pool is begun"
    return str(caught.value)


def write_without(folder: Path, name: str, form: str = "webdataset") -> None:
    """A shard of which one file is gone."""
    write(folder / "out", 0, ROWS, form)
    (folder / "out" / name).unlink()


def test_an_unfinished_shard_is_left_out_by_name(tmp_path: Path) -> None:
    write(tmp_path / "out", 0, ROWS)
    write(tmp_path / "out", 1, [Row(9)], stats=False)
    assert "not taken, as img2dataset has not finished them: 00001" in taken(tmp_path)[1]


def test_nothing_finished(tmp_path: Path) -> None:
    write(tmp_path / "out", 0, ROWS, stats=False)
    assert "finished no shard here" in refused(tmp_path)


def test_tars_alone(tmp_path: Path) -> None:
    write_without(tmp_path, "00000.parquet")
    assert "1 tars without the tables" in refused(tmp_path)


def test_another_folder(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    assert "no output of img2dataset" in refused(tmp_path)


def test_no_folder(tmp_path: Path) -> None:
    assert "no such file" in refused(tmp_path)


def test_tfrecord(tmp_path: Path) -> None:
    write(tmp_path / "out", 0, ROWS, form="none")
    (tmp_path / "out/00000.tfrecord").touch()
    assert "in TFRecord files, which are not read" in refused(tmp_path)


def test_images_are_gone(tmp_path: Path) -> None:
    write_without(tmp_path, "00000.tar")
    assert "without its images" in refused(tmp_path)


def test_a_cut_tar_is_named(tmp_path: Path) -> None:
    write(tmp_path / "out", 0, ROWS)
    tar = tmp_path / "out/00000.tar"
    tar.write_bytes(tar.read_bytes()[:3000])
    with pytest.raises(UserError, match=r"00000\.tar.*truncated.*damaged since"):
        taken(tmp_path)


@pytest.mark.parametrize("text", ["exif", "caption 1"])
def test_a_damaged_table_is_named(tmp_path: Path, text: str) -> None:
    """The name of a column, or a text, that is no UTF-8."""
    write(tmp_path / "out", 0, ROWS)
    table = tmp_path / "out/00000.parquet"
    pq.write_table(pq.read_table(table), table, compression="none", store_schema=False)
    data = table.read_bytes()
    assert text.encode() in data
    table.write_bytes(data.replace(text.encode(), b"\xff" * len(text)))
    with pytest.raises(
        UserError, match=r"00000\.parquet: cannot be read as parquet: .*; fetch or write the file again"
    ):
        taken(tmp_path)


def test_an_image_that_is_missing_is_counted(tmp_path: Path) -> None:
    write_without(tmp_path, "00000/000000001.jpg", form="files")
    taken(tmp_path)
    (claim,) = claims(Pool.open(str(tmp_path / "pool")).storage)
    assert (claim.rows, claim.refused["reasons"]) == (5, {"no image": 1})


def test_a_recipe_says_what_is_stored(tmp_path: Path) -> None:
    write(tmp_path / "out", 0, ROWS)
    recipe = tmp_path / "r.yaml"
    recipe.write_text(
        "recipe: mine\nshard_size: 3\ningest: {resize: short, side: 20}\nfilters:\n  - image_size: {min_side: 1}\n"
    )
    words = [
        "import-img2dataset",
        str(tmp_path / "out"),
        str(tmp_path / "pool"),
        "--recipe",
        str(recipe),
        "--name",
        "web",
    ]
    done = CliRunner().invoke(app, [*words, "--executor", "inline"])
    assert done.exit_code == 0, done.output
    assert '`ingest: {resize: "short", side: 20}`' in done.output
    rows = (
        curate.open(tmp_path / "pool").sql("SELECT DISTINCT height, split_part(list, '@', 1) FROM samples").fetchall()
    )
    assert rows == [(20, "web")]
    assert len(Pool.open(str(tmp_path / "pool")).shards()) == 2


# ---------------------------------------------------------------- its words


@pytest.mark.parametrize(
    ("message", "outcome", "status"),
    [
        ("HTTP Error 404: Not Found", "http_4xx", 404),
        ("HTTP Error 429: Too Many Requests", "http_429", 429),
        ("HTTP Error 503: Service Unavailable", "http_5xx", 503),
        ("HTTP Error 999: Request denied", "http_4xx", 999),
        ("HTTP Error 302: The HTTP server returned a redirect error that would lead to an infinite loop.\n"
         "The last 30x error message was:\nFound", "too_many_redirects", 302),
        ("<urlopen error [Errno -2] Name or service not known>", "dns", None),
        ("<urlopen error [Errno -3] Temporary failure in name resolution>", "dns", None),
        ("<urlopen error [Errno 111] Connection refused>", "connect", None),
        ("[Errno 104] Connection reset by peer", "connect", None),
        ("Remote end closed connection without response", "connect", None),
        ("<urlopen error [Errno 110] Connection timed out>", "timeout", None),
        ("The read operation timed out", "timeout", None),
        ("<urlopen error [SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: self-signed>", "tls", None),
        ("IncompleteRead(100 bytes read, 900 more expected)", "truncated", None),
        ("Use of image disallowed by X-Robots-Tag directive", "refused_header", None),
        ("hash mismatch", "hash_mismatch", None),
        ("unknown url type: 'no url'", "blocked_address", None),
        ("something quite new", "connect", None),
    ],
)  # fmt: skip
def test_what_it_says_of_downloads(message: str, outcome: str, status: int | None) -> None:
    assert outcome_of(words("failed_to_download", message)) == (outcome, status)


@pytest.mark.parametrize(
    ("message", "outcome"),
    [
        ("Image decoding error", "decode_error"),
        ("image too small", "too_small"),
        ("image area too large", "bomb"),
        ("aspect ratio too large", "too_small"),
        ("OpenCV(4.10) resize.cpp:4152: error: (-215:Assertion failed)", "decode_error"),
    ],
)
def test_what_it_says_of_images(message: str, outcome: str) -> None:
    assert outcome_of(words("failed_to_resize", message)) == (outcome, None)


def test_every_outcome_is_one_of_ours_and_comes_back() -> None:
    assert {outcome for _, outcome in SAID} <= set(OUTCOMES)
    for outcome in OUTCOMES:
        assert outcome_of(words("failed_to_download", f"{outcome}: some words"))[0] == outcome
    assert outcome_of(words("failed_to_download", "http_5xx: 503")) == ("http_5xx", 503)
    assert outcome_of(words("failed_to_download", None))[0] in TRANSIENT
