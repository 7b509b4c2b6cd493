"""What all workers of this machine have in common, in small files: so much a minute, and when a server was last heard.

    rate = Rate(600, "requests of api.example")     # at most ten a second
    wait = rate.take(1)                             # seconds to wait before it may be done
    rate.give_back(0.5)                             # less was used than was taken

The locked file of a rate holds the time at which everything taken so far is paid for (the generic cell rate algorithm,
ITU-T I.371): what is taken moves it on, and who finds it in the future waits until then, however far off that is.
Beside it stands when that was written: a clock that was set back moves both. A killed worker leaves no debt but what it
had taken. On several machines each has its own: divide the limit by their number.
"""

from __future__ import annotations

import fcntl
import os
import struct
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import xxhash

_TIMES = struct.Struct("<2d")  # paid, written; in seconds since 1970


class Rate:
    """per_minute: of whatever is counted. name: rates of the same name and size on this machine are one rate.

    burst_s: what may be taken at once after a rest, in seconds of the rate.
    """

    def __init__(
        self, per_minute: float, name: str, burst_s: float = 1.0, clock: Callable[[], float] = time.time
    ) -> None:
        if not per_minute > 0:
            raise ValueError(f"a rate of {per_minute:g} a minute: it is above 0")
        self._each_s, self._burst_s, self._clock = 60.0 / per_minute, burst_s, clock
        self.file = _file(f"{per_minute:g} {name}", "rate")

    def take(self, amount: float) -> float:
        """Take it, and say how many seconds to wait before it is used."""
        return self._moved(amount)

    def give_back(self, amount: float) -> None:
        """Return what was taken and not used; a negative amount takes what was used besides."""
        self._moved(-amount)

    def _moved(self, amount: float) -> float:
        with open(os.open(self.file, os.O_RDWR | os.O_CREAT, 0o600), "r+b", buffering=0) as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            now = self._clock()
            found = file.read(_TIMES.size)
            paid, written = _TIMES.unpack(found) if len(found) == _TIMES.size else (0.0, now)
            paid = max(paid - max(written - now, 0.0), now - self._burst_s)
            wait = max(paid - now, 0.0)
            file.seek(0)
            file.write(_TIMES.pack(paid + amount * self._each_s, now))
            return wait


class Heard:
    """When any worker of this machine last got an answer. So who gets none, where many share servers that are slow,
    knows that they live.

    name: of the servers. every_s: it is noted at most as often.
    """

    def __init__(self, name: str, every_s: float = 1.0, clock: Callable[[], float] = time.time) -> None:
        self.file, self._every_s, self._clock = _file(name, "heard"), every_s, clock
        self._noted = float("-inf")

    def note(self) -> None:
        """There is an answer."""
        now = self._clock()
        if abs(now - self._noted) >= self._every_s:
            self._noted = now
            self.file.parent.mkdir(mode=0o700, exist_ok=True)  # who tidies up may have taken it in a long run
            self.file.touch(mode=0o600)
            os.utime(self.file, (now, now))

    def silent_s(self) -> float:
        """Seconds since it was noted; infinite where it never was, or where the clock was set back since."""
        try:
            silent = self._clock() - self.file.stat().st_mtime
        except FileNotFoundError:
            return float("inf")
        return silent if silent > -self._every_s else float("inf")


def _file(name: str, kind: str) -> Path:
    """In a folder that is ours alone.

    Raises:
        ValueError: somebody else made it.
    """
    folder = Path(tempfile.gettempdir()) / f"curate-rates-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.stat().st_uid != os.getuid():
        raise ValueError(f"{folder} belongs to somebody else: remove it, or set TMPDIR to a folder of your own")
    return folder / f"{xxhash.xxh3_64_hexdigest(name.encode())}.{kind}"
