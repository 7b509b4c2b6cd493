"""A host is never asked more often, or by more at once, than it should be, whatever workers do."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from curate.run.fetch.gate.gate import LEASE_S, ORDER_S, Ask, Gate, GateRules, OriginRules, Want, host_of, owner
from curate.run.fetch.gate.robots import Rules

ORIGIN = "https://a.test:443"


def granted(gate: Gate, worker: str, holds: int, wants: int, now: float, host: str = "a.test") -> list[float]:
    return gate.exchange(Ask(worker, {host: Want(holds, wants)}), now).grants.get(host, [])


def test_slots_are_shared_by_all_workers() -> None:
    gate = Gate(GateRules(per_host=3, host_rate=None))
    assert granted(gate, "a", 0, 2, 0.0) == [0.0, 0.0]
    assert granted(gate, "b", 0, 5, 0.0) == [0.0]
    assert granted(gate, "c", 0, 1, 0.0) == []
    assert granted(gate, "a", 1, 0, 1.0) == []
    assert granted(gate, "c", 0, 5, 1.0) == [0.0]


def test_starts_are_spaced_by_the_rate_and_not_in_step() -> None:
    gate = Gate(GateRules(per_host=100, host_rate=10))
    starts = granted(gate, "a", 0, 100, 0.0)
    gaps = [b - a for a, b in pairwise(starts)]
    assert starts[-1] <= 1.0 < starts[-1] + 0.14
    assert all(0.1099 < gap < 0.1401 for gap in gaps)
    assert len({round(gap, 6) for gap in gaps}) > 3


def test_a_dead_worker_gives_its_slots_back_and_a_silent_one_does_not_for_a_while() -> None:
    gate = Gate(GateRules(per_host=1, host_rate=None))
    assert granted(gate, "dead", 0, 1, 0.0)
    assert not granted(gate, "b", 0, 1, LEASE_S - 1)
    assert granted(gate, "b", 0, 1, LEASE_S + 1)


def test_a_lost_reply_is_put_right_by_the_next_message() -> None:
    gate = Gate(GateRules(per_host=2, host_rate=None))
    assert len(granted(gate, "a", 0, 2, 0.0)) == 2  # never heard of by the worker, so it says again that it has none
    assert len(granted(gate, "a", 0, 2, 0.1)) == 2


def test_a_closed_host_is_left_alone_over_all_workers_and_asked_half_as_much_after() -> None:
    gate = Gate(GateRules(per_host=4, host_rate=None))
    gate.exchange(Ask("a", {"a.test": Want(0, 4)}), 0.0)
    reply = gate.exchange(Ask("a", {"a.test": Want(0, 4)}, refusals={"a.test": 7.0}), 1.0)
    assert (reply.grants, reply.closed) == ({}, {"a.test": 7.0})
    assert gate.exchange(Ask("b", {"a.test": Want(0, 1)}), 7.9).closed["a.test"] < 0.2
    assert len(granted(gate, "b", 0, 9, 8.1)) == 2


def test_without_a_time_to_wait_each_closing_is_longer() -> None:
    gate = Gate(GateRules(per_host=4, host_rate=None))
    now, waits = 0.0, []
    for _ in range(4):
        closed = gate.exchange(Ask("a", {"a.test": Want(0, 1)}, refusals={"a.test": None}), now).closed["a.test"]
        waits.append(closed)
        now += closed + 0.001
    assert waits == [5.0, 20.0, 80.0, 320.0]


def test_a_host_is_left_alone_as_long_as_it_says() -> None:
    """A day is a day, and not an hour; "for ever" is a week. Our own guess stays within the hour."""
    for said, kept in ((86_400.0, 86_400.0), (1e9, 7 * 86_400.0)):
        gate = Gate(GateRules())
        assert gate.exchange(Ask("a", {"a.test": Want(0, 1)}, refusals={"a.test": said}), 0.0).closed["a.test"] == kept
        assert not granted(gate, "a", 0, 1, kept - 1)
        assert granted(gate, "a", 0, 1, kept + 1)


def test_a_host_that_answers_again_is_mended_step_by_step() -> None:
    gate = Gate(GateRules(per_host=4, host_rate=None))
    gate.exchange(Ask("a", {}, refusals={"a.test": 1.0}), 0.0)
    assert len(granted(gate, "a", 0, 9, 2.0)) == 2
    gate.exchange(Ask("a", {"a.test": Want(0, fine=True)}), 3.0)
    assert len(granted(gate, "a", 0, 9, 3.0)) == 3
    gate.exchange(Ask("a", {"a.test": Want(0, fine=True)}), 4.0)
    assert len(granted(gate, "a", 0, 9, 4.0)) == 4
    assert gate.exchange(Ask("a", {"a.test": Want(0, 1)}, refusals={"a.test": None}), 5.0).closed == {"a.test": 5.0}


def test_requests_under_way_when_it_closed_do_not_close_it_longer() -> None:
    gate = Gate(GateRules(per_host=4, host_rate=None))
    gate.exchange(Ask("a", {}, refusals={"a.test": None}), 0.0)
    gate.exchange(Ask("b", {}, refusals={"a.test": None}), 0.5)
    assert gate.exchange(Ask("a", {"a.test": Want(0, 1)}), 1.0).closed == {"a.test": 4.0}


def test_one_worker_brings_the_rules_and_all_get_them() -> None:
    gate = Gate(GateRules(robots_ttl_s=100))
    want = {"a.test": Want(0, 0, (ORIGIN,))}
    assert gate.exchange(Ask("a", want), 0.0).order == {ORIGIN: 0.0}
    assert gate.exchange(Ask("b", want), 0.1).order == {}
    rules = OriginRules(Rules((("/x", False),)))
    gate.exchange(Ask("a", {}, answers={ORIGIN: rules}), 1.0)
    assert gate.exchange(Ask("b", want), 1.1).rules == {ORIGIN: rules}
    assert gate.exchange(Ask("b", want), 102.0).order == {ORIGIN: 0.0}, "its time is over"


def test_another_worker_brings_the_rules_where_the_first_died() -> None:
    gate = Gate(GateRules())
    want = {"a.test": Want(0, 0, (ORIGIN,))}
    assert gate.exchange(Ask("dead", want), 0.0).order == {ORIGIN: 0.0}
    assert gate.exchange(Ask("b", want), ORDER_S - 1).order == {}
    assert gate.exchange(Ask("b", want), ORDER_S + 1).order == {ORIGIN: 0.0}


def test_rules_that_could_not_be_had_are_asked_for_again_later_and_not_at_once() -> None:
    gate = Gate(GateRules())
    want = {"a.test": Want(0, 0, (ORIGIN,))}
    gate.exchange(Ask("a", {}, answers={ORIGIN: OriginRules(unavailable="status 500")}), 0.0)
    assert gate.exchange(Ask("b", want), 599.0).rules[ORIGIN].unavailable == "status 500"
    assert gate.exchange(Ask("b", want), 601.0).order == {ORIGIN: 0.0}


def test_crawl_delay_slows_a_host_down() -> None:
    gate = Gate(GateRules(per_host=9, host_rate=10))
    gate.exchange(Ask("a", {}, answers={ORIGIN: OriginRules(Rules((), 2.0))}), 0.0)
    assert granted(gate, "a", 0, 9, 0.0) == [0.0]
    assert granted(gate, "a", 1, 9, 1.0) == []
    [start] = granted(gate, "a", 1, 9, 2.0)
    assert 2.2 <= 2.0 + start <= 2.8


def test_a_gate_that_begins_anew_is_quiet_until_workers_have_spoken() -> None:
    gate = Gate(GateRules(per_host=2, host_rate=None), quiet_until=6.0)
    reply = gate.exchange(Ask("b", {"a.test": Want(0, 2, (ORIGIN,))}), 1.0)
    assert (reply.grants, reply.order, reply.again) == ({}, {}, {"a.test": 5.0})
    gate.exchange(Ask("a", {"a.test": Want(2)}), 2.0)
    assert granted(gate, "b", 0, 2, 6.5) == []


def test_every_host_has_one_owner() -> None:
    owners = Counter(owner(f"host{i}.test", 4) for i in range(4000))
    assert set(owners) == set(range(4))
    assert min(owners.values()) > 800
    assert host_of("https://a.test:443") == "a.test"


def test_a_burst_of_refusals_is_one_closing_and_many_closings_are_no_error() -> None:
    gate = Gate(GateRules(per_host=8, host_rate=None))
    for _ in range(4):
        gate.exchange(Ask("a", {}, refusals={"a.test": 1.0}), 0.0)
    assert len(granted(gate, "a", 0, 9, 2.0)) == 4
    for i in range(1000):
        gate.exchange(Ask("a", {}, refusals={"a.test": 0.5}), 10.0 + i)
    gate.exchange(Ask("a", {}, refusals={"a.test": None}), 2000.0)
    assert gate.exchange(Ask("a", {"a.test": Want(0, 1)}), 2000.0).closed == {"a.test": 3600.0}


def test_asking_for_rules_takes_a_slot_and_its_place_in_the_rate() -> None:
    gate = Gate(GateRules(per_host=2, host_rate=10))
    other = "http://a.test:80"
    reply = gate.exchange(Ask("a", {"a.test": Want(0, 2, (ORIGIN, other))}), 0.0)
    first, second = reply.order[ORIGIN], reply.order[other]
    assert (first, reply.grants) == (0.0, {})
    assert second >= 0.4, "two files were asked for before it, and one start is between"
    gate.exchange(Ask("a", {}, answers={ORIGIN: OriginRules()}), 0.5)
    assert granted(gate, "a", 2, 2, 0.5) == []
    [start] = granted(gate, "a", 1, 2, 0.6)
    assert 0.6 + start >= second + 0.3


def test_rules_are_not_fetched_of_a_closed_host() -> None:
    gate = Gate(GateRules())
    gate.exchange(Ask("a", {}, refusals={"a.test": 50.0}), 0.0)
    reply = gate.exchange(Ask("a", {"a.test": Want(0, 0, (ORIGIN,))}), 1.0)
    assert (reply.order, reply.closed) == ({}, {"a.test": 49.0})
    assert gate.exchange(Ask("a", {"a.test": Want(0, 0, (ORIGIN,))}), 51.0).order == {ORIGIN: 0.0}


events = st.lists(
    st.tuples(st.sampled_from(["want", "end", "die", "lose", "refuse", "wait"]), st.integers(0, 3), st.integers(1, 6)),
    max_size=80,
)


@given(events, st.integers(1, 4), st.sampled_from([2.0, 10.0, None]))
@settings(max_examples=200, deadline=None)
def test_never_too_many_at_once_nor_in_a_second(
    script: list[tuple[str, int, int]], per_host: int, rate: float | None
) -> None:
    """Whatever workers want, end, lose and die of: what living workers hold and start stays within the limits."""
    gate = Gate(GateRules(per_host=per_host, host_rate=rate))
    now, holds, starts, names = 0.0, Counter[int](), [], [f"w{i}" for i in range(4)]
    for what, worker, number in script:
        now += 0.01
        if what == "want":
            got = granted(gate, names[worker], holds[worker], number, now)
            holds[worker] += len(got)
            starts += [now + g for g in got]
            assert sum(holds.values()) <= per_host
        elif what == "end":
            holds[worker] = max(0, holds[worker] - number)
        elif what == "die":  # its requests are over; the gate learns of it when the lease ends
            holds[worker] = 0
            names[worker] += "'"
        elif what == "lose":  # the reply is lost: nothing starts, and the next message says what is held
            gate.exchange(Ask(names[worker], {"a.test": Want(holds[worker], number)}), now)
            gate.exchange(Ask(names[worker], {"a.test": Want(holds[worker])}), now)
        elif what == "refuse":
            gate.exchange(Ask(names[worker], {"a.test": Want(holds[worker])}, refusals={"a.test": 0.5}), now)
        else:
            now += number / 4
    assert sum(holds.values()) <= per_host
    if rate is not None:
        starts.sort()
        for i, first in enumerate(starts):
            assert sum(first <= s < first + 1 for s in starts[i:]) <= rate
