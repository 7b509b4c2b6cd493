"""Counters of passes, and the words for them."""

from __future__ import annotations

import statistics
from collections import Counter, deque
from dataclasses import dataclass, field
from typing import Any

from curate.run.account import WAIT

TIMES = 501  # of the last items, for the median


@dataclass
class PassState:
    """Counters of one pass: what its workers reported, in all.

    seconds: of workers, as the driver saw them. parts: seconds by method, as the workers told. began, ended: when the
    first item was issued and the last one came back. folder: where its files go.
    """

    total: int
    done: int = 0
    failed: int = 0
    rows: int = 0
    seconds: float = 0.0
    began: float = 0.0
    ended: float = 0.0
    folder: str = ""
    outcomes: Counter[str] = field(default_factory=Counter)
    parts: Counter[str] = field(default_factory=Counter)
    parts_rows: Counter[str] = field(default_factory=Counter)
    bytes_read: int = 0
    bytes_written: int = 0
    times: deque[float] = field(default_factory=lambda: deque(maxlen=TIMES))

    def add(self, result: dict[str, Any], seconds: float, now: float) -> None:
        """An item is done."""
        self.done += 1
        self.ended = now
        self.seconds += seconds
        self.times.append(seconds)
        self.rows += int(result.get("rows", 0))
        self.outcomes.update(result.get("outcomes", {}))
        self.parts.update(result.get("seconds", {}))
        self.parts_rows.update(result.get("parts_rows", {}))
        self.bytes_read += int(result.get("bytes_read", 0))
        self.bytes_written += int(result.get("bytes_written", 0))

    def left_s(self, now: float) -> float | None:
        """Seconds left at the rate so far; None before the first item is through."""
        return (now - self.began) / self.done * (self.total - self.done) if self.done else None

    def median_s(self) -> float | None:
        """Of the last items; None before the first is through."""
        return statistics.median(self.times) if self.times else None

    def counts(self, now: float) -> dict[str, Any]:
        """The counters as JSON values, as they stand in a run's status file and in its log."""
        median, left = self.median_s(), self.left_s(now)
        return {
            "total": self.total,
            "done": self.done,
            "failed": self.failed,
            "rows": self.rows,
            "worker_seconds": round(self.seconds, 3),
            "wall_s": round((self.ended if self.done >= self.total else now) - self.began, 3) if self.done else 0.0,
            "left_s": None if left is None else round(left, 1),
            "median_s": None if median is None else round(median, 3),
            "outcomes": dict(self.outcomes.most_common()),
            "parts_seconds": {name: round(s, 3) for name, s in self.parts.items()},
            "parts_rows": dict(self.parts_rows),
            "bytes_read": self.bytes_read,
            "bytes_written": self.bytes_written,
            "folder": self.folder,
        }


def describe_state(name: str, s: PassState, now: float) -> str:
    """``ingest: 12 of 100, 1,200 rows/s, ok 11,532, http_4xx 210, 3m 20s left``."""
    elapsed = max(now - s.began, 1e-9)
    parts = [f"{name}: {s.done} of {s.total}"]
    if s.rows:
        parts.append(f"{s.rows / elapsed:,.0f} rows/s")
    parts += [f"{kind} {count:,}" for kind, count in s.outcomes.most_common(4)]
    if s.failed:
        parts.append(f"{s.failed} failed")
    if WAIT in s.parts:
        parts.append(f"{s.parts[WAIT] / max(s.seconds, 1e-9):.1%} waiting for pictures")
    left = s.left_s(now)
    if left is not None and s.done < s.total:
        parts.append(f"{duration(left)} left")
    return ", ".join(parts)


def duration(seconds: float) -> str:
    """``45 s``, ``3m 20s``, ``5h 10m``."""
    if seconds < 60:
        return f"{int(seconds)} s"
    minutes, hours = divmod(int(seconds), 60)[0], int(seconds // 3600)
    return f"{minutes}m {int(seconds) % 60}s" if hours == 0 else f"{hours}h {minutes % 60}m"
