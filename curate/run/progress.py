"""What a run tells while it goes on: to the person (`telling`), to its log, to Prometheus, and in a status file.

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
from collections.abc import Sequence
from typing import Any, TextIO

import curate
from curate.pool.layout import RUNS
from curate.pool.storage import Storage
from curate.run.engine import Pass
from curate.run.metrics import MetricsFile
from curate.run.processes import process_started
from curate.run.runlog import RunLog
from curate.run.states import PassState, describe_state, duration
from curate.run.telling import Telling
from curate.text import one_line

__all__ = ["PassState", "Progress", "Telling", "describe_state", "duration"]

STATUS_EVERY_S, REMOTE_STATUS_EVERY_S = 2.0, 20.0
ERRORS_KEPT = 200  # in the status file; the log has all


class Progress:
    """Watcher of an engine; one for a whole run. Use as a context manager.

    Give it the pool's `storage` as soon as there is one. `facts` are further keys of the status file.
    """

    def __init__(
        self, storage: Storage | None, title: str, out: TextIO | None = None, *, telling: Telling | None = None
    ) -> None:
        self.storage, self.title = storage, title
        self.telling = telling or Telling()
        stamp = time.strftime("%Y%m%d-%H%M%S", time.gmtime())
        self.run = f"{stamp}-{uuid.uuid4().hex[:6]}"
        self.states: dict[str, PassState] = {}
        self.flying: dict[tuple[str, str], float] = {}
        self.errors: dict[str, str] = {}
        self.facts: dict[str, Any] = {}
        self.at_once = 0
        self.began, self._status_at = time.time(), 0.0
        self._log: RunLog | None = None
        self._waiting: list[tuple[str, dict[str, Any]]] = []  # told before there was a pool
        prometheus = self.telling.prometheus
        self._metrics = None if prometheus is None else MetricsFile(prometheus, self.run, title)
        self._teller = self.telling.teller(sys.stderr if out is None else out)

    def __enter__(self) -> Progress:
        self.tell("begin", command=self.title, version=curate.__version__, host=socket.gethostname(), pid=os.getpid())
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, *_: object) -> None:
        state = "finished" if kind is None else f"stopped: {kind.__name__}"
        if error is not None:
            self.facts["error"] = one_line(str(error), 1000)
        try:
            self._teller.show(self.states)
            if self.states or kind is not None or self._status_at:
                self._write_status(state)
        except OSError:
            if kind is None:  # else what stopped the run is what a person must see: a full disk stops this too
                raise
        finally:
            seconds = round(time.time() - self.began, 3)
            why: dict[str, Any] = {"error": self.facts["error"]} if "error" in self.facts else {}
            self.tell("end", state=state, seconds=seconds, **why)
            self._close(state)

    def _close(self, state: str) -> None:
        if self._log is not None:
            self._log.close()
        if self._metrics is not None:
            self._metrics.update(self.states, state)
        for broken in (self._log and self._log.broken, self._metrics and self._metrics.broken):
            if broken:
                self._teller.say(broken, error=True)
        self._teller.close()

    @property
    def log(self) -> str | None:
        """Where the log lies, once there is one."""
        return None if self._log is None else self._log.where

    # ---- called by the engine

    def begin(self, passes: Sequence[Pass]) -> None:
        for p in passes:
            self.states[p.name] = PassState(len(p.items), began=time.time(), folder=p.folder)
            about: dict[str, Any] = {"pass": p.name, "total": len(p.items), "folder": p.folder}
            self.tell("pass", **about)
        self.tick(force=True)

    def started(self, name: str, item: str) -> None:
        if not self.states[name].done and not any(n == name for n, _ in self.flying):
            self.states[name].began = time.time()
        self.flying[name, item] = time.time()
        self.at_once = max(self.at_once, len(self.flying))

    def finished(self, name: str, item: str, result: dict[str, Any], seconds: float) -> None:
        self.states[name].add(result, seconds, time.time())
        self.flying.pop((name, item), None)
        self.errors.pop(f"{name} {item}", None)
        counts: dict[str, Any] = {
            k: result[k] for k in ("rows", "outcomes", "errors", "bytes_read", "bytes_written") if k in result
        }
        self.tell("finished", **counts | {"pass": name, "item": item, "seconds": round(seconds, 3)})

    def failed(self, name: str, item: str, error: str, final: bool) -> None:
        self.flying.pop((name, item), None)
        self.errors[f"{name} {item}"] = error[-2000:]
        self.states[name].failed += final
        self.tell("failed", **{"pass": name, "item": item, "final": final, "error": error[-20_000:]})

    def tick(self, *, force: bool = False) -> None:
        self._teller.show(self.states, begins=force)
        if self._metrics is not None:
            self._metrics.update(self.states)
        if time.time() - self._status_at > self._status_gap():
            self._write_status("running")

    # ----

    def say(self, text: str) -> None:
        """One line for the person, above the bars where there are any."""
        self.tell("say", message=text)
        self._teller.say(text)

    def tell(self, kind: str, **facts: Any) -> None:
        """An event, to the log and to who reads JSON lines.

        begin (command, version, host, pid), pass (pass, total, folder), finished (pass, item, seconds, rows,
        outcomes, ...), failed (pass, item, final, error), say (message), end (state, seconds, error); to JSON
        lines only: progress (pass and its counters), and not finished, which would be a line a shard.
        """
        if kind not in ("finished", "say"):
            self._teller.event(kind, {"run": self.run, **facts})
        if self.storage is None or (self._log is None and kind in ("begin", "end")):
            self._waiting.append((kind, facts))  # a run that says nothing else leaves no log
            return
        if self._log is None:
            self._log = RunLog(self.storage, self.run)
        for early in self._waiting:
            self._log.write(*early)
        self._waiting = []
        self._log.write(kind, facts)

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
            "version": curate.__version__,
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "pid_started": process_started(os.getpid()),
            "began": self.began,
            "updated": now,
            "workers": self.at_once,
            "log": self.log,
            **self.facts,
            "passes": {name: s.counts(now) for name, s in self.states.items()},
            "longest": [
                {"pass": n, "item": i, "seconds": round(now - t, 1), "median_s": self.states[n].median_s()}
                for (n, i), t in slow
            ],
            "errors": dict(list(self.errors.items())[:ERRORS_KEPT]),
            "errors_in_all": len(self.errors),
        }
