"""A worker at its gates: nobody waits longer than a host's limits make him, and nothing starts outside of them."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from yarl import URL

from curate.run.fetch.gate.doorman import Answered, Deferred, Doorman, GateHandle, Refused, inline_gates
from curate.run.fetch.gate.gate import Ask, Gate, GateRules, Reply
from curate.run.fetch.spec import IngestSpec

SPEC = IngestSpec(host_rate=None, per_host=2, concurrency=64)
FREE = SPEC.model_copy(update={"ignore": ("robots", "tdm")})


class Site:
    """robots.txt of all hosts; `asked` has every URL of it that was asked for."""

    def __init__(self, robots: bytes = b"User-agent: *\nDisallow: /no\n", status: int = 200) -> None:
        self.robots, self.status, self.asked = robots, status, Counter[str]()

    async def text(self, url: str) -> Answered:
        self.asked[url] += 1
        await asyncio.sleep(0.001)
        return Answered(self.status, self.robots, None) if url.endswith("robots.txt") else Answered(404, b"", None)


class FarGate:
    """A gate elsewhere: answers come late, messages and the gate itself can be lost."""

    def __init__(self, rules: GateRules, late: Callable[[], float]) -> None:
        self.rules, self.late, self.gate = rules, late, Gate(rules)

    def begin_anew(self) -> None:
        self.gate = Gate(self.rules, time.monotonic() + 0.3)

    async def exchange(self, ask: Ask) -> Reply:
        await asyncio.sleep(self.late())
        reply = self.gate.exchange(ask, time.monotonic())
        await asyncio.sleep(self.late())
        return reply


async def seen(doorman: Doorman, url: str, lasts: float = 0.0) -> str:
    slot = doorman.slot()
    try:
        with await doorman.visit(URL(url), slot):
            await asyncio.sleep(lasts)
    except (Refused, Deferred) as e:
        return type(e).__name__
    finally:
        slot.free()
    return "ok"


def run(coroutine: Coroutine[Any, Any, Any], limit: float = 10.0) -> Any:
    return asyncio.run(asyncio.wait_for(coroutine, limit))


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("curate.run.fetch.gate.doorman.TICK_S", 0.002)
    monkeypatch.setattr("curate.run.fetch.gate.doorman.SIGN_S", 0.1)


def test_robots_is_asked_once_an_origin_and_what_it_forbids_is_not_visited() -> None:
    site = Site()

    async def main() -> list[str]:
        async with Doorman(inline_gates(SPEC), SPEC, site.text) as doorman:
            urls = [f"http://{h}.test/{p}" for h in "ab" for p in ("1", "no/2", "3", "no")] * 5
            return list(await asyncio.gather(*(seen(doorman, u) for u in urls)))

    assert run(main()) == ["ok", "Refused", "ok", "Refused"] * 10
    assert set(site.asked.values()) == {1}
    assert len(site.asked) == 4


def test_ipv6_hosts_have_gates_too() -> None:
    async def main() -> list[str]:
        gates = inline_gates(SPEC)
        found = []
        for _ in range(2):  # the second worker gets the rules from the gate
            async with Doorman(gates, SPEC, site.text) as doorman:
                found += [await seen(doorman, "http://[2001:db8::1]/a"), await seen(doorman, "http://[2001:db8::1]/no")]
        return found

    site = Site()
    assert run(main()) == ["ok", "Refused"] * 2
    assert site.asked["http://[2001:db8::1]:80/robots.txt"] == 1


def test_a_visit_to_an_idle_host_does_not_wait_and_costs_little() -> None:
    async def main() -> tuple[float, float]:
        async with Doorman(inline_gates(SPEC), SPEC, Site().text) as doorman:
            await seen(doorman, "http://a.test/1")
            started = time.perf_counter()
            for i in range(200):
                await seen(doorman, f"http://a.test/{i}")
            one = (time.perf_counter() - started) / 200
            spread = [f"http://a.test/{i}" for i in range(2000)]
            started = time.process_time()
            await asyncio.gather(*(seen(doorman, u) for u in spread))
            return one, (time.process_time() - started) / len(spread)

    one, spread = run(main())
    assert one < 0.005, "no tick is waited for"
    assert spread < 0.001


def test_a_waiter_that_gives_up_leaves_no_trace() -> None:
    """One holds the only slot, one waits and gives up, the first ends: the next one must get in."""
    spec = FREE.model_copy(update={"per_host": 1})

    async def main() -> str:
        async with Doorman(inline_gates(spec), spec, Site().text) as doorman:
            first = asyncio.create_task(seen(doorman, "http://a.test/1", 0.05))
            await asyncio.sleep(0.01)
            second = asyncio.create_task(seen(doorman, "http://a.test/2"))
            await asyncio.sleep(0.01)
            second.cancel()
            await first
            assert doorman.free_slots == spec.concurrency
            return await seen(doorman, "http://a.test/3")

    assert run(main(), 2.0) == "ok"


def test_a_redirect_lets_its_slot_go_while_it_waits() -> None:
    """All slots taken by URLs that are sent on to another host: they must not wait for each other for ever."""
    spec = SPEC.model_copy(update={"concurrency": 2})

    async def redirected(doorman: Doorman, number: int) -> None:
        slot = doorman.slot()
        with await doorman.visit(URL(f"http://a{number}.test/"), slot):
            await asyncio.sleep(0.01)
        with await doorman.visit(URL("http://b.test/"), slot):
            assert slot.taken
        slot.free()

    async def main() -> int:
        async with Doorman(inline_gates(spec), spec, Site().text) as doorman:
            await asyncio.gather(*(redirected(doorman, n) for n in range(10)))
            return doorman.free_slots

    assert run(main(), 5.0) == 2


def test_slots_of_the_worker_are_a_limit_of_all_hosts_together() -> None:
    spec = FREE.model_copy(update={"concurrency": 5})
    under_way, most = 0, 0

    async def one(doorman: Doorman, url: str) -> None:
        nonlocal under_way, most
        slot = doorman.slot()
        with await doorman.visit(URL(url), slot):
            under_way += 1
            most = max(most, under_way)
            await asyncio.sleep(0.002)
            under_way -= 1
        slot.free()

    async def main() -> None:
        async with Doorman(inline_gates(spec), spec, Site().text) as doorman:
            await asyncio.gather(*(one(doorman, f"http://h{i}.test/") for i in range(40)))

    run(main())
    assert most == 5


def test_a_host_that_closes_defers_those_who_wait_and_those_who_come() -> None:
    async def main() -> list[str]:
        async with Doorman(inline_gates(FREE), FREE, Site().text) as doorman:
            slot = doorman.slot()
            with await doorman.visit(URL("http://a.test/1"), slot) as visit:
                waiting = asyncio.gather(*(seen(doorman, "http://a.test/2", 0.02) for _ in range(5)))
                await asyncio.sleep(0.01)
                visit.answered(429, "300")
            found = await waiting
            slot.free()
            return [*found, await seen(doorman, "http://a.test/3"), await seen(doorman, "http://b.test/3")]

    assert run(main(), 3.0) == ["ok", *["Deferred"] * 5, "ok"]


def test_in_a_hurry_slow_hosts_are_put_off_and_quick_ones_served() -> None:
    """One visit shows how slow a host is; what it will not have served in time waits for no second one."""
    spec = FREE.model_copy(update={"per_host": 1})

    async def main() -> tuple[list[str], float, str, str]:
        async with Doorman(inline_gates(spec), spec, Site().text) as doorman:
            began = time.monotonic()
            slow = asyncio.gather(*(seen(doorman, "http://slow.test/", 1.0) for _ in range(3)))
            quick = asyncio.gather(*(seen(doorman, "http://quick.test/", 0.01) for _ in range(20)))
            await asyncio.sleep(0.1)
            doorman.hurry(1.5, "too slow")
            found = [*await quick, *await slow]
            took = time.monotonic() - began
            late = await seen(doorman, "http://slow.test/"), await seen(doorman, "http://other.test/")
            return found, took, *late

    found, took, slow, other = run(main(), 10.0)
    assert found == [*["ok"] * 20, "ok", "Deferred", "Deferred"]
    assert took < 1.9, "a second one would have ended at 2"
    assert (slow, other) == ("Deferred", "ok")


def test_when_the_hurry_is_over_nobody_is_let_in() -> None:
    async def main() -> list[str]:
        async with Doorman(inline_gates(FREE), FREE, Site().text) as doorman:
            all_ = [asyncio.ensure_future(seen(doorman, "http://a.test/", 0.3)) for _ in range(9)]
            await asyncio.sleep(0.1)
            doorman.hurry(0.0, "over")
            late = await seen(doorman, "http://b.test/")
            return [*sorted(await asyncio.gather(*all_)), late]

    assert run(main(), 5.0) == ["Deferred"] * (9 - FREE.per_host) + ["ok"] * FREE.per_host + ["Deferred"]


def test_a_gate_that_fails_is_told_to_all_and_does_not_hang_the_next() -> None:
    class Broken:
        async def exchange(self, ask: Ask) -> Reply:
            raise ConnectionError("the gate is gone")

    async def main() -> None:
        doorman = Doorman([Broken()], FREE, Site().text)
        for _ in range(2):
            with pytest.raises(ConnectionError, match="the gate is gone"):
                await seen(doorman, "http://a.test/1")

    run(main(), 3.0)


@pytest.mark.usefixtures("quick")
def test_hosts_of_one_far_gate_do_not_wait_for_the_next_sign_of_life(monkeypatch: pytest.MonkeyPatch) -> None:
    """A host that gets in line while its gate is being asked for another is asked for when that answer is there."""
    monkeypatch.setattr("curate.run.fetch.gate.doorman.SIGN_S", 60.0)

    async def main() -> list[str]:
        gate = FarGate(GateRules.of(FREE), lambda: 0.05)
        async with Doorman([gate], FREE, Site().text) as doorman:
            first = asyncio.create_task(seen(doorman, "http://a.test/", 1.0))
            await asyncio.sleep(0.03)
            found = await asyncio.wait_for(seen(doorman, "http://b.test/"), 0.5)
            return [found, await first]

    assert run(main()) == ["ok", "ok"]


@pytest.mark.usefixtures("quick")
def test_a_grant_is_not_used_by_a_url_whose_rules_are_not_known() -> None:
    """Who asked for it has given up when it comes; who waits behind him is of an origin with rules of its own."""

    async def main() -> str:
        gate = FarGate(GateRules.of(SPEC), lambda: 0.03)
        async with Doorman([gate], SPEC, Site().text) as doorman:
            await seen(doorman, "http://a.test/1")
            await asyncio.sleep(0.1)
            gives_up = asyncio.create_task(seen(doorman, "http://a.test/2"))
            await asyncio.sleep(0.01)
            other = asyncio.create_task(seen(doorman, "https://a.test/no"))
            await asyncio.sleep(0.01)
            gives_up.cancel()
            return await other

    assert run(main(), 3.0) == "Refused"


@given(seed=st.integers(0, 10**6), per_host=st.integers(1, 3), rate=st.sampled_from([None, 200.0]))
@settings(max_examples=25, deadline=None)
def test_many_workers_at_far_gates_keep_the_limits_and_all_end(seed: int, per_host: int, rate: float | None) -> None:
    """Late answers, workers that are cancelled, URLs that give up: all URLs end, and no host has too many at once."""
    draw = random.Random(seed)
    spec = SPEC.model_copy(update={"per_host": per_host, "host_rate": rate, "concurrency": 6})
    now_at: Counter[str] = Counter()
    most: dict[str, int] = defaultdict(int)
    site = Site()
    forbidden: list[str] = []

    async def one(doorman: Doorman, host: str, path: str) -> None:
        slot = doorman.slot()
        try:
            with await doorman.visit(URL(f"http://{host}/{path}"), slot):
                now_at[host] += 1
                most[host] = max(most[host], now_at[host])
                forbidden.extend([path] if path.startswith("no") else [])
                try:
                    await asyncio.sleep(draw.random() * 0.01)
                finally:
                    now_at[host] -= 1
        except Refused:
            assert path.startswith("no")
        finally:
            slot.free()

    async def worker(gates: list[GateHandle]) -> None:
        async with Doorman(gates, spec, site.text) as doorman:
            tasks = [
                asyncio.create_task(one(doorman, f"h{draw.randrange(3)}.test", draw.choice(["a", "no"])))
                for _ in range(20)
            ]
            for task in draw.sample(tasks, 6):
                await asyncio.sleep(draw.random() * 0.01)
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            errors = [t.exception() for t in tasks if not t.cancelled()]
            assert errors == [None] * len(errors)
            assert doorman.free_slots >= spec.concurrency - 3, "all slots came back, but of robots.txt under way"

    async def main() -> None:
        gates: list[GateHandle] = [FarGate(GateRules.of(spec), lambda: draw.random() * 0.004) for _ in range(2)]
        await asyncio.gather(*(worker(gates) for _ in range(3)))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("curate.run.fetch.gate.doorman.TICK_S", 0.002)
        run(main(), 5.0)
    assert not forbidden
    assert all(n <= per_host for n in most.values()), most


@pytest.mark.usefixtures("quick")
def test_a_gate_that_begins_anew_is_told_what_is_held_and_what_owners_want() -> None:
    site = Site(b"User-agent: *\nDisallow: /no\nCrawl-delay: 0.05\n")
    spec = SPEC.model_copy(update={"per_host": 1})

    async def main() -> tuple[list[str], bool]:
        gate = FarGate(GateRules.of(spec), lambda: 0.001)
        async with Doorman([gate], spec, site.text) as a, Doorman([gate], spec, site.text) as b:
            await seen(a, "http://a.test/1")
            long = asyncio.create_task(seen(a, "http://a.test/2", 1.0))
            await asyncio.sleep(0.2)
            gate.begin_anew()
            other = asyncio.create_task(seen(b, "http://a.test/3"))
            await asyncio.sleep(0.6)
            early = other.done()
            return [await long, await other], early

    assert run(main()) == (["ok", "ok"], False)
    assert site.asked["http://a.test:80/robots.txt"] == 1


def test_a_worker_that_leaves_in_mid_errand_leaves_it_to_the_next() -> None:
    async def never(_: str) -> Answered:
        await asyncio.sleep(3600)
        raise AssertionError

    async def main() -> str:
        gates = inline_gates(SPEC)
        async with Doorman(gates, SPEC, never) as doorman:
            task = asyncio.create_task(seen(doorman, "http://a.test/1"))
            await asyncio.sleep(0.01)
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
        async with Doorman(gates, SPEC, Site().text) as doorman:
            return await seen(doorman, "http://a.test/1")

    assert run(main(), 3.0) == "ok"


def test_a_bug_in_reading_rules_is_raised() -> None:
    def broken(_: str) -> Awaitable[Answered]:
        raise ZeroDivisionError("a bug")

    async def main() -> None:
        async with Doorman(inline_gates(SPEC), SPEC, broken) as doorman:
            await seen(doorman, "http://a.test/1")

    with pytest.raises(ZeroDivisionError, match="a bug"):
        run(main(), 3.0)
