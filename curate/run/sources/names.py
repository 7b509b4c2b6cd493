"""Which column is which: names the recipe gives, or guesses, for the columns of one file."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass

from curate.errors import UserError
from curate.run.sources.spec import AUTO, SourceSpec

GUESSES = {
    "url": ("url", "image_url", "img_url", "imageurl", "image_link"),
    "text": ("text", "caption", "captions", "texts", "alt", "alt_text", "alttext", "title"),
    "uid": ("uid",),
    "sha256": ("sha256",),
    "image": ("image", "image_bytes", "bytes", "img", "jpg", "jpeg", "png", "webp", "content"),
    "file": ("file_name", "filename", "file", "image_path", "filepath", "path", "image"),
}


@dataclass(frozen=True)
class Names:
    """The file's own names of the columns that mean something here; null where it has none."""

    url: str | None = None
    text: str | None = None
    uid: str | None = None
    sha256: str | None = None
    image: str | None = None
    file: str | None = None

    @property
    def used(self) -> frozenset[str]:
        every = (self.url, self.text, self.uid, self.sha256, self.image, self.file)
        return frozenset(n for n in every if n is not None)


def resolve(spec: SourceSpec, file: str, columns: Sequence[str], needed: Sequence[str], asked: Sequence[str]) -> Names:
    """Find the columns `asked` for; those `needed` must be there or be declared absent.

    Raises:
        UserError: missing or ambiguous; names the file, the columns found and the nearest name.
    """
    return Names(**{role: _one(spec, role, file, columns, role in needed) for role in asked})


def _one(spec: SourceSpec, role: str, file: str, columns: Sequence[str], needed: bool) -> str | None:
    wanted = getattr(spec, role)
    if wanted is None:
        return None
    if wanted != AUTO:
        if wanted in columns:
            return str(wanted)
        raise UserError(f"{file}: no column {wanted!r}.{nearest(wanted, columns)} Say `{role}: NAME` under `source:`")
    found = [c for c in columns if c.casefold() in GUESSES[role]]
    if len(found) == 1:
        return found[0]
    if found:
        raise UserError(
            f"{file}: {_quoted(found)} could each be the {role}; say which: `{role}: {found[0]}` under `source:`"
        )
    if not needed:
        return None
    none = f", or `{role}: null` if there is none" if role == "text" else ""
    near = nearest(role, columns)
    raise UserError(f"{file}: which column is the {role}?{near} Say `{role}: NAME` under `source:`{none}")


def nearest(name: str, columns: Sequence[str]) -> str:
    """What the file has, and the name that looks most like the one that was not found."""
    close = difflib.get_close_matches(name.casefold(), [c.casefold() for c in columns], n=1, cutoff=0.5)
    meant = next((c for c in columns if close and c.casefold() == close[0]), None)
    have = f" It has {_quoted(columns)}" if columns else " It has no columns"
    return f"{have}; did you mean {meant!r}?" if meant else f"{have}."


def _quoted(names: Sequence[str]) -> str:
    return ", ".join(repr(n) for n in names)
