"""The process behind `curate.run.fetch.decoder`: reads images from a socket, answers with what they are.

Ends when the other side is gone: at the end of the socket, or by the kernel when the parent dies in mid-image.
"""

from __future__ import annotations

import ctypes
import os
import pickle
import resource
import signal
import socket
import struct
import sys

FRAME = struct.Struct("<I")
PR_SET_PDEATHSIG = 1


def main(number: int) -> None:
    """Serve the socket of this file number until it ends."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which ends us
    import numpy  # noqa: F401 - before memory is limited: its threads reserve much that they never touch

    from curate.run.fetch.examine import Examined, examine

    with socket.socket(fileno=number) as sock, sock.makefile("rb", buffering=1 << 20) as stream:
        spec = pickle.loads(_exactly(stream, FRAME.unpack(_exactly(stream, FRAME.size))[0]))
        _limit_memory(int(spec.decode_memory_gb * 1e9))
        while head := stream.read(FRAME.size):
            expected, size = pickle.loads(_exactly(stream, FRAME.unpack(head)[0]))
            data = _exactly(stream, size)
            try:
                found = examine(data, expected, spec)
            except MemoryError:
                found = Examined("decode_error", f"needs more than {spec.decode_memory_gb:g} GB to be decoded")
            described = pickle.dumps((found.outcome, found.detail, found.facts))
            stored = found.stored or b""
            sock.sendall(FRAME.pack(len(described)) + FRAME.pack(len(stored)) + described)
            sock.sendall(stored)


def _exactly(stream: object, size: int) -> bytes:
    data: bytes = stream.read(size)  # type: ignore[attr-defined]
    if len(data) < size:
        os._exit(0)  # the parent is gone in mid-message
    return data


def _limit_memory(size: int) -> None:
    """Beyond what is mapped now: libraries map much that they never touch."""
    with open("/proc/self/statm") as statm:
        mapped = int(statm.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (mapped + size, mapped + size))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


if __name__ == "__main__":
    main(int(sys.argv[1]))
