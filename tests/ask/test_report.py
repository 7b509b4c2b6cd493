"""The report: every word from the web escaped, every picture its own thumbnail, the same page every time."""

from __future__ import annotations

import base64
import io
import re
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from curate.ask.pictures import SIDE
from curate.ask.report import write_report
from curate.ask.report.html import bar, text
from curate.ask.report.words import IN_WORDS
from curate.errors import UserError
from curate.pool.facts import OUTCOMES
from curate.pool.layout import PIXELS
from curate.pool.pool import Pool
from tests import pools
from tests.ask.pages import Page, drawn

HOSTILE = [
    "<script>alert(1)</script>",
    "\"><img src=x onerror='alert(1)'>",
    "</figcaption></figure></main><style>body{display:none}</style>",
    "&lt;b&gt; &amp; &#x3c;",
    "‮gnp.exe‬ right to left \x1b[2J \x00",
    "x" * 1_000_000,
    "صورة لكلب يركض",
    "' onmouseover='alert(1)",
]
OURS = """html head meta title style body header h1 h2 h3 h4 p dl div dt dd nav ul li a main section table caption thead
tbody tr th td span i code details summary figure img figcaption pre footer svg defs pattern rect circle line"""


def small_pool(root: Path, texts: list[str]) -> tuple[Pool, str]:
    """Two shards with these captions; a filter that drops odd rows, one that drops duplicates of row 0."""
    pool = pools.empty_pool(root, [2])
    for shard in range(2):
        pools.write_photos(pool, shard, drawn(len(texts)), texts)
    odd = pools.add_verdict(pool, "where", lambda s, u: np.arange(len(u)) % 2 == 0)

    def one_of_each(shard: int, uid: pa.Array) -> pa.Table:
        keep = np.arange(len(uid)) < len(uid) - 2
        dup = pa.array([None if k else uid[0].as_py() for k in keep], pa.binary(16))
        reason = pa.array([None if k else "near_duplicate" for k in keep], pa.string())
        return pa.table({"keep": keep, "reason": reason, "dup_of": dup})

    groups = pools.add_verdict(pool, "keep_one", one_of_each)
    return pool, pools.add_pick(pool, "demo", [("even", odd), ("one_of_each", groups)])


def report(pool: Pool, pick: str, out: Path) -> str:
    assert write_report(pool, pick, out) == out
    return out.read_text(encoding="utf-8")


# ---------------------------------------------------------------- hostile words


def test_nothing_of_a_caption_becomes_markup(tmp_path):
    pool, pick = small_pool(tmp_path / "pool", HOSTILE)
    pools.add_fetches(pool, 0, ["ok"] * 8 + ["<b>new</b>"])
    source = report(pool, pick, tmp_path / "page.html")
    page = Page(source)
    assert {t for t, _ in page.tags} <= set(OURS.split())
    assert not [a for _, attrs in page.tags for a in attrs if a.startswith("on")]
    for caption in ("<script>alert(1)</script>", "&lt;b&gt; &amp; &#x3c;", "صورة لكلب يركض", "<b>new</b>"):
        assert caption in page.text
    assert "\\u202egnp.exe\\u202c right to left \\u001b[2J \\u0000" in page.text
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", source)
    assert "… (1,000,000 characters)" in page.text
    assert len(source) < 200_000


def test_the_page_loads_and_runs_nothing(tmp_path):
    pool, pick = small_pool(tmp_path / "pool", [f"caption {i}" for i in range(6)])
    page = Page(report(pool, pick, tmp_path / "page.html"))
    policy = [a["content"] for t, a in page.tags if a.get("http-equiv") == "Content-Security-Policy"]
    assert policy == ["default-src 'none'; img-src data:; style-src 'unsafe-inline'"]
    for tag, attrs in page.tags:
        assert attrs.get("src", "data:image/webp;base64,").startswith("data:image/webp;base64,")
        assert (attrs.get("href") or "#").startswith(("#", "data:text/plain;base64,"))
        assert tag not in ("script", "iframe", "object", "embed", "link", "base", "form")
    anchors = {a["href"][1:] for t, a in page.tags if t == "a" and "download" not in a}
    assert anchors <= {a["id"] for _, a in page.tags if "id" in a}
    assert set(re.findall(r"url\(([^)]*)\)", (tmp_path / "page.html").read_text())) == {"#hatch", "#dots"}


@given(st.text())
def test_text_is_escaped_whatever_it_is(raw):
    page = Page(f"<p title='{text(raw)}'>{text(raw)}</p>")
    assert [t for t, _ in page.tags] == ["p"]
    assert list(page.tags[0][1]) == ["title"]
    assert page.tags[0][1]["title"] == "".join(page.words)


# ---------------------------------------------------------------- pictures and samples


def test_every_picture_decodes_and_is_a_thumbnail(tmp_path):
    pool, pick = small_pool(tmp_path / "pool", [f"caption {i}" for i in range(10)])
    page = Page(report(pool, pick, tmp_path / "page.html"))
    sources = [a["src"] for t, a in page.tags if t == "img"]
    # 10 odd and 10 even of the first filter; of the second, 2 lost beside 2 keepers, and 8 kept
    # then two groups of three, and 8 of what was kept in the end
    assert len(sources) == 10 + 10 + 4 + 8 + 2 * 3 + 8
    for source in sources:
        image = Image.open(io.BytesIO(base64.b64decode(source.removeprefix("data:image/webp;base64,"))))
        image.load()
        assert (image.format, max(image.size)) == ("WEBP", SIDE)
        assert abs(image.width / image.height - 4 / 3) < 0.02
    assert all(a.get("alt") for t, a in page.tags if t == "img")


def test_removed_and_purged_and_broken_samples(tmp_path):
    pool, pick = small_pool(tmp_path / "pool", [f"caption {i}" for i in range(6)])
    facts, footer = pool.facts(0)
    tar = tmp_path / "pool" / PIXELS / footer["tar"]
    data = bytearray(tar.read_bytes())
    spans = list(zip(facts.column("tar_offset").to_pylist(), facts.column("bytes").to_pylist(), strict=True))
    data[spans[1][0] : sum(spans[1])] = bytes(spans[1][1])
    data[spans[3][0] : sum(spans[3])] = (b"<svg onload=alert(1)>" * 1000)[: spans[3][1]]
    tar.write_bytes(data)
    gone = facts.column("uid")[5].as_py()
    pool.remove(pa.array([gone], pa.binary(16)), "takedown")
    page = Page(report(Pool.open(pool.storage.url), pick, tmp_path / "page.html"))
    assert "no picture: purged" in page.text
    assert len(re.findall("no picture: (?!purged)", page.text)) == 1
    assert gone.hex() not in page.text


def test_the_numbers_on_the_page(tmp_path):
    pool, pick = small_pool(tmp_path / "pool", [f"caption {i}" for i in range(10)])
    pools.add_fetches(pool, 0, ["ok"] * 10 + ["http_4xx"] * 3 + ["dns"])
    pools.add_fetches(pool, 0, ["ok"] * 10 + ["http_4xx"] * 3 + ["timeout"], attempt=1)
    pools.add_column(pool, "language", lambda s, u: pa.table({"lang": ["en", "zh"] * (len(u) // 2)}))
    source = report(pool, pick, tmp_path / "page.html")
    words = re.sub(r"\s+", " ", Page(source).text)
    assert "samples with an image 20 kept 8 share 40.0% shards 2" in words
    assert "even (where) 10 10 10 not_where 10" in words
    assert "one_of_each (keep_one) 8 2 4 near_duplicate 4" in words
    assert "gone or forbidden (4xx) http_4xx 3 21.4%" in words
    assert "too slow timeout 1 7.1%" in words
    assert "host name not found" not in words
    assert "en 10 8 80.0% zh 10 0 0.0%" in words
    assert pick in words
    assert "# demo filters: - even - one_of_each" in words


def test_every_outcome_has_plain_words():
    assert set(IN_WORDS) == set(OUTCOMES)


def test_bars_are_shares():
    assert "width:25.00%" in bar([(1, "keep"), (0, "lose")], 4, "a quarter")
    assert bar([(0, "keep")], 0, "of nothing").count("<span") == 0


def test_an_empty_pick(tmp_path):
    pool = pools.synthetic(tmp_path / "pool", [0])
    pick = pools.add_pick(pool, "demo", [("w", pools.add_verdict(pool, "where", lambda s, u: np.ones(0, bool)))])
    assert "0 of 0 samples" in report(pool, pick, tmp_path / "page.html")


def test_an_unfinished_pick_is_told(tmp_path):
    pool, pick = small_pool(tmp_path / "pool", ["a", "b"])
    (tmp_path / "pool" / pick / "00000001.parquet").unlink()
    with pytest.raises(UserError, match=r"00000001.parquet is missing: the pick is not finished"):
        write_report(pool, pick, tmp_path / "page.html")
    with pytest.raises(UserError, match=r"is this a pick\?"):
        write_report(pool, "picks/none@0", tmp_path / "page.html")


def test_real_photos(tmp_path, shared_data):
    pool = pools.photos(tmp_path / "pool", shared_data, 2, 20)
    pick = pools.add_pick(
        pool, "photos", [("w", pools.add_verdict(pool, "where", lambda s, u: np.arange(len(u)) % 3 > 0))]
    )
    page = Page(report(pool, pick, tmp_path / "page.html"))
    assert sum(t == "img" for t, _ in page.tags) == 14 + 24 + 24, "lost, kept by the filter, kept in the end"
    assert "no picture" not in page.text
