"""What a worker tells of its work besides rows: seconds by method, bytes of the files that it read and wrote.

    account = Account(Storage.at(work.pool))
    with account.spent("language", rows=256):
        ...
    return {"rows": 256, **account.told()}      # seconds, parts_rows, bytes_read, bytes_written

`curate plan` makes rates of these sums; nothing of it goes into a pool's files of results.
"""

from __future__ import annotations

import io
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO

from curate.pool.storage import Entries, Names, Spans, Storage
from filters.base import Filter
from stages.base import Parameters

FILES, OPEN, WAIT = "files", "open", "wait"
"""Names beside the methods: reading and writing files, loading weights (once a worker, whatever the rows), and a GPU's
waiting for pictures to be decoded."""
LONGEST = 60  # characters of the parameters in a name
IN_PIECES = (".tar", ".arrow")


def called(owner: Parameters) -> str:
    """The method, with those parameters of a stage or barrier that are not their defaults: they decide what it costs.

    ``language``, ``clip(model=ViT-L-14)``, ``keep_one``. Of files only the names.
    """
    return owner.method() if isinstance(owner, Filter) else _with_parameters(owner)


@lru_cache(maxsize=256)
def _with_parameters(owner: Parameters) -> str:
    fields, files = type(owner).model_fields, owner.files()
    changed = {n: v for n, v in owner.model_dump(mode="json").items() if getattr(owner, n) != fields[n].default}
    said = ", ".join(f"{n}={Path(v).name if v in files else v}" for n, v in changed.items())
    return f"{owner.method()}({said[:LONGEST]})" if said else owner.method()


class Account:
    """Seconds and bytes of one worker function; `storage` counts what goes through it."""

    def __init__(self, storage: Storage) -> None:
        self.storage = Tally(storage)
        self._began = time.perf_counter()
        self._seconds: Counter[str] = Counter()
        self._rows: Counter[str] = Counter()

    @contextmanager
    def spent(self, name: str, rows: int = 0) -> Iterator[None]:
        """Count the block's seconds, and rows, as the method's."""
        before = time.perf_counter()
        yield
        self._seconds[name] += time.perf_counter() - before  # type: ignore[assignment]
        self._rows[name] += rows

    def told(self, rest: str = FILES, rows: int = 0) -> dict[str, Any]:
        """The sums, as keys of a worker's result. Seconds that no method has are those of `rest`."""
        left = time.perf_counter() - self._began - sum(self._seconds.values())
        seconds = Counter(self._seconds) + Counter({rest: max(left, 0.0)})  # type: ignore[dict-item]
        return {
            "seconds": {name: round(s, 6) for name, s in seconds.items()},
            "parts_rows": dict(self._rows + Counter({rest: rows})),
            "bytes_read": self.storage.bytes_read,
            "bytes_written": self.storage.bytes_written,
        }


class Tally(Storage):
    """A storage that counts bytes. A table counts as the whole file, also where only some columns of it are read."""

    def __init__(self, inner: Storage) -> None:
        self.inner = inner
        self.url, self.is_local = inner.url, inner.is_local
        self.bytes_read = self.bytes_written = 0
        self._lock = threading.Lock()

    def was_read(self, size: int) -> None:
        with self._lock:
            self.bytes_read += size

    def read(self, rel: str) -> bytes:
        data = self.inner.read(rel)
        self.was_read(len(data))
        return data

    def read_range(self, rel: str, offset: int, size: int) -> bytes:
        data = self.inner.read_range(rel, offset, size)
        self.was_read(len(data))
        return data

    def tail(self, rel: str, size: int) -> tuple[bytes, int]:
        data, total = self.inner.tail(rel, size)
        self.was_read(len(data))
        return data, total

    def local(self, rel: str) -> Path:
        """The file's path; counted whole, but for a local pool's files that are read in pieces: see `open`."""
        path = self.inner.local(rel)
        if not (self.is_local and rel.endswith(IN_PIECES)):
            self.was_read(path.stat().st_size)
        return path

    @contextmanager
    def open(self, rel: str) -> Iterator[BinaryIO]:
        """The file; what is read of it counts."""
        with self.inner.open(rel) as f:
            yield _Counted(f, self)  # type: ignore[misc]

    def commit(self, rel: str, data: bytes | Path) -> bool:
        size = data.stat().st_size if isinstance(data, Path) else len(data)
        ours = self.inner.commit(rel, data)
        if ours:
            with self._lock:
                self.bytes_written += size
        return ours

    def put(self, rel: str, data: bytes) -> None:
        self.inner.put(rel, data)

    def exists(self, rel: str) -> bool:
        return self.inner.exists(rel)

    def list(self, folder: str, prefix: str = "") -> Entries:
        return self.inner.list(folder, prefix)

    def folders(self, folder: str) -> Names:
        return self.inner.folders(folder)

    def delete(self, rel: str) -> None:
        self.inner.delete(rel)

    def blank(self, rel: str, spans: Spans) -> None:
        self.inner.blank(rel, spans)

    def scratch(self) -> Path:
        return self.inner.scratch()


class _Counted(io.BufferedIOBase):
    """A file opened to read, whose reads count."""

    def __init__(self, file: BinaryIO, tally: Tally) -> None:
        self._file, self._tally = file, tally

    def read(self, size: int | None = -1, /) -> bytes:
        data = self._file.read(-1 if size is None else size)
        self._tally.was_read(len(data))
        return data

    def seek(self, offset: int, whence: int = 0, /) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def seekable(self) -> bool:
        return True

    def readable(self) -> bool:
        return True
