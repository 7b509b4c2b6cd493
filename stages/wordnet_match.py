"""Does the text name a thing from a list of WordNet synsets? DataComp's text-based filter asks it for ImageNet-21k's.

    stage = WordnetMatch(synsets="imagenet21k_synsets.txt")
    stage.run(Batch.of(pa.table({"text": ["two dogs in a park"]})))     # wordnet_match true, wordnet_word "dogs"

    columns:                                                            # in a recipe
      - wordnet_match: {synsets: lists/imagenet21k_synsets.txt}
    filters:
      - {id: names_a_thing, where: wordnet_match, on_missing: drop}

DataComp (Gadre et al. 2023), `baselines/apply_filter.py`, which was followed, [C]: words are split at white space, and
their punctuation stays on them ("dog," is no word of WordNet); NLTK 3.8.1, which its requirements pin, looks each up
in lower case and base form; only the first synset of all parts of speech counts. The code compares byte offsets without
the part of speech, so that a verb's could stand for a noun's; `part_of_speech: noun` looks at nouns only. `base_forms:
once` is what NLTK does since 3.9: "less" then is no plural any more. `sense: any` and `punctuation: strip` are this
project's, for texts of the web.

Needs WordNet 3.0's files (`stages.wordnet_index` says where they are looked for; Debian: wordnet-base) and a list of
synsets, one a line as n02084071: DataComp's is imagenet21k_wordnet_ids.txt of Google's bit_models; pytorch-image-models
has the same set as imagenet21k_synsets.txt. Offsets change with every release of WordNet: a list that does not fit the
one at hand is refused.
"""

from __future__ import annotations

import re
import string
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
from pydantic import PrivateAttr, field_validator

from stages import wordnet_index
from stages.base import TEXT, Batch, Column, Need, Stage

_SYNSET = re.compile(r"^[nvasr]?(\d{8})(?=\s|$)")
MOST_STRANGERS = 0.1  # share of a list that may be no synset of this WordNet: 3.1 has almost none of 3.0's offsets
REMEMBERED = 200_000  # words a worker keeps the answer of


class WordnetMatch(Stage):
    """Columns `wordnet_match` (bool) and `wordnet_word` (string, the first word that matched). Null text: null.

    synsets: a file of synset ids, one at the beginning of each line. wordnet: WordNet's folder; None looks in the usual
    places. sense: first, the first of all a word's synsets; any, each of them. part_of_speech: any, as the code; noun.
    punctuation: keep, as the code; strip takes it from both ends of a word. base_forms: repeated, as NLTK 3.8.1; once,
    as later releases.
    """

    synsets: str
    wordnet: str | None = None
    sense: Literal["first", "any"] = "first"
    part_of_speech: Literal["any", "noun"] = "any"
    punctuation: Literal["keep", "strip"] = "keep"
    base_forms: Literal["repeated", "once"] = "repeated"
    _known: Any = PrivateAttr(default=None)

    @field_validator("synsets", "wordnet")
    @classmethod
    def _absolute(cls, value: str | None) -> str | None:
        return None if value is None else str(Path(value).expanduser().absolute())

    def files(self) -> tuple[str, ...]:
        """The list, and WordNet's index and exception files.

        Raises:
            ValueError: they are not there; says where to get them.
        """
        if not Path(self.synsets).is_file():
            raise ValueError(
                f"wordnet_match: no list of synsets at {self.synsets}; for ImageNet-21k take imagenet21k_synsets.txt "
                "of pytorch-image-models"
            )
        try:
            folder = wordnet_index.dict_folder(self.wordnet)
        except ValueError as e:
            raise ValueError(f"wordnet_match: {e}") from e
        return (self.synsets, *(str(folder / name) for name in wordnet_index.file_names()))

    def identity(self) -> dict[str, Any]:
        """Without the folder: its files' digests stand for it, wherever it lies."""
        found = super().identity()
        del found["parameters"]["wordnet"]
        return found

    def reads(self) -> tuple[Column, ...]:
        return (TEXT,)

    def writes(self) -> pa.Schema:
        return pa.schema([("wordnet_match", pa.bool_()), ("wordnet_word", pa.string())])

    def need(self) -> Need:
        return Need(memory_gb=0.5)

    def open(self) -> None:
        """Read the list and the index.

        Raises:
            ValueError: they are not there, damaged, or of two releases of WordNet.
        """
        files = self.files()
        try:
            wanted, index = synset_offsets(Path(self.synsets)), wordnet_index.read(Path(files[1]).parent)
            _same_release(wanted, index, Path(self.synsets), Path(files[1]).parent)
        except ValueError as e:
            raise ValueError(f"wordnet_match: {e}") from e
        parts = "n" if self.part_of_speech == "noun" else "nvar"
        first, repeated = self.sense == "first", self.base_forms == "repeated"

        @lru_cache(maxsize=REMEMBERED)
        def known(word: str) -> bool:
            senses = index.senses(word, parts, repeated)
            return any(offset in wanted for _, offset in (senses[:1] if first else senses))

        self._known = lambda word: len(word) <= index.longest and known(word)  # no long ones among those remembered

    def run(self, batch: Batch) -> pa.Table:
        if self._known is None:
            self.open()
        texts = batch[TEXT].to_pylist()
        words = [None if text is None else self._first(text) for text in texts]
        matches = [None if text is None else word is not None for text, word in zip(texts, words, strict=True)]
        return pa.table([matches, words], schema=self.writes())

    def _first(self, text: str) -> str | None:
        """The first word of the text that names one of the synsets."""
        words = text.split()
        if self.punctuation == "strip":
            words = [word.strip(string.punctuation) for word in words]
        return next((word for word in words if self._known(word)), None)


def synset_offsets(file: Path) -> frozenset[int]:
    """Offsets of a list of synset ids (n02084071); what follows an id on its line is not looked at.

    Raises:
        ValueError: a line that begins with no id; names it.
    """
    found = set()
    for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        match = _SYNSET.match(line)
        if match is None:
            raise ValueError(f"{file}, line {number}: {line[:40]!r} does not begin with a synset such as n02084071")
        found.add(int(match[1]))
    if not found:
        raise ValueError(f"{file} has no synset")
    return frozenset(found)


def _same_release(wanted: frozenset[int], index: wordnet_index.Index, file: Path, folder: Path) -> None:
    there = {offset for lemmas in index.offsets.values() for offsets in lemmas.values() for offset in offsets}
    strangers = len(wanted - there)
    if strangers > MOST_STRANGERS * len(wanted):
        raise ValueError(
            f"{strangers} of the {len(wanted)} synsets in {file} are not in the WordNet at {folder}: they are of two "
            "releases; ImageNet's ids are of WordNet 3.0"
        )
