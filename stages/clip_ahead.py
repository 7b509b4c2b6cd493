"""Batches prepared in threads while the one before them is on the GPU, in their own order, and how long one waits.

    ahead = Ahead(batches, stage.prepare, threads=14)
    for batch in ahead:
        table = stage.run(batch)            # finds decoded squares and tokens
    ahead.wait_share                        # of the time of the whole loop

Decoding gives the interpreter's lock away, so threads are enough. A thread takes a whole batch: what comes out of
`prepare` is the same as without threads. One more thread asks for batches, in order, and reads their images' bytes: a
shard's tar is one file with one place in it, and it is closed behind the last batch.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from queue import Full, Queue
from threading import Event, Thread

from stages.base import Batch


class Ahead:
    """An iterator over batches, some of them prepared ahead; for one use.

    prepare: called with each batch in some thread; what it raises, and what the source of batches raises, is raised
    where the batch would have come. Of batches behind that one no other is begun: what is asked for them is paid for.
    threads: that prepare at once. As many batches and two more are held in memory.
    """

    def __init__(self, batches: Iterable[Batch], prepare: Callable[[Batch], object], threads: int) -> None:
        self._batches, self._prepare, self._threads = batches, prepare, max(1, threads)
        self._stopped = Event()
        self._failed_at = float("inf")  # number of the first batch that could not be prepared
        self.waited_s = self.total_s = 0.0

    @property
    def wait_share(self) -> float:
        """Of the time from the first batch on: waiting for one to be prepared."""
        return self.waited_s / self.total_s if self.total_s else 0.0

    def __iter__(self) -> Iterator[Batch]:
        coming: Queue[Future[Batch] | None] = Queue(self._threads + 1)
        with ThreadPoolExecutor(self._threads, thread_name_prefix="prepare") as pool:
            reading = Thread(target=self._read, args=(coming, pool), name="read-ahead", daemon=True)
            reading.start()
            try:
                began = time.perf_counter()
                while (future := coming.get()) is not None:
                    batch = future.result()
                    self.waited_s += time.perf_counter() - began
                    yield batch
                    self.total_s += time.perf_counter() - began
                    began = time.perf_counter()
            finally:
                self._stopped.set()
                reading.join()

    def _read(self, coming: Queue[Future[Batch] | None], pool: ThreadPoolExecutor) -> None:
        """Ask for batches until there are none or nobody wants them; a failure comes as a future like any other."""
        try:
            for number, batch in enumerate(self._batches):
                batch.hold()  # the file that it comes from may be closed before it is decoded
                if not self._put(coming, pool.submit(self._prepared, number, batch)):
                    return
        except Exception as e:  # noqa: BLE001 - it belongs to whoever iterates
            failed: Future[Batch] = Future()
            failed.set_exception(e)
            self._put(coming, failed)
        self._put(coming, None)

    def _put(self, coming: Queue[Future[Batch] | None], what: Future[Batch] | None) -> bool:
        while not self._stopped.is_set():
            try:
                coming.put(what, timeout=0.1)
                return True
            except Full:
                continue
        return False

    def _prepared(self, number: int, batch: Batch) -> Batch:
        if number < self._failed_at and not self._stopped.is_set():  # else nobody comes for it
            try:
                self._prepare(batch)
            except BaseException:
                self._failed_at = min(self._failed_at, number)
                raise
        return batch
