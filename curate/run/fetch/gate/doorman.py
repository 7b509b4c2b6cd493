"""A worker at the gates: who of its URLs may start now.

    async with Doorman(inline_gates(spec), spec, fetch_text) as doorman:
        slot = doorman.slot()
        doorman.enter(URL("https://example.org/a.jpg"), slot, turn)    # turn(visit): ask for it now
        with visit: visit.answered(status, retry_after)
        slot.free()                                                    # when the bytes are done with

A URL waits until its host's gate, its owner's rules and the worker's slots all let it start, and then starts at once:
a start that waited after it was granted would break the host's rate. Waiting URLs are entries of a queue and not
tasks: a shard has ten thousand of them.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import Counter, OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from functools import partial
from types import TracebackType

from yarl import URL

from curate.run.fetch.gate.chores import Chores
from curate.run.fetch.gate.gate import Ask, OriginRules, Reply, Want, host_of
from curate.run.fetch.gate.lists import Refusals
from curate.run.fetch.gate.post import GateHandle, Post, inline_gates
from curate.run.fetch.gate.sieve import Sieve
from curate.run.fetch.gate.site import Answered, name_of, origin_of, read_rules, seconds_until
from curate.run.fetch.gate.waiting import Deferred, Host, Refused, Slot, Turn, Visit, Waiter
from curate.run.fetch.spec import IngestSpec

__all__ = ["Answered", "Deferred", "Doorman", "GateHandle", "Refused", "Slot", "Visit", "inline_gates"]

TICK_S = 0.05  # between two messages to a gate elsewhere
SIGN_S = 5.0  # at least so often, so that the gate knows that we live
MOST_WAIT_S = 10.0  # for a host that is closed; longer is a matter of a later pass
DEAD_AFTER = 8  # failures in a row, of a host of which nothing ever came


class Doorman:
    """For one event loop and one shard."""

    def __init__(
        self,
        gates: Sequence[GateHandle],
        spec: IngestSpec,
        fetch_text: Callable[[str], Awaitable[Answered]],
        refusals: Refusals | None = None,
    ) -> None:
        """
        Args:
            fetch_text: brings a small file by URL, redirects followed.
        """
        self._spec, self._fetch_text = spec, fetch_text
        self._refusals = refusals if refusals is not None else Refusals.load(spec)
        self._hosts: dict[str, Host] = {}
        self._line: OrderedDict[str, None] = OrderedDict()  # hosts to ask for, in this order
        self._changed: set[str] = set()  # hosts whose gate should be told what we hold
        self._error: BaseException | None = None
        self._chores = Chores(self._broken)
        self._sieve = Sieve(self._hosts, self._chores, self._wake)
        self._post = Post(gates, self._chores, self._hear, self._tell_all)
        self._looks = False
        self._until, self._why = math.inf, ""  # see `hurry`
        self._ruled = "robots" not in spec.ignore or "tdm" not in spec.ignore
        self._most = spec.concurrency if "host_limits" in spec.ignore else spec.per_host
        self.free_slots = spec.concurrency

    # ---- visits

    def slot(self) -> Slot:
        return Slot(self)

    def enter(self, address: URL, slot: Slot, turn: Turn) -> Waiter:
        """Queue for this URL; `turn` is called once, later: with a Visit, which holds one of the host's slots, and
        `slot`, until it leaves; or with why there is none, as below.

        A redirect comes with its slot taken: others have it until its host lets us in.

        Raises:
            Refused: refused_list, refused_robots, robots_unavailable. Deferred: the host is closed or dead, or too slow
            for what is left of the shard's time. And whatever went wrong before with a gate, or in here.
        """
        if self._error is not None:
            raise self._error
        if why := self._refusals.url(address):
            raise Refused("refused_list", why)
        name, origin, path = name_of(address), origin_of(address), address.raw_path_qs
        host = self._hosts.get(name)
        if host is None:
            host = self._hosts[name] = Host()
        admitted = not self._ruled or self._sieve.admits(origin, path)
        self._defer_if_closed(host)
        if self._too_slow(host):
            raise Deferred(self._why)
        waiter = Waiter(name, origin, path, slot, turn)
        line = host.line(origin, admitted)
        if slot.taken:  # begun before the others, so let it end before them
            slot.free()
            line.appendleft(waiter)
        else:
            line.append(waiter)
        if not admitted:
            if origin not in self._sieve.rules and origin not in host.awaited:
                host.unknown.add(origin)
            self._sieve.wait(origin)
        self._wake(name)
        return waiter

    def forget(self, waiter: Waiter) -> None:
        """Nobody waits for this turn any more."""
        if waiter.granted:
            self.release(waiter.host)
        else:
            self._hosts[waiter.host].drop(waiter)

    async def visit(self, address: URL, slot: Slot) -> Visit:
        """`enter`, waiting for the turn; raises what `enter` raises or the turn brings."""
        came: asyncio.Future[Visit] = asyncio.get_running_loop().create_future()

        def turn(visit: Visit | BaseException) -> None:
            if came.done():
                return
            if isinstance(visit, Visit):
                came.set_result(visit)
            else:
                came.set_exception(visit)

        waiter = self.enter(address, slot, turn)
        try:
            return await came
        except BaseException:
            self.forget(waiter)
            raise

    def hurry(self, seconds: float, why: str) -> None:
        """Let in only whom their hosts, as quick as they were last, will have served in so many seconds from now; the
        others are put off to a later pass."""
        self._until, self._why = asyncio.get_running_loop().time() + seconds, why
        for host in self._hosts.values():
            self._put_off_if_slow(host)

    def _too_slow(self, host: Host) -> bool:
        return self._until < math.inf and asyncio.get_running_loop().time() + host.took >= self._until

    def _put_off_if_slow(self, host: Host) -> None:
        if self._too_slow(host):
            self._defer(host, self._why)

    def release(self, name: str, took: float | None = None) -> None:
        """One of the host's slots is free again; took: seconds of a visit."""
        host = self._hosts[name]
        host.holds -= 1
        if took is not None:
            host.took = took
            self._put_off_if_slow(host)
        self._changed.add(name)
        if host.asleep == math.inf:
            host.asleep = 0.0
        self._wake(name)

    def answered(self, name: str, status: int, retry_after: str | None) -> None:
        host = self._hosts[name]
        host.came, host.failures = True, 0
        if "host_limits" in self._spec.ignore:
            return
        if status < 400:
            host.fine = True
        # A 503 may be one broken picture; with Retry-After it is the host that speaks.
        if status == 429 or (status == 503 and retry_after is not None):
            self._post.refusals[name] = seconds_until(retry_after)
            self._changed.add(name)
            self._wake(name)

    def failed(self, name: str) -> None:
        host = self._hosts[name]
        host.failures += 1
        if not host.came and host.failures >= DEAD_AFTER and "host_limits" not in self._spec.ignore:
            self._defer(host, f"its host did not answer {host.failures} times in a row")

    def _defer_if_closed(self, host: Host) -> None:
        left = host.closed - asyncio.get_running_loop().time()
        if left > MOST_WAIT_S:
            raise Deferred(f"its host wants to be left alone for {left:.0f} s", time.time() + left)

    def _defer(self, host: Host, why: str, retry_at: float | None = None) -> None:
        host.fail_all(Deferred(why, retry_at))

    # ---- who is next

    def _wake(self, name: str) -> None:
        self._queue(name)
        self.look()

    def _queue(self, name: str) -> None:
        host = self._hosts[name]
        if host.queue or (host.unknown and host.pending):
            self._line.setdefault(name)

    def look(self) -> None:
        """Ask the gates, soon, for what could start now."""
        if not self._looks:
            self._looks = True
            if self._post.far:
                self._chores.later(TICK_S, self._look)
            else:
                self._chores.soon(self._look)

    def _look(self) -> None:
        """Ask for the hosts in line while we have slots, and tell the gates what has changed."""
        self._looks = False
        if self._error is not None:
            return
        asks: dict[int, dict[str, Want]] = {}
        slots: Counter[int] = Counter()
        now, free = asyncio.get_running_loop().time(), self.free_slots - self._post.promised()
        later: list[str] = []
        while self._line and free > 0:
            name, _ = self._line.popitem(last=False)
            number = self._post.gate_of(name)
            if self._post.busy(number):
                later.append(name)
                continue
            want, taken, starved = self._want(self._hosts[name], now, free)
            if starved:
                later.append(name)
            free -= taken
            slots[number] += taken
            if want.wants or want.origins:
                asks.setdefault(number, {})[name] = want
                self._changed.discard(name)
        for name in list(self._changed):
            number = self._post.gate_of(name)
            if not self._post.busy(number):
                asks.setdefault(number, {})[name] = Want(self._hosts[name].holds, fine=self._hosts[name].fine)
                self._changed.discard(name)
        for name in later:
            self._queue(name)
        for number, hosts in asks.items():
            self._talk(number, hosts, slots[number])

    def _want(self, host: Host, now: float, free: int) -> tuple[Want, int, bool]:
        """(what to ask for, slots of ours that takes, whether more waits for slots of ours)."""
        missing = tuple(sorted(host.unknown))
        if now < host.asleep:
            return Want(host.holds, 0, missing, host.fine), len(missing), False
        able, room = min(len(host.queue), self._most), max(0, free - len(missing))
        if able > room:
            return Want(host.holds, room, missing, host.fine), free, True
        return Want(host.holds, able, missing, host.fine), len(missing) + able, False

    def _talk(self, number: int, hosts: dict[str, Want], slots: int) -> None:
        for name, want in hosts.items():
            self._hosts[name].fine = False
            self._hosts[name].awaited.update(want.origins)
            self._hosts[name].unknown.difference_update(want.origins)
        self._post.send(number, hosts, slots)

    # ---- what the gates say

    def _hear(self, ask: Ask, reply: Reply) -> None:
        now = asyncio.get_running_loop().time()
        for origin, seconds in reply.order.items():
            self._hosts[host_of(origin)].holds += 1
            self._chores.spawn(self._bring(origin, seconds))
        for origin, rules in reply.rules.items():
            self._learn(origin, rules)
        for name, want in ask.hosts.items():
            host = self._hosts[name]
            waited_for = [o for o in want.origins if o in host.awaited and o not in reply.order]
            if waited_for:  # another worker brings them
                self._chores.later(TICK_S * 4, partial(self._ask_again, name, waited_for))
            starts = reply.grants.get(name, [])
            for seconds in starts:
                self._start(name, host, seconds)
            if (closed := reply.closed.get(name, 0.0)) > MOST_WAIT_S:
                host.closed = now + closed
                self._defer(host, f"its host wants to be left alone for {closed:.0f} s", time.time() + closed)
            again = reply.again.get(name)
            ordered = sum(origin in reply.order for origin in want.origins)
            if again == math.inf and host.holds < want.holds + len(starts) + ordered:
                again = None  # we have let one go since we asked
            if again is not None:
                host.asleep = now + again
                if again != math.inf:
                    self._chores.later(again, partial(self._wake, name))
            elif host.queue:
                self._wake(name)
        if self._line or self._changed:  # others that have waited for this answer
            self.look()

    def _tell_all(self, number: int) -> None:
        """A gate that began anew knows nothing: say what we hold of its hosts, and what their owners want."""
        mine = {n for n in self._hosts if self._post.gate_of(n) == number}
        self._changed.update(n for n in mine if self._hosts[n].holds)
        known = {o: r for o, r in self._sieve.rules.items() if r.unavailable is None and host_of(o) in mine}
        self._post.brought.update(known)
        self._changed.update(host_of(o) for o in known)

    def _ask_again(self, name: str, origins: list[str]) -> None:
        host = self._hosts[name]
        host.awaited.difference_update(origins)
        host.unknown.update(o for o in origins if o not in self._sieve.rules)
        self._wake(name)

    def _start(self, name: str, host: Host, seconds: float) -> None:
        """The first waiter may start in so many seconds; a grant that nobody wants any more goes back."""
        host.holds += 1
        if not host.queue:
            self.release(name)
            return
        waiter = host.queue.popleft()
        waiter.granted = waiter.slot.taken = True
        self.free_slots -= 1
        visit = Visit(self, name, time.monotonic() + seconds)
        if seconds > 0:
            self._chores.later(seconds, partial(waiter.turn, visit))
        else:
            waiter.turn(visit)

    async def _bring(self, origin: str, seconds: float) -> None:
        """Learn an origin's rules, for all workers; meanwhile it takes a slot of ours, and one of the host's."""
        name = host_of(origin)
        self.free_slots -= 1
        try:
            await asyncio.sleep(seconds)
            rules = await read_rules(origin, self._spec, self._fetch_text)
        finally:
            self.free_slots += 1
            self.release(name)
        self._post.brought[origin] = rules
        self._learn(origin, rules)

    def _learn(self, origin: str, rules: OriginRules) -> None:
        """For those who wait: what is forbidden ends, the others may be asked for."""
        host = self._hosts[host_of(origin)]
        host.awaited.discard(origin)
        host.unknown.discard(origin)
        self._sieve.learn(origin, rules)

    # ---- beginning and end

    def _broken(self, error: BaseException) -> None:
        """What goes wrong with a gate, or in here, goes wrong for all who wait and who come later."""
        if self._error is None:
            self._error = error
        for host in list(self._hosts.values()):
            while host.queue or host.pending:
                with suppress(Exception):  # of one who is told: the others are told too
                    host.fail_all(error)

    async def _signs(self) -> None:
        while True:
            await asyncio.sleep(SIGN_S)
            self._changed.update(n for n, h in self._hosts.items() if h.holds)
            self.look()

    async def __aenter__(self) -> Doorman:
        if self._post.far:
            self._chores.spawn(self._signs())
        return self

    async def __aexit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        await self._chores.end()
        await self._post.leave(self._hosts)
