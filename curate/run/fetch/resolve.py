"""Names to addresses: the system's resolver in threads of its own, its answers kept for a while.

    resolver = Resolver()
    addresses = await resolver.addresses("example.org")      # ["93.184.215.14", ...]
    resolver.close()

Names are asked for once, however many wait for the answer; a failure is kept too, for a shorter time.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache

from curate.run.fetch.stop import Stop

THREADS = 128  # names asked for at a time: the system's resolver blocks, for up to half a minute
KEEP_S, KEEP_FAILURE_S = 300.0, 30.0


class Resolver:
    """For one event loop at a time."""

    def __init__(self, limit: float = 10.0, threads: int = THREADS) -> None:
        """
        Args:
            limit: seconds for one name, once a thread asks for it.
        """
        self._limit = limit
        self._free = asyncio.Semaphore(threads)
        self._threads = ThreadPoolExecutor(threads, "dns")
        self._known: dict[str, tuple[float, list[str] | Stop]] = {}
        self._asked: dict[str, asyncio.Task[list[str]]] = {}

    async def addresses(self, host: str) -> list[str]:
        """IP addresses of a host in the system's order of preference; those of a literal address are itself.

        Raises:
            Stop: dns.
        """
        if is_address(host):
            return [host]
        if (found := self.known(host)) is not None:
            return found
        task = self._asked.get(host)
        if task is None:
            task = self._asked[host] = asyncio.ensure_future(self._ask(host))
            task.add_done_callback(lambda _: self._asked.pop(host, None))
        # Whoever gives up waiting takes the answer from nobody else.
        return await asyncio.shield(task)

    def known(self, host: str) -> list[str] | None:
        """What was answered a short time ago; None where nothing was.

        Raises:
            Stop: dns.
        """
        until, answer = self._known.get(host, (0.0, []))
        if until <= time.monotonic():
            return None
        if isinstance(answer, Stop):
            raise Stop(answer.outcome, answer.detail)
        return answer

    async def _ask(self, host: str) -> list[str]:
        await self._free.acquire()  # waiting for a thread is nobody's fault
        asking = asyncio.get_running_loop().run_in_executor(self._threads, _system, host)
        asking.add_done_callback(lambda _: self._free.release())  # a thread cannot be told to stop
        try:
            async with asyncio.timeout(self._limit):
                found = await asyncio.shield(asking)
        except TimeoutError:
            raise self._failed(host, f"no answer in {self._limit:g} s") from None
        except (OSError, UnicodeError) as e:  # UnicodeError: an empty or over-long label
            raise self._failed(host, getattr(e, "strerror", None) or str(e)) from e
        self._known[host] = time.monotonic() + KEEP_S, found
        return found

    def _failed(self, host: str, why: str) -> Stop:
        stop = Stop("dns", f"{host}: {why}")
        self._known[host] = time.monotonic() + KEEP_FAILURE_S, stop
        return stop

    def close(self) -> None:
        """Names still asked for are not waited for."""
        for task in self._asked.values():
            task.cancel()
        self._threads.shutdown(wait=False, cancel_futures=True)


@lru_cache(maxsize=65_536)
def is_address(host: str) -> bool:
    """Whether a host is a literal address, in brackets or not."""
    try:
        ipaddress.ip_address(host.strip("[]").split("%", 1)[0])
    except ValueError:
        return False
    return True


def _system(host: str) -> list[str]:
    found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(info[4][0]) for info in found))
