"""The log of a run, in the pool: `runs/<run>/log.jsonl`, one event a line, as it happens.

On a local pool each line is appended at once (`tail -f` works). An object store has no appending: there the log is a
row of segments, `log.0000.jsonl`, ..., written now and then and at the end.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, TextIO

from curate.pool.layout import RUNS
from curate.pool.storage import Storage
from curate.run.telling import json_line

SEGMENT_EVERY_S = 20.0
MOST_BYTES = 64 << 20  # from here on only what matters is written: a line a shard adds up
ALWAYS = frozenset({"begin", "pass", "failed", "say", "error", "end"})


class RunLog:
    """Where it cannot be written (a full disk), the run goes on: `broken` says why, and is told to the person."""

    def __init__(self, storage: Storage, run: str) -> None:
        self.storage = storage
        self.rel = f"{RUNS}/{run}/log.jsonl"
        self.broken: str | None = None
        self._stem = f"{RUNS}/{run}/log"
        self._file: TextIO | None = None
        self._lines: list[str] = []
        self._segment, self._bytes = 0, 0
        self._flushed = time.time()

    def write(self, kind: str, facts: Mapping[str, Any]) -> None:
        """Append an event."""
        if self.broken is not None or (self._bytes > MOST_BYTES and kind not in ALWAYS):
            return
        line = json_line(kind, facts)
        before, self._bytes = self._bytes, self._bytes + len(line) + 1
        if before <= MOST_BYTES < self._bytes:
            line += "\n" + json_line("say", {"message": f"over {MOST_BYTES:,} bytes: from here on no finished items"})
        try:
            self._append(line)
        except OSError as e:
            self.broken = f"{self.rel} is not written any more: {e.strerror or e}"

    def _append(self, line: str) -> None:
        if not self.storage.is_local:
            self._lines.append(line)
            if time.time() - self._flushed > SEGMENT_EVERY_S:
                self._put()
            return
        if self._file is None:
            path = self.storage.local(self.rel)
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = path.open("a", encoding="utf-8", buffering=1)
        self._file.write(line + "\n")

    def _put(self) -> None:
        self._flushed = time.time()
        if self._lines:
            name = f"{self._stem}.{self._segment:04d}.jsonl"
            self.storage.put(name, ("\n".join(self._lines) + "\n").encode())
            self._segment, self._lines = self._segment + 1, []

    def close(self) -> None:
        try:
            if not self.storage.is_local and self.broken is None:
                self._put()
            if self._file is not None:
                self._file.close()
        except OSError as e:
            self.broken = f"{self.rel} is not whole: {e.strerror or e}"
        self._file = None

    @property
    def where(self) -> str:
        """What a person looks at."""
        return f"{self.storage.url}/{self.rel if self.storage.is_local else self._stem + '.*.jsonl'}"
