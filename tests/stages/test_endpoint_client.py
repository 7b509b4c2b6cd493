"""The client against a server that does all that servers do: busy, slow, broken, gone, back again."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest

pytest.importorskip("aiohttp", reason="aiohttp is not installed: endpoints are not tested")

from hypothesis import given
from hypothesis import strategies as st

from stages.endpoint_client import Answer, Client, Options, Request, ServiceError
from stages.endpoint_wire import LONGEST_PAUSE_S, SampleFault, ServiceFault, read_answer, retry_after
from tests.openai_server import OpenAiServer, started
from tests.tiny import jpeg
from training_smoke.sampling import Sampling

NUCLEUS = Sampling("nucleus", p=0.8, temperature=0.7, max_tokens=9, seed=5)
MENDED = ["429", "503", "500", "malformed", "deep", "truncated", "huge", "drop", "empty", "nothing", "slow"]


@pytest.fixture
def server() -> Iterator[OpenAiServer]:
    with OpenAiServer() as server:
        yield server


def many(count: int, word: str = "say") -> list[Request]:
    return [Request(f"{word} {number}", key=f"{number}/0") for number in range(count)]


def asked(server: OpenAiServer, requests: list[Request], sampling: Sampling = NUCLEUS, **options: Any) -> list[Answer]:
    client = Client([server.url], "tiny", sampling, Options(**options))
    try:
        return client.ask(requests)
    finally:
        client.close()


def test_answers_come_in_order_and_hang_on_their_keys(server: OpenAiServer) -> None:
    server.delay_s = 0.002
    first = asked(server, many(40))
    assert all(answer.error is None and answer.tries == 1 and answer.finish == "stop" for answer in first)
    assert asked(server, many(40)[::-1], concurrency=3) == first[::-1]
    assert len({answer.text for answer in first}) == 40
    assert {answer.completion_tokens for answer in first} == {9}


def test_what_is_sent(server: OpenAiServer) -> None:
    picture = jpeg(1)
    asked(server, [Request("look", image=lambda: picture, key="a/1", system="be brief"), Request("read", key="a/2")])
    one, two = sorted((seen.body for seen in server.seen), key=lambda body: len(body["messages"]), reverse=True)
    assert one["messages"][0] == {"role": "system", "content": "be brief"}
    assert [part["type"] for part in one["messages"][1]["content"]] == ["image_url", "text"]
    assert {seen.image for seen in server.seen} == {picture, None}
    assert two["messages"] == [{"role": "user", "content": "read"}]
    assert one["seed"] != two["seed"]
    common = {"model": "tiny", "max_tokens": 9, "temperature": 0.7, "top_p": 0.8, "stream": False}
    assert common.items() <= two.items()
    assert all(seen.key is None for seen in server.seen)


def test_ways_to_draw(server: OpenAiServer) -> None:
    asked(server, many(1), Sampling("greedy"))
    asked(server, many(1), Sampling("top_k", k=7))
    client = Client([server.url], "tiny", Sampling("beam", max_tokens=4), extra={"use_beam_search": True, "seed": None})
    client.ask(many(1))
    client.close()
    greedy, top_k, beams = (seen.body for seen in server.seen)
    assert beams["use_beam_search"] is True
    assert (beams["max_tokens"], "seed" in beams) == (4, False)
    assert greedy["temperature"] == 0
    assert "top_p" not in greedy
    assert top_k["top_k"] == 7
    with pytest.raises(ValueError, match="no common word for beams"):
        Client([server.url], "tiny", Sampling("beam"))


@pytest.mark.parametrize("fault", MENDED)
def test_another_try_mends_it(server: OpenAiServer, fault: str) -> None:
    server.faults = [fault]
    (answer,) = asked(server, many(1), deadline_s=0.7, longest_answer=1 << 16)
    assert answer.error is None
    assert len([seen for seen in server.seen if seen.prompt == "say 0"]) == 2


def test_it_waits_as_long_as_it_is_told(server: OpenAiServer) -> None:
    server.faults, server.retry_after = ["429"], "1"
    assert asked(server, many(1))[0].text
    first, second = (seen.at for seen in server.seen)
    assert 1.0 <= second - first < 3


@pytest.mark.parametrize(("fault", "said"), [("500", "HTTP 500: no <b>500</b> today"), ("malformed", "no JSON")])
def test_one_bad_sample_fails_alone(server: OpenAiServer, fault: str, said: str) -> None:
    server.poison = {"say 3": fault}
    answers = asked(server, many(9), tries=2)
    assert [number for number, answer in enumerate(answers) if answer.error] == [3]
    assert said in (answers[3].error or "")
    assert answers[3] == Answer(None, answers[3].error, tries=2)


@pytest.mark.parametrize(("fault", "said"), [("400", "HTTP 400"), ("filtered", "content filter")])
def test_what_no_try_mends_is_not_tried_again(server: OpenAiServer, fault: str, said: str) -> None:
    server.poison = {"say 1": fault}
    answers = asked(server, many(3))
    assert [answer.error is None for answer in answers] == [True, False, True]
    assert said in (answers[1].error or "")
    assert len(server.seen) == 3


@pytest.mark.parametrize(("fault", "said"), [("401", "key_env"), ("404", "GET /v1/models")])
def test_what_is_no_samples_fault_ends_the_call(
    server: OpenAiServer, fault: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TINY_KEY", "sk-secret-123")
    server.poison = {"say": fault}
    with pytest.raises(ServiceError, match=said) as caught:
        asked(server, many(5), key_env="TINY_KEY")
    assert server.url in str(caught.value)
    assert "secret" not in str(caught.value)
    assert server.seen[0].key == "Bearer sk-secret-123"


def test_the_key_is_in_no_answer(server: OpenAiServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TINY_KEY", "sk-secret-123")
    server.poison = {"say 0": "echo", "say 1": "400"}
    told = asked(server, many(2), key_env="TINY_KEY")
    assert "secret" not in str(told)
    for fill in range(140, 201):  # wherever the server's words are cut
        for body in (json.dumps({"error": "x" * fill + " sk-secret-123"}), "x" * fill + " " * 600 + "sk-secret-123"):
            with pytest.raises(SampleFault) as caught:
                read_answer(400, {}, body.encode(), 0.0, "sk-secret-123")
            assert "sk-" not in str(caught.value)
    assert told[0].text == "the key is Bearer ***"
    with pytest.raises(ValueError, match=r"NO_SUCH_KEY.*export it"):
        Client([server.url], "tiny", options=Options(key_env="NO_SUCH_KEY"))


def test_nobody_listens() -> None:
    client = Client(["http://127.0.0.1:9/v1"], "tiny", options=Options(patience_s=0.6))
    began = time.monotonic()
    with pytest.raises(ServiceError, match=r"no server has answered for 0.6 s \(http://127.0.0.1:9/v1: no connection"):
        client.ask(many(3))
    assert time.monotonic() - began < 5
    client.close()


def test_a_server_that_only_fails_is_given_up(server: OpenAiServer) -> None:
    server.poison = {"": "400"}
    with pytest.raises(ServiceError, match="8 requests in a row failed, the last with: HTTP 400"):
        asked(server, many(400), give_up=8)
    assert len(server.seen) < 400  # those in flight are ended as well, however slow this machine is
    server.poison = {"say": "malformed"}
    with pytest.raises(ServiceError, match="8 requests in a row failed, the last with: the answer is no JSON"):
        asked(server, many(50), give_up=8, tries=1)


def test_a_row_of_samples_that_are_refused_ends_nothing(server: OpenAiServer) -> None:
    """As a block of pictures that the server's moderation refuses: it answers others."""
    server.poison = {"bad": "400"}
    picture = jpeg(1)
    bad = [Request(f"bad {number}", image=picture, key=str(number)) for number in range(30)]
    answers = asked(server, [*bad, *many(5)], give_up=8)
    assert [answer.error is None for answer in answers] == [False] * 30 + [True] * 5
    probes = [seen for seen in server.seen if "JSON" in seen.prompt]
    assert 1 <= len(probes) <= 3  # who want to know at once share one
    assert all(seen.image for seen in probes)


def test_a_slow_server_fails_no_sample() -> None:
    """One answer at a time, and more requests at once than it answers before the deadline."""
    with OpenAiServer(delay_s=0.05, slots=1) as server:
        client = Client([server.url], "tiny", options=Options(concurrency=32, deadline_s=1.0))
        answers = client.ask(many(90))
        tally = client.tally
        client.close()
    assert all(answer.text for answer in answers)
    assert tally.failed == 0
    assert tally.refused > 0  # some were late, and asked again


def test_a_request_that_is_slow_by_itself_fails_alone(server: OpenAiServer) -> None:
    server.poison, server.slow_s = {"say 3": "slow"}, 30.0
    server.delay_s = 0.01
    answers = asked(server, many(20), deadline_s=0.5, tries=2)
    assert [number for number, answer in enumerate(answers) if answer.error] == [3]
    assert answers[3].error == "no whole answer within 0.5 s"


def test_a_connection_that_breaks_is_no_try_of_those_who_shared_it(server: OpenAiServer) -> None:
    server.delay_s, server.faults = 0.1, ["drop"] * 6
    assert [answer.error for answer in asked(server, many(8), tries=1)] == [None] * 8
    server.poison = {"say 3": "drop"}
    answers = asked(server, many(6), tries=2)
    assert [number for number, answer in enumerate(answers) if answer.error] == [3]


def test_one_text_that_a_firewall_refuses_fails_alone(server: OpenAiServer) -> None:
    server.poison = {"say 0": "403"}
    for places in (1, 8):
        answers = asked(server, many(9), concurrency=places)
        assert [number for number, answer in enumerate(answers) if answer.error] == [0]
        assert (answers[0].error or "").startswith("HTTP 403")
    server.poison = {"": "403"}
    with pytest.raises(ServiceError, match="key_env"):
        asked(server, many(9))


@pytest.mark.parametrize("fault", ["404", "401"])
def test_a_server_that_answered_before_rests(server: OpenAiServer, fault: str) -> None:
    server.faults = ["", "", fault]
    assert all(answer.text for answer in asked(server, many(9), concurrency=1))
    server.poison = {"say": fault}
    with OpenAiServer() as good:  # one of two has no such model
        client = Client([server.url, good.url], "tiny", options=Options(concurrency=2))
        assert all(answer.text for answer in client.ask(many(20)))
        client.close()


def test_waiting_for_a_rate_is_no_silence(server: OpenAiServer, tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    options = Options(requests_per_minute=120, patience_s=0.5, concurrency=2)
    client = Client([server.url], "tiny", options=options)
    rate = client._asking._requests
    assert rate is not None
    rate.take(5)  # of another worker: some 1.5 s
    both = [client.submit(many(2)), client.submit(many(2))]  # the second waits for the places of the first
    assert all(answer.text for one in both for answer in one.result(timeout=20))
    coming = client.submit(many(2))  # a second for the second of them
    rate.take(20)
    client.close()
    assert coming.done()
    assert rate.take(1) < 14  # what was given up is given back


def test_two_servers_share_the_work_and_the_slow_one_gets_less() -> None:
    with OpenAiServer(delay_s=0.01) as fast, OpenAiServer(delay_s=0.1) as slow:
        client = Client([fast.url, slow.url], "tiny", options=Options(concurrency=4))
        assert all(answer.text for answer in client.ask(many(120)))
        client.close()
        assert len(fast.seen) + len(slow.seen) == 120
        assert len(fast.seen) > 2 * len(slow.seen) > 0
        assert max(fast.most_flying, slow.most_flying) == 4


def test_a_dead_server_is_left_alone(server: OpenAiServer) -> None:
    server.delay_s = 0.005
    client = Client([server.url, "http://127.0.0.1:9/v1"], "tiny", options=Options(concurrency=4))
    assert all(answer.text for answer in client.ask(many(200)))
    assert client.tally.refused < 25
    assert (client.tally.asked, client.tally.failed) == (200, 0)
    assert client.tally.completion_tokens == 200 * 12
    client.close()


def test_a_server_killed_and_started_again_loses_no_request() -> None:
    process, port = started("--delay", "0.02")
    client = Client([f"http://127.0.0.1:{port}/v1"], "tiny", options=Options(concurrency=8, patience_s=60))
    coming = client.submit(many(300))
    while client.tally.completion_tokens < 40 * 12:
        time.sleep(0.01)
    process.kill()
    process.wait()
    before = client.tally.completion_tokens
    time.sleep(0.5)
    assert not coming.done()
    process, _ = started("--delay", "0.02", port=port)
    try:
        answers = coming.result(timeout=60)
    finally:
        process.kill()
        process.wait()
        client.close()
    assert before < 300 * 12
    assert all(answer.text for answer in answers)
    assert client.tally.failed == 0
    assert client.tally.refused > 0


def test_only_what_is_sent_holds_its_picture(server: OpenAiServer) -> None:
    """Of a window of any length, no more pictures are read than are being sent and were answered."""
    server.delay_s = 0.01
    client = Client([server.url], "tiny", options=Options(concurrency=4))
    ahead = []

    def read() -> bytes:
        ahead.append(client.tally.sent - client.tally.completion_tokens // 12)
        return jpeg(2)

    client.ask([Request(f"say {number}", image=read, key=str(number)) for number in range(60)])
    client.close()
    assert len(ahead) == 60
    assert max(ahead) < 4


def test_what_reading_a_picture_raises_is_not_swallowed(server: OpenAiServer) -> None:
    def read() -> bytes:
        raise OSError("the tar is gone")

    with pytest.raises(OSError, match="the tar is gone"):
        asked(server, [*many(3), Request("look", image=read)])
    (answer,) = asked(server, [Request("look", image=b"BM no picture for servers")])
    assert answer.error == "the image is no JPEG, PNG, GIF or WebP"


def test_rates_hold(server: OpenAiServer, tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    began = time.monotonic()
    asked(server, many(30), requests_per_minute=1200)  # 20 a second after a burst of 20
    assert server.seen[-1].at - began >= 0.4
    began = time.monotonic()
    asked(server, many(6), tokens_per_minute=1800)  # some 11 tokens each, 30 a second
    assert server.seen[-1].at - began >= 0.7


def test_what_is_not_counted_is_null(server: OpenAiServer) -> None:
    server.faults = ["no_usage", "long"]
    counted, cut = asked(server, many(2), concurrency=1)
    assert (counted.prompt_tokens, counted.completion_tokens) == (None, None)
    assert cut.finish == "length"


@pytest.mark.parametrize(
    ("urls", "said"),
    [
        ([], "at least one"),
        (["http://a/v1", "http://a/v1/"], "each once"),
        (["ftp://a/v1"], "no address of a server"),
        (["localhost:8000"], "no address"),
        (["https://me:secret@a/v1"], "key_env"),
    ],
)
def test_urls_are_checked(urls: list[str], said: str) -> None:
    with pytest.raises(ValueError, match=said) as caught:
        Client(urls, "tiny")
    assert "secret" not in str(caught.value)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["choices", "message", "content", "usage", "prompt_tokens", "error"]), inner)
    ),
    max_leaves=12,
)


@given(
    JSON.map(lambda value: json.dumps(value).encode()) | st.binary(max_size=60), st.sampled_from([200, 302, 400, 500])
)
def test_any_answer_is_an_answer_or_a_fault(body: bytes, status: int) -> None:
    told = ""
    try:
        answer = read_answer(status, {}, body, 0.0)
    except (SampleFault, ServiceFault) as fault:
        told = str(fault)
    else:
        assert status == 200
        assert (answer.text or "").strip()
        assert answer.prompt_tokens is None or answer.prompt_tokens >= 0
    assert len(told) < 400
    assert "\n" not in told


def test_retry_after() -> None:
    assert retry_after("1.5", 0) == 1.5
    assert retry_after("Thu, 01 Jan 1970 00:01:00 GMT", 20) == 40
    assert retry_after("Thu, 01 Jan 1970 00:01:00 GMT", 100) == 0
    assert retry_after("1e300", 0) == LONGEST_PAUSE_S
    assert [retry_after(said, 0) for said in (None, "", "soon", "nan")] == [None] * 4
