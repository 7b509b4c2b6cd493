"""Images of one shard from the web: asynchronous, every limit kept, one outcome for every URL.

    download(urls, spec, work=decode_and_shrink, done=store)

`await work(row, fetch)` holds the bytes until it returns; `done(row, result)` is called in the order of completion.
Known failures of other people's machines become outcomes; anything else is raised.
"""

from __future__ import annotations

import asyncio
import time
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from yarl import URL

from curate.run.fetch.client import Answer, Client, Headers
from curate.run.fetch.gate.doorman import Answered, Deferred, Doorman, GateHandle, Refused, Visit, inline_gates
from curate.run.fetch.gate.headers import refused as refused_by
from curate.run.fetch.loop import run_async
from curate.run.fetch.spec import IngestSpec
from curate.run.fetch.stop import Stop

LARGE_BYTES = 256 << 20  # room for large bodies, all together, in one worker
TEXT_BYTES = 512 << 10  # of robots.txt and tdmrep.json
REDIRECTS = (301, 302, 303, 307, 308)
MOSTLY = 0.9  # of a shard: from when so much is done the rest has a limit
PATIENCE_S = 10.0  # the rest has as long as that took, and at least so many seconds

R = TypeVar("R")


@dataclass(slots=True)
class Fetch:
    """What became of one URL. outcome "ok" means that the body came whole; it may still be no image.

    retry_at: seconds since 1970 before which its host does not want to be asked again.
    """

    url: str
    outcome: str = "ok"
    detail: str | None = None
    status: int | None = None
    final_url: str | None = None
    content_type: str | None = None
    size: int = 0  # bytes that came, compressed or not
    elapsed_ms: int = 0
    retry_at: float | None = None
    body: bytes | None = None


def download(
    urls: Mapping[int, str],
    spec: IngestSpec,
    work: Callable[[int, Fetch], Awaitable[R]],
    done: Callable[[int, R], None],
    gates: Sequence[GateHandle] | None = None,
) -> list[int]:
    """Fetch the URLs of a shard, by row number, until all are done or the shard's deadline has come.

    Args:
        urls: row -> URL.
        work: awaited for every URL, whatever its outcome; what it raises is raised here.
        done: called with what `work` returned.
        gates: who may ask a host; default: gates of this call's own.

    Returns:
        The rows that were given up at the deadline, for which `done` was not called.

    Raises:
        UserError: no contact in the spec, a list of refusals cannot be read, or this machine ran out of sockets.
    """
    spec.check_contact()
    shard = _Shard(urls, spec, work, done)
    run_async(shard.download(inline_gates(spec) if gates is None else gates))
    return sorted(set(urls) - shard.finished)


class _Shard(Generic[R]):
    """One download under way."""

    def __init__(
        self,
        urls: Mapping[int, str],
        spec: IngestSpec,
        work: Callable[[int, Fetch], Awaitable[R]],
        done: Callable[[int, R], None],
    ) -> None:
        self.urls, self.spec, self.work, self.done = urls, spec, work, done
        self.finished: set[int] = set()
        self.at_the_gate: set[asyncio.Task[None]] = set()
        self.began = time.monotonic()

    async def download(self, gates: Sequence[GateHandle]) -> None:
        async with Client(self.spec) as client:
            fetcher = Fetcher(client, self.spec)
            async with Doorman(gates, self.spec, fetcher.text) as doorman:
                fetcher.doorman = doorman
                try:
                    async with asyncio.timeout(self.spec.shard_deadline_s) as deadline, asyncio.TaskGroup() as tasks:
                        patience = tasks.create_task(self._lose_patience())
                        await self._all(fetcher)
                        patience.cancel()
                except TimeoutError:
                    if not deadline.expired():
                        raise

    async def _all(self, fetcher: Fetcher) -> None:
        async with asyncio.TaskGroup() as tasks:
            for row, url in self.urls.items():
                tasks.create_task(self._one(fetcher, row, url))

    async def _one(self, fetcher: Fetcher, row: int, url: str) -> None:
        fetch = Fetch(url)
        async with AsyncExitStack() as held:
            await fetcher.fetch(fetch, held, self._waiting)
            result = await self.work(row, fetch)
        fetch.body = None
        self.finished.add(row)
        self.done(row, result)

    @asynccontextmanager
    async def _waiting(self) -> AsyncIterator[None]:
        """Around a wait for a host; Deferred is raised in it when the shard has waited long enough."""
        task = asyncio.current_task()
        assert task is not None
        self.at_the_gate.add(task)
        try:
            yield
        except asyncio.CancelledError as e:
            if e.args != (_IMPATIENT,):
                raise
            task.uncancel()
            raise Deferred("put off to a later pass: its host is asked slowly, and the shard was else done") from e
        finally:
            self.at_the_gate.discard(task)

    async def _lose_patience(self) -> None:
        """Slow hosts do not hold a shard back: what still waits for them when the rest is long done is put off."""
        while len(self.finished) < MOSTLY * len(self.urls):
            await asyncio.sleep(0.5)
        took = time.monotonic() - self.began
        await asyncio.sleep(max(PATIENCE_S, took))
        while len(self.finished) < len(self.urls):
            for task in list(self.at_the_gate):
                task.cancel(_IMPATIENT)
            await asyncio.sleep(0.5)


_IMPATIENT = "the shard has waited long enough"


class Fetcher:
    """URLs to bytes: redirects, manners and limits, one at a time."""

    doorman: Doorman

    def __init__(self, client: Client, spec: IngestSpec) -> None:
        self.client, self.spec = client, spec
        self.room = asyncio.Semaphore(max(1, LARGE_BYTES // spec.max_bytes))

    async def fetch(self, fetch: Fetch, held: AsyncExitStack, waiting: Callable[[], Any]) -> None:
        """Fill `fetch`. What is entered into `held` (a slot of the worker, room for a large body) stays until the
        caller has done with the body; waiting for it, or for a host, does not count as the host's time."""
        clock = _Clock(self.spec.timeout_s)
        try:
            fetch.body = await self._follow(fetch, held, waiting, clock)
        except TimeoutError:
            fetch.outcome, fetch.detail = "timeout", f"not done in {self.spec.timeout_s:g} s"
        except Stop as e:
            fetch.outcome, fetch.detail, fetch.size = e.outcome, e.detail, fetch.size or e.size
        except Refused as e:
            fetch.outcome, fetch.detail = e.outcome, e.detail
        except Deferred as e:
            fetch.outcome, fetch.detail, fetch.retry_at = "gave_up", e.detail, e.retry_at
        fetch.elapsed_ms = round(1000 * clock.spent)

    async def _follow(self, fetch: Fetch, held: AsyncExitStack, waiting: Callable[[], Any], clock: _Clock) -> bytes:
        target, slot = web_address(fetch.url), self.doorman.slot()
        held.callback(slot.free)
        for _ in range(self.spec.max_redirects + 1):
            fetch.final_url = str(target)
            async with AsyncExitStack() as hop:
                async with waiting():
                    visit = await hop.enter_async_context(self.doorman.visit(str(target), slot))
                answer = await self._get(target, fetch, visit, held, clock)
            location = answer.header("location")
            if answer.status not in REDIRECTS or location is None:
                _check_status(answer.status)
                return await self._plain(answer)
            target = web_address(location, target)
        raise Stop("too_many_redirects", f"more than {self.spec.max_redirects}")

    async def _get(self, target: URL, fetch: Fetch, visit: Visit, held: AsyncExitStack, clock: _Clock) -> Answer:
        def checked(status: int, headers: Headers) -> bool:
            fetch.status, fetch.content_type = status, next(iter(headers.get("content-type", [])), None)
            visit.answered(status, next(iter(headers.get("retry-after", [])), None))
            wanted = 200 <= status < 300
            if wanted and (why := refused_by(headers, self.spec)):
                raise Stop("refused_header", why)
            return wanted

        async def make_room() -> None:
            with clock.stopped():
                await held.enter_async_context(self.room)

        try:
            async with clock.running():
                answer = await self.client.get(
                    target, checked=checked, max_bytes=self.spec.max_bytes, make_room=make_room
                )
        except (Stop, TimeoutError):
            if fetch.status is None:
                visit.failed()
            raise
        fetch.size = answer.size
        return answer

    async def _plain(self, answer: Answer) -> bytes:
        """The body without its Content-Encoding, which nobody asked for."""
        encoding = (answer.header("content-encoding") or "identity").strip().lower()
        if encoding in ("", "identity") or not answer.body:
            return answer.body
        return await asyncio.to_thread(_inflate, answer.body, encoding, self.spec.max_bytes)

    async def text(self, url: str) -> Answered:
        """A small file about a site (robots.txt), redirects followed; for the doorman."""
        try:
            async with asyncio.timeout(self.spec.timeout_s):
                target = web_address(url)
                for _ in range(6):  # RFC 9309, 2.3.1.2: at least five redirects
                    answer = await self.client.get(
                        target, checked=lambda status, _: 200 <= status < 300, max_bytes=TEXT_BYTES, cut=True
                    )
                    location = answer.header("location")
                    if answer.status not in REDIRECTS or location is None:
                        return Answered(answer.status, await self._plain(answer), None)
                    target = web_address(location, target)
        except TimeoutError:
            return Answered(None, b"", f"timeout: not done in {self.spec.timeout_s:g} s")
        except Stop as e:
            return Answered(None, b"", f"{e.outcome}: {e.detail}")
        return Answered(404, b"", "more than five redirects")  # RFC 9309: as if it were not there


class _Clock:
    """Seconds of a URL's own time; TimeoutError in `running()` when they are over."""

    def __init__(self, limit: float) -> None:
        self._limit = limit
        self.spent = 0.0
        self._since: float | None = None
        self._timeout: asyncio.Timeout | None = None

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(max(0.0, self._limit - self.spent)) as self._timeout:
                self._since = loop.time()
                yield
        finally:
            self._stop(loop.time())

    def _stop(self, now: float) -> None:
        if self._since is not None:
            self.spent += now - self._since
            self._since = None

    def stopped(self) -> _Stopped:
        return _Stopped(self)

    def pause(self) -> None:
        self._stop(asyncio.get_running_loop().time())
        if self._timeout is not None:
            self._timeout.reschedule(None)

    def resume(self) -> None:
        self._since = asyncio.get_running_loop().time()
        if self._timeout is not None and not self._timeout.expired():
            self._timeout.reschedule(self._since + max(0.0, self._limit - self.spent))


class _Stopped:
    def __init__(self, clock: _Clock) -> None:
        self._clock = clock

    def __enter__(self) -> None:
        self._clock.pause()

    def __exit__(self, *_: object) -> None:
        self._clock.resume()


# ---------------------------------------------------------------------------------------------- small parts


def web_address(text: str, base: URL | None = None) -> URL:
    """A URL, also one relative to `base`.

    Raises:
        Stop: blocked_address, where it is no address of the web.
    """
    try:
        url = URL(text.strip())
        url = base.join(url) if base is not None else url
    except ValueError as e:
        raise Stop("blocked_address", f"no web address: {e}") from e
    if url.scheme not in ("http", "https") or not url.host:
        raise Stop("blocked_address", f"only http and https are fetched, not {url.scheme or 'nothing'!r}")
    return url


def _check_status(status: int) -> None:
    if status == 429:
        raise Stop("http_429", "too many requests")
    if 500 <= status < 600:
        raise Stop("http_5xx", str(status))
    if not 200 <= status < 300:  # also 304 and the like, which nobody asked for, and the 999 of some
        raise Stop("http_4xx", str(status))


def _inflate(body: bytes, encoding: str, max_bytes: int) -> bytes:
    """The body without its Content-Encoding; a bomb ends at `max_bytes`."""
    if encoding not in ("gzip", "x-gzip", "deflate"):
        raise Stop("not_image", f"in content-encoding {encoding!r}, which was not asked for")
    inflater = zlib.decompressobj(32 + zlib.MAX_WBITS)  # gzip or zlib by its header
    try:
        plain = inflater.decompress(body, max_bytes + 1)
    except zlib.error as e:
        raise Stop("not_image", f"said to be in content-encoding {encoding}, but is not: {e}") from e
    if len(plain) > max_bytes:
        raise Stop("too_big", f"more than {max_bytes} bytes after decompression")
    if not inflater.eof:
        raise Stop("truncated", f"the {encoding} stream ends early")
    return plain
