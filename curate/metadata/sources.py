"""The four sources of MetaCLIP's entries: WordNet, words and pairs of words of Wikipedia, titles by page views."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pyarrow as pa

from curate.metadata.parts import Parts, blocks, files_of, key_of, opened
from curate.metadata.words import counted

Tell = Callable[[str], None]


def synsets(folder: Path) -> Iterator[str]:
    """Names of WordNet's synsets, up to their first point: the first lemma of each, in lower case, with spaces.

    As `wn.all_synsets()` of NLTK names them ("dog.n.01"), from data.noun, data.adj, data.adv and data.verb.
    """
    for part in ("noun", "verb", "adj", "adv"):
        with (folder / f"data.{part}").open(encoding="utf-8") as file:
            for line in file:
                if not line.startswith(" "):  # the licence
                    lemma = line.split(" ", 5)[4].lower()
                    yield lemma.split("(")[0].split(".")[0].replace("_", " ")


def lemmas(tab: Path) -> Iterator[str]:
    """Lemmas of an Open Multilingual Wordnet: lines of synset, kind, word, parted by TAB.

    Raises:
        ValueError: it has none.
    """
    found = False
    with tab.open(encoding="utf-8") as file:
        for line in file:
            fields = line.rstrip("\n").split("\t")
            if not line.startswith("#") and len(fields) >= 3 and fields[1].split(":")[-1] == "lemma":
                found = True
                yield fields[2].strip().replace("_", " ")
    if not found:
        raise ValueError(f"{tab}: no lines of synset, lemma and word; expected wn-data-<language>.tab")


def count_text(parts: Parts, texts: list[str], tokenizer: str, tell: Tell) -> None:
    """Words and pairs of all texts into the parts `words` (word, n) and `pairs` (first, second, n)."""
    files = files_of(texts)
    for number, path in enumerate(files):
        key = key_of(path, tokenizer)
        made = 0
        for block, text in enumerate(blocks(path)):
            made += parts.make(f"{key}-{block:06d}", ("words", "pairs"), partial(_tables, text, tokenizer))
        tell(f"words: file {number + 1} of {len(files)}, {path.name}: {made} blocks counted")


def _tables(text: str, tokenizer: str) -> list[pa.Table]:
    words, pairs = counted(text, tokenizer)
    firsts, seconds = pa.array([a for a, _ in pairs], pa.string()), pa.array([b for _, b in pairs], pa.string())
    return [
        pa.table({"word": pa.array(words, pa.string()), "n": pa.array(words.values(), pa.int64())}),
        pa.table({"first": firsts, "second": seconds, "n": pa.array(pairs.values(), pa.int64())}),
    ]


def count_titles(parts: Parts, files: list[str], sites: frozenset[str], least: int, tell: Tell) -> None:
    """Views of titles into the parts `titles` (title, n); a file is an hour of Wikimedia's page views.

    Args:
        sites: domain codes that count ("en"; "de" and "de.m").
        least: lines of fewer views do not count.
    """
    found = files_of(files)
    for number, path in enumerate(found):
        key = key_of(path, *sorted(sites), str(least))
        made = parts.make(key, ("titles",), partial(_views, path, sites, least))
        if made:
            tell(f"titles: file {number + 1} of {len(found)}, {path.name}")


def _views(path: Path, sites: frozenset[str], least: int) -> list[pa.Table]:
    """Lines are: site title views bytes, with _ for spaces; titles with ":" are no articles."""
    views: Counter[str] = Counter()
    ours = tuple(f"{site} ".encode() for site in sites)
    with opened(path) as file:
        for line in file:
            if not line.startswith(ours):
                continue
            fields = line.decode("utf-8", "replace").strip().split(" ")
            if len(fields) != 4 or ":" in fields[1]:
                continue
            if not fields[2].isdigit():
                raise ValueError(f"{path}: {line[:80]!r} is no line of page views: site title views bytes")
            if int(fields[2]) >= least:
                views[fields[1].replace("_", " ").strip()] += int(fields[2])
    return [pa.table({"title": pa.array(views, pa.string()), "n": pa.array(views.values(), pa.int64())})]
