"""Where the numbers come from: the command, settings, packs, every run, and the machine."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from curate.ask.judge.who import primary, ranked
from curate.ask.judge.words import of_score
from curate.ask.report.html import number, table, text
from curate.run.compare.found import Comparison
from curate.run.states import duration


def provenance(comparison: Comparison) -> str:
    """Sections in details, but for the command and the packs."""
    command = ""
    if comparison.command:
        command = f'<pre tabindex="0" aria-label="The command">{text(comparison.command, 4000, keep=chr(10))}</pre>'
    packs = [[text(e.name), f"<code>{text(e.pick)}</code>", f"<code>{text(e.pack)}</code>"] for e in ranked(comparison)]
    head = [("entry", False), ("pick", False), ("pack", False)]
    settings = {"pool": comparison.pool, "scale": comparison.scale, "seeds": list(comparison.seeds)}
    return (
        f"{command}<h3>Packs</h3>{_wide(table(head, packs, 'Packs'))}"
        f"<details><summary>Settings of training</summary>{_named({**settings, **comparison.config})}</details>"
        f"<details><summary>Runs</summary>{_runs(comparison)}</details>"
        f"<details><summary>Environment</summary>{_named(comparison.environment)}</details>"
    )


def _runs(comparison: Comparison) -> str:
    metric = primary(comparison)
    rows = [
        [
            text(e.name),
            str(r.seed),
            text(of_score(metric, r.score)),
            duration(r.seconds),
            number(round(r.samples_per_s)),
            f"<code>{text(r.folder)}</code>",
        ]
        for e in ranked(comparison)
        for r in e.runs
    ]
    head = [("entry", False), ("seed", True), ("score", True), ("time", True), ("samples a second", True)]
    return _wide(table([*head, ("folder", False)], rows, "Runs"))


def _named(values: Mapping[str, Any]) -> str:
    rows = [[text(name), f"<code>{text(value)}</code>"] for name, value in flat(values)]
    return _wide(table([("what", False), ("value", False)], rows, "Settings")) if rows else "<p class='soft'>none</p>"


def _wide(shown: str) -> str:
    """A table whose paths are not broken into single letters on a small screen."""
    return f'<div class="results">{shown}</div>'


def flat(values: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    """("optimiser.lr", 0.001) of {"optimiser": {"lr": 0.001}}."""
    for name, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from flat(value, f"{before}{name}.")
        else:
            yield f"{before}{name}", value
