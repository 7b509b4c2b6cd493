"""Room in memory for large bodies, in bytes, handed out in the order in which it was asked for."""

from __future__ import annotations

import asyncio
from collections import deque


class Room:
    """So many bytes for all who ask; for one event loop."""

    def __init__(self, total: int) -> None:
        self._total = self._left = total
        self._line: deque[tuple[int, asyncio.Future[None]]] = deque()

    async def take(self, size: int) -> int:
        """Wait until there is so much, at most all of it; returns what to give back."""
        size = min(size, self._total)
        if self._line or size > self._left:
            turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._line.append((size, turn))
            try:
                await turn
            except BaseException:
                if turn.done() and not turn.cancelled():  # it had its turn already
                    self.give_back(size)
                raise
        else:
            self._left -= size
        return size

    def give_back(self, size: int) -> None:
        self._left += size
        while self._line and (self._line[0][1].done() or self._line[0][0] <= self._left):
            wanted, turn = self._line.popleft()
            if not turn.done():  # else nobody waits for it any more
                self._left -= wanted
                turn.set_result(None)
