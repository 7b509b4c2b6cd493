"""HTTP by libcurl in an event loop: HTTP/1.1 and 2, connections reused, every byte and second bounded.

    async with Client(spec) as client:
        answer = await client.get(URL("https://example.org/a.jpg"), checked=look_at_headers)

One hop a call: redirects are the caller's, so that each of them is asked for at its host's gate. `checked` sees the
status and the headers before any of the body; what it raises ends the transfer there.
"""

from __future__ import annotations

import asyncio
import errno
import os
import re
import resource
import socket
from contextlib import suppress
from functools import partial
from time import monotonic
from types import TracebackType

import certifi
import pycurl
from yarl import URL

from curate.errors import UserError
from curate.run.fetch.addresses import allowed, is_loopback
from curate.run.fetch.curl_errors import stop_for
from curate.run.fetch.resolve import Resolver, is_address
from curate.run.fetch.spec import IngestSpec
from curate.run.fetch.stop import Stop
from curate.run.fetch.transfer import Answer, Checked, Headers, MakeRoom, Time, Transfer

FREE_BYTES = 512 << 10  # of a body, held by whoever has a slot; a larger body first asks for room
DRAIN_BYTES = 64 << 10  # of a body that nobody wants, read so that the connection may be used again
HEADER_BYTES = 256 << 10
EXHAUSTED = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)  # of this machine, not of theirs
TICK_S = 0.2
_STATUS = re.compile(rb"HTTP/\S+ +(\d{3})(?!\S)")

__all__ = ["Answer", "Client", "Headers", "Time"]


class Client:
    """For one event loop; `async with` closes every connection."""

    def __init__(self, spec: IngestSpec, resolver: Resolver | None = None) -> None:
        self._spec = spec
        self._resolver = resolver or Resolver(spec.connect_timeout_s)
        self._multi = pycurl.CurlMulti()
        self._multi.setopt(pycurl.M_SOCKETFUNCTION, self._on_socket)
        self._multi.setopt(pycurl.M_TIMERFUNCTION, self._on_timer)
        self._multi.setopt(pycurl.M_MAXCONNECTS, spec.concurrency)
        self._free: list[Transfer] = []
        self._active: dict[pycurl.Curl, Transfer] = {}
        self._watched: dict[int, int] = {}
        self._timer: asyncio.Handle | None = None
        self._loop = asyncio.get_running_loop()
        self._ticks = self._loop.call_later(TICK_S, self._tick)
        _raise_file_limit(spec.concurrency)

    async def get(
        self,
        url: URL,
        *,
        checked: Checked,
        max_bytes: int,
        time: Time,
        make_room: MakeRoom | None = None,
        cut: bool = False,
    ) -> Answer:
        """Ask for one URL.

        Args:
            time: what is left of it is how long this may take; what it took is added to it.
            checked: see `Checked`; unwanted bodies are read to DRAIN_BYTES and forgotten.
            max_bytes: of the body; more is outcome too_big, or with `cut` left out.
            make_room: awaited, with the bytes to come, before more than FREE_BYTES are read.

        Raises:
            Stop: dns, connect, tls, timeout, blocked_address, truncated, too_big, and what `checked` raises.
            UserError: this machine ran out of sockets or memory.
        """
        addresses = await self._addresses(url)
        began = monotonic()
        t = self._free.pop() if self._free else self._new()
        t.max_bytes, t.checked, t.make_room, t.cut = max_bytes, checked, make_room, cut
        t.until, t.over = began + time.limit - time.spent, time.over
        self._prepare(t, url, addresses)
        t.done = self._loop.create_future()
        self._active[t.curl] = t
        self._multi.add_handle(t.curl)
        try:
            await t.done
        except Stop as e:
            e.size = t.answer.size
            raise
        finally:
            # The end has moved by as long as it waited for room.
            time.spent = monotonic() - (t.until - time.limit) - (0 if t.rests is None else monotonic() - t.rests)
            if t.curl in self._active:  # given up in mid-transfer
                self._remove(t)
            if t.paused is not None:
                t.paused.cancel()
            self._free.append(t)
            answer, chunks = t.answer, t.chunks
            t.answer, t.chunks = Answer(0, {}), []
            t.checked = t.make_room = t.over = None
        answer.body = b"".join(chunks)
        return answer

    async def _addresses(self, url: URL) -> list[str]:
        """Of a host, those that may be connected to. Waiting for names is not the URL's time: it has its own limit."""
        host = url.raw_host or ""
        found = [host] if is_address(host) else self._resolver.known(host)
        if found is None:
            found = await self._resolver.addresses(host)
        good = [a for a in found if self._allowed(a)]
        if not good:
            public = allowed(found[0], self._spec.allow_loopback)
            why = "is not loopback, and ingest.contact is missing" if public else "is not a public address"
            raise Stop("blocked_address", f"{found[0]} {why}")
        return good

    def _allowed(self, address: str) -> bool:
        """Without a contact nobody on the web is asked, whatever else the recipe allows."""
        if not self._spec.contact and not is_loopback(address):
            return False
        return allowed(address, self._spec.allow_loopback)

    # ---- handles

    def _new(self) -> Transfer:
        """A handle with the options that are the same for every URL."""
        curl, spec = pycurl.Curl(), self._spec
        transfer = Transfer(curl)
        for option, value in {
            pycurl.NOSIGNAL: 1,
            pycurl.FOLLOWLOCATION: 0,
            pycurl.PROTOCOLS: pycurl.PROTO_HTTP | pycurl.PROTO_HTTPS,
            pycurl.PROXY: "",  # a proxy from the environment would hide which address is connected to
            pycurl.NETRC: pycurl.NETRC_IGNORED,
            pycurl.PATH_AS_IS: 1,
            pycurl.USERAGENT: spec.agent(),
            pycurl.HTTPHEADER: ["Accept: image/*,*/*;q=0.5", "Accept-Encoding: identity"],
            pycurl.HTTP_VERSION: pycurl.CURL_HTTP_VERSION_2TLS,
            pycurl.CONNECTTIMEOUT_MS: round(1000 * spec.connect_timeout_s),
            pycurl.MAXAGE_CONN: 15,
            pycurl.BUFFERSIZE: 128 << 10,
            pycurl.CAINFO: os.environ.get("SSL_CERT_FILE") or certifi.where(),
            pycurl.SSL_VERIFYPEER: 1,
            pycurl.SSL_VERIFYHOST: 2,
            pycurl.HEADERFUNCTION: partial(self._on_header, transfer),
            pycurl.WRITEFUNCTION: partial(self._on_body, transfer),
            pycurl.OPENSOCKETFUNCTION: lambda purpose, address: self._open(transfer, address),
        }.items():
            curl.setopt(option, value)
        return transfer

    def _prepare(self, t: Transfer, url: URL, addresses: list[str]) -> None:
        t.answer, t.chunks = Answer(0, {}), []
        t.lines, t.header_bytes, t.ended_headers, t.wanted, t.has_room = [], 0, False, True, False
        t.paused = t.last = t.rests = t.failure = t.blocked = None
        t.curl.setopt(pycurl.URL, str(url.with_fragment(None) if url.raw_fragment else url))
        secure = url.scheme == "https"
        if secure != t.waits_for_pipe:
            # HTTP/2 takes further requests on the connection that is being made; of others it would hold them up.
            t.curl.setopt(pycurl.PIPEWAIT, int(secure))
            t.waits_for_pipe = secure
        if not is_address(url.raw_host or ""):
            listed = ",".join(f"[{a}]" if ":" in a else a for a in addresses)
            t.curl.setopt(pycurl.RESOLVE, [f"+{url.raw_host}:{url.port}:{listed}"])

    def _open(self, t: Transfer, address: tuple[int, int, int, tuple[str, ...]]) -> socket.socket | int:
        """Make the socket, having looked at the very address that will be connected to."""
        family, kind, protocol, where = address
        if family not in (socket.AF_INET, socket.AF_INET6) or not self._allowed(where[0]):
            t.blocked = str(where[0])
            return pycurl.SOCKET_BAD
        try:
            return socket.socket(family, kind, protocol)
        except OSError as e:
            if e.errno in EXHAUSTED:  # else this kind of address cannot be had here, and the next one is tried
                t.failure = _own_fault(e)
            return pycurl.SOCKET_BAD

    # ---- what libcurl calls; an exception must not pass through it, so it waits in `failure`

    def _on_header(self, t: Transfer, line: bytes) -> int:
        try:
            t.header_bytes += len(line)
            if t.header_bytes > HEADER_BYTES:
                raise Stop("too_big", f"more than {HEADER_BYTES} bytes of headers")
            if line not in (b"\r\n", b"\n"):
                t.lines.append(line)
            elif not t.ended_headers:  # else it ends the trailers
                self._read_headers(t)
        except BaseException as e:  # noqa: BLE001 - raised again where the transfer is awaited
            t.failure = e
            return -1
        return len(line)

    def _read_headers(self, t: Transfer) -> None:
        lines, t.lines = t.lines, []
        said = _STATUS.match(lines[0]) if lines else None
        if said is None:
            raise Stop("connect", f"malformed answer: {lines[:1]!r} in place of a status")
        status, headers = int(said[1]), t.answer.headers
        if status < 200:  # an interim answer
            return
        for line in b"".join(lines[1:]).decode("latin-1").split("\n")[:-1]:
            name, _, value = line.partition(":")
            headers.setdefault(name.strip().lower(), []).append(value.strip())
        t.answer.status, t.ended_headers, t.last = status, True, monotonic()
        assert t.checked is not None
        t.wanted = t.checked(status, headers)
        if (announced := t.answer.announced()) is not None:
            self._refuse_size(t, announced, announced=True)

    def _refuse_size(self, t: Transfer, size: int, *, announced: bool) -> None:
        if t.wanted and size > t.max_bytes and not (announced and t.cut):
            if t.cut:
                raise _Enough
            much = f"{size} bytes announced, {t.max_bytes} allowed" if announced else f"more than {t.max_bytes} bytes"
            raise Stop("too_big", much)
        if not t.wanted and size > DRAIN_BYTES:
            raise _Enough

    def _on_body(self, t: Transfer, chunk: bytes) -> int:
        try:
            t.last = monotonic()
            size = t.answer.size + len(chunk)
            if t.wanted and size > FREE_BYTES and not t.has_room and t.make_room:
                t.rests = t.last
                t.paused = self._loop.create_task(self._wait_for_room(t, t.make_room))
                return int(pycurl.WRITEFUNC_PAUSE)
            t.answer.size = size
            if size > t.max_bytes or not t.wanted:
                self._refuse_size(t, size, announced=False)
            if t.wanted:
                t.chunks.append(chunk)
        except BaseException as e:  # noqa: BLE001 - as above
            t.failure = e
            return -1
        return len(chunk)

    async def _wait_for_room(self, t: Transfer, make_room: MakeRoom) -> None:
        await make_room(min(t.answer.announced() or t.max_bytes, t.max_bytes))
        now = monotonic()
        t.until += now - (t.rests or now)
        t.has_room, t.paused, t.rests, t.last = True, None, None, now
        if t.curl in self._active:
            with suppress(pycurl.error):  # what was held back was refused: the reason waits in `failure`
                t.curl.pause(pycurl.PAUSE_CONT)
            self._reap()

    # ---- between libcurl and the loop

    def _on_socket(self, what: int, fd: int, multi: object, data: object) -> None:
        had = self._watched.pop(fd, 0)
        want = {pycurl.POLL_IN: 1, pycurl.POLL_OUT: 2, pycurl.POLL_INOUT: 3}.get(what, 0)
        if had & 1 and not want & 1:
            self._loop.remove_reader(fd)
        if had & 2 and not want & 2:
            self._loop.remove_writer(fd)
        if want & 1 and not had & 1:
            self._loop.add_reader(fd, self._act, fd, pycurl.CSELECT_IN)
        if want & 2 and not had & 2:
            self._loop.add_writer(fd, self._act, fd, pycurl.CSELECT_OUT)
        if want:
            self._watched[fd] = want

    def _on_timer(self, milliseconds: int) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if milliseconds == 0:
            self._timer = self._loop.call_soon(self._act, pycurl.SOCKET_TIMEOUT, 0)
        elif milliseconds > 0:
            self._timer = self._loop.call_later(milliseconds / 1000, self._act, pycurl.SOCKET_TIMEOUT, 0)

    def _act(self, fd: int, mask: int) -> None:
        try:
            self._multi.socket_action(fd, mask)
            self._reap()
        except Exception as e:  # noqa: BLE001 - nobody awaits a callback of the loop: it is raised in every `get`
            self._break(e)

    def _break(self, error: Exception) -> None:
        for t in list(self._active.values()):
            self._finish(t, error)

    def _reap(self) -> None:
        while True:
            left, good, bad = self._multi.info_read()
            for curl in good:
                self._finish(self._active[curl], None)
            for curl, number, message in bad:
                t = self._active[curl]
                self._finish(t, self._reason(t, number, message))
            if not left:
                return

    def _reason(self, t: Transfer, number: int, message: str) -> BaseException | None:
        if isinstance(t.failure, _Enough):
            return None
        if t.failure is not None:
            return t.failure
        if t.blocked is not None and t.last is None:
            return Stop("blocked_address", f"{t.blocked} is not a public address")
        if (number_here := t.curl.getinfo(pycurl.OS_ERRNO)) in EXHAUSTED:
            return _own_fault(OSError(number_here, os.strerror(number_here)))
        return stop_for(number, message, t.answer.size if t.ended_headers else None)

    def _finish(self, t: Transfer, failure: BaseException | None) -> None:
        self._remove(t)
        if t.done is not None and not t.done.done():
            if failure is None:
                t.done.set_result(None)
            else:
                t.done.set_exception(failure)

    def _remove(self, t: Transfer) -> None:
        del self._active[t.curl]
        self._multi.remove_handle(t.curl)

    def _tick(self) -> None:
        """End transfers whose time is over, or on which nothing has come for too long; waiting for room is neither."""
        idle = self._spec.idle_timeout_s
        self._ticks = self._loop.call_later(min(TICK_S, idle / 4, self._spec.timeout_s / 4), self._tick)
        now = monotonic()
        for t in list(self._active.values()):
            if t.paused is not None:
                continue
            if now > t.until and t.over is not None:
                self._finish(t, t.over())
            elif t.last is None:
                if t.curl.getinfo(pycurl.PRETRANSFER_TIME) > 0:
                    t.last = now
            elif now - t.last > idle:
                self._finish(t, Stop("timeout", f"no byte in {idle:g} s, after {t.answer.size} bytes"))

    # ---- beginning and end

    async def __aenter__(self) -> Client:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None
    ) -> None:
        self._ticks.cancel()
        for t in list(self._active.values()):
            self._remove(t)
        for t in self._free:
            t.curl.close()
        self._multi.close()
        if self._timer is not None:
            self._timer.cancel()
        for fd, had in self._watched.items():
            if had & 1:
                self._loop.remove_reader(fd)
            if had & 2:
                self._loop.remove_writer(fd)
        self._resolver.close()


class _Enough(Exception):
    """The answer is known, and the rest of the body is too long to be read for nothing."""


def _own_fault(error: OSError) -> UserError:
    return UserError(
        f"this machine ran out of sockets or memory while fetching ({error}): "
        "lower ingest.concurrency or raise the limit (`ulimit -n`)"
    )


def _raise_file_limit(concurrency: int) -> None:
    """Open files up to the hard limit: the usual soft limit, 1,024, is less than the connections of one worker."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 4 * concurrency + 512
    if soft != resource.RLIM_INFINITY and soft < wanted:
        most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        if most > soft:
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
