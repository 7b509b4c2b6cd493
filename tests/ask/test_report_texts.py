"""A report shows the texts that go into training: those of the pick, whoever wrote them, as text."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest
from run.caption_parts import Captioned, captioned

from curate.ask.pictures import Emitted, Shown
from curate.ask.report.emitted import emitted
from curate.ask.report.figures import MOST, in_the_pick
from curate.ask.report.found import Found
from curate.ask.report.gather import _with_texts, gather
from curate.ask.report.page import draw
from curate.ask.report.shards import Ground
from curate.errors import UserError
from curate.pool.columns import read_table, write_parquet
from tests.ask.pages import Page
from tests.ask.reports import HOSTILE

SAYS = "run.caption_parts:Says"
MAKE = f"  make: [{{{SAYS}: {{name: one}}}}, {{{SAYS}: {{name: few, n: 2}}}}]\n"
TEXTS = ["a", "b silent", "c", "dropped d"]


@pytest.fixture
def case(tmp_path: Path) -> Captioned:
    return captioned(tmp_path, TEXTS * 3, shards=2)


def reported(case: Captioned, emit: str) -> Found:
    """What a report finds after this recipe, which drops texts with `dropped`."""
    outcome = case.run(f"filters: [where: \"text NOT LIKE 'dropped%'\"]\ncaptions:\n{MAKE}  emit: {emit}\n")
    return gather(case.pool, outcome.pick)


def texts_of(found: Found) -> dict[str, list[tuple[str, str, float, int]]]:
    return {
        str(s.text): [(t.source, t.text, round(t.p, 4), t.copies) for t in s.texts]
        for s in (*found.final, *found.filters["where"].lost, *found.filters["where"].kept)
    }


def test_samples_have_the_texts_of_the_pick_with_source_and_share(case: Captioned) -> None:
    found = reported(case, "[{texts: [{source: web, p: 1}, {source: one, p: 1}, {source: few, p: 2}]}]")
    assert texts_of(found) == {
        "a": [
            ("web", "a", 0.25, 1),
            ("one", "0 of a", 0.25, 1),
            ("few", "0 of a", 0.25, 1),
            ("few", "1 of a", 0.25, 1),
        ],
        "b silent": [],  # its own text alone, which stands there as ever
        "c": [
            ("web", "c", 0.25, 1),
            ("one", "0 of c", 0.25, 1),
            ("few", "0 of c", 0.25, 1),
            ("few", "1 of c", 0.25, 1),
        ],
        "dropped d": [],
    }
    told = Page(draw(found)).text
    assert "few · 25.0%" in told
    assert "1 of c" in told
    assert "0 of b silent" not in told


def test_several_ways_to_go_on_and_copies(case: Captioned) -> None:
    found = reported(case, "[{texts: [{source: web}]}, {copies: 3, texts: [{source: one}]}]")
    assert texts_of(found)["a"] == [("web", "a", 1.0, 1), ("one", "0 of a", 1.0, 3)]
    told = Page(draw(found)).text
    assert "one · 3 copies" in told
    assert "100.0%" not in told.partition("What was kept")[2].partition("Timings")[0], (
        "of a single one there is no share"
    )


def test_copies_of_the_web_text_are_told(case: Captioned) -> None:
    """Alone it stands there as the sample's caption; how often it goes on does not."""
    found = reported(case, "[{copies: 3, texts: [{source: web}]}]")
    assert texts_of(found)["a"] == [("web", "a", 1.0, 3)]
    assert "web · 3 copies" in Page(draw(found)).text
    assert texts_of(reported(case, "[{texts: [{source: web}]}]"))["a"] == []


def test_a_source_that_says_what_the_web_says_is_told() -> None:
    sample = Shown(b"", 0, 0, None, text="a")
    assert _with_texts(sample, (Emitted("one", "a", 1.0),)).texts == (Emitted("one", "a", 1.0),)
    assert _with_texts(sample, (Emitted("web", "a", 1.0),)).texts == ()


def test_of_older_picks_the_captions_stand_alone(case: Captioned, monkeypatch: pytest.MonkeyPatch) -> None:
    pick = reported(case, "[{texts: [{source: one}]}]").pick.folder
    pool, about = case.pool, case.pool.about
    monkeypatch.setattr(pool, "about", lambda folder: {k: v for k, v in about(folder).items() if k != "sources"})
    assert {s.texts for s in gather(pool, pick).final} == {()}


def test_texts_that_are_gone_are_told(case: Captioned) -> None:
    pick = reported(case, "[{texts: [{source: one}]}]").pick.folder
    folder = Path(case.url) / case.pool.about(pick)["sources"]["one"]["folder"]
    for part in folder.glob("0*.parquet"):
        part.unlink()
    with pytest.raises(UserError, match=f"text 0 of 'one', which {pick} chose, is gone; run its recipe again"):
        gather(case.pool, pick)


@pytest.mark.parametrize("which", ["pick", "texts"])
def test_files_of_other_rows_than_their_shard_are_refused(case: Captioned, which: str) -> None:
    """By their places they would be texts of other samples."""
    pool, pick = case.pool, reported(case, "[{texts: [{source: one}]}]").pick.folder
    about = pool.about(pick)
    if which == "pick":
        folder, other = pick, read_table(pool.storage, f"{pick}/00000000.parquet")[0]
    else:
        folder, other = about["sources"]["one"]["folder"], pa.table({"one": ["of another"] * 6})
    file = f"{folder}/00000000.parquet"
    (Path(case.url) / file).write_bytes(write_parquet(other, {"rows": 6, "uid_digest": "0" * 32}))
    with pytest.raises(UserError, match=f"{file}: does not belong to shard 0 as it is now"):
        emitted(Ground(pool, pick, [], [0]), about, [(0, 0)])


@pytest.mark.parametrize("hostile", HOSTILE)
def test_hostile_texts_and_names_stay_text(hostile: str) -> None:
    page = Page(in_the_pick([Emitted(hostile, hostile, 0.5, 2)]))
    assert {tag for tag, _ in page.tags} <= {"p", "details", "summary"}
    assert {name for _, attributes in page.tags for name in attributes} <= {"class", "dir"}
    assert len(page.text) < 6_000


def test_many_texts_are_counted(case: Captioned) -> None:
    told = Page(in_the_pick([Emitted("s", f"text {i}", 0.01) for i in range(MOST + 1_000)])).text
    assert f"text {MOST - 1}" in told
    assert f"text {MOST} " not in told
    assert "and 1,000 more" in told
