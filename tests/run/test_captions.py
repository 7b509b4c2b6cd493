"""Captions of survivors: what reads them is for survivors too, and conditions choose the texts that go on."""

from __future__ import annotations

import math
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from run.caption_parts import Afar, Captioned, Interrupted, Length, Says, captioned

import curate
from curate.errors import UserError
from curate.run.conditions import held
from curate.run.describe import DescribeSparse, describe_sparse
from curate.run.pick import Emit, build_emit
from curate.run.planning import make_plan
from curate.run.planning.show import as_lines
from curate.run.prints import Prints
from curate.run.reader import AFAR
from stages.base import Column, fact

SAYS = "{run.caption_parts:Says: {notes: %s}}"
LENGTH = "{run.caption_parts:Length: {text: said, name: said_length}}"
TEXTS = ("a dog", "silent night", "a cat on a mat", "dog", "a long walk in the park")


def make(case: Captioned, *more: str) -> str:
    return f"captions:\n  make: [{', '.join([SAYS % case.notes, *more])}]\n"


def query(case: Captioned, pick: str, sql: str) -> list[tuple[Any, ...]]:
    rows: list[tuple[Any, ...]] = curate.open(case.url, pick.removeprefix("picks/")).sql(sql).fetchall()
    return rows


# ---------------------------------------------------------------- derived sparseness


def test_a_dense_score_of_a_caption_is_asked_about_survivors(tmp_path: Path) -> None:
    case = captioned(tmp_path, TEXTS)
    outcome = case.run(make(case, LENGTH) + 'filters: [{where: "length(text) > 4"}]\n')
    asked = query(case, outcome.pick, "SELECT text, said, said_length FROM samples ORDER BY row")
    assert asked == [
        ("a dog", "0 of a dog", 10),
        ("silent night", None, None),
        ("a cat on a mat", "0 of a cat on a mat", 19),
        ("dog", None, None),
        ("a long walk in the park", "0 of a long walk in the park", 28),
    ]
    parts = [f for f in case.pool.storage.folders("columns") if "Length" in f]
    (name,) = (e.name for e in case.pool.storage.list(f"columns/{parts[0]}") if e.name.endswith(".parquet"))
    assert name.count(".") == 2, "a part of survivors, no file of the whole shard"


def test_the_same_score_of_the_web_text_stays_dense_and_keeps_its_name(tmp_path: Path) -> None:
    case = captioned(tmp_path, TEXTS)
    yaml = make(case, LENGTH) + "columns: [run.caption_parts:Length]\n"
    steps = {m.owner: p for p in case.plan(yaml) for m in p.makes}
    dense, sparse = steps[Length()], next(p for o, p in steps.items() if isinstance(o, Length) and o != Length())
    assert (dense.kind, sparse.kind) == ("columns", "sparse")
    assert dense.folder == Prints().stage_folder(Length())
    assert sparse.note.startswith("for survivors, since it reads 'said'")


def test_failed_and_never_asked_differ_in_sql(tmp_path: Path) -> None:
    case = captioned(tmp_path, TEXTS)
    outcome = case.run(make(case) + 'filters: [{where: "length(text) > 4"}]\n')
    folder = next(f for f in case.pool.storage.folders("columns") if "Says" in f)
    sql = f'SELECT text, asked, said, "error@{folder[-12:]}" FROM samples WHERE said IS NULL ORDER BY row'
    assert query(case, outcome.pick, sql) == [
        ("silent night", True, None, "nothing to say"),
        ("dog", False, None, None),
    ]


def test_whom_each_of_several_stages_was_asked_about_has_a_plain_name(tmp_path: Path) -> None:
    case = captioned(tmp_path, TEXTS)
    outcome = case.run(make(case, LENGTH) + 'filters: [{where: "length(text) > 4"}]\n')
    asked = query(case, outcome.pick, "SELECT said_asked, said_length_asked FROM samples ORDER BY row")
    assert asked == [(True, True), (True, True), (True, True), (False, False), (True, True)]


def test_a_second_recipe_asks_only_for_samples_without_a_caption(tmp_path: Path) -> None:
    case = captioned(tmp_path, [f"text {'x' * (i % 7)}" for i in range(60)], shards=2)
    case.run(make(case, LENGTH) + 'filters: [{where: "length(text) > 8"}]\n')
    first = case.asked()
    assert len(first) == len(set(first)) < 60
    case.run(make(case, LENGTH) + 'filters: [{where: "length(text) > 6"}]\n')
    both = case.asked()
    assert len(both) == len(set(both)) > len(first)
    case.run(make(case, LENGTH) + 'filters: [{where: "length(text) > 7"}]\n')
    assert case.asked() == both, "all of those have one"


def test_a_row_filter_over_a_score_of_captions_asks_survivors(tmp_path: Path) -> None:
    case = captioned(tmp_path, TEXTS)
    keep = 'filters: [{id: long, where: "length(text) > 4"}, {id: said, where: "said_length > 10", on_missing: drop}]\n'
    rows = case.picked(case.run(make(case, LENGTH) + keep))
    assert [(r["dropped_by"], r["reason"]) for r in rows] == [
        ("said", "where"),
        ("said", "missing"),
        (None, None),
        ("long", "where"),
        (None, None),
    ]


def test_a_score_is_not_asked_where_its_caption_never_was(tmp_path: Path) -> None:
    """Its null would be taken for an answer, and what is made of that would stay."""
    case = captioned(tmp_path, TEXTS)
    says, length = Says(), Length(text=Column(Says(), "said"), name="said_length")
    places = {says: "columns/says@0", length: "columns/length@0"}
    assert describe_sparse(DescribeSparse(case.url, length, places, ()), "00000000")["rows"] == 0
    describe_sparse(DescribeSparse(case.url, says, places, ()), "00000000")
    assert describe_sparse(DescribeSparse(case.url, length, places, ()), "00000000")["rows"] == len(TEXTS)


def test_what_was_taken_down_is_not_asked_about(tmp_path: Path) -> None:
    """Neither its picture nor its text is shown to a captioner, which may be on another machine."""
    case = captioned(tmp_path, [f"picture {i}" for i in range(12)], shards=2)
    gone = case.pool.facts(1, ["uid"])[0].column("uid").combine_chunks().slice(2, 1)
    case.pool.remove(gone, "asked to")
    rows = case.picked(case.run(make(case, LENGTH)))
    (uid,) = (u.hex() for u in gone.to_pylist())
    assert uid not in case.asked()
    assert len(case.asked()) == 11
    assert [r["dropped_by"] for r in rows if r["uid"].hex() == uid] == ["removed"]


def test_a_filter_that_wants_a_value_of_all_does_not_want_it_of_the_removed(tmp_path: Path) -> None:
    case = captioned(tmp_path, [f"picture {'x' * i}" for i in range(8)])
    case.pool.remove(case.pool.facts(0, ["uid"])[0].column("uid").combine_chunks().slice(7, 1), "asked to")
    best = "filters: [{id: best, top_fraction: {over: survivors, column: said_length, fraction: 0.3}}]\n"
    rows = case.picked(case.run(make(case, LENGTH) + best))
    assert [r["dropped_by"] for r in rows] == [*["best"] * 5, None, None, "removed"]


CUTS = {
    "a filter": "captions: {make: [%s, %s]}\n"
    "filters: [{id: best, top_fraction: {over: survivors, column: said_length, fraction: 0.5}}]\n",
    "a filter below one": "captions: {make: [%s, %s]}\n"
    'filters: [{where: "said_length > 0", on_missing: keep}, {id: best, top_fraction: {over: survivors, '
    "column: n_chars, fraction: 0.5}}]\n",
    "a barrier": "captions:\n  make:\n  - %s\n  - %s\n"
    "  - threshold: {column: said_length, fraction: 0.5, over: survivors, name: s}\n"
    '  emit: [{texts: [{source: said}], where: "said_length >= s"}]\n',
}


def take_down(case: Captioned, row: int) -> None:
    case.pool.remove(case.pool.facts(0, ["uid"])[0].column("uid").combine_chunks().slice(row, 1), "asked to")


def eight(folder: Path) -> Captioned:
    folder.mkdir()
    return captioned(folder, [f"picture {'x' * i}" for i in range(8)])


def verdict_files(case: Captioned) -> dict[Path, bytes]:
    return {p.relative_to(case.url): p.read_bytes() for p in Path(case.url).glob("verdicts/*/*.parquet")}


@pytest.mark.parametrize("cut", CUTS)
def test_a_cut_is_the_same_whenever_a_sample_was_removed(tmp_path: Path, cut: str) -> None:
    """Before captions were made, or after they were, and a cut: it is no survivor."""
    before, after = eight(tmp_path / "before"), eight(tmp_path / "after")
    yaml = CUTS[cut] % ("run.caption_parts:Says", LENGTH)
    assert after.run(yaml).kept == 4
    for case in (before, after):
        take_down(case, 0)
    first, second = before.run(yaml), after.run(yaml)
    assert (second.pick, second.kept, second.dropped) == (first.pick, first.kept, first.dropped)
    assert (first.kept, first.dropped["removed"]) == (3, 1), "half of seven"
    assert verdict_files(before).items() <= verdict_files(after).items()


@pytest.mark.parametrize("cut", CUTS)
def test_a_cut_is_of_one_list_of_removed_samples(tmp_path: Path, cut: str) -> None:
    """Phases hold shards against one another: where some is removed meanwhile, they are of neither list."""
    before, meanwhile = eight(tmp_path / "before"), eight(tmp_path / "meanwhile")
    yaml = CUTS[cut] % ("run.caption_parts:Interrupted", LENGTH)
    Interrupted.meanwhile.append(lambda: take_down(meanwhile, 0))
    with pytest.raises(UserError, match="samples were removed from the pool during the run; run again"):
        meanwhile.run(yaml)
    take_down(before, 0)
    first, second = before.run(yaml), meanwhile.run(yaml)
    assert (second.pick, second.kept, second.dropped) == (first.pick, first.kept, first.dropped)


@pytest.mark.parametrize("over", ["pool", "survivors"])
def test_a_cut_that_nothing_of_captions_decides_is_not_made_anew(tmp_path: Path, over: str) -> None:
    """What it reads is known of the removed too, whenever that was."""
    case = captioned(tmp_path, [f"picture {'x' * i}" for i in range(8)])
    yaml = f"filters: [{{id: best, top_fraction: {{over: {over}, column: n_chars, fraction: 0.5}}}}]\n"
    before = case.run(yaml)
    take_down(case, 0)
    made = case.pool.storage.folders("verdicts")
    assert case.run(yaml).kept == before.kept == 4
    assert case.pool.storage.folders("verdicts") == made


def test_a_row_filter_asks_nobody_who_has_no_caption_for_being_no_survivor(tmp_path: Path) -> None:
    """Null without a policy ends a run; of a sample that was dropped or removed nobody knows more, or asks."""
    case = captioned(tmp_path, TEXTS)
    take_down(case, 0)
    above, below = '{where: "length(text) > 4"}', '{id: said, where: "said_length > 19"}'
    with pytest.raises(UserError, match=r"filter said: sample [0-9a-f]{32} has no value for said_length"):
        case.run(make(case, LENGTH) + f"filters: [{above}, {below}]\n")  # a survivor of whom nothing was said
    outcome = case.run(
        make(case, LENGTH) + f"filters: [{above}, {{id: s, where: \"text not like 'silent%'\"}}, {below}]\n"
    )
    assert (outcome.kept, outcome.dropped) == (1, {"s": 1, "said": 1, "where": 1, "removed": 1})


def test_who_is_removed_no_more_is_asked_first(tmp_path: Path) -> None:
    """Nothing of ours puts a sample back; a person who deletes the list is told how to ask about it."""
    case = captioned(tmp_path, [f"picture {'x' * i}" for i in range(8)])
    take_down(case, 0)
    yaml = CUTS["a filter"] % (SAYS % case.notes, LENGTH)
    assert case.run(yaml).kept == 3
    shutil.rmtree(Path(case.url) / "removed")
    with pytest.raises(UserError, match=r"survivors were never asked about, the first is .*columns/\*/_asked and run"):
        case.run(yaml)
    for marks in Path(case.url).glob("columns/*/_asked"):
        shutil.rmtree(marks)
    assert case.run(yaml).kept == 4


def test_a_barrier_over_what_survivors_have_is_refused_before_anything_runs(tmp_path: Path) -> None:
    case = captioned(tmp_path, TEXTS)
    with pytest.raises(UserError, match=r"key_counts looks at all samples and cannot read 'said', which says writes"):
        case.run(make(case, "{key_counts: {by: said}}"))
    assert case.asked() == []


def test_a_plan_says_who_is_for_survivors_and_why(tmp_path: Path) -> None:
    case = captioned(tmp_path, TEXTS)
    lines = [" ".join(line.split()) for line in as_lines(make_plan(case.recipe(make(case, LENGTH))), None)]
    assert "for survivors, since it reads 'said'" in lines
    assert lines.index("for survivors, since it reads 'said'") > next(i for i, x in enumerate(lines) if "length" in x)
    assert sum("for survivors" in line for line in lines) == 1, "of a captioner its class says it"


def test_one_that_waits_for_another_machine_is_asked_ahead(tmp_path: Path) -> None:
    """Its requests for the next part are under way before the answers to this one are collected."""
    Afar.order.clear()
    case = captioned(tmp_path, [f"picture {i}" for i in range(3 * AFAR)])
    rows = case.picked(case.run("captions: {make: [run.caption_parts:Afar], emit: [{texts: [{source: far}]}]}\n"))
    assert {r["dropped_by"] for r in rows} == {None}
    assert Afar.order[:2] == ["sent", "sent"], Afar.order
    assert sorted(Afar.order) == ["got"] * 3 + ["sent"] * 3


# ---------------------------------------------------------------- conditions


def emitted(case: Captioned, yaml: str) -> list[list[tuple[int, list[tuple[str, float]]]]]:
    rows = case.picked(case.run(yaml))
    return [[(e["copies"], [(t["source"], round(t["p"], 3)) for t in e["texts"]]) for e in r["emit"]] for r in rows]


def test_conditions_of_texts_and_of_ways_choose_what_goes_on(tmp_path: Path) -> None:
    case = captioned(tmp_path, TEXTS)
    emit = """  emit:
    - texts: [{source: web, p: 0.75, where: "length(text) < 20"}, {source: said, p: 0.25, where: "said_length < 20"}]
    - copies: 2
      where: "said_length > 25"
      texts: [{source: said}]
"""
    assert emitted(case, make(case, LENGTH) + emit) == [
        [(1, [("web", 0.75), ("said", 0.25)])],
        [(1, [("web", 1.0)])],  # nothing was said: NULL does not hold
        [(1, [("web", 0.75), ("said", 0.25)])],
        [(1, [("web", 0.75), ("said", 0.25)])],
        [(2, [("said", 1.0)])],
    ]


def test_where_nothing_is_left_the_sample_is_dropped_for_want_of_a_text(tmp_path: Path) -> None:
    case = captioned(tmp_path, TEXTS)
    outcome = case.run('captions: {emit: [{where: "length(text) > 5"}]}\n')
    rows = case.picked(outcome)
    assert [r["dropped_by"] for r in rows] == ["no_text", None, None, "no_text", None]
    assert [r["times"] for r in rows] == [0, 1, 1, 0, 1]
    assert (outcome.kept, outcome.times, outcome.dropped) == (3, 3, {"no_text": 2})


def test_a_condition_may_speak_of_each_of_several_texts(tmp_path: Path) -> None:
    case = captioned(tmp_path, ["x", "silent", "y"])
    yaml = """captions:
  make:
    - run.caption_parts:Says: {n: 3}
    - run.caption_parts:Lengths: {text: said, name: lengths}
  emit:
    - texts: [{source: said, where: "list_transform(said, lambda s: s.text[1] <> '1')"}]
"""
    rows = case.picked(case.run(yaml))
    assert [[(t["index"], t["p"]) for e in r["emit"] for t in e["texts"]] for r in rows] == [
        [(0, 0.5), (2, 0.5)],
        [],
        [(0, 0.5), (2, 0.5)],
    ]
    assert rows[1]["dropped_by"] == "no_text"


def test_columns_of_conditions_are_computed_and_have_plain_names(tmp_path: Path) -> None:
    case = captioned(tmp_path, TEXTS)
    outcome = case.run('captions: {emit: [{where: "n_words >= 3"}]}\n')
    assert query(case, outcome.pick, "SELECT n_words FROM samples ORDER BY row") == [(2,), (2,), (5,), (1,), (6,)]
    assert outcome.kept == 2


def test_a_pick_without_conditions_is_named_as_before_and_with_them_by_them(tmp_path: Path) -> None:
    case = captioned(tmp_path, TEXTS)
    plain = case.run("")
    assert case.run("captions: {emit: [{copies: 1, texts: [{source: web, p: 1}]}]}\n").pick == plain.pick
    found = {plain.pick, *(case.run(f'captions: {{emit: [{{where: "width > {n}"}}]}}\n').pick for n in (1, 2))}
    of_text = case.run('captions: {emit: [{texts: [{where: "width > 1"}]}]}\n').pick
    assert len(found | {of_text}) == 4


@pytest.mark.parametrize(
    ("emit", "message"),
    [
        ('{where: "no_such > 1"}', r"5:20: captions.emit.0.where: no column 'no_such'"),
        ('{texts: [{where: "wdth > 1"}]}', r"captions.emit.0.texts.0.where: no column 'wdth'; did you mean 'width'"),
        ('{where: "width"}', r"captions.emit.0.where: 'width' is a INTEGER, not true or false: compare it"),
        ('{where: "text > 3"}', r"captions.emit.0.where: 'text > 3' does not fit its columns: Binder Error"),
        (
            '{where: "text::INTEGER > 3"}',
            r"^captions.emit: where: text::INTEGER > 3: Conversion Error.*; TRY_CAST gives NULL",
        ),
        ('{where: "[width > 1]"}', r"captions.emit.0.where: '\[width > 1\]' says true or false of several texts"),
        ('{where: "random() > 0.5"}', r"captions.emit.0.where: .*random"),
        ('{where: "width > (SELECT 1)"}', r"captions.emit.0.where: a predicate cannot use a subquery"),
        ('{where: "1 = 1"}', r"captions.emit.0.where: `1 = 1` reads no column"),
        ("{texts: [{where: 3}]}", r"captions.emit.0.texts.0.where: expected a string, found 3"),
    ],
)
def test_a_condition_that_cannot_be_is_refused_with_its_place(tmp_path: Path, emit: str, message: str) -> None:
    case = captioned(tmp_path, TEXTS)
    with pytest.raises(UserError, match=message):
        case.run(f"captions: {{emit: [{emit}]}}\n")


def test_nan_is_no_value_but_null() -> None:
    """DuckDB has NaN above every number; filters, too, take it for missing."""
    similarity = pa.array([0.3, math.nan, 0.1, None], pa.float32())
    scores = pa.array([[0.3, math.nan], None, [math.nan], [0.2]], pa.list_(pa.float32())).slice(1)
    columns = {fact("similarity"): similarity.slice(1), fact("scores"): scores}
    of_each = "list_transform(scores, lambda s: s >= 0.2)"
    found = held({"similarity >= 0.28": (fact("similarity"),), of_each: (fact("scores"),)}, columns)
    assert [f.to_pylist() for f in found.values()] == [[None, False, None], [None, [None], [True]]]


@pytest.mark.parametrize(("sql", "kind"), [("tags", "list<.*string>"), ("length(tags)", "int64")])
def test_a_condition_over_a_column_of_unknown_type_is_refused_in_a_line(sql: str, kind: str) -> None:
    tags = {fact("tags"): pa.array([["a"], None], pa.list_(pa.string()))}
    words = rf"^captions.emit: where: {re.escape(sql)}: is {kind}, not true or false: compare it with something$"
    with pytest.raises(UserError, match=words):
        held({sql: (fact("tags"),)}, tags)


def test_a_list_of_scores_is_no_text(tmp_path: Path) -> None:
    case = captioned(tmp_path, TEXTS)
    made = "{run.caption_parts:Lengths: {text: said, name: lengths}}"
    with pytest.raises(UserError, match=r"emit.0.texts.0.source: expected a column of texts, found 'lengths' of type"):
        case.recipe(make(case, made) + "  emit: [{texts: [{source: lengths}]}]\n")


@given(st.lists(st.tuples(st.booleans(), st.one_of(st.none(), st.booleans())), max_size=30))
def test_a_text_whose_condition_does_not_hold_counts_as_null(rows: list[tuple[bool, bool | None]]) -> None:
    web = pa.array(["w" if there else None for there, _ in rows], pa.string())
    holds = pa.array([h for _, h in rows], pa.bool_())
    alive, copies = np.ones(len(rows), bool), np.ones(len(rows), np.int64)
    texts = {"web": web, "other": pa.array(["o"] * len(rows), pa.string())}
    with_condition = Emit(1, (("web", 0.3), ("other", 0.7)), None, ("c", None))
    found = build_emit((with_condition,), texts, alive, copies, {"c": holds})
    nulled = pa.array(["w" if there and h else None for there, h in rows], pa.string())
    plain = build_emit((Emit(1, (("web", 0.3), ("other", 0.7))),), {**texts, "web": nulled}, alive, copies)
    assert found[0].equals(plain[0])
    assert found[1].equals(plain[1])
