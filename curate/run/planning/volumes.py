"""Bytes a row of what steps read and write, in the order of a plan: what one step would write, a later one reads."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from curate.pool.layout import PIXELS
from curate.run.planned import IMAGE_READ, Made
from curate.run.planning.sizes import FILE, Size, Sizes, guess
from stages.base import Stage

FACTS = 250.0  # bytes a row of facts, about: texts, URLs, digests


class Volumes:
    """Bytes a row by folder. `sample`: those that a sample gave, "tar" for images."""

    def __init__(self, sizes: Sizes, sample: Mapping[str, float], stored: float | None) -> None:
        """Args: stored: bytes of a stored image where none is there to be measured; None: not known either."""
        self._sizes, self._sample = sizes, sample
        self._found: dict[str, Size] = {}
        tar = sizes.images() or sample.get("tar")
        self.tar = Size(tar) if tar else Size(stored or 0.0, measured=False)
        self.facts = self.of(Made(None, PIXELS, ()), FACTS)

    def of(self, made: Made, instead: float | None = None) -> Size:
        """By the folder's own files, the sample's, those of another folder of the method; else by types."""
        if made.folder not in self._found:
            alike = self._sizes.folder(made.folder) or self._sample.get(made.folder) or self._sizes.like(made.folder)
            by_type = Size(instead, measured=False) if instead else guess(made.owner)
            self._found[made.folder] = by_type if alike is None else Size(alike)
        return self._found[made.folder]

    def written(self, made: Made, rows: int, parts: int) -> float:
        """Bytes of so many files with so many rows."""
        size = self.of(made)
        return size.bytes * rows + (0 if size.measured or not rows else FILE * parts)

    def read(self, makes: Iterable[Made]) -> float:
        """Bytes a row of the files that are opened for these.

        That of the facts is opened for the uids, again for columns of it (which stages always get), and for the places
        of images.
        """
        made = list(makes)
        reads = {r for m in made for r in m.about.get("reads", [])}
        image = IMAGE_READ in reads
        homes = {r.rpartition(":")[0] for r in reads if r != IMAGE_READ}
        facts = 1 + ("fact" in homes or any(isinstance(m.owner, Stage) for m in made)) + image
        above = {f for m in made for f in m.about.get("above", [])}
        others = homes - {"fact", *(m.folder for m in made)} | above
        return facts * self.facts.bytes + image * self.tar.bytes + self.folders(others)

    def folders(self, homes: Iterable[str]) -> float:
        """Bytes a row of these folders; of a barrier, of its last phase."""
        total = 0.0
        for home in sorted(homes):
            found = [s.bytes for f, s in self._found.items() if f == home or f.startswith(f"{home}/")]
            total += found[-1] if found else self.of(Made(None, home, ())).bytes
        return total
