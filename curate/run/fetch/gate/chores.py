"""What a doorman does beside its visits: things to do later, and tasks that end with it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any


class Chores:
    """For one event loop. `broken` is called with what a task or a thing done later raises: the loop itself would only
    log it, and those who wait would wait for ever."""

    def __init__(self, broken: Callable[[BaseException], None]) -> None:
        self._broken = broken
        self._tasks: set[asyncio.Task[None]] = set()
        self._timers: set[asyncio.TimerHandle] = set()
        self._over = False

    def later(self, seconds: float, what: Callable[[], object]) -> None:
        def now() -> None:
            self._timers.discard(timer)
            self._do(what)

        timer = asyncio.get_running_loop().call_later(seconds, now)
        self._timers.add(timer)

    def soon(self, what: Callable[[], object]) -> None:
        """In the next turn of the loop."""
        asyncio.get_running_loop().call_soon(self._do, what)

    def _do(self, what: Callable[[], object]) -> None:
        if self._over:
            return
        try:
            what()
        except Exception as e:  # noqa: BLE001 - raised again where somebody waits
            self._broken(e)

    def spawn(self, coroutine: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._broken(error)

    async def end(self) -> None:
        """Drop what was to be done later, and wait until no task runs any more."""
        self._over = True
        for timer in self._timers:
            timer.cancel()
        ending = list(self._tasks)
        for task in ending:
            task.cancel()
        if ending:
            await asyncio.wait(ending)
