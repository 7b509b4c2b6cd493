"""Work of a model in which one item may break the pass that it is in: the others are done without it.

apart = Apart()
for item, found, why in apart(items, model_pass):      # found, or why there is nothing
    ...
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

Item = TypeVar("Item")
Found = TypeVar("Found")


class Apart:
    """Passes over items, halved where one fails by its logits or for want of memory."""

    def __init__(self) -> None:
        self.worked = False

    def __call__(
        self, items: Sequence[Item], work: Callable[[Sequence[Item]], Sequence[Found]]
    ) -> Iterator[tuple[Item, Found | None, str | None]]:
        """Each item with what `work` found for it, or with None and why: it alone broke the work, too.

        Raises:
            torch.OutOfMemoryError: of one item alone, before any work was done: then it is not the item's fault.
        """
        found, why = self._tried(items, work)
        if found is not None:
            self.worked = True
            yield from ((item, of_item, None) for item, of_item in zip(items, found, strict=True))
        elif len(items) == 1:
            yield items[0], None, why
        else:
            half = len(items) // 2
            for some in (items[:half], items[half:]):
                yield from self(some, work)

    def _tried(
        self, items: Sequence[Item], work: Callable[[Sequence[Item]], Sequence[Found]]
    ) -> tuple[Sequence[Found] | None, str]:
        import torch

        from training_smoke.errors import TrainingError

        try:
            return work(items), ""
        except TrainingError as e:
            return None, str(e)
        except torch.OutOfMemoryError as e:
            if len(items) == 1 and not self.worked:
                raise
            why = f"the device has not enough memory for it ({str(e)[:120]})"
        torch.cuda.empty_cache()  # here, where no traceback holds what the pass had; does nothing without a GPU
        return None, why
