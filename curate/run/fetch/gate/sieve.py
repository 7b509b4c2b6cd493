"""Who of those that wait for a host may ask it: the rules of origins, as far as one worker knows them.

A shard can have ten thousand URLs of one host, and that host twenty thousand rules: those who came before the rules are
checked for a bounded time in each turn of the event loop, so that it never stalls.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Mapping

from curate.run.fetch.gate.chores import Chores
from curate.run.fetch.gate.gate import OriginRules, host_of
from curate.run.fetch.gate.waiting import Host, Refused, Waiter

TURN_S = 0.005


class Sieve:
    """`passed(host)` is called when some of those who wait for it may now be asked for."""

    def __init__(self, hosts: Mapping[str, Host], chores: Chores, passed: Callable[[str], None]) -> None:
        self._hosts, self._chores, self._passed = hosts, chores, passed
        self.rules: dict[str, OriginRules] = {}
        self._slow: set[str] = set()
        self._unsifted: OrderedDict[str, None] = OrderedDict()  # origins whose rules have come, for those who wait
        self._due = False

    def admits(self, origin: str, path: str) -> bool:
        """Whether a path may be asked for; False also where that is not known yet: then its waiter is to be put into
        `pending` of its host, and `wait` called.

        Raises:
            Refused: refused_robots, or what is the matter with the host.
        """
        rules = self.rules.get(origin)
        if rules is None or origin in self._slow:
            return False
        _check(rules, path)
        return True

    def wait(self, origin: str) -> None:
        """Somebody waits to be checked; he is at once where the rules are known."""
        if origin in self.rules:
            self._unsifted[origin] = None
            self._sift_soon()

    def _sift_soon(self) -> None:
        if not self._due:
            self._due = True
            self._chores.soon(self._sift)

    def learn(self, origin: str, rules: OriginRules) -> None:
        """Those who wait and may not ask end with Refused, the others become such as may be asked for, both soon."""
        self.rules[origin] = rules
        if rules.slow:
            self._slow.add(origin)
        self.wait(origin)

    def _sift(self) -> None:
        self._due = False
        until = time.perf_counter() + TURN_S
        while self._unsifted:
            origin, _ = self._unsifted.popitem(last=False)
            name = host_of(origin)
            if not _some(self._hosts[name], origin, self.rules[origin], until):
                self._unsifted[origin] = None  # behind the others: each gets its turn
            self._passed(name)
            if self._unsifted and time.perf_counter() > until:
                self._sift_soon()
                return


def _some(host: Host, origin: str, rules: OriginRules, until: float) -> bool:
    """Check at least one of those who wait for these rules; whether that was all of them."""
    while pending := host.pending.get(origin):
        waiter: Waiter = pending.popleft()
        try:
            _check(rules, waiter.path)
        except Refused as e:
            waiter.turn(e)
        else:
            host.queue.append(waiter)
        if time.perf_counter() > until and host.pending.get(origin):
            return False
    host.pending.pop(origin, None)
    return True


def _check(rules: OriginRules, path: str) -> None:
    if rules.unavailable is not None:
        raise Refused(rules.outcome, rules.unavailable)
    if not rules.robots.allowed(path):
        raise Refused("refused_robots", "robots.txt forbids it")
    if rules.tdm.covers(path):
        raise Refused("refused_robots", rules.tdm.why)
