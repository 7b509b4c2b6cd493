"""Who waits for a host in one worker, and how waiting ends: with a turn, or with one of two refusals."""

from __future__ import annotations

import time
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


class Keeper(Protocol):
    """Who lets in: the doorman."""

    free_slots: int

    def look(self) -> None: ...
    def release(self, name: str, took: float | None = None) -> None: ...
    def answered(self, name: str, status: int, retry_after: str | None) -> None: ...
    def failed(self, name: str) -> None: ...


class Slot:
    """One of the worker's slots, once it is taken; `free()` gives it back."""

    __slots__ = ("_keeper", "taken")

    def __init__(self, keeper: Keeper) -> None:
        self._keeper = keeper
        self.taken = False

    def free(self) -> None:
        if self.taken:
            self.taken = False
            self._keeper.free_slots += 1
            self._keeper.look()


class Visit:
    """One request that may be made now; `with visit:` gives the slot of its host back."""

    __slots__ = ("_began", "_host", "_keeper")

    def __init__(self, keeper: Keeper, host: str, began: float) -> None:
        self._keeper, self._host, self._began = keeper, host, began

    def answered(self, status: int, retry_after: str | None) -> None:
        """What the host said: 429, and 503 with Retry-After, close it for a while, over all workers."""
        self._keeper.answered(self._host, status, retry_after)

    def failed(self) -> None:
        """No answer came: enough of these in a row, and the host counts as dead in this pass."""
        self._keeper.failed(self._host)

    def leave(self) -> None:
        """The request is over."""
        self._keeper.release(self._host, time.monotonic() - self._began)

    def __enter__(self) -> Visit:
        return self

    def __exit__(self, *_: object) -> None:
        self.leave()


Turn = Callable[[Visit | BaseException], None]


@dataclass(eq=False, slots=True)
class Waiter:
    """One URL. `granted`: the gate has let it in, so it holds a slot of the host."""

    host: str
    origin: str
    path: str
    slot: Slot
    turn: Turn
    granted: bool = False


@dataclass(slots=True)
class Host:
    """Of one host, in this worker. queue: those who may ask it; pending: by origin, those who wait for its rules, or to
    be checked against them. asleep: no slots are asked of its gate before this time of the loop, or, where that is
    infinite, before we let one go. closed: until this time of the loop it wants to be left alone."""

    queue: deque[Waiter] = field(default_factory=deque)
    pending: dict[str, deque[Waiter]] = field(default_factory=dict)
    holds: int = 0
    asleep: float = 0.0
    closed: float = 0.0
    took: float = 0.0  # seconds of the last visit
    failures: int = 0
    came: bool = False
    fine: bool = False  # and since the last message to its gate
    unknown: set[str] = field(default_factory=set)  # origins whose rules nobody has asked for yet
    awaited: set[str] = field(default_factory=set)  # and those whose rules are on their way

    def line(self, origin: str, admitted: bool) -> deque[Waiter]:
        """Where a waiter is to stand."""
        if admitted:
            return self.queue
        return self.pending.setdefault(origin, deque())

    def fail_all(self, error: BaseException) -> None:
        while self.queue:
            self.queue.popleft().turn(error)
        while self.pending:
            origin, waiting = next(iter(self.pending.items()))
            while waiting:
                waiting.popleft().turn(error)
            self.pending.pop(origin, None)

    def drop(self, waiter: Waiter) -> None:
        pending = self.pending.get(waiter.origin)
        for waiting in (self.queue, pending):
            if waiting and waiter in waiting:
                waiting.remove(waiter)
        if pending is not None and not pending:  # nobody wants these rules any more
            del self.pending[waiter.origin]
