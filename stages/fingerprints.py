"""The stage `fingerprints`: further perceptual hashes of the stored pixels, and the signature of colours.

    columns:
      - fingerprints: {kinds: [phash256_dihedral, colours]}       # the same picture mirrored or turned
      - fingerprints: {kinds: [pdq]}                              # to exchange with others

Each kind is a column of its name: phash64, phash256 (`_stored`, as the stage `phash` has them: the facts of these names
are of the received pixels), phash64_flip, phash64_dihedral, phash256_flip, phash256_dihedral, dhash64, dhash256, pdq
(with `pdq_quality`) and colours. What each is, and after whom, is said in stages/fingerprint.py and in
stages/fingerprints_{dihedral,dhash,pdq,colours}.py. `phash_quality_stored` comes with every kind but pdq and colours:
below 50 a hash says little.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal

import numpy as np
import pyarrow as pa
from pydantic import Field, field_validator

from stages.base import IMAGE, Batch, Column, Stage
from stages.fingerprint import VERSION, decoders, luma_of, phash64_from_gray, phash256_from_gray, quality_from_gray
from stages.fingerprints_colours import BYTES
from stages.fingerprints_colours import of_pixels as colours_of
from stages.fingerprints_dhash import dhash64_of_luma, dhash256_of_luma
from stages.fingerprints_dihedral import keys64, keys256
from stages.fingerprints_pdq import of_pixels as pdq_of
from stages.lanczos import thumbnails

Kind = Literal[
    "phash64",
    "phash64_flip",
    "phash64_dihedral",
    "phash256",
    "phash256_flip",
    "phash256_dihedral",
    "dhash64",
    "dhash256",
    "pdq",
    "colours",
]
QUALITY, PDQ_QUALITY = "phash_quality_stored", "pdq_quality"
ALGORITHMS: Mapping[str, int] = {"phash": VERSION, "dhash": 1, "pdq": 1, "colours": 1}
"""Version of each family of kinds; it rises when its bytes change, and the columns of other families stay."""

Values = dict[str, Any]


class Fingerprints(Stage):
    """Perceptual hashes and the colour signature of every stored picture; nulls and `error` where it does not decode.

    64-bit hashes are uint64, 256-bit ones binary(32), `colours` binary(108), qualities uint8 (0 flat, 100 structured).
    `pdq` is null for pictures with a side below 5 pixels, whose `pdq_quality` is 0.

    The columns' folder is named after, among others, the versions of the algorithms and of Pillow and simplejpeg, which
    decode and shrink: another version of these is another folder, and hashes of two versions are never compared.

    Args:
        kinds: which, each once; their order is that of the columns.

    Example:
        Fingerprints(kinds=("phash256_dihedral", "colours")).run(batch)

    Raises:
        ValueError: no kind, one twice, or one that is not known.
    """

    kinds: Annotated[tuple[Kind, ...], Field(min_length=1)]

    @field_validator("kinds")
    @classmethod
    def _each_once(cls, kinds: tuple[Kind, ...]) -> tuple[Kind, ...]:
        if len(set(kinds)) < len(kinds):
            raise ValueError(f"each kind once, not {', '.join(kinds)}")
        return kinds

    def identity(self) -> dict[str, Any]:
        """With the versions that decide about the bits."""
        families = sorted({family(kind) for kind in self.kinds})
        by = {"algorithms": {f: ALGORITHMS[f] for f in families}}
        return {**super().identity(), **by, "decoders": decoders()}

    def reads(self) -> tuple[Column, ...]:
        return (IMAGE,)

    def writes(self) -> pa.Schema:
        fields = [pa.field(column_of(kind), _type(kind)) for kind in self.kinds]
        if {"phash", "dhash"} & {family(kind) for kind in self.kinds}:
            fields.append(pa.field(QUALITY, pa.uint8()))
        if "pdq" in self.kinds:
            fields.append(pa.field(PDQ_QUALITY, pa.uint8()))
        return pa.schema([*fields, ("error", pa.string())])

    def run(self, batch: Batch) -> pa.Table:
        schema = self.writes()
        found: list[Values] = [{} if rgb is None else self.of_pixels(rgb) for rgb in batch.images()]
        columns = [pa.array([f.get(name) for f in found], schema.field(name).type) for name in schema.names[:-1]]
        return pa.table([*columns, pa.array(batch.image_errors(), pa.string())], schema=schema)

    def of_pixels(self, rgb: np.ndarray) -> Values:
        """The values of one picture, uint8 (height, width, 3), by name of column."""
        families = {family(kind) for kind in self.kinds}
        values: Values = {}
        if {"phash", "dhash"} & families:
            values |= self._of_luma(rgb)
        if "pdq" in families:
            values |= _pdq(rgb)
        if "colours" in families:
            values["colours"] = colours_of(rgb).tobytes()
        return values

    def _of_luma(self, rgb: np.ndarray) -> Values:
        luma = luma_of(rgb)
        small, large = (t[None] for t in thumbnails(luma))
        values: Values = {QUALITY: int(quality_from_gray(large)[0])}
        for kind in self.kinds:
            if family(kind) == "phash":
                values[column_of(kind)] = PHASHES[kind](small, large)
            elif family(kind) == "dhash":
                values[kind] = DHASHES[kind](luma)
        return values


def family(kind: str) -> str:
    """phash, dhash, pdq or colours."""
    return next(name for name in ALGORITHMS if kind.startswith(name))


def column_of(kind: str) -> str:
    """Name of a kind's column: facts of the received pixels are called phash64 and phash256 already."""
    return f"{kind}_stored" if kind in ("phash64", "phash256") else kind


def _type(kind: str) -> pa.DataType:
    if kind == "colours":
        return pa.binary(BYTES)
    return pa.uint64() if "64" in kind else pa.binary(32)


def _pdq(rgb: np.ndarray) -> Values:
    found = pdq_of(rgb)
    return {PDQ_QUALITY: 0} if found is None else {"pdq": found.hash, PDQ_QUALITY: found.quality}


PHASHES: Mapping[str, Callable[[np.ndarray, np.ndarray], int | bytes]] = {
    "phash64": lambda small, _: int(phash64_from_gray(small)[0]),
    "phash64_flip": lambda small, _: int(keys64(small, "flip")[0]),
    "phash64_dihedral": lambda small, _: int(keys64(small, "dihedral")[0]),
    "phash256": lambda _, large: phash256_from_gray(large)[0].tobytes(),
    "phash256_flip": lambda _, large: keys256(large, "flip")[0].tobytes(),
    "phash256_dihedral": lambda _, large: keys256(large, "dihedral")[0].tobytes(),
}
"""kind -> value, from the thumbnails of one picture: uint8 (1, 32, 32) and (1, 64, 64)."""
DHASHES: Mapping[str, Callable[[np.ndarray], int | bytes]] = {"dhash64": dhash64_of_luma, "dhash256": dhash256_of_luma}
