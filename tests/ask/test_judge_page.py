"""The page of a comparison of recipes, of one made by hand: what it shows, escapes and refuses, and in a browser."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from browser import chromium

from curate.ask.judge import write_page
from curate.ask.judge.axes import SIDE, Axis
from curate.ask.judge.curves import POINTS, curves, mean, thinned
from curate.ask.judge.disagree import SAMPLES, pairs
from curate.ask.judge.forest import forest
from curate.ask.judge.page import draw
from curate.ask.judge.sizes import HIGH, ROW, _apart, _Label, _meet, sizes
from curate.errors import UserError
from curate.run.compare.found import Comparison, Metric
from tests.ask.diff_parts import HOSTILE
from tests.ask.judge_parts import METRICS, comparison, entry, pool_with_picks
from tests.ask.pages import CONTRAST, Page

TAGS = """html head meta title style body header h1 h2 h3 h4 p dl div dt dd nav ul li a main section table caption thead
tbody tr th td span i b br code figure img figcaption pre wbr details summary svg path"""
TOO_WIDE = """() => [...document.querySelectorAll('body *')]
  .filter(e => e.checkVisibility() && !e.closest('.scroll,.unseen,pre,svg,.skip'))
  .filter(e => e.getBoundingClientRect().right > innerWidth + 1)
  .map(e => e.tagName + '.' + e.className)"""
OVERLAPS = """() => { const boxes = [...document.querySelectorAll('.names span')].map(e => e.getBoundingClientRect());
  return boxes.flatMap((a, i) => boxes.slice(i + 1).filter(b =>
    a.left < b.right - 1 && b.left < a.right - 1 && a.top < b.bottom - 1 && b.top < a.bottom - 1)).length }"""


def over(folder: Path, found: Comparison, texts: list[str]) -> Path:
    """The page of a comparison over a pool that has the picks of its entries."""
    pool, picks = pool_with_picks(folder / "pool", texts)
    entries = tuple(dataclasses.replace(e, pick=picks.get(e.name, e.pick)) for e in found.entries)
    return write_page(dataclasses.replace(found, entries=entries), pool, folder / "out" / "page.html")


@pytest.fixture(scope="module")
def page_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    texts = [*HOSTILE[:5], *(t[:500] for t in HOSTILE[5:]), *(f"caption {i}" for i in range(33))]
    return over(tmp_path_factory.mktemp("page"), comparison(), texts)


@pytest.fixture(scope="module")
def page(page_file: Path) -> Page:
    return Page(page_file.read_text(encoding="utf-8"))


# ---------------------------------------------------------------- what it shows


def test_it_says_the_outcome_and_shows_every_entry(page: Page) -> None:
    words = " ".join(page.text.split())
    assert "dfn30 is better than no filter" in words
    for name in ("dfn30", "dfn50", "dedup", "no_filter", "random, as dfn30", "no_filter again"):
        assert words.count(name) >= 4, name
    for title in ("Differences", "Score against size", "Learning curves", "All metrics", "What they disagree on"):
        assert title in words
    assert "evalsets has no wds_imagenet1k" in words
    assert "curate compare dfn30.yaml dfn50.yaml dedup.yaml --scale tiny --seeds 4" in words
    assert "towers.image_size 32" in words
    assert "runs/dedup/seed3" in words


def test_only_known_tags_and_no_way_out(page: Page) -> None:
    assert {tag for tag, _ in page.tags} <= set(TAGS.split())
    for tag, given in page.tags:
        assert not [name for name in given if name.startswith("on")], tag
        for name in ("href", "src"):
            assert given.get(name, "#").startswith(("#", "data:image/webp;base64,")), (tag, given)


def test_ids_are_unique_and_links_lead_somewhere(page: Page) -> None:
    ids = [given["id"] for _, given in page.tags if "id" in given]
    assert len(ids) == len(set(ids))
    assert {g["href"] for t, g in page.tags if t == "a"} <= {f"#{i}" for i in ids}


def test_the_same_findings_give_the_same_bytes(page_file: Path, tmp_path: Path) -> None:
    texts = [*HOSTILE[:5], *(t[:500] for t in HOSTILE[5:]), *(f"caption {i}" for i in range(33))]
    assert over(tmp_path, comparison(), texts).read_bytes() == page_file.read_bytes()
    assert [p.name for p in page_file.parent.iterdir()] == ["page.html"], "no half-written file stays"


def test_pictures_carry_the_filter_that_decided(page: Page, page_file: Path) -> None:
    source = page_file.read_text(encoding="utf-8")
    section = source[source.index('<section id="pictures"') :]
    images = section.count("<img ")
    assert 2 * SAMPLES <= images <= 5 * 2 * SAMPLES
    assert "matched: not_clip_score" in section
    assert "best: not_top_fraction" in section
    none_dfn30 = section[section.index("<h3>no_filter and dfn30</h3>") : section.index("<h3>no_filter and dfn50</h3>")]
    assert "Only in no_filter: dropped by dfn30" in none_dfn30
    assert "Only in dfn30" not in none_dfn30.split("</p>", 1)[1], "no filter keeps all that a recipe keeps"
    assert none_dfn30.count("<img ") == SAMPLES
    for step in ("near", "matched", "best"):
        assert f"{step}: not_" in none_dfn30, "each filter has its turn"


def test_pairs_are_with_no_filter_then_with_the_leading_recipe() -> None:
    named = [(a.name, b.name) for a, b in pairs(comparison())]
    assert named == [
        ("no_filter", "dfn30"),
        ("no_filter", "dfn50"),
        ("no_filter", "dedup"),
        ("dfn30", "dfn50"),
        ("dfn30", "dedup"),
    ]
    alike = [entry(n, (0, 1), pick="picks/same@0") for n in ("dedup", "no_filter")]
    assert pairs(comparison(entries=alike)) == [], "one pick under two names has nothing to show"


def test_a_pick_that_is_not_there_is_named(tmp_path: Path) -> None:
    pool, _ = pool_with_picks(tmp_path / "pool", [str(i) for i in range(8)])
    with pytest.raises(UserError, match="finished pick of no_filter"):
        write_page(comparison(("dedup", "no_filter"), (0, 1)), pool, tmp_path / "page.html")
    assert not (tmp_path / "page.html").exists()


def test_hostile_names_stay_words() -> None:
    bad = "<script>alert(1)</script>\u202e\x1b[2J'\""
    found = comparison(entries=[entry(n, (0, 1, 2)) for n in (bad, "dedup", "no_filter")])
    found = dataclasses.replace(
        found, pool=bad, scale=bad, command=bad, missing={bad: bad}, config={bad: bad}, environment={bad: {bad: bad}}
    )
    source = draw(found)
    tags = {tag for tag, _ in Page(source).tags}
    assert "script" not in tags
    assert "\x1b" not in source
    assert "\u202e" not in source
    assert source.count("&lt;script&gt;") > 20


# ---------------------------------------------------------------- special comparisons


def test_one_seed_has_no_intervals_and_says_so() -> None:
    words = " ".join(Page(draw(comparison(("dfn30", "no_filter"), (0,)))).text.split())
    assert "with one seed nothing is shown" in words
    assert "one seed: not shown" in words
    assert not {"inf", "nan"} & set(re.findall(r"[a-z]+", words))


def test_runs_without_losses_have_no_curves() -> None:
    found = comparison(("dfn30", "no_filter"), (0, 1))
    bare = [dataclasses.replace(e, runs=tuple(dataclasses.replace(r, curve=()) for r in e.runs)) for e in found.entries]
    assert curves(dataclasses.replace(found, entries=tuple(bare))) == ""
    assert 'id="curves"' not in draw(dataclasses.replace(found, entries=tuple(bare)))


def test_where_smaller_is_better_the_smallest_leads() -> None:
    loss = METRICS[1]
    entries = [
        dataclasses.replace(e, runs=tuple(dataclasses.replace(r, score=r.scores[loss.name]) for r in e.runs))
        for e in comparison().entries
    ]
    others = comparison().others
    found = comparison(
        entries=entries, primary=loss.name, differences=tuple(d for d in others if d.metric == loss.name), others=()
    )
    source = draw(found)
    assert "dfn30 is better than no filter" in source
    assert "+0.4" in source, "turned: above zero is better"
    assert source.index("<h3>dfn30</h3>") < source.index("<h3>dedup</h3>")


# ---------------------------------------------------------------- drawings


def test_what_crosses_zero_is_drawn_across_zero() -> None:
    source = forest(comparison())
    rows = re.findall(r"<li>(.*?)</li>", source)
    assert len(rows) == len(comparison().differences) + 1
    crossing = 0
    for row in rows:
        zero = float(re.findall(r'class="zero" d="M([\d.]+)', row)[0])
        low, high = (
            float(v) for v in re.findall(r'class="interval (?:\w+)" d="M([\d.]+) 500.0 L([\d.]+) 500.0', row)[0]
        )
        at = float(re.findall(r'class="mark \w+" d="M([\d.]+)', row)[0])
        assert 0 <= low <= at <= high <= SIDE
        assert (low <= zero <= high) == ("within noise" in row)
        crossing += low <= zero <= high
    assert crossing == 3


def test_an_axis_spans_and_counts() -> None:
    axis = Axis.over([100, 10_000], log=True)
    assert axis.at(1000) == pytest.approx(0.5)
    assert axis.first < 100 < 10_000 < axis.last
    assert Axis.over([5.0]).at(5.0) == pytest.approx(0.5)
    assert Axis.over([float("nan"), 0.0, 2.0]).at(1.0) == pytest.approx(0.5)
    assert Axis(0, 10).at(99) == 1.0


def test_long_curves_are_thinned_by_means_and_seeds_are_averaged_where_all_are() -> None:
    long = [(i, float(i % 2)) for i in range(1, 12_001)]
    short = thinned(long, 12_000)
    assert len(short) == POINTS
    assert all(loss == pytest.approx(0.5, abs=0.01) for _, loss in short)
    assert [a for a, _ in short] == sorted(a for a, _ in short)
    assert thinned(long[:5], 12_000) == [(float(a), b) for a, b in long[:5]]
    assert mean([[(1, 2.0), (2, 3.0)], [(1, 4.0)]]) == [(1, 3.0)]


@pytest.mark.parametrize("heights", [[100.0] * 6, [HIGH - 1.0] * 6, [5.0, 9.0, 200.0, 210.0, 330.0, 335.0]])
def test_names_stand_apart(heights: list[float]) -> None:
    found = entry("dedup", (0,))
    labels = _apart([_Label(found, 0.2 + 0.001 * i, 1 - top / HIGH, top) for i, top in enumerate(heights)])
    tops = sorted(label.top for label in labels)
    assert all(b - a >= ROW - 1e-9 for a, b in pairwise(tops))
    assert max(tops) <= HIGH - ROW / 2


def test_a_random_control_is_tied_to_its_recipe() -> None:
    source = sizes(comparison())
    assert source.count('class="tie"') == 1
    assert source.count('class="mark one recipe"') == 3 * 4
    assert 'class="mark all a_a"' not in source, "it is no filter again"
    assert _meet(_Label(entry("dedup", ()), 0.3, 0, 0), _Label(entry("no_filter", ()), 0.7, 0, 0)), (
        "both run to the middle"
    )


def test_every_metric_is_there_by_set() -> None:
    source = draw(comparison())
    words = " ".join(Page(source).text.split())
    for metric in METRICS:
        assert metric.name.split("/")[1] in words
    assert words.count("smaller is better") >= 2
    assert Metric("x") not in METRICS
    assert source.count("<details open>") == 1, "the set of the metric that decides"


# ---------------------------------------------------------------- in a browser


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as running:
        yield running


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [400, 1600])
def test_it_fits_loads_nothing_and_is_readable(browser: Any, page_file: Path, width: int, scheme: str) -> None:
    page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
    asked: list[str] = []
    complaints: list[str] = []
    page.on("request", lambda r: asked.append(r.url) if not r.url.startswith("data:") else None)
    page.on("console", lambda m: complaints.append(m.text))
    page.goto(page_file.as_uri())
    assert asked == [page_file.as_uri()]
    assert complaints == []
    page.evaluate("document.querySelectorAll('details').forEach(d => { d.open = true })")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.evaluate(TOO_WIDE) == []
    assert page.evaluate(CONTRAST) == []
    assert page.evaluate(OVERLAPS) == 0
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.close()
