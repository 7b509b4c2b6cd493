"""Which samples share a batch, where short texts cost less: those of like length, over a window of steps.

order = ByLength(Order(...), costs=lambda draw: lengths[draw.sample], window=8, steps=1000)
order.draw(step=17)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

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
        """As `Order.near`."""
        return self.order.near(step)


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
