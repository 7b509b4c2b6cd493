"""Scores beside those of the same models shown no picture, or another's: what is told of them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

import pytest

from curate.ask.judge import as_object, say, verdict
from curate.ask.judge.page import draw
from curate.ask.judge.seen import columns, unseen
from curate.run.compare.found import Comparison, Entry, Metric, RunFound
from curate.run.compare.gather import seen
from tests.ask.judge_parts import comparison, entry

CIDER = Metric("photos/cider")


def run(seed: int, score: float, controls: Mapping[str, float], metric: str) -> RunFound:
    scores = {metric: score}
    return RunFound(seed, "judge/x", score, scores | seen(scores, controls), (), 1.0, 100.0, controls)


def judged(name: str, score: float, blind: float, shuffled: float, metric: str = CIDER.name, n: int = 3) -> Entry:
    """Seeds that differ by thousandths, so that differences of hundredths are shown."""
    controls = [
        {f"{metric}_blind": blind + s * s / 1000, f"{metric}_shuffled": shuffled + s * s / 1000} for s in range(n)
    ]
    return entry(name, (), runs=tuple(run(s, score + s / 1000, controls[s], metric) for s in range(n)))


def compared(entries: Sequence[Entry], metric: Metric = CIDER) -> Comparison:
    metrics = tuple(Metric(name) for name in entries[0].runs[0].scores)
    return comparison(
        seeds=(0, 1, 2), entries=entries, primary=metric.name, metrics=metrics, differences=(), others=()
    )  # fmt: skip


SEES, WORDS, NONE = (
    judged("sees", 0.30, 0.10, 0.10),
    judged("words", 0.33, 0.32, 0.20),
    judged("no_filter", 0.20, 0.30, 0.15),
)


def test_who_is_not_above_a_control_is_named() -> None:
    sentences = list(unseen(compared([SEES, WORDS, NONE])))
    assert sentences[0] == (
        "By photos/cider, models of no_filter are not shown to do better than when they see a grey picture instead: "
        "such scores can come from texts alone."
    )
    assert [s for s in sentences if "another's picture instead" in s] == []
    low = compared([judged("sees", 0.30, 0.10, 0.30), NONE])
    assert any("models of sees are not shown" in s and "another's picture instead" in s for s in unseen(low))


def test_another_order_by_what_was_seen_is_told() -> None:
    told = list(unseen(compared([SEES, WORDS, NONE])))[-1]
    assert told == (
        "Ranked by photos/cider_seen, what scores lie above those with another's picture, the order is sees, words, "
        "no_filter, not words, sees, no_filter: how texts are worded has a part in these scores."
    )
    same = compared([SEES, judged("no_filter", 0.20, 0.10, 0.15)])
    assert list(unseen(same)) == []


def test_one_seed_says_nothing_of_controls() -> None:
    one = comparison(
        seeds=(0,), entries=[judged("a", 0.1, 0.2, 0.2, n=1)], primary=CIDER.name, metrics=(CIDER,),
        differences=(), others=(),
    )  # fmt: skip
    assert list(unseen(one)) == []


def test_terminal_page_and_json_show_them() -> None:
    found = compared([SEES, WORDS, NONE])
    lines = "\n".join(say(found))
    header = next(line for line in say(found) if "repeats" in line)
    assert header.split()[-2:] == ["grey", "others'"]
    assert next(line for line in say(found) if line.startswith("sees")).split()[-4:] == ["10.2", "%", "10.2", "%"]
    assert "models of no_filter are not shown" in lines.replace("\n", " ").replace("  ", " ")
    assert verdict(found).cautions[0].startswith("By photos/cider, models of no_filter")
    page = draw(found)
    assert "seeing grey" in page
    assert "shown a grey picture, or another’s" in page
    kept = json.loads(json.dumps(as_object(found)))
    assert kept["entries"][0]["runs"][0]["controls"]["photos/cider_blind"] == pytest.approx(0.1)


def test_metrics_that_texts_alone_cannot_raise_have_no_such_columns() -> None:
    found = compared([judged("sees", 0.3, 0.1, 0.1, "photos/acc1"), judged("no_filter", 0.2, 0.3, 0.1, "photos/acc1")],
                     Metric("photos/acc1"))  # fmt: skip
    assert columns(found) == {}
    assert "seeing grey" not in draw(found)
    assert [s for s in unseen(found) if "no_filter" in s] != []  # but who is not above chance is told
