"""The gate of some hosts: how many may ask each of them at a time, how often, and what their owners forbid.

    gate = Gate(GateRules.of(spec))
    reply = gate.exchange(Ask("worker-1", {"example.org": Want(holds=0, wants=3)}), now=12.5)

A state machine without clock or network, so that it can be an object in the process or an actor on a cluster: every
host belongs to one gate (`owner`), so its limits hold over all workers. Workers say in absolute numbers what they
hold: a lost message, a dead worker or a gate that begins anew puts itself right with the next exchange.
"""

from __future__ import annotations

import math
import uuid
from collections import OrderedDict
from dataclasses import dataclass, field

import xxhash

from curate.run.fetch.gate.robots import ALLOW_ALL, Rules
from curate.run.fetch.gate.tdm import NOTHING_RESERVED, Reservations
from curate.run.fetch.spec import IngestSpec

LEASE_S = 30.0  # a worker that says nothing for so long holds nothing any more
ORDER_S = 60.0  # so long one worker has to bring the rules of an origin
HORIZON_S = 1.0  # starts are handed out at most so far ahead
UNAVAILABLE_S = 600.0  # before an origin whose rules could not be had is asked for them again
CLOSED_S, CLOSED_FACTOR, CLOSED_GUESS_S, CLOSINGS = 5.0, 4.0, 3600.0, 10  # after a 429 or 503 that names no time
CLOSED_MOST_S = 7 * 86_400.0  # and after one that does: what names more means "for good", or is a mistake
JITTER = (1.1, 1.4)  # times 1 / rate between two starts: never above the rate, and never in step
RULES_REQUESTS = 3  # starts that asking for robots.txt and tdmrep.json stand for
KEPT_HOSTS = 100_000  # with more, those used least recently are forgotten; 1 KB each
KEPT_RULES = 500_000  # lines of robots.txt and tdmrep.json, likewise; 150 bytes each, and as much where they are used
FORGET_S = 7200.0  # a host that is slowed down is remembered so long after it was used: longer than a shard takes
LOOKS = 4  # at hosts to forget, for each new one: no message waits for a great clearing


@dataclass(frozen=True, slots=True)
class OriginRules:
    """What an origin (scheme://host:port) forbids; `unavailable`, a line, where that could not be learned, and the
    outcome which that is."""

    robots: Rules = ALLOW_ALL
    tdm: Reservations = NOTHING_RESERVED
    unavailable: str | None = None
    outcome: str = "robots_unavailable"

    @property
    def slow(self) -> bool:
        """Whether a path takes so long to check that thousands must not be checked at a stretch."""
        return bool(self.robots.rules and self.robots.patterns.slow) or bool(self.tdm.rules and self.tdm.patterns.slow)

    @property
    def size(self) -> int:
        """Lines to remember."""
        return 1 + len(self.robots.rules) + len(self.tdm.rules)


@dataclass(frozen=True, slots=True)
class Want:
    """Of one host: slots that the worker holds now, and how many more it could use; origins it has no rules of.

    fine: it has answered as it should since the last message."""

    holds: int
    wants: int = 0
    origins: tuple[str, ...] = ()
    fine: bool = False


@dataclass(frozen=True, slots=True)
class Ask:
    """One message of a worker. refusals: host -> (seconds it asked to wait, or None); answers: rules it brought."""

    worker: str
    hosts: dict[str, Want]
    refusals: dict[str, float | None] = field(default_factory=dict)
    answers: dict[str, OriginRules] = field(default_factory=dict)
    bye: bool = False


@dataclass(slots=True)
class Reply:
    """grants: host -> seconds from now at which each slot may be used. again: host -> seconds after which to ask
    again where fewer were granted than wanted. closed: of these hosts, those that do not want to be asked for so long.
    order: origin whose rules this worker should bring -> seconds from now; it holds a slot of the host meanwhile.
    rules: of origins asked about. epoch: another one means that the gate has forgotten what this worker holds."""

    epoch: str
    grants: dict[str, list[float]] = field(default_factory=dict)
    again: dict[str, float] = field(default_factory=dict)
    closed: dict[str, float] = field(default_factory=dict)
    order: dict[str, float] = field(default_factory=dict)
    rules: dict[str, OriginRules] = field(default_factory=dict)


@dataclass(frozen=True)
class GateRules:
    """The part of a spec that a gate keeps."""

    per_host: int = 4
    host_rate: float | None = 10.0
    robots_ttl_s: float = 86_400.0

    @classmethod
    def of(cls, spec: IngestSpec) -> GateRules:
        if "host_limits" in spec.ignore:
            return cls(1 << 30, None, spec.robots_ttl_s)
        return cls(spec.per_host, spec.host_rate, spec.robots_ttl_s)


@dataclass(slots=True)
class _Origin:
    rules: OriginRules | None = None
    delay: float = 0.0  # that its robots.txt asks for; kept when the rules are not
    until: float = -math.inf
    ordered: float = -math.inf
    by: str = ""


@dataclass(slots=True)
class _Host:
    held: dict[str, int] = field(default_factory=dict)
    next_start: float = -math.inf
    starts: int = 0
    closed_until: float = -math.inf
    closings: int = 0
    at_once: int | None = None
    delay: float = 0.0  # the longest of its origins
    used: float = -math.inf
    origins: dict[str, _Origin] = field(default_factory=dict)


def owner(host: str, gates: int) -> int:
    """Which of so many gates a host belongs to."""
    return xxhash.xxh64_intdigest(host.encode()) % gates


class Gate:
    """See the module. `quiet_until`: nothing is granted before, so that workers can say what they hold."""

    def __init__(self, rules: GateRules, quiet_until: float = -math.inf) -> None:
        self.rules = rules
        self.epoch = uuid.uuid4().hex
        self._quiet_until = quiet_until
        self._hosts: OrderedDict[str, _Host] = OrderedDict()  # least recently used first
        self._ruled: OrderedDict[str, int] = OrderedDict()  # origins whose rules we keep: lines of them; likewise
        self._lines = 0
        self._seen: dict[str, float] = {}

    def exchange(self, ask: Ask, now: float) -> Reply:
        """Take what a worker says, and answer what it asks. `now`: seconds of a clock that never goes back."""
        reply = Reply(self.epoch)
        self._seen[ask.worker] = now
        for refusing, seconds in ask.refusals.items():
            self._close(self._host(refusing, now), seconds, now)
        for origin, rules in ask.answers.items():
            self._learn(self._host(host_of(origin), now), origin, rules, now)
        for name, want in ask.hosts.items():
            host = self._host(name, now)
            self._hold(host, ask.worker, want.holds)
            if want.fine and now >= host.closed_until:
                self._mend(host)
            for origin in want.origins:
                self._tell_rules(name, host, origin, ask.worker, reply, now)
            if want.wants:
                self._grant(name, host, ask.worker, want.wants, reply, now)
            if ask.bye:
                self._call_back(host, ask.worker)
        if ask.bye:
            del self._seen[ask.worker]
        return reply

    def _host(self, name: str, now: float) -> _Host:
        host = self._hosts.get(name)
        if host is None:
            self._forget_some(now)
            host = self._hosts[name] = _Host()
        else:
            self._hosts.move_to_end(name)
        host.used = now
        return host

    def _hold(self, host: _Host, worker: str, count: int) -> None:
        if count:
            host.held[worker] = count
        else:
            host.held.pop(worker, None)

    def _close(self, host: _Host, seconds: float | None, now: float) -> None:
        """The host said that it is asked too often: nothing until it wants, then with half as many at once."""
        under_way = now < host.closed_until  # when it closed: what these say is no new closing
        if seconds is None:
            guess = CLOSED_S * CLOSED_FACTOR ** min(host.closings, CLOSINGS)
            seconds = 0.0 if under_way else min(guess, CLOSED_GUESS_S)
        host.closed_until = max(host.closed_until, now + min(max(seconds, 0.0), CLOSED_MOST_S))
        if not under_way:
            host.closings += 1
            host.at_once = max(1, self._limit(host) // 2)

    def _mend(self, host: _Host) -> None:
        """It answers again: one more at once than before, until all is as it was."""
        host.closings = 0
        if host.at_once is not None:
            host.at_once = None if host.at_once + 1 >= self.rules.per_host else host.at_once + 1

    def _learn(self, host: _Host, name: str, rules: OriginRules, now: float) -> None:
        lasts = self.rules.robots_ttl_s if rules.unavailable is None else min(UNAVAILABLE_S, self.rules.robots_ttl_s)
        host.origins[name] = _Origin(rules, rules.robots.delay or 0.0, now + lasts)
        host.delay = max(origin.delay for origin in host.origins.values())
        self._lines += rules.size - self._ruled.pop(name, 0)
        self._ruled[name] = rules.size
        while self._lines > KEPT_RULES and len(self._ruled) > 1:
            self._drop_rules(next(iter(self._ruled)))

    def _tell_rules(self, name: str, host: _Host, origin: str, worker: str, reply: Reply, now: float) -> None:
        known = host.origins.setdefault(origin, _Origin())
        if known.rules is not None and now < known.until:
            reply.rules[origin] = known.rules
            self._ruled.move_to_end(origin)
        elif now < host.closed_until:
            reply.closed[name] = reply.again[name] = host.closed_until - now
        elif now - known.ordered > ORDER_S and now >= self._quiet_until and self._count(host, now) < self._limit(host):
            # Both files may be asked for at once, so there is room for one more start before them and after.
            start = max(host.next_start + self._spacing(host, name), now)
            known.ordered, known.by = start, worker
            reply.order[origin] = start - now
            host.next_start = start + RULES_REQUESTS * self._spacing(host, name)
            self._hold(host, worker, host.held.get(worker, 0) + 1)

    def _call_back(self, host: _Host, worker: str) -> None:
        """What a worker that leaves was to bring is for the next one to bring."""
        for origin in host.origins.values():
            if origin.by == worker:
                origin.ordered, origin.by = -math.inf, ""

    def _grant(self, name: str, host: _Host, worker: str, wants: int, reply: Reply, now: float) -> None:
        if now < host.closed_until:
            reply.closed[name] = reply.again[name] = host.closed_until - now
            return
        if now < self._quiet_until:
            reply.again[name] = self._quiet_until - now
            return
        held = self._count(host, now)
        room = max(0, self._limit(host) - held)
        starts: list[float] = []
        while len(starts) < min(wants, room):
            start = max(host.next_start, now)
            if start - now > HORIZON_S:
                break
            starts.append(start - now)
            host.next_start = start + self._spacing(host, name)
        if starts:
            reply.grants[name] = starts
            self._hold(host, worker, host.held.get(worker, 0) + len(starts))
        if len(starts) < wants:
            # Where our slots are the limit it asks when it has let one go; else when there may be another start.
            ours = host.held.get(worker, 0) >= held + len(starts) and len(starts) == room
            reply.again[name] = math.inf if ours else max(0.1, host.next_start - now - HORIZON_S / 2)

    def _limit(self, host: _Host) -> int:
        return host.at_once or self.rules.per_host

    def _count(self, host: _Host, now: float) -> int:
        for worker in [w for w in host.held if now - self._seen.get(w, -math.inf) > LEASE_S]:
            del host.held[worker]
        return sum(host.held.values())

    def _spacing(self, host: _Host, name: str) -> float:
        """Seconds between two starts: at least 1 / rate, or what robots.txt asks for, and a keyed draw on top."""
        least = max(host.delay, 0.0 if self.rules.host_rate is None else 1 / self.rules.host_rate)
        host.starts += 1
        draw = xxhash.xxh64_intdigest(name.encode(), host.starts) / 2**64
        return least * (JITTER[0] + (JITTER[1] - JITTER[0]) * draw)

    # ---- forgetting

    def _drop_rules(self, name: str) -> None:
        """Forget what an origin forbids, until a worker asks for it; the delay stays, as others may go on meanwhile."""
        self._lines -= self._ruled.pop(name)
        origins = self._hosts[host_of(name)].origins
        origins[name].rules, origins[name].until = None, -math.inf
        if not origins[name].delay:
            del origins[name]

    def _forget_some(self, now: float) -> None:
        """Look at the hosts used least recently, and forget those that nothing is to be remembered of."""
        for _ in range(LOOKS):
            if not self._hosts:
                return
            name, host = next(iter(self._hosts.items()))
            crowded = len(self._hosts) >= KEPT_HOSTS
            if not crowded and now - host.used <= FORGET_S:
                return
            if self._matters(host, now, crowded):
                self._hosts.move_to_end(name)
                continue
            for origin in host.origins:
                self._lines -= self._ruled.pop(origin, 0)
            del self._hosts[name]

    def _matters(self, host: _Host, now: float, crowded: bool) -> bool:
        """Whether forgetting this host could break its limits, or, unless there are too many, would ask for rules again
        that we know."""
        if now < max(host.closed_until, host.next_start) or self._count(host, now):
            return True
        if any(now - origin.ordered <= ORDER_S for origin in host.origins.values()):
            return True
        slowed = host.delay or host.closings or host.at_once is not None
        if slowed and now - max(host.used, host.closed_until) <= FORGET_S:
            return True
        return not crowded and any(now < origin.until for origin in host.origins.values())


def host_of(origin: str) -> str:
    """The host of an origin as `origin_of` (site) writes it; an IPv6 address without its brackets."""
    return origin.partition("://")[2].rpartition(":")[0].strip("[]")
