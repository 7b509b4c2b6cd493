"""What a run tells while it goes on: a bar on a terminal, a line now and then elsewhere, and a status file.

The status file (`runs/<run>/status.json`, rewritten every few seconds) is what `curate status` reads from
another terminal, also after the run is dead.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import time
import uuid
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

from curate.pool.layout import RUNS
from curate.pool.storage import Storage
from curate.run.engine import Pass

LINE_EVERY_S, STATUS_EVERY_S, REMOTE_STATUS_EVERY_S = 10.0, 2.0, 20.0


@dataclass(frozen=True)
class Telling:
    """How a run tells what it does: log "text" or "json" on stderr, nothing but errors if quiet."""

    log: str = "text"
    quiet: bool = False
    prometheus: Path | None = None


@dataclass
class PassState:
    """Counters of one pass. rows and outcomes are what workers reported, in all."""

    total: int
    done: int = 0
    failed: int = 0
    rows: int = 0
    seconds: float = 0.0
    began: float = 0.0
    outcomes: Counter[str] = field(default_factory=Counter)

    def left_s(self, now: float) -> float | None:
        """Seconds left at the rate so far; None before the first item is through."""
        return (now - self.began) / self.done * (self.total - self.done) if self.done else None


class Progress:
    """Watcher of an engine; one for a whole run. Use as a context manager."""

    def __init__(
        self, storage: Storage | None, title: str, out: TextIO | None = None, *, telling: Telling | None = None
    ) -> None:
        self.telling = telling or Telling()
        self.storage, self.title = storage, title
        self.out = sys.stderr if out is None else out
        stamp = time.strftime("%Y%m%d-%H%M%S", time.gmtime())
        self.run = f"{stamp}-{uuid.uuid4().hex[:6]}"
        self.states: dict[str, PassState] = {}
        self.flying: dict[tuple[str, str], float] = {}
        self.errors: dict[str, str] = {}
        self.began, self._line_at, self._status_at = time.time(), 0.0, 0.0
        self._bar = _Bar(self.out) if self.out.isatty() else None

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self._bar:
            self._bar.close()
        if not self.states and kind is None:
            return
        try:
            self._write_status("finished" if kind is None else f"stopped: {kind.__name__}")
        except OSError:
            if kind is None:  # else what stopped the run is what a person must see: a full disk stops this too
                raise

    # ---- called by the engine

    def begin(self, passes: Sequence[Pass]) -> None:
        for p in passes:
            self.states[p.name] = PassState(len(p.items), began=time.time())
        self.tick(force=True)

    def started(self, name: str, item: str) -> None:
        if not self.states[name].done and not any(n == name for n, _ in self.flying):
            self.states[name].began = time.time()
        self.flying[name, item] = time.time()

    def finished(self, name: str, item: str, result: dict[str, Any], seconds: float) -> None:
        state = self.states[name]
        state.done += 1
        state.seconds += seconds
        state.rows += int(result.get("rows", 0))
        state.outcomes.update(result.get("outcomes", {}))
        self.flying.pop((name, item), None)
        self.errors.pop(f"{name} {item}", None)

    def failed(self, name: str, item: str, error: str, final: bool) -> None:
        self.flying.pop((name, item), None)
        self.errors[f"{name} {item}"] = error[-2000:]
        self.states[name].failed += final
        last = error.strip().splitlines()[-1][:300]
        self.say(f"{name} {item}: {last} ({'given up' if final else 'will be tried again'})")

    def tick(self, *, force: bool = False) -> None:
        now = time.time()
        if self._bar:
            self._bar.show(self.states)
        elif force or now - self._line_at > LINE_EVERY_S:
            self._line_at = now
            for name, state in self.states.items():
                if state.done < state.total and (state.done or not force):
                    self.say(describe_state(name, state, now))
        if now - self._status_at > self._status_gap():
            self._write_status("running")

    # ----

    def say(self, text: str) -> None:
        """One line for the person, above the bar where there is one."""
        if self._bar:
            self._bar.say(text)
        else:
            print(text, file=self.out, flush=True)

    def _status_gap(self) -> float:
        return STATUS_EVERY_S if self.storage is None or self.storage.is_local else REMOTE_STATUS_EVERY_S

    def _write_status(self, state: str) -> None:
        self._status_at = time.time()
        if self.storage is not None:
            data = json.dumps(self.status(state), indent=1).encode()
            self.storage.put(f"{RUNS}/{self.run}/status.json", data)

    def status(self, state: str) -> dict[str, Any]:
        """The content of the status file."""
        now = time.time()
        slow = sorted(self.flying.items(), key=lambda kv: kv[1])[:5]
        return {
            "run": self.run,
            "title": self.title,
            "state": state,
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "began": self.began,
            "updated": now,
            "passes": {
                name: {
                    "total": s.total,
                    "done": s.done,
                    "failed": s.failed,
                    "rows": s.rows,
                    "worker_seconds": round(s.seconds, 3),
                    "left_s": s.left_s(now),
                    "outcomes": dict(s.outcomes.most_common()),
                }
                for name, s in self.states.items()
            },
            "longest": [{"pass": n, "item": i, "seconds": round(now - t, 1)} for (n, i), t in slow],
            "errors": self.errors,
        }


def describe_state(name: str, s: PassState, now: float) -> str:
    """``ingest: 12 of 100 shards, 1,200 rows/s, ok 11,532, http_4xx 210, 3m 20s left``."""
    elapsed = max(now - s.began, 1e-9)
    parts = [f"{name}: {s.done} of {s.total}"]
    if s.rows:
        parts.append(f"{s.rows / elapsed:,.0f} rows/s")
    parts += [f"{kind} {count:,}" for kind, count in s.outcomes.most_common(4)]
    if s.failed:
        parts.append(f"{s.failed} failed")
    left = s.left_s(now)
    if left is not None:
        parts.append(f"{duration(left)} left")
    return ", ".join(parts)


def duration(seconds: float) -> str:
    """``45 s``, ``3m 20s``, ``5h 10m``."""
    if seconds < 60:
        return f"{int(seconds)} s"
    minutes, hours = divmod(int(seconds), 60)[0], int(seconds // 3600)
    return f"{minutes}m {int(seconds) % 60}s" if hours == 0 else f"{hours}h {minutes % 60}m"


class _Bar:
    """Bars of rich on a terminal: one a pass."""

    def __init__(self, out: TextIO) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as Bars

        columns = (
            TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[note]}"),
            TimeRemainingColumn(),
        )  # fmt: skip
        self._bars = Bars(*columns, console=Console(file=out), refresh_per_second=4)
        self._tasks: dict[str, Any] = {}
        self._bars.start()

    def show(self, states: dict[str, PassState]) -> None:
        for name, s in states.items():
            if name not in self._tasks:
                self._tasks[name] = self._bars.add_task(name, total=s.total, note="")
            note = " ".join(f"{k} {v:,}" for k, v in s.outcomes.most_common(3))
            self._bars.update(self._tasks[name], completed=s.done, total=s.total, note=note)

    def say(self, text: str) -> None:
        self._bars.console.print(text, markup=False, highlight=False)

    def close(self) -> None:
        self._bars.stop()
