"""Evaluation sets found and named, and their pictures that are in the pool counted."""

from __future__ import annotations

import io
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pytest
from compared import build_pool, held_out, small
from PIL import Image

from curate.errors import UserError
from curate.pool.pool import Pool
from curate.pool.storage import Storage
from curate.run.compare import overlap
from curate.run.compare.overlap import CountWork, count_overlap, print_set
from curate.run.compare.sets import EvalSet, open_sets
from stages import eval_hashes
from tests.stages.eval_pictures import encoded, facts, photo
from tests.tiny import PIXELS_SETTINGS, add_shard, sample
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
    storage = Storage.at(str(pool))
    work = CountWork.of(Pool.open(str(pool)), (chosen,))
    for number in work.to_print(storage):
        print_set(work, number)
    for item in work.to_count(storage):
        count_overlap(work, item)
    assert not [*work.to_print(storage), *work.to_count(storage)]
    return work.found(storage, 0)


def retrieval_set(folder: Path, images: list[bytes]) -> EvalSet:
    (folder / "test").mkdir(parents=True)
    with tarfile.open(folder / "test" / "0.tar", "w") as tar:
        for number, data in enumerate(images):
            for name, content in ((f"{number}.jpg", data), (f"{number}.txt", b"a picture")):
                member = tarfile.TarInfo(name)
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
    (folder / "dataset_type.txt").write_text("retrieval\n")
    (folder / "test" / "nshards.txt").write_text("1\n")
    return open_sets([str(folder)])[0][0]


def test_pictures_that_the_pool_has_too_are_counted(tmp_path: Path) -> None:
    pool = build_pool(tmp_path / "pool", 60)
    chosen = retrieval_set(tmp_path / "mixed", [small(3), small(17), small(70), small(71)])  # two are in the pool
    assert counted(pool, chosen) == {"task": "retrieval", "n": 4, "in_pool": 2, "near": 48}


def test_copies_count_as_decontamination_finds_them(tmp_path: Path) -> None:
    pool = Pool.create(str(tmp_path / "pool"), PIXELS_SETTINGS, 10)
    images = [encoded(photo(seed), quality=40) for seed in range(6)]
    known = [{k: v for k, v in f.items() if k != "uid"} for f in facts(images)]
    add_shard(pool, 0, [sample(n, image=i, **k) for n, (i, k) in enumerate(zip(images, known, strict=True))])
    mirrored, turned = Image.Transpose.FLIP_LEFT_RIGHT, Image.Transpose.ROTATE_90
    copies = [photo(0), photo(1).transpose(mirrored), photo(2).transpose(turned), photo(40), photo(41)]
    chosen = retrieval_set(tmp_path / "copies", [encoded(c) for c in copies])
    assert counted(tmp_path / "pool", chosen)["in_pool"] == 3


def test_a_pool_is_looked_at_many_shards_at_a_time_and_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The set's hashes are sorted for each search: one a shard would cost as much as one for two million samples."""
    searched: list[int] = []
    plain = eval_hashes.nearest_hashes

    def noting(queries: np.ndarray, words: np.ndarray, row: np.ndarray, most: int) -> tuple[np.ndarray, np.ndarray]:
        searched.append(len(words))
        return plain(queries, words, row, most)

    monkeypatch.setattr(eval_hashes, "nearest_hashes", noting)
    pool = Pool.create(str(tmp_path / "pool"), PIXELS_SETTINGS, 2)

    def add(shard: int, seeds: list[int]) -> None:
        images = [encoded(photo(seed), quality=40) for seed in seeds]
        known = [{k: v for k, v in f.items() if k != "uid"} for f in facts(images)]
        rows = enumerate(zip(images, known, strict=True))
        add_shard(pool, shard, [sample(10 * shard + n, image=i, **k) for n, (i, k) in rows])

    for shard in range(5):
        add(shard, [shard, 20 + shard])
    chosen = retrieval_set(tmp_path / "copies", [encoded(photo(seed)) for seed in (0, 3, 4, 5, 40)])
    assert counted(tmp_path / "pool", chosen)["in_pool"] == 3
    assert searched == [10]
    assert counted(tmp_path / "pool", chosen)["in_pool"] == 3
    assert searched == [10], "what was found stays"
    monkeypatch.setattr(overlap, "ROWS", 4)  # two shards a span
    assert counted(tmp_path / "pool", chosen)["in_pool"] == 3
    assert searched == [10, 4, 4, 2]
    add(7, [5, 50])
    assert counted(tmp_path / "pool", chosen) == {"task": "retrieval", "n": 5, "in_pool": 4, "near": 48}
    assert searched == [10, 4, 4, 2, 4], "only the last span is another one"


def test_a_pool_without_hashes_says_so(tmp_path: Path) -> None:
    pool = Pool.create(str(tmp_path / "pool"), PIXELS_SETTINGS, 10)
    image = encoded(photo(0))
    add_shard(pool, 0, [sample(0, image=image, phash64=None, phash256=None, phash_quality=None)])
    chosen = retrieval_set(tmp_path / "copies", [image, encoded(photo(0), quality=50)])
    found = counted(tmp_path / "pool", chosen)
    assert (found["in_pool"], found["near"]) == (1, -1)
