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
from contextlib import asynccontextmanager, nullcontext
from dataclasses import dataclass
from typing import Generic, TypeVar

from yarl import URL

from curate.run.fetch.client import Answer, Client, Headers, Time
from curate.run.fetch.gate.doorman import Answered, Deferred, Doorman, GateHandle, Refused, Slot, Visit, inline_gates
from curate.run.fetch.gate.gate import CLOSED_MOST_S
from curate.run.fetch.gate.headers import refused as refused_by
from curate.run.fetch.gate.site import seconds_until
from curate.run.fetch.loop import rare_collections, run_async
from curate.run.fetch.room import Room
from curate.run.fetch.spec import IngestSpec
from curate.run.fetch.stop import Stop
from curate.run.fetch.urls import redirected, web_address

SAID = 2000  # characters of a URL or content type that the log takes from others
LARGE_BYTES = 256 << 20  # room for large bodies, all together, in one worker
TEXT_BYTES = 512 << 10  # of robots.txt and tdmrep.json
REDIRECTS = (301, 302, 303, 307, 308)
MOSTLY = 0.9  # of a shard: from when so much is done the rest has a limit
PATIENCE_S = 10.0  # the rest has as long again as that took, and at least so many seconds

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
    with rare_collections():
        run_async(shard.download(inline_gates(spec) if gates is None else gates))
    return sorted(set(urls) - shard.finished)


class _Shard(Generic[R]):
    """One download under way. A URL that waits for its host is an entry of the doorman's queue, and a task from then
    on: of ten thousand tasks the garbage collector alone would take a tenth of the time."""

    fetcher: Fetcher
    tasks: asyncio.TaskGroup

    def __init__(
        self,
        urls: Mapping[int, str],
        spec: IngestSpec,
        work: Callable[[int, Fetch], Awaitable[R]],
        done: Callable[[int, R], None],
    ) -> None:
        self.urls, self.spec, self.work, self.done = urls, spec, work, done
        self.finished: set[int] = set()
        self.all_done = asyncio.Event()
        self.over = False
        self.began = time.monotonic()

    async def download(self, gates: Sequence[GateHandle]) -> None:
        async with Client(self.spec) as client:
            self.fetcher = Fetcher(client, self.spec)
            async with Doorman(gates, self.spec, self.fetcher.text) as doorman:
                self.fetcher.doorman = doorman
                try:
                    async with asyncio.timeout(self.spec.shard_deadline_s) as deadline, asyncio.TaskGroup() as tasks:
                        self.tasks = tasks
                        await self._all(doorman)
                except TimeoutError:
                    if not deadline.expired():
                        raise

    async def _all(self, doorman: Doorman) -> None:
        patience = self.tasks.create_task(self._lose_patience(doorman))
        try:
            for number, (row, url) in enumerate(self.urls.items()):
                if number % 256 == 0:
                    await asyncio.sleep(0)  # so that the first ones are on their way
                self._enter(doorman, row, url)
            if self.urls:
                await self.all_done.wait()
        finally:
            self.over = True
        patience.cancel()

    def _enter(self, doorman: Doorman, row: int, url: str) -> None:
        slot = doorman.slot()
        try:
            target = web_address(url)
            doorman.enter(target, slot, lambda came: self._begin(row, url, target, slot, came))
        except (Stop, Refused, Deferred) as e:
            self._begin(row, url, None, slot, e)

    def _begin(self, row: int, url: str, target: URL | None, slot: Slot, came: Visit | BaseException) -> None:
        if not self.over:
            self.tasks.create_task(self._one(row, Fetch(url), target, Hold(slot), came))
        elif isinstance(came, Visit):
            came.leave()

    async def _one(self, row: int, fetch: Fetch, target: URL | None, hold: Hold, came: Visit | BaseException) -> None:
        try:
            await self.fetcher.fetch(fetch, target, hold, came)
            result = await self.work(row, fetch)
            fetch.body = None
            hold.free()
            self.done(row, result)
        except BaseException:
            self.over = True  # before the group knows of it, which takes no task from then on
            raise
        finally:
            hold.free()
        self.finished.add(row)
        if len(self.finished) == len(self.urls):
            self.all_done.set()

    async def _lose_patience(self, doorman: Doorman) -> None:
        """Slow hosts do not hold a shard back: what they will not have served when the rest is long done is put off."""
        while len(self.finished) < MOSTLY * len(self.urls):
            await asyncio.sleep(0.5)
        rest = max(PATIENCE_S, time.monotonic() - self.began)
        why = "put off to a later pass: its host is slow or asked slowly, and the shard was else done"
        doorman.hurry(rest, why)
        await asyncio.sleep(rest)
        doorman.hurry(0.0, why)


class Hold:
    """What a URL has of this worker until its bytes are done with: a slot, and room for a large body."""

    __slots__ = ("_room", "_size", "slot")

    def __init__(self, slot: Slot) -> None:
        self.slot = slot
        self._room: Room | None = None
        self._size = 0

    async def make(self, room: Room, size: int) -> None:
        """Take room for so many bytes, in place of what was taken before."""
        self._give_back()
        self._size = await room.take(size)
        self._room = room

    def free(self) -> None:
        self.slot.free()
        self._give_back()

    def _give_back(self) -> None:
        if self._room is not None:
            self._room.give_back(self._size)
            self._room = None


class Fetcher:
    """URLs to bytes: redirects, manners and limits, one at a time."""

    doorman: Doorman

    def __init__(self, client: Client, spec: IngestSpec) -> None:
        self.client, self.spec = client, spec
        self.room = Room(max(LARGE_BYTES, spec.max_bytes))
        self._elsewhere: dict[str, asyncio.Lock] = {}

    async def fetch(self, fetch: Fetch, target: URL | None, hold: Hold, came: Visit | BaseException) -> None:
        """Fill `fetch`. came: the visit at which to begin, or why there is none. What is put into `hold` stays there
        until the caller has done with the body; waiting for it, or for a host, does not count as the host's time."""
        taken = Time(self.spec.timeout_s)
        try:
            if target is None or not isinstance(came, Visit):
                assert isinstance(came, BaseException)
                raise came
            fetch.body = await self._follow(fetch, target, hold, came, taken)
        except Stop as e:
            fetch.outcome, fetch.detail, fetch.size = e.outcome, e.detail, fetch.size or e.size
        except Refused as e:
            fetch.outcome, fetch.detail = e.outcome, e.detail
        except Deferred as e:
            fetch.outcome, fetch.detail, fetch.retry_at = "gave_up", e.detail, e.retry_at
        fetch.elapsed_ms = round(1000 * taken.spent)

    async def _follow(self, fetch: Fetch, target: URL, hold: Hold, visit: Visit, taken: Time) -> bytes:
        for hop in range(self.spec.max_redirects + 1):
            if hop:
                visit = await self.doorman.visit(target, hold.slot)
            with visit:
                fetch.final_url, fetch.status, fetch.content_type = str(target)[:SAID], None, None
                answer = await self._get(target, fetch, visit, hold, taken)
            location = answer.header("location")
            if answer.status not in REDIRECTS or location is None:
                _check_status(answer.status)
                return await self._plain(answer, self.spec.max_bytes, hold)
            target = redirected(location, target)
        raise Stop("too_many_redirects", f"more than {self.spec.max_redirects}")

    async def _get(self, target: URL, fetch: Fetch, visit: Visit, hold: Hold, taken: Time) -> Answer:
        def checked(status: int, headers: Headers) -> bool:
            fetch.status, fetch.content_type = status, next(iter(headers.get("content-type", [""])))[:SAID] or None
            retry_after = next(iter(headers.get("retry-after", [])), None)
            visit.answered(status, retry_after)
            if status in (429, 503) and (seconds := seconds_until(retry_after)) is not None:
                fetch.retry_at = time.time() + min(seconds, CLOSED_MOST_S)
            wanted = 200 <= status < 300
            if wanted and (why := refused_by(headers, self.spec)):
                raise Stop("refused_header", why)
            return wanted

        async def make_room(size: int) -> None:
            await hold.make(self.room, size)

        try:
            answer = await self.client.get(
                target, checked=checked, max_bytes=self.spec.max_bytes, time=taken, make_room=make_room
            )
        except Stop:
            if fetch.status is None:
                visit.failed()
            raise
        fetch.size = answer.size
        return answer

    async def _plain(self, answer: Answer, max_bytes: int, hold: Hold | None = None) -> bytes:
        """The body without its Content-Encoding, which nobody asked for; it may grow a thousandfold."""
        encoding = (answer.header("content-encoding") or "identity").strip().lower()
        if encoding in ("", "identity") or not answer.body:
            return answer.body
        if hold is not None:
            await hold.make(self.room, max_bytes)
        return await asyncio.to_thread(_inflate, answer.body, encoding, max_bytes)

    async def text(self, url: str) -> Answered:
        """A small file about a site (robots.txt), redirects followed; for the doorman."""
        taken, hop = Time(self.spec.timeout_s), 0
        try:
            target = web_address(url)
            home = target.raw_host
            for hop in range(6):  # RFC 9309, 2.3.1.2: at least five redirects
                async with nullcontext() if target.raw_host == home else self._one_at_a_time(target.raw_host or ""):
                    answer = await self.client.get(
                        target,
                        checked=lambda status, _: 200 <= status < 300,
                        max_bytes=TEXT_BYTES,
                        time=taken,
                        cut=True,
                    )
                location = answer.header("location")
                if answer.status not in REDIRECTS or location is None:
                    return Answered(answer.status, await self._plain(answer, TEXT_BYTES), None, hop)
                hop += 1  # what is wrong from here on is not the asked host's fault
                target = redirected(location, target)
        except Stop as e:
            return Answered(None, b"", f"{e.outcome}: {e.detail}", hop)
        return Answered(404, b"", "more than five redirects")  # RFC 9309: as if it were not there

    @asynccontextmanager
    async def _one_at_a_time(self, host: str) -> AsyncIterator[None]:
        """Hundreds of parked domains may all lead to the robots.txt of one host, whose gate knows nothing of it."""
        async with self._elsewhere.setdefault(host, asyncio.Lock()):
            yield
            if self.spec.host_rate is not None and "host_limits" not in self.spec.ignore:
                await asyncio.sleep(1 / self.spec.host_rate)


# ---------------------------------------------------------------------------------------------- small parts


def _fine(status: int, _: Headers) -> bool:
    return 200 <= status < 300


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
