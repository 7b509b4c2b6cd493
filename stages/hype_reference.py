"""Pairs that HYPE measures by: tangent vectors of a seeded sample of a pack, in one .npz.

    make_reference("filters/meru/filter.pt", Pack.open("packs/clean"), "reference.npz", count=4096, seed=0)
    Reference.load("reference.npz", space("filters/meru/filter.pt"))

Which pairs these are decides what counts as specific: clean ones, such as the towers were trained on, are a pack of
`curate run`. The file names space, pack and seed.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from stages.base import Batch
from stages.hyperbolic_embedding import HyperbolicEmbedding
from stages.hyperbolic_weights import Space, space
from stages.vectors import rows_of

if TYPE_CHECKING:
    from training_smoke.packs import Pack

AT_ONCE = 256
MAKE = "`curate hype-reference` makes one"


@dataclass(frozen=True, eq=False)
class Reference:
    """image, text: tangent vectors, float16 (n, dim) each, rows in no relation. space: the one that they are of."""

    image: np.ndarray
    text: np.ndarray
    space: Space

    @classmethod
    def load(cls, path: str | Path, of: Space) -> Reference:
        """
        Raises:
            ValueError: there is none, it is another file, or its vectors are of other towers than `of` says.
        """
        if not Path(path).is_file():
            raise ValueError(f"hype: no reference vectors at {path}; {MAKE}")
        try:
            with np.load(path, allow_pickle=False) as found:
                image, text, about = found["image"], found["text"], json.loads(str(found["about"]))
            known = Space(**about["space"])
        except (OSError, ValueError, KeyError, TypeError) as e:
            raise ValueError(f"hype: {path} is no file of reference vectors ({type(e).__name__}: {e}); {MAKE}") from e
        if not known.same(of):
            raise ValueError(
                f"hype: {path} has vectors by other towers than the weights (a space of {known} and not of {of}); "
                f"{MAKE} by these"
            )
        if image.shape[1:] != (of.dim,) or image.shape[1:] != text.shape[1:] or not len(image) or not len(text):
            raise ValueError(f"hype: {path} has vectors {image.shape} and {text.shape}; expected (n, {of.dim}) twice")
        return cls(image, text, known)

    def save(self, path: Path, **about: Any) -> None:
        """Write the file; it appears whole. about: JSON values that say where the pairs come from."""
        said = json.dumps({"space": asdict(self.space), **about})
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f"{path.name}.part-{os.getpid()}")
        try:
            with part.open("wb") as file:
                np.savez(file, image=self.image, text=self.text, about=said)
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)


def make_reference(
    weights: str, pack: Pack, out: Path, *, count: int = 4096, seed: int = 0, device: str = "cpu"
) -> int:
    """Write the file; how many pairs are in it: `count`, or all of a smaller pack. The same arguments, the same bytes
    on one kind of machine.

    Args:
        weights: a file of towers trained with MERU. pack: where the pairs are drawn from, without replacement; of a
        sample's texts the likeliest; a sample without text or picture counts as drawn, and is left out.

    Raises:
        ValueError: the weights are something else, or no pair of the sample has both vectors.
        TrainingError: a sample cannot be read.
    """
    stage = HyperbolicEmbedding(weights=weights, device=device)
    stage.files()  # refuses other weights before anything is read
    rows = np.sort(np.random.default_rng(seed).permutation(len(pack))[:count])
    image, text = [], []
    for start in range(0, len(rows), AT_ONCE):
        some = rows[start : start + AT_ONCE].tolist()
        said = [max(texts, key=lambda t: t[1])[0] if (texts := pack.texts(row)) else None for row in some]
        table = stage.run(
            Batch.of(pa.table({"text": pa.array(said, pa.string())}), [pack.image_bytes(row) for row in some])
        )
        (a, seen), (b, heard) = (rows_of(table.column(n), n) for n in (stage.image, stage.text_name))
        both = seen & heard
        image.append(a[both])
        text.append(b[both])
    found = Reference(np.concatenate(image), np.concatenate(text), space(stage.weights))
    if not len(found.image):
        raise ValueError(f"hype: no pair of {pack.url} has a picture that decodes and a text")
    found.save(out, pack=pack.digest, count=len(found.image), seed=seed)
    return len(found.image)
