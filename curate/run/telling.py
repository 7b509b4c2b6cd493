"""How a run tells a person, or a program, what it does: bars, lines, JSON lines, or nothing but errors.

All of it goes to standard error; results go to standard output.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol, TextIO

from curate.errors import UserError
from curate.run.states import PassState, describe_state, duration
from curate.text import one_line, visible

LOGS = ("text", "json")
LINE_EVERY_S = 10.0
MANY = 6  # bars at most: those of the passes that come first


@dataclass(frozen=True)
class Telling:
    """What the person asked for.

    log: "text" (bars on a terminal, a line now and then elsewhere) or "json" (one object a line).
    quiet: errors only. prometheus: a text file with the counters, rewritten every few seconds.

    Raises:
        UserError: there is no such log.
    """

    log: str = "text"
    quiet: bool = False
    prometheus: Path | None = None

    def __post_init__(self) -> None:
        if self.log not in LOGS:
            raise UserError(f"--log {self.log}: it is one of {', '.join(LOGS)}")

    def teller(self, out: TextIO) -> Teller:
        if self.log == "json":
            return JsonTeller(out, quiet=self.quiet)
        if self.quiet:
            return QuietTeller(out)
        return BarTeller(out) if out.isatty() else LineTeller(out)


class Teller(Protocol):
    """What every way of telling can do. `show` is called often and decides itself when to speak."""

    def show(self, states: Mapping[str, PassState], *, begins: bool = False) -> None: ...

    def say(self, text: str, *, error: bool = False) -> None: ...

    def event(self, kind: str, facts: Mapping[str, Any]) -> None: ...

    def close(self) -> None: ...


class QuietTeller:
    """Errors only."""

    def __init__(self, out: TextIO) -> None:
        self.out = out

    def show(self, states: Mapping[str, PassState], *, begins: bool = False) -> None:
        return

    def say(self, text: str, *, error: bool = False) -> None:
        if error:
            print(visible(text, "\n"), file=self.out, flush=True)

    def event(self, kind: str, facts: Mapping[str, Any]) -> None:
        """Of the events a person is told the failures, as a line; the rest is in the log."""
        if kind == "failed":
            then = "given up" if facts["final"] else "will be tried again"
            self.say(f"{facts['pass']} {facts['item']}: {one_line(facts['error'])} ({then})", error=True)

    def close(self) -> None:
        return


class LineTeller(QuietTeller):
    """A line for each pass under way, every ten seconds: for logs of a cluster."""

    def __init__(self, out: TextIO) -> None:
        super().__init__(out)
        self._at = 0.0

    def show(self, states: Mapping[str, PassState], *, begins: bool = False) -> None:
        now = time.time()
        if not begins and now - self._at <= LINE_EVERY_S:
            return
        self._at = now
        for name, state in states.items():
            if state.done < state.total and (state.done or not begins):
                self.say(describe_state(name, state, now))

    def say(self, text: str, *, error: bool = False) -> None:
        print(visible(text, "\n"), file=self.out, flush=True)


class JsonTeller(QuietTeller):
    """One JSON object a line: `time` (UTC), `event`, and the event's own keys; see `Progress.tell`."""

    def __init__(self, out: TextIO, *, quiet: bool) -> None:
        super().__init__(out)
        self.quiet, self._at = quiet, 0.0

    def show(self, states: Mapping[str, PassState], *, begins: bool = False) -> None:
        now = time.time()
        if not begins and now - self._at <= LINE_EVERY_S:
            return
        self._at = now
        for name, state in states.items():
            if state.done < state.total and not begins:
                self.event("progress", {"pass": name, **state.counts(now)})

    def say(self, text: str, *, error: bool = False) -> None:
        self.event("error" if error else "say", {"message": text})

    def event(self, kind: str, facts: Mapping[str, Any]) -> None:
        if not self.quiet or kind in ("error", "failed", "end"):
            print(json_line(kind, facts), file=self.out, flush=True)


def json_line(kind: str, facts: Mapping[str, Any]) -> str:
    """An event as one line of ASCII JSON: what comes from the web stays inside its string."""
    stamp = datetime.fromtimestamp(time.time(), UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return json.dumps({"time": stamp, "event": kind, **facts}, default=str)


class BarTeller(QuietTeller):
    """Bars of rich on a terminal: one for each pass under way; a finished pass becomes a line above them."""

    def __init__(self, out: TextIO) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
        from rich.table import Column

        super().__init__(out)
        short = Column(no_wrap=True, overflow="ellipsis", ratio=2)
        rest = Column(no_wrap=True, overflow="ellipsis", ratio=3)
        columns = (
            TextColumn("{task.description}", markup=False, table_column=short), BarColumn(bar_width=12),
            MofNCompleteColumn(table_column=Column(no_wrap=True)),
            TextColumn("{task.fields[note]}", markup=False, table_column=rest),
        )  # fmt: skip
        # Workers print to the same terminal on their own account: rich need not catch what goes to standard output.
        self._bars = Progress(
            *columns, console=Console(file=out, force_terminal=True), refresh_per_second=4, expand=True, transient=True,
            redirect_stdout=False, redirect_stderr=False,
        )  # fmt: skip
        self._tasks: dict[str, Any] = {}
        self._told: set[str] = set()
        self._bars.start()

    def show(self, states: Mapping[str, PassState], *, begins: bool = False) -> None:
        now = time.time()
        for name, s in states.items():
            if s.done + s.failed >= s.total and name not in self._told:
                self._told.add(name)
                if name in self._tasks:
                    self._bars.remove_task(self._tasks.pop(name))
                if s.total:
                    self.say(f"{describe_state(name, s, s.ended or now)}, {duration((s.ended or now) - s.began)}")
        going = [n for n, s in states.items() if n not in self._told]
        for name in going[:MANY]:
            s = states[name]
            if name not in self._tasks:
                self._tasks[name] = self._bars.add_task(visible(name), total=s.total, note="")
            note = describe_state(name, s, now).split(": ", 1)[1].split(", ", 1)
            self._bars.update(self._tasks[name], completed=s.done, total=s.total, note=note[1] if note[1:] else "")

    def say(self, text: str, *, error: bool = False) -> None:
        self._bars.console.print(visible(text, "\n"), markup=False, highlight=False, soft_wrap=True)

    def close(self) -> None:
        self._bars.stop()
