"""The report in a real Chromium: offline, at two widths, dark and light, by keyboard, with hostile captions."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browser import chromium

from curate.ask.report import folder as folder_module
from curate.ask.report import write_report
from curate.ask.report.page import draw
from tests import pools
from tests.ask.pages import CONTRAST, drawn
from tests.ask.reports import HOSTILE, found


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as running:
        yield running


@pytest.fixture(scope="module")
def page_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page") / "report.html"
    path.write_text(draw(found()), encoding="utf-8")
    return path


class Open:
    """A page that was opened, with all that it asked of the network and complained of."""

    def __init__(self, browser: Any, path: Path, **more: Any) -> None:
        self.context = browser.new_context(**more)
        self.requests: list[str] = []
        self.complaints: list[str] = []
        self.page = self.context.new_page()
        self.page.on("request", lambda r: self.requests.append(r.url))
        self.page.on("console", lambda m: self.complaints.append(m.text))
        self.page.on("pageerror", lambda e: self.complaints.append(str(e)))
        self.page.goto(path.as_uri())

    def __enter__(self) -> Open:
        return self

    def __exit__(self, *_: object) -> None:
        self.context.close()

    def js(self, expression: str) -> Any:
        return self.page.evaluate(expression)


def size(width: int) -> dict[str, Any]:
    return {"viewport": {"width": width, "height": 900}}


def test_it_opens_without_a_network(browser: Any, page_file: Path) -> None:
    with Open(browser, page_file, offline=True) as opened:
        assert [r for r in opened.requests if not r.startswith("data:")] == [page_file.as_uri()]
        assert opened.complaints == []
        assert "Of 1,000 samples this recipe kept 600" in opened.page.inner_text("header")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [400, 1600])
def test_it_fits_and_can_be_read(browser: Any, page_file: Path, width: int, scheme: str) -> None:
    with Open(browser, page_file, color_scheme=scheme, **size(width)) as opened:
        assert opened.js("document.documentElement.scrollWidth") <= width
        assert opened.js(CONTRAST) == []
        for details in opened.page.query_selector_all("details"):
            details.evaluate("d => d.open = true")
        assert opened.js("document.documentElement.scrollWidth") <= width, "also with everything open"


def test_dark_is_dark(browser: Any, page_file: Path) -> None:
    grounds = []
    for scheme in ("light", "dark"):
        with Open(browser, page_file, color_scheme=scheme) as opened:
            grounds.append(opened.js("getComputedStyle(document.documentElement).backgroundColor"))
    light, dark = (sum(map(int, g.removeprefix("rgb(").rstrip(")").split(","))) for g in grounds)
    assert light > 600
    assert dark < 150


def test_pictures_are_there_and_have_words(browser: Any, page_file: Path) -> None:
    with Open(browser, page_file) as opened:
        opened.js("document.querySelectorAll('img').forEach(i => { i.loading = 'eager' })")
        opened.page.wait_for_function("[...document.images].every(i => i.complete)")
        found = opened.js("[...document.images].map(i => [i.naturalWidth, i.alt.length])")
        assert len(found) > 20
        assert all(wide > 0 and said > 0 for wide, said in found)
        drawn = opened.js("[...document.querySelectorAll('svg[role=img]')].map(s => s.getAttribute('aria-label'))")
        assert any("dropped here" in label for label in drawn)


def test_headings_follow_each_other_and_landmarks_are_there(browser: Any, page_file: Path) -> None:
    with Open(browser, page_file) as opened:
        levels = opened.js("[...document.querySelectorAll('h1,h2,h3,h4,h5,h6')].map(h => +h.tagName[1])")
        assert levels[0] == 1
        assert levels.count(1) == 1
        assert all(after <= before + 1 for before, after in pairwise(levels)), "no level is passed over"
        assert opened.js("['header', 'nav', 'main', 'footer'].every(n => document.querySelector(n))")
        assert opened.js(
            "[...document.querySelectorAll('table')].every(t => t.caption && t.querySelector('th[scope]'))"
        )


def test_everything_can_be_reached_by_keyboard_and_seen(browser: Any, page_file: Path) -> None:
    with Open(browser, page_file) as opened:
        wanted = opened.js(
            "[...document.querySelectorAll('a[href],summary,[tabindex=\"0\"]')].filter(e => e.checkVisibility()).length"
        )
        seen = set()
        opened.js("[...document.querySelectorAll('*')].forEach((e, i) => e.dataset.n = i)")
        for _ in range(wanted + 5):
            opened.page.keyboard.press("Tab")
            number, outline = opened.js(
                "[document.activeElement.dataset.n, getComputedStyle(document.activeElement).outlineStyle]"
            )
            if number is not None and opened.js("document.activeElement !== document.body"):
                seen.add(number)
                assert outline != "none"
        assert len(seen) >= wanted
        opened.page.reload()
        opened.page.keyboard.press("Tab")
        assert opened.js("document.activeElement.className") == "skip", "first of all, past the navigation"
        opened.page.keyboard.press("Enter")
        assert opened.js("location.hash") == "#main"


def test_a_list_of_uids_can_be_downloaded(browser: Any, page_file: Path, tmp_path: Path) -> None:
    with Open(browser, page_file, accept_downloads=True) as opened:
        with opened.page.expect_download() as waiting:
            opened.page.click("a[download]")
        download = waiting.value
        assert download.suggested_filename == "size-min_side.txt"
        download.save_as(tmp_path / "uids.txt")
        assert (tmp_path / "uids.txt").read_text() == "".join(f"{i:032x}\n" for i in range(3))


@pytest.mark.parametrize("script", [True, False])
def test_hostile_captions_do_nothing(browser: Any, page_file: Path, script: bool) -> None:
    with Open(browser, page_file, java_script_enabled=script) as opened:
        assert opened.page.title() == "mine <b>: 600 of 1,000 samples"
        text = opened.page.inner_text("body")
        assert HOSTILE[0] in text
        assert HOSTILE[3] in text
        assert "\u202e" not in text
        assert opened.page.locator("main").is_visible()
        assert opened.page.locator("script").count() == 0


def test_a_long_caption_opens_by_keyboard(browser: Any, page_file: Path) -> None:
    with Open(browser, page_file, **size(400)) as opened:
        summary = opened.page.locator("details.long summary").first
        summary.focus()
        opened.page.keyboard.press("Enter")
        assert opened.page.locator("details.long[open] p").first.is_visible()
        assert opened.js("document.documentElement.scrollWidth") <= 400


def test_the_folder_can_be_walked(browser: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folder_module, "ON_INDEX", 4)
    monkeypatch.setattr(folder_module, "ON_PAGE", 6)
    pool = pools.empty_pool(tmp_path / "pool", [1])
    pools.write_photos(pool, 0, drawn(30), [f"caption {i}" for i in range(30)])
    verdict = pools.add_verdict(pool, "where", lambda s, u: np.arange(len(u)) < 10)
    index = write_report(
        pool, pools.add_pick(pool, "demo", [("first", verdict)]), tmp_path / "x", folder=tmp_path / "r"
    )
    with Open(browser, index, offline=True) as opened:
        opened.page.click("text=More of them >> nth=0")
        assert "lost, page 1 of 4" in opened.page.inner_text("h1")
        for number in (2, 3, 4):
            opened.page.click("a[rel=next]")
            assert f"page {number} of 4" in opened.page.inner_text("h1")
        assert opened.page.locator("a[rel=next]").count() == 0
        opened.js("document.querySelectorAll('img').forEach(i => { i.loading = 'eager' })")
        opened.page.wait_for_function("[...document.images].every(i => i.complete)")
        assert opened.js("[...document.images].every(i => i.naturalWidth > 0)"), "pictures beside the page are shown"
        opened.page.click("text=back to first")
        assert opened.page.url.endswith("index.html#filter-1")
        assert opened.complaints == []
