"""Run a command and say what all of its processes took: `python bench/usage.py OUT.json [--memory] COMMAND...`.

Orphans come to this process (a subreaper), which waits for each: so CPU-seconds count every process below, also those
whose parents did not wait for them. Memory is the sum of PSS (pages that are shared count once) five times a second.
"""

from __future__ import annotations

import ctypes
import json
import os
import resource
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil

PR_SET_CHILD_SUBREAPER = 36


def pss_mb(pid: int) -> float:
    """Memory of a process and all below it."""
    total = 0
    try:
        top = psutil.Process(pid)
        below = [top, *top.children(recursive=True)]
    except psutil.NoSuchProcess:
        return 0.0
    for process in below:
        try:
            lines = Path(f"/proc/{process.pid}/smaps_rollup").read_text().splitlines()
        except OSError:  # it ended just now
            continue
        total += sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return total / 1024


def main(out: str, memory: bool, command: list[str]) -> int:
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    peak, ended = 0.0, threading.Event()
    began = time.monotonic()
    process = subprocess.Popen(command)

    def watch() -> None:
        nonlocal peak
        while not ended.wait(0.2):
            peak = max(peak, pss_mb(process.pid))

    watcher = threading.Thread(target=watch)
    if memory:
        watcher.start()
    _, status = os.waitpid(process.pid, 0)
    wall = time.monotonic() - began
    ended.set()
    while True:
        try:
            os.wait()
        except ChildProcessError:
            break
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    said = {"wall": wall, "cpu": used.ru_utime + used.ru_stime, "peak_mb": peak}
    Path(out).write_text(json.dumps(said))
    return os.waitstatus_to_exitcode(status)


if __name__ == "__main__":
    given = sys.argv[1:]
    sys.exit(main(given[0], given[1] == "--memory", given[2:] if given[1] == "--memory" else given[1:]))
