"""A client of OpenAI-compatible servers (vLLM, SGLang, `transformers serve`, paid ones): many requests, some servers.

    client = Client(["http://gpu1:8000/v1", "http://gpu2:8000/v1"], "llava-1.5-7b", Sampling("nucleus", p=0.9))
    answers = client.ask([Request("Describe the picture.", image=jpeg, key=f"{uid}/0")])
    answers[0].text, answers[0].error, answers[0].completion_tokens
    client.close()

Requests go to the server with the fewest in flight. What goes wrong is of two kinds. A *sample's* fault (an answer that
is no JSON, HTTP 400 or 500) is tried again some times and ends as an `Answer` with an `error`. A *service's* fault
(nobody listens, 429, 503, a wrong key, late for want of places) ends no sample: servers rest and come back, or get
fewer at once, and where none gives an answer for `patience_s`, `ask` raises `ServiceError`, so that nothing is recorded
as failed and the next run asks again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from threading import Thread
from typing import Any
from urllib.parse import urlsplit
from weakref import finalize

from stages.endpoint_asking import Asking
from stages.endpoint_terms import Options as Options
from stages.endpoint_terms import ServiceError as ServiceError
from stages.endpoint_terms import Tally as Tally
from stages.endpoint_wire import Answer as Answer
from stages.endpoint_wire import Request as Request
from stages.endpoint_wire import drawn
from training_smoke.sampling import Sampling


class Client:
    """Servers of one model. Has a thread of its own with an event loop; may be used from any thread.

    urls: up to and with `/v1`. sampling: greedy, nucleus or top_k; `max_tokens` bounds the answer.
    extra: further fields of each request's body: {"response_format": {"type": "json_object"}}; null removes one.

    Raises:
        ValueError: no urls, a url that is none, beams, or `key_env` names no variable; aiohttp is missing.
    """

    def __init__(
        self,
        urls: Sequence[str],
        model: str,
        sampling: Sampling = Sampling(),
        options: Options = Options(),
        extra: Mapping[str, Any] | None = None,
    ) -> None:
        further = dict(extra or {})
        draw = {} if sampling.kind == "beam" and further else drawn(sampling)
        body = {"model": model, "max_tokens": sampling.max_tokens} | draw | further
        asking = Asking(addresses(urls), body, sampling.seed, options)
        self._asking, self._loop = asking, event_loop()
        thread = Thread(target=self._loop.run_forever, name="endpoint", daemon=True)
        thread.start()
        self._end = finalize(self, _end, asking, self._loop, thread)

    @property
    def tally(self) -> Tally:
        """What was asked and spent so far."""
        return self._asking.tally

    def ask(self, requests: Sequence[Request]) -> list[Answer]:
        """Answers in the order of the requests. Images are read from another thread while this one waits.

        Raises:
            ServiceError: no server answers, or they refuse for a reason that is no sample's.
        """
        coming = self.submit(requests)
        try:
            return coming.result()
        finally:
            coming.cancel()

    def submit(self, requests: Sequence[Request]) -> Future[list[Answer]]:
        """Begin to ask, and return at once; several calls share the servers' places."""
        return asyncio.run_coroutine_threadsafe(self._asking.answers(requests), self._loop)

    def close(self) -> None:
        """End the thread and the connections; requests in flight are given up."""
        self._end()


def addresses(urls: Sequence[str]) -> tuple[str, ...]:
    """The urls without a slash at their end.

    Raises:
        ValueError: none, twice the same, or one that is no http(s) address; or it has a key or password in it.
    """
    found = tuple(url.rstrip("/") for url in urls)
    for url in found:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"{url!r} is no address of a server, such as http://localhost:8000/v1")
        if parts.username or parts.password or parts.query or parts.fragment:
            raise ValueError(f"the address of {parts.hostname} has a password or a query: name the key by `key_env`")
    if not found or len(set(found)) < len(found):
        raise ValueError(f"urls {list(found)}: name at least one server, and each once")
    return found


def event_loop() -> asyncio.AbstractEventLoop:
    import uvloop

    return uvloop.new_event_loop()


def _end(asking: Asking, loop: asyncio.AbstractEventLoop, thread: Thread) -> None:
    """Close what is open in the loop, then the loop itself."""
    asyncio.run_coroutine_threadsafe(asking.close(), loop).result(timeout=10)
    loop.call_soon_threadsafe(loop.stop)
    thread.join(timeout=10)
    loop.close()
