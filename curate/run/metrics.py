"""A run's counters as a text file for Prometheus (the node exporter's textfile collector).

curate_pass_items{pass="ingest",state="done"} 12
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from curate.errors import UserError
from curate.run.states import PassState

EVERY_S = 5.0
STATES = ("running", "finished", "stopped")


class MetricsFile:
    """Rewrites `path` as a whole, atomically.

    Raises:
        UserError: the folder is missing or cannot be written to; found out before the run begins.
    """

    def __init__(self, path: Path, run: str, title: str) -> None:
        from prometheus_client import CollectorRegistry

        self.path, self.run, self.title = path, run, title
        self.state, self.passes = "running", {}  # type: tuple[str, Mapping[str, PassState]]
        self.broken: str | None = None
        self._at = 0.0
        self._registry = CollectorRegistry()
        self._registry.register(self)  # type: ignore[arg-type]
        try:
            self._write()
        except OSError as e:
            raise UserError(f"--prometheus {path}: {e.strerror or e}; give a file in a folder that exists") from e

    def update(self, passes: Mapping[str, PassState], state: str = "running") -> None:
        """Rewrite the file if its time has come, or the run ends."""
        if state == "running" and time.time() - self._at < EVERY_S:
            return
        self.passes, self.state = passes, state.split(":")[0]
        try:
            self._write()
        except OSError as e:  # the run is worth more than its counters; the person is told once
            self.broken = self.broken or f"--prometheus {self.path}: {e.strerror or e}"

    def _write(self) -> None:
        from prometheus_client import write_to_textfile

        self._at = time.time()
        write_to_textfile(str(self.path), self._registry)

    def collect(self) -> Iterator[Any]:
        """What prometheus_client asks of a collector: families of samples."""
        from prometheus_client.core import GaugeMetricFamily

        def family(name: str, about: str, *labels: str) -> Any:
            return GaugeMetricFamily(f"curate_{name}", about, labels=labels)

        info = family("run_info", "The run that this file tells of.", "run", "command")
        info.add_metric([self.run, self.title], 1)
        state = family("run_state", "1 for the state that the run is in.", "state")
        for name in STATES:
            state.add_metric([name], float(name == self.state))
        updated = family("run_updated_seconds", "When this file was written, seconds since 1970.")
        updated.add_metric([], time.time())
        items = family("pass_items", "Shards or parts of a pass: in all, done, failed for good.", "pass", "state")
        rows = family("pass_rows", "Rows done.", "pass")
        seconds = family("pass_worker_seconds", "Seconds of workers.", "pass")
        moved = family("pass_bytes", "Bytes of files read and written.", "pass", "way")
        left = family("pass_left_seconds", "Seconds left at the rate so far.", "pass")
        outcomes = family("pass_outcomes", "What became of URLs and files.", "pass", "outcome")
        now = time.time()
        for name, s in self.passes.items():
            for kind, count in (("total", s.total), ("done", s.done), ("failed", s.failed)):
                items.add_metric([name, kind], count)
            rows.add_metric([name], s.rows)
            seconds.add_metric([name], s.seconds)
            moved.add_metric([name, "read"], s.bytes_read)
            moved.add_metric([name, "written"], s.bytes_written)
            if (remaining := s.left_s(now)) is not None:
                left.add_metric([name], remaining)
            for outcome, count in s.outcomes.items():
                outcomes.add_metric([name, outcome], count)
        yield from (info, state, updated, items, rows, seconds, moved, left, outcomes)
