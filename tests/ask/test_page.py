"""The drawing of a report: numbers into words, histograms into lines, and the folder version."""

from __future__ import annotations

import base64
import math
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curate.ask.report import folder as folder_module
from curate.ask.report import write_report
from curate.ask.report.figures import LONG, SHORT, caption
from curate.ask.report.page import draw, style
from curate.ask.report.plots import HIGH, WIDE, histogram, nice, said
from curate.ask.report.sections import sentence
from curate.ask.report.words import brief
from curate.errors import UserError
from curate.pool.pool import Pool
from tests import pools
from tests.ask.pages import Page, drawn
from tests.ask.reports import HOSTILE, found, plot, shown


def words(html: str) -> str:
    return re.sub(r"\s+", " ", Page(html).text)


def test_the_page_says_all_that_was_found() -> None:
    told = words(draw(found()))
    for part in (
        "Of 1,000 samples this recipe kept 600 (60.0%); most were dropped by size (300) and near (100).",
        "90.0 % of 1,000 URLs came: <i>nothing</i> unusual.",
        "a<b>.test 100 60.0% gone or forbidden (4xx) 40",
        "Hosts with the most failures, 1 of 12",
        "min_side 100 →", "← max_side 350", "3 below 0; 7 above 400; 2 without a value", "logarithmic axis",
        "shorter side 99 (min_side 100)", "just lost", "just kept",
        "1,234 alike", "and 1,229 more", "5 to 9 2", "1,000 and more 1",
        "<zh> 300 100 33.3%",
        "ingest 10 1,000 2m 3s 8 1m 0s 1",
        "curate sql POOL",
        "no picture: purged", "no caption",
        "recipe: mine # </pre><script>",
    ):  # fmt: skip
        assert part in told, part


def test_lists_of_uids_can_be_taken_from_the_page() -> None:
    page = Page(draw(found()))
    (link,) = [a for t, a in page.tags if t == "a" and "download" in a]
    assert link["download"] == "size-min_side.txt"
    data = base64.b64decode(link["href"].removeprefix("data:text/plain;base64,")).decode()
    assert data == "".join(f"{i:032x}\n" for i in range(3))


def test_the_same_findings_give_the_same_page() -> None:
    assert draw(found()) == draw(found())


@pytest.mark.parametrize(("rows", "kept"), [(0, "no sample with an image"), (400, "kept 0 (0.0%)")])
def test_a_pick_of_nothing(rows: int, kept: str) -> None:
    made = found()
    pick = made.pick.__class__("mine", "picks/mine@1", rows, 0, 0, [] if not rows else made.pick.steps)
    assert kept in sentence(pick)


# ---------------------------------------------------------------- histograms


def rects(svg: str) -> list[tuple[str, float, float, float, float]]:
    found = re.findall(r'<rect class="(\w+)" x="([\d.]+)" y="([\d.-]+)" width="([\d.]+)" height="([\d.]+)"/>', svg)
    return [(kind, *map(float, rest)) for kind, *rest in found]  # type: ignore[misc]


def test_bars_stand_on_the_axis_and_none_leaves_the_drawing() -> None:
    h = plot()
    drawn_bars = rects(histogram(h))
    assert sum(kind == "lose" for kind, *_ in drawn_bars) == 10
    assert all(
        0 <= x <= WIDE and x + w <= WIDE + 0.1 and y >= 0 and y + height <= HIGH + 0.1
        for _, x, y, w, height in drawn_bars
    )
    tallest = max(HIGH - y for _, _, y, _, _ in drawn_bars)
    assert tallest == pytest.approx(HIGH - 4, abs=1)


def test_the_line_stands_where_the_bound_is() -> None:
    assert f'x1="{WIDE / 4:.1f}"' in histogram(plot())
    log = plot(edges=(1.0, 10.0, 100.0), kept=(1, 1), lost=(0, 0), other=(0, 0), log=True)
    assert f'x1="{WIDE:.1f}"' in histogram(log), "100 of 1 to 100"


def test_a_histogram_of_nothing_is_drawn() -> None:
    empty = plot(edges=(0.0, 1.0), kept=(0,), lost=(0,), other=(0,), thresholds=(), below=0, above=0, missing=9)
    assert rects(histogram(empty)) == []
    assert "9 without a value" in histogram(empty)
    assert "0 kept, 0 dropped here" in said(empty)


@given(st.floats(-1e9, 1e9), st.floats(1e-3, 1e12))
def test_ticks_are_few_round_and_inside(first: float, width: float) -> None:
    last = first + width
    ticks = nice(first, last, log=False)
    slack = max(last - first, abs(first)) * 1e-6
    assert len(ticks) <= 12
    assert all(first - slack <= t <= last + slack for t in ticks)
    assert ticks == sorted(ticks)


@given(st.floats(1e-6, 1e6), st.floats(1.01, 1e9))
def test_ticks_of_a_logarithmic_axis(first: float, factor: float) -> None:
    ticks = nice(first, first * factor, log=True)
    assert len(ticks) <= 12
    assert all(first <= t <= first * factor for t in ticks)
    assert all(math.isclose(float(f"{t:.0e}"), t, rel_tol=1e-9) for t in ticks)


@pytest.mark.parametrize(
    ("value", "label"), [(0.25, "0.25"), (1500, "1,500"), (20_000, "20k"), (3e6, "3M"), (-0.5, "-0.5"), (0, "0")]
)
def test_numbers_of_an_axis(value: float, label: str) -> None:
    assert brief(value) == label


# ---------------------------------------------------------------- words


def test_a_long_caption_can_be_opened_and_is_bounded() -> None:
    html = caption("y" * 1_000_000)
    page = Page(html)
    assert [t for t, _ in page.tags] == ["details", "summary", "p"]
    assert len(html) < SHORT + LONG + 200
    assert "(1,000,000 characters)" in page.text
    assert Page(caption("short")).tags == [("p", {"dir": "auto"})]


@pytest.mark.parametrize("hostile", HOSTILE)
def test_hostile_captions_stay_text(hostile: str) -> None:
    page = Page(draw(found(final=[shown(1, text=hostile)])))
    assert not [t for t, _ in page.tags if t in ("script", "style")][1:], "one style of ours"
    assert not [a for _, attrs in page.tags for a in attrs if a.startswith("on")]


def luminance(hex_colour: str) -> float:
    wide = hex_colour if len(hex_colour) == 7 else "#" + "".join(c * 2 for c in hex_colour[1:])
    channels = [int(wide[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(a: str, b: str) -> float:
    high, low = sorted((luminance(a), luminance(b)), reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("scheme", [0, 1])
def test_letters_stand_out_in_both_schemes(scheme: int) -> None:
    palettes = re.findall(r":root\{(--bg[^}]*)\}", style())
    colours = dict(re.findall(r"--(\w+):(#[0-9a-f]{3,6})", palettes[scheme]))
    for ink in ("ink", "soft", "lose", "keep"):
        for ground in ("bg", "card"):
            assert contrast(colours[ink], colours[ground]) >= 4.5, (ink, ground)
    for ground in ("lose", "keep"):
        assert contrast(colours["card"], colours[ground]) >= 4.5, f"words on a band of {ground}"


# ---------------------------------------------------------------- the folder


@pytest.fixture
def pool(tmp_path: Path) -> tuple[Pool, str]:
    made = pools.empty_pool(tmp_path / "pool", [2])
    for shard in range(2):
        pools.write_photos(made, shard, drawn(20), [f"{HOSTILE[i % 8][:50]} {i}" for i in range(20)])
    verdict = pools.add_verdict(made, "where", lambda s, u: np.arange(len(u)) < 6)
    return made, pools.add_pick(made, "demo", [("a/b: <c>", verdict)])


def test_a_folder_has_pages_of_samples_and_whole_lists(
    pool: tuple[Pool, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folder_module, "ON_INDEX", 8)
    monkeypatch.setattr(folder_module, "ON_PAGE", 10)
    out = tmp_path / "report"
    assert write_report(*pool, tmp_path / "unused.html", folder=out) == out / "index.html"
    assert sorted(p.name for p in out.glob("filter-1-lost-*.html")) == [f"filter-1-lost-{n}.html" for n in (1, 2, 3)]
    every = list(out.rglob("*.html"))
    for path in every:
        page = Page(path.read_text())
        for tag, attrs in page.tags:
            target = attrs.get("src") or attrs.get("href")
            if target and not target.startswith("#"):
                assert (path.parent / target.split("#")[0]).is_file(), (path.name, tag, target)
            assert tag != "script"
    (listed,) = (out / "uids").glob("*.txt")
    lines = listed.read_text().splitlines()
    assert len(lines) == 28
    lost = {u.hex() for s in range(2) for u in pool[0].facts(s, ["uid"])[0].column("uid").to_pylist()[6:]}
    assert set(lines) == lost
    assert not list(tmp_path.glob(".report*")), "nothing half-made stays"


def test_a_newer_report_takes_the_place_of_an_older_and_of_nothing_else(pool: tuple[Pool, str], tmp_path: Path) -> None:
    out = tmp_path / "report"
    write_report(*pool, tmp_path / "x", folder=out)
    (out / "old.txt").touch()
    write_report(*pool, tmp_path / "x", folder=out)
    assert not (out / "old.txt").exists()
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "thesis.tex").write_text("years of work")
    with pytest.raises(UserError, match="mine: is there, and is no report of curate's"):
        write_report(*pool, tmp_path / "x", folder=mine)
    assert (mine / "thesis.tex").read_text() == "years of work"


def test_removed_samples_are_in_no_list(pool: tuple[Pool, str], tmp_path: Path) -> None:
    uid = pool[0].facts(0, ["uid"])[0].column("uid")[10:11].combine_chunks()
    pool[0].remove(uid, "takedown")
    out = tmp_path / "report"
    write_report(Pool.open(pool[0].storage.url), pool[1], tmp_path / "x", folder=out)
    text = "".join(p.read_text(errors="replace") for p in out.rglob("*") if p.suffix in (".html", ".txt"))
    assert uid[0].as_py().hex() not in text
