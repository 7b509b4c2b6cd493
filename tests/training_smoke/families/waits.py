"""Where a step asks a device for numbers that decide its shapes: there it waits, until all before it is computed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch.utils._python_dispatch import TorchDispatchMode


class _Watch(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.done: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.done.append(str(func))
        return func(*args, **(kwargs or {}))


def waits_after_pictures(step: Callable[[], object]) -> tuple[int, int]:
    """How often a step counts, or picks by truth values, before its first convolution, and from there on."""
    watch = _Watch()
    with watch:
        step()
    waits = [i for i, name in enumerate(watch.done) if "nonzero" in name or "_local_scalar_dense" in name]
    first = next(i for i, name in enumerate(watch.done) if "convolution" in name)
    return sum(i < first for i in waits), sum(i > first for i in waits)
