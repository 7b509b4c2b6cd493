"""Folders of this process that a killed one leaves behind: each holds a lock, and who finds none held clears up.

folder = own_folder(cache, "sql-")       # gone when the process ends; if it was killed, when the next one begins
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
import time
import weakref
from pathlib import Path
from typing import Any

LOCK = ".lock"
YOUNG_S = 24 * 3600.0  # a folder without a lock may be of an older curate that still runs


def own_folder(parent: Path, prefix: str, owner: Any) -> Path:
    """A new folder that lives as long as `owner`; those of dead processes with this prefix are removed first."""
    parent.mkdir(parents=True, exist_ok=True)
    _clear(parent, prefix)
    folder = Path(tempfile.mkdtemp(prefix=prefix, dir=parent))
    lock = os.open(folder / LOCK, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    fcntl.flock(lock, fcntl.LOCK_EX)
    weakref.finalize(owner, _release, folder, lock)
    return folder


def _release(folder: Path, lock: int) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    os.close(lock)


def _clear(parent: Path, prefix: str) -> None:
    """Remove our user's folders whose lock nobody holds: the system drops the lock of a process however it ends."""
    with os.scandir(parent) as entries:
        found = [e for e in entries if e.name.startswith(prefix) and e.is_dir(follow_symlinks=False)]
    for entry in found:
        try:
            stat = entry.stat(follow_symlinks=False)
            if stat.st_uid == os.getuid() and _is_left(Path(entry.path), stat.st_mtime):
                shutil.rmtree(entry.path)
        except FileNotFoundError:  # its owner, or another process that clears up, was quicker
            continue


def _is_left(folder: Path, changed: float) -> bool:
    try:
        lock = os.open(folder / LOCK, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return time.time() - changed > YOUNG_S
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        os.close(lock)
    return True
