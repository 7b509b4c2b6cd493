"""Images are decoded in processes of their own, which may crash, hang or eat memory without harm to the rest.

    examined = await decoders(spec).examine(data, expected_sha256, spec)

A decoder has two images at a time: one that it works on, and the next, so that it never waits for this side. Answers
come in order; where one does not come, the first image is to blame, and the second is given to the next decoder.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import os
import pickle
import signal
import socket
import struct
import subprocess
import sys
import threading
from collections import deque
from dataclasses import dataclass, field

from curate.run.fetch.examine import Examined
from curate.run.fetch.spec import IngestSpec

FRAME = struct.Struct("<I")
AHEAD = 2  # images with one decoder at a time
START_S = 60.0  # for a decoder to come up, on a machine under load


def decoders(spec: IngestSpec) -> Decoders:
    """The decoders of this process and thread for these limits; they stay from shard to shard."""
    key = (threading.get_ident(), spec.decode_memory_gb, spec.decode_timeout_s, spec.decoders)
    with _lock:
        found = _pools.get(key)
        if found is None:
            # Other limits are another run's: its decoders would only hold memory.
            for old in [k for k in _pools if k[0] == key[0]]:
                _pools.pop(old).close()
            found = _pools[key] = Decoders(spec)
        return found


@dataclass(eq=False)
class _Job:
    data: bytes
    expected: str | None
    spec: IngestSpec
    answer: asyncio.Future[Examined]


@dataclass(eq=False)
class _Child:
    """One decoder; `jobs` are the images that it has, the first under work."""

    process: subprocess.Popen[bytes]
    socket: socket.socket
    jobs: deque[_Job] = field(default_factory=deque)
    sent: int = 0  # of the jobs, those that it has whole
    listener: asyncio.Task[None] | None = None
    ready: bool = False
    spec: IngestSpec | None = None  # that it was told last


class Decoders:
    """Some decoders; for one event loop after another, never for two at once."""

    def __init__(self, spec: IngestSpec) -> None:
        self._spec = spec
        self._count = spec.decoders or len(os.sched_getaffinity(0))
        self._children: list[_Child] = []
        self._waiting: deque[_Job] = deque()

    @property
    def ahead(self) -> int:
        """How many images keep all decoders busy."""
        return AHEAD * self._count

    async def examine(self, data: bytes, expected_sha256: str | None, spec: IngestSpec) -> Examined:
        """`curate.run.fetch.examine.examine` of these bytes; a decoder lost to them is a decode_error."""
        job = _Job(data, expected_sha256, spec, asyncio.get_running_loop().create_future())
        self._waiting.append(job)
        self._hand_out()
        return await job.answer

    def _hand_out(self) -> None:
        while self._waiting:
            free = [c for c in self._children if len(c.jobs) < AHEAD]
            idle = [c for c in free if not c.jobs]
            if not idle and len(self._children) < self._count:
                idle = [self._start()]
            child = idle[0] if idle else min(free, key=lambda c: len(c.jobs), default=None)
            if child is None:
                return
            job = self._waiting.popleft()
            if job.answer.done():  # nobody waits for it any more
                continue
            child.jobs.append(job)
            if child.listener is None or child.listener.done():
                child.listener = asyncio.get_running_loop().create_task(self._serve(child))

    async def _serve(self, child: _Child) -> None:
        """Send what the child has to do, and hear its answers, until it has nothing left."""
        try:
            while child.jobs:
                limit = self._spec.decode_timeout_s + (0.0 if child.ready else START_S)
                async with asyncio.timeout(limit):
                    answer = await self._exchange(child)
                child.ready = True
                child.sent -= 1
                self._done(child.jobs.popleft(), answer)
                self._hand_out()
        except TimeoutError:
            self._lose(child, f"was ended: not done in {self._spec.decode_timeout_s:g} s")
        except (OSError, EOFError):
            self._lose(child, _end_of(child.process))
        except BaseException:
            self._end(child)  # cut off in mid-sentence: it cannot be spoken to any more
            raise

    async def _exchange(self, child: _Child) -> Examined:
        """The next answer, while what is not sent yet is sent: the child reads on only when its answer is read."""
        loop = asyncio.get_running_loop()
        rest = _send_what_fits(child)
        if rest is None:
            return await _answer(loop, child.socket)
        sending = loop.create_task(_send(loop, child, rest))
        try:
            answer = await _answer(loop, child.socket)
            await sending
            return answer
        finally:
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)  # its failure is that of the answer

    def _done(self, job: _Job, answer: Examined) -> None:
        if not job.answer.done():
            job.answer.set_result(answer)

    def _lose(self, child: _Child, how: str) -> None:
        """The child is gone, by the fault of the image it worked on; the one behind it is done again."""
        self._end(child)
        if child.ready or "SIG" in how or "not done" in how:
            self._done(child.jobs.popleft(), Examined("decode_error", f"the decoder {how}"))
        else:
            failed = child.jobs.popleft()
            if not failed.answer.done():
                failed.answer.set_exception(RuntimeError(f"a decoder did not come up: it {how}"))
        self._waiting.extendleft(reversed(child.jobs))
        self._hand_out()

    def _start(self) -> _Child:
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        for end in (ours, theirs):
            for option in (socket.SO_SNDBUF, socket.SO_RCVBUF):
                end.setsockopt(socket.SOL_SOCKET, option, 1 << 20)
        setting = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "2"}
        # curate as this process has it, whatever the working directory is.
        paths = os.pathsep.join([p for p in sys.path if p])
        memory = int(self._spec.decode_memory_gb * 1e9)
        process = subprocess.Popen(
            [sys.executable, "-m", "curate.run.fetch.decoder_child", str(theirs.fileno()), str(memory)],
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,  # codecs print about broken files: thousands of lines that nobody can act on
            env=os.environ | setting | {"PYTHONPATH": paths},
        )
        theirs.close()
        child = _Child(process, ours)
        self._children.append(child)
        return child

    def _end(self, child: _Child) -> None:
        if child.process.poll() is None:
            child.process.kill()
        child.socket.close()
        if child in self._children:
            self._children.remove(child)

    def close(self) -> None:
        """End all decoders; what they had is forgotten."""
        for child in list(self._children):
            self._end(child)
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.process.wait(5)


def _send_what_fits(child: _Child) -> memoryview | None:
    """Send the jobs that it does not have; what is left of one that does not fit into the socket."""
    while child.sent < len(child.jobs):
        job = child.jobs[child.sent]
        head = pickle.dumps((job.expected, len(job.data), None if job.spec == child.spec else job.spec))
        parts = [FRAME.pack(len(head)), head, job.data]
        try:
            sent = child.socket.sendmsg(parts)
        except BlockingIOError:
            sent = 0
        child.spec = job.spec
        if sent < sum(map(len, parts)):
            return memoryview(b"".join(parts))[sent:]
        child.sent += 1
    return None


async def _send(loop: asyncio.AbstractEventLoop, child: _Child, rest: memoryview | None) -> None:
    while rest is not None:
        await loop.sock_sendall(child.socket, rest)
        child.sent += 1
        rest = _send_what_fits(child)


async def _answer(loop: asyncio.AbstractEventLoop, sock: socket.socket) -> Examined:
    head = await _exactly(loop, sock, 2 * FRAME.size)
    described, stored = FRAME.unpack(head[: FRAME.size])[0], FRAME.unpack(head[FRAME.size :])[0]
    body = await _exactly(loop, sock, described + stored)
    outcome, detail, facts = pickle.loads(body[:described])  # by our own child, from a pipe that only it has
    return Examined(outcome, detail, facts, bytes(body[described:]) if facts is not None else None)


async def _exactly(loop: asyncio.AbstractEventLoop, sock: socket.socket, size: int) -> bytearray:
    found = bytearray(size)
    at = 0
    with memoryview(found) as view:
        while at < size:
            came = await loop.sock_recv_into(sock, view[at:])
            if not came:
                raise EOFError
            at += came
    return found


def _end_of(process: subprocess.Popen[bytes]) -> str:
    try:
        status = process.wait(10)
    except subprocess.TimeoutExpired:
        return "closed its connection"
    return f"crashed: {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}"


_lock = threading.Lock()
_pools: dict[tuple[int, float, float, int | None], Decoders] = {}


@atexit.register
def _close_all() -> None:
    for pool in _pools.values():
        pool.close()
