"""Lists of entries as MetaCLIP makes them: numbers, WordNet, then words, pairs of words and titles of Wikipedia.

    sources = Sources(wikipedia=["enwiki.txt"], titles=["pageviews/"], wordnet="dict/")
    build(sources, Rules(), Path("metadata.json"), print)

English (version 1, Xu et al. 2023): words that occur at least 100 times, 251,465 at most; pairs with pointwise mutual
information of at least 30, 100,646 at most; titles with at least 70 views in hours of at least 50, 61,235 at most;
500,000 entries at most. Other languages (version 2, Chuang et al. 2025): the most frequent words, a tenth of them;
pairs above 30; the titles most looked at, 76 % of them; with the same most of each; entries of 256 characters at most.
The most of each are what version 1 had of it, and stand as constants in the code of version 2. Where more pass, those
with the highest counts, views or mutual information stay; of pairs that have the same, those that occur more often.
Followed: `metaclip1/build_metadata.py` and `metadata/build_metadata.py` of facebookresearch/MetaCLIP. There the order
of entries is a set's; here it is that of the sources, and within them the most frequent first, ties by characters.
Mutual information is NLTK's: log2(n(ab) N / (n(a) n(b))), N the sum of all words' counts. 30 is for a text of billions
of words: two words that occur once, together, have log2 N, so that there all such pairs pass, and without a most of
pairs no title would come in.
"""

from __future__ import annotations

import json
import shutil
import string
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path

from curate.metadata.parts import Parts, files_of
from curate.metadata.sources import Tell, count_text, count_titles, lemmas, synsets
from curate.metadata.words import NO_SPACES, only_marks, tokenizer_for

PLUS = frozenset({"zh", "ja", "fr"})  # their wordnets write "+" between parts of a word
ENGLISH = "en"


@dataclass(frozen=True)
class Sources:
    """Where things are; each may be left out. Files may be packed (.gz, .bz2, .xz); folders are read whole."""

    wikipedia: list[str] = field(default_factory=list)
    titles: list[str] = field(default_factory=list)
    wordnet: str | None = None


@dataclass(frozen=True)
class Rules:
    """Thresholds. Those of English come first; then those of the other languages, and what all have."""

    language: str = ENGLISH
    min_count: int = 100
    min_views: int = 70
    min_hour_views: int = 50
    entries: int = 500_000
    word_share: float = 0.1
    title_share: float = 0.76
    most_words: int = 251_465
    most_pairs: int = 100_646
    most_titles: int = 61_235
    longest: int = 256
    min_pmi: float = 30.0
    tokenizer: str | None = None
    memory: str = "4GB"

    @property
    def english(self) -> bool:
        return self.language == ENGLISH


def build(sources: Sources, rules: Rules, out: Path, tell: Tell) -> list[str]:
    """Write the list, and give it back. What was counted stays beside it, in <out>.work, until it is written.

    Raises:
        ValueError: a source is missing or is not what it should be, and what to do; nothing was counted then.
    """
    if not (sources.wikipedia or sources.titles or sources.wordnet):
        raise ValueError("nothing to make a list of: give --wikipedia, --titles or --wordnet")
    tokenizer = tokenizer_for(rules.language, rules.tokenizer) if sources.wikipedia else ""
    files_of([*sources.wikipedia, *sources.titles])
    named = list(_synsets(sources.wordnet, rules.language))
    parts = Parts(out.with_name(out.name + ".work"))
    sites = {rules.language.replace("_", "-")}
    if not rules.english:
        sites |= {f"{site}.m" for site in sites}
    count_text(parts, sources.wikipedia, tokenizer, tell)
    count_titles(parts, sources.titles, frozenset(sites), rules.min_hour_views if rules.english else 1, tell)
    counted = Counted(parts, rules)
    try:
        entries = _merged(named, counted, rules, tell)
    finally:
        counted.close()
    write(entries, out)
    shutil.rmtree(parts.folder, ignore_errors=True)
    return entries


def write(entries: list[str], out: Path) -> None:
    """A JSON array, whole or not at all."""
    temporary = out.with_name(f".{out.name}.part")
    temporary.write_text(json.dumps(entries, ensure_ascii=False), encoding="utf-8")
    temporary.replace(out)


def merge(lists: Iterable[Iterable[str]]) -> list[str]:
    """Several lists as one, each entry once, where it first came: variants of a language, or all that have no label."""
    return list(dict.fromkeys(chain.from_iterable(lists)))


def _synsets(wordnet: str | None, language: str) -> Iterator[str]:
    from stages.wordnet_index import dict_folder

    if wordnet is None:
        return
    path = Path(wordnet).expanduser()
    if language == ENGLISH:
        yield from synsets(dict_folder(wordnet))
        return
    if not path.is_file():
        raise ValueError(f"{path}: for {language}, expected a file of an Open Multilingual Wordnet, wn-data-<code>.tab")
    for lemma in lemmas(path):
        yield (lemma.replace("+", "") if language in PLUS else lemma).strip()


class Counted:
    """What the parts add up to. Lists come the most frequent first, and are no longer than asked."""

    def __init__(self, parts: Parts, rules: Rules) -> None:
        self.rules = rules
        self.kinds = set(parts.names)
        self._connection = parts.connection(rules.memory)
        if "words" in self.kinds:
            self._connection.execute("CREATE TEMP TABLE w AS SELECT word, sum(n) AS n FROM words GROUP BY word")
        if "titles" in self.kinds:
            self._connection.execute("CREATE TEMP TABLE t AS SELECT title, sum(n) AS n FROM titles GROUP BY title")

    def close(self) -> None:
        self._connection.close()

    def different(self, table: str) -> int:
        """How many words (w) or titles (t) there are."""
        if {"w": "words", "t": "titles"}[table] not in self.kinds:
            return 0
        return int(self._connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0])

    def words(self, most: int) -> list[str]:
        """In English those with `min_count`."""
        least = self.rules.min_count if self.rules.english else 1
        return self._list("words", f"SELECT word FROM w WHERE n >= {least} ORDER BY n DESC, word LIMIT {most}")

    def pairs(self, most: int) -> list[str]:
        """By mutual information, then by how often they occur."""
        joint = "" if self.rules.language in NO_SPACES else " "
        bound = f"pmi {'>=' if self.rules.english else '>'} {self.rules.min_pmi}"
        return self._list(
            "pairs",
            f"""SELECT first || '{joint}' || second FROM (
                SELECT first, second, p.n, log2(p.n::DOUBLE * (SELECT sum(n) FROM w) / (a.n::DOUBLE * b.n)) AS pmi
                FROM (SELECT first, second, sum(n) AS n FROM pairs GROUP BY ALL) p
                JOIN w a ON a.word = first JOIN w b ON b.word = second
            ) WHERE {bound} ORDER BY pmi DESC, n DESC, first, second LIMIT {most}""",
        )

    def titles(self, most: int) -> list[str]:
        """In English those with `min_views`."""
        least = self.rules.min_views if self.rules.english else 1
        return self._list("titles", f"SELECT title FROM t WHERE n >= {least} ORDER BY n DESC, title LIMIT {most}")

    def _list(self, kind: str, query: str) -> list[str]:
        if kind not in self.kinds:
            return []
        return [str(row[0]) for row in self._connection.execute(query).fetchall()]


def _merged(named: list[str], counted: Counted, rules: Rules, tell: Tell) -> list[str]:
    """Sources one after another; of each but WordNet so many *new* entries."""
    entries: dict[str, None] = {str(n): None for n in range(100)}

    def take(source: str, found: Callable[[int], list[str]], most: int) -> None:
        before = len(entries)
        end = min(before + most, rules.entries) if rules.english else before + most
        for entry in found(len(entries) + most):  # as many as were taken already may be among them
            if len(entries) >= end:
                break
            entry = entry if rules.english else entry.strip()
            if fit(entry, rules):
                entries.setdefault(entry)
        tell(f"{source}: {len(entries) - before} new entries, {len(entries)} together")

    def room(share: float, different: int, most: int) -> int:
        return most if rules.english else min(most, int(different * share))

    take("wordnet", lambda _: named, len(named))
    take("words", counted.words, room(rules.word_share, counted.different("w"), rules.most_words))
    take("pairs", counted.pairs, room(1.0, rules.most_pairs, rules.most_pairs))
    take("titles", counted.titles, room(rules.title_share, counted.different("t"), rules.most_titles))
    return list(entries)


def fit(entry: str, rules: Rules) -> bool:
    """Version 1 leaves out what is empty or one ASCII mark; version 2 what is marks only, or too long."""
    if rules.english:
        return bool(entry) and not (len(entry) == 1 and entry in string.punctuation)
    return len(entry) <= rules.longest and not only_marks(entry)
