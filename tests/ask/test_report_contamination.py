"""The report on evaluation pictures: what a real run found, by set, with pictures of both sides; no word is trusted."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest

from curate.ask.funnel import funnel
from curate.ask.report.contamination import Contamination, EvalPair, EvalSetFound, bounds, contamination
from curate.ask.report.contamination_section import contamination_section, said
from curate.ask.report.figures import Embedded, Filed
from curate.ask.report.gather import gather
from curate.ask.report.html import page
from curate.ask.report.margins import find_steps
from curate.ask.report.page import draw, style
from curate.ask.report.shards import Ground
from curate.pool.pool import Pool
from filters.decontaminate import Decontaminate
from stages.base import fact
from stages.eval_sets import EvalSet
from tests.ask.pages import Page
from tests.ask.report_runs import run
from tests.ask.reports import HOSTILE, shown, webp
from tests.browser import chromium
from tests.stages.eval_pictures import encoded, facts, photo, write_pictures
from tests.tiny import PIXELS_SETTINGS, add_shard, sample

IMAGES = [
    *(encoded(photo(i), quality=q) for i, q in ((0, 95), (0, 30), (1, 60), (9, 80), (10, 80), (11, 80))),
    encoded(photo(2), "PNG"),
]


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Pool:
    """Seven samples in two shards: four of a set's pictures, three of none."""
    made = Pool.create(str(tmp_path_factory.mktemp("pool")), PIXELS_SETTINGS, 4)
    known = [{k: v for k, v in f.items() if k != "uid"} for f in facts(IMAGES)]
    samples = [sample(n, image=data, **known[n]) for n, data in enumerate(IMAGES)]
    add_shard(made, 0, samples[:4])
    add_shard(made, 1, samples[4:])
    return Pool.open(str(made.storage))


@pytest.fixture(scope="module")
def ground(pool: Pool, tmp_path_factory: pytest.TempPathFactory) -> Ground:
    """A finished pick; the set's folder is gone by then."""
    folder = write_pictures(
        tmp_path_factory.mktemp("set") / "x", {f"{i}.png": encoded(photo(i), "PNG") for i in range(4)}
    )
    sets = (EvalSet(name="mine", path=str(folder)),)
    pick = run(pool, {"clean": Decontaminate(sets=sets, over="pool")})
    for file in folder.iterdir():
        file.unlink()
    return Ground(pool, pick, find_steps(pool, pool.about(pick)), sorted(pool.about(pick)["shards"]))


def test_what_was_found_is_told_by_set_with_both_pictures(ground: Ground) -> None:
    (found,) = contamination(ground)
    assert (found.step, found.components) == ("clean", False)
    assert found.bounds == ("the same bytes", "pHash-256 within 48 bits, in any of eight orientations")
    (one,) = found.sets
    assert (one.name, one.pictures, one.flat, one.broken, one.matched) == ("mine", 4, 0, 0, 3)
    assert one.samples == {"sha256": 1, "phash256": 3, "phash64": 0, "vectors": 0}
    beside = {p.picture.text: p for p in one.pairs}
    assert {name: p.samples for name, p in beside.items()} == {"0.png": 2, "1.png": 1, "2.png": 1}
    assert all(p.picture.thumbnail and p.sample and p.sample.thumbnail for p in one.pairs)
    assert beside["2.png"].sample is not None
    assert (beside["2.png"].sample.shard, beside["2.png"].sample.row, beside["2.png"].by) == (1, 2, "sha256")


def test_the_section_has_numbers_and_pictures(ground: Ground, tmp_path: Path) -> None:
    found = contamination(ground)
    pick = funnel(ground.pool, ground.pick)
    read = Page(contamination_section(found, pick, Embedded()))
    assert sum(tag == "img" for tag, _ in read.tags) == 6
    assert "3 (75.0%)" in read.text
    assert "same bytes 1, pHash-256 3" in read.text
    assert "2 samples match this picture" in read.text
    assert len(Page(contamination_section(found, pick, Embedded(), 1)).tags) < len(read.tags)
    filed = Page(contamination_section(found, pick, Filed(tmp_path)))
    sources = {a["src"] for tag, a in filed.tags if tag == "img"}
    assert len(sources) == 6
    assert all((tmp_path / str(s)).is_file() for s in sources)
    assert contamination_section([], pick, Embedded()) == ""


def test_it_stands_on_the_page_of_the_report(ground: Ground) -> None:
    html = draw(gather(ground.pool, ground.pick))
    read = Page(html)
    assert ("section", {"id": "evaluation"}) in read.tags
    assert ("a", {"href": "#evaluation"}) in read.tags
    assert "2 samples match this picture" in read.text


def test_what_was_removed_since_is_not_shown(ground: Ground) -> None:
    (before,) = contamination(ground)
    gone = before.sets[0].pairs[0].sample
    assert gone is not None
    without = replace(ground)
    without.__dict__["removed"] = pa.array([gone.uid], pa.binary(16))
    (found,) = contamination(without)
    assert found.sets[0].pairs[0].sample is None
    html = contamination_section([found], funnel(ground.pool, ground.pick), Embedded())
    assert "removed since" in html
    assert gone.uid.hex() not in html


def hostile() -> Contamination:
    pairs = []
    for n, (words, by) in enumerate(zip(HOSTILE, ("sha256", "phash256", "phash64", "vectors") * 2, strict=True)):
        picture = shown(900 + n, text=words, thumbnail=webp(n) if n % 3 else None, why_not="no")
        pairs.append(EvalPair(picture, shown(n), by, 0.25, 3, True))
    counts = {"sha256": 2, "phash256": 2, "phash64": 2, "vectors": 2}
    return Contamination(HOSTILE[0], (HOSTILE[1],), True, (EvalSetFound(HOSTILE[2], 0, 1, 1, 8, counts, tuple(pairs)),))


def test_hostile_names_stay_words(ground: Ground) -> None:
    html = contamination_section([hostile()], funnel(ground.pool, ground.pick), Embedded())
    read = Page(html)
    assert {tag for tag, _ in read.tags}.isdisjoint({"script", "style", "iframe", "object", "link"})
    assert not [a for _, attributes in read.tags for a in attributes if a.startswith("on")]
    assert "\x1b" not in html
    assert "\u202e" not in html
    assert all(str(a["src"]).startswith("data:image/webp;base64,") for tag, a in read.tags if tag == "img")


def test_a_browser_shows_it_and_runs_nothing(ground: Ground, tmp_path: Path) -> None:
    found = [*contamination(ground), hostile()]
    html = contamination_section(found, funnel(ground.pool, ground.pick), Embedded())
    (tmp_path / "page.html").write_text(page("a report", style(), html), encoding="utf-8")
    with chromium() as browser:
        view = browser.new_page(viewport={"width": 400, "height": 800})
        view.goto(f"file://{tmp_path}/page.html")
        assert view.title() == "a report"
        loaded = "Array.from(document.images).every(i => { i.loading = 'eager'; return true })"
        assert view.evaluate(loaded)
        view.wait_for_function("Array.from(document.images).every(i => i.complete && i.naturalWidth > 0)")
        assert view.evaluate("document.documentElement.scrollWidth") <= 400
        view.screenshot(path=str(tmp_path / "page.png"), full_page=True)
        assert (tmp_path / "page.png").stat().st_size > 10_000


@pytest.mark.parametrize(
    ("by", "words"), [("sha256", "same bytes"), ("phash64", "3 bits of 64"), ("vectors", "cosine -2")]
)
def test_why_two_match_is_said(by: str, words: str) -> None:
    assert words in said(EvalPair(shown(1), None, by, 3.0, 1, True))


def test_bounds_are_said_as_the_filter_has_them(tmp_path: Path) -> None:
    vectors = EvalSet(name="a", vectors=str(tmp_path / "v.npy"))
    chosen = Decontaminate(sets=(vectors,), vectors=fact("isc"), above=0.604169, over="pool")
    assert bounds(chosen.model_dump(mode="json")) == ("cosine of isc above 0.604169",)
