"""The demo's web: what was planted is there, the same again, and served as planted."""

from __future__ import annotations

import io
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from conftest import free_port
from PIL import Image

from curate.demo.match import said
from curate.demo.serve import serve
from curate.demo.web import CLEAN, COPIES, KEPT, PLANTED, TRUTH, Web, build_web
from curate.errors import UserError
from stages.fingerprint import of_image


@pytest.fixture(scope="module")
def web(tmp_path_factory: pytest.TempPathFactory) -> Web:
    return build_web(tmp_path_factory.mktemp("demo") / "web", scenes=400, port=free_port())


@pytest.fixture(scope="module")
def truth(web: Web) -> list[dict[str, Any]]:
    table = pq.read_table(web.truth)
    assert table.schema.equals(TRUTH)
    rows: list[dict[str, Any]] = table.to_pylist()
    return rows


def data_of(web: Web, url: str) -> bytes:
    return (web.folder / "files" / url.rsplit("/", 1)[1]).read_bytes()


def picture_of(web: Web, url: str) -> Image.Image:
    return Image.open(io.BytesIO(data_of(web, url)))


def test_every_kind_has_its_share(web: Web, truth: list[dict[str, Any]]) -> None:
    assert len(truth) == len({r["url"] for r in truth}) == 400
    counts = {k: sum(r["kind"] == k for r in truth) for k in PLANTED}
    assert counts == {k: max(1, round(share * 400)) for k, (share, _) in PLANTED.items()}
    for row in truth:
        assert row["expected"] == ([KEPT] if row["kind"] == CLEAN else list(PLANTED[row["kind"]][1]))
    formats = {picture_of(web, r["url"]).format for r in truth if r["kind"] == CLEAN}
    assert formats == {"JPEG", "PNG", "WEBP"}


def test_the_list_tells_nothing_of_the_truth(web: Web, truth: list[dict[str, Any]]) -> None:
    listed = pq.read_table(web.list)
    assert listed.column_names == ["url", "caption", "licence"]
    assert listed["url"].to_pylist() == [r["url"] for r in truth]
    assert listed["caption"].to_pylist() == [r["text"] for r in truth]
    kinds = [r["kind"] for r in truth]
    assert kinds != sorted(kinds)  # shuffled, so that shards are alike


def test_the_same_settings_give_the_same_web(web: Web, tmp_path: Path) -> None:
    webs = [build_web(tmp_path / name, scenes=60, port=1) for name in "ab"]
    one, two = ({p.name: p.read_bytes() for p in w.folder.rglob("*") if p.is_file()} for w in webs)
    assert one == two
    other = build_web(tmp_path / "c", scenes=60, port=1, seed=5)
    assert pq.read_table(other.list)["caption"] != pq.read_table(webs[0].list)["caption"]


def test_a_web_is_not_drawn_twice_and_never_mixed(tmp_path: Path) -> None:
    web = build_web(tmp_path, scenes=60, port=1)
    web.list.unlink()
    assert build_web(tmp_path, scenes=60, port=1) == web
    assert not web.list.exists()
    with pytest.raises(UserError, match=r"web of other settings.*\"port\": 1.*\"port\": 2.*--folder"):
        build_web(tmp_path, scenes=60, port=2)


def test_copies_copy(web: Web, truth: list[dict[str, Any]]) -> None:
    of = {r["url"]: r for r in truth}
    copies = [r for r in truth if r["kind"] in COPIES]
    assert len({r["copy_of"] for r in copies}) == len(copies) == round(0.13 * 400)
    assert all(r["copy_of"] is None for r in truth if r["kind"] not in COPIES)
    for row in copies:
        original = of[row["copy_of"]]
        assert (original["kind"], original["scene"]) == (CLEAN, row["scene"])
        assert said(original["text"]) == said(row["text"])
        same = data_of(web, row["url"]) == data_of(web, original["url"])
        assert same == (row["kind"] == "exact copy")
        hashes = [of_image(picture_of(web, u).convert("RGB")) for u in (row["url"], original["url"])]
        assert (hashes[0].phash64 ^ hashes[1].phash64).bit_count() <= 4  # the recipe's distance
        assert min(h.quality for h in hashes) >= 50


def test_swapped_captions_are_false(web: Web, truth: list[dict[str, Any]]) -> None:
    from curate.demo.scenes import scene

    shared = []
    for row in (r for r in truth if r["kind"] == "swapped caption"):
        own, told = {g.colour for g in scene(row["scene"]).groups}, set(said(row["text"]))
        assert told - own
        shared.append(len(told & own))
    assert set(shared) == {0, 1}  # easy and hard ones


def test_faulty_pictures_have_their_fault(web: Web, truth: list[dict[str, Any]]) -> None:
    for row in truth:
        if row["kind"] == "tiny":
            assert max(picture_of(web, row["url"]).size) == 56
        if row["kind"] == "five to one":
            assert sorted(picture_of(web, row["url"]).size) == [80, 400]
        if row["kind"] == "blank":
            assert np.asarray(picture_of(web, row["url"]).convert("L")).std() < 1
        if row["kind"] == "cut off":
            with pytest.raises(OSError, match="truncated"):
                picture_of(web, row["url"]).load()


def status_of(url: str) -> int:
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as e:
        return e.code


def test_the_server_answers_as_planted(web: Web, truth: list[dict[str, Any]]) -> None:
    urls: dict[str, list[str]] = {}
    for row in truth:
        urls.setdefault(row["kind"], []).append(row["url"])
    port = int(urls[CLEAN][0].split(":")[2].split("/")[0])
    with serve(web.folder, port) as base:
        for url in urls[CLEAN][:20]:
            with urllib.request.urlopen(url) as answer:
                assert answer.read() == data_of(web, url)
                assert answer.headers["Content-Type"] == "image/" + {"jpg": "jpeg"}.get(url[-3:], url.rsplit(".")[-1])
        assert {status_of(u) for u in urls["gone"]} == {403, 404, 410}
        assert {status_of(u) for u in urls["server error"]} == {500, 503}
        assert {status_of(u) for u in urls["page as image"]} == {200}
        for missing in ("nothing.jpg", "../list.parquet", "..%2flist.parquet", "robots.txt", ""):
            assert status_of(f"{base}/{missing}") == 404
        with pytest.raises(TimeoutError):
            urllib.request.urlopen(urls["never answers"][0], timeout=0.3)
        with pytest.raises(UserError, match=rf"port {port} .* taken .* --port"), serve(web.folder, port):
            pass
    with serve(web.folder, port):  # free again at once, also after the silent answer
        assert status_of(urls[CLEAN][0]) == 200
