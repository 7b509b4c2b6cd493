"""The comparison's page in a real Chromium: asks for nothing, fits both widths, is readable dark and light."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browser import chromium

from curate.ask.diff import print_diff
from tests import pools
from tests.ask.diff_parts import HOSTILE
from tests.ask.pages import CONTRAST, drawn

TOO_WIDE = """() => [...document.querySelectorAll('body *')]
  .filter(e => e.checkVisibility() && !e.closest('.scroll,.unseen,pre'))
  .filter(e => e.getBoundingClientRect().right > innerWidth + 1)
  .map(e => e.tagName + '.' + e.className)"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as running:
        yield running


@pytest.fixture(scope="module")
def page_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("page")
    pool = pools.empty_pool(folder / "pool", [2])
    texts = [*HOSTILE[:5], *(t[:500] for t in HOSTILE[5:])] * 4
    for shard in range(2):
        pools.write_photos(pool, shard, drawn(len(texts)), texts)
    long = "a_filter_with_a_name_that_" + "never_ends_" * 12
    first = pools.add_verdict(pool, "first", lambda s, u: np.arange(len(u)) % 3 > 0)
    other = pools.add_verdict(pool, "other", lambda s, u: np.arange(len(u)) % 4 > 0)
    a = pools.add_pick(pool, "a" * 80, [(long, first)])
    b = pools.add_pick(pool, "<b>", [("other", other)])
    print_diff(
        a, b, pool=str(folder / "pool"), overrides=[], out=folder / "page.html", page=True, as_json=False
    )  # fmt: skip
    return folder / "page.html"


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [400, 1600])
def test_it_fits_loads_nothing_and_is_readable(browser, page_file, width, scheme):
    page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
    asked: list[str] = []
    complaints: list[str] = []
    page.on("request", lambda r: asked.append(r.url) if not r.url.startswith("data:") else None)
    page.on("console", lambda m: complaints.append(m.text))
    page.goto(page_file.as_uri())
    assert asked == [page_file.as_uri()]
    assert complaints == []
    assert page.title().endswith("compared")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.evaluate(TOO_WIDE) == []
    assert page.evaluate(CONTRAST) == []
    assert page.evaluate("document.querySelectorAll('img').length") == 2 * (7 + 4)
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.getAttribute('href')") == "#overlap"
    page.keyboard.press("Enter")
    assert page.url.endswith("#overlap")
    page.close()
