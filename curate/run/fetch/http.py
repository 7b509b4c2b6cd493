"""Images of one shard from the web: asynchronous, every limit kept, one outcome for every URL.

    download(urls, spec, work=decode_and_shrink, done=store)

`work(row, fetch)` runs in a thread while its bytes are held; `done(row, result)` in the caller's thread, in the
order of completion. Known failures of other people's machines become outcomes; anything else is raised.
"""

from __future__ import annotations

import asyncio
import errno
import socket
import ssl
import time
import zlib
from collections.abc import AsyncIterator, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import aiohttp
from aiohttp.abc import ResolveResult
from aiohttp.http_exceptions import LineTooLong
from yarl import URL

from curate.errors import UserError
from curate.run.fetch.addresses import BlockedAddress, socket_factory
from curate.run.fetch.spec import IngestSpec

FREE_BYTES = 1 << 20  # of a body, held by whoever has a slot; a larger body first asks for room
LARGE_BYTES = 256 << 20  # room for large bodies, all together, in one worker
DNS_THREADS = 32  # names that the system's resolver is asked for at a time
REDIRECTS = (301, 302, 303, 307, 308)
TOO_LONG = ("Got more than", "Too many headers")  # how aiohttp's parser says that headers are too large
EXHAUSTED = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)  # of this machine, not of theirs

R = TypeVar("R")


@dataclass(slots=True)
class Fetch:
    """What became of one URL. outcome "ok" means that the body came whole; it may still be no image."""

    url: str
    outcome: str = "ok"
    detail: str | None = None
    status: int | None = None
    final_url: str | None = None
    content_type: str | None = None
    size: int = 0  # bytes that came, compressed or not
    elapsed_ms: int = 0
    body: bytes | None = None


class Gate(Protocol):
    """Who may ask a host now. The slot is held from before the connection until the bytes are decoded."""

    def slot(self, host: str) -> AbstractAsyncContextManager[None]: ...


class HostSlots:
    """At most `per_host` URLs of one host at a time, within this worker."""

    def __init__(self, per_host: int) -> None:
        self._per_host = per_host
        self._hosts: dict[str, asyncio.Semaphore] = {}

    @asynccontextmanager
    async def slot(self, host: str) -> AsyncIterator[None]:
        async with self._hosts.setdefault(host, asyncio.Semaphore(self._per_host)):
            yield


def download(
    urls: Mapping[int, str],
    spec: IngestSpec,
    work: Callable[[int, Fetch], R],
    done: Callable[[int, R], None],
    gate: Gate | None = None,
) -> list[int]:
    """Fetch the URLs of a shard, by row number, until all are done or the shard's deadline has come.

    Args:
        urls: row -> URL.
        work: called in a thread for every URL, whatever its outcome; what it raises is raised here.
        done: called with what `work` returned.
        gate: who may ask a host; by default `spec.per_host` at a time.

    Returns:
        The rows that were given up at the deadline, for which `done` was not called.

    Raises:
        UserError: no contact in the spec, or this machine ran out of sockets.
    """
    spec.check_contact()
    finished: set[int] = set()

    def note(row: int, result: R) -> None:
        finished.add(row)
        done(row, result)

    _run(_download(urls, spec, work, note, gate or HostSlots(spec.per_host)))
    return sorted(set(urls) - finished)


async def _download(
    urls: Mapping[int, str], spec: IngestSpec, work: Callable[[int, Any], R], note: Callable[[int, R], None], gate: Gate
) -> None:
    slots = asyncio.Semaphore(spec.concurrency)
    room = asyncio.Semaphore(max(1, LARGE_BYTES // spec.max_bytes))
    loop = asyncio.get_running_loop()
    loop.set_default_executor(ThreadPoolExecutor(DNS_THREADS, "dns"))

    async def one(row: int, url: str) -> None:
        async with AsyncExitStack() as held:
            await held.enter_async_context(gate.slot(_host(url)))
            await held.enter_async_context(slots)
            fetch = await fetch_one(session, url, spec, held, room)
            note(row, await loop.run_in_executor(pool, work, row, fetch))

    with ThreadPoolExecutor(spec.decode_threads, "decode") as pool:
        async with _session(spec) as session:
            try:
                async with asyncio.timeout(spec.shard_deadline_s) as deadline, asyncio.TaskGroup() as tasks:
                    for row, url in urls.items():
                        tasks.create_task(one(row, url))
            except TimeoutError:
                if not deadline.expired():
                    raise
            except BaseExceptionGroup as several:
                first = several.exceptions[0]  # the others were cancelled because of it
                raise first from first.__cause__


async def fetch_one(
    session: aiohttp.ClientSession, url: str, spec: IngestSpec, held: AsyncExitStack, room: asyncio.Semaphore
) -> Fetch:
    """One URL, redirects followed, within its time.

    Args:
        held: what is entered here stays until the caller has done with the body.
        room: a large body enters it before more than FREE_BYTES are read; that wait does not count as the host's.
    """
    fetch = Fetch(url)
    started = time.monotonic()
    try:
        async with asyncio.timeout(spec.timeout_s) as deadline:

            async def make_room() -> None:
                left = (deadline.when() or 0) - asyncio.get_running_loop().time()
                deadline.reschedule(None)
                await held.enter_async_context(room)
                deadline.reschedule(asyncio.get_running_loop().time() + left)

            fetch.body = await _follow(session, fetch, spec, make_room)
    except TimeoutError:
        fetch.outcome, fetch.detail = "timeout", f"not done in {spec.timeout_s:g} s"
    except _Stop as stop:
        fetch.outcome, fetch.detail = stop.outcome, stop.detail
    fetch.elapsed_ms = round(1000 * (time.monotonic() - started))
    return fetch


# ---------------------------------------------------------------------------------------------- one URL


class _Stop(Exception):
    """The URL ends here, with this outcome."""

    def __init__(self, outcome: str, detail: str) -> None:
        super().__init__(outcome, detail)
        self.outcome = outcome
        self.detail = " ".join(detail.split())[:300]


async def _follow(
    session: aiohttp.ClientSession, fetch: Fetch, spec: IngestSpec, make_room: Callable[[], Any]
) -> bytes:
    target = _web_address(fetch.url)
    for _ in range(spec.max_redirects + 1):
        fetch.final_url = str(target)
        try:
            response = await session.get(target, allow_redirects=False)
        except (aiohttp.ClientError, OSError) as e:
            raise _stop_for(e) from e
        async with response:
            fetch.status, fetch.content_type = response.status, response.headers.get("Content-Type")
            location = response.headers.get("Location")
            if response.status not in REDIRECTS or location is None:
                _check_status(response.status)
                return await _body(response, fetch, spec, make_room)
            target = _web_address(location, target)
    raise _Stop("too_many_redirects", f"more than {spec.max_redirects}")


def _check_status(status: int) -> None:
    if status == 429:
        raise _Stop("http_429", "too many requests")
    if 500 <= status < 600:
        raise _Stop("http_5xx", str(status))
    if not 200 <= status < 300:  # also 304 and the like, which nobody asked for, and the 999 of some
        raise _Stop("http_4xx", str(status))


async def _body(
    response: aiohttp.ClientResponse, fetch: Fetch, spec: IngestSpec, make_room: Callable[[], Any]
) -> bytes:
    if (response.content_length or 0) > spec.max_bytes:
        response.close()
        raise _Stop("too_big", f"{response.content_length} bytes announced, {spec.max_bytes} allowed")
    chunks: list[bytes] = []
    has_room = False
    try:
        async for chunk in response.content.iter_any():
            chunks.append(chunk)
            fetch.size += len(chunk)
            if fetch.size > spec.max_bytes:
                response.close()
                raise _Stop("too_big", f"more than {spec.max_bytes} bytes")
            if fetch.size > FREE_BYTES and not has_room:
                await make_room()
                has_room = True
    except TimeoutError as e:
        raise _Stop("timeout", f"no byte in {spec.idle_timeout_s:g} s, after {fetch.size} bytes") from e
    except (aiohttp.ClientPayloadError, aiohttp.ClientConnectionError, OSError) as e:
        raise _Stop("truncated", f"after {fetch.size} bytes: {e}") from e
    encoding = response.headers.get("Content-Encoding", "identity").strip().lower()
    body = b"".join(chunks)
    if encoding in ("", "identity") or not body:
        return body
    return await asyncio.to_thread(_inflate, body, encoding, spec.max_bytes)


def _inflate(body: bytes, encoding: str, max_bytes: int) -> bytes:
    """The body without its Content-Encoding, which nobody asked for; a bomb ends at `max_bytes`."""
    if encoding not in ("gzip", "x-gzip", "deflate"):
        raise _Stop("not_image", f"in content-encoding {encoding!r}, which was not asked for")
    inflater = zlib.decompressobj(32 + zlib.MAX_WBITS)  # gzip or zlib by its header
    try:
        plain = inflater.decompress(body, max_bytes + 1)
    except zlib.error as e:
        raise _Stop("not_image", f"said to be in content-encoding {encoding}, but is not: {e}") from e
    if len(plain) > max_bytes:
        raise _Stop("too_big", f"more than {max_bytes} bytes after decompression")
    if not inflater.eof:
        raise _Stop("truncated", f"the {encoding} stream ends early")
    return plain


def _web_address(text: str, base: URL | None = None) -> URL:
    try:
        url = URL(text.strip()) if base is None else base.join(URL(text.strip()))
    except ValueError as e:
        raise _Stop("blocked_address", f"no web address: {e}") from e
    if url.scheme not in ("http", "https") or not url.host:
        raise _Stop("blocked_address", f"only http and https are fetched, not {url.scheme or 'nothing'!r}")
    return url


def _host(url: str) -> str:
    try:
        return URL(url.strip()).host or ""
    except ValueError:
        return ""


def _stop_for(error: aiohttp.ClientError | OSError) -> _Stop:
    """The outcome of an error before the body; what is this machine's fault or unknown is raised."""
    cause = getattr(error, "os_error", error)
    number = getattr(cause, "errno", None)
    if number in EXHAUSTED:
        raise UserError(
            f"this machine ran out of sockets or memory while fetching ({cause}): "
            "lower ingest.concurrency or raise the limit (`ulimit -n`)"
        ) from error
    text = str(error) or type(error).__name__
    if isinstance(cause, BlockedAddress):
        return _Stop("blocked_address", f"{cause.address} is not a public address")
    if isinstance(error, aiohttp.InvalidURL | aiohttp.NonHttpUrlClientError):
        return _Stop("blocked_address", f"no web address: {text}")
    if isinstance(error, TimeoutError):
        return _Stop("timeout", text)
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return _Stop("dns", text)
    if isinstance(error, aiohttp.ClientSSLError | ssl.SSLError | aiohttp.ServerFingerprintMismatch):
        return _Stop("tls", text)
    if isinstance(error, aiohttp.ClientResponseError):
        too_long = isinstance(error.__cause__, LineTooLong) or error.message.startswith(TOO_LONG)
        return _Stop("too_big" if too_long else "connect", f"malformed answer: {error.message or text}")
    if isinstance(error, aiohttp.ClientConnectionError | aiohttp.ClientPayloadError | OSError):
        return _Stop("connect", text)
    raise error


# ---------------------------------------------------------------------------------------------- the session


class _Resolver(aiohttp.ThreadedResolver):
    """The system's resolver; names that cannot even be asked for count as unknown."""

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        try:
            return await super().resolve(host, port, family)
        except UnicodeError as e:  # an empty or over-long label
            raise socket.gaierror(socket.EAI_NONAME, f"not a possible host name: {e}") from e


def _session(spec: IngestSpec) -> aiohttp.ClientSession:
    connector = aiohttp.TCPConnector(
        limit=0,  # the slots are the limit
        resolver=_Resolver(),
        ttl_dns_cache=300,
        keepalive_timeout=5,
        socket_factory=socket_factory(spec.allow_loopback),
    )
    return aiohttp.ClientSession(
        connector=connector,
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,
        timeout=aiohttp.ClientTimeout(total=None, connect=spec.connect_timeout_s, sock_read=spec.idle_timeout_s),
        headers={"User-Agent": spec.agent(), "Accept": "image/*,*/*;q=0.5", "Accept-Encoding": "identity"},
    )


def _run(coroutine: Any) -> None:
    """To the end, also from within a running loop (a notebook)."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        asyncio.run(coroutine)
    else:
        with ThreadPoolExecutor(1) as pool:
            pool.submit(asyncio.run, coroutine).result()
