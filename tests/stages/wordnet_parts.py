"""A small WordNet, written in the real format, so that NLTK reads it too."""

from __future__ import annotations

import shutil
import tempfile
from collections import defaultdict
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from stages.wordnet_index import dict_folder

PARTS = {"n": "noun", "v": "verb", "a": "adj", "r": "adv"}
SYNSETS = {  # part of speech -> lemmas of each synset, in the order of their offsets
    "n": [
        "entity",
        "dog domestic_dog",
        "frump dog",
        "man adult_male",
        "ax axe",
        "box",
        "cat",
        "bus",
        "ox",
        "wolf",
    ],
    "v": ["run", "chase dog", "bless", "be", "cat", "box", "axe ax"],
    "a": ["big large", "red", "fine"],
    "r": ["fast", "fine"],
}
EXCEPTIONS = {
    "n": ["oxen ox", "axes ax axis", "men man"],
    "v": ["ran run", "was be"],
    "a": ["bigger big"],
    "r": ["best well"],
}
LICENCE = "  1 This software and database is being provided to you, the LICENSEE  \n"
LEXNAMES = "00\tadj.all\t3\n01\tadv.all\t4\n02\tnoun.Tops\t1\n03\tverb.social\t2\n"
FILE_NUMBERS = {"n": "02", "v": "03", "a": "00", "r": "01"}


def write_wordnet(folder: Path) -> dict[str, dict[str, list[int]]]:
    """Files of a dict folder; gives part of speech -> lemma -> offsets."""
    found: dict[str, dict[str, list[int]]] = {}
    for part, name in PARTS.items():
        found[part] = _write_part(folder, part, name)
        (folder / f"{name}.exc").write_text("".join(f"{line}\n" for line in EXCEPTIONS[part]))
    (folder / "lexnames").write_text(LEXNAMES)
    (folder / "cntlist.rev").write_text("")
    return found


def _write_part(folder: Path, part: str, name: str) -> dict[str, list[int]]:
    data, offsets = LICENCE, defaultdict(list)
    for lemmas in SYNSETS[part]:
        words = lemmas.split()
        at = len(data)
        frames = " 01 + 02 00" if part == "v" else ""
        said = " ".join(f"{word} 0" for word in words)
        data += f"{at:08d} {FILE_NUMBERS[part]} {part} {len(words):02x} {said} 000{frames} | {lemmas}  \n"
        for word in words:
            offsets[word].append(at)
    (folder / f"data.{name}").write_text(data)
    rows = [
        f"{word} {part} {len(at)} 1 @ {len(at)} 0 {' '.join(f'{offset:08d}' for offset in at)}  \n"
        for word, at in sorted(offsets.items())
    ]
    (folder / f"index.{name}").write_text(LICENCE + "".join(rows))
    return dict(offsets)


def nltk_reader(folder: Path) -> Any:
    """NLTK's own reader of the folder; a test that needs it is skipped where NLTK is not there."""
    nltk = pytest.importorskip("nltk", reason="nltk is not installed: base forms are not compared with it")
    from nltk.corpus.reader.wordnet import WordNetCorpusReader

    class Reader(WordNetCorpusReader):
        def map_wn(self, version: str = "wordnet") -> None:
            """No map to other releases, which would want a second WordNet in NLTK's own folder."""

    nltk.data.path.append(str(folder))  # it opens no other folders
    with pytest.warns(UserWarning, match="multilingual"):
        return Reader(str(folder), None)


@cache
def real_wordnet() -> tuple[Path, Any]:
    """(folder of the installed WordNet, NLTK's reader of it), read once for all tests; skipped where there is none."""
    try:
        folder = dict_folder(None)
    except ValueError as e:
        pytest.skip(f"the real WordNet is not compared with NLTK's: {e}")
    with tempfile.TemporaryDirectory() as place:
        reader = nltk_reader(_nltk_copy(folder, Path(place) / "copy"))
        (
            reader.synsets("dog"),
            reader.synsets("run"),
            reader.synsets("red"),
            reader.synsets("fast"),
        )  # files are open now
        return folder, reader


def _nltk_copy(folder: Path, to: Path) -> Path:
    """A copy that NLTK can read: Debian leaves out the names of the lexicographers' files."""
    shutil.copytree(folder, to)
    if not (to / "lexnames").is_file():
        parts = {"adj.": 3, "adv.": 4, "noun.": 1, "verb.": 2}
        kinds = ["adj."] * 2 + ["adv."] + ["noun."] * 26 + ["verb."] * 15 + ["adj."]
        rows = [f"{number:02d}\t{kind}x{number}\t{parts[kind]}\n" for number, kind in enumerate(kinds)]
        (to / "lexnames").write_text("".join(rows))
    return to
