"""Ten thousand URLs of a host and twenty thousand rules of its owner do not stall the event loop."""

from __future__ import annotations

import asyncio
import gc
import time
from collections import Counter
from collections.abc import Awaitable, Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from yarl import URL

from curate.run.fetch.gate.doorman import Answered, Deferred, Doorman, Refused, Visit, inline_gates
from curate.run.fetch.gate.patterns import Patterns, matches, normal_path, normal_pattern
from curate.run.fetch.gate.robots import Rules, parse
from curate.run.fetch.spec import IngestSpec

SPEC = IngestSpec(host_rate=None, per_host=64, concurrency=64)

PREFIXES = b"".join(b"Disallow: /product/%d/x\n" % i for i in range(20_000))
WILD = b"".join(b"Disallow: /*q%d*x\n" % i for i in range(20_000))


async def outcomes(text: Callable[[str], Awaitable[Answered]], paths: list[str], early: bool) -> tuple[Counter, float]:
    """(outcomes of these URLs of one host, the longest turn of the loop); early: they come before the rules."""
    found: Counter[str] = Counter()
    worst, over = 0.0, False

    async def watch() -> None:
        nonlocal worst
        gc.collect()
        gc.disable()  # whatever other tests left behind is not of this loop
        try:
            while not over:
                before = time.thread_time()  # of this thread alone: others have the machine too
                await asyncio.sleep(0)
                worst = max(worst, time.thread_time() - before)
        finally:
            gc.enable()

    async with Doorman(inline_gates(SPEC), SPEC, text) as doorman:

        def enter(path: str) -> None:
            slot = doorman.slot()

            def turn(came: Visit | BaseException) -> None:
                if isinstance(came, Visit):
                    came.leave()
                slot.free()
                found["ok" if isinstance(came, Visit) else str(came.args[-1])] += 1

            try:
                doorman.enter(URL(f"http://a.test{path}"), slot, turn)
            except Refused as e:
                found[e.detail] += 1

        if not early:
            enter("/first")
            while not found:
                await asyncio.sleep(0.001)
            found.clear()
        watching = asyncio.create_task(watch())
        for number, path in enumerate(paths):
            enter(path)
            if number % 64 == 0:
                await asyncio.sleep(0)
        while found.total() < len(paths):
            await asyncio.sleep(0.001)
        over = True
        await watching
    return found, worst


@pytest.mark.parametrize("early", [True, False])
@pytest.mark.parametrize(("rules", "bad"), [(PREFIXES, "/product/100/x{}"), (WILD, "/a/q19999/{}/x")])
def test_no_turn_of_the_loop_is_long(rules: bytes, bad: str, early: bool) -> None:
    async def text(url: str) -> Answered:
        await asyncio.sleep(0.05 if early else 0)
        body = b"User-agent: *\n" + rules
        return Answered(200, body, None) if url.endswith("robots.txt") else Answered(404, b"", None)

    many = 150
    paths = [path for i in range(many) for path in (f"/good/{i}.jpg", bad.format(i))]
    found, worst = asyncio.run(asyncio.wait_for(outcomes(text, paths, early), 60))
    assert found == {"ok": many, "robots.txt forbids it": many}
    assert worst < 0.15, "one by one, and all at a stretch, it was 2 s"


@pytest.mark.parametrize("early", [True, False])
def test_few_are_checked_in_a_turn_where_each_takes_long(early: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both of those who came before the rules, and of those who come later, 64 in a turn."""
    turn, checked = 0, Counter[int]()
    plain = Rules.allowed

    def allowed(self: Rules, path: str) -> bool:
        checked[turn] += 1
        until = time.perf_counter() + 0.002
        while time.perf_counter() < until:
            pass
        return plain(self, path)

    async def text(url: str) -> Answered:
        await asyncio.sleep(0.02 if early else 0)
        body = b"User-agent: *\n" + WILD[:10_000]
        return Answered(200, body, None) if url.endswith("robots.txt") else Answered(404, b"", None)

    async def main() -> Counter[str]:
        async def count() -> None:
            nonlocal turn
            while True:
                turn += 1
                await asyncio.sleep(0)

        counting = asyncio.create_task(count())
        found, _ = await outcomes(text, [f"/{i}" for i in range(200)], early)
        counting.cancel()
        return found

    monkeypatch.setattr(Rules, "allowed", allowed)
    assert asyncio.run(asyncio.wait_for(main(), 30)) == {"ok": 200}
    assert checked.total() >= 200
    assert max(checked.values()) <= 4, "5 ms a turn"


def test_what_is_forbidden_ends_soon_however_slowly_its_host_is_asked() -> None:
    """Not when its turn would have come: by then the pass is over, and it would count as given up."""
    spec = SPEC.model_copy(update={"host_rate": 0.1, "per_host": 1})

    async def text(url: str) -> Answered:
        return Answered(200, b"User-agent: *\nDisallow: /no", None)

    async def main() -> None:
        async with Doorman(inline_gates(spec), spec, text) as doorman:
            fine = [asyncio.create_task(doorman.visit(URL(f"http://a.test/{i}"), doorman.slot())) for i in range(9)]
            with pytest.raises(Refused, match="forbids"):
                await asyncio.wait_for(doorman.visit(URL("http://a.test/no"), doorman.slot()), 1.0)
            for task in fine:
                task.cancel()
            await asyncio.wait(fine)

    asyncio.run(main())


def test_those_who_wait_for_rules_are_put_off_and_forgotten_like_others() -> None:
    async def never(_: str) -> Answered:
        await asyncio.sleep(3600)
        raise AssertionError

    async def main() -> None:
        async with Doorman(inline_gates(SPEC), SPEC, never) as doorman:
            came: list[Visit | BaseException] = []
            first = doorman.enter(URL("http://a.test/1"), doorman.slot(), came.append)
            doorman.enter(URL("http://a.test/2"), doorman.slot(), came.append)
            await asyncio.sleep(0.01)
            doorman.forget(first)
            doorman.hurry(0.0, "over")
            assert [str(e.detail) for e in came if isinstance(e, Deferred)] == ["over"]
            assert len(came) == 1

    asyncio.run(asyncio.wait_for(main(), 3.0))


@given(
    st.lists(st.tuples(st.text("ab/*$", max_size=6).map(lambda t: "/" + t), st.booleans()), max_size=30),
    st.text("ab/$*%"),
)
@settings(max_examples=500, deadline=None)
def test_the_table_says_what_trying_one_by_one_says(rules: list[tuple[str, bool]], path: str) -> None:
    normal = [(normal_pattern(pattern), answer) for pattern, answer in rules]
    path = normal_path("/" + path)
    expected = next((answer for pattern, answer in normal if matches(pattern, path)), None)
    assert Patterns(normal).decide(path) is expected


def test_thousands_of_rules_cost_a_path_little() -> None:
    rules = parse(b"User-agent: *\n" + PREFIXES, "curate")
    assert not rules.allowed("/product/7/x/a.jpg")
    before = time.process_time()
    for i in range(1000):
        assert rules.allowed(f"/product/{i}/y.jpg")
    assert (time.process_time() - before) / 1000 < 0.0002, "one by one it was 0.007 s"


def test_rules_travel_without_their_tables() -> None:
    import pickle

    rules = Rules((("/a", False),), 2.0)
    small = len(pickle.dumps(rules))
    assert not rules.allowed("/a")
    assert len(pickle.dumps(rules)) == small
    assert pickle.loads(pickle.dumps(rules)) == rules
