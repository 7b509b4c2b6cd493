"""Batches prepared ahead: all of them, in order, the same, and failures where they belong."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pyarrow as pa
import pytest

from stages.base import Batch
from stages.clip_ahead import Ahead


def batches(n: int) -> list[Batch]:
    return [Batch.of(pa.table({"text": [str(i)]}), [bytes([i])]) for i in range(n)]


def number(batch: Batch) -> int:
    return int(batch["text"][0].as_py())


@pytest.mark.parametrize("threads", [1, 3, 20])
def test_all_come_in_their_order(threads: int) -> None:
    done: list[int] = []

    def prepare(batch: Batch) -> None:
        time.sleep(0.002 * (number(batch) % 3))
        done.append(number(batch))

    found = [number(b) for b in Ahead(batches(17), prepare, threads)]
    assert found == list(range(17))
    assert sorted(done) == found


def test_some_are_prepared_while_one_is_worked_on() -> None:
    prepared: list[int] = []
    ahead = Ahead(batches(9), lambda b: prepared.append(number(b)), 2)
    each = iter(ahead)
    next(each)
    until = time.monotonic() + 10
    while len(prepared) < 4 and time.monotonic() < until:
        time.sleep(0.005)
    assert 4 <= len(prepared) <= 6  # no more than are held in memory
    each.close()  # type: ignore[attr-defined]


def test_bytes_are_read_by_one_thread_before_the_file_is_closed() -> None:
    readers: set[str] = set()
    closed = threading.Event()

    def source() -> Iterator[Batch]:
        for i in range(5):

            def read(row: int) -> bytes:
                assert not closed.is_set()
                readers.add(threading.current_thread().name)
                return b"x"

            yield Batch(batches(5)[i]._columns, 1, read)
        closed.set()

    def prepare(batch: Batch) -> None:
        assert closed.wait(10)
        assert batch.image_bytes(0) == b"x"

    assert len(list(Ahead(source(), prepare, 8))) == 5
    assert readers == {"read-ahead"}


def test_what_is_raised_comes_where_the_batch_would_have() -> None:
    def prepare(batch: Batch) -> None:
        if number(batch) == 3:
            raise ValueError("of number 3")

    seen: list[int] = []

    def through_all(given: Ahead) -> None:
        for batch in given:
            seen.append(number(batch))

    with pytest.raises(ValueError, match="of number 3"):
        through_all(Ahead(batches(9), prepare, 4))
    assert seen == [0, 1, 2]

    def source() -> Iterator[Batch]:
        yield from batches(2)
        raise OSError("no more to read")

    seen.clear()
    with pytest.raises(OSError, match="no more to read"):
        through_all(Ahead(source(), lambda b: None, 4))
    assert seen == [0, 1]


def test_behind_what_failed_nothing_is_prepared() -> None:
    prepared: list[int] = []

    def prepare(batch: Batch) -> None:
        if number(batch) == 2:
            time.sleep(0.1)  # the reader hands out those behind it
            raise ValueError("of number 2")
        prepared.append(number(batch))

    with pytest.raises(ValueError, match="of number 2"):
        list(Ahead(batches(9), prepare, 1))
    assert prepared == [0, 1]


def test_behind_whom_nobody_wants_nothing_is_prepared() -> None:
    prepared: list[int] = []

    def prepare(batch: Batch) -> None:
        time.sleep(0.05)
        prepared.append(number(batch))

    ahead = iter(Ahead(batches(9), prepare, 1))
    assert number(next(ahead)) == 0
    ahead.close()  # type: ignore[attr-defined]
    assert len(prepared) <= 2, "the one that was begun"


def test_waiting_is_counted() -> None:
    slow = Ahead(batches(4), lambda b: time.sleep(0.05), 1)
    assert len(list(slow)) == 4
    assert slow.wait_share > 0.8
    quick = Ahead(batches(4), lambda b: None, 2)
    for _ in quick:
        time.sleep(0.05)
    assert quick.wait_share < 0.3
    assert Ahead([], lambda b: None, 2).wait_share == 0
    assert list(Ahead([], lambda b: None, 2)) == []
