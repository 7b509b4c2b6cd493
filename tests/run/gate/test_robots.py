"""robots.txt, tdmrep.json and headers say what their specifications say, and nothing in them can hurt."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.run.fetch.gate import tdm
from curate.run.fetch.gate.headers import directives, refused
from curate.run.fetch.gate.patterns import matches
from curate.run.fetch.gate.robots import LIMIT, parse
from curate.run.fetch.spec import IngestSpec


def allowed(text: str, path: str, agent: str = "curate") -> bool:
    return parse(text.encode(), agent).allowed(path)


@pytest.mark.parametrize(
    ("text", "path", "answer"),
    [
        ("", "/a", True),
        ("User-agent: *\nDisallow: /", "/a", False),
        ("User-agent: *\nDisallow:", "/a", True),
        ("User-agent: other\nDisallow: /", "/a", True),
        ("User-agent: CURATE\nDisallow: /", "/a", False),
        ("User-agent: curate/1.0\nDisallow: /", "/a", False),
        ("User-agent: *\nDisallow: /\n\nUser-agent: curate\nDisallow: /x", "/a", True),  # our group alone counts
        ("User-agent: *\nDisallow: /\n\nUser-agent: curate\nDisallow: /x", "/x/b", False),
        ("User-agent: curate\nDisallow: /a\nUser-agent: b\nDisallow: /\nUser-agent: curate\nDisallow: /c", "/c", False),
        ("User-agent: a\nUser-agent: curate\nDisallow: /", "/x", False),
        ("User-agent: a\n\n\nUser-agent: curate\nDisallow: /", "/x", False),  # empty lines end no group
        ("User-agent: *\nAllow: /p\nDisallow: /", "/page", True),  # the longest pattern decides
        ("User-agent: *\nAllow: /folder\nDisallow: /folder", "/folder/page", True),  # Allow, where they are as long
        ("User-agent: *\nAllow: /page\nDisallow: /*.htm", "/page.htm", False),
        ("User-agent: *\nAllow: /$\nDisallow: /", "/", True),
        ("User-agent: *\nAllow: /$\nDisallow: /", "/page.htm", False),
        ("User-agent: *\nDisallow: /*.gif$", "/a.gif?x", True),
        ("User-agent: *\nDisallow: /*.gif$", "/b/a.gif", False),
        ("User-agent: *\nDisallow: /a%3cd.html", "/a%3Cd.html", False),
        ("User-agent: *\nDisallow: /a%7Eb", "/a~b", False),
        ("User-agent: *\nDisallow: /ツ", "/%E3%83%84", False),
        ("User-agent: *\nDisallow: /a/b", "/a%2Fb", True),  # an encoded slash is another path
        ("User-agent: *\nDisallow: /path/file-with-a-%2A.html", "/path/file-with-a-*.html", False),  # RFC 9309, 2.2.3
        ("User-agent: *\nDisallow: /path/file-with-a-%2A.html", "/path/file-with-a-b.html", True),
        ("User-agent: *\nDisallow: /path/foo-%24", "/path/foo-$", False),
        ("User-agent: *\nDisallow: /a$b", "/a$b/c", False),
        ("User-agent: *\nDisallow: /foo/bar?baz=https://foo.bar", "/foo/bar?baz=https://foo.bar", False),  # 2.2.2
        ("User-agent: *\nDisallow: /foo/bar/%62%61%7A", "/foo/bar/baz", False),
        (
            "User-agent: *\nAllow: /example/page/\nDisallow: /example/page/disallowed.gif",
            "/example/page/disallowed.gif",
            False,
        ),  # 5.2
        ("User-agent: *\nAllow: /example/page/\nDisallow: /example/page/disallowed.gif", "/example/page/", True),
        ("\ufeffUser-agent: *\rDisallow: /a", "/a", False),
        ("user-agent : *\ndisallow :/a # because", "/a", False),
        ("Disallow: /\nUser-agent: *\nDisallow: /b", "/a", True),  # a rule before any agent is nobody's
        ("<html>Disallow: /</html>", "/a", True),
    ],
)
def test_what_is_allowed(text: str, path: str, answer: bool) -> None:
    assert allowed(text, path) is answer


def test_crawl_delay_is_read_and_bounded() -> None:
    assert parse(b"User-agent: *\nCrawl-delay: 2.5\nDisallow: /x", "curate").delay == 2.5
    assert parse(b"User-agent: *\nCrawl-delay: 86400", "curate").delay == 60
    assert parse(b"User-agent: *\nCrawl-delay: soon", "curate").delay is None
    assert parse(b"User-agent: *\nCrawl-delay: nan", "curate").delay is None


lines = st.lists(
    st.one_of(
        st.sampled_from(["User-agent: *", "User-agent: curate", "User-agent: other", ""]),
        st.builds(
            "{}: {}".format,
            st.sampled_from(["Allow", "Disallow"]),
            st.text("ab/*$", min_size=1, max_size=8).map(lambda t: "/" + t),
        ),
    ),
    max_size=12,
)


@given(lines, st.text("ab/", max_size=8).map(lambda t: "/" + t).filter(lambda t: "//" not in t))
@settings(max_examples=300, deadline=None)
def test_another_reader_says_the_same(rules: list[str], path: str) -> None:
    """Protego reads by the same RFC; `$` within a pattern, and groups without rules, are read in several ways."""
    protego = pytest.importorskip("protego")
    rules = [r for r in rules if "$" not in r[:-1] and "//" not in r]  # it takes // for the beginning of a host
    text = "\n".join(["User-agent: *", "Allow: /aaaaaaaaaaaa", "User-agent: curate", "Allow: /aaaaaaaaaaaa", *rules])
    assert allowed(text, path) == protego.Protego.parse(text).can_fetch(path, "curate"), text


@given(st.binary(max_size=2000))
@settings(max_examples=200, deadline=None)
def test_any_bytes_are_read(body: bytes) -> None:
    assert parse(body, "curate").allowed("/a") in (True, False)
    assert tdm.parse(body).covers("/a") in (True, False)


def test_hostile_patterns_and_sizes_end_soon() -> None:
    started = time.monotonic()
    assert not matches("/" + "*a" * 5000 + "b", "/" + "a" * 20_000)
    body = b"User-agent: *\nDisallow: /x\n" + b"#" * LIMIT + b"\nDisallow: /late\n"
    rules = parse(body, "curate")
    assert not rules.allowed("/x")
    assert rules.allowed("/late"), "beyond the limit nothing is read"
    parse(b"User-agent: *\n" + b"Disallow: /a\n" * 40_000, "curate").allowed("/b")
    agents = b"".join(b"User-agent: %c%c%c\n" % (97 + i % 26, 97 + i // 26 % 26, 97 + i // 676) for i in range(14_000))
    parse(agents + b"".join(b"Disallow: /%d\n" % i for i in range(14_000)), "curate")
    assert time.monotonic() - started < 5


def test_tdmrep() -> None:
    body = b'[{"location": "/photos/*", "tdm-reservation": 1}, {"location": "/", "tdm-reservation": 0}]'
    reservations = tdm.parse(body)
    assert reservations.covers("/photos/a.jpg")
    assert not reservations.covers("/other/a.jpg")
    assert not tdm.parse(b"<html>").covers("/")
    assert not tdm.parse(b'{"location": "/"}').covers("/")


SPEC = IngestSpec()


@pytest.mark.parametrize(
    ("headers", "why"),
    [
        ({}, None),
        ({"x-robots-tag": ["noai"]}, "X-Robots-Tag: noai"),
        ({"x-robots-tag": ["all", "NoImageAI , nofollow"]}, "X-Robots-Tag: noimageai"),
        ({"x-robots-tag": ["noml"]}, "X-Robots-Tag: noml"),
        ({"x-robots-tag": ["noindex"]}, None),
        ({"x-robots-tag": ["otherbot: noai, noimageai"]}, None),
        ({"x-robots-tag": ["curate: noai"]}, "X-Robots-Tag: noai"),
        ({"x-robots-tag": ["otherbot: noindex", "noai"]}, "X-Robots-Tag: noai"),
        ({"x-robots-tag": ["unavailable_after: 25 Jun 2010 15:00:00 PST, noai"]}, "X-Robots-Tag: noai"),
        ({"tdm-reservation": ["1"]}, "TDM-Reservation: 1"),
        ({"tdm-reservation": ["0"]}, None),
    ],
)
def test_headers_that_refuse(headers: dict[str, list[str]], why: str | None) -> None:
    assert refused(headers, SPEC) == why


def test_each_manner_is_turned_off_by_its_name_and_alone() -> None:
    both = {"x-robots-tag": ["noai"], "tdm-reservation": ["1"]}
    assert refused(both, SPEC.model_copy(update={"ignore": ("x_robots_tag",)})) == "TDM-Reservation: 1"
    assert refused(both, SPEC.model_copy(update={"ignore": ("tdm",)})) == "X-Robots-Tag: noai"
    assert refused(both, SPEC.model_copy(update={"ignore": ("x_robots_tag", "tdm")})) is None
    more = SPEC.model_copy(update={"directives": ("noindex",)})
    assert refused({"x-robots-tag": ["noindex"]}, more) == "X-Robots-Tag: noindex"


def test_directives_of_several_agents() -> None:
    assert directives("noai, otherbot: noindex, nofollow") == {"noai"}
    assert directives("otherbot: noindex, *: noml") == {"noml"}
