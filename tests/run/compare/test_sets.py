"""Evaluation sets found and named, and their pictures that are in the pool counted."""

from __future__ import annotations

import io
import json
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pytest
from compared import build_pool, held_out, small

from curate.errors import UserError
from curate.pool.storage import Storage
from curate.run.compare.overlap import CountWork, _near, count_overlap
from curate.run.compare.sets import EvalSet, open_sets
from training_smoke.evaluate.tasks import TASKS


def test_a_folder_of_own_sets_has_nothing_missing(tmp_path: Path) -> None:
    held_out(tmp_path / "sets", 3)
    sets, missing = open_sets([str(tmp_path / "sets")])
    assert [(s.name, s.task) for s in sets] == [("colours", None), ("scenes", None)]
    assert missing == {}


def test_of_datacomps_folder_what_is_missing_is_named(tmp_path: Path) -> None:
    colours = held_out(tmp_path / "sets", 3)[1]
    shutil.copytree(colours, tmp_path / "evalsets" / "wds_cifar10_test")
    shutil.copytree(colours, tmp_path / "evalsets" / "my_own")
    sets, missing = open_sets([str(tmp_path / "evalsets")])
    assert [(s.name, s.task) for s in sets] == [("CIFAR-10", "CIFAR-10"), ("my_own", None)]
    assert len(missing) == len(TASKS) - 1
    assert "ImageNet 1k" in missing
    assert "wds_imagenet1k" in missing["ImageNet 1k"]


def test_content_names_a_set_and_not_its_place(tmp_path: Path) -> None:
    one = held_out(tmp_path / "one", 3)[1]
    shutil.copytree(one, tmp_path / "two" / "colours")
    (first,), (second,) = (open_sets([str(p)])[0] for p in (one, tmp_path / "two" / "colours"))
    assert first.digest == second.digest
    (tmp_path / "two" / "colours" / "classnames.txt").write_text("a\nb\n")
    assert open_sets([str(tmp_path / "two" / "colours")])[0][0].digest != first.digest


def test_other_labels_in_a_tar_of_the_same_size_are_another_set(tmp_path: Path) -> None:
    folder = held_out(tmp_path / "sets", 3)[1]
    before = open_sets([str(folder)])[0][0].digest
    tar = folder / "test" / "0.tar"
    data = bytearray(tar.read_bytes())
    data[-3000] ^= 1
    tar.write_bytes(bytes(data))
    assert open_sets([str(folder)])[0][0].digest != before


def test_two_sets_of_one_name_are_refused(tmp_path: Path) -> None:
    paths = [str(held_out(tmp_path / name, 3)[0]) for name in ("a", "b")]
    with pytest.raises(UserError, match="several evaluation sets are called scenes"):
        open_sets(paths)


@pytest.mark.parametrize("path", ["", "nothing/here"])
def test_no_set_says_what_one_looks_like(tmp_path: Path, path: str) -> None:
    with pytest.raises(UserError, match=r"no evaluation set: there is no test/nshards\.txt"):
        open_sets([str(tmp_path / path)])


def counted(pool: Path, chosen: EvalSet) -> dict[str, object]:
    work = CountWork(str(pool), "judge/sets/x", (chosen,))
    count_overlap(work, "0")
    found: dict[str, object] = json.loads(Storage.at(str(pool)).read(work.file("0")))
    return found


def test_pictures_that_the_pool_has_too_are_counted(tmp_path: Path) -> None:
    pool, folder = build_pool(tmp_path / "pool", 60), tmp_path / "mixed"
    (folder / "test").mkdir(parents=True)
    with tarfile.open(folder / "test" / "0.tar", "w") as tar:
        for number, data in enumerate([small(3), small(17), small(70), small(71)]):  # two of them are in the pool
            for name, content in ((f"{number}.jpg", data), (f"{number}.txt", b"a picture")):
                member = tarfile.TarInfo(name)
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
    (folder / "dataset_type.txt").write_text("retrieval\n")
    (folder / "test" / "nshards.txt").write_text("1\n")
    found = counted(pool, open_sets([str(folder)])[0][0])
    assert found == {"task": "retrieval", "n": 4, "in_pool": 2, "near": 4}


def test_near_is_within_so_many_bits() -> None:
    theirs = np.array([0b1111, 0xFF << 40], np.uint64)
    ours = np.array([0b0000, 0b0001, (0xFF << 40) | 0b11, 0xFF << 50], np.uint64)  # 4, 3, 2 and 12 bits away
    assert _near(ours, theirs, 4).tolist() == [True, True, True, False]
    assert _near(ours, theirs, 3).tolist() == [False, True, True, False]
    assert _near(ours, theirs, 2).tolist() == [False, False, True, False]
    assert _near(np.array([0b1111, 0b1110], np.uint64), theirs, 0).tolist() == [True, False]
