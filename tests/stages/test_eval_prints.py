"""What evaluation pictures are known by: digests, and hashes in eight orientations."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from stages.decode import decode
from stages.eval_prints import ORIENTATIONS, eval_hashes, prints
from stages.eval_sets import EvalSet
from stages.fingerprint import of_pixels
from tests.stages.eval_pictures import encoded, photo, write_pictures


def test_a_row_a_picture_and_the_upright_hash_is_ingests(tmp_path: Path) -> None:
    images = {f"{i}.png": encoded(photo(i), "PNG") for i in range(3)}
    table = prints(EvalSet(name="a", path=str(write_pictures(tmp_path, images))))
    assert table.column("item").to_pylist() == ["0.png", "1.png", "2.png"]
    assert table.column("error").null_count == 3
    for row, data in zip(table.to_pylist(), images.values(), strict=True):
        same = of_pixels(decode(data).pixels)
        assert row["sha256"] == hashlib.sha256(data).hexdigest()
        assert (row["phash256"][:32], row["quality"]) == (same.phash256, same.quality)
        assert int.from_bytes(row["phash64"][:8], "big") == same.phash64


def test_the_eight_orientations_are_pillows(tmp_path: Path) -> None:
    image = photo(4, 64, 64)  # its thumbnail is the picture itself, so that turning it first changes nothing
    path = write_pictures(tmp_path, {"0.png": encoded(image, "PNG")})
    row = prints(EvalSet(name="a", path=str(path))).to_pylist()[0]
    wanted = {of_pixels(np.asarray(i)).phash256 for i in (image, *(image.transpose(t) for t in Image.Transpose))}
    assert len(wanted) == ORIENTATIONS
    assert {row["phash256"][i : i + 32] for i in range(0, 256, 32)} == wanted


def test_flat_pictures_and_broken_ones_have_no_hash(tmp_path: Path) -> None:
    images = {"0.png": encoded(Image.new("RGB", (90, 90), "white"), "PNG"), "1.jpg": b"\xff\xd8\xffno more"}
    images["2.png"] = encoded(photo(2), "PNG")
    table = prints(EvalSet(name="a", path=str(write_pictures(tmp_path, images))))
    assert [e is None for e in table.column("error").to_pylist()] == [True, False, True]
    assert table.column("sha256").null_count == 0
    for quality in (0, 50):
        words, row = eval_hashes(table, "phash256", quality)
        assert row.tolist() == [2] * ORIENTATIONS
        assert words.astype(">u8").tobytes() == table.column("phash256")[2].as_py()
    assert eval_hashes(table.slice(0, 1), "phash64", 50)[0].shape == (0, 1)


def test_a_set_of_tables_without_pictures_is_refused(tmp_path: Path) -> None:
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"image": pa.array([None], pa.binary())}), tmp_path / "0.parquet")
    with pytest.raises(ValueError, match="no picture in"):
        prints(EvalSet(name="a", path=str(tmp_path)))
