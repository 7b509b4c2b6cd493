"""Is a process still the one that it was?"""

from __future__ import annotations

import os
from pathlib import Path


def process_started(pid: int) -> str | None:
    """What tells two processes of one number apart: boot and clock tick of its start; None where /proc is not."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return None
    return f"{boot}:{stat.rsplit(')', 1)[1].split()[19]}"  # field 22; the name before it may hold anything


def alive(pid: int, started: str | None) -> bool:
    """Is there a process of this number, the same that noted `started` (None: noted nothing)?"""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass  # there, and somebody else's
    now = process_started(pid)
    return started is None or now is None or now == started
