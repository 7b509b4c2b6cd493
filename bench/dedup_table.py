"""Which changes of a picture do hashes survive? 28 transforms, hashes of ours beside those of imagehash and pdqhash.

500 pictures (ImageNet, COCO) are changed in 28 ways and looked up among originals: first 5,493 photos, themselves among
them, which is much like the table of 2026-11-20 that the hashes were chosen by; then also 4,307 product shots, whose
plain grounds are what hashes mix up. For each hash it is the largest threshold at which, over all transforms together,
99 % of the pairs found are true; then the share found a transform. Pairs of originals that phash256 and dhash256 both
put within 64 bits count neither way, nor do known copies.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from common import Bar, at_least, bar, each
from dedup_pictures import Hasher, Photo, blocks, distances, known_copies, pdqhash, photos, words
from dedup_transforms import TRANSFORMS
from PIL import Image

QUERIES = {"imagenet1k_sample": 250, "imagenette": 151, "coco_mini": 99}
OTHERS = ("clothing", "flickr8k")
PRODUCTS = ("fashion", "ikea_product")
PRECISION = 0.99
ALIKE = 64
OURS = ("phash64", "dhash64", "phash256", "dhash256", "pdq")
THEIRS = {"phash64": "imagehash phash", "dhash64": "imagehash dhash", "phash256": "imagehash phash 16"}
THEIRS |= {"dhash256": "imagehash dhash 16", "pdq": "pdqhash"}
ALSO = ("imagehash ahash", "imagehash whash")
EARLIER = {"phash64": 0.744, "dhash64": 0.686, "phash256": 0.775, "dhash256": 0.721, "pdq": 0.763}
"""Means of the table of 2026-11-20: 500 pictures of ImageNet and BSDS among 5,286 photos, in part those here."""
OTHER_PHOTOS = 0.01
"""What a mean may be lower by for that; the hashes are those of imagehash, to the bit."""

Hashes = dict[str, np.ndarray]


@cache
def hashers() -> dict[str, Hasher]:
    """Every hash of the table, ours and theirs; without pdqhash where it is not to be had."""
    import imagehash

    from stages.fingerprints import Fingerprints, column_of

    def theirs(name: str, size: int) -> Hasher:
        function = getattr(imagehash, name)
        return lambda rgb: np.packbits(function(Image.fromarray(rgb), size).hash).tobytes()

    def ours(kind: str) -> Hasher:
        stage = Fingerprints.model_validate({"kinds": [kind]})
        name = column_of(kind)

        def hashed(rgb: np.ndarray) -> bytes:
            value = stage.of_pixels(rgb)[name]
            return value.to_bytes(8, "big") if isinstance(value, int) else value

        return hashed

    found = {kind: ours(kind) for kind in OURS}
    for name, size in (("phash", 8), ("dhash", 8), ("phash", 16), ("dhash", 16), ("average_hash", 8), ("whash", 8)):
        shown = f"imagehash {'ahash' if name == 'average_hash' else name}" + (" 16" if size == 16 else "")
        found[shown] = theirs(name, size)
    package = pdqhash()
    if package is not None:
        found["pdqhash"] = lambda rgb: np.packbits(package.compute(np.array(rgb))[0]).tobytes()
    return found


def of_original(photo: Photo) -> dict[str, bytes]:
    """The hashes of a picture as it is, by name."""
    pixels = photo.pixels
    return {name: hashed(pixels) for name, hashed in hashers().items()}


def of_changed(photo: Photo) -> dict[str, list[bytes]]:
    """The hashes of a picture after each transform, by name, in the order of TRANSFORMS."""
    picture = Image.fromarray(photo.pixels)
    changed = [np.asarray(change(picture)) for change in TRANSFORMS.values()]
    return {name: [hashed(pixels) for pixels in changed] for name, hashed in hashers().items()}


@dataclass(frozen=True)
class Column:
    """One hash of the table. recall: share found a transform; wrong: share of the other pairs found."""

    threshold: int
    recall: np.ndarray
    wrong: float

    @property
    def mean(self) -> float:
        return float(self.recall.mean())


def measure(quick: bool) -> dict[str, Bar]:
    queries, originals = chosen(quick)
    hashers()  # pdqhash is made once, not by two processes at the same time
    plain = _stacked([found for _, found in each(of_original, originals)])
    changed = _stacked([found for _, found in each(of_changed, queries)])
    places = _places(queries, originals)
    apart = _not_counted(places, originals, plain)
    shots = np.array([p.source in PRODUCTS for p in originals])
    among_photos = {name: column(changed[name], plain[name], places, apart | shots) for name in plain}
    among_all = {name: column(changed[name], plain[name], places, apart) for name in plain}
    show(among_photos, len(queries), f"{int((~shots).sum())} photos", earlier=True)
    show(among_all, len(queries), f"these and {int(shots.sum())} product shots")
    return bars(among_photos, among_all, changed, quick)


def chosen(quick: bool) -> tuple[list[Photo], list[Photo]]:
    """(pictures to change, originals to look them up among), the former a part of the latter."""
    pool = photos(*QUERIES, *OTHERS, *PRODUCTS)
    draw = random.Random(11)
    queries: list[Photo] = []
    for source, many in QUERIES.items():
        of_source = [p for p in pool if p.source == source]
        queries += draw.sample(of_source, max(2, many // 20) if quick else many)
    taken = {p.key for p in queries}
    return queries, [p for i, p in enumerate(pool) if not quick or p.key in taken or i % 10 == 0]


def column(changed: np.ndarray, plain: np.ndarray, places: np.ndarray, apart: np.ndarray) -> Column:
    """Threshold and recall of one hash: changed uint64 (queries, transforms, w), plain uint64 (originals, w)."""
    bits = 64 * plain.shape[1]
    right = np.stack([distances(changed[:, t], plain[places]) for t in range(changed.shape[1])], axis=1)
    wrong = np.zeros(bits + 1, np.int64)
    for t in range(changed.shape[1]):
        for first, found in blocks(changed[:, t], plain):
            counted = ~apart[first : first + len(found)]
            wrong += np.bincount(found[counted], minlength=bits + 1)
    true, false = np.cumsum(np.bincount(right.reshape(-1), minlength=bits + 1)), np.cumsum(wrong)
    enough = true >= PRECISION * (true + false)
    threshold = int(np.flatnonzero(enough & (true > 0)).max(initial=0))
    return Column(threshold, (right <= threshold).mean(axis=0), float(false[threshold] / max(false[-1], 1)))


def _stacked(found: Sequence[dict[str, bytes]] | Sequence[dict[str, list[bytes]]]) -> Hashes:
    stacked: Hashes = {}
    for name in found[0]:
        values = [f[name] for f in found]
        if isinstance(values[0], bytes):
            stacked[name] = words(values)  # type: ignore[arg-type]
        else:
            stacked[name] = np.stack([words(v) for v in values])  # type: ignore[arg-type]
    return stacked


def _places(queries: Sequence[Photo], originals: Sequence[Photo]) -> np.ndarray:
    at = {p.key: i for i, p in enumerate(originals)}
    return np.array([at[p.key] for p in queries])


def _not_counted(places: np.ndarray, originals: Sequence[Photo], plain: Hashes) -> np.ndarray:
    """bool (queries, originals): pairs that are no false ones: itself, known copies, and what two hashes call alike."""
    apart = np.zeros((len(places), len(originals)), bool)
    for (first, one), (_, other) in zip(
        blocks(plain["phash256"][places], plain["phash256"]),
        blocks(plain["dhash256"][places], plain["dhash256"]),
        strict=True,
    ):
        apart[first : first + len(one)] = (one <= ALIKE) & (other <= ALIKE)
    for row, place in enumerate(places):
        apart[row, place] = True
        for at in (i for i, p in enumerate(originals) if (originals[place].key, p.key) in known_copies()):
            apart[row, at] = True
    print(
        f"{int(apart.sum()) - len(places)} pairs of originals count neither way (known copies, or alike by two hashes)"
    )
    return apart


def show(columns: dict[str, Column], queries: int, originals: str, earlier: bool = False) -> None:
    """The table: a column a hash, a row a transform."""
    order = [n for ours in OURS for n in (ours, THEIRS[ours]) if n in columns] + [n for n in ALSO if n in columns]
    short = [n.replace("imagehash ", "ih ") for n in order]
    print(f"\n{queries} pictures x {len(TRANSFORMS)} transforms among {originals}; precision {PRECISION}")
    print(f"{'transform':<24}" + "".join(f"{n:>12}" for n in short))
    for row, transform in enumerate(TRANSFORMS):
        print(f"{transform:<24}" + "".join(f"{columns[n].recall[row]:>12.3f}" for n in order))
    print(f"{'MEAN':<24}" + "".join(f"{columns[n].mean:>12.3f}" for n in order))
    if earlier:
        print(f"{'mean of 2026-11-20':<24}" + "".join(f"{EARLIER.get(n, ''):>12}" for n in order))
    print(f"{'threshold, bits':<24}" + "".join(f"{columns[n].threshold:>12}" for n in order))
    print(f"{'false share of pairs':<24}" + "".join(f"{columns[n].wrong:>12.1e}" for n in order))


def bars(photos_: dict[str, Column], everything: dict[str, Column], changed: Hashes, quick: bool) -> dict[str, Bar]:
    """No row below that of the others' code, in both tables; means about those of 2026-11-20 at least."""
    found: dict[str, Bar] = {}
    for name, by in THEIRS.items():
        if by in changed:
            pairs = [(t[name].recall, t[by].recall) for t in (photos_, everything)]
            below = sum(int((ours < theirs).sum()) for ours, theirs in pairs)
            equal = int((changed[name] == changed[by]).all(axis=2).sum())
            told = f"{below} rows below; {equal} of {changed[name][..., 0].size} hashes equal"
            found[f"photos_{name}_rows"] = bar(told, f"none below {by}", not below)
        else:
            found[f"photos_{name}_rows"] = bar(None, f"none below {by}", None)
        mean = at_least(photos_[name].mean, round(EARLIER[name] - OTHER_PHOTOS, 3))
        found[f"photos_{name}_mean"] = mean | {"ok": None if quick else mean["ok"]}
    return found
