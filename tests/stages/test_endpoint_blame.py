"""Whose fault it is: a sample's, which is null for ever, or a server's, which ends the run and leaves nothing."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Timer
from typing import Any

import pytest

pytest.importorskip("aiohttp", reason="aiohttp is not installed: endpoints are not tested")

from aiohttp import web

from stages import endpoint_asking, endpoint_pool
from stages.endpoint_client import Answer, Client, Options, Request, ServiceError
from tests.openai_server import OpenAiServer, Seen


@pytest.fixture
def server() -> Iterator[OpenAiServer]:
    with OpenAiServer() as server:
        yield server


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    """Rests and pauses as short beside the deadlines as they are in earnest; nothing heard by other tests."""
    for module, name in ((endpoint_pool, "REST"), (endpoint_asking, "PAUSE")):
        for which in (f"FIRST_{name}_S", f"LONGEST_{name}_S"):
            monkeypatch.setattr(module, which, getattr(module, which) / 300)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))


def many(count: int, word: str = "say") -> list[Request]:
    return [Request(f"{word} {number}.", key=f"{number}/0") for number in range(count)]


def asked(server: OpenAiServer, requests: list[Request], **options: Any) -> list[Answer]:
    client = Client([server.url], "tiny", options=Options(**options))
    try:
        return client.ask(requests)
    finally:
        client.close()


def failed(answers: list[Answer]) -> list[int]:
    return [number for number, answer in enumerate(answers) if answer.error]


def probes(server: OpenAiServer) -> list[Seen]:
    return [seen for seen in server.seen if "JSON" in seen.prompt]


@pytest.mark.parametrize("patience_s", [1.0, 0.15])
def test_samples_that_nobody_answers_in_time_fail_and_the_others_are_kept(
    server: OpenAiServer, patience_s: float
) -> None:
    """Each takes `tries` deadlines by itself, longer together than the patience; a patience may be shorter than one."""
    server.poison, server.slow_s = {"say 5.": "slow", "say 14.": "slow", "say 23.": "slow"}, 60.0
    server.delay_s = 0.005
    answers = asked(server, many(64), deadline_s=0.3, patience_s=patience_s, tries=3)
    assert failed(answers) == [5, 14, 23]
    assert {answers[number].error for number in (5, 14, 23)} == {"no whole answer within 0.3 s"}
    assert all(len([seen for seen in server.seen if seen.prompt == f"say {number}."]) >= 3 for number in (5, 14, 23))


class OneByOne(OpenAiServer):
    """Leaves off when who asked has gone, as vLLM does."""

    async def start(self) -> None:
        app = web.Application()
        app.add_routes([web.post("/v1/chat/completions", self._complete)])
        self._runner = web.AppRunner(app, shutdown_timeout=0.1, handler_cancellation=True)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.port = self._runner.addresses[0][1]
        self._slot = asyncio.Semaphore(1)


@pytest.mark.parametrize("workers", [4, 12])
def test_a_slow_server_serves_all_who_share_it(workers: int) -> None:
    """Eight answers within the deadline, in the order of asking, and each worker would have more at once."""
    options = Options(deadline_s=0.4, patience_s=2.0)
    with OneByOne(delay_s=0.05) as server, ThreadPoolExecutor(workers) as threads:

        def work(number: int) -> list[Answer]:
            client = Client([server.url], "tiny", options=options)
            try:
                return client.ask([Request(f"say {number}/{k}", key=f"{number}/{k}") for k in range(10)])
            finally:
                client.close()

        answers = [answer for found in threads.map(work, range(workers)) for answer in found]
    assert [answer.error for answer in answers] == [None] * 10 * workers


@pytest.mark.parametrize("count", [1, 40])
def test_a_silent_server_ends_the_run_in_about_the_patience(server: OpenAiServer, count: int) -> None:
    server.poison, server.slow_s = {"": "slow"}, 60.0
    began = time.monotonic()
    with pytest.raises(ServiceError, match=r"no server has answered for 1 s \(http.*no whole answer within 0.2 s\)"):
        asked(server, many(count), deadline_s=0.2, patience_s=1.0)
    assert 1.0 <= time.monotonic() - began < 3.0


@pytest.mark.parametrize("fault", ["503", "429"])
def test_a_server_that_only_refuses_the_samples_ends_the_run(server: OpenAiServer, fault: str) -> None:
    """As a gateway that gives each of them up: that it would answer a harmless question mends nothing."""
    server.poison, server.retry_after = {"say": fault}, "0.05"
    began = time.monotonic()
    with pytest.raises(ServiceError, match=r"no server has answered for 0.5 s \(http"):
        asked(server, many(20), patience_s=0.5)
    assert time.monotonic() - began < 3.0
    assert probes(server) == []


def test_a_sample_that_is_late_at_a_busy_server_is_not_asked_for_ever(server: OpenAiServer) -> None:
    """A harmless question takes more than half of the deadline: it may be for others, but one in four counts."""
    server.poison, server.slow_s, server.delay_s = {"say 1.": "slow"}, 60.0, 0.4
    answers = asked(server, many(2), deadline_s=0.6, patience_s=5.0, tries=1)
    assert failed(answers) == [1]
    assert len([seen for seen in server.seen if seen.prompt == "say 1."]) >= 4


def test_a_key_that_is_revoked_fails_no_sample(server: OpenAiServer) -> None:
    answered = []

    def talk(body: dict[str, Any]) -> tuple[str, int, int]:
        answered.append(body)
        if len(answered) == 30:
            server.poison = {"": "403"}
        return "a dog", 1, 2

    server.talk = talk
    client = Client([server.url], "tiny", options=Options(concurrency=8, patience_s=0.6))
    with pytest.raises(ServiceError, match=r"HTTP 403.*it refuses the API key"):
        client.ask(many(200))
    tally = client.tally
    client.close()
    assert len(answered) >= 30
    assert tally.failed == 0


def test_a_block_that_a_firewall_refuses_fails_by_few_harmless_questions(server: OpenAiServer) -> None:
    server.poison, server.delay_s = {"bad": "403"}, 0.01
    answers = asked(server, [*many(8), *many(30, "bad"), *many(8)], concurrency=16)
    assert failed(answers) == list(range(8, 38))
    assert all((answers[number].error or "").startswith("HTTP 403") for number in range(8, 38))
    assert 0 < len(probes(server)) < 30


@pytest.mark.parametrize("refusal", ["400", "403"])
@pytest.mark.parametrize("busy", ["429", "503", "500", "slow"])
def test_a_busy_server_is_asked_the_harmless_question_again(server: OpenAiServer, refusal: str, busy: str) -> None:
    """A block of pictures is refused while the server has no time to show that it answers others."""
    server.poison, server.slow_s, server.retry_after = {"bad": refusal, "JSON": busy}, 60.0, "0.05"
    calm = Timer(0.6, lambda: setattr(server, "poison", {"bad": refusal}))
    calm.start()
    answers = asked(server, [*many(30, "bad"), *many(5)], give_up=8, deadline_s=0.3, patience_s=10.0)
    calm.join()
    assert failed(answers) == list(range(30))
    assert all((answers[number].error or "").startswith(f"HTTP {refusal}") for number in range(30))
    assert len(probes(server)) > 1


@pytest.mark.parametrize("refusal", ["400", "403"])
def test_a_server_that_stays_busy_ends_the_run(server: OpenAiServer, refusal: str) -> None:
    server.poison, server.retry_after = {"bad": refusal, "JSON": "429"}, "0.05"
    began = time.monotonic()
    with pytest.raises(ServiceError, match=r"no server has answered for 0.5 s \(http.*HTTP 429"):
        asked(server, many(30, "bad"), give_up=8, patience_s=0.5)
    assert time.monotonic() - began < 5


def test_a_harmless_question_that_is_refused_ends_the_run(server: OpenAiServer) -> None:
    server.poison = {"bad": "400", "JSON": "400"}
    with pytest.raises(ServiceError, match="8 requests in a row failed, the last with: HTTP 400"):
        asked(server, many(30, "bad"), give_up=8)
