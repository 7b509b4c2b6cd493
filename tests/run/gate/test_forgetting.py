"""A gate of a long run forgets hosts, and never one of which something must be remembered to keep its limits."""

from __future__ import annotations

import pytest

from curate.run.fetch.gate.gate import FORGET_S, LEASE_S, LOOKS, ORDER_S, Ask, Gate, GateRules, OriginRules, Reply, Want
from curate.run.fetch.gate.robots import Rules

ORIGIN = "https://a.test:443"


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("curate.run.fetch.gate.gate.KEPT_HOSTS", 10)


def say(gate: Gate, now: float, holds: int = 0, wants: int = 0, host: str = "a.test", **more: float | None) -> Reply:
    return gate.exchange(Ask("w", {host: Want(holds, wants)}, refusals=dict(more.items())), now)


def crowd(gate: Gate, now: float, count: int = 50) -> None:
    """So many other hosts are asked for, and let go."""
    for i in range(count):
        gate.exchange(Ask("other", {f"h{i}-{now}.test": Want(0, 1)}), now)
        gate.exchange(Ask("other", {f"h{i}-{now}.test": Want(0)}), now)


def rules_of(gate: Gate, now: float, origin: str = ORIGIN, host: str = "a.test") -> Reply:
    return gate.exchange(Ask("w", {host: Want(0, 0, (origin,))}), now)


@pytest.mark.usefixtures("few")
def test_hosts_are_forgotten_when_there_are_too_many() -> None:
    gate = Gate(GateRules(host_rate=None))
    gate.exchange(Ask("w", {}, answers={ORIGIN: OriginRules()}), 0.0)
    for now in range(20):
        crowd(gate, float(now), 5)
        assert rules_of(gate, float(now)).rules, "it is used more than the others"
    assert len(gate._hosts) <= 10


@pytest.mark.usefixtures("few")
def test_slots_that_are_held_are_remembered_while_the_worker_lives() -> None:
    gate = Gate(GateRules(per_host=2, host_rate=None))
    assert len(say(gate, 0.0, 0, 2).grants["a.test"]) == 2
    crowd(gate, 1.0)
    assert not gate.exchange(Ask("v", {"a.test": Want(0, 1)}), 2.0).grants
    crowd(gate, 3.0 + LEASE_S)
    assert "a.test" not in gate._hosts, "that worker is dead"


@pytest.mark.usefixtures("few")
def test_the_rate_is_kept() -> None:
    gate = Gate(GateRules(per_host=9, host_rate=0.1))
    assert say(gate, 0.0, 0, 1).grants["a.test"] == [0.0]
    say(gate, 0.5)  # that one is over
    crowd(gate, 1.0)
    assert not say(gate, 2.0, 0, 1).grants, "the next start is at 11 to 14 s"


@pytest.mark.usefixtures("few")
def test_a_closed_host_stays_closed_and_is_slower_after() -> None:
    gate = Gate(GateRules(per_host=4, host_rate=None))
    gate.exchange(Ask("w", {}, refusals={"a.test": 3 * FORGET_S}), 0.0)
    crowd(gate, 3 * FORGET_S - 1)
    assert say(gate, 3 * FORGET_S - 1, 0, 1).closed
    crowd(gate, 3 * FORGET_S + 1)
    assert len(say(gate, 3 * FORGET_S + 2, 0, 4).grants["a.test"]) == 2


@pytest.mark.usefixtures("few")
def test_a_crawl_delay_outlives_its_rules_and_the_crowd(monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that knows the rules asks for slots only, so the gate must know the delay."""
    monkeypatch.setattr("curate.run.fetch.gate.gate.KEPT_RULES", 5)
    gate = Gate(GateRules(per_host=9, host_rate=10))
    gate.exchange(Ask("w", {}, answers={ORIGIN: OriginRules(Rules((("/x", False),), 30.0))}), 0.0)
    crowd(gate, 1.0)
    gate.exchange(Ask("w", {}, answers={"http://b.test:80": OriginRules(Rules((("/x", False),) * 4))}), 1.0)
    assert len(say(gate, 2.0, 0, 9).grants["a.test"]) == 1
    assert not say(gate, 30.0, 1, 9).grants
    assert rules_of(gate, 31.0).order, "what it forbids was forgotten, and is asked for again"


@pytest.mark.usefixtures("few")
def test_an_errand_under_way_is_not_given_to_a_second_worker() -> None:
    gate = Gate(GateRules(host_rate=None))
    assert rules_of(gate, 0.0).order
    crowd(gate, LEASE_S + 1)
    assert not gate.exchange(Ask("v", {"a.test": Want(0, 0, (ORIGIN,))}), LEASE_S + 2).order
    assert gate.exchange(Ask("v", {"a.test": Want(0, 0, (ORIGIN,))}), ORDER_S + 2).order


def test_rules_are_kept_up_to_a_size_those_used_last_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("curate.run.fetch.gate.gate.KEPT_RULES", 100)
    gate = Gate(GateRules(host_rate=None))
    big = OriginRules(Rules(tuple((f"/{i}", False) for i in range(39))))
    origins = [f"https://{host}.test:443" for host in "abc"]
    for number, origin in enumerate(origins):
        if number == 2:
            assert rules_of(gate, 1.0, origins[0]).rules
        gate.exchange(Ask("w", {}, answers={origin: big}), float(number))
    assert rules_of(gate, 5.0, origins[0]).rules
    assert rules_of(gate, 5.0, origins[1], "b.test").order
    assert rules_of(gate, 5.0, origins[2], "c.test").rules
    assert gate._lines == 80
    gate.exchange(Ask("w", {}, answers={origins[0]: OriginRules()}), 6.0)
    assert gate._lines == 41, "new rules stand in place of the old"


def test_without_a_crowd_rules_hold_as_long_as_they_should_and_then_the_host_goes() -> None:
    gate = Gate(GateRules(host_rate=None, robots_ttl_s=5 * FORGET_S))
    gate.exchange(Ask("w", {}, answers={ORIGIN: OriginRules()}), 0.0)
    for i in range(LOOKS):
        say(gate, 4 * FORGET_S, host=f"h{i}.test")
    assert rules_of(gate, 4 * FORGET_S).rules
    for i in range(3 * LOOKS):
        say(gate, 6 * FORGET_S, host=f"i{i}.test")
    assert not {"a.test", "h0.test"} & set(gate._hosts)
    assert gate._lines == 0
