"""A harmless question that tells a server's fault from a sample's: who is refused or waits in vain, would anybody?

One at a time is asked of a server, however many want to know. Who asks whether it is the sample's fault learns of a
question that was sent later than he asked: what was answered before a key was revoked says nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from stages.endpoint_pool import Pool, Server
from stages.endpoint_terms import PROBE, grey
from stages.endpoint_wire import Request, SampleFault, ServiceFault


class Probe:
    """tried: sends a request once, and raises what a try raises."""

    def __init__(self, pool: Pool, tried: Callable[[Server, Request], Awaitable[Any]]) -> None:
        self._pool, self._tried = pool, tried
        self._next: dict[Server, asyncio.Task[bool]] = {}  # not sent yet: whoever comes shares it
        self._sent: dict[Server, asyncio.Task[bool]] = {}

    async def answered(self, server: Server, request: Request) -> bool:
        """Whether the server answers a question of the same form as the request; costs one answer.

        Raises:
            ServiceFault: it is too busy to say, or fails at it: this is neither yes nor no.
        """
        return await asyncio.shield(self._question(server, request.image is not None))

    async def answered_by_any(self, request: Request) -> bool:
        """Whether any server answers now; one that is too busy does not. A question that is out already will do.

        A server that refuses the samples, 503 say, is not asked: were they refused for ever, nobody would ever end.
        """
        silent = [server for server in self._pool.servers if not server.refuses]
        coming = [asyncio.create_task(self._alive(server, request)) for server in silent]
        for alive in asyncio.as_completed(coming):
            if await alive:
                return True
        return False

    async def _alive(self, server: Server, request: Request) -> bool:
        try:
            return await asyncio.shield(self._sent.get(server) or self._question(server, request.image is not None))
        except ServiceFault:
            return False

    def _question(self, server: Server, pictured: bool) -> asyncio.Task[bool]:
        if server not in self._next:
            self._next[server] = asyncio.create_task(self._ask(server, pictured, self._sent.get(server)))
        return self._next[server]

    async def _ask(self, server: Server, pictured: bool, before: asyncio.Task[bool] | None) -> bool:
        if before is not None:
            await asyncio.wait([before])
        self._sent[server] = self._next.pop(server)  # who comes from now on wants to know of later
        try:
            await self._tried(server, Request(PROBE, grey() if pictured else None, "probe"))
        except ServiceFault as fault:
            if fault.final:
                return False
            raise
        except SampleFault as fault:
            if not fault.again:
                return False
            raise ServiceFault(str(fault)) from None
        finally:
            del self._sent[server]
        self._pool.heard(server)
        return True
