"""May weights be fetched that are not here yet? Who only asks what a recipe needs must not set off downloads.

with nothing_fetched():
    stage.files()        # ValueError where they would have to come from a hub

@nothing_fetched()
def listed(): ...        # the same for all of a call
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_ALLOWED = ContextVar("weights may be fetched", default=True)


@contextmanager
def nothing_fetched() -> Iterator[None]:
    """Within it, and in this thread or task alone, names of hubs are looked for on this machine only."""
    before = _ALLOWED.set(False)
    try:
        yield
    finally:
        _ALLOWED.reset(before)


def may_fetch(name: str) -> None:
    """
    Raises:
        ValueError: weights of that name would be fetched, and nothing may be.
    """
    if not _ALLOWED.get():
        raise ValueError(f"the weights {name} are not on this machine, and nothing is fetched to answer this")
