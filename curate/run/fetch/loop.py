"""Asynchronous work from plain functions."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, TypeVar

import uvloop

T = TypeVar("T")


def run_async(coroutine: Coroutine[Any, Any, T]) -> T:
    """The coroutine's result, also where a loop is running already (a notebook); of several errors the first."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        run = _run
    else:
        run = _elsewhere
    try:
        return run(coroutine)
    except BaseExceptionGroup as several:
        first: BaseException = several
        while isinstance(first, BaseExceptionGroup):
            first = first.exceptions[0]  # the others were cancelled because of it
        raise first from first.__cause__


_collecting = threading.Lock()
_rare = 0  # blocks of `rare_collections` that are open, in all threads
_usual = gc.get_threshold()


@contextmanager
def rare_collections() -> Iterator[None]:
    """Let the garbage collector look at new objects every 20,000 and not every 700: what waits here by the ten
    thousand is no garbage, and looking at it took a tenth of the time of a URL."""
    global _rare, _usual
    with _collecting:
        if not _rare:
            _usual = gc.get_threshold()
            gc.set_threshold(max(20_000, _usual[0]), *_usual[1:])
        _rare += 1
    try:
        yield
    finally:
        with _collecting:
            _rare -= 1
            if not _rare:
                gc.set_threshold(*_usual)


def _run(coroutine: Coroutine[Any, Any, T]) -> T:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:  # a twentieth less of the processor an image
        return runner.run(coroutine)


def _elsewhere(coroutine: Coroutine[Any, Any, T]) -> T:
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(_run, coroutine).result()
