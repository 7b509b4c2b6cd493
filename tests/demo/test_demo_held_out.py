"""The demo's held-out sets: read as CLIP_benchmark's folders, the same again, and of scenes that no web has."""

from __future__ import annotations

from pathlib import Path

from curate.demo.held_out import FIRST, build_held_out
from curate.demo.scenes import PALETTE, english, scene
from training_smoke.evaluate import Folder


def test_sets_are_read_as_what_they_are(tmp_path: Path) -> None:
    scenes, colours = (Folder.open(str(path)) for path in build_held_out(tmp_path / "sets", 6))
    assert (scenes.kind, colours.kind) == ("retrieval", "classification")
    captions = [sample.answer for sample in scenes.samples()]
    assert captions[2] == tuple(english(scene(FIRST + 2), phrase) for phrase in range(3))
    assert colours.classnames == tuple(PALETTE)
    assert all("{c}" in template for template in colours.templates)
    assert len(list(colours.samples())) == 6


def test_the_same_again_and_what_was_cut_off_is_made_anew(tmp_path: Path) -> None:
    first = build_held_out(tmp_path / "one", 4)
    other = build_held_out(tmp_path / "two", 4)
    tars = [path / "test" / "0.tar" for path in (*first, *other)]
    assert tars[0].read_bytes() == tars[2].read_bytes()
    assert tars[1].read_bytes() == tars[3].read_bytes()
    (other[1] / "test" / "nshards.txt").unlink()
    tars[3].write_bytes(b"")
    assert build_held_out(tmp_path / "two", 4) == other
    assert tars[1].read_bytes() == tars[3].read_bytes()
