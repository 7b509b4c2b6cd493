"""Messages between one worker and its gates: one at a time to each, so that absolute numbers never cross."""

from __future__ import annotations

import time
import uuid
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Protocol

from curate.run.fetch.gate.chores import Chores
from curate.run.fetch.gate.gate import Ask, Gate, GateRules, OriginRules, Reply, Want, host_of, owner
from curate.run.fetch.spec import IngestSpec


class GateHandle(Protocol):
    """A gate here or elsewhere."""

    def exchange(self, ask: Ask) -> Reply | Awaitable[Reply]: ...


class InlineGate:
    """A gate in this process."""

    def __init__(self, rules: GateRules) -> None:
        self._gate = Gate(rules)

    def exchange(self, ask: Ask) -> Reply:
        return self._gate.exchange(ask, time.monotonic())


def inline_gates(spec: IngestSpec) -> list[GateHandle]:
    """The gate of a run that has one worker at a time."""
    return [InlineGate(GateRules.of(spec))]


class Post:
    """`heard` gets every answer with its question; `forgotten` is called before, for a gate that began anew."""

    def __init__(
        self,
        gates: Sequence[GateHandle],
        chores: Chores,
        heard: Callable[[Ask, Reply], None],
        forgotten: Callable[[int], None],
    ) -> None:
        self._gates, self._chores, self._heard, self._forgotten = gates, chores, heard, forgotten
        self._worker = uuid.uuid4().hex
        self._epochs: dict[int, str] = {}
        self._talking: dict[int, int] = {}  # gate -> our slots that its answer may take
        self.far = not all(isinstance(g, InlineGate) for g in gates)
        self.refusals: dict[str, float | None] = {}  # host -> seconds it asked to wait: for the next message
        self.brought: dict[str, OriginRules] = {}  # and the rules of origins that we have learned

    def gate_of(self, host: str) -> int:
        return owner(host, len(self._gates))

    def busy(self, number: int) -> bool:
        """Whether an answer of this gate is on its way."""
        return number in self._talking

    def promised(self) -> int:
        """Our slots that answers on their way may take."""
        return sum(self._talking.values())

    def send(self, number: int, hosts: dict[str, Want], slots: int) -> None:
        """Ask a gate that is not busy; its answer may take so many of our slots."""
        ask = self._ask(number, hosts)
        answer = self._gates[number].exchange(ask)
        if isinstance(answer, Reply):
            self._hear(number, ask, answer)
        else:
            self._talking[number] = slots
            self._chores.spawn(self._listen(number, ask, answer))

    def _ask(self, number: int, hosts: dict[str, Want], bye: bool = False) -> Ask:
        refusing = [h for h in self.refusals if self.gate_of(h) == number]
        known = [o for o in self.brought if self.gate_of(host_of(o)) == number]
        return Ask(
            self._worker,
            hosts,
            {h: self.refusals.pop(h) for h in refusing},
            {o: self.brought.pop(o) for o in known},
            bye,
        )

    async def _listen(self, number: int, ask: Ask, answer: Awaitable[Reply]) -> None:
        try:
            reply = await answer
        finally:
            del self._talking[number]
        self._hear(number, ask, reply)

    def _hear(self, number: int, ask: Ask, reply: Reply) -> None:
        if self._epochs.setdefault(number, reply.epoch) != reply.epoch:
            self._epochs[number] = reply.epoch
            self._forgotten(number)
        self._heard(ask, reply)

    async def leave(self, hosts: Iterable[str]) -> None:
        """Tell the gates of these hosts that we hold nothing any more, and shall not ask again."""
        mine: dict[int, dict[str, Want]] = {}
        for host in hosts:
            mine.setdefault(self.gate_of(host), {})[host] = Want(0)
        for number, wants in mine.items():
            answer = self._gates[number].exchange(self._ask(number, wants, bye=True))
            if not isinstance(answer, Reply):
                await answer
