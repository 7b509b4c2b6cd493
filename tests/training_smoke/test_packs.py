"""Packs are read as they were written; what is torn, missing or of another kind is named."""

from __future__ import annotations

import hashlib
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.training_smoke.pack_parts import by_tarfile, check_same, copies, packed, pictures, thirty
from training_smoke.errors import TrainingError
from training_smoke.packs import Pack


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return thirty(tmp_path_factory.mktemp("packs"))


def changed(folder: Path, target: Path, **manifest: Any) -> Path:
    """A copy of a pack with other words in its manifest."""
    for path in folder.rglob("*.*"):
        copy = target / path.relative_to(folder)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(path.read_bytes())
    said = json.loads((target / "manifest.json").read_bytes())
    (target / "manifest.json").write_text(json.dumps(said | manifest))
    return target


# ------------------------------------------------------------------------------------------------ as it was written


def test_every_sample_is_what_tarfile_reads(folder: Path) -> None:
    pack = Pack.open(folder)
    check_same(pack, folder)
    assert {len(texts) for texts in map(pack.texts, range(len(pack)))} == {1, 2}
    assert pack.digest == hashlib.sha256((folder / "manifest.json").read_bytes()).hexdigest()
    assert (pack.sizes.tolist(), pack.weights) == ([8, 8, 7, 7], None)


def test_a_file_url_is_a_folder(folder: Path) -> None:
    pack = Pack.open(f"file://{folder}")
    assert not pack.remote
    check_same(pack, folder)


def test_the_index_says_where_and_what(folder: Path) -> None:
    pack, expected = Pack.open(folder), by_tarfile(folder)
    found = pack.samples
    assert [u.decode() for u in found.uid] == [e["json"]["uid"] for e in expected]
    assert found.copy.tolist() == [e["json"]["copy"] for e in expected]
    for i, e in enumerate(expected):
        tar = (folder / pack.names[found.shard[i]]).read_bytes()
        assert tar[found.offset[i] : found.offset[i] + found.size[i]] == e["image"]


def test_copies_are_alike_and_so_are_equal_texts(tmp_path: Path) -> None:
    samples = [*pictures(2, emit=copies(2)), *pictures(2, 2, text="the same")]
    pack = Pack.open(packed(tmp_path, samples))
    image, text = pack.likeness(np.arange(6))
    uids = [pack.read(i).uid for i in range(6)]
    said = [pack.texts(i)[0][0] for i in range(6)]
    for a in range(6):
        for b in range(6):
            assert (image[a] == image[b]) == (uids[a] == uids[b])
            assert (text[a] == text[b]) == (said[a] == said[b])


def test_threads_read_side_by_side(folder: Path) -> None:
    pack = Pack.open(folder)
    once = [pack.read(i) for i in range(len(pack))]
    with ThreadPoolExecutor(8) as threads:
        assert list(threads.map(pack.read, list(range(len(pack))) * 20)) == once * 20


def test_no_such_sample(folder: Path) -> None:
    for i in (-1, 30):
        with pytest.raises(IndexError, match=f"sample {i} of a pack of 30"):
            Pack.open(folder).read(i)


# ------------------------------------------------------------------------------------------------ weights


@pytest.fixture(scope="module")
def weighted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    samples = [pictures(1, i, emit=copies(1 + i % 4))[0] for i in range(12)]
    return packed(tmp_path_factory.mktemp("weighted"), samples, samples=5, repeat="weight")


def test_weights_come_from_each_json(weighted: Path) -> None:
    pack = Pack.open(weighted)
    assert pack.weights is not None
    assert pack.weights.tolist() == [e["json"]["weight"] for e in by_tarfile(weighted)]
    assert pack.shape.epoch == sum(1 + i % 4 for i in range(12))


def test_weights_come_from_the_index_where_it_has_them(weighted: Path, tmp_path: Path) -> None:
    folder = changed(weighted, tmp_path / "pack")
    for path in sorted((folder / "samples").glob("*.parquet")):
        table = pq.read_table(path)
        seven = pa.array([7] * table.num_rows, pa.int32())
        names = [n for n in table.column_names if n != "weight"]
        pq.write_table(table.select(names).append_column("weight", seven), path)
    weights = Pack.open(folder).weights
    assert weights is not None
    assert weights.tolist() == [7] * 12


@pytest.mark.parametrize("repeat", ["copies", "weight"])
def test_copies_or_weights_never_both(folder: Path, weighted: Path, tmp_path: Path, repeat: str) -> None:
    wrong = changed(
        weighted if repeat == "copies" else folder, tmp_path / "pack", pack={"format": "webdataset", "repeat": repeat}
    )
    with pytest.raises(TrainingError, match=rf"sample \w+ has (a|no) weight, but its pack is of {repeat}"):
        Pack.open(wrong).read(0)


# ------------------------------------------------------------------------------------------------ what is no whole pack


def test_a_folder_without_a_manifest_is_no_pack(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"manifest\.json.*\n.*`curate run` finishes it"):
        Pack.open(tmp_path)


def test_a_pack_of_parquet_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="pack with `format: webdataset`"):
        Pack.open(packed(tmp_path, pictures(3), format="parquet"))


def test_a_missing_tar_is_named(folder: Path, tmp_path: Path) -> None:
    copy = changed(folder, tmp_path / "pack")
    (copy / "00000001.tar").unlink()
    pack = Pack.open(copy)
    pack.read(0)
    with pytest.raises(TrainingError, match=r"00000001\.tar: No such file"):
        pack.read(8)


def test_a_tar_that_is_cut_is_named_with_the_byte(folder: Path, tmp_path: Path) -> None:
    copy = changed(folder, tmp_path / "pack")
    tar = copy / "00000000.tar"
    tar.write_bytes(tar.read_bytes()[:-3000])
    pack = Pack.open(copy)
    pack.read(0)
    with pytest.raises(TrainingError, match=r"00000000\.tar: ends \d+ bytes too soon, at byte \d+"):
        pack.read(7)


def test_a_tar_of_another_pack_is_not_taken(folder: Path, tmp_path: Path) -> None:
    copy = changed(folder, tmp_path / "pack")
    (copy / "00000000.tar").write_bytes((folder / "00000001.tar").read_bytes())
    with pytest.raises(TrainingError, match=r"00000000\.tar: sample \w{32} is not where the index says"):
        Pack.open(copy).read(0)


def test_an_index_of_another_size_or_kind_is_not_taken(folder: Path, tmp_path: Path) -> None:
    copy = changed(folder, tmp_path / "pack")
    index = copy / "samples" / "00000000.parquet"
    index.write_bytes((folder / "samples" / "00000003.parquet").read_bytes())
    with pytest.raises(TrainingError, match=r"the index of 00000000\.tar has 7 samples, not 8"):
        Pack.open(copy).read(0)
    index.write_bytes(b"nothing")
    with pytest.raises(TrainingError, match=r"samples/00000000\.parquet: .*make the pack again"):
        Pack.open(copy).read(0)
