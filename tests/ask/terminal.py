"""A program on a real terminal (pty): keys in, bytes of the screen out."""

from __future__ import annotations

import os
import pty
import re
import select
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

ROOT = Path(__file__).resolve().parents[2]
CURSOR_ASKED, CURSOR_AT = b"\x1b[6n", b"\x1b[1;1R"


class Terminal:
    """`python -m curate.cli ...` on a terminal of 100 columns and 30 lines."""

    def __init__(self, arguments: Sequence[str], home: Path, **environment: str) -> None:
        self.raw = b""  # all that came
        self._seen = 0  # letters of it that were waited for
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.chdir(home)
            given = {"TERM": "xterm-256color", "COLUMNS": "100", "LINES": "30", "PYTHONPATH": str(ROOT), "PAGER": "cat"}
            kept = {k: v for k, v in os.environ.items() if k not in ("NO_COLOR", "PAGER", "COLORTERM")}
            whole = kept | given | {"XDG_STATE_HOME": str(home / "state")} | environment
            os.execve(sys.executable, [sys.executable, "-m", "curate.cli", *arguments], whole)

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        os.close(self.fd)
        try:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
        except (ProcessLookupError, ChildProcessError):
            return

    def see(self, words: str, seconds: float = 30.0) -> str:
        """What came until these words, from where the last such search ended; fails with the screen if they do not."""
        end = time.monotonic() + seconds
        while (at := self.text.find(words, self._seen)) < 0:
            if time.monotonic() > end or not self._read(end):
                raise AssertionError(f"{words!r} did not come; the terminal has {self.text[self._seen :][-2000:]!r}")
        seen = self.text[self._seen : at + len(words)]
        self._seen = at + len(words)
        return seen

    @property
    def text(self) -> str:
        return plain(self.raw)

    def _read(self, end: float) -> bool:
        ready, _, _ = select.select([self.fd], [], [], max(0.0, end - time.monotonic()))
        if not ready:
            return False
        try:
            data = os.read(self.fd, 1 << 16)
        except OSError:  # the program has ended
            return False
        if CURSOR_ASKED in data:
            os.write(self.fd, CURSOR_AT)
        self.raw += data
        return bool(data)

    def type(self, keys: str) -> None:
        os.write(self.fd, keys.encode())

    def status(self, seconds: float = 20.0) -> int:
        """Exit status of the program, which must end by itself."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            done, status = os.waitpid(self.pid, os.WNOHANG)
            if done:
                return os.waitstatus_to_exitcode(status)
            self._read(min(end, time.monotonic() + 0.1))
        raise AssertionError(f"it did not end; the terminal has {self.text[-2000:]!r}")


def plain(screen: bytes) -> str:
    """The letters, without the codes that colour them and move the cursor."""
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", screen.decode(errors="replace"))
