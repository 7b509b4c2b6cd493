"""What a comparison of recipes is said to show, in sentences, in a terminal and as JSON."""

from __future__ import annotations

import dataclasses
import json
import unicodedata
from typing import Any

import pytest

from curate.ask.diff.say import WIDTH, _width
from curate.ask.judge import as_object, say, verdict
from curate.ask.judge.who import difference, groups, leading, random_of, ranked
from curate.ask.judge.words import (
    gain,
    interval,
    listed,
    of_p,
    of_score,
    of_spread,
    outcome,
    repeats,
    scoring,
    set_and_measure,
    uncorrected,
)
from curate.run.compare.found import Comparison, Difference, Metric
from tests.ask.judge_parts import comparison, entry
from training_smoke.statistics import PairedComparison, holm_corrected, paired

SHARE, LOSS = Metric("a/acc1"), Metric("a/loss", lower=True, percent=False)
FOUR = (0, 1, 2, 3)


def found(mean: float, half: float, n: int = 4, p: float | None = None, wins: int = 4) -> PairedComparison:
    p = (0.001 if abs(mean) > half else 0.5) if p is None else p
    return PairedComparison(mean, mean - half, mean + half, half / 2, n, wins, p, p)


def judged(pairs: dict[tuple[str, str], PairedComparison], names: tuple[str, ...], **more: Any) -> Comparison:
    """A comparison in which just these differences were made."""
    made = tuple(Difference(a, b, "cifar10/acc1", c) for (a, b), c in pairs.items())
    return comparison(names, FOUR, differences=made, **more)


# ---------------------------------------------------------------- the verdict


def test_a_recipe_that_is_better() -> None:
    said = verdict(judged({("dfn30", "no_filter"): found(0.125, 0.024)}, ("dfn30", "no_filter"), a_a=None))
    assert said.headline.startswith(
        "dfn30 is better than no filter: 47.6 % against 33.6 % of cifar10/acc1, +12.5 points"
    )
    assert "(95 % interval +10.1 to +14.9), ahead in 4 of 4 seeds" in said.headline


@pytest.mark.parametrize(
    ("mean", "half", "words"),
    [
        (0.004, 0.048, "dedup is not shown to be better than no filter"),
        (-0.004, 0.048, "is within noise"),
        (-0.06, 0.02, "dedup is worse than no filter"),
    ],
)
def test_one_that_is_not(mean: float, half: float, words: str) -> None:
    said = verdict(judged({("dedup", "no_filter"): found(mean, half)}, ("dedup", "no_filter")))
    assert words in said.headline
    assert "is better" not in said.headline


def test_several_of_which_none_is_better() -> None:
    names = ("dfn50", "dedup", "no_filter")
    noise = verdict(judged({(n, "no_filter"): found(0.004, 0.05) for n in names[:2]}, names))
    assert noise.headline.startswith("No recipe is shown to be better than no filter")
    assert "for the best of them, dfn50" in noise.headline
    worse = verdict(judged({(n, "no_filter"): found(-0.1, 0.05) for n in names[:2]}, names))
    assert worse.headline.startswith("No recipe is better than no filter; the best of them, dfn50, is worse")
    assert any(s.startswith("Worse than no filter: dfn50 −10") for s in worse.findings)


def test_the_leading_recipe_is_one_that_is_better_though_another_has_a_higher_mean() -> None:
    pairs = {("dfn30", "no_filter"): found(0.14, 0.3), ("dfn50", "no_filter"): found(0.13, 0.02)}
    pairs[("dfn30", "dfn50")] = found(0.004, 0.3)
    made = judged(pairs, ("dfn30", "dfn50", "no_filter"))
    assert ranked(made)[0].name == "dfn30"
    best = leading(made)
    assert best is not None
    assert best.name == "dfn50"
    assert verdict(made).headline.endswith("It is not told apart from dfn30.")


def test_a_random_subset_that_does_as_well_is_said_at_once() -> None:
    names = ("dfn30", "no_filter", "random, as dfn30")
    pairs = {("dfn30", "no_filter"): found(0.1, 0.02), ("dfn30", "random, as dfn30"): found(0.001, 0.02)}
    said = verdict(judged(pairs, names))
    assert "But a random subset of the same size does as well" in said.headline
    assert any(s.startswith("No better than a random subset of the same size") for s in said.findings)
    better = verdict(judged(pairs | {("dfn30", "random, as dfn30"): found(0.1, 0.02)}, names))
    assert "random" not in better.headline
    assert any("the choice counts and not the size: dfn30 +10.0 (+8.0 to +12.0)" in s for s in better.findings)


def test_an_a_a_control_that_differs_is_a_warning() -> None:
    pairs = {("dfn30", "no_filter"): found(0.1, 0.02)}
    quiet = verdict(judged(pairs, ("dfn30", "no_filter", "no_filter again")))
    assert any("no difference shown, as it must be" in s for s in quiet.findings)
    loud = Difference("no_filter again", "no_filter", "cifar10/acc1", found(0.05, 0.01))
    said = verdict(judged(pairs, ("dfn30", "no_filter", "no_filter again"), a_a=loud))
    assert any("DIFFER" in s for s in said.findings)
    assert said.cautions[0].startswith("The A/A control differs")


def test_what_holm_takes_back_counts_as_noise_and_is_named() -> None:
    raw = {f"{i}": found(0.02, 0.015, p=0.03) for i in range(3)}
    c = holm_corrected(raw)["0"]
    assert uncorrected(c)
    assert outcome(c) == "noise"
    said = verdict(judged({("dedup", "no_filter"): c}, ("dedup", "no_filter")))
    assert "is within noise" in said.headline
    assert any("1 of 1 comparisons" in s and "dedup against no_filter" in s for s in said.cautions)


def test_cautions_name_sets_repeats_and_compute() -> None:
    small = entry("dfn30", FOUR, samples=2_000)
    said = verdict(comparison(entries=[small, entry("no_filter", FOUR)]))
    told = "\n".join(said.cautions)
    assert "flickr8k (12 of 1,000)" in told
    assert "cifar10" not in told, "it has no picture in the pool"
    assert "Not evaluated: imagenet1k" in told
    assert "dfn30 (20 times)" in told
    assert "40,192 samples seen" in told
    assert "as a share of one training: dfn30 77 %" in told
    assert any("2 seeds" in c for c in verdict(comparison(("dfn30", "no_filter"), (0, 1))).cautions)


def test_without_controls_recipes_are_compared_with_each_other() -> None:
    names = ("dfn50", "dfn30", "dedup")
    pairs = {("dfn30", "dfn50"): found(0.004, 0.02), ("dedup", "dfn30"): found(-0.14, 0.02)}
    said = verdict(judged(pairs, names, a_a=None))
    assert said.headline.startswith("dfn30 scores 4")
    assert "It is not told apart from dfn50. No control without a filter was trained" in said.headline
    alone = verdict(judged({}, ("dedup",), a_a=None))
    assert "Nothing was compared with it" in alone.headline
    assert alone.findings == ()
    assert "only controls" in verdict(judged({}, ("no_filter",), a_a=None)).headline


def test_noise_says_how_many_seeds_would_tell() -> None:
    one = verdict(judged({("dedup", "no_filter"): found(0.02, 0.04)}, ("dedup", "no_filter")))
    assert "A difference of this size would take at least 7 seeds to show." in one.headline
    hopeless = verdict(judged({("dedup", "no_filter"): found(1e-18, 0.04)}, ("dedup", "no_filter")))
    assert "would take" not in hopeless.headline


def test_many_recipes_are_one_ranking() -> None:
    names = ("dfn30", "dfn50", "dedup", "more", "rest", "no_filter")
    made = comparison(names, FOUR)
    line = next(s for s in verdict(made).findings if s.startswith("Recipes by their means"))
    assert "dfn30 > dfn50 > " in line
    assert " ~ " in line
    assert all(line.count(name) == 1 for name in names[:-1])
    assert "10 other" not in "\n".join(say(made))
    assert "6 other pairs of recipes are on the page" in say(made), "those with the leading one are told"


def test_one_seed_shows_nothing() -> None:
    said = verdict(comparison(("dfn30", "no_filter", "no_filter again"), (0,)))
    assert "with one seed nothing is shown" in said.headline
    assert said.findings == ()


# ---------------------------------------------------------------- differences


def test_a_difference_can_be_asked_for_either_way() -> None:
    made = comparison(("dfn30", "no_filter"), FOUR)
    a, b = made.entries
    there, back = difference(made, a, b), difference(made, b, a)
    assert there is not None
    assert back is not None
    assert (back.mean, back.low, back.high, back.p_holm) == (-there.mean, -there.high, -there.low, there.p_holm)
    assert (there.wins, back.wins) == (4, 0)
    assert difference(made, a, a) is None
    assert difference(made, a, None) is None


def test_recipes_of_one_size_share_a_random_subset() -> None:
    shared = entry("random, as dfn30", FOUR, of="dfn30, dfn50")
    made = comparison(entries=[*(entry(n, FOUR) for n in ("dfn30", "dfn50", "dedup", "no_filter")), shared])
    assert [random_of(made, e) for e in made.recipes] == [shared, shared, None]
    told = next(s for s in verdict(made).findings if "the choice counts" in s)
    assert "dfn30 +" in told
    assert "dfn50 +" in told


def test_of_two_recipes_the_better_one_comes_first() -> None:
    made = comparison()
    asked = {(d.a, d.b) for d in made.differences}
    assert ("dfn50", "dfn30") in asked
    told = {(d.a, d.b): d.comparison.mean for _, found in groups(made) for d in found}
    assert len(told) == len(asked) + 1, "and the A/A control"
    assert told[("dfn30", "dfn50")] > 0
    assert told[("random, as dfn30", "no_filter")] < 0, "controls stay as they are"


def test_ties_are_nobodys_and_losses_are_turned() -> None:
    a, b = (entry(n, (0, 1, 2), metrics=[LOSS]) for n in ("x", "no_filter"))
    losses = {"x": [3.0, 4.0, 5.0], "no_filter": [3.0, 4.5, 5.5]}
    a, b = (
        dataclasses.replace(
            e,
            runs=tuple(
                dataclasses.replace(r, scores={LOSS.name: v}) for r, v in zip(e.runs, losses[e.name], strict=True)
            ),
        )
        for e in (a, b)
    )
    d = Difference("x", "no_filter", LOSS.name, paired(losses["no_filter"], losses["x"]))
    made = comparison(entries=[a, b], metrics=(LOSS,), others=(d,))
    assert d.comparison.wins == 2, "x is lower twice"
    back = difference(made, b, a, made.others)
    assert back is not None
    assert back.wins == 0
    assert back.mean == pytest.approx(-1 / 3)


# ---------------------------------------------------------------- words


def test_numbers_in_words() -> None:
    assert of_score(SHARE, 0.4691) == "46.9 %"
    assert of_score(LOSS, 5.12345) == "5.123"
    assert of_score(LOSS, 12_345.6) == "12,346"
    assert of_spread(SHARE, 0.0098) == "0.98"
    assert of_spread(SHARE, None) == "–"
    assert gain(SHARE, found(0.125, 0.024)) == "+12.5"
    assert interval(SHARE, found(0.0045, 0.0009)) == "+0.36 to +0.54"
    assert interval(LOSS, found(-0.5, 0.012)) == "−0.512 to −0.488"
    assert gain(SHARE, found(-0.00001, 0.05)) == "0.0", "no minus nothing"
    assert interval(SHARE, paired([0.3], [0.2])) == "no interval from one seed"
    assert gain(SHARE, paired([0.3, 0.3], [0.3, 0.3])) == "0.0"
    assert (of_p(0.0004), of_p(0.0351), of_p(1.0)) == ("<0.001", "0.035", "1")


def test_costs_in_words() -> None:
    made = entry("dedup", (0,), samples=30_000)
    assert repeats(made) == "1.3"
    assert repeats(dataclasses.replace(made, kept=1_000)) == "40"
    assert repeats(dataclasses.replace(made, kept=400_000)) == "0.1"
    assert scoring(made) == "1m 35s = 31,000 samples"
    assert scoring(dataclasses.replace(made, scoring_s=None)) == "not noted"
    assert scoring(dataclasses.replace(made, scoring_s=0.0)) == "none"
    assert scoring(dataclasses.replace(made, scoring_s=0.4)) == "under 1 s = 31,000 samples"


def test_lists_and_names() -> None:
    assert (listed([]), listed(["a"]), listed(["a", "b", "c"])) == ("", "a", "a, b and c")
    assert listed("abcdefgh", 3) == "a, b, c and 5 more"
    assert set_and_measure("wds/cifar10/acc1") == ("wds/cifar10", "acc1")
    assert set_and_measure("mean")[1] == "mean"


# ---------------------------------------------------------------- terminal and JSON


@pytest.mark.parametrize("seeds", [(0,), (0, 1), FOUR])
def test_lines_fit_a_terminal(seeds: tuple[int, ...]) -> None:
    long = "a_recipe_with_a_name_that_" + "never_ends_" * 12
    names = (long, "dfn30", "\x1b[2J\u202e狗狗狗狗", "no_filter", "random, as dfn30", "no_filter again")
    lines = say(comparison(names, seeds))
    assert all(_width(line) <= WIDTH for line in lines)
    assert not [c for line in lines for c in line if unicodedata.category(c) in ("Cc", "Cf")]


def test_tables_have_every_entry_and_difference() -> None:
    made = comparison()
    lines = say(made)
    assert lines[0].startswith("dfn30 is better than no filter")
    head = next(i for i, line in enumerate(lines) if line.split() == ["samples", "repeats", "scoring", "mean", "sd"])
    rows = [line.split()[0] for line in lines[head + 1 : head + 7]]
    assert rows == ["dfn30", "dfn50", "dedup", "no_filter", "random,", "no_filter"]
    assert sum(line.endswith(("better", "worse", "within noise")) for line in lines) == len(made.differences) + 1


def test_json_knows_no_infinity() -> None:
    made = as_object(comparison(("dfn30", "no_filter"), (0,)))
    assert json.loads(json.dumps(made, allow_nan=False))["differences"][0]["comparison"]["low"] is None
    assert "one seed" in made["verdict"]["headline"]
    whole = as_object(comparison())
    assert whole["entries"][0]["runs"][0]["score"] == comparison().entries[0].runs[0].score
