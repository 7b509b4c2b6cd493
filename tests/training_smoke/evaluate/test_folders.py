"""Folders in CLIP_benchmark's layout: what is read, in which order, from where, and what is refused by name."""

from __future__ import annotations

import json
from pathlib import Path

import fsspec
import numpy as np
import pytest
import webdataset

from tests.training_smoke.evaluate.evalsets import COLOURS, coloured, npy, picture, write_folder, write_tar
from training_smoke.errors import TrainingError
from training_smoke.evaluate.folders import Folder, Question


def test_classification(tmp_path: Path) -> None:
    folder = Folder.open(write_folder(tmp_path / "set", coloured([2, 0, 1, 1, 0]), shards=3) + "/")
    assert (folder.kind, folder.classnames) == ("classification", ("red", "green", "blue"))
    assert folder.templates == ("a {c} thing", "{c}")
    samples = list(folder.samples())
    assert [s.answer for s in samples] == [2, 0, 1, 1, 0]
    assert samples[0].image == picture(COLOURS["blue"])
    assert [s.name.removeprefix(folder.path) for s in samples[1:3]] == ["/test/0.tar:s0000001", "/test/1.tar:s0000002"]


def test_any_kind_of_picture_and_metadata(tmp_path: Path) -> None:
    samples = [
        {form.lower(): picture((9, 9, 9), form=pillow), "cls": b"1\n", "npy": npy([3, 4])}
        for form, pillow in [("WEBP", "WEBP"), ("jpg", "JPEG"), ("JPEG", "JPEG"), ("png", "PNG")]
    ]
    found = list(Folder.open(write_folder(tmp_path, samples)).samples())
    assert [s.image for s in found] == [next(iter(s.values())) for s in samples]
    assert all(s.metadata is not None and s.metadata.tolist() == [3, 4] for s in found)


def test_retrieval(tmp_path: Path) -> None:
    samples = [{"webp": picture((1, 2, 3), form="WEBP"), "txt": "one\ntwo\\n, dös".encode()}]
    folder = Folder.open(write_folder(tmp_path, samples, kind="retrieval", shards=1))
    assert [s.answer for s in folder.samples()] == [("one", "two\\n, dös")]


def test_multilabel(tmp_path: Path) -> None:
    samples = [{"jpg": picture((1, 2, 3), form="JPEG"), "npy": npy([0, 1, 1])}]
    (sample,) = Folder.open(write_folder(tmp_path, samples, kind="multilabel", shards=1)).samples()
    assert np.asarray(sample.answer).tolist() == [0, 1, 1]


def test_another_split(tmp_path: Path) -> None:
    path = write_folder(tmp_path, coloured([0]), shards=1)
    write_folder(tmp_path, coloured([1, 2]), split="train", shards=1)
    assert [s.answer for s in Folder.open(path).samples("train")] == [1, 2]


def test_a_folder_behind_a_url(tmp_path: Path) -> None:
    write_folder(tmp_path / "set", coloured([2, 1]))
    fs = fsspec.filesystem("memory")
    fs.put(str(tmp_path / "set"), "/evalsets/set", recursive=True)
    assert [s.answer for s in Folder.open("memory://evalsets/set").samples()] == [2, 1]


def test_what_webdatasets_own_writer_writes(tmp_path: Path) -> None:
    """CLIP_benchmark's exporter is this loop (webdataset_builder.py)."""
    path = write_folder(tmp_path, [])
    with webdataset.ShardWriter(f"file:{tmp_path}/test/%d.tar", maxcount=2, verbose=0) as sink:
        for i in range(5):
            sink.write({"__key__": f"s{i:07d}", "webp": picture((i, i, i), form="WEBP"), "cls": i % 3})
    (tmp_path / "test" / "nshards.txt").write_text("3\n")
    assert [s.answer for s in Folder.open(path).samples()] == [0, 1, 2, 0, 1]


def test_members_that_are_no_sample_are_passed_over(tmp_path: Path) -> None:
    path = write_folder(tmp_path, [], shards=1)
    sample = {"./a/b.c/k.PNG": picture((1, 1, 1)), "./a/b.c/k.cls": b"1"}
    write_tar(tmp_path / "test" / "0.tar", {"README": b"x", ".hidden": b"x", "a/._k.png": b"x", **sample})
    (found,) = Folder.open(path).samples()
    assert found.name.endswith("0.tar:./a/b.c/k")


def test_blank_lines_at_the_end_are_none_and_others_are_refused(tmp_path: Path) -> None:
    path = write_folder(tmp_path, coloured([0]))
    (tmp_path / "classnames.txt").write_text("red \r\n green\r\nblue\r\n\r\n\n")
    assert Folder.open(path).classnames == ("red", "green", "blue")
    (tmp_path / "classnames.txt").write_text("red\n\nblue\n")
    with pytest.raises(TrainingError, match=r"classnames.txt: line 2 is blank"):
        Folder.open(path)


@pytest.mark.parametrize("lacking", ["classnames.txt", "zeroshot_classification_templates.txt"])
def test_a_file_that_is_needed(tmp_path: Path, lacking: str) -> None:
    path = write_folder(tmp_path, coloured([0]))
    (tmp_path / lacking).unlink()
    with pytest.raises(TrainingError, match=f"{lacking} is missing or empty"):
        Folder.open(path)


def test_files_that_say_nonsense(tmp_path: Path) -> None:
    path = write_folder(tmp_path, coloured([0]), templates=["a photo"])
    with pytest.raises(TrainingError, match=r"template 'a photo' has no \{c\}"):
        Folder.open(path)
    (tmp_path / "dataset_type.txt").write_text("segmentation\n")
    with pytest.raises(TrainingError, match="'segmentation'; known: classification"):
        Folder.open(path)


def asked(folder: Path, said: object) -> Folder:
    sample = {"png": picture((1, 2, 3)), "json": json.dumps(said).encode()}
    return Folder.open(write_folder(folder, [sample], kind="vqa", shards=1))


def test_questions(tmp_path: Path) -> None:
    folder = asked(
        tmp_path, [{"question": "How many?", "answers": [2]}, {"question": "Who?", "answers": ["he", "she"]}]
    )
    (tmp_path / "classnames.txt").unlink()  # not needed
    assert Folder.open(str(tmp_path)).kind == folder.kind == "vqa"
    (sample,) = folder.samples()
    assert sample.answer == (Question("How many?", ("2",)), Question("Who?", ("he", "she")))


@pytest.mark.parametrize("said", [[], {}, [{"question": "?"}], [{"question": "?", "answers": []}],
                                  [{"question": "?", "answers": "yes"}], ["what?"], 3])  # fmt: skip
def test_questions_that_are_none(tmp_path: Path, said: object) -> None:
    with pytest.raises(TrainingError, match=r"s0000000: \.json cannot be read"):
        list(asked(tmp_path, said).samples())


def test_shards_that_are_not_as_counted(tmp_path: Path) -> None:
    folder = Folder.open(write_folder(tmp_path, coloured([0, 1])))
    (tmp_path / "test" / "1.tar").unlink()
    with pytest.raises(TrainingError, match=r"1.tar is missing, but nshards.txt counts it"):
        list(folder.samples())
    (tmp_path / "test" / "nshards.txt").write_text("two\n")
    with pytest.raises(TrainingError, match="does not hold a number"):
        list(folder.samples())
    with pytest.raises(TrainingError, match=r"train/nshards.txt is missing"):
        list(folder.samples("train"))


def test_a_tar_cut_short(tmp_path: Path) -> None:
    folder = Folder.open(write_folder(tmp_path, coloured([0, 1, 2]), shards=1))
    tar = tmp_path / "test" / "0.tar"
    tar.write_bytes(tar.read_bytes()[:700])
    with pytest.raises(TrainingError, match=r"0.tar is broken.*download it again"):
        list(folder.samples())


@pytest.mark.parametrize(
    ("sample", "said"),
    [
        ({"png": b"x"}, r"0.tar:s0000000 has png; needed: .cls"),
        ({"cls": b"1"}, r"has cls; needed: .cls and one of .webp"),
        ({"png": b"x", "cls": b"cat"}, r"s0000000: .cls cannot be read"),
        ({"png": b"x", "cls": b"1", "npy": npy(np.array([{}], dtype=object))}, "cannot be read"),  # pickled: not loaded
        ({"png": b"x", "cls": b"1", "npy": b""}, "cannot be read"),
    ],
)
def test_samples_that_are_not_whole(tmp_path: Path, sample: dict[str, bytes], said: str) -> None:
    folder = Folder.open(write_folder(tmp_path, [sample], shards=1))
    with pytest.raises(TrainingError, match=said):
        list(folder.samples())
