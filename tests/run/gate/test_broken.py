"""What goes wrong at a gate or in the doorman is raised where somebody waits, now or later; nobody hangs."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from yarl import URL

from curate.run.fetch.gate.chores import Chores
from curate.run.fetch.gate.doorman import Answered, Doorman
from curate.run.fetch.gate.gate import Ask, Gate, GateRules, Reply
from curate.run.fetch.gate.post import InlineGate
from curate.run.fetch.spec import IngestSpec

FREE = IngestSpec(host_rate=None, per_host=2, concurrency=8, ignore=("robots", "tdm"))


async def no_text(_: str) -> Answered:
    raise AssertionError("nothing is asked for")


def run(coroutine: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run(asyncio.wait_for(coroutine, 3.0))


class Here(InlineGate):
    """A gate in the process that fails while `bad`."""

    bad = True

    def exchange(self, ask: Ask) -> Reply:
        if self.bad:
            raise ZeroDivisionError("a bug of the gate")
        return super().exchange(ask)


class Far:
    """A gate elsewhere that fails while `bad`."""

    def __init__(self) -> None:
        self.gate, self.bad = Gate(GateRules.of(FREE)), False

    async def exchange(self, ask: Ask) -> Reply:
        await asyncio.sleep(0.001)
        if self.bad:
            raise ConnectionError("the gate is gone")
        return self.gate.exchange(ask, time.monotonic())


def test_a_gate_in_the_process_that_fails_is_told_to_all_who_wait_and_who_come() -> None:
    """It is asked in a bare callback of the loop, of which an exception is only logged: they would wait for ever."""

    async def main() -> list[str]:
        gate = Here(GateRules.of(FREE))
        doorman = Doorman([gate], FREE, no_text)
        waiting = [doorman.visit(URL(f"http://{host}.test/"), doorman.slot()) for host in "aab"]
        found = await asyncio.gather(*waiting, return_exceptions=True)
        gate.bad = False
        with pytest.raises(ZeroDivisionError, match="a bug of the gate"):
            doorman.enter(URL("http://c.test/"), doorman.slot(), lambda _: None)
        return [repr(one) for one in found]

    assert run(main()) == ["ZeroDivisionError('a bug of the gate')"] * 3


def test_an_error_that_comes_when_nobody_waits_is_kept_for_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("curate.run.fetch.gate.doorman.TICK_S", 0.002)
    monkeypatch.setattr("curate.run.fetch.gate.doorman.SIGN_S", 0.02)

    async def main() -> None:
        gate = Far()
        async with Doorman([gate], FREE, no_text) as doorman:
            with await doorman.visit(URL("http://a.test/"), doorman.slot()):
                gate.bad = True
                await asyncio.sleep(0.1)  # a sign of life is given meanwhile, and fails
                gate.bad = False
                with pytest.raises(ConnectionError, match="the gate is gone"):
                    doorman.enter(URL("http://a.test/2"), doorman.slot(), lambda _: None)

    run(main())


@pytest.mark.parametrize("when", ["soon", "later"])
def test_what_a_chore_raises_is_not_lost(when: str) -> None:
    async def main() -> list[BaseException]:
        broken: list[BaseException] = []
        chores = Chores(broken.append)

        def what() -> None:
            raise ZeroDivisionError

        how: dict[str, Callable[[], None]] = {
            "soon": lambda: chores.soon(what),
            "later": lambda: chores.later(0.001, what),
        }
        how[when]()
        await asyncio.sleep(0.02)
        return broken

    [error] = run(main())
    assert isinstance(error, ZeroDivisionError)


def test_one_who_cannot_be_told_does_not_keep_it_from_the_others() -> None:
    async def main() -> list[str]:
        doorman = Doorman([Here(GateRules.of(FREE))], FREE, no_text)
        told: list[str] = []

        def raises(_: object) -> None:
            raise RuntimeError("its task group is shutting down")

        doorman.enter(URL("http://a.test/1"), doorman.slot(), raises)
        doorman.enter(URL("http://a.test/2"), doorman.slot(), lambda came: told.append(repr(came)))
        doorman.enter(URL("http://b.test/"), doorman.slot(), lambda came: told.append(repr(came)))
        await asyncio.sleep(0.01)
        return told

    assert run(main()) == ["ZeroDivisionError('a bug of the gate')"] * 2
