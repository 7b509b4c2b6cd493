"""Normal forms of urls and texts."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from stages.normal_forms import text_normalised, url_normalised, url_stripped


@pytest.mark.parametrize(
    ("url", "normal"),
    [
        ("HTTP://Example.COM:80/%7Eann/%c3%a9?b=2&a=%31#top", "http://example.com/~ann/%C3%A9?a=1&b=2"),
        ("https://example.com:443", "https://example.com/"),
        ("https://example.com:80/", "https://example.com:80/"),
        ("http://example.com:/a//b/../c", "http://example.com/a//b/../c"),
        ("http://Ann:Secret@EXAMPLE.com/A%2fB%2541", "http://Ann:Secret@example.com/A%2FB%2541"),
        ("http://[2001:DB8::1]:80/x?", "http://[2001:db8::1]/x"),
        ("http://x/?b&a=2&a=1&", "http://x/?&a=1&a=2&b"),
        ("data:image/png;base64,AAA=", "data:image/png;base64,AAA="),
        ("http://[broken", "http://[broken"),
        ("http://a/%%34%31", "http://a/%%341"),
        ("http://a/%4%31%42?%4%31=%c3", "http://a/%4%31B?%4%31=%C3"),
        ("", ""),
    ],
)
def test_urls(url: str, normal: str) -> None:
    assert url_normalised(url) == normal
    assert url_stripped(url) == normal.partition("?")[0]


@pytest.mark.parametrize(
    "other", ["http://x/a", "http://x/A/", "https://x/A", "http://y/A", "http://x/A?q", "http://x:8080/A"]
)
def test_what_a_server_may_tell_apart_stays_apart(other: str) -> None:
    assert url_normalised(other) != url_normalised("http://x/A")


PIECES = st.sampled_from(
    ["http:", "//", "/", "X", "x", ":80", ":", "@", "?", "&", "=", "#", "%41", "%2f", "%34", "%31", "%", "%4", "1"]
)


@example("%41http:")
@example("//:")
@example("http://a/%%34%31")
@example("http://a/%4%31?%%34%31&%4%31")
@given(st.lists(PIECES | st.characters(codec="utf-8"), max_size=12).map("".join))
def test_a_normal_url_is_its_own_normal_form(url: str) -> None:
    assert url_normalised(url_normalised(url)) == url_normalised(url)
    assert url_stripped(url_normalised(url)) == url_stripped(url)
    assert url_stripped(url_stripped(url)) == url_stripped(url)


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("\ufb01ne  CAF\u00c9\n", "fine caf\u00e9"),
        ("Cafe\u0301", "caf\u00e9"),
        ("Stra\u00dfe \u2460 \uff21\u3000b", "strasse 1 a b"),
        (" \t", ""),
    ],
)
def test_texts(text: str, normal: str) -> None:
    assert text_normalised(text) == normal


@given(st.text())
def test_a_normal_text_is_its_own_normal_form(text: str) -> None:
    normal = text_normalised(text)
    assert text_normalised(normal) == normal == text_normalised(f" {text}  ")
    assert text_normalised(text.upper().lower()) == text_normalised(text.upper())
