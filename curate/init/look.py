"""What a sample says about its input: which column is which, captions, hosts, sizes of pictures, useful columns.

seen = look(open_source(SourceSpec(path="laion/*.parquet")))
seen.captions.languages, seen.hosts.most_common, seen.sizes
"""

from __future__ import annotations

import ipaddress
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from statistics import median
from typing import Any
from urllib.parse import urlsplit

from curate.errors import UserError
from curate.init.folder_table import table_of
from curate.init.pictures import Sizes, claimed_sizes, sizes_of
from curate.init.sample import Sample, spread
from curate.init.take import take
from curate.run.fetch.addresses import allowed
from curate.run.sources.names import GUESSES
from curate.run.sources.raw import first
from curate.run.sources.source import ListSource
from curate.run.sources.tables import image_columns, schema_of

EXAMPLES = 3
LONGEST = 4000  # characters of a text that its language is told by
SURE = 0.5  # probability from which a language is believed
URLS_AT_LEAST = 0.9  # of a column's values, to take it for URLs whatever its name


@dataclass(frozen=True)
class Role:
    """The column that was chosen for a role, why, and others that it could have been."""

    name: str | None
    others: tuple[str, ...] = ()
    by_values: bool = False


@dataclass(frozen=True)
class Captions:
    """Of the sample's texts. Shares of languages are of texts that have a word; unsure ones are "?"."""

    taken: int
    empty: int
    words: tuple[int, ...]  # of each that is not empty, sorted
    chars: tuple[int, ...]
    languages: Counter[str]
    examples: tuple[str, ...]

    @property
    def full(self) -> int:
        return len(self.words)

    def share(self, language: str) -> float:
        return self.languages[language] / max(1, self.full)

    def fewer(self, words: int) -> float:
        """Share of the texts, without the empty ones, that have fewer words."""
        return sum(w < words for w in self.words) / max(1, self.full)

    @property
    def middle(self) -> tuple[int, int]:
        """Median words and characters."""
        return (int(median(self.words)), int(median(self.chars))) if self.words else (0, 0)


@dataclass(frozen=True)
class Hosts:
    """Of the sample's URLs: how many to each host; those that are none for http; those on this machine or private."""

    taken: int
    count: Counter[str]
    other: int
    loopback: int
    private: int


@dataclass
class Seen:
    """All that was seen of an input."""

    source: ListSource
    sample: Sample
    roles: dict[str, Role]
    captions: Captions | None = None
    hosts: Hosts | None = None
    sizes: Sizes | None = None
    notes: list[str] = field(default_factory=list)

    @property
    def extras(self) -> dict[str, str]:
        """Further columns -> their types."""
        used = {r.name for r in self.roles.values()}
        return {n: t for n, t in self.sample.columns.items() if n not in used}


def look(found: ListSource) -> Seen:
    """Look at a bounded sample of a source.

    Raises:
        UserError: it cannot be read, it is empty, or no column of it can be the URL.
    """
    sample = take(found)
    if found.kind in ("urls", "parquet"):
        roles = _roles(found, sample)
        texts, urls = (_of(sample, roles[r].name) if r in roles else None for r in ("text", "url"))
    else:
        roles = {}
        texts, urls = [m.roles["text"] for m in sample.members], [m.roles["url"] for m in sample.members]
        table = None if any(texts) else table_of(found)
        if table is not None:
            more = table.sample
            sample = replace(sample, rows=more.rows, columns=more.columns, values=more.values)
            text = _named("text", sample, {table.file}) or _by_values(sample, _is_prose, {table.file}) or Role(None)
            roles = {"table": Role(table.name), "file": Role(table.file), "text": text}
            texts = _of(sample, text.name) or texts
    seen = Seen(found, sample, roles)
    seen.captions = captions(texts) if texts is not None and any(t is not None for t in texts) else None
    seen.hosts = hosts(urls) if urls is not None and any(urls) else None
    claimed = claimed_sizes(sample)
    seen.sizes = sizes_of(found, sample, roles["image"].name if "image" in roles else None) or claimed
    return seen


# ---------------------------------------------------------------- which column is which


def _roles(found: ListSource, sample: Sample) -> dict[str, Role]:
    """url, text and, of parquet with bytes, image."""
    roles: dict[str, Role] = {}
    if found.kind == "parquet":
        images = image_columns(schema_of(found.files[0]))
        roles["image"] = Role(images[0], tuple(images[1:]))
    roles["url"] = _named("url", sample) or _by_values(sample, _is_url) or Role(None)
    if roles["url"].name is None and found.kind == "urls":
        raise UserError(
            f"{found.files[0]}: no column looks like the URL; it has {', '.join(map(json.dumps, sample.columns))}. "
            "Write a recipe that says which: `source: {path: ..., url: NAME, text: NAME}`"
        )
    if roles["url"].name is None:
        del roles["url"]
    taken = {r.name for r in roles.values()}
    text = _named("text", sample, taken) or _by_values(sample, _is_prose, taken)
    roles["text"] = text or Role(None, tuple(n for n in sample.columns if n not in taken))
    more = {role: _named(role, sample) for role in ("uid", "sha256")}
    return roles | {role: found for role, found in more.items() if found}


def _named(role: str, sample: Sample, taken: Sequence[str | None] | set[str | None] = ()) -> Role | None:
    """The column with the likeliest of the usual names."""
    order = {name: i for i, name in enumerate(GUESSES[role])}
    there = [n for n in sample.columns if n.casefold() in order and n not in taken]
    there.sort(key=lambda n: order[n.casefold()])
    return Role(there[0], tuple(there[1:])) if there else None


def _by_values(sample: Sample, fits: Any, taken: Sequence[str | None] | set[str | None] = ()) -> Role | None:
    """The only column whose values fit, whatever its name."""
    there = [n for n, v in sample.values.items() if n not in taken and fits([first(x) for x in v if x is not None])]
    return Role(there[0], by_values=True) if len(there) == 1 else None


def _is_url(values: list[Any]) -> bool:
    urls = [v for v in values if isinstance(v, str) and v.lower().startswith(("http://", "https://"))]
    return len(values) > 0 and len(urls) >= URLS_AT_LEAST * len(values)


def _is_prose(values: list[Any]) -> bool:
    """Strings of some words, most of them letters."""
    texts = [v for v in values if isinstance(v, str) and v.strip()]
    if not texts or len(texts) < len(values) / 2 or _is_url(texts):
        return False
    letters = sum(c.isalpha() for t in texts for c in t) / sum(map(len, texts))
    return median(len(t.split()) for t in texts) >= 3 and letters > 0.6


def _of(sample: Sample, name: str | None) -> list[Any] | None:
    return [first(v) for v in sample.values[name]] if name in sample.values else None  # type: ignore[index]


# ---------------------------------------------------------------- what they hold


def captions(texts: Sequence[Any]) -> Captions:
    """Lengths and languages of texts."""
    from stages.language import BUNDLED, load, model_path, predict

    full = [t for t in texts if isinstance(t, str) and t.strip()]
    model = load(model_path(BUNDLED))
    languages: Counter[str] = Counter()
    for text in full:
        name, probability = predict(model, text[:LONGEST])
        sure = name is not None and (probability or 0) >= SURE and not _one_code(text)
        languages[str(name) if sure else "?"] += 1
    return Captions(
        len(texts),
        len(texts) - len(full),
        tuple(sorted(len(t.split()) for t in full)),
        tuple(sorted(map(len, full))),
        languages,
        tuple(spread(full[len(full) // 6 :], EXAMPLES)),
    )


def _one_code(text: str) -> bool:
    """One word of plain letters and digits, such as IMG_4894, of which the model is oddly sure."""
    return text.isascii() and len(text.split()) == 1


def hosts(urls: Sequence[Any]) -> Hosts:
    """Where URLs lead, by their letters alone: no name is looked up."""
    count: Counter[str] = Counter()
    other = loopback = private = 0
    given = [u for u in urls if isinstance(u, str) and u]
    for url in given:
        host = _host(url)
        if host is None:
            other += 1
            continue
        count[host] += 1
        loopback += host == "localhost" or (_is_address(host) and not allowed(host, False) and allowed(host, True))
        private += _is_address(host) and not allowed(host, True)
    return Hosts(len(given), count, other, loopback, private)


def _host(url: str) -> str | None:
    """Lower-case host of a URL for http; None of any other."""
    try:
        parts = urlsplit(url)
        return parts.hostname if parts.scheme.lower() in ("http", "https") and parts.hostname else None
    except ValueError:
        return None


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
