"""The lists of entries that a MetaCLIP stage or filter reads: one file, or a folder with one a language.

    lists("metadata.json", by_language=False)       # {"": "/.../metadata.json"}
    lists("metadata/", by_language=True)            # {"de": "/.../de.json", "en": ..., "other": ...}

A text goes to the list of its language, by the label in the language column; labels without a list, and texts without a
label, go to "other" where there is one, and match nothing where there is none.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

OTHER = "other"
MAKE = "make one with `curate metadata build`, or take metadata.json from facebookresearch/MetaCLIP"


def absolute(path: str) -> str:
    """So that it means the same file in every worker."""
    return str(Path(path).expanduser().absolute())


def lists(metadata: str, by_language: bool) -> dict[str, str]:
    """Label -> path, ascending by label; a single list has the label "".

    Raises:
        ValueError: there is no such file or folder, and what to do.
    """
    path = Path(metadata)
    if not by_language:
        if path.is_dir():
            raise ValueError(
                f"metadata: {path} is a folder; name one of its lists, or give `language:` for all of them"
            )
        if not path.is_file():
            raise ValueError(f"metadata: no list of entries at {path}; {MAKE}")
        return {"": str(path)}
    if not path.is_dir():
        raise ValueError(
            f"metadata: with `language:` it is a folder of <label>.json, and {path} is none; {MAKE} --language <code>"
        )
    found = {file.stem: str(file) for file in sorted(path.glob("*.json"))}
    if not found:
        raise ValueError(f"metadata: {path} has no <label>.json; {MAKE} --language <code>")
    return found


def numbers(labels: Sequence[str], languages: pa.Array | pa.ChunkedArray | None, rows: int) -> np.ndarray:
    """int64 (rows,): which of the lists each text goes to, -1 for none; `languages` None: the single list."""
    if languages is None:
        return np.zeros(rows, np.int64)
    place = {label: i for i, label in enumerate(labels)}
    rest = place.get(OTHER, -1)
    if isinstance(languages, pa.ChunkedArray):
        languages = languages.combine_chunks()
    coded = languages.dictionary_encode()
    of_code = np.array([place.get(label, rest) for label in coded.dictionary.to_pylist()] + [rest], np.int64)
    return of_code[coded.indices.fill_null(len(of_code) - 1).to_numpy(zero_copy_only=False)]
