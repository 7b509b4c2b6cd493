"""The demo's web: its pictures, its faults, its matcher, and the score of found against planted."""

from __future__ import annotations

import urllib.error
import urllib.request
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from conftest import free_port

from curate.demo.draw import draw, encoded
from curate.demo.match import SceneMatch, agreement, said
from curate.demo.scenes import LANGUAGES, english, scene, translated
from curate.demo.score import found_against_planted
from curate.demo.web import CLEAN, KEPT, PLANTED, build_web, serve
from curate.errors import UserError
from stages.base import Batch


def test_a_scene_is_a_pure_function_of_its_number() -> None:
    assert scene(7) == scene(7)
    assert encoded(draw(scene(7))) == encoded(draw(scene(7)))
    assert scene(7) != scene(8)


def test_the_caption_is_read_back() -> None:
    assert said("Two red circles to the left of an orange square") == {"red": 2, "orange": 1}
    assert said("IMG_4894.jpg") == {}
    for number in range(40):
        for phrase in range(4):
            facts = {g.colour: g.count for g in scene(number).groups}
            assert said(english(scene(number), phrase)) == facts


def test_agreement_is_the_mean_over_all_colours() -> None:
    assert agreement({"red": 2}, {"red": 2}) == 1.0
    assert agreement({"red": 2}, {"red": 1}) == 0.7
    assert agreement({"red": 2, "blue": 1}, {"red": 2}) == 0.5
    assert agreement({"red": 2}, {"blue": 2}) == 0.0
    assert agreement({"red": 2}, {}) is None


def test_matched_captions_score_above_swapped_ones() -> None:
    import pyarrow as pa

    images = [encoded(draw(scene(i))) for i in range(60)]
    own = [english(scene(i), i) for i in range(60)]
    swapped = own[7:] + own[:7]
    score = [
        SceneMatch().run(Batch.of(pa.table({"text": t}), images))["scene_match"].to_numpy() for t in (own, swapped)
    ]
    auroc = np.mean(score[0][:, None] > score[1][None, :]) + 0.5 * np.mean(score[0][:, None] == score[1][None, :])
    assert auroc > 0.95
    assert np.median(score[0]) == 1.0


def test_translations_name_every_group() -> None:
    for language in LANGUAGES:
        assert all(str(g.count) in translated(scene(3), language) for g in scene(3).groups)


def test_the_web_holds_what_was_planted_and_is_the_same_again(tmp_path: Path) -> None:
    web = build_web(tmp_path / "a", scenes=200, port=1)
    again = build_web(tmp_path / "b", scenes=200, port=1)
    assert web.list.read_bytes() == again.list.read_bytes()
    truth = pq.read_table(web.truth).to_pylist()
    assert len(truth) == 200
    assert len({r["url"] for r in truth}) == 200
    counts = {k: sum(r["kind"] == k for r in truth) for k in PLANTED}
    assert counts == {k: max(1, round(s * 200)) for k, (s, _) in PLANTED.items()}
    by_scene = {r["scene"]: r["url"].rsplit("/", 1)[1] for r in truth if r["kind"] == CLEAN}
    for row in truth:
        if row["kind"] == "exact copy":
            copy = (web.folder / "files" / row["url"].rsplit("/", 1)[1]).read_bytes()
            assert copy == (web.folder / "files" / by_scene[row["scene"]]).read_bytes()


def test_the_server_answers_as_planted(tmp_path: Path) -> None:
    port = free_port()
    web = build_web(tmp_path, scenes=100, port=port)
    truth = {r["kind"]: r["url"] for r in pq.read_table(web.truth).to_pylist()}
    with serve(web.folder, port):
        with urllib.request.urlopen(truth[CLEAN]) as answer:
            assert answer.read()[:2] in (b"\xff\xd8", b"\x89P", b"RI")
        with pytest.raises(urllib.error.HTTPError, match="500"):
            urllib.request.urlopen(truth["server error"])
        with pytest.raises(urllib.error.HTTPError, match=r"40[34]|410"):
            urllib.request.urlopen(truth["gone"])
        with pytest.raises(UserError, match=rf"port {port} .* taken .* --port"), serve(web.folder, port):
            pass


def test_of_a_picture_and_its_copies_one_must_stay(tmp_path: Path) -> None:
    truth = pq.read_table(build_web(tmp_path, scenes=200, port=1).truth)
    rows = truth.to_pylist()
    perfect = {r["url"]: r["expected"] for r in rows}
    assert all(line.found == line.planted for line in found_against_planted(truth, perfect))
    copy = next(r for r in rows if r["kind"] == "near copy")
    original = next(r for r in rows if r["kind"] == CLEAN and r["scene"] == copy["scene"])
    turned = perfect | {copy["url"]: KEPT, original["url"]: "near"}
    assert all(line.found == line.planted for line in found_against_planted(truth, turned))
    both = {line.kind: line for line in found_against_planted(truth, perfect | {copy["url"]: KEPT})}
    assert both["near copy"].elsewhere == {KEPT: 1}
    wrong = {line.kind: line for line in found_against_planted(truth, perfect | {original["url"]: "english"})}
    assert wrong[CLEAN].elsewhere == {"english": 1}
