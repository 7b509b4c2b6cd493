"""The scheduler: order of passes, retries, failures that hold back what comes after, twins, deadlines."""

from __future__ import annotations

import pickle
import random
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.errors import PartialFailure, Refusal, UserError
from curate.run.engine import LOST_TRIES, Engine, Pass, Rules
from curate.run.executors import Executor, Finished, Function, InlineExecutor, LostWorker, deadline
from stages.base import Need
from stages.endpoint_client import ServiceError


class Quiet:
    """A watcher that only remembers."""

    def __init__(self) -> None:
        self.errors: list[tuple[str, str, bool]] = []
        self.ends: list[tuple[str, str]] = []

    def begin(self, passes: Sequence[Pass]) -> None: ...

    def started(self, name: str, item: str) -> None: ...

    def finished(self, name: str, item: str, result: dict[str, Any], seconds: float) -> None:
        self.ends.append((name, item))

    def failed(self, name: str, item: str, error: str, final: bool) -> None:
        self.errors.append((name, item, final))

    def tick(self) -> None: ...


class Shuffled(Executor):
    """Finishes work in a random order, several pieces at once: what a cluster may do."""

    name = "shuffled"

    def __init__(self, seed: int, slots: int = 3) -> None:
        self.random, self.slots = random.Random(seed), slots
        self.held: dict[int, tuple[Function, Any, str]] = {}
        self.tickets = 0
        self.most = 0

    def capacity(self, need: Need) -> int:
        return self.slots

    def submit(self, function: Function, shared: Any, item: str, need: Need) -> int:
        self.tickets += 1
        self.held[self.tickets] = (function, shared, item)
        self.most = max(self.most, len(self.held))
        return self.tickets

    def wait(self, timeout: float) -> list[Finished]:
        ticket = self.random.choice(list(self.held))
        function, shared, item = self.held.pop(ticket)
        try:
            return [(ticket, function(shared, item))]
        except Exception as e:  # noqa: BLE001 - handed to the scheduler, as executors do
            return [(ticket, e)]

    def cancel(self, ticket: int) -> None:
        self.held.pop(ticket, None)


def note(shared: list[tuple[str, str]], item: str) -> dict[str, Any]:
    shared.append(("", item))
    return {"rows": 1}


def recorder(name: str, log: list[tuple[str, str]]) -> Callable[[Any, str], dict[str, Any]]:
    def work(_: Any, item: str) -> dict[str, Any]:
        log.append((name, item))
        return {"rows": 1}

    return work


@settings(deadline=None, max_examples=60)
@given(
    st.integers(0, 2**32),
    st.sets(st.integers(0, 12)),
    st.sets(st.integers(0, 12)),
    st.sets(st.integers(0, 12)),
)
def test_each_item_goes_through_each_pass_once_and_in_order(seed: int, a: set[int], b: set[int], c: set[int]) -> None:
    log: list[tuple[str, str]] = []
    passes = [
        Pass("a", recorder("a", log), None, [str(i) for i in sorted(a)]),
        Pass("b", recorder("b", log), None, [str(i) for i in sorted(b)], after=("a",)),
        Pass("c", recorder("c", log), None, [str(i) for i in sorted(c)], after=("a", "b")),
    ]
    executor = Shuffled(seed)
    Engine(passes, executor, Quiet(), Rules()).run()
    assert Counter(log) == Counter([(p.name, i) for p in passes for i in p.items])
    for name, before in (("b", "a"), ("c", "a"), ("c", "b")):
        for item in {i for n, i in log if n == name} & {i for n, i in log if n == before}:
            assert log.index((before, item)) < log.index((name, item))
    assert executor.most <= 3


def test_a_mishap_is_tried_again_and_a_bad_item_fails_alone() -> None:
    calls: Counter[str] = Counter()

    def work(_: Any, item: str) -> dict[str, Any]:
        calls[item] += 1
        if item == "poison" or (item == "shaky" and calls[item] < 3):
            raise ValueError(f"no {item}")
        return {}

    watcher, written = Quiet(), {}
    later: list[tuple[str, str]] = []
    passes = [
        Pass("a", work, None, ["good", "shaky", "poison"], on_failure=lambda i, t: written.update({i: t})),
        Pass("b", recorder("b", later), None, ["good", "shaky", "poison"], after=("a",)),
    ]
    with pytest.raises(PartialFailure, match=r"a: 1 of 3 failed for good, the first is poison: ValueError: no poison"):
        Engine(passes, InlineExecutor(), watcher, Rules(tries=3)).run()
    assert calls == {"good": 1, "shaky": 3, "poison": 3}
    assert sorted(later) == [("b", "good"), ("b", "shaky")]
    assert "ValueError: no poison" in written["poison"]
    assert watcher.errors[-1] == ("a", "poison", True)


def test_an_allowed_share_may_fail_and_is_returned() -> None:
    def work(_: Any, item: str) -> dict[str, Any]:
        if item == "3":
            raise ValueError("three")
        return {}

    passes = [Pass("a", work, None, [str(i) for i in range(10)])]
    bad = Engine(passes, InlineExecutor(), Quiet(), Rules(tries=1, allow_failed=0.1)).run()
    assert list(bad["a"]) == ["3"]


def test_a_lost_worker_is_not_the_items_fault_until_it_kills_every_worker() -> None:
    calls: Counter[str] = Counter()

    def work(_: Any, item: str) -> dict[str, Any]:
        calls[item] += 1
        if item == "killer" or calls[item] < 5:
            raise LostWorker("node died")
        return {}

    with pytest.raises(PartialFailure, match="killer"):
        Engine([Pass("a", work, None, ["unlucky", "killer"])], InlineExecutor(), Quiet(), Rules(tries=2)).run()
    assert calls == {"unlucky": 5, "killer": LOST_TRIES}


def test_a_refusal_is_not_tried_again_and_leaves_its_trace() -> None:
    calls: Counter[str] = Counter()

    def work(_: Any, item: str) -> dict[str, Any]:
        calls[item] += 1
        raise pickle.loads(pickle.dumps(Refusal("too much is asked", "Traceback: where")))

    watcher, written = Quiet(), {}
    passes = [Pass("a", work, None, ["1", "2"], on_failure=lambda i, t: written.update({i: t}))]
    with pytest.raises(UserError, match=r"^too much is asked$"):
        Engine(passes, InlineExecutor(), watcher, Rules(tries=3, allow_failed=1)).run()
    assert calls == {"1": 1}
    assert written == {"1": "Traceback: where"}
    assert watcher.errors == [("a", "1", True)]


def test_what_a_stage_stops_the_run_for_is_asked_once() -> None:
    calls: Counter[str] = Counter()

    def work(_: Any, item: str) -> dict[str, Any]:
        calls[item] += 1
        raise pickle.loads(pickle.dumps(ServiceError("no server has answered")))

    written: dict[str, str] = {}
    items = [str(number) for number in range(6)]
    passes = [Pass("a", work, None, items, on_failure=lambda i, t: written.update({i: t}))]
    with pytest.raises(Refusal, match=r"^no server has answered$"):
        Engine(passes, InlineExecutor(), Quiet(), Rules(tries=3, allow_failed=1)).run()
    assert calls == {"0": 1}
    assert "ServiceError: no server has answered" in written["0"]


def test_a_users_error_ends_the_run_at_once() -> None:
    def work(_: Any, item: str) -> dict[str, Any]:
        raise UserError("mend the recipe")

    with pytest.raises(UserError, match="mend the recipe"):
        Engine([Pass("a", work, None, ["1", "2"])], InlineExecutor(), Quiet(), Rules()).run()


def test_a_straggler_gets_a_twin_and_the_first_answer_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    class Stuck(Shuffled):
        """Never finishes the first ticket of item "slow"."""

        def wait(self, timeout: float) -> list[Finished]:
            first = next((t for t, (_, _, i) in self.held.items() if i == "slow"), None)
            others = [t for t in self.held if t != first]
            if not others:
                return []
            function, shared, item = self.held.pop(others[0])
            return [(others[0], function(shared, item))]

    monkeypatch.setattr("curate.run.engine.STRAGGLER_S", 0.01)
    log: list[tuple[str, str]] = []
    executor = Stuck(0)
    passes = [Pass("a", recorder("a", log), None, ["slow", "1", "2", "3", "4"])]
    Engine(passes, executor, Quiet(), Rules()).run()
    assert sorted(i for _, i in log) == ["1", "2", "3", "4", "slow"]
    assert not executor.held, "the losing twin was cancelled"


def test_deadline_ends_python_code() -> None:
    began = time.monotonic()
    with pytest.raises(TimeoutError, match=r"deadline of 0.1 s"), deadline(0.1):
        time.sleep(5)
    assert time.monotonic() - began < 2


def test_inline_enforces_the_deadline_of_the_need() -> None:
    def work(_: Any, item: str) -> dict[str, Any]:
        time.sleep(5)
        return {}

    with pytest.raises(PartialFailure, match="TimeoutError"):
        Engine([Pass("a", work, None, ["1"], Need(deadline_s=0.05))], InlineExecutor(), Quiet(), Rules(tries=1)).run()
