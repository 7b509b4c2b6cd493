"""Fingerprints: what changes an answer changes the name of its folder, and nothing else does."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any, ClassVar

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from run.parts import Brighter, BrighterBrightness, Brightness, Captioner, Doubled, EveryOther, RankOfAll

from curate.errors import UserError
from curate.run.prints import Prints, asks_survivors, file_digest
from filters.base import GlobalFilter, RowFilter
from filters.keep_one import KeepOne
from filters.where import Where
from stages.base import TEXT, Barrier, Column, Stage, fact
from stages.language import BUNDLED, Language, model_path

ONE, TWO = Prints("generation one"), Prints("generation two")


class Weighted(Stage):
    """A stage with weights, named by a parameter as the user writes it."""

    weights: str
    label: str = ""

    def files(self) -> tuple[str, ...]:
        return (self.weights,)

    def reads(self) -> tuple[Column, ...]:
        return (TEXT,)

    def writes(self) -> pa.Schema:
        return pa.schema([("score", pa.float32())])


class Expanding(Weighted):
    """Names its file otherwise than its parameter does."""

    def files(self) -> tuple[str, ...]:
        return (str(Path(self.weights).expanduser().resolve()),)


class Hidden(Weighted):
    """Its file is in no parameter at all."""

    where: ClassVar[str] = ""
    weights: str = "small"

    def files(self) -> tuple[str, ...]:
        return (self.where,)


class Over(Stage):
    """Reads a column of whatever it is given."""

    of: Stage | Barrier
    field: str

    def reads(self) -> tuple[Column, ...]:
        return (Column(self.of, self.field),)

    def writes(self) -> pa.Schema:
        return pa.schema([("x", pa.float32())])


def filtered(prints: Prints, chosen: RowFilter | GlobalFilter, above: list[str], *reads: Column) -> str:
    return prints.filter(chosen, reads, above)


# ---------------------------------------------------------------- parameters, version, columns read


@given(st.text(), st.text())
def test_a_hash_is_the_same_exactly_where_the_parameters_are(a: str, b: str) -> None:
    assert (ONE.base(Captioner(prefix=a)) == ONE.base(Captioner(prefix=b))) == (a == b)


def test_a_given_default_is_no_other_stage() -> None:
    assert ONE.stage_folder(Captioner()) == ONE.stage_folder(Captioner(prefix="a photo: "))


def test_the_rule_does_not_change_by_accident() -> None:
    """Where this fails, every pool there is would compute all its columns anew."""
    bright = Column(Brightness(), "brightness")
    assert ONE.stage_folder(Captioner()) == "columns/run.parts.Captioner@803dabd63f11"
    assert ONE.phase_folder(RankOfAll(), "ranks", local=False) == "barriers/run.parts.RankOfAll@cd6bdbb6b1e1/ranks"
    assert filtered(ONE, Brighter(than=3), ["x"], bright) == "e79148489ba9"
    assert filtered(ONE, EveryOther(over="survivors"), ["x"]) == "a9d2093601b3"


def test_a_stage_needs_no_generation_and_built_in_ones_have_short_names() -> None:
    assert ONE.base(Captioner()) == Prints().base(Captioner())
    assert ONE.stage_folder(Language()).startswith("columns/language@")


def test_a_new_version_or_another_class_is_another_folder() -> None:
    assert ONE.base(Brightness()) != ONE.base(BrighterBrightness())


def test_what_a_stage_reads_is_part_of_it() -> None:
    same = Doubled(of=Brightness())
    assert ONE.base(same) == ONE.base(Doubled())
    over = Over(of=Brightness(), field="brightness")
    assert ONE.base(Over(of=BrighterBrightness(), field="brightness")) != ONE.base(over)
    assert ONE.base(Over(of=Brightness(), field="error")) != ONE.base(over)


def test_a_change_far_below_reaches_the_top(tmp_path: Path) -> None:
    weights = tmp_path / "w"
    weights.write_bytes(b"one")
    top = Over(of=Over(of=Weighted(weights=str(weights)), field="score"), field="x")
    before = Prints().base(top)
    weights.write_bytes(b"two!")
    assert Prints().base(top) != before


# ---------------------------------------------------------------- weights


@pytest.mark.parametrize("kind", [Weighted, Expanding])
def test_other_weights_at_the_same_path_are_another_stage(tmp_path: Path, kind: type[Weighted]) -> None:
    weights = tmp_path / "w.bin"
    weights.write_bytes(b"one")
    before = Prints().base(kind(weights=str(weights)))
    weights.write_bytes(b"two")
    os.utime(weights, ns=(1, 1))
    assert Prints().base(kind(weights=str(weights))) != before


def test_weights_that_no_parameter_names_count_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    weights = tmp_path / "small.bin"
    monkeypatch.setattr(Hidden, "where", str(weights))
    weights.write_bytes(b"one")
    before = Prints().base(Hidden())
    weights.write_bytes(b"another")
    assert Prints().base(Hidden()) != before


def test_moving_or_renaming_weights_changes_nothing(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"weights")
    shutil.copy(tmp_path / "a", tmp_path / "renamed.bin")
    there = [Weighted(weights=str(tmp_path / n)) for n in ("a", "renamed.bin")]
    assert ONE.base(there[0]) == ONE.base(there[1])
    assert ONE.base(there[0]) != ONE.base(there[0].model_copy(update={"label": "x"}))


def test_the_language_model_is_its_content_wherever_it_lies(tmp_path: Path) -> None:
    copy = tmp_path / "mine.ftz"
    shutil.copy(model_path(BUNDLED), copy)
    assert ONE.base(Language()) == ONE.base(Language(model=str(copy)))
    with copy.open("ab") as f:
        f.write(b"x")
    assert Prints().base(Language()) != Prints().base(Language(model=str(copy)))


def test_a_folder_of_weights_is_its_files_and_their_names(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name / "deep").mkdir(parents=True)
        (tmp_path / name / "deep" / "w").write_bytes(b"1")
        (tmp_path / name / "config").write_bytes(b"2")
    assert file_digest(str(tmp_path / "a")) == file_digest(str(tmp_path / "b"))
    (tmp_path / "b" / "config").rename(tmp_path / "b" / "settings")
    assert file_digest(str(tmp_path / "a")) != file_digest(str(tmp_path / "b"))


def test_a_digest_is_looked_up_not_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    weights = tmp_path / "w"
    weights.write_bytes(b"x" * 1000)
    first = file_digest(str(weights))
    real = Path.open

    def no_reading(path: Path, *args: Any, **more: Any) -> Any:
        assert path != weights, "the weights were read a second time"
        return real(path, *args, **more)

    monkeypatch.setattr(Path, "open", no_reading)
    assert file_digest(str(weights)) == first


def test_missing_weights_are_named() -> None:
    with pytest.raises(UserError, match=r"/no/such/file: no such file; a stage of the recipe needs it"):
        ONE.base(Weighted(weights="/no/such/file"))


# ---------------------------------------------------------------- generation


def test_a_grown_pool_renews_barriers_and_global_filters_but_no_stage() -> None:
    assert ONE.stage_folder(Brightness()) == TWO.stage_folder(Brightness())
    assert ONE.owner(RankOfAll()) != TWO.owner(RankOfAll())
    keep = EveryOther(over="pool")
    assert filtered(ONE, keep, [], fact("uid")) != filtered(TWO, keep, [], fact("uid"))
    row = Brighter(than=3)
    bright = Column(Brightness(), "brightness")
    assert filtered(ONE, row, [], bright) == filtered(TWO, row, [], bright)


def test_a_local_phase_is_good_for_the_grown_pool_too() -> None:
    folders = [p.phase_folder(RankOfAll(), "values", local=True) for p in (ONE, TWO)]
    assert folders[0] == folders[1]
    folders = [p.phase_folder(RankOfAll(), "ranks", local=False) for p in (ONE, TWO)]
    assert folders[0] != folders[1]


def test_what_reads_a_barrier_is_as_old_as_the_barrier() -> None:
    above_barrier = Over(of=RankOfAll(), field="rank")
    assert ONE.base(above_barrier) != TWO.base(above_barrier)
    row = Where(sql="rank > 3")
    assert filtered(ONE, row, [], Column(RankOfAll(), "rank")) != filtered(TWO, row, [], Column(RankOfAll(), "rank"))


def test_a_barrier_has_no_name_before_the_generation_is_known() -> None:
    with pytest.raises(AssertionError, match="before all shards are there"):
        Prints().owner(RankOfAll())


def test_the_barriers_that_a_global_filter_reads_by_phase_count() -> None:
    near = [KeepOne(over="pool", by="phash64", distance=d) for d in (2, 4)]
    assert filtered(ONE, near[0], []) != filtered(ONE, near[1], [])


# ---------------------------------------------------------------- filters above


def test_only_filters_of_survivors_depend_on_those_above() -> None:
    bright, caption = Column(Brightness(), "brightness"), Column(Captioner(), "caption")
    cases = {
        "row": (Brighter(than=3), bright, False),
        "row over a sparse column": (Where(sql="caption = 'x'"), caption, True),
        "pool": (EveryOther(over="pool"), fact("uid"), False),
        "survivors": (EveryOther(over="survivors"), fact("uid"), True),
    }
    for name, (chosen, reads, depends) in cases.items():
        alone, below = filtered(ONE, chosen, [], reads), filtered(ONE, chosen, ["verdicts/x@1"], reads)
        assert (alone != below) == depends == asks_survivors(chosen, (reads,)), name
    order = [filtered(ONE, EveryOther(over="survivors"), above, fact("uid")) for above in (["a", "b"], ["b", "a"])]
    assert order[0] != order[1]


def test_who_was_removed_counts_where_captions_decide_who_is_asked() -> None:
    """What else is known hangs on no removal; where nobody was removed, folders keep the names that they had."""
    said, score = Column(Captioner(), "caption"), fact("width")
    chosen, row = EveryOther(over="survivors"), Where(sql="caption = 'x'")
    found = []
    for removed in ("", "some", "more"):
        prints = Prints("generation one", removed=removed)
        dense = prints.filter(chosen, [score], prints.whose(chosen, [score], ["x"]))
        sparse = prints.filter(chosen, [said], prints.whose(chosen, [said], ["x"]))
        assert prints.whose(EveryOther(over="pool"), [score], ["x"]) == ("x",)
        rows = prints.filter(row, [said], prints.whose(row, [said], ["x"]))
        found.append((dense, sparse, rows))
    assert [len(set(of)) for of in zip(*found, strict=True)] == [1, 3, 3]
    now = [filtered(ONE, f, ["x"], column) for f, column in ((chosen, score), (chosen, said), (row, said))]
    assert found[0] == tuple(now)


def test_threshold_policy_and_column_are_part_of_a_verdict() -> None:
    bright = Column(Brightness(), "brightness")
    found = {
        filtered(ONE, Brighter(than=3), [], bright),
        filtered(ONE, Brighter(than=4), [], bright),
        filtered(ONE, Brighter(than=3, on_missing="drop"), [], bright),
        filtered(ONE, Brighter(than=3), [], Column(BrighterBrightness(), "brightness")),
    }
    assert len(found) == 4


def test_a_verdict_by_plain_name_depends_on_who_writes_that_name() -> None:
    row = Where(sql="brightness > 3")
    found = {filtered(ONE, row, [], Column(o, "brightness")) for o in (Brightness(), BrighterBrightness(), None)}
    assert len(found) == 3
