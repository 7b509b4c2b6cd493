"""Language of the text by Google's compact language detector 3, which LAION and COYO asked.

    columns: [language_cld3]                            # lang_cld3, lang_cld3_prob, lang_cld3_reliable
    filters:
      - language: {keep: [en], column: lang_cld3}
        on_missing: drop

LAION-5B (Schuhmann et al. 2022) and COYO-700M (card); DataComp's LAION-2B baseline. Followed: mlfoundations/datacomp,
baselines/apply_filter.py, `gcld3.NNetLanguageIdentifier(min_num_bytes=0, max_num_bytes=1000)`. LAION's split into
English, other and `nolang` is by confidence; that its bound is cld3's own reliability is unverified. Kept sizes differ
by some percent from those by fastText: a recipe says which one it means. Needed: the package cld3-py, or gcld3, which
installs from source only; both are `import gcld3` and carry the weights.
"""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from typing import Any

import pyarrow as pa
from pydantic import Field, PrivateAttr

from stages.base import Batch
from stages.language_labels import Answer, Labelled
from stages.texts import texts_of

PACKAGES = ("cld3-py", "gcld3")
MISSING = "language_cld3: no package gcld3 here; pip install cld3-py (or leave the stage out: `language` is fastText's)"


class LanguageCld3(Labelled):
    """Columns `lang_cld3` (string), `lang_cld3_prob` (float32, rounded to 1e-4) and `lang_cld3_reliable` (bool).

    Text without a word (null, empty, white space) has nulls. Text without a letter has the answer that the detector
    gives to nothing, "ja" at 0.78, reliably; with `min_bytes: 1` it is "und".

    Args:
        nolang: call what is not reliable, and "und", "nolang".
        min_bytes: shorter texts are "und". max_bytes: of longer texts the detector reads so many.

    Raises:
        ValueError: the package is not there.

    Example:
        LanguageCld3(labels={"en": "en", "*": "other"}, nolang=True, min_bytes=1)       # LAION-5B's three parts
    """

    name: str = Field(default="lang_cld3", pattern="^[a-z][a-z0-9_]{0,31}$")
    nolang: bool = False
    min_bytes: int = Field(default=0, ge=0)
    max_bytes: int = Field(default=1000, ge=1)
    _detector: Any = PrivateAttr(default=None)

    def files(self) -> tuple[str, ...]:
        if find_spec("gcld3") is None:
            raise ValueError(MISSING)
        return super().files()

    def identity(self) -> dict[str, Any]:
        """With the package that carries the weights, and its version.

        Raises:
            ValueError: the package is not there.
        """
        return {**super().identity(), "detector": _package()}

    def writes(self) -> pa.Schema:
        return self.columns_of({"": pa.string(), "_prob": pa.float32(), "_reliable": pa.bool_()})

    def open(self) -> None:
        """Make the detector.

        Raises:
            ValueError: the package is not there.
        """
        if find_spec("gcld3") is None:
            raise ValueError(MISSING)
        from gcld3 import NNetLanguageIdentifier

        self._detector = NNetLanguageIdentifier(min_num_bytes=self.min_bytes, max_num_bytes=self.max_bytes)

    def run(self, batch: Batch) -> pa.Table:
        if self._detector is None:
            self.open()
        rows = [self._answer(text) for text in texts_of(batch[self.text])[0]]
        languages = self.renamed((lang, prob, reliable or not self.nolang) for lang, prob, reliable in rows)
        reliable = [None if lang is None else sure for lang, _, sure in rows]
        return self.table(batch, languages, [prob for _, prob, _ in rows], reliable)

    def _answer(self, text: str | None) -> Answer:
        if text is None or not text.replace("\0", " ").strip():
            return None, None, False
        found = self._detector.FindLanguage(text=text)
        return found.language, round(min(1.0, found.probability), 4), bool(found.is_reliable)


def _package() -> str:
    """Name and version of what is imported as gcld3, as "cld3-py 3.1.0"."""
    if find_spec("gcld3") is None:
        raise ValueError(MISSING)
    for name in PACKAGES:
        try:
            return f"{name} {version(name)}"
        except PackageNotFoundError:
            continue
    raise ValueError(
        f"language_cld3: gcld3 is here, but no package {' or '.join(PACKAGES)} that says its version, on which the "
        "answers depend; install it by pip install cld3-py"
    )
