"""Servers of one model: who is asked next, who rests, and who came back.

A server with faults of its own in a row rests for longer and longer (a circuit that is open); after each rest one
request is let through, and its success opens its places again. How many places a server has is found as TCP finds its
window (RFC 5681): answers that are late leave half of those in use, or one, where nothing at all was answered
meanwhile; answers in time add to them, one each up to the half (slow start), then one a round. So a slow server gets
what it can answer, also one that many workers share. Randomness spreads the ends of rests only: no answer hangs on it.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from heapq import heappop, heappush
from itertools import count

from stages.endpoint_limits import Heard

FIRST_REST_S, LONGEST_REST_S = 0.25, 30.0
FAULTS_IN_A_ROW = 3  # of any kind, until a server is taken for dead


@dataclass(eq=False)
class Server:
    """url: up to and with /v1. places: at most. rests_until: a time of the loop. faults: in a row, its own or of
    requests there. open: places that it has now. threshold: places up to which each answer opens another. answers:
    since the begin. answered_at: when the last came. refuses: what it last did was to refuse, or it was not there.
    barred: it refused for a reason that no waiting mends, and has not answered since.
    """

    url: str
    places: int
    flying: int = 0
    open: float = field(default=0.0, init=False)
    threshold: float = field(default=1.0, init=False)
    narrowed_at: float = float("-inf")
    answers: int = 0
    answered_at: float = float("-inf")
    refuses: bool = False
    barred: bool = False
    rests_until: float = 0.0
    rests: int = 0
    faults: int = 0
    trial: bool = False
    last: str = ""

    def __post_init__(self) -> None:
        self.open = float(self.places)

    def free(self, now: float) -> bool:
        """Whether a request may go there now; after a rest, one only."""
        return now >= self.rests_until and self.flying < (1 if self.trial else int(self.open))


@dataclass
class Pool:
    """The servers, and who waits for one. Lives in one event loop.

    good_at: a time of the loop: the last good answer of any server, or the begin of asking.
    others: what other workers of this machine have heard of these servers.
    """

    servers: list[Server]
    others: Heard | None = None
    good_at: float = 0.0
    _waiting: list[tuple[int, int, asyncio.Future[Server]]] = field(default_factory=list)  # a heap
    _number: Iterator[int] = field(default_factory=count)
    _alarm: asyncio.Handle | None = None
    _rings_at: float = 0.0  # uvloop's handle does not say where it is due at once

    async def take(self, rank: int = 0) -> Server:
        """A place at the free server with the fewest requests in flight; waits until there is one.

        rank: who has a lower one is served first, then who has waited longer.
        """
        loop = asyncio.get_running_loop()
        turn: asyncio.Future[Server] = loop.create_future()
        heappush(self._waiting, (rank, next(self._number), turn))
        self._serve()
        try:
            return await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.left(turn.result())  # the place goes to the next
            raise

    def take_free(self) -> Server | None:
        """A place, where one is free and nobody waits for it."""
        return None if self._waiting else self._free(asyncio.get_running_loop().time())

    def _free(self, now: float) -> Server | None:
        free = [server for server in self.servers if server.free(now)]
        if not free:
            return None
        server = min(free, key=lambda server: server.flying / server.places)
        server.flying += 1
        return server

    def answered(self, server: Server) -> None:
        """It gave a good answer, or one that shows that it works."""
        self._left(server)
        server.answers += 1
        server.open = min(server.open + (1.0 if server.open < server.threshold else 1 / server.open), server.places)
        self.heard(server)

    def heard(self, server: Server) -> None:
        """It works: it answered, if only a question beside the samples', for which nobody has left a place."""
        server.faults = server.rests = 0
        server.trial = server.barred = server.refuses = False
        server.answered_at = self.good_at = asyncio.get_running_loop().time()
        if self.others is not None:
            self.others.note()
        self._serve()

    def silent_s(self) -> float:
        """How long no server has answered, neither us nor another worker of this machine."""
        own = self.own_silence_s()
        return own if self.others is None else min(own, self.others.silent_s())

    def own_silence_s(self) -> float:
        return asyncio.get_running_loop().time() - self.good_at

    def stumbled(self, server: Server, reason: str) -> None:
        """It failed at a request whose fault that may be; some in a row are its own."""
        self._left(server)
        server.faults += 1
        server.last, server.refuses = reason, False
        if server.trial or server.faults >= FAULTS_IN_A_ROW:
            self._rest(server, None)
        self._serve()

    def refused(self, server: Server, reason: str, pause_s: float | None, late: bool = False) -> None:
        """It is not there, or is too busy; pause_s: as it asked for. late: it said nothing."""
        self._left(server)
        server.last, server.refuses = reason, not late
        self._rest(server, pause_s)
        self._serve()

    def late(self, server: Server, reason: str, since: float) -> None:
        """It has more to do than it can do in time; of requests sent before its places were fewer, none does so again.

        since: when the request was sent, a time of the loop.
        """
        self._left(server)
        server.last, server.refuses = reason, False
        if since >= server.narrowed_at:
            used = min(server.open, server.flying + 1)  # places that nobody used say nothing of what it can do
            server.threshold = max(used / 2, 1.0)
            server.open = server.threshold if server.answered_at >= since else 1.0
            server.narrowed_at = asyncio.get_running_loop().time()
        self._serve()

    def left(self, server: Server) -> None:
        """The request was given up: nothing is known of the server."""
        self._left(server)
        self._serve()

    def _left(self, server: Server) -> None:
        server.flying -= 1

    def _rest(self, server: Server, pause_s: float | None) -> None:
        """Let it rest; of requests that were in flight together, the first decides."""
        now = asyncio.get_running_loop().time()
        if pause_s is not None:
            server.rests_until = max(server.rests_until, now + pause_s * random.uniform(1.0, 1.05))
        elif now >= server.rests_until:
            server.rests = min(server.rests + 1, 16)
            most = min(FIRST_REST_S * 2.0 ** (server.rests - 1), LONGEST_REST_S)
            server.rests_until = now + most * random.uniform(0.5, 1.0)
        server.trial = True

    def _serve(self) -> None:
        """Give free places to those who wait; where none is left, look again when the next rest ends."""
        now = asyncio.get_running_loop().time()  # one for all: no rest ends unseen between the look and the alarm
        while self._waiting:
            if self._waiting[0][2].done():  # who no longer waits
                heappop(self._waiting)
            elif (server := self._free(now)) is not None:
                heappop(self._waiting)[2].set_result(server)
            else:
                return self._set_alarm(now)

    def _set_alarm(self, now: float) -> None:
        ends = [server.rests_until for server in self.servers if server.rests_until > now]
        if ends and (self._alarm is None or self._rings_at > min(ends)):
            if self._alarm is not None:
                self._alarm.cancel()
            self._rings_at = min(ends)
            self._alarm = asyncio.get_running_loop().call_at(self._rings_at, self._rang)

    def _rang(self) -> None:
        self._alarm = None
        self._serve()
