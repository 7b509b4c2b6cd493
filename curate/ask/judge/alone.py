"""What one model scores on its sets, in a terminal of 100 columns and as an object for JSON.

print("\\n".join(say_evaluation(found)))
"""

from __future__ import annotations

import dataclasses
from typing import Any

from curate.ask.diff.say import table
from curate.ask.judge.say import finite, wrapped
from curate.ask.judge.seen import SHOWN
from curate.ask.judge.words import listed, minus, percent_level
from curate.run.compare.alone_found import Evaluation, OneSet
from curate.run.compare.found import is_written
from training_smoke.statistics import Interval

NAME = 30  # columns of a set's name
PROBES = {"lp_acc1": "linear probe", "knn_acc1": "kNN"}


def say_evaluation(found: Evaluation) -> list[str]:
    """A line a set, then what is missing; no line has a control character.

    Example: a row of say_evaluation(found) is "cifar10  acc1  10,000  46.9 %  45.9 to 47.9".
    """
    probes = [name for name in PROBES if any(name in s.metrics for s in found.sets)]
    head = [("set", False), ("metric", False), ("items", True), ("score", True), (f"{percent_level()} of items", True)]
    head += [(PROBES[name], True) for name in probes]
    controls = list(SHOWN) if any(is_written(s.main) for s in found.sets) else []
    head += [(SHOWN[control], True) for control in controls]
    if found.against is not None:
        head += [("other", True), ("difference", True)]
    rows = [_row(found, s, probes, controls) for s in found.sets]
    rows += [[name, "mean", "", _share(value), *[""] * (len(head) - 4)] for name, value in found.datacomp.items()]
    lines = table(head, rows, NAME)
    if found.against is not None:
        lines += wrapped([_verdict(found)])
    if found.missing:
        lines += wrapped([f"not evaluated: {listed([f'{n} ({why})' for n, why in found.missing.items()], 3)}"])
    if found.useless:
        lines += wrapped([f"made no difference: {listed(list(found.useless))}: no set here asks this model for that"])
    return lines


def _row(found: Evaluation, one: OneSet, probes: list[str], controls: list[str]) -> list[str]:
    cells = [one.name, one.main, _items(one), _share(one.score), _interval(one.interval)]
    names = [*probes, *(one.main + control for control in controls)]
    cells += [_share(one.metrics[name]) if name in one.metrics else "" for name in names]
    if found.against is not None:
        cells += ["" if one.other is None else _share(one.other), _difference(one)]
    return cells


def _items(one: OneSet) -> str:
    """``500 of 1,000``, where a part of the set was asked about; of questions ``1,000 (part)``."""
    whole, pictures = one.metrics.get("n_set", 0), one.metrics.get("n_pictures", one.n)
    if whole <= pictures:
        return f"{one.n:,}"
    return f"{one.n:,} (part)" if "n_pictures" in one.metrics else f"{one.n:,} of {whole:,}"


def _verdict(found: Evaluation) -> str:
    """For how many sets zero lies outside of the interval; they are not corrected for their number."""
    better = [s.name for s in found.sets if s.difference is not None and s.difference.low > 0]
    worse = [s.name for s in found.sets if s.difference is not None and s.difference.high < 0]
    even = [s.name for s in found.sets if s.name not in (*better, *worse)]
    said = [f"{word} on {listed(names)}" for word, names in (("better", better), ("worse", worse)) if names]
    if even:
        said.append(f"not told apart on {listed(even)}")
    return (
        f"{found.model} against {found.against}: {'; '.join(said)}. Intervals are over the choice of test items, for "
        "these two checkpoints; whether a recipe trains better models takes several seeds (`curate compare`)."
    )


def _share(value: float) -> str:
    return f"{100 * value:.1f} %"


def _interval(interval: Interval | None) -> str:
    return "–" if interval is None else f"{100 * interval.low:.1f} to {100 * interval.high:.1f}"


def _difference(one: OneSet) -> str:
    """``+2.1 (+0.4 to +3.9)``, in points."""
    if one.difference is None:
        return "–"
    d = one.difference
    return minus(f"{100 * d.mean:+.1f} ({100 * d.low:+.1f} to {100 * d.high:+.1f})")


def evaluation_as_object(found: Evaluation) -> dict[str, Any]:
    """Everything found, with null where a number is not finite."""
    said: dict[str, Any] = finite(dataclasses.asdict(found))
    return said
