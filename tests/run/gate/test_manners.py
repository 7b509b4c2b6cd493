"""What owners and users forbid, end to end: a shard, a real server, its log."""

from __future__ import annotations

import gzip
import hashlib
import io
import time
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from yarl import URL

from curate.errors import UserError
from curate.run.fetch.gate.lists import Refusals
from curate.run.fetch.gate.site import seconds_until
from curate.run.fetch.http import Fetch, download
from curate.run.fetch.spec import IngestSpec
from tests.web import Web, hang, ok, redirect, reset, status

SPEC = IngestSpec(allow_loopback=True, timeout_s=3, idle_timeout_s=1, host_rate=None, per_host=4)


def jpeg() -> bytes:
    out = io.BytesIO()
    Image.effect_noise((32, 32), 50).save(out, "JPEG")
    return out.getvalue()


BODY = jpeg()


def fetched(web: Web, paths: list[str], spec: IngestSpec = SPEC, **kw: object) -> dict[str, Fetch]:
    found: dict[str, Fetch] = {}

    async def work(_: int, fetch: Fetch) -> Fetch:
        return replace(fetch)

    urls = {i: web.url(p) for i, p in enumerate(paths)}
    download(urls, spec, work, lambda i, f: found.__setitem__(paths[i], f), **kw)  # type: ignore[arg-type]
    return found


def outcomes(found: dict[str, Fetch]) -> dict[str, str]:
    return {path: fetch.outcome for path, fetch in found.items()}


def robots(text: str) -> object:
    return ok(text.encode(), Content_Type="text/plain")


def test_robots_is_asked_once_and_kept() -> None:
    routes = {"/robots.txt": robots("User-agent: *\nDisallow: /no"), "/a": ok(BODY), "/b": ok(BODY), "/no/c": ok(BODY)}
    with Web(routes) as web:
        found = fetched(web, ["/a", "/b", "/no/c"])
        assert outcomes(found) == {"/a": "ok", "/b": "ok", "/no/c": "refused_robots"}
        assert web.asked[:2] == ["/robots.txt", "/.well-known/tdmrep.json"]
        assert sorted(web.asked[2:]) == ["/a", "/b"]


@pytest.mark.parametrize(
    ("route", "outcome"),
    [
        (status(500), "robots_unavailable"),
        (status(503), "robots_unavailable"),
        (status(429), "robots_unavailable"),
        (hang, "robots_unavailable"),
        (reset(b""), "connect"),  # the host itself cannot be had: that is what is said
    ],
)
def test_robots_that_cannot_be_had_means_later_and_never_allowed(route: object, outcome: str) -> None:
    with Web({"/robots.txt": route, "/a": ok(BODY)}) as web:  # type: ignore[dict-item]
        found = fetched(web, ["/a"])
        assert found["/a"].outcome == outcome
        assert outcome == "connect" or "robots.txt" in (found["/a"].detail or "")
        assert "/a" not in web.asked


@pytest.mark.parametrize("code", [401, 403, 404, 410])
def test_no_robots_allows_all(code: int) -> None:
    with Web({"/robots.txt": status(code), "/a": ok(BODY)}) as web:
        assert outcomes(fetched(web, ["/a"])) == {"/a": "ok"}


def test_robots_behind_redirects_is_followed() -> None:
    routes = {"/robots.txt": redirect("/r1"), "/r1": redirect("/r2"), "/r2": robots("User-agent: curate\nDisallow: /")}
    with Web(routes | {"/a": ok(BODY)}) as web:
        assert outcomes(fetched(web, ["/a"])) == {"/a": "refused_robots"}


def test_a_redirect_is_asked_for_at_its_own_door() -> None:
    routes = {"/robots.txt": robots("User-agent: *\nDisallow: /no"), "/a": redirect("/no/b"), "/no/b": ok(BODY)}
    with Web(routes) as web:
        assert outcomes(fetched(web, ["/a"])) == {"/a": "refused_robots"}
        assert "/no/b" not in web.asked


def test_tdmrep_reserves() -> None:
    reserved = ok(b'[{"location": "/art/*", "tdm-reservation": 1}]', Content_Type="application/json")
    with Web({"/.well-known/tdmrep.json": reserved, "/art/a": ok(BODY), "/b": ok(BODY)}) as web:
        found = fetched(web, ["/art/a", "/b"])
        assert outcomes(found) == {"/art/a": "refused_robots", "/b": "ok"}
        assert found["/art/a"].detail == "tdmrep.json reserves it"


def test_headers_refuse_before_the_body_is_read() -> None:
    routes = {"/a": ok(BODY, X_Robots_Tag="noai"), "/b": ok(BODY, tdm_reservation="1"), "/c": ok(BODY)}
    with Web(routes) as web:
        found = fetched(web, ["/a", "/b", "/c"])
        assert outcomes(found) == {"/a": "refused_header", "/b": "refused_header", "/c": "ok"}
        assert found["/a"].size == 0


def test_each_manner_can_be_turned_off_by_name() -> None:
    routes = {"/robots.txt": robots("User-agent: *\nDisallow: /"), "/a": ok(BODY, X_Robots_Tag="noai")}
    with Web(routes) as web:
        spec = SPEC.model_copy(update={"ignore": ("robots",)})
        assert outcomes(fetched(web, ["/a"], spec)) == {"/a": "refused_header"}
        assert "/robots.txt" not in web.asked
        spec = SPEC.model_copy(update={"ignore": ("robots", "tdm", "x_robots_tag")})
        assert outcomes(fetched(web, ["/a"], spec)) == {"/a": "ok"}


def test_a_host_that_wants_to_be_left_alone_is() -> None:
    with Web({f"/{i}": status(429, Retry_After="500") for i in range(20)}) as web:
        before = time.time()
        found = fetched(web, [f"/{i}" for i in range(20)])
        asked = [p for p in web.asked if p[1:].isdigit()]
    kinds = set(outcomes(found).values())
    assert kinds == {"http_429", "gave_up"}
    assert len(asked) <= 8, "those under way when it said so"
    late = [f for f in found.values() if f.outcome == "gave_up"]
    assert all("left alone" in (f.detail or "") and before + 400 < (f.retry_at or 0) < before + 600 for f in late)


def test_a_host_that_answers_nothing_is_given_up_soon() -> None:
    spec = SPEC.model_copy(update={"ignore": ("robots", "tdm"), "idle_timeout_s": 0.3})
    with Web(dict.fromkeys((f"/{i}" for i in range(60)), hang)) as web:
        started = time.monotonic()
        found = fetched(web, [f"/{i}" for i in range(60)], spec)
    assert time.monotonic() - started < 5
    assert set(outcomes(found).values()) == {"timeout", "gave_up"}
    assert sum(f.outcome == "timeout" for f in found.values()) < 20


def test_the_rate_of_a_host_is_kept() -> None:
    spec = SPEC.model_copy(update={"host_rate": 20.0, "per_host": 8, "ignore": ("robots", "tdm")})
    with Web({"/a": ok(BODY)}) as web:
        urls = {i: web.url("/a") for i in range(40)}
        times: list[float] = []

        async def work(_: int, fetch: Fetch) -> None:
            times.append(time.monotonic())

        download(urls, spec, work, lambda _, __: None)
    assert len(times) == 40
    assert max(sum(t <= u < t + 1 for u in times) for t in times) <= 20


def test_lists_of_refusals(tmp_path: Path) -> None:
    domains, urls = tmp_path / "domains.txt", tmp_path / "urls.txt.gz"
    domains.write_text("# not these\nBad.Example\n*.worse.example  # nor these\n\n")
    urls.write_bytes(gzip.compress(b"https://good.example/a.jpg#x\n"))
    hashes = tmp_path / "hashes.txt"
    hashes.write_text(hashlib.sha256(BODY).hexdigest() + "\n")
    spec = IngestSpec(refuse_domains=(str(domains),), refuse_urls=(str(urls),), refuse_hashes=(str(hashes),))
    refusals = Refusals.load(spec)
    assert refusals.url(URL("http://bad.example/x")) == "bad.example is on a list of refusals"
    assert refusals.url(URL("http://img.BAD.example./x")) == "bad.example is on a list of refusals"
    assert refusals.url(URL("http://a.worse.example/x")) == "worse.example is on a list of refusals"
    assert refusals.url(URL("http://notbad.example/x")) is None
    assert refusals.url(URL("https://good.example/a.jpg")) == "the URL is on a list of refusals"
    assert refusals.url(URL("https://good.example/b.jpg")) is None
    assert refusals.has_sha256(hashlib.sha256(BODY).digest())
    assert not refusals.has_sha256(bytes(32))


def test_wrong_lists_are_told_with_file_and_line(tmp_path: Path) -> None:
    wrong = tmp_path / "hashes.txt"
    wrong.write_text("# fine\nabc\n")
    with pytest.raises(UserError, match=r"hashes\.txt:2: 'abc'"):
        Refusals.load(IngestSpec(refuse_hashes=(str(wrong),)))
    with pytest.raises(UserError, match="No such file"):
        Refusals.load(IngestSpec(refuse_urls=(str(tmp_path / "none"),)))


def test_a_refused_domain_is_not_asked_at_all(tmp_path: Path) -> None:
    listed = tmp_path / "domains.txt"
    listed.write_text("localhost\n")
    with Web({"/a": ok(BODY)}) as web:
        found: list[Fetch] = []

        async def work(_: int, fetch: Fetch) -> Fetch:
            return replace(fetch)

        spec = SPEC.model_copy(update={"refuse_domains": (str(listed),)})
        download({0: web.url("/a", "localhost")}, spec, work, lambda _, f: found.append(f))
        assert (found[0].outcome, web.asked) == ("refused_list", [])


def test_retry_after() -> None:
    assert seconds_until(None) is None
    assert seconds_until(" 120 ") == 120
    assert seconds_until("soon") is None
    assert seconds_until("Wed, 21 Oct 2015 07:28:00 GMT") == 0
    later = time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(time.time() + 100))
    assert 90 < (seconds_until(later) or 0) < 101
    assert seconds_until("Wed, 21 Oct 2015 07:28:00 -0000") == 0, "a date without a zone is of UTC"


@given(st.text(max_size=40) | st.from_regex(r"[A-Z][a-z]{2}, \d{1,4} [A-Z][a-z]{2} \d{1,9} \d\d:\d\d:\d\d [-+]\d{1,9}"))
@settings(max_examples=300, deadline=None)
def test_any_retry_after_is_read(text: str) -> None:
    assert (seconds_until(text) or 0.0) >= 0.0


def test_a_list_that_is_broken_says_so(tmp_path: Path) -> None:
    broken = tmp_path / "urls.txt.gz"
    broken.write_bytes(gzip.compress(b"https://a.example/\n" * 1000)[:-30])
    with pytest.raises(UserError, match=r"urls\.txt\.gz: it cannot be read"):
        Refusals.load(SPEC.model_copy(update={"refuse_urls": (str(broken),)}))


def test_long_lists_are_read_once_and_looked_up_fast(tmp_path: Path) -> None:
    listed = tmp_path / "hashes.txt"
    digests = [hashlib.sha256(str(i).encode()).digest() for i in range(100_000)]
    listed.write_text("".join(d.hex() + "\n" for d in digests))
    spec = SPEC.model_copy(update={"refuse_hashes": (str(listed),)})
    refusals = Refusals.load(spec)
    assert refusals.hashes.nbytes == 16 * len(digests)
    assert Refusals.load(spec).hashes is refusals.hashes
    assert all(refusals.has_sha256(d) for d in digests[::100])
    assert not any(refusals.has_sha256(hashlib.sha256(d).digest()) for d in digests[::100])
