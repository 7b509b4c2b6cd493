"""A pipeline of spaCy's: a folder or an installed package, found before anything runs, and loaded with what is wanted.

    files("en_core_web_sm")                    # ("/.../config.cfg", "/.../parser/model", ...); or a folder's path
    nlp = load("en_core_web_sm", without=("ner", "lemmatizer"))

Pipelines are got with `python -m spacy download en_core_web_sm`, or `nlp.to_disk(folder)`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

INSTALL = "pip install 'curate[text]'"
AT_ONCE = 64  # texts in a batch of spaCy's: part of what decides the last bits


def settled(model: str) -> str:
    """A folder made absolute, so that it means the same in every worker; a package's name as it is."""
    path = Path(model).expanduser()
    return str(path.absolute()) if path.is_dir() or not re.match(r"^\w+$", model) else model


def files(model: str) -> tuple[str, ...]:
    """Every file of the pipeline, sorted.

    Raises:
        ValueError: there is no such pipeline; says what to do.
    """
    folder = _folder(model)
    return tuple(str(path) for path in sorted(folder.rglob("*")) if path.is_file())


def names(model: str) -> list[str]:
    """The files' names within the pipeline: with their digests they say which one it is, wherever it lies."""
    folder = _folder(model)
    return [str(Path(path).relative_to(folder)) for path in files(model)]


def load(model: str, without: Sequence[str]) -> Any:
    """The pipeline, less the components named.

    Raises:
        ValueError: spaCy or the pipeline are not here, or do not fit each other.
    """
    folder = _folder(model)
    try:
        import spacy
    except ImportError as e:
        raise ValueError(f"{model!r} needs spaCy ({e}): {INSTALL}") from e
    try:
        return spacy.load(folder, exclude=list(without))
    except Exception as e:  # whatever spaCy or a damaged file throws
        raise ValueError(f"spaCy cannot load {folder}: {type(e).__name__}: {str(e).splitlines()[0]}") from e


def docs(nlp: Any, texts: Sequence[str | None], most: int) -> Iterator[Any | None]:
    """spaCy's answer to the first `most` characters of each text; None where there is no text."""
    found = nlp.pipe([text[:most] for text in texts if text is not None], batch_size=AT_ONCE)
    return (None if text is None else next(found) for text in texts)


def _folder(model: str) -> Path:
    place = Path(model)
    if not place.is_absolute():
        package = find_spec(model)
        if package is None or package.origin is None:
            raise ValueError(
                f"no folder and no installed package {model!r}: `python -m spacy download {model}`, or give the folder "
                "of a pipeline"
            )
        place = Path(package.origin).parent
    for folder in (place, *sorted(place.glob("*-*/"))):  # a package has its pipeline in <name>-<version>
        if (folder / "config.cfg").is_file():
            return folder
    raise ValueError(f"no spaCy pipeline at {place}: it has no config.cfg")
