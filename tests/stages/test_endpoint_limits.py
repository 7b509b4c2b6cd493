"""Rates: never more than allowed, whoever takes; and servers that rest and come back."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.endpoint_limits import Heard, Rate
from stages.endpoint_pool import FAULTS_IN_A_ROW, Pool, Server


@pytest.fixture(autouse=True)
def own_folder(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path_factory.mktemp("rates")))


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.floats(0, 2), st.integers(1, 5)), min_size=1, max_size=40), st.integers(0, 10**9))
def test_never_more_than_allowed(taken: list[tuple[float, int]], number: int) -> None:
    """In any stretch of time no more is used than the rate gives, and a second's burst and one more request."""
    now = 1e9
    rate = Rate(120, f"x{number}", clock=lambda: now)
    rate.file.unlink(missing_ok=True)
    used = []
    for rest, amount in taken:
        now += rest
        used.append((now + rate.take(amount), amount))
    for first in range(len(used)):
        for last in range(first, len(used)):
            most = max(amount for _, amount in used)
            allowed = (used[last][0] - used[first][0] + 1) * 2 + most
            assert sum(amount for _, amount in used[first : last + 1]) <= allowed + 1e-3


def test_what_is_given_back_is_there_again() -> None:
    now = 1e9
    rate = Rate(60, "tokens", clock=lambda: now)
    rate.take(1000)
    assert rate.take(1) == pytest.approx(999)
    rate.give_back(1000)
    assert rate.take(1) == pytest.approx(0, abs=1e-6)


def test_a_clock_that_is_set_back_does_not_stop_all() -> None:
    now = 2e9
    rate = Rate(60, "clock", clock=lambda: now)
    rate.take(100)
    now = 1e9
    assert rate.take(1) == pytest.approx(99)  # as before: its debt is not forgotten


def test_a_long_queue_is_kept() -> None:
    """512 requests of 5,000 tokens at 30,000 a minute are more than an hour's."""
    rate = Rate(30_000, "long", clock=lambda: 1e9)
    waits = [rate.take(5000) for _ in range(512)]
    assert waits == sorted(waits)
    assert waits[-1] == pytest.approx(511 * 10 - 1)


def test_answers_that_are_late_halve_the_places() -> None:
    async def story() -> None:
        pool = Pool([Server("slow", 8)])
        (server,) = pool.servers
        since = asyncio.get_running_loop().time()
        for _ in range(8):
            await pool.take()
        pool.answered(server)
        for _ in range(4):
            pool.late(server, "late", since)
        assert server.open == 3.5  # once for all that were sent together, of the seven that were still out
        assert pool.take_free() is None
        for _ in range(3):
            pool.answered(server)
        assert 3.5 < server.open < 4.5
        for _ in range(99):
            await pool.take()
            pool.answered(server)
        assert server.open == 8

    asyncio.run(story())


def test_where_nothing_was_answered_one_place_is_left_and_opens_the_half_soon() -> None:
    async def story() -> None:
        pool = Pool([Server("slow", 32)])
        (server,) = pool.servers
        since = asyncio.get_running_loop().time()
        for _ in range(8):  # of 32 places
            await pool.take()
        for _ in range(8):
            pool.late(server, "late", since)
        assert server.open == 1
        opened = []
        for _ in range(5):
            await pool.take()
            pool.answered(server)
            opened.append(server.open)
        assert opened == [2, 3, 4, 4.25, pytest.approx(4.25 + 1 / 4.25)]  # half of those in use, not of all

    asyncio.run(story())


def test_a_rest_that_ends_at_once_may_be_looked_at_again() -> None:
    """uvloop takes an alarm of less than half a millisecond for none, and its handle has no time."""
    uvloop = pytest.importorskip("uvloop")

    async def story() -> None:
        pool = Pool([Server("a", 1), Server("b", 1)])
        now = asyncio.get_running_loop().time()
        for server, end in zip(pool.servers, (2e-4, 1e-4), strict=True):
            server.rests_until = now + end
            pool._set_alarm(now)
        assert await asyncio.wait_for(pool.take(), 2) in pool.servers

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(story())


def test_what_one_worker_hears_all_know() -> None:
    now = 1e9
    ours, theirs = (Heard("http://a/v1 m", clock=lambda: now) for _ in range(2))
    assert ours.silent_s() == float("inf")
    theirs.note()
    now += 5
    assert ours.silent_s() == pytest.approx(5, abs=1e-3)
    assert Heard("http://b/v1 m", clock=lambda: now).silent_s() == float("inf")
    now -= 1000
    assert ours.silent_s() == float("inf")  # a time to come is none, or a dead server would live till then
    theirs.note()
    assert ours.silent_s() == pytest.approx(0, abs=1e-3)
    shutil.rmtree(ours.file.parent)
    now += 2
    theirs.note()
    assert ours.silent_s() == pytest.approx(0, abs=1e-3)


def test_a_server_that_answers_another_worker_is_not_silent() -> None:
    async def story() -> None:
        pool = Pool([Server("a", 1)], Heard("a"), good_at=asyncio.get_running_loop().time() - 100)
        assert pool.silent_s() == pytest.approx(100, abs=5)
        Heard("a").note()
        assert pool.silent_s() < 5
        assert pool.own_silence_s() == pytest.approx(100, abs=5)

    asyncio.run(story())


def test_workers_of_one_machine_share_a_rate(tmp_path: Path) -> None:
    """Two processes take 20 of 600 a minute, ten a second: together at least (40 - 11) / 10 seconds' worth."""
    code = "from stages.endpoint_limits import Rate; r = Rate(600, 'a'); print(max(r.take(1) for _ in range(20)))"
    root = Path(__file__).resolve().parents[2]
    environment = {"TMPDIR": str(tmp_path), "PYTHONPATH": str(root)}
    command = [sys.executable, "-c", code]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, env=environment, cwd=root) for _ in range(2)]
    began = time.time()
    longest = max(float(process.communicate()[0]) for process in both)
    assert all(process.returncode == 0 for process in both)
    assert longest >= 2.9 - (time.time() - began)
    assert longest > 1.5  # each alone would have waited 0.9 at most


def test_a_rate_is_above_nought() -> None:
    with pytest.raises(ValueError, match="above 0"):
        Rate(0, "x")


def test_the_server_with_the_fewest_in_flight_is_next() -> None:
    async def taken() -> list[str]:
        pool = Pool([Server("a", 4), Server("b", 4), Server("c", 2)])
        first = [await pool.take() for _ in range(6)]
        pool.answered(next(server for server in first if server.url == "b"))
        return [server.url for server in first] + [(await pool.take()).url]

    *first, last = asyncio.run(taken())
    assert sorted(first) in (
        ["a", "a", "b", "b", "c", "c"],
        ["a", "a", "a", "b", "b", "c"],
        ["a", "a", "b", "b", "b", "c"],
    )
    assert last == "b"


def test_a_dead_server_rests_and_one_request_tries_it() -> None:
    async def story() -> None:
        dead, good = Server("dead", 8), Server("good", 1)
        pool = Pool([dead, good])
        taken = [await pool.take() for _ in range(4)]
        for server in taken:
            if server is dead:
                pool.stumbled(dead, "broke off")
        assert dead.faults == FAULTS_IN_A_ROW
        assert not dead.free(asyncio.get_running_loop().time())
        assert dead.flying == 0
        began = time.monotonic()
        assert await pool.take() is dead  # waits for the end of the rest
        assert 0.1 < time.monotonic() - began < 2
        waiting = asyncio.create_task(pool.take())
        await asyncio.sleep(0.05)
        assert not waiting.done()  # one request alone is on trial
        pool.answered(dead)
        assert await waiting is dead
        assert [await pool.take() for _ in range(7)] == [dead] * 7  # all its places are open again

    asyncio.run(story())


def test_a_pause_is_as_long_as_was_asked_for() -> None:
    async def waited() -> float:
        pool = Pool([Server("busy", 4)])
        server = await pool.take()
        began = time.monotonic()
        pool.refused(server, "429", 0.4)
        await pool.take()
        return time.monotonic() - began

    assert 0.4 <= asyncio.run(waited()) < 1.5


def test_who_no_longer_waits_passes_the_turn_on() -> None:
    async def story() -> Server:
        pool = Pool([Server("only", 1)])
        server = await pool.take()
        first, second = asyncio.create_task(pool.take()), asyncio.create_task(pool.take())
        await asyncio.sleep(0)
        pool.left(server)  # the turn is the first one's, who is cancelled before it takes it
        first.cancel()
        return await asyncio.wait_for(second, 2)

    assert asyncio.run(story()).url == "only"
