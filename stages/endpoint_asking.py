"""One event loop's work of `stages.endpoint_client`: take a place, send, read, try again or give up."""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import count
from typing import Any

from stages.endpoint_limits import Rate
from stages.endpoint_pool import Pool, Server
from stages.endpoint_wire import Answer, Request, SampleFault, ServiceFault, UnfitRequest, body_of, read_answer

FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.25, 8.0  # between tries of one request
CONNECT_S = 10.0
IMAGE_TOKENS, CHARACTERS_A_TOKEN = 800, 3  # a guess for rates, put right by what the server counts
INSTALL = "pip install aiohttp"


class ServiceError(ValueError):
    """No server answers, or none will: says which, why and what to do. No request of the call has an answer."""


@dataclass(frozen=True)
class Options:
    """How servers are asked; none of it decides what they say.

    key_env: name of the environment variable that has the API key; its value is in no file, log or message.
    concurrency: requests in flight at one server.
    requests_per_minute, tokens_per_minute: over all servers and all workers of this machine; tokens of prompt and
        answer, guessed when sent and put right by what the server counts.
    deadline_s: of one try. tries: of one request, faults of the service not counted.
    patience_s: without an answer from any server, before `ask` raises. give_up: failed requests in a row, with no good
        answer between them, before it raises.
    longest_answer: bytes of one answer's body; what is longer is a fault and is not read to its end.
    """

    key_env: str | None = None
    concurrency: int = 32
    requests_per_minute: float | None = None
    tokens_per_minute: float | None = None
    deadline_s: float = 120.0
    tries: int = 4
    patience_s: float = 600.0
    give_up: int = 64
    longest_answer: int = 1 << 20


@dataclass
class Tally:
    """Counts since the client was made. sent: tries. failed: requests that ended with an `error`. refused: tries that
    were no request's fault. Tokens as servers count them.
    """

    asked: int = 0
    sent: int = 0
    failed: int = 0
    refused: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0


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
        self._key = _key(options.key_env)
        self._pool = Pool([Server(url, options.concurrency) for url in urls])
        name = f"{' '.join(sorted(urls))} {options.key_env}"
        self._requests = _rate(options.requests_per_minute, f"requests {name}")
        self._tokens = _rate(options.tokens_per_minute, f"tokens {name}")
        self._active = self._failed_in_a_row = 0
        self._rank = count()
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
        tries = 0
        while True:
            server = await self._place(rank)
            try:
                answer = await self._tried(server, request)
            except ServiceFault as fault:
                self.tally.refused += 1
                self._pool.refused(server, self._told(fault), fault.pause_s)
                if fault.final:
                    raise ServiceError(f"{server.url}: {self._told(fault)}") from None
            except UnfitRequest as fault:
                self._pool.left(server)
                self.tally.failed += 1
                return Answer(None, str(fault), tries=tries)
            except SampleFault as fault:
                tries += 1
                if fault.again:
                    self._pool.stumbled(server, self._told(fault))
                else:  # a server that says why it refuses is at work
                    self._pool.answered(server)
                if not fault.again or tries >= self._options.tries:
                    return self._failed(Answer(None, self._told(fault), tries=tries))
                pause = min(FIRST_PAUSE_S * 2.0 ** (tries - 1), LONGEST_PAUSE_S)
                await asyncio.sleep(pause * random.uniform(0.5, 1.0))
            except BaseException:
                self._pool.left(server)
                raise
            else:
                self._pool.answered(server)
                return self._good(replace(answer, tries=tries + 1) if tries else answer)

    async def _place(self, rank: int) -> Server:
        if (free := self._pool.take_free()) is not None:
            return free
        loop = asyncio.get_running_loop()
        while True:
            left = self._pool.good_at + self._options.patience_s - loop.time()
            if left <= 0:
                raise ServiceError(self._silence())
            try:
                async with asyncio.timeout(left):
                    return await self._pool.take(rank)
            except TimeoutError:
                continue

    async def _tried(self, server: Server, request: Request) -> Answer:
        """One try, within the rates and the deadline."""
        wait = self._requests.take(1) if self._requests is not None else 0.0
        guess = used = 0.0
        if self._tokens is not None:
            guess = self._guess(request)
            wait = max(wait, self._tokens.take(guess))
        if wait:
            await asyncio.sleep(wait)
        try:
            answer = await self._sent(server, body_of(request, self._body, self._seed))
            used = (answer.prompt_tokens or 0) + (answer.completion_tokens or 0) or guess
        finally:
            if self._tokens is not None:
                self._tokens.give_back(guess - used)
        return answer

    def _guess(self, request: Request) -> float:
        """Tokens of a request and its answer, at most or so."""
        image = IMAGE_TOKENS if request.image is not None else 0
        return len(request.prompt) / CHARACTERS_A_TOKEN + image + (self._body.get("max_tokens") or 0)

    async def _sent(self, server: Server, body: bytes) -> Answer:
        self.tally.sent += 1
        http, most = self._http, self._options.longest_answer
        url = f"{server.url}/chat/completions"
        try:
            async with self._connections().post(url, data=body, allow_redirects=False) as response:
                said = bytearray()
                async for piece in response.content.iter_chunked(1 << 16):
                    said += piece
                    if len(said) > most:
                        raise SampleFault(f"the answer has more than {most} bytes")
                return read_answer(response.status, response.headers, bytes(said), time.time())
        except (http.ClientConnectorError, http.ConnectionTimeoutError) as e:
            raise ServiceFault(f"no connection ({type(e).__name__})") from None
        except TimeoutError:
            raise SampleFault(f"no whole answer within {self._options.deadline_s:g} s") from None
        except http.ClientError as e:  # it broke off, or is no HTTP
            raise SampleFault(f"the answer broke off ({type(e).__name__})") from None

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

    def _good(self, answer: Answer) -> Answer:
        self._failed_in_a_row = 0
        self.tally.prompt_tokens += answer.prompt_tokens or 0
        self.tally.completion_tokens += answer.completion_tokens or 0
        if self._key and answer.text and self._key in answer.text:
            return replace(answer, text=answer.text.replace(self._key, "***"))
        return answer

    def _failed(self, answer: Answer) -> Answer:
        self.tally.failed += 1
        self._failed_in_a_row += 1
        if self._failed_in_a_row >= self._options.give_up:
            raise ServiceError(
                f"{self._failed_in_a_row} requests in a row failed, the last with: {answer.error}; see to the server, "
                "its model and the prompt, and run again"
            )
        return answer

    def _told(self, fault: Exception) -> str:
        return str(fault).replace(self._key, "***") if self._key else str(fault)

    def _silence(self) -> str:
        said = "; ".join(f"{server.url}: {server.last or 'no answer yet'}" for server in self._pool.servers)
        return f"no server has answered for {self._options.patience_s:g} s ({said}): start one, and run again"


def _key(variable: str | None) -> str | None:
    if variable is None:
        return None
    found = os.environ.get(variable, "").strip()
    if not found:
        raise ValueError(f"`key_env: {variable}`: there is no such environment variable here: export it, and run again")
    return found


def _rate(per_minute: float | None, name: str) -> Rate | None:
    return None if per_minute is None else Rate(per_minute, name)
