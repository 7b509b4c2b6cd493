"""What a site's files mean when they come from elsewhere, are too long, or speak of us by the name that we send."""

from __future__ import annotations

import asyncio
import json

import pytest
from yarl import URL

from curate.run.fetch.gate import tdm
from curate.run.fetch.gate.doorman import Answered, Doorman, Refused, Visit, inline_gates
from curate.run.fetch.gate.gate import OriginRules
from curate.run.fetch.gate.headers import names_of, refused
from curate.run.fetch.gate.site import origin_of, read_rules
from curate.run.fetch.spec import IngestSpec

SPEC = IngestSpec(host_rate=None, contact="https://us.example/bot")
MINE = SPEC.model_copy(update={"user_agent": "MyBot/1.0"})


def read(robots: Answered, spec: IngestSpec = SPEC, tdmrep: Answered | None = None) -> OriginRules:
    async def text(url: str) -> Answered:
        return robots if url.endswith("robots.txt") else tdmrep or Answered(404, b"", None)

    return asyncio.run(read_rules("https://a.test:443", spec, text))


@pytest.mark.parametrize("kind", ["blocked_address", "dns", "connect", "tls"])
def test_only_errors_of_the_origin_itself_are_those_of_its_urls(kind: str) -> None:
    first = read(Answered(None, b"", f"{kind}: 10.0.0.1 and so on"))
    assert (first.outcome, first.unavailable) == (kind, "10.0.0.1 and so on")
    moved = read(Answered(None, b"", f"{kind}: 10.0.0.1 and so on", hops=2))
    assert moved.outcome == "robots_unavailable", "the host is healthy; its robots.txt was moved to a dead place"
    assert moved.unavailable == f"robots.txt: after 2 redirects: {kind}: 10.0.0.1 and so on"
    reserved = read(Answered(404, b"", None), tdmrep=Answered(None, b"", f"{kind}: dead", hops=1))
    assert (reserved.outcome, reserved.unavailable) == (
        "robots_unavailable",
        f"tdmrep.json: after 1 redirects: {kind}: dead",
    )


@pytest.mark.parametrize(
    ("user_agent", "names"),
    [
        (None, {"curate"}),
        ("MyBot/1.0", {"mybot"}),
        ("MyBot2 (beta)", {"mybot", "mybot2"}),
        ("curate-of-mine/2", {"curate", "curate-of-mine"}),
        ("Mozilla/5.0 (compatible; Curate/1.0)", {"mozilla", "curate"}),
        ("7bot/1", {"7bot"}),
    ],
)
def test_names_that_owners_may_call_us_by(user_agent: str | None, names: set[str]) -> None:
    assert set(names_of(SPEC.model_copy(update={"user_agent": user_agent}))) == names


@pytest.mark.parametrize(
    ("text", "fine"),
    [
        ("User-agent: MyBot\nDisallow: /", False),
        ("User-agent: mybot/2.0\nDisallow: /", False),
        ("User-agent: curate\nDisallow: /", True),  # that is somebody else
        ("User-agent: *\nDisallow: /\n\nUser-agent: MyBot\nDisallow: /x", True),
        ("User-agent: MyBot\nCrawl-delay: 3\nDisallow: /x\n\nUser-agent: *\nCrawl-delay: 9", True),
    ],
)
def test_robots_is_read_for_the_name_that_is_sent(text: str, fine: bool) -> None:
    rules = read(Answered(200, text.encode(), None), MINE).robots
    assert rules.allowed("/a") is fine
    assert rules.delay == (3.0 if "Crawl" in text else None)


def test_whoever_has_our_name_in_his_obeys_both() -> None:
    spec = SPEC.model_copy(update={"user_agent": "MyBot/1.0 (curate)"})
    text = b"User-agent: mybot\nDisallow: /m\n\nUser-agent: curate\nDisallow: /c\nCrawl-delay: 2"
    rules = read(Answered(200, text, None), spec).robots
    assert [rules.allowed(path) for path in ("/m", "/c", "/x")] == [False, False, True]
    assert rules.delay == 2.0


def test_headers_are_read_for_the_name_that_is_sent() -> None:
    assert refused({"x-robots-tag": ["mybot: noai"]}, MINE) == "X-Robots-Tag: noai"
    assert refused({"x-robots-tag": ["mybot: noai"]}, SPEC) is None
    assert refused({"x-robots-tag": ["curate: noai"]}, MINE) is None
    assert refused({"x-robots-tag": ["*: noai"]}, MINE) == "X-Robots-Tag: noai"


RESERVED = {"location": "/art/*", "tdm-reservation": 1}


def test_a_tdmrep_that_is_too_long_reserves_all_and_says_so() -> None:
    many = json.dumps([{"location": f"/{i}", "tdm-reservation": 0} for i in range(tdm.MOST)] + [RESERVED]).encode()
    assert tdm.parse(many).why == "tdmrep.json has more than 10000 entries: all counts as reserved"
    assert tdm.parse(many).covers("/art/a.jpg")
    long = json.dumps([RESERVED, "x" * tdm.LIMIT]).encode()
    assert tdm.parse(long).why == "tdmrep.json has more than 524288 bytes: all counts as reserved"
    assert tdm.parse(long).covers("/b")
    cut = json.dumps([RESERVED] * 9900).encode()[: tdm.LIMIT - 100_000]  # as the client cuts it
    assert tdm.parse(cut).why == "tdmrep.json is no JSON, or too long: all counts as reserved"
    assert tdm.parse(b"\xef\xbb\xbf\n [{").covers("/b")
    assert not tdm.parse(b"<html>" + b" " * tdm.LIMIT).covers("/b"), "a page, not found with status 200"


def test_why_a_path_is_refused_is_said() -> None:
    async def text(url: str) -> Answered:
        return Answered(200, b"[{", None) if "tdmrep" in url else Answered(404, b"", None)

    async def main() -> None:
        async with Doorman(inline_gates(SPEC), SPEC, text) as doorman:
            await doorman.visit(URL("http://a.test/"), doorman.slot())

    with pytest.raises(Refused, match="no JSON, or too long: all counts as reserved"):
        asyncio.run(asyncio.wait_for(main(), 3.0))


def test_a_dot_at_the_end_makes_no_other_host() -> None:
    assert origin_of(URL("https://example.org./a")) == "https://example.org:443"
    spec = SPEC.model_copy(update={"per_host": 1})
    asked: list[str] = []

    async def text(url: str) -> Answered:
        asked.append(url)
        return Answered(404, b"", None)

    async def main() -> bool:
        async with Doorman(inline_gates(spec), spec, text) as doorman:
            with await doorman.visit(URL("https://example.org/a"), doorman.slot()):
                came: list[Visit | BaseException] = []
                doorman.enter(URL("https://example.org./b"), doorman.slot(), came.append)
                await asyncio.sleep(0.05)
                alone = not came
            await asyncio.sleep(0.05)
            return alone and len(came) == 1

    assert asyncio.run(asyncio.wait_for(main(), 3.0)), "one of that host at a time"
    assert asked == ["https://example.org:443/robots.txt", "https://example.org:443/.well-known/tdmrep.json"]
