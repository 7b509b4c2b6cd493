"""What failed downloads come from, in plain words: rules over how often, on how many hosts, and beside what successes.

diagnosis(urls, ok, hosts, kinds, top)       # sentences, most important first
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from curate.ask.report.found import HostRow

NOTABLE = 0.02  # of all URLs: a kind of failure below it needs no words
FINE = 0.9  # of all URLs: where as many came and no kind is notable, nothing is wrong
CONCENTRATED = 0.5  # of a kind's failures on one host: that host is the matter
BROAD = 0.2  # of all hosts: a failure on so many is no matter of single sites
MIXED = 0.2  # of the hosts with a failure, those of which other URLs came: they are there, the way to them is not
FEW_HOSTS = 5  # from here on "many hosts" means something
SENTENCES = 6


@dataclass(frozen=True)
class Kind:
    """A kind of failure: an outcome, where http_4xx is told apart as gone (404, 410) and forbidden (401, 403, ...).

    hosts: with such a failure; answering: those of them of which other URLs came.
    most: {"n", "host", "urls"} of the host with the most; None where there is no host (local files).
    """

    name: str
    urls: int
    hosts: int
    answering: int
    most: dict[str, Any] | None


def diagnosis(urls: int, ok: int, hosts: int, kinds: Sequence[Kind], top: HostRow | None) -> tuple[str, ...]:
    """Sentences with their numbers, those on the most URLs first; one alone where nothing is wrong.

    Args:
        urls, ok: URLs (or files) in all, and how many came. hosts: in all.
        kinds: of failure. top: the host with the most failures.
    """
    notable = sorted((k for k in kinds if k.urls >= NOTABLE * urls), key=lambda k: (-k.urls, k.name))
    came = f"{share(ok, urls)} of {urls:,} {'URLs' if hosts else 'files'} came"
    if not notable:
        fine = ok >= FINE * urls
        return (f"{came}{': nothing unusual' if fine else f'; no kind of failure alone has {share(NOTABLE, 1)}'}.",)
    return tuple(
        [*_one_host(urls - ok, hosts, notable, top), *(_sentence(k, urls, hosts) for k in notable)][:SENTENCES]
    )


def _one_host(failed: int, hosts: int, notable: Sequence[Kind], top: HostRow | None) -> list[str]:
    """Said where one host has most of several kinds of failure; of one kind its own sentence says it."""
    if top is None or hosts < 2 or len(notable) < 2 or top.urls - top.ok < CONCENTRATED * failed:
        return []
    mine = top.urls - top.ok
    return [
        f"Mostly one host: {top.host} has {mine:,} of the {failed:,} failures ({share(mine, failed)}), "
        f"most often {top.worst}; of its {top.urls:,} URLs {top.ok:,} came."
    ]


def _sentence(kind: Kind, urls: int, hosts: int) -> str:
    count = f"{kind.urls:,} of {urls:,} {'URLs' if kind.hosts else 'files'} ({share(kind.urls, urls)})"
    where = f" on {kind.hosts:,} of {hosts:,} hosts" if kind.hosts else ""
    one = kind.most and hosts > 1 and kind.most["n"] >= CONCENTRATED * kind.urls
    if one and kind.most and kind.name in AT_ONE_HOST:
        n, host, of = kind.most["n"], kind.most["host"], kind.most["urls"]
        return f"{host} {AT_ONE_HOST[kind.name].format(n=f'{n:,}', of=f'{of:,}')}" + (
            f" In all {count}{where} had this." if kind.urls > n else ""
        )
    broad = kind.hosts >= FEW_HOSTS and kind.hosts >= BROAD * hosts
    mixed = kind.name in OF_THE_WAY and kind.hosts >= FEW_HOSTS and kind.answering >= MIXED * kind.hosts
    if kind.name in ON_MANY and (broad or mixed):
        all_of = "all" if kind.answering == kind.hosts else f"{kind.answering:,}"
        there = f", {all_of} of which answered for other URLs" if mixed else ""
        return f"{count}{where}{there}: {ON_MANY[kind.name]}"
    return f"{count}{where} {PLAIN.get(kind.name, f'ended as {kind.name}.')}"


def share(part: float, whole: float) -> str:
    return f"{100 * part / whole:.1f} %" if whole else "none"


OF_THE_WAY = frozenset({"dns", "connect", "timeout", "tls", "http_429", "http_5xx", "robots_unavailable"})
"""Kinds that say something of the way to a host, where other URLs of it came."""

AT_ONE_HOST = {
    "http_429": "answered {n} times that it is asked too often (429), of {of} URLs: a rate limit there. Ask it more "
    "slowly: `ingest: {{per_host: 1, host_rate: 1}}`.",
    "forbidden": "refused {n} of {of} URLs (401, 403 or alike): you are banned there, or it shows its pictures only "
    "on its own pages. Slower asking (`per_host`) and a `contact` that answers may help; the rest of the "
    "list is not to blame.",
    "http_4xx": "refused {n} of {of} URLs: gone there, or you are banned.",
    "http_5xx": "failed on {n} of {of} URLs (5xx): its server is broken or overloaded.",
    "gone": "no longer has {n} of {of} URLs (404, 410): it dropped or moved its pictures.",
    "timeout": "was too slow for {n} of {of} URLs: it is overloaded, or lets you wait on purpose. Try `ingest: "
    "{{per_host: 2}}`.",
    "connect": "took no connection for {n} of {of} URLs: it is down, or shuts you out.",
    "dns": "was not found by name for {n} of {of} URLs: the site is gone.",
    "tls": "failed on {n} of {of} URLs for its certificate: the site is at fault.",
    "not_image": "answered {n} of {of} URLs with something that is no image: most often a page that asks to log in, "
    "or says that the picture is gone.",
    "refused_robots": "forbids {n} of {of} URLs in its robots.txt: its owner's decision, which is kept.",
    "refused_header": "forbids {n} of {of} URLs in the headers of its answers: its owner's decision, which is kept.",
}
"""What is said of one host that has most of the failures of a kind; the sentence begins with its name."""

ON_MANY = {
    "dns": "no address was found for their names. So many at once point at the resolver, not at the sites: it "
    "is slow or refuses. Use a caching resolver on each machine, or fewer workers.",
    "connect": "no connection. So many hosts at once point at the network here: a firewall, a proxy, or more "
    "connections than it lets through. Try `ingest: {concurrency: 32}`, and ask who runs the network.",
    "timeout": "too slow. So many hosts at once point at the network here: it is full, or a proxy holds answers "
    "back. Try `ingest: {concurrency: 32}`.",
    "tls": "their certificates were not accepted. So many at once point at this machine: a wrong clock, old "
    "certificates, or a proxy that opens encrypted traffic.",
    "http_429": "asked too often (429). Many sites behind one provider count together, and others may share your "
    "address: lower `concurrency` and `per_host`.",
    "http_5xx": "server errors (5xx). Where so many hosts fail, a proxy between you and them may be what answers.",
    "forbidden": "refused (401, 403 or alike). Many sites turn programs or whole data centres away; a `contact` that "
    "answers and slower asking help with some.",
    "gone": "gone (404, 410). This is link rot, and normal: lists lose some 2 to 4 % a year, old ones a third "
    "and more. A newer list has fewer.",
    "blocked_address": "their names lead into private networks. So many at once point at the resolver: some answer "
    "unknown names with an address of their own.",
    "robots_unavailable": "their robots.txt could not be read, so nothing was fetched. So many hosts at once point at "
    "the network here.",
}
"""What is said of a kind that is spread over many hosts; the sentence begins with the numbers."""

PLAIN = {
    "dns": "have names that lead nowhere: sites that are gone. Old lists have many.",
    "connect": "took no connection: sites that are gone, or shut you out.",
    "timeout": "were too slow; a larger `timeout_s` gets some of them.",
    "tls": "failed for their certificates: the sites are at fault.",
    "http_429": "were asked too often (429): ask more slowly, `ingest: {per_host: 1, host_rate: 1}`.",
    "http_4xx": "were refused (4xx): gone, or forbidden.",
    "http_5xx": "failed with a server error (5xx): the sites are at fault.",
    "gone": "are gone (404, 410): link rot, which is normal.",
    "forbidden": "were refused (401, 403 or alike): their owners turn programs away.",
    "refused_robots": "are forbidden by robots.txt: their owners' decision, which is kept.",
    "robots_unavailable": "were not fetched because robots.txt could not be read: a site that cannot say is not asked.",
    "refused_header": "are forbidden by headers of their answers: their owners' decision, which is kept.",
    "refused_list": "are on a list of refusals, which is kept.",
    "blocked_address": "lead into private networks, and are not followed: this keeps a hostile list out of yours.",
    "too_many_redirects": "are redirected in circles, or too often.",
    "too_big": "have more bytes than `max_bytes`: raise it only if you know the source.",
    "truncated": "broke off in the middle.",
    "not_image": "answered with something that is no image, most often a page in the place of a picture that is gone.",
    "bomb": "have more pixels than `max_pixels`: raise it only if you know the source.",
    "decode_error": "are broken images.",
    "too_small": "are smaller than `min_side` of `ingest:`.",
    "hash_mismatch": "have other bytes than the list promised: the pictures were exchanged since it was made.",
    "gave_up": "were put off: their hosts are asked slowly, or the shard's time was over. They are had with `--retry "
    "transient`.",
    "unreadable": "could not be read.",
}
"""What is said else; the sentence begins with the numbers."""
