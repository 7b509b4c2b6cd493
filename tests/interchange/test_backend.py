"""`backend: img2dataset`: the real one fetches, its output becomes a shard; what it cannot do is refused by name."""

from __future__ import annotations

import hashlib
import io
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

import curate
from curate.errors import UserError
from curate.interchange import backend
from curate.interchange.backend import ROW, agent, arguments, check, manners
from curate.recipe import load_recipe
from curate.run.fetch.spec import IngestSpec
from curate.run.job import Job
from curate.run.progress import Progress
from tests.interchange.i2d_parts import PYTHON, Row, image, stored_bytes, write
from tests.web import Request, Web, hang, ok, status

real = pytest.mark.skipif(
    not PYTHON, reason="set IMG2DATASET_PYTHON to the python of an environment that has img2dataset, to test with it"
)
ANY = PYTHON or sys.executable  # where one must be named, though it is not started
IGNORE = ("robots", "tdm", "host_limits")


def spec(**settings: Any) -> IngestSpec:
    base = {"allow_loopback": True, "backend": "img2dataset", "img2dataset_python": ANY, "ignore": IGNORE}
    return IngestSpec(**(base | settings))


def photo(shade: int, width: int = 400, height: int = 300) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (width, height), (shade, 255 - shade, 90)).save(out, "JPEG")
    return out.getvalue()


def run(folder: Path, urls: list[str], ingest: str, more: str = "", python: str = ANY) -> Any:
    (folder / "urls.csv").write_text(
        "\n".join([f"url,text{more and ',sha256'}", *(f"{u},caption{more}" for u in urls)])
    )
    recipe = folder / "r.yaml"
    recipe.write_text(
        f"recipe: mine\npool: {folder / 'pool'}\nsource: {{path: {folder / 'urls.csv'}}}\n"
        f"ingest: {{allow_loopback: true, backend: img2dataset, img2dataset_python: {python}, "
        f"ignore: [robots, tdm, host_limits], {ingest}}}\nfilters:\n  - image_size: {{min_side: 1}}\n"
    )
    with Progress(None, "a test", io.StringIO()) as progress:
        return Job(load_recipe(str(recipe)), "inline").run(progress)


@real
def test_a_shard_by_the_real_one(tmp_path: Path) -> None:
    routes = {"/a.jpg": ok(photo(10)), "/b.jpg": ok(photo(99)), "/gone.jpg": status(404), "/busy.jpg": status(503)}
    routes |= {"/page": ok(b"<html>", "text/html"), "/no.jpg": ok(photo(3), X_Robots_Tag="noai")}
    with Web(routes) as web:
        outcome = run(tmp_path, [web.url(p) for p in routes], "resize: short, side: 100, timeout_s: 5")
        assert outcome.rows == 2
        asked = [web.url(p) for p in routes]
    handle = curate.open(tmp_path / "pool")
    sizes = handle.sql("SELECT width, height, format, text FROM samples").fetchall()
    assert sizes == [(133, 100, "jpg", "caption")] * 2
    rows = handle.sql("SELECT url, outcome, status FROM fetches WHERE attempt = 0 ORDER BY url").fetchall()
    expected = ["ok", "ok", "http_4xx", "http_5xx", "decode_error", "refused_header"]
    codes = [None, None, 404, 503, None, None]
    assert rows == sorted(zip(asked, expected, codes, strict=True))
    assert not list((tmp_path / "pool").glob("tmp/*/*")), "its folder is gone"


@real
def test_bytes_as_received_and_their_digests(tmp_path: Path) -> None:
    data = photo(10)
    digest = hashlib.sha256(data).hexdigest()
    with Web({"/a.jpg": ok(data), "/b.jpg": ok(photo(11))}) as web:
        outcome = run(tmp_path, [web.url("/a.jpg"), web.url("/b.jpg")], "resize: none", more=f",{digest}")
    assert outcome.rows == 1
    assert list(stored_bytes(tmp_path / "pool").values()) == [data]
    sql = "SELECT outcome FROM fetches WHERE attempt = 0 AND outcome <> 'ok'"
    assert curate.open(tmp_path / "pool").sql(sql).fetchall() == [("hash_mismatch",)]


@real
def test_refused_hashes_are_of_the_bytes_as_they_came(tmp_path: Path) -> None:
    """What it stores is another file of the same picture."""
    refused = hashlib.sha256(photo(10)).hexdigest()
    (tmp_path / "refused.txt").write_text(f"{refused}\n")
    more = f"resize: short, side: 100, refuse_hashes: [{tmp_path / 'refused.txt'}]"
    with Web({"/a.jpg": ok(photo(10)), "/b.jpg": ok(photo(11))}) as web:
        outcome = run(tmp_path, [web.url("/a.jpg"), web.url("/b.jpg")], more)
    assert outcome.rows == 1
    sql = "SELECT outcome, detail FROM fetches WHERE attempt = 0 AND outcome <> 'ok'"
    told = [("refused_list", "refused_list: its sha256 is on a list of refusals")]
    assert curate.open(tmp_path / "pool").sql(sql).fetchall() == told


@real
@pytest.mark.parametrize("contact", [None, "https://example.org/bot#us", "owner@example.org"])
def test_the_agent_is_that_which_is_sent(contact: str | None, tmp_path: Path) -> None:
    agents = []

    def asked(request: Request) -> None:
        agents.append(request.headers["user-agent"])
        ok(photo(10))(request)

    with Web({"/a.jpg": asked}) as web:
        run(tmp_path, [web.url("/a.jpg")], f"contact: {contact!r}" if contact else "timeout_s: 5")
    assert agents == [agent(spec(contact=contact))]
    assert (contact or "curate") in agents[0]


def test_refused_hashes_are_compared_with_its_column(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As above, with a folder as it leaves one."""
    came = [hashlib.sha256(bytes([n])).hexdigest() for n in range(3)]
    (tmp_path / "refused.txt").write_text(f"{came[1]}\n")

    def fake(_: IngestSpec, options: Sequence[str]) -> bool:
        given = dict(o.removeprefix("--").split("=", 1) for o in options)
        asked, out = pq.read_table(given["url_list"]), Path(given["output_folder"])
        write(out, 0, [Row(0), Row(1), Row(2)])
        table = pq.read_table(out / "00000.parquet")
        at = table.schema.get_field_index("sha256")
        table = table.set_column(at, "sha256", pa.array(came)).append_column(ROW, asked.column(ROW))
        pq.write_table(table, out / "00000.parquet")
        return True

    monkeypatch.setattr(backend, "_run", fake)
    outcome = run(
        tmp_path,
        [Row(n).url for n in range(3)],
        f"resize: short, side: 100, refuse_hashes: [{tmp_path / 'refused.txt'}]",
    )
    assert outcome.rows == 2
    assert sorted(stored_bytes(tmp_path / "pool").values()) == sorted([image(0), image(2)])
    sql = "SELECT url, outcome FROM fetches WHERE attempt = 0 AND outcome <> 'ok'"
    assert curate.open(tmp_path / "pool").sql(sql).fetchall() == [(Row(1).url, "refused_list")]


def test_manners_say_what_is_really_done() -> None:
    said = manners(spec(contact="owner@example.org"))
    assert said["agent"] == (
        "Mozilla/5.0 (X11; Ubuntu; Linux x86_64; rv:72.0) Gecko/20100101 Firefox/72.0 "
        "(compatible; curate; +owner@example.org; +https://github.com/rom1504/img2dataset)"
    )
    assert "max_bytes: it reads images of any size" in said["not_kept"]
    assert any(line.startswith("x_robots_tag: ") for line in said["not_kept"])
    ignoring = manners(spec(ignore=(*IGNORE, "x_robots_tag")))
    assert not any(line.startswith("x_robots_tag: ") for line in ignoring["not_kept"])


@real
def test_it_ends_by_the_deadline(tmp_path: Path) -> None:
    with Web({"/a.jpg": ok(photo(1)), "/never.jpg": hang}) as web:
        urls = [web.url("/a.jpg"), web.url("/never.jpg")]
        outcome = run(tmp_path, urls, "timeout_s: 100, shard_deadline_s: 6")
    assert outcome.rows == 0
    rows = curate.open(tmp_path / "pool").sql("SELECT DISTINCT outcome, detail FROM fetches").fetchall()
    assert rows == [("gave_up", "gave_up: img2dataset was not done when the shard's 6 s were over")]


def test_a_python_without_it_is_named(tmp_path: Path) -> None:
    with Web({"/a.jpg": ok(photo(1))}) as web, pytest.raises(UserError, match="has no img2dataset; in an environment"):
        run(tmp_path, [web.url("/a.jpg")], "timeout_s: 5", python=sys.executable)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"ignore": ()}, "it reads no robots.txt: add robots to `ignore:`"),
        ({"ignore": ("robots", "tdm")}, "it has no limits for a host: add host_limits"),
        ({"max_redirects": 2}, "max_redirects cannot be set for it"),
        ({"refuse_domains": ("x.txt",)}, "refuse_domains cannot be set for it"),
        ({"refuse_hashes": ("x.txt",)}, None),
        ({"max_bytes": 1_000_000}, "max_bytes cannot be set for it, as it reads images of any size"),
        ({"contact": "https://example.org/Bot"}, "contact: it sends it as https://example.org/bot: write it so"),
        ({"contact": "https://example.org/bot"}, None),
        ({"decode": "scaled"}, "decode: scaled is not among its ways"),
        ({"format": None}, "format: null keeps each picture's format"),
    ],
)
def test_what_it_cannot_do_is_refused_by_name(settings: dict[str, Any], words: str | None) -> None:
    if words is None:  # kept by it or by us
        return check(spec(**settings))
    with pytest.raises(UserError) as caught:
        check(spec(**settings))
    assert words in str(caught.value)


def test_settings_are_mapped(tmp_path: Path) -> None:
    words = arguments(spec(resize="crop", side=64, format="webp", quality=80), tmp_path, tmp_path, 7, verify=False)
    assert '--user_agent_token="curate"' in words
    for word in ("resize_mode=center_crop", "image_size=64", "encode_format=webp", "encode_quality=80"):
        assert f"--{word}" in words
    assert '--disallowed_header_directives=["noai", "noimageai", "noml"]' in words
    none = arguments(spec(ignore=(*IGNORE, "x_robots_tag"), resize="none"), tmp_path, tmp_path, 7, verify=True)
    assert {"--disallowed_header_directives=[]", "--disable_all_reencoding=True"} <= set(none)
    assert '--verify_hash=["sha256", "sha256"]' in none
