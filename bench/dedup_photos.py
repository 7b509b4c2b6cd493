"""Do the perceptual hashes find copies of real photos, and nothing else? All tables from ../shared/data.

    python bench/dedup_photos.py [--quick]        # also a part of bench/dedup.py

transforms   28 changes of 500 pictures: hashes of ours beside imagehash and pdqhash (bench/dedup_table.py)
settings     the same changes at the settings that are recommended: fixed bits, the signature of colours, turned keys
turned       changed and turned copies: keys beside a search in all orientations (bench/dedup_turned.py)
products     370 re-hosted copies and 9 million pairs of product shots: thresholds from one half, told on the other
copies       the files of copy_detection, one by one, by hash alone and by keys of turned pictures
"""

from __future__ import annotations

import argparse
import io
import json
import sys
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parent), str(Path(__file__).resolve().parent.parent)]

import numpy as np  # noqa: E402
from common import NOT_MEASURED, SHARED, Bar, at_least, at_most, bar, each, finish  # noqa: E402
from dedup_pictures import MIN_QUALITY, Photo, distances, half, known_copies, near_pairs, photos, rehosted, words  # noqa: E402
from dedup_transforms import EASY, RECODED, TRANSFORMS  # noqa: E402
from PIL import Image  # noqa: E402

from stages.fingerprints import QUALITY, Fingerprints, Values  # noqa: E402

STAGE = Fingerprints(
    kinds=("phash64", "phash256", "phash64_dihedral", "phash256_flip", "phash256_dihedral", "pdq", "colours")
)
HASHES = {"phash64_stored": 4, "phash256_stored": 31}
"""Column -> bits that may differ, as docs/dedup.md recommends."""
WITHIN = 4.0
"""Mean difference of colour signatures, as recommended; `products` finds it again on half of the data."""
FALSE_PER_MILLION = 1.0
RECALL = 0.99
GRID = np.arange(0.25, 12.01, 0.25)


def measure(quick: bool) -> dict[str, Bar]:
    if not SHARED.is_dir():
        print(f"not measured: no photos at {SHARED}")
        return {"photos": NOT_MEASURED}
    import dedup_table
    import dedup_turned

    queries, _ = dedup_table.chosen(quick)
    return dedup_table.measure(quick) | settings(queries) | dedup_turned.measure(queries) | products() | copies()


# ---------------------------------------------------------------- the 28 transforms at fixed settings


@dataclass(frozen=True)
class Prints:
    """Fingerprints of pictures, row by row: hashes uint64 (n, w) by column, colours int16 (n, 108), quality (n,)."""

    hashes: dict[str, np.ndarray]
    colours: np.ndarray
    quality: np.ndarray

    @classmethod
    def of(cls, rows: Sequence[Values]) -> Prints:
        names = [n for n in rows[0] if n not in ("colours", QUALITY, "pdq_quality")]
        found = {n: words([_bytes(r[n]) for r in rows]) for n in names}
        colours = np.stack([np.frombuffer(r["colours"], np.uint8) for r in rows]).astype(np.int16)
        return cls(found, colours, np.array([r[QUALITY] for r in rows]))

    def apart(self, i: np.ndarray, j: np.ndarray) -> np.ndarray:
        """Mean differences of the colour signatures of pairs of rows, float64 (pairs,)."""
        return np.abs(self.colours[i] - self.colours[j]).mean(axis=1)  # type: ignore[no-any-return]


def _bytes(value: int | bytes) -> bytes:
    return value.to_bytes(8, "big") if isinstance(value, int) else value


def fingerprints(photo: Photo) -> Values:
    return STAGE.of_pixels(photo.pixels)


def fingerprints_changed(photo: Photo) -> list[Values]:
    """Of a picture, and of it after each transform."""
    picture = Image.fromarray(photo.pixels)
    return [STAGE.of_pixels(np.asarray(p)) for p in (picture, *(change(picture) for change in TRANSFORMS.values()))]


def settings(queries: list[Photo]) -> dict[str, Bar]:
    """What share of copies the recommended settings find, a transform."""
    rows = [found for _, found in each(fingerprints_changed, queries)]
    plain = Prints.of([r[0] for r in rows])
    shown: dict[str, dict[str, float]] = {}
    for at, transform in enumerate(TRANSFORMS, 1):
        changed = Prints.of([r[at] for r in rows])
        found = {n: distances(changed.hashes[n], plain.hashes[n]) for n in plain.hashes}
        alike = np.abs(changed.colours - plain.colours).mean(axis=1) <= WITHIN
        masks = {
            "phash64<=4": found["phash64_stored"] <= 4,
            "64+colours": (found["phash64_stored"] <= 4) & alike,
            "phash256<=31": found["phash256_stored"] <= 31,
            "in 8 bands": (found["phash256_stored"] <= 31) & one_band(changed, plain),
            "256+colours": (found["phash256_stored"] <= 31) & alike,
            "flip<=31": found["phash256_flip"] <= 31,
            "dihedral<=31": found["phash256_dihedral"] <= 31,
            "pdq<=31": found["pdq"] <= 31,
        }
        shown[transform] = {name: float(mask.mean()) for name, mask in masks.items()}
    _show_settings(shown, len(queries))
    recoded = {n: float(np.mean([shown[t][n] for t in RECODED])) for n in ("phash256<=31", "in 8 bands", "256+colours")}
    turned = min(shown["flip_h"]["flip<=31"], shown["rot90"]["dihedral<=31"])
    return {
        "photos_recoded_phash256": at_least(recoded["phash256<=31"], RECALL),
        "photos_recoded_phash256_in_bands": at_least(recoded["in 8 bands"], RECALL),
        "photos_recoded_phash256_colours": at_least(recoded["256+colours"], 0.98),
        "photos_turned_by_keys": at_least(turned, 0.98),
    }


def one_band(changed: Prints, plain: Prints) -> np.ndarray:
    """bool (n,): is one of the 8 bands of phash256 equal, by which pairs are looked for?"""
    bands = [p.hashes["phash256_stored"].view(np.uint32) for p in (changed, plain)]
    return (bands[0] == bands[1]).any(axis=1)  # type: ignore[no-any-return]


def _show_settings(shown: dict[str, dict[str, float]], queries: int) -> None:
    names = list(next(iter(shown.values())))
    print(f"\nshare of {queries} pictures found at fixed bits; colours: signatures at most {WITHIN:g} apart")
    print(f"{'transform':<24}" + "".join(f"{n:>14}" for n in names))
    for transform, found in shown.items():
        print(f"{transform:<24}" + "".join(f"{found[n]:>14.3f}" for n in names))
    for label, some in (("MEAN of sizes, codecs", RECODED), ("MEAN of the easy ones", EASY), ("MEAN", tuple(shown))):
        print(f"{label:<24}" + "".join(f"{np.mean([shown[t][n] for t in some]):>14.3f}" for n in names))


# ---------------------------------------------------------------- copies against product shots


@dataclass(frozen=True)
class Half:
    """Pairs of one half of the data. bits, apart: of each pair; copies are true, strangers false."""

    copies_bits: np.ndarray
    copies_apart: np.ndarray
    strangers_bits: np.ndarray
    strangers_apart: np.ndarray
    pairs: int

    def recall(self, bits: int, within: float) -> float:
        return float(((self.copies_bits <= bits) & (self.copies_apart <= within)).mean())

    def false_per_million(self, bits: int, within: float) -> float:
        return float(((self.strangers_bits <= bits) & (self.strangers_apart <= within)).sum() / self.pairs * 1e6)

    def within(self, bits: int) -> float | None:
        """The middle of what keeps both promises here: recall, and false pairs; None where nothing does."""
        good = [w for w in GRID if self.recall(bits, w) >= RECALL and self._few(bits, w)]
        return float((good[0] + good[-1]) / 2) if good else None

    def _few(self, bits: int, within: float) -> bool:
        return self.false_per_million(bits, within) <= FALSE_PER_MILLION


def products() -> dict[str, Bar]:
    """Recall of re-hosted copies and false pairs of products: by thresholds of the other half, and as recommended."""
    shots = photos("fashion", "ikea_product")
    pairs = rehosted()
    everything = [*shots, *(p for pair in pairs for p in pair)]
    prints = Prints.of([found for _, found in each(fingerprints, everything)])
    print(f"\n{len(pairs)} re-hosted copies; {len(shots)} product shots, pairs that are no known copies")
    bars: dict[str, Bar] = {}
    for name, bits in HASHES.items():
        halves = [some_pairs((which,), name, bits, shots, pairs, prints) for which in (0, 1)]
        for bound in sorted({bits // 2, bits, bits * 2}):
            _told(name, bound, halves)
        if bits > 4:
            bars |= _crossed(halves, bits)
        whole = some_pairs((0, 1), name, bits, shots, pairs, prints)
        key = f"photos_products_{name.removesuffix('_stored')}_{bits}_colours_{WITHIN:g}"
        bars[f"{key}_recall"] = at_least(whole.recall(bits, WITHIN), RECALL)
        bars[f"{key}_false_per_million"] = at_most(whole.false_per_million(bits, WITHIN), FALSE_PER_MILLION, 2)
    return bars


def some_pairs(
    which: tuple[int, ...],
    name: str,
    bits: int,
    shots: list[Photo],
    copies: list[tuple[Photo, Photo]],
    prints: Prints,
) -> Half:
    """Pairs of the pictures in these halves; of products those within twice the bits; low quality is never paired."""
    hashes = prints.hashes[name]
    own = np.array([i for i, p in enumerate(shots) if half(p.key) in which])
    i, j, apart = near_pairs(hashes[own], bits * 2)
    i, j = own[i], own[j]
    known = np.array([(shots[a].key, shots[b].key) in known_copies() for a, b in zip(i, j, strict=True)], bool)
    strange = ~known & (np.minimum(prints.quality[i], prints.quality[j]) >= MIN_QUALITY)
    i, j, apart = i[strange], j[strange], apart[strange]
    first = np.array([len(shots) + 2 * n for n, (p, _) in enumerate(copies) if half(p.key) in which])
    true = distances(hashes[first], hashes[first + 1])
    true[np.minimum(prints.quality[first], prints.quality[first + 1]) < MIN_QUALITY] = hashes.shape[1] * 64
    of_copies, of_strangers = prints.apart(first, first + 1), prints.apart(i, j)
    return Half(true, of_copies, apart, of_strangers, len(own) * (len(own) - 1) // 2)


def _told(name: str, bits: int, halves: Sequence[Half]) -> None:
    for one, other, label in ((halves[0], halves[1], "second"), (halves[1], halves[0], "first")):
        within = one.within(bits)
        alone = f"alone: recall {other.recall(bits, 255):.3f}, {other.false_per_million(bits, 255):.2f} false a million"
        if within is None:
            print(f"{name} <= {bits}: no threshold of colours keeps both promises; {alone}")
            continue
        found = f"recall {other.recall(bits, within):.3f}, {other.false_per_million(bits, within):.2f} false a million"
        print(f"{name} <= {bits}, colours within {within:g}: on the {label} half {found}; {alone}")


def _crossed(halves: Sequence[Half], bits: int) -> dict[str, Bar]:
    """Each half judged by the threshold that the other one says, together."""
    withins = [one.within(bits) for one in halves[::-1]]
    judged = [(h, w) for h, w in zip(halves, withins, strict=True) if w is not None]
    if len(judged) < len(halves):
        return {"photos_products_other_half": bar("no threshold keeps both promises", "one", False)}
    copies, pairs = sum(len(h.copies_bits) for h in halves), sum(h.pairs for h in halves)
    recall = sum(h.recall(bits, w) * len(h.copies_bits) for h, w in judged) / copies
    false = sum(h.false_per_million(bits, w) * h.pairs for h, w in judged) / pairs
    return {
        "photos_products_other_half_recall": at_least(recall, RECALL),
        "photos_products_other_half_false_per_million": at_most(false, FALSE_PER_MILLION, 2),
    }


# ---------------------------------------------------------------- the files of copy_detection


def copies() -> dict[str, Bar]:
    """Each file against the original of its group: bits by hash alone and by key of turned pictures."""
    lines = (SHARED / "images/copy_detection.jsonl").read_text().splitlines()
    groups = {row["file"]: row["group"] for row in map(json.loads, lines)}
    with tarfile.open(SHARED / "images/copy_detection.tar") as tar:
        images = {name: Photo(name, groups[name], _member(tar, name)) for name in groups}
    prints = {name: fingerprints(photo) for name, photo in images.items()}
    original = prints["bridge/aaa-orig.jpg"]
    print(f"\n{'file':<34}{'phash64':>9}{'phash256':>9}{'pdq':>6}{'dihedral':>10}{'colours':>9}  found by")
    by: dict[str, str] = {}
    for name, found in prints.items():
        bits = {n: _bits(found[n], original[n]) for n in ("phash64_stored", "phash256_stored", "pdq")}
        turned = _bits(found["phash256_dihedral"], original["phash256_dihedral"])
        apart = float(np.abs(_signature(found) - _signature(original)).mean())
        by[name] = "hash" if bits["phash256_stored"] <= 31 else "key of turned pictures" if turned <= 31 else "nothing"
        shown = "".join(f"{b:>{w}}" for b, w in zip((*bits.values(), turned), (9, 9, 6, 10), strict=True))
        print(f"{name:<34}{shown}{apart:>9.1f}  {by[name]}")
    return _copy_bars(by, groups)


def _copy_bars(by: dict[str, str], groups: dict[str, str]) -> dict[str, Bar]:
    bridge = [n for n, g in groups.items() if g == "bridge"]
    lost = [n for n in bridge if by[n] == "nothing"]
    wrong = [n for n, g in groups.items() if g != "bridge" and by[n] != "nothing"]
    told = f"{len(bridge) - len(lost)} of {len(bridge)}, {sum(by[n] != 'hash' for n in bridge) - len(lost)} by key"
    return {
        "photos_copy_detection_found": bar(f"{told}{', lost: ' if lost else ''}{', '.join(lost)}", "all", not lost),
        "photos_copy_detection_false": bar(", ".join(wrong) or "none", "none", not wrong),
    }


def _member(tar: tarfile.TarFile, name: str) -> bytes:
    file = tar.extractfile(name)
    return (file or io.BytesIO()).read()


def _bits(one: int | bytes, other: int | bytes) -> int:
    return int(distances(words([_bytes(one)]), words([_bytes(other)]))[0])


def _signature(values: Values) -> np.ndarray:
    return np.frombuffer(values["colours"], np.uint8).astype(int)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    finish(measure(parser.parse_args().quick), None)
