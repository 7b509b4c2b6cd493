"""The tar comes out in row order, whatever order the rows come in."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from curate.run.fetch.spool import OrderedTar


@pytest.mark.parametrize("held", [0, 3000, 1 << 20])
def test_an_ordered_tar_takes_rows_in_any_order_and_misses_none(
    held: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("curate.run.fetch.spool.HELD_BYTES", held)
    rows = {i: bytes([i]) * (i * 100) for i in range(20)}
    straight, mixed = (OrderedTar(tmp_path / n, tmp_path / f"{n}.spool") for n in ("a", "b"))
    for tar, order in ((straight, range(20)), (mixed, np.random.default_rng(3).permutation(20).tolist())):
        with tar:
            for row in order:
                if row % 5 == 4:
                    tar.skip(row)
                else:
                    tar.put(row, f"{row}.jpg", rows[row])
            tar.close()
    assert straight.path.read_bytes() == mixed.path.read_bytes()
    assert (straight.digest8, straight.offsets, straight.size) == (mixed.digest8, mixed.offsets, mixed.size)
    assert not (tmp_path / "b.spool").exists()
    with OrderedTar(tmp_path / "c", tmp_path / "c.spool") as tar:
        tar.put(1, "1.jpg", b"")
        with pytest.raises(RuntimeError, match="row 0 is missing"):
            tar.close()
    assert not (tmp_path / "c").exists()
