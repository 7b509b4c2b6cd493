"""Samples that match evaluation sets: by bytes, by hash in any orientation, by vector; however the pool is cut."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pydantic import ValidationError

import stages.eval_hits as eval_hits
import stages.eval_matches as eval_matches
import stages.eval_search as eval_search
from stages.base import fact
from stages.eval_matches import EvalMatches
from stages.eval_sets import EvalSet
from stages.fingerprint import VERSION
from stages.vectors import as_column
from tests.phase_runner import PhaseRunner
from tests.stages.eval_pictures import FACTS, easy, encoded, facts, photo, shards_of, write_pictures

Rows = list[dict[str, Any]]
NOTHING = {"set": None, "item": None, "by": None, "distance": None, "sets": [], "missing": False}


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> tuple[EvalSet, ...]:
    """Two sets of four pictures; the last of the first is the first of the second."""
    folder = tmp_path_factory.mktemp("sets")
    for name, first in (("one", 0), ("two", 3)):
        write_pictures(folder / name, {f"{i}.png": encoded(photo(i), "PNG") for i in range(first, first + 4)})
    return tuple(EvalSet(name=name, path=str(folder / name)) for name in ("one", "two"))


@pytest.fixture(scope="module")
def copies() -> dict[str, bytes]:
    """Every easy transform of the first picture."""
    return easy(photo(0))


def answers(runner: PhaseRunner, chosen: EvalMatches) -> dict[int, dict[str, Any]]:
    """uid as a number -> columns, without the prefix."""
    found = {}
    for shard, table in runner.run(chosen).items():
        for uid, row in zip(runner.pool[shard].column("uid").to_pylist(), table.to_pylist(), strict=True):
            found[int.from_bytes(uid, "big")] = {k.removeprefix("eval_"): v for k, v in row.items()}
    return found


def of_rows(rows: Rows, chosen: EvalMatches, cut: int = 1) -> dict[int, dict[str, Any]]:
    return answers(PhaseRunner(shards_of(rows, cut, np.random.default_rng(0))), chosen)


def test_every_easy_transform_is_found(sets: tuple[EvalSet, ...], copies: dict[str, bytes]) -> None:
    found = of_rows(facts(list(copies.values())), EvalMatches(sets=sets))
    wrong = {n: f for n, f in zip(copies, found.values(), strict=True) if (f["set"], f["item"]) != ("one", "0.png")}
    assert not wrong
    assert {f["by"] for f in found.values()} == {"phash256"}
    assert max(f["distance"] for f in found.values()) <= 24


def test_without_orientations_and_other_pictures_there_is_nothing(sets: tuple[EvalSet, ...]) -> None:
    others = facts([encoded(photo(seed)) for seed in range(50, 80)])
    assert set(map(str, of_rows(others, EvalMatches(sets=sets)).values())) == {str(NOTHING)}


def test_equal_bytes_are_found_whatever_their_hash(tmp_path: Path) -> None:
    blank = encoded(Image.new("RGB", (80, 80), "white"), "PNG")
    again = encoded(Image.new("RGB", (80, 81), "white"), "PNG")
    chosen = EvalMatches(sets=(EvalSet(name="a", path=str(write_pictures(tmp_path, {"b.png": blank}))),))
    found = of_rows(facts([blank, again]), chosen)
    assert found[1] == {"set": "a", "item": "b.png", "by": "sha256", "distance": 0, "sets": ["a"], "missing": False}
    assert found[2] == NOTHING


def test_a_picture_of_two_sets_is_told_of_both_the_strongest_first(tmp_path: Path, sets: tuple[EvalSet, ...]) -> None:
    mirrored = encoded(photo(3).transpose(Image.Transpose.FLIP_LEFT_RIGHT), quality=70)
    third = write_pictures(tmp_path, {"again.jpg": mirrored})
    chosen = EvalMatches(sets=(*sets, EvalSet(name="three", path=str(third))))
    found = of_rows(facts([mirrored]), chosen)[1]
    assert found["sets"] == ["three", "one", "two"]
    assert (found["by"], found["item"], found["distance"]) == ("sha256", "again.jpg", 0)
    assert of_rows(facts([mirrored]), EvalMatches(sets=sets))[1]["sets"] == ["one", "two"]


def test_the_distance_bounds_and_64_bits_are_asked_for(sets: tuple[EvalSet, ...]) -> None:
    rows = facts([encoded(photo(1), quality=40)])
    upright = EvalMatches(sets=sets)
    bits = of_rows(rows, upright)[1]["distance"]
    assert bits > 0
    assert of_rows(rows, EvalMatches(sets=sets, distance=int(bits)))[1]["set"] == "one"
    assert of_rows(rows, EvalMatches(sets=sets, distance=int(bits) - 1))[1] == NOTHING
    assert of_rows(rows, EvalMatches(sets=sets, distance=None, distance64=8))[1]["by"] == "phash64"
    assert [c.field for c in EvalMatches(sets=sets, distance=None).reads()] == ["sha256"]


def test_64_bits_serve_where_there_are_no_256(sets: tuple[EvalSet, ...]) -> None:
    """Each hash is looked at where it is there; a sample that lacks one is told all the same."""
    row = facts([encoded(photo(1), quality=40)])[0]
    chosen = EvalMatches(sets=sets, distance64=8)
    found = of_rows([row | {"phash256": None}], chosen)[1]
    assert (found["set"], found["by"], found["missing"]) == ("one", "phash64", True)
    assert of_rows([row | {"phash64": None}], chosen)[1]["by"] == "phash256"


def test_a_sample_without_hashes_is_missing(sets: tuple[EvalSet, ...]) -> None:
    row, other = facts([encoded(photo(0)), encoded(photo(1))])
    lacking = row | {"phash256": None, "phash_quality": None}
    found = of_rows([lacking, other], EvalMatches(sets=sets))
    assert found[1] == NOTHING | {"missing": True}
    with pytest.raises(ValueError, match="none of 1 samples has a perceptual hash"):
        of_rows([lacking], EvalMatches(sets=sets))


# ---------------------------------------------------------------- vectors


def test_vectors_above_the_bound_are_found(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    of_set = rng.normal(size=(50, 16)).astype(np.float32)
    np.save(tmp_path / "v.npy", of_set)
    x = np.vstack([of_set[7] + rng.normal(size=16) * 0.1, rng.normal(size=16), np.zeros(16)]).astype(np.float16)
    chosen = EvalMatches(sets=(EvalSet(name="a", vectors=str(tmp_path / "v.npy")),), vectors=fact("sscd"), above=0.9)
    table = pa.table(
        {"uid": pa.array([bytes(15) + bytes([i]) for i in (1, 2, 3)], pa.binary(16)), "sscd": as_column(x)}
    )
    found = answers(PhaseRunner({0: table}), chosen)
    assert (found[1]["set"], found[1]["item"], found[1]["by"]) == ("a", "7", "vectors")
    assert 0 < found[1]["distance"] < 0.1
    assert found[2] == NOTHING
    assert found[3] == NOTHING | {"missing": True}
    assert [c.field for c in chosen.reads()] == ["sscd"]


def test_vectors_beside_pictures_are_as_many(tmp_path: Path, sets: tuple[EvalSet, ...]) -> None:
    np.save(tmp_path / "v.npy", np.eye(3, 8, dtype=np.float32))
    both = EvalSet(name="a", path=sets[0].path, vectors=str(tmp_path / "v.npy"))
    chosen = EvalMatches(sets=(both,), vectors=fact("sscd"), above=0.9)
    rows = facts([encoded(photo(40))])
    table = pa.Table.from_pylist(rows, FACTS).append_column("sscd", as_column(np.ones((1, 8), np.float32)))
    with pytest.raises(ValueError, match="4 pictures and 3 vectors"):
        answers(PhaseRunner({0: table}), chosen)
    failed = PhaseRunner({0: table})
    with pytest.raises(ValueError, match="4 pictures and 3 vectors"):
        failed.run(chosen)
    assert {phase for phase, _ in failed.ran} == {"prints"}, "told before the pool is searched"
    np.save(tmp_path / "v.npy", np.vstack([np.eye(3, 8), np.ones(8)]).astype(np.float32))
    assert answers(PhaseRunner({0: table}), chosen)[1]["item"] == "3.png"


def test_a_set_of_vectors_alone_stands_beside_one_of_pictures(tmp_path: Path, sets: tuple[EvalSet, ...]) -> None:
    np.save(tmp_path / "four.npy", np.eye(4, 8, dtype=np.float32))
    np.save(tmp_path / "one.npy", np.eye(8, dtype=np.float32)[7:])
    both = EvalSet(name="both", path=sets[0].path, vectors=str(tmp_path / "four.npy"))
    chosen = EvalMatches(
        sets=(both, EvalSet(name="alone", vectors=str(tmp_path / "one.npy"))), vectors=fact("v"), above=0.9
    )
    rows = facts([encoded(photo(seed)) for seed in (40, 0, 41)])
    x = np.eye(8, dtype=np.float32)[[7, 7, 2]]
    found = answers(PhaseRunner({0: pa.Table.from_pylist(rows, FACTS).append_column("v", as_column(x))}), chosen)
    assert [(f["set"], f["item"], f["by"], f["sets"]) for f in found.values()] == [
        ("alone", "0", "vectors", ["alone"]),
        ("both", "0.png", "phash256", ["both", "alone"]),
        ("both", "2.png", "vectors", ["both"]),
    ]


def test_a_row_of_the_set_without_a_vector_matches_nothing_and_is_counted(tmp_path: Path) -> None:
    np.save(tmp_path / "v.npy", np.vstack([np.zeros(8), np.eye(3, 8)]).astype(np.float32))
    chosen = EvalMatches(sets=(EvalSet(name="a", vectors=str(tmp_path / "v.npy")),), vectors=fact("v"), above=-0.5)
    uid = pa.array([bytes(15) + bytes([i]) for i in (1, 2)], pa.binary(16))
    table = pa.table({"uid": uid, "v": as_column(np.eye(8, dtype=np.float32)[[1, 7]])})
    runner = PhaseRunner({0: table})
    found = answers(runner, chosen)
    assert [f["item"] for f in found.values()] == ["2", "1"]  # of equally near ones the first that has a direction
    assert runner.stats(chosen, "prints")["00000"] == {
        "pictures": 0, "broken": 0, "vectors": 4, "without_vector": 1,
    }  # fmt: skip


# ---------------------------------------------------------------- functions of the set


@settings(max_examples=5)
@given(st.integers(0, 1000), st.sampled_from([2, 3, 7]))
def test_order_cut_and_spans_change_nothing(
    sets: tuple[EvalSet, ...], copies: dict[str, bytes], seed: int, cut: int
) -> None:
    rows = facts([*list(copies.values())[:6], *(encoded(photo(i), quality=60) for i in (3, 5, 60, 61))])
    chosen = EvalMatches(sets=sets)
    whole = PhaseRunner(shards_of(rows, 1, np.random.default_rng(0)))
    wanted = answers(whole, chosen)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(eval_search, "ROWS", 3)
        other = PhaseRunner(shards_of(rows, cut, np.random.default_rng(seed)), seed)
        assert answers(other, chosen) == wanted
    for part in ("00000", "00001"):
        one, two = (r.files[chosen]["pictures"][part] for r in (whole, other))
        assert one.tables.equals(two.tables)
        assert one.stats == two.stats


@pytest.mark.parametrize("by_vectors", [False, True])
def test_a_set_is_held_a_piece_at_a_time(
    tmp_path: Path, by_vectors: bool, sets: tuple[EvalSet, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """However it is cut: the strongest match, of equally strong ones the first picture, and its name."""
    flipped = photo(1).transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    images = {f"{i}.png": encoded(photo(i), "PNG") for i in range(3)}
    images |= {"3.png": encoded(photo(1), quality=40), "4.png": encoded(flipped, "PNG"), "5.png": images["0.png"]}
    np.save(tmp_path / "v.npy", np.eye(6, dtype=np.float32))
    one = EvalSet(name="a", path=str(write_pictures(tmp_path / "a", images)), vectors=str(tmp_path / "v.npy"))
    chosen = EvalMatches(
        sets=(one if by_vectors else one.model_copy(update={"vectors": None}),),
        **({"vectors": fact("v"), "above": 0.5} if by_vectors else {}),
    )
    rows = facts([images["3.png"], images["0.png"], encoded(photo(0), quality=50), encoded(photo(60)), images["4.png"]])
    table = pa.Table.from_pylist(rows, FACTS).append_column(
        "v", as_column(np.eye(6, dtype=np.float32)[[4, 4, 4, 5, 0]])
    )
    whole = answers(PhaseRunner({0: table}), chosen)
    items = ["3.png", "0.png", "0.png", "5.png" if by_vectors else None, "4.png"]
    assert [f["item"] for f in whole.values()] == items
    monkeypatch.setattr(eval_matches, "SMALL", 1)
    for pieces in (2, 4, 16):
        monkeypatch.setattr(eval_matches, "PIECES", pieces)
        runner = PhaseRunner({0: table})
        assert answers(runner, chosen) == whole
        tables = runner.files[chosen]["prints"]["00000"].tables
        assert max(t.num_rows for t in tables) == -(-6 // pieces)
        assert "phash64" not in tables[0].column_names, "what is not compared is not held"


def test_a_pool_that_grows_is_searched_for_what_is_new(
    sets: tuple[EvalSet, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(eval_search, "ROWS", 4)
    old = shards_of(facts([encoded(photo(i), quality=50) for i in (0, 1, 60, 61, 62)]), 2, np.random.default_rng(1))
    new = {9: pa.Table.from_pylist(facts([encoded(photo(i), quality=50) for i in (2, 5, 63)], 20), FACTS)}
    chosen = EvalMatches(sets=sets)
    before = PhaseRunner(old)
    before.run(chosen)
    generations = dict.fromkeys(old, 0) | {9: 1}
    grown = PhaseRunner(old | new, generations=generations, earlier=before)
    at_once = PhaseRunner(old | new, generations=generations)
    assert answers(grown, chosen) == answers(at_once, chosen)
    searched = [part for phase, part in grown.ran if phase in ("prints", "search")]
    assert [part[:17] for part in searched] == ["00000009-00000009"]
    for part, output in at_once.files[chosen]["pictures"].items():
        assert grown.files[chosen]["pictures"][part].tables.equals(output.tables)


# ---------------------------------------------------------------- for the report


def test_pictures_and_counts_for_the_report(
    sets: tuple[EvalSet, ...], copies: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(eval_hits, "SHOWN", 2)
    images = [*list(copies.values())[:5], *(encoded(photo(i), quality=60) for i in (1, 2, 3, 70))]
    images += [encoded(photo(1), "PNG")]
    runner = PhaseRunner(shards_of(facts(images), 3, np.random.default_rng(0)))
    found = answers(runner, EvalMatches(sets=sets))
    output = runner.files[EvalMatches(sets=sets)]["pictures"]["00000"]
    counts = {"sha256": 1, "phash256": 8, "phash64": 0, "vectors": 0}
    about = {"set": "one", "pictures": 4, "broken": 0, "flat": 0, "matched": 4, "samples": counts}
    assert output.stats == about
    rows = output.tables.to_pylist()
    assert sorted(r["item"] for r in rows) == ["0.png", "1.png", "2.png", "3.png"]
    assert [r["why"] for r in rows] == ["farthest"] * 2 + ["drawn"] * 2
    assert {r["item"]: r["samples"] for r in rows} == {"0.png": 5, "1.png": 2, "2.png": 1, "3.png": 1}
    shown = next(r for r in rows if r["item"] == "0.png")
    sample = found[int.from_bytes(shown["uid"], "big")]
    assert sample["distance"] == shown["distance"] == max(f["distance"] for f in found.values() if f["item"] == "0.png")
    assert Image.open(io.BytesIO(shown["thumbnail"])).size == (176, 132)


# ---------------------------------------------------------------- what is refused


def test_parameters_that_do_not_go_together_are_refused(sets: tuple[EvalSet, ...], tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match="several evaluation sets are called one"):
        EvalMatches(sets=(sets[0], sets[0]))
    with pytest.raises(ValidationError, match="go together"):
        EvalMatches(sets=sets, above=0.5)
    with pytest.raises(ValidationError, match="one has no vectors"):
        EvalMatches(sets=sets, vectors=fact("sscd"), above=0.5)
    with pytest.raises(ValidationError, match="no column to compare them with"):
        EvalMatches(sets=(EvalSet(name="a", vectors=str(tmp_path / "v.npy")),))
    with pytest.raises(ValueError, match="nothing at"):
        EvalMatches(sets=(EvalSet(name="a", path=str(tmp_path / "none")),)).files()


def test_files_name_the_set_in_the_fingerprint(sets: tuple[EvalSet, ...]) -> None:
    from curate.run.prints import Prints

    chosen = EvalMatches(sets=sets)
    assert chosen.files() == tuple(s.path for s in sets)
    said = str(Prints().identity(chosen))
    assert str({"phash": VERSION}) in said
    assert "digest:" in said
    assert str(sets[0].path) not in said


def test_a_set_with_names_that_are_not_utf8_has_a_fingerprint(tmp_path: Path) -> None:
    from curate.run.prints import Prints

    odd = b"caf\xe9.png".decode("utf-8", "surrogateescape")
    write_pictures(tmp_path, {odd: encoded(photo(0), "PNG")})
    chosen = EvalMatches(sets=(EvalSet(name="a", path=str(tmp_path)),))
    before = str(Prints().identity(chosen))
    assert of_rows(facts([encoded(photo(0))]), chosen)[1]["item"] == r"caf\xe9.png"
    (tmp_path / odd).write_bytes(encoded(photo(1), "PNG"))
    assert str(Prints().identity(chosen)) != before


def test_other_decoders_make_other_prints(
    sets: tuple[EvalSet, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`prints` is reused as the pool grows: pictures hashed by another Pillow must not meet a pool of this one's."""
    alone = EvalMatches(sets=(EvalSet(name="a", vectors=str(tmp_path / "v.npy")),), vectors=fact("v"), above=0.5)
    before, of_vectors = EvalMatches(sets=sets).identity(), alone.identity()
    monkeypatch.setattr(eval_matches, "decoders", lambda: {"pillow": "0.0.1"})
    assert EvalMatches(sets=sets).identity() == before | {"decoders": {"pillow": "0.0.1"}} != before
    assert alone.identity() == of_vectors
    monkeypatch.setattr(eval_matches, "VERSION", 99)
    assert EvalMatches(sets=sets).identity()["algorithms"] == {"phash": 99}
