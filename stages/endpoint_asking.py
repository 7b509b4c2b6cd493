"""One event loop's work of `stages.endpoint_client`: take a place, send, read, try again or give up.

No sample is blamed for what would have met any other. A request that nothing came back of in time counts as a try of
its own where the server gave so many other answers meanwhile that it cannot be for want of places, or where it was
alone there and a harmless question is answered (stages/endpoint_probe.py). Else it is asked again, and the server gets
fewer at once: a server that is slow, and busy with others, makes no sample fail. So it is with who is forbidden.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import count
from typing import Any

from stages.endpoint_limits import Heard
from stages.endpoint_pool import Pool, Server
from stages.endpoint_probe import Probe
from stages.endpoint_terms import Options, ServiceError, Tally, Usage, key_of, rate_of, sum_of, total_of
from stages.endpoint_wire import Answer, Request, SampleFault, ServiceFault, UnfitRequest, Unheard, body_of, read_answer

FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.25, 8.0  # between tries of one request
CONNECT_S = 10.0
IMAGE_TOKENS, CHARACTERS_A_TOKEN = 800, 3  # a guess for rates, put right by what the server counts
TURNS = 3  # answers to others, for each place in use, after which a request that still waits is late by itself
BUSY = 4  # requests that are late alone at a busy server, of which one counts as a try
INSTALL = "pip install aiohttp"


class Asking:
    """Servers, connections and counts. Made in any thread, used in one event loop.

    body: fields that every request has.
    """

    def __init__(self, urls: Sequence[str], body: Mapping[str, Any], seed: int, options: Options) -> None:
        try:
            import aiohttp
        except ImportError as e:
            raise ValueError(f"asking a server needs aiohttp ({e}): {INSTALL}") from e
        self._http = aiohttp
        self._session: aiohttp.ClientSession | None = None
        self._body, self._seed, self._options = dict(body), seed, options
        self._key = key_of(options.key_env)
        name = f"{' '.join(sorted(urls))} {options.key_env}"
        heard = Heard(f"{name} {self._body.get('model')}", min(1.0, options.patience_s / 10))
        self._pool = Pool([Server(url, options.concurrency) for url in urls], heard)
        self._probe = Probe(self._pool, self._probed)
        self._requests = rate_of(options.requests_per_minute, f"requests {name}")
        self._tokens = rate_of(options.tokens_per_minute, f"tokens {name}")
        self._active = self._held = 0
        self._in_a_row = {True: 0, False: 0}  # failed though tried again; refused
        self._rank, self._busy = count(), count(1)
        self.tally = Tally()

    async def answers(self, requests: Sequence[Request]) -> list[Answer]:
        """In the order of the requests; no more of them are under way than there are places."""
        found: dict[int, Answer] = {}
        rank = next(self._rank)
        numbers = iter(range(len(requests)))

        async def work() -> None:
            for number in numbers:
                found[number] = await self._answer(requests[number], rank)

        if not self._active:  # what was silent while nobody asked was not silent
            self._pool.good_at = asyncio.get_running_loop().time()
        self._active += 1
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(min(len(requests), sum(server.places for server in self._pool.servers))):
                    group.create_task(work())
        except ExceptionGroup as e:
            raise e.exceptions[0] from None
        finally:
            self._active -= 1
        return [found[number] for number in range(len(requests))]

    async def close(self) -> None:
        others = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        if self._session is not None:
            await self._session.close()

    async def _answer(self, request: Request, rank: int) -> Answer:
        """Until it is answered, has failed for good, or the service is given up; calls of lower rank go first."""
        self.tally.asked += 1
        spent: list[Usage] = []  # of each try that was a fault of its own
        while True:
            server = await self._place(request, rank)
            try:
                answer = await self._understood(server, request)
            except ServiceFault as fault:
                self._refused(server, fault)
            except UnfitRequest as fault:
                self._pool.left(server)
                self.tally.failed += 1
                return Answer(None, str(fault), tries=len(spent))
            except SampleFault as fault:
                if self._blamed(server, fault):
                    spent.append(self._counted(fault.usage))
                    if not fault.again or len(spent) >= self._options.tries:
                        return await self._failed(request, rank, fault, spent)
                    pause = min(FIRST_PAUSE_S * 2.0 ** (len(spent) - 1), LONGEST_PAUSE_S)
                    await asyncio.sleep(pause * random.uniform(0.5, 1.0))
            except BaseException:
                self._pool.left(server)
                raise
            else:
                self._pool.answered(server)
                return self._good(answer, spent)

    async def _place(self, request: Request, rank: int) -> Server:
        """A place for the request, for which it may have to wait.

        Raises:
            ServiceError: no server has answered for so long, and none that does not refuse answers a harmless question.
        """
        if (free := self._pool.take_free()) is not None:
            return free
        while True:
            left = self._left_s()
            if left <= 0:
                if not self._all_held():  # it may be for samples that no server can answer, or for those who share it
                    if not await self._probe.answered_by_any(request) and self._left_s() <= 0:
                        raise ServiceError(self._silence())
                    continue
                left = 1.0
            try:
                async with asyncio.timeout(left):
                    return await self._pool.take(rank)
            except TimeoutError:
                continue

    def _left_s(self) -> float:
        """Of the patience, in seconds."""
        return self._options.patience_s - self._pool.silent_s()

    def _all_held(self) -> bool:
        """Whether nobody is asked because of the rates, so that no server can answer."""
        return self._held > 0 and self._held >= sum(server.flying for server in self._pool.servers)

    async def _understood(self, server: Server, request: Request) -> Answer:
        """One try. What no waiting mends is final only where no server has ever answered and nobody else's is out.

        Raises:
            ServiceError: each server refuses for such a reason.
            ServiceFault, SampleFault: of this try; a harmless question tells which, where the try alone does not.
        """
        try:
            return await self._tried(server, request)
        except Unheard as fault:
            if fault.late and fault.alone and not fault.own:
                fault.own = await self._to_blame(server, request)
            raise
        except ServiceFault as fault:
            if fault.filter and await self._probe.answered(server, request):
                raise SampleFault(str(fault).partition(";")[0], again=False) from None
            if fault.final:
                server.barred = True
                if server.flying == 1 and all(other.barred and not other.answers for other in self._pool.servers):
                    raise ServiceError(f"{server.url}: {self._told(fault)}") from None
            raise

    async def _to_blame(self, server: Server, request: Request) -> bool:
        """Whether a request that was late alone is at fault: a harmless question is answered, and soon.

        Where it takes long others may share the server; one in BUSY counts all the same, or a sample that nobody can
        answer would be asked for ever.

        Raises:
            ServiceFault: the server says how long to wait.
        """
        began = time.monotonic()
        try:
            answered = await self._probe.answered(server, request)
        except ServiceFault as fault:
            if fault.pause_s is not None:
                raise
            return False
        soon = time.monotonic() - began <= self._options.deadline_s / 2
        return answered and (soon or next(self._busy) % BUSY == 0)

    async def _probed(self, server: Server, request: Request) -> None:
        answer = await self._tried(server, request)
        self._counted((answer.prompt_tokens, answer.completion_tokens))

    def _refused(self, server: Server, fault: ServiceFault) -> None:
        self.tally.refused += 1
        self._pool.refused(server, self._told(fault), fault.pause_s)

    def _blamed(self, server: Server, fault: SampleFault) -> bool:
        """Tell the pool; whether the fault is the request's own, so that it is one of its tries."""
        told = self._told(fault)
        if not isinstance(fault, Unheard):
            if fault.again:
                self._pool.stumbled(server, told)
            else:  # a server that says why it refuses is at work
                self._pool.answered(server)
            return True
        if fault.late and not fault.alone and not fault.own:
            self._pool.late(server, told, fault.since)
        elif fault.late and fault.alone:  # fewer than one at once, and ever fewer, where many workers ask
            busy_s = max(self._options.deadline_s, self._pool.own_silence_s())
            self._pool.refused(server, told, random.uniform(0, busy_s / 2), late=True)
        elif fault.own:
            self._pool.stumbled(server, told)
        else:
            self._pool.refused(server, told, None)
        self.tally.refused += not fault.own
        return fault.own

    async def _tried(self, server: Server, request: Request) -> Answer:
        """One try, within the rates and the deadline. What the rates gave and nobody used is given back."""
        guess = self._guess(request) if self._tokens is not None else 0.0
        wait = self._requests.take(1) if self._requests is not None else 0.0
        wait = max(wait, self._tokens.take(guess)) if self._tokens is not None else wait
        sent, used = 0, 0.0
        try:
            if wait:
                await self._hold(wait)
            body = body_of(request, self._body, self._seed)
            sent, used = 1, guess
            answer = await self._sent(server, body)
            used = sum_of(answer.prompt_tokens, answer.completion_tokens) or guess
            return answer
        except SampleFault as fault:
            if not isinstance(fault, Unheard):
                used = sum_of(*fault.usage)
            raise
        except ServiceFault:
            used = 0.0
            raise
        finally:
            if self._requests is not None and not sent:
                self._requests.give_back(1)
            if self._tokens is not None:
                self._tokens.give_back(guess - used)

    async def _hold(self, seconds: float) -> None:
        """Wait for the rates; while all wait, no server is silent."""
        self._held += 1
        try:
            await asyncio.sleep(seconds)
        finally:
            if self._all_held():
                self._pool.good_at = asyncio.get_running_loop().time()
            self._held -= 1

    def _guess(self, request: Request) -> float:
        """Tokens of a request and its answer, at most or so."""
        image = IMAGE_TOKENS if request.image is not None else 0
        return len(request.prompt) / CHARACTERS_A_TOKEN + image + (self._body.get("max_tokens") or 0)

    async def _sent(self, server: Server, body: bytes) -> Answer:
        self.tally.sent += 1
        http, most = self._http, self._options.longest_answer
        url = f"{server.url}/chat/completions"
        since, crowd, before = asyncio.get_running_loop().time(), server.flying, server.answers
        heard = False

        def unheard(reason: str, late: bool) -> Unheard:
            alone = crowd == server.flying == 1
            own = server.answers - before >= TURNS * crowd if late else alone
            return Unheard(reason, late, alone, own, since)

        try:
            async with self._connections().post(url, data=body, allow_redirects=False) as response:
                heard = True
                said = bytearray()
                async for piece in response.content.iter_chunked(1 << 16):
                    said += piece
                    if len(said) > most:
                        raise SampleFault(f"the answer has more than {most} bytes")
                return read_answer(response.status, response.headers, bytes(said), time.time(), self._key)
        except (http.ClientConnectorError, http.ConnectionTimeoutError) as e:
            raise ServiceFault(f"no connection ({type(e).__name__})") from None
        except TimeoutError:
            raise unheard(f"no whole answer within {self._options.deadline_s:g} s", late=True) from None
        except http.ClientError as e:  # it broke off, or is no HTTP
            broke = f"the answer broke off ({type(e).__name__})"
            if isinstance(e, http.ServerDisconnectedError | http.ClientOSError) and not heard:
                raise unheard(broke, late=False) from None
            raise SampleFault(broke) from None

    def _connections(self) -> Any:
        if self._session is None:
            headers = {"Content-Type": "application/json", "Accept-Encoding": "identity"}
            if self._key:
                headers["Authorization"] = f"Bearer {self._key}"
            deadline = self._options.deadline_s
            self._session = self._http.ClientSession(
                connector=self._http.TCPConnector(limit=0),
                timeout=self._http.ClientTimeout(total=deadline, sock_connect=min(CONNECT_S, deadline)),
                headers=headers,
                auto_decompress=False,
            )
        return self._session

    def _good(self, answer: Answer, spent: Sequence[Usage]) -> Answer:
        """The answer, without the key, with what its tries before have cost."""
        self._in_a_row = {True: 0, False: 0}
        own = self._counted((answer.prompt_tokens, answer.completion_tokens))
        if spent:
            prompt, completion = total_of([*spent, own])
            tries = len(spent) + 1
            answer = replace(answer, prompt_tokens=prompt, completion_tokens=completion, tries=tries)
        if self._key and answer.text and self._key in answer.text:
            return replace(answer, text=answer.text.replace(self._key, "***"))
        return answer

    async def _failed(self, request: Request, rank: int, fault: SampleFault, spent: Sequence[Usage]) -> Answer:
        """The answer of a request that failed for good.

        Raises:
            ServiceError: too many did so in a row, and were tried again, or a harmless question is refused too.
        """
        answer = Answer(None, self._told(fault), None, *total_of(spent), tries=len(spent))
        self.tally.failed += 1
        self._in_a_row[fault.again] += 1
        row = self._in_a_row[fault.again]
        if row < self._options.give_up:
            return answer
        self._in_a_row[fault.again] = 0
        if not fault.again and await self._at_work(request, rank):
            return answer
        raise ServiceError(
            f"{row} requests in a row failed, the last with: {answer.error}; see to the server, "
            "its model and the prompt, and run again"
        )

    async def _at_work(self, request: Request, rank: int) -> bool:
        """Whether a server answers a harmless question; one that is too busy to say is asked again later.

        Raises:
            ServiceError: none has answered anybody meanwhile, for as long as the patience is.
        """
        while True:
            server = await self._place(request, rank)
            try:
                answered = await self._probe.answered(server, request)
            except ServiceFault as fault:
                self._refused(server, fault)
            except BaseException:
                self._pool.left(server)
                raise
            else:
                self._pool.left(server)
                return answered

    def _counted(self, usage: Usage) -> Usage:
        self.tally.prompt_tokens += usage[0] or 0
        self.tally.completion_tokens += usage[1] or 0
        return usage

    def _told(self, fault: Exception) -> str:
        return str(fault).replace(self._key, "***") if self._key else str(fault)

    def _silence(self) -> str:
        said = "; ".join(f"{server.url}: {server.last or 'no answer yet'}" for server in self._pool.servers)
        return (
            f"no server has answered for {self._options.patience_s:g} s ({said}): start one, or give it longer "
            "(`deadline_s`, `patience_s`), and run again"
        )
