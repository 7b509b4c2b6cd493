"""Files past the page cache: all bytes, in order, whatever the disk does; its errors come out, nothing stays open."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xxhash

from curate.run.fetch import direct
from curate.run.fetch.direct import BLOCK, BUFFER, DirectFile

O_DIRECT = getattr(os, "O_DIRECT", 0)


def random(size: int) -> bytes:
    return np.random.default_rng(size).integers(0, 256, size, np.uint8).tobytes()


class Disk:
    """`os` as direct.py sees it, with other ways to open and to write; `flags` of what was opened."""

    def __init__(
        self,
        opened: Callable[..., int] = os.open,
        written: Callable[[int, memoryview], int] = os.write,
    ) -> None:
        self._opened, self.write = opened, written
        self.flags: list[int] = []

    def open(self, path: Path, flags: int, mode: int) -> int:
        self.flags.append(flags)
        return self._opened(path, flags, mode)

    def __getattr__(self, name: str) -> Any:
        return getattr(os, name)


def use(disk: Disk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(direct, "os", disk)


def written(path: Path, parts: list[bytes]) -> str:
    """The digest, after each part was taken whole."""
    file = DirectFile(path)
    assert [file.write(part) for part in parts] == [len(part) for part in parts]
    file.close()
    return file.hexdigest()


def check(path: Path, parts: list[bytes]) -> None:
    whole = b"".join(parts)
    assert written(path, parts) == xxhash.xxh3_128(whole).hexdigest()
    assert path.read_bytes() == whole


def is_open(fd: int) -> bool:
    return os.path.exists(f"/proc/self/fd/{fd}")


@pytest.mark.parametrize(
    "sizes",
    [
        [],
        [0],
        [1],
        [BLOCK],
        [BUFFER - 1],
        [BUFFER],
        [BUFFER + 1],
        [BUFFER, BUFFER],
        [100, BUFFER - 100, 7],
        [3 * BUFFER + 5000],
        [512, 160_000, 352, 0] * 60,
        [BUFFER - 3, 2 * BUFFER + 6, 9],
    ],
    ids=str,
)
def test_all_bytes_come_in_order(sizes: list[int], tmp_path: Path) -> None:
    """Of full buffers, of several turns, of what is left at the end."""
    check(tmp_path / "a.tar", [random(size) for size in sizes])


def test_the_cache_is_passed_by_but_for_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where this file system has O_DIRECT: else the test for its lack is all there is."""
    import fcntl

    ways: list[tuple[int, bool]] = []

    def noted(fd: int, data: memoryview) -> int:
        ways.append((len(data), bool(fcntl.fcntl(fd, fcntl.F_GETFL) & O_DIRECT)))
        return os.write(fd, data)

    disk = Disk(written=noted)
    use(disk, monkeypatch)
    check(tmp_path / "a.tar", [random(2 * BUFFER + 100)])
    if len(disk.flags) > 1:
        pytest.skip("no O_DIRECT on this file system")
    assert ways == [(BUFFER, True), (BUFFER, True), (100, False)]


@pytest.mark.parametrize("most", [1000, BLOCK, 1_000_000])
def test_short_writes_go_on_where_they_ended(most: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where what is left begins at no block any more."""
    use(Disk(written=lambda fd, data: os.write(fd, data[:most])), monkeypatch)
    check(tmp_path / "a.tar", [random(BUFFER + 12_345)])


def test_a_file_system_without_it_uses_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path, flags: int, mode: int) -> int:
        if flags & O_DIRECT:
            raise OSError(errno.EINVAL, "Invalid argument")
        return os.open(path, flags, mode)

    disk = Disk(opened=refuse)
    use(disk, monkeypatch)
    check(tmp_path / "a.tar", [random(BUFFER + 5000)])
    assert [bool(flags & O_DIRECT) for flags in disk.flags] == [True, False]


def test_one_that_refuses_at_the_first_write_uses_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refused: list[int] = []

    def refuse(fd: int, data: memoryview) -> int:
        if not refused:
            refused.append(len(data))
            raise OSError(errno.EINVAL, "Invalid argument")
        return os.write(fd, data)

    use(Disk(opened=lambda p, flags, mode: os.open(p, flags & ~O_DIRECT, mode), written=refuse), monkeypatch)
    check(tmp_path / "a.tar", [random(BUFFER), random(5000)])
    assert refused == [BUFFER]


@pytest.mark.parametrize("code", [errno.EACCES, errno.ENOSPC])
def test_a_file_that_cannot_be_opened_says_so(code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path, flags: int, mode: int) -> int:
        raise OSError(code, os.strerror(code))

    use(Disk(opened=refuse), monkeypatch)
    with pytest.raises(OSError) as caught:
        DirectFile(tmp_path / "a.tar")
    assert caught.value.errno == code


def full(fd: int, data: memoryview) -> int:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_full_disk_is_told_by_a_later_write_and_by_close(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And what comes after the gap is not written, though there be space again."""
    disk = Disk(written=full)
    use(disk, monkeypatch)
    file = DirectFile(tmp_path / "a.tar")
    file.write(random(BUFFER))  # handed to its thread
    with pytest.raises(OSError) as caught:
        file.write(random(BUFFER))
    assert caught.value.errno == errno.ENOSPC
    disk.write = os.write
    with pytest.raises(OSError) as again:
        file.close()
    assert again.value.errno == errno.ENOSPC
    assert not is_open(file._fd)
    assert (tmp_path / "a.tar").read_bytes() == b""


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full here")
def test_a_disk_that_is_really_full() -> None:
    file = DirectFile(Path("/dev/full"))
    file.write(random(BUFFER))
    with pytest.raises(OSError) as caught:
        file.write(random(BUFFER))
    assert caught.value.errno == errno.ENOSPC
    file.abandon()
    assert not is_open(file._fd)


@pytest.mark.parametrize("size", [100, BUFFER, BUFFER + 100])
def test_a_full_disk_is_told_by_close_alone(size: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use(Disk(written=full), monkeypatch)
    file = DirectFile(tmp_path / "a.tar")
    file.write(random(size))
    with pytest.raises(OSError) as caught:
        file.close()
    assert caught.value.errno == errno.ENOSPC
    assert not is_open(file._fd)
    file.close()  # the second says nothing, and closes no file of others
    file.abandon()


def test_an_abandoned_file_is_closed_after_its_write(tmp_path: Path) -> None:
    file = DirectFile(tmp_path / "a.tar")
    file.write(random(BUFFER + 10))
    file.abandon()
    assert not is_open(file._fd)
    assert (tmp_path / "a.tar").read_bytes() == random(BUFFER + 10)[:BUFFER]
    file.abandon()


def test_bytes_of_other_kinds_too(tmp_path: Path) -> None:
    """TarWriter gives bytes; a bytearray or a view would do."""
    data = random(BUFFER + 77)
    parts: list[Any] = [bytearray(data), memoryview(data)]
    check(tmp_path / "a.tar", parts)
