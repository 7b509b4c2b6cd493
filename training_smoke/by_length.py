"""Which samples share a batch, where short texts cost less: those of like length, over a window of steps.

order = ByLength(Order(...), costs=lambda draw: lengths[draw.sample], window=8, steps=1000)
order.draw(step=17)
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from threading import Lock

import numpy as np

from training_smoke.errors import TrainingError
from training_smoke.order import Draw, Order, shuffled


@dataclass(frozen=True, eq=False)
class ByLength:
    """The samples of some steps, put together by what they cost: batches of texts of like length, with less padding.

    The steps of a window read what `order` has them read, each sample in one of them; which of its batches is of short
    texts and which of long ones is keyed, and so is the order within a batch, so that ranks get a mix of what is left.
    A pure function as the order itself; after a window, both have read the same.

    order: of all ranks together. costs: of the samples of a draw, int64 [batch]. window, steps: how many steps are put
    together, and how many there are.

    Raises:
        TrainingError: a window of no step, or an order of one of several ranks.
    """

    order: Order
    costs: Callable[[Draw], np.ndarray]
    window: int
    steps: int
    rank: int = 0
    world: int = 1

    def __post_init__(self) -> None:
        if self.window < 1 or self.order.world != 1:
            raise TrainingError(f"samples are put together by length over 1 step or more, not {self.window}")

    def draw(self, step: int) -> Draw:
        """As `Order.draw`."""
        first = step - step % self.window
        rows = _by_length(self, first)[:, step - first]
        part = self.order.batch // self.world
        turn, pack, sample = rows[:, self.rank * part : (self.rank + 1) * part]
        return Draw(step, turn, pack, sample)

    def near(self, step: int) -> list[tuple[int, int]]:
        """As `Order.near`; also of what is a window later, where `Ahead` asks for costs."""
        later = min(step + self.window, self.steps - 1)
        return list(dict.fromkeys([*self.order.near(step), *self.order.near(later)]))


@lru_cache(maxsize=2)
def _by_length(by_length: ByLength, first: int) -> np.ndarray:
    """int64 [3, steps of the window, batch]: turn, pack and sample of each."""
    order = by_length.order
    draws = [order.draw(step) for step in range(first, min(first + by_length.window, by_length.steps))]
    rows = np.stack([np.concatenate([getattr(d, name) for d in draws]) for name in ("turn", "pack", "sample")])
    costs = np.concatenate([by_length.costs(d) for d in draws])
    (chance,) = shuffled(len(costs), order.seed, f"lengths/{first}")
    alike = chance[np.argsort(costs[chance], kind="stable")].reshape(len(draws), order.batch)  # of equal costs, any
    (turns,) = shuffled(len(draws), order.seed, f"windows/{first}")
    within = shuffled(order.batch, order.seed, f"batches/{first}", times=len(draws))
    found: np.ndarray = rows[:, np.take_along_axis(alike[turns], within, axis=1)]
    return found


class Kept:
    """Costs that are dear to find, held as long as steps around them may ask again; by any thread, found by one.

    costs: of the samples of a draw. most: of how many steps they are held.
    """

    def __init__(self, costs: Callable[[Draw], np.ndarray], most: int) -> None:
        self._costs, self._most = costs, most
        self._held: dict[int, np.ndarray] = {}  # from the one that was found first
        self._lock = Lock()

    def __call__(self, draw: Draw) -> np.ndarray:
        with self._lock:
            if draw.step not in self._held:
                self._held[draw.step] = self._costs(draw)
                if len(self._held) > self._most:
                    del self._held[next(iter(self._held))]
            return self._held[draw.step]


class Ahead:
    """The costs of the next window are found while this one is trained on, those of a step at each step.

    order: with costs of `Kept`. start: the first step that is read. thread: where they are found.
    """

    def __init__(self, order: ByLength, start: int, thread: ThreadPoolExecutor) -> None:
        self._order, self._next, self._thread = order, start - start % order.window, thread

    def near(self, step: int) -> None:
        stop = min(step + self._order.window + 1, self._order.steps)
        for later in range(self._next, stop):
            # What fails here fails again, and is raised, when its window is put together.
            self._thread.submit(self._find, later)
        self._next = max(self._next, stop)

    def _find(self, step: int) -> None:
        self._order.costs(self._order.order.draw(step))
