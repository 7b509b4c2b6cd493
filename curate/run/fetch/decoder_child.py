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
from typing import Any

FRAME = struct.Struct("<I")
PR_SET_PDEATHSIG = 1


def main(number: int, memory: int) -> None:
    """Serve the socket of this file number until it ends; `memory`: bytes beyond those of the start."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which ends us
    # Before memory is limited: libraries reserve much that they never touch.
    import cv2
    import simplejpeg  # noqa: F401 - as above

    import stages.kernels  # noqa: F401 - as above
    from curate.run.fetch.examine import Examined, examine

    cv2.setNumThreads(1)
    with socket.socket(fileno=number) as sock, sock.makefile("rb", buffering=1 << 20) as stream:
        spec: Any = None  # comes with the first image
        _limit_memory(memory)
        _hush()
        sock.sendall(b"\1")  # up: what happens from here on is the doing of images
        while head := stream.read(FRAME.size):
            expected, size, told = pickle.loads(_exactly(stream, FRAME.unpack(head)[0]))
            spec = told or spec
            data = _exactly(stream, size)
            try:
                found = examine(data, expected, spec)
            except (MemoryError, cv2.error) as e:  # the latter is also how OpenCV says that it got no memory
                if isinstance(e, cv2.error) and e.code != cv2.Error.StsNoMem:
                    raise
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


def _hush() -> None:
    """Codecs print about broken files: thousands of lines that nobody can act on."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    os.close(nowhere)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
