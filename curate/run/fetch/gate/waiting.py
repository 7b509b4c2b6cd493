"""Who waits for a host in one worker, and how waiting ends: with a turn, or with one of two refusals."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol


class Refused(Exception):
    """The owner or the user does not want this URL fetched, or its host cannot be had; `outcome` says which."""

    def __init__(self, outcome: str, detail: str) -> None:
        super().__init__(outcome, detail)
        self.outcome, self.detail = outcome, detail


class Deferred(Exception):
    """Not now: a matter of a later pass. retry_at: seconds since 1970, where the host named a time."""

    def __init__(self, detail: str, retry_at: float | None = None) -> None:
        super().__init__(detail, retry_at)
        self.detail, self.retry_at = detail, retry_at


class Takeable(Protocol):
    """A slot of the worker."""

    taken: bool


@dataclass(eq=False, slots=True)
class Waiter:
    """One URL. `turn` is done when it may start; `granted`: the gate has let it in, so it holds a slot of the host."""

    origin: str
    path: str
    slot: Takeable
    turn: asyncio.Future[None]
    granted: bool = False

    def go(self) -> None:
        if not self.turn.done():
            self.turn.set_result(None)

    def fail(self, error: BaseException) -> None:
        if not self.turn.done():
            self.turn.set_exception(error)


@dataclass(slots=True)
class Host:
    """Of one host, in this worker. asleep: no slots are asked of its gate before this time of the loop, or, where that
    is infinite, before we let one go. closed: until this time of the loop it wants to be left alone."""

    queue: deque[Waiter] = field(default_factory=deque)
    holds: int = 0
    asleep: float = 0.0
    closed: float = 0.0
    failures: int = 0
    came: bool = False
    fine: bool = False  # and since the last message to its gate
    unknown: set[str] = field(default_factory=set)  # origins whose rules nobody has asked for yet
    awaited: set[str] = field(default_factory=set)  # and those whose rules are on their way

    def fail_all(self, error: BaseException) -> None:
        while self.queue:
            self.queue.popleft().fail(error)

    def sift(self, check: Callable[[Waiter], None]) -> None:
        """Those for whom `check` raises Refused end with that."""
        stay: deque[Waiter] = deque()
        for waiter in self.queue:
            try:
                check(waiter)
            except Refused as e:
                waiter.fail(e)
            else:
                stay.append(waiter)
        self.queue = stay
