"""WordNet's index files, and the base forms of English words, as NLTK's reader and `morphy` find them.

    folder = dict_folder(None)                        # where Debian, Princeton's installer or NLTK put the files
    index = read(folder)
    index.senses("dogs")                              # (("n", 2084071), ("n", 10114209), ..., ("v", 2001876))

Only the index and exception files are read (6 MB): synsets are their byte offsets, no definitions are looked at.
WordNet: Miller 1995; files as in its manual page wndb(5WN). Followed: `synsets()` and `_morphy()` of NLTK's
`corpus/reader/wordnet.py`: the word in lower case, and its exceptions if it has some, else what each rule makes of it;
all forms that are in the index, nouns before verbs before adjectives before adverbs. Up to 3.8.1 NLTK applied the rules
again and again where that found nothing ("blesseds" is "bless" in the end); 3.9 and later apply them once. Here a word
that is longer than any lemma by more than INFLECTED characters is none, without a look at its thousand endings.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

PARTS = {"n": "noun", "v": "verb", "a": "adj", "r": "adv"}  # in the order in which senses are listed
INFLECTED = 32
"""Characters of endings that a word may have after what is in the index: some ten rules, one after another."""
RULES: dict[str, tuple[tuple[str, str], ...]] = {
    "n": (
        ("s", ""),
        ("ses", "s"),
        ("ves", "f"),
        ("xes", "x"),
        ("zes", "z"),
        ("ches", "ch"),
        ("shes", "sh"),
        ("men", "man"),
        ("ies", "y"),
    ),
    "v": (("s", ""), ("ies", "y"), ("es", "e"), ("es", ""), ("ed", "e"), ("ed", ""), ("ing", "e"), ("ing", "")),
    "a": (("er", ""), ("est", ""), ("er", "e"), ("est", "e")),
    "r": (),
}
INSTALL = (
    "install it with `apt-get install wordnet-base`, or take the folder `dict` of Princeton's WordNet-3.0.tar.gz, or "
    "NLTK's corpora/wordnet, and say `wordnet: /path/to/folder`"
)


def dict_folder(given: str | None) -> Path:
    """The folder of WordNet's files: the given one; else of $WNSEARCHDIR, $WNHOME, Debian's package, NLTK's data.

    Raises:
        ValueError: there is none; says what to do.
    """
    places = [Path(given).expanduser()] if given is not None else _usual_places()
    for place in places:
        if all((place / name).is_file() for name in file_names()):
            return place
    looked = f"at {places[0]}" if given is not None else f"in any of {', '.join(map(str, places))}"
    raise ValueError(f"no WordNet ({', '.join(file_names()[:2])}, ...) {looked}: {INSTALL}")


def _usual_places() -> list[Path]:
    variables = [(os.environ.get("WNSEARCHDIR"), ""), (os.environ.get("WNHOME"), "dict")]
    named = [Path(value) / below for value, below in variables if value]
    nltk = [Path(p) for p in os.environ.get("NLTK_DATA", "").split(os.pathsep) if p]
    homes = [*nltk, Path.home() / "nltk_data", Path("/usr/share/nltk_data"), Path("/usr/local/share/nltk_data")]
    return [*named, Path("/usr/share/wordnet"), *(home / "corpora" / "wordnet" for home in homes)]


def file_names() -> tuple[str, ...]:
    """Names of the files that are read: index.noun, ..., noun.exc, ..."""
    return (*(f"index.{part}" for part in PARTS.values()), *(f"{part}.exc" for part in PARTS.values()))


@dataclass(frozen=True)
class Index:
    """For each part of speech ("n", "v", "a", "r"): lemma -> offsets of its synsets, the most frequent first; and
    irregular form -> base forms. Lemmas are in lower case, with underscores for spaces."""

    offsets: dict[str, dict[str, tuple[int, ...]]]
    exceptions: dict[str, dict[str, tuple[str, ...]]]

    @cached_property
    def longest(self) -> int:
        """Characters of the longest word that can be found."""
        return INFLECTED + max((len(lemma) for lemmas in self.offsets.values() for lemma in lemmas), default=0)

    def forms(self, word: str, part: str, repeated: bool = False) -> list[str]:
        """The word itself and its base forms, those that are in the index; `word` in lower case.

        repeated: where that finds none, apply the rules to what they made, until they find one or apply no more.
        """
        if len(word) > self.longest:
            return []
        irregular = self.exceptions[part].get(word)
        bases = self._ruled([word], part) if irregular is None else list(irregular)
        found = self._known([word, *bases], part)
        while repeated and irregular is None and bases and not found:
            bases = self._ruled(bases, part)
            found = self._known(bases, part)
        return found

    def senses(self, word: str, parts: str = "nvar", repeated: bool = False) -> list[tuple[str, int]]:
        """(part of speech, offset) of every synset of a word in any case and inflection, as NLTK's `synsets(word)`."""
        if len(word) > self.longest:  # of a megabyte of letters not even a copy in lower case
            return []
        low = word.lower()
        return [(p, at) for p in parts for form in self.forms(low, p, repeated) for at in self.offsets[p][form]]

    def _known(self, forms: list[str], part: str) -> list[str]:
        return [form for form in dict.fromkeys(forms) if form in self.offsets[part]]

    def _ruled(self, forms: list[str], part: str) -> list[str]:
        """What each rule makes of each form; equal ones once, as there are ever more of them in a long word."""
        made = [f[: -len(old)] + new for f in forms for old, new in RULES[part] if f.endswith(old)]
        return list(dict.fromkeys(made))


def read(folder: Path) -> Index:
    """The index of a folder of WordNet's files; some 60 MB in memory, half a second.

    Raises:
        ValueError: a line is not what wndb(5WN) says; names file and line.
    """
    offsets = {part: _index(folder / f"index.{name}") for part, name in PARTS.items()}
    return Index(offsets, {part: _exceptions(folder / f"{name}.exc") for part, name in PARTS.items()})


def _index(file: Path) -> dict[str, tuple[int, ...]]:
    """``lemma pos synsets pointers [symbol ...] senses tagged [offset ...]``; the licence's lines begin with spaces."""
    found = {}
    with file.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            if line.startswith(" "):
                continue
            words = line.split()
            try:
                count, pointers = int(words[2]), int(words[3])
                offsets = tuple(int(word) for word in words[6 + pointers :])
            except (IndexError, ValueError) as e:
                raise ValueError(f"{file}, line {number}: not a line of WordNet's index: {line.strip()!r}") from e
            if not 0 < count == len(offsets):
                raise ValueError(f"{file}, line {number}: {count} synsets are announced, {len(offsets)} are there")
            found[words[0]] = offsets
    return found


def _exceptions(file: Path) -> dict[str, tuple[str, ...]]:
    with file.open(encoding="utf-8") as lines:
        rows = [line.split() for line in lines]
    return {row[0]: tuple(row[1:]) for row in rows if row}
