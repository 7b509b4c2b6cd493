"""Copies of real photos are found by hash and signature, other products are not; published hashes of known files."""

from __future__ import annotations

import hashlib
import json
import sys
import tarfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "bench"))

import dedup_photos
import dedup_pictures
import dedup_table
import dedup_turned
from dedup_photos import WITHIN, Prints, fingerprints
from dedup_pictures import Photo, distances, half, known_copies, near_pairs, photos, rehosted
from dedup_transforms import RECODED, TRANSFORMS
from phase_runner import PhaseRunner

from stages.base import fact
from stages.decode import decode
from stages.fingerprints_pdq import of_pixels
from stages.near_hashes import Agreement, NearHashes

PDQ = {
    "bridge-1-original": "f8f8f0cee0f4a84f06370a22038f63f0b36e2ed596621e1d33e6b39c4e9c9b22",
    "bridge-2-rotate-90": "30a10efd71cc3d429013d48d0ffffc52e34e0e17ada952a9d29685211ea9e5af",
    "bridge-3-rotate-180": "adad5a64b5a142e75b62a09857da895ae63b847fc23794b766b319361bc93188",
    "bridge-4-rotate-270": "a5f0a457a48995e8c9065c275aaa5498b61ba4bdf8fcf80387c32f8b1bfc4f05",
    "bridge-5-flipx": "f8f80f31e0f417b20e37f5cd028f980fb36ed02a9662c1e233e64c634e9c64dd",
    "bridge-6-flipy": "0dad2599b1a1bd1a5362576742da32a5e63b7380c2374b4866b366c91bc9ce77",
    "bridge-7-flip-plus-1": "f0a5e102f1ccc0bd945308720fff038de34ef1e8ada9a956d2967ade5ea91a50",
    "bridge-8-flip-minus-1": "a5f05aa8a4896a17c906a2d85aaaab07b61b5b42f8fc07fc87c3d0741bfcb0fa",
    "blur-a-little": "f8f8f0cee0f4a84f06370a2a038f63f0b36e26d596621e1d33e6b39c4e9c9b22",
}
"""Of full-size pictures, as the tests of the crate `pdqhash` and of others print them."""
COPIES = 60
SHOTS = 700


@pytest.mark.parametrize("name", PDQ)
def test_pdq_is_what_others_publish(name: str, shared_data: Path) -> None:
    """Decoders of others may differ in last bits of pixels: a bit or two of 256."""
    with tarfile.open(shared_data / "images/copy_detection.tar") as tar:
        file = tar.extractfile(f"bridge/{name}.jpg")
        assert file is not None
        found = of_pixels(decode(file.read()).pixels)
    assert found is not None
    assert (int(found.hash.hex(), 16) ^ int(PDQ[name], 16)).bit_count() <= 2
    assert found.quality == 100


def test_every_copy_detection_file(shared_data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bars = dedup_photos.copies()
    assert bars["photos_copy_detection_found"]["value"] == "18 of 18, 7 by key"
    assert bars["photos_copy_detection_false"]["value"] == "none"
    shown = capsys.readouterr().out
    assert shown.count("bridge/") == 18
    assert shown.count("labelme/") == 7


def test_rehosted_copies_are_found(shared_data: Path) -> None:
    pairs = rehosted()[::6][:COPIES]
    one, other = (Prints.of([fingerprints(p) for p in side]) for side in zip(*pairs, strict=True))
    apart = np.abs(one.colours - other.colours).mean(axis=1)
    for name, bits in dedup_photos.HASHES.items():
        found = (distances(one.hashes[name], other.hashes[name]) <= bits) & (apart <= WITHIN)
        assert found.mean() >= 0.98
    assert np.minimum(one.quality, other.quality).min() >= dedup_pictures.MIN_QUALITY


def test_the_signature_holds_products_apart(shared_data: Path) -> None:
    """Shapes alone confuse hundreds of them."""
    shots = photos("fashion")[:SHOTS]
    prints = Prints.of([fingerprints(p) for p in shots])
    i, j, _ = near_pairs(prints.hashes["phash64_stored"], 4)
    known = np.array([(shots[a].key, shots[b].key) in known_copies() for a, b in zip(i, j, strict=True)])
    assert (~known).sum() >= 15
    assert (prints.apart(i, j)[~known] <= WITHIN).sum() <= 1
    assert prints.apart(i, j)[known].max(initial=0) == 0


def test_recoded_photos_agree(shared_data: Path) -> None:
    some = photos("coco_mini")[:12]
    for name in RECODED:
        changed = [Image.fromarray(p.pixels) for p in some]
        copies = Prints.of([dedup_photos.STAGE.of_pixels(np.asarray(TRANSFORMS[name](p))) for p in changed])
        plain = Prints.of([fingerprints(p) for p in some])
        assert distances(plain.hashes["phash256_stored"], copies.hashes["phash256_stored"]).max() <= 31
        assert np.abs(plain.colours - copies.colours).mean(axis=1).max() <= WITHIN


def test_a_column_of_the_table() -> None:
    """Thresholds, recall and false shares of hashes made by hand: 3 pictures, 2 changes, 4 originals."""
    plain = np.array([[0], [0b1111_0000], [0xFFFF_0000], [0b1111_0011]], np.uint64)
    changed = np.array([[[0], [1]], [[0b1111_0000], [0b1111_0001]], [[0xFFFF_0000], [0xFFFF_FFFF]]], np.uint64)
    apart = np.zeros((3, 4), bool)
    apart[[0, 1, 2], [0, 1, 2]] = True
    found = dedup_table.column(changed, plain, np.arange(3), apart)
    assert found.threshold == 0  # one bit further stands a stranger: 5 true, 1 false
    assert found.recall.tolist() == [1, 0]
    apart[1, 3] = True
    found = dedup_table.column(changed, plain, np.arange(3), apart)
    assert found.threshold == 3  # 4 bits further stands the next
    assert found.recall.tolist() == pytest.approx([1, 2 / 3])


def test_halves_share_no_picture(shared_data: Path) -> None:
    keys = [p.key for p in photos("ikea_product")]
    shares = np.bincount([half(k) for k in keys], minlength=2) / len(keys)
    assert shares.min() > 0.45
    assert isinstance(photos("coco_mini")[0], Photo)


def test_keys_of_turned_copies_lose_little(shared_data: Path) -> None:
    rows = [dedup_turned.turned(p) for p in photos("imagenette")[:40:2]]
    for width, bits in dedup_turned.BITS.items():
        by_key, by_search = (dedup_turned._recall(rows, width, bits, rule) for rule in ("key", "all orientations"))
        assert by_search >= 0.9
        assert by_search >= by_key >= 0.95 * by_search


def of_one_shape(data: Path) -> list[Photo]:
    """Products that other ones resemble by two hashes of shapes; of known copies one."""
    lines = (data / "images/natural_near_duplicates_candidates.jsonl").read_text().splitlines()
    wanted = {key for line in lines for key in json.loads(line)}
    copies = {max(pair) for pair in known_copies()}
    return [p for p in photos("fashion", "ikea_product") if p.key in wanted - copies]


def test_the_engine_groups_copies_and_no_products(shared_data: Path) -> None:
    """`near_hashes` with the second signal: each copy with its original, and few products of one shape."""
    pairs, shots = rehosted()[::5], of_one_shape(shared_data)
    everything = [*(p for pair in pairs for p in pair), *shots]
    values = [fingerprints(p) for p in everything]
    uids = [hashlib.md5(str(n).encode()).digest() for n in range(len(everything))]
    table = pa.table(
        {
            "uid": pa.array(uids, pa.binary(16)),
            "phash256": pa.array([v["phash256_stored"] for v in values], pa.binary(32)),
            "phash_quality": pa.array([v["phash_quality_stored"] for v in values], pa.uint8()),
            "colours": pa.array([v["colours"] for v in values], pa.binary(108)),
        }
    )
    same = Agreement(column=fact("colours"), within=WITHIN, measure="l1")
    wide = NearHashes(by=fact("phash256"), distance=31)
    strict = NearHashes(by=fact("phash256"), distance=31, verify=(same,))
    pool = {0: table.slice(0, 300), 1: table.slice(300)}
    wrong = {}
    for barrier in (wide, strict):
        answer = PhaseRunner(pool).run(barrier)
        groups = [g for shard in pool for g in answer[shard].column("phash256_group").to_pylist()]
        together = [groups[2 * n] is not None and groups[2 * n] == groups[2 * n + 1] for n in range(len(pairs))]
        assert np.mean(together) >= 0.98
        wrong[barrier] = sum(g is not None for g in groups[2 * len(pairs) :])
    assert wrong[wide] >= 50
    assert wrong[strict] <= wrong[wide] / 10
