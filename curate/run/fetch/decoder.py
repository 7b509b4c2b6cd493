"""Images are decoded in processes of their own, which may crash, hang or eat memory without harm to the rest.

    examined = await decoders(spec).examine(data, expected_sha256, spec)

A decoder has two images at a time: one that it works on, and the next, so that it never waits for this side. Answers
come in order; where one does not come, the first image is to blame if the decoder had it whole, and all others are
given to the next decoder. One that never came up is no fault of images: several in a row are an error of the run.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import pickle
import signal
import socket
import struct
import subprocess
import sys
import threading
import weakref
from collections import deque
from dataclasses import dataclass, field

from curate.run.fetch.examine import Examined
from curate.run.fetch.spec import IngestSpec

FRAME = struct.Struct("<I")
AHEAD = 2  # images with one decoder at a time
START_S = 60.0  # for a decoder to come up, on a machine under load
END_S = 10.0  # for one that has hung up to be gone
TRIES = 3  # decoders that do not come up, are gone before they have an image whole, or are killed: then it is no chance
KILLED = f"crashed: {signal.SIGKILL.name}"
TAIL = 2000  # bytes of what one that did not come up said last


def decoders(spec: IngestSpec) -> Decoders:
    """The decoders of this thread for these limits; they stay from shard to shard, and end with the thread."""
    limits = (spec.decode_memory_gb, spec.decode_timeout_s, spec.decoders)
    own: _Own | None = getattr(_here, "own", None)
    if own is None or own.limits != limits:
        if own is not None:
            own.close()  # other limits are another run's: its decoders would only hold memory
        own = _here.own = _Own(limits, Decoders(spec))
    return own.pool


@dataclass(eq=False)
class _Job:
    data: bytes
    expected: str | None
    spec: IngestSpec
    answer: asyncio.Future[Examined]
    lost: int = 0  # decoders that were gone before they had it whole

    def done(self, found: Examined | Exception) -> None:
        if self.answer.done():  # nobody waits for it any more
            return
        if isinstance(found, Exception):
            self.answer.set_exception(found)
        else:
            self.answer.set_result(found)


@dataclass(eq=False)
class _Child:
    """One decoder; `jobs` are the images that it has, the first under work."""

    process: subprocess.Popen[bytes]
    socket: socket.socket
    jobs: deque[_Job] = field(default_factory=deque)
    sent: int = 0  # of the jobs, those that it has whole
    listener: asyncio.Task[None] | None = None
    ready: bool = False  # it said that it is up
    said: bytes = b""  # the end of what it printed before that
    spec: IngestSpec | None = None  # that it was told last


class Decoders:
    """Some decoders; for one event loop after another, never for two at once."""

    def __init__(self, spec: IngestSpec) -> None:
        self._spec = spec
        self._count = spec.decoders or len(os.sched_getaffinity(0))
        self._children: list[_Child] = []
        self._waiting: deque[_Job] = deque()
        self._stillborn = 0  # decoders in a row that did not come up

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
            if self._waiting[0].answer.done():  # nobody waits for it any more
                self._waiting.popleft()
                continue
            free = [c for c in self._children if len(c.jobs) < AHEAD]
            idle = [c for c in free if not c.jobs]
            if not idle and len(self._children) < self._count:
                try:
                    idle = [self._start()]
                except OSError as e:  # no more processes or sockets on this machine
                    self._waiting.popleft().done(e)
                    continue
            child = idle[0] if idle else min(free, key=lambda c: len(c.jobs), default=None)
            if child is None:
                return
            resting = child.listener is None or child.listener.done()
            if resting and child.process.poll() is not None:  # killed, or gone with the thread that started it
                self._end(child)
                continue
            child.jobs.append(self._waiting.popleft())
            if resting:
                child.listener = asyncio.get_running_loop().create_task(self._serve(child))

    async def _serve(self, child: _Child) -> None:
        """Send what the child has to do, and hear its answers, until it has nothing left."""
        try:
            if not child.ready:
                await _come_up(child)
                self._stillborn = 0
            while child.jobs:
                async with asyncio.timeout(self._spec.decode_timeout_s):
                    answer = await self._exchange(child)
                child.sent -= 1
                child.jobs.popleft().done(answer)
                self._hand_out()
        except TimeoutError:
            limit = f"not done in {self._spec.decode_timeout_s:g} s" if child.ready else f"not up in {START_S:g} s"
            self._end(child)  # before another takes its place
            await self._lose(child, f"was ended: {limit}")
        except (OSError, EOFError):
            await self._lose(child, None)
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

    async def _lose(self, child: _Child, how: str | None) -> None:
        """The child is gone. The image that it worked on is to blame, if it had one; all others are done again.

        how: it was ended; None: it went by itself, and how is to be found out.
        """
        jobs, child.jobs = list(child.jobs), deque()
        if not child.ready:
            self._stillborn += 1
            lost = len(jobs) if self._stillborn >= TRIES else 0
        elif child.sent:
            lost = 1
        else:  # killed while it was idle, or not to be had with this image: only the number tells
            jobs[0].lost += 1
            lost = 1 if jobs[0].lost >= TRIES else 0
        if child in self._children:
            self._children.remove(child)
        self._waiting.extendleft(reversed(jobs[lost:]))
        self._hand_out()
        try:
            how = how or await _end_of(child.process)
        finally:
            self._end(child)
        if how == KILLED and lost and child.ready and child.sent:
            # From outside: memory ran out, or the thread that started it ended, and it may have been idle until now.
            jobs[0].lost += 1
            if jobs[0].lost < TRIES:
                self._waiting.appendleft(jobs[0])
                return self._hand_out()
        if child.ready:
            found: Examined | Exception = Examined("decode_error", f"the decoder {how}")
        else:
            said = child.said.decode("utf-8", "replace").strip() or "it printed nothing"
            found = RuntimeError(f"{TRIES} decoders in a row did not come up: the last {how}\n{said}")
            if lost:
                self._stillborn = 0  # the next shard may find better times
        for job in jobs[:lost]:
            job.done(found)

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
        try:
            process = subprocess.Popen(
                [sys.executable, "-m", "curate.run.fetch.decoder_child", str(theirs.fileno()), str(memory)],
                bufsize=0,
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,  # until it is up: why it did not come up is all that is worth reading
                env=os.environ | setting | {"PYTHONPATH": paths},
            )
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
        child = _Child(process, ours)
        self._children.append(child)
        return child

    def _end(self, child: _Child) -> None:
        if child.process.poll() is None:
            child.process.kill()
        child.socket.close()
        if child.process.stderr is not None:
            child.process.stderr.close()
        if child in self._children:
            self._children.remove(child)

    def close(self) -> None:
        """End all decoders; what they had is forgotten."""
        for child in list(self._children):
            self._end(child)
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.process.wait(5)


async def _come_up(child: _Child) -> None:
    """Wait until it says that it is up. What it prints until then is read, so that it never waits for us.

    Raises:
        TimeoutError, EOFError, OSError: it did not; `child.said` is what it printed last.
    """
    loop, printed = asyncio.get_running_loop(), child.process.stderr
    assert printed is not None
    number = printed.fileno()
    os.set_blocking(number, False)

    def hear() -> None:
        more = printed.read(1 << 16)
        if more == b"":
            loop.remove_reader(number)
        child.said = (child.said + (more or b""))[-TAIL:]

    loop.add_reader(number, hear)
    try:
        async with asyncio.timeout(START_S):
            await _exactly(loop, child.socket, 1)
    finally:
        hear()  # what came with the end
        loop.remove_reader(number)
    printed.close()
    child.ready, child.said = True, b""


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


async def _end_of(process: subprocess.Popen[bytes]) -> str:
    """How a process ended that has hung up, without holding up others: a large one takes a while to be gone."""
    loop = asyncio.get_running_loop()
    until, pause = loop.time() + END_S, 0.001
    while (status := process.poll()) is None:
        if loop.time() > until:
            return "closed its connection"
        await asyncio.sleep(pause)
        pause = min(2 * pause, 0.1)
    return f"crashed: {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}"


class _Own:
    """The decoders of one thread: closed when it ends, as its `_here` goes, and when the process does."""

    def __init__(self, limits: tuple[float, float, int | None], pool: Decoders) -> None:
        self.limits, self.pool = limits, pool
        self.close = weakref.finalize(self, pool.close)


_here = threading.local()
