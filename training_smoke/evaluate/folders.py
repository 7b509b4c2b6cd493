"""Evaluation sets as CLIP_benchmark's users have them: a folder of WebDataset tars with class names and templates.

    folder = Folder.open("evalsets/wds_cifar10_test")             # a path, or any URL that fsspec opens
    for sample in folder.samples():
        sample.image, sample.answer

    classnames.txt                              one a line, in the order of the labels
    zeroshot_classification_templates.txt       one a line, {c} stands for the class name
    dataset_type.txt                            "retrieval", "multilabel" or "vqa"; absent: classification
    test/nshards.txt  test/0.tar ...            <key>.webp|png|jpg|jpeg with .cls, an integer; .txt, one caption a line;
                                                or .npy, an indicator of the classes. Beside .cls, .npy has metadata;
                                                or .json, [{"question": ..., "answers": [..., ...]}, ...]

The layout is that of LAION-AI/CLIP_benchmark (datasets/builder.py, build_wds_dataset; webdataset_builder.py writes it),
and mlfoundations/datacomp's download_evalsets.py fetches such folders. The kind "vqa" is ours.
"""

from __future__ import annotations

import io
import itertools
import json
import re
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, cast

import fsspec
import numpy as np

from training_smoke.errors import TrainingError

Kind = Literal["classification", "multilabel", "retrieval", "vqa"]
ANSWERS = {"classification": "cls", "multilabel": "npy", "retrieval": "txt", "vqa": "json"}
"""Kind of set -> the member of a sample that has its answer."""


@dataclass(frozen=True, slots=True)
class Question:
    """About a picture, and what people answered: one answer, or one of each of several people."""

    question: str
    answers: tuple[str, ...]


Answer = int | np.ndarray | tuple[str, ...] | tuple[Question, ...]
"""A class; float [classes], 1 where a class applies; captions; or questions."""

IMAGES = ("webp", "png", "jpg", "jpeg")
MEMBER = re.compile(r"((?:.*/)?[^./]+)\.([^/]+)")  # webdataset's: the key ends at the first dot of the file name


@dataclass(frozen=True, slots=True)
class Sample:
    """One picture as encoded bytes, its answer, and where it came from. metadata: what .npy has beside .cls."""

    name: str
    image: bytes
    answer: Answer
    metadata: np.ndarray | None = None


@dataclass(frozen=True)
class Folder:
    """An evaluation set. Class names and templates are empty for retrieval and for questions."""

    path: str
    kind: Kind
    classnames: tuple[str, ...] = ()
    templates: tuple[str, ...] = ()

    @classmethod
    def open(cls, path: str) -> Folder:
        """
        Raises:
            TrainingError: a file that the kind of set needs is not there, or does not say what it should.
        """
        path = path.rstrip("/")
        said = _lines(path, "dataset_type.txt") or ("classification",)
        kind = said[0].lower()
        if kind in ("retrieval", "vqa"):
            return cls(path, cast(Kind, kind))
        if kind not in ANSWERS:
            raise TrainingError(f"{path}/dataset_type.txt says {kind!r}; known: {', '.join(ANSWERS)}")
        classnames, templates = (
            _lines(path, name, needed=True) for name in ("classnames.txt", "zeroshot_classification_templates.txt")
        )
        for template in templates:
            if "{c}" not in template:
                raise TrainingError(f"{path}: template {template!r} has no {{c}} where the class name goes")
        return cls(path, cast(Kind, kind), classnames, templates)

    def samples(self, split: str = "test") -> Iterator[Sample]:
        """All samples of a split, in order.

        Raises:
            TrainingError: no such split, a tar that is missing or broken, a sample without a picture or an answer.
        """
        said = _lines(self.path, f"{split}/nshards.txt", needed=True)
        if len(said) != 1 or not said[0].isdecimal():
            raise TrainingError(f"{self.path}/{split}/nshards.txt does not hold a number: {said}")
        for shard in range(int(said[0])):
            url = f"{self.path}/{split}/{shard}.tar"
            for key, files in _tar(url):
                yield self._sample(f"{url}:{key}", files)

    def _sample(self, name: str, files: dict[str, bytes]) -> Sample:
        image = next((files[e] for e in IMAGES if e in files), None)
        wanted = ANSWERS[self.kind]
        if image is None or wanted not in files:
            raise TrainingError(f"{name} has {', '.join(files)}; needed: .{wanted} and one of .{', .'.join(IMAGES)}")
        try:
            if self.kind == "retrieval":
                return Sample(name, image, _captions(files["txt"]))
            if self.kind == "vqa":
                return Sample(name, image, _questions(files["json"]))
            array = np.load(io.BytesIO(files["npy"]), allow_pickle=False) if "npy" in files else None
            if self.kind == "multilabel":
                return Sample(name, image, np.asarray(array, np.float64))
            return Sample(name, image, int(files["cls"]), array)
        except (ValueError, EOFError, KeyError, TypeError) as e:
            raise TrainingError(f"{name}: .{wanted} cannot be read: {e}") from e


def _captions(data: bytes) -> tuple[str, ...]:
    if not (said := tuple(data.decode().splitlines())):
        raise ValueError("it is empty; a picture has one caption a line: give it one, or take it out of the set")
    return said


def _questions(data: bytes) -> tuple[Question, ...]:
    said = json.loads(data)
    if not said or any(isinstance(q["answers"], str) or not q["answers"] for q in said):
        raise ValueError("there must be questions, each with a list of one answer or more")
    return tuple(Question(str(q["question"]), tuple(map(str, q["answers"]))) for q in said)


def _lines(folder: str, name: str, *, needed: bool = False) -> tuple[str, ...]:
    """Stripped lines, as CLIP_benchmark splits them; blank ones at the end are dropped. No such file: none."""
    url = f"{folder}/{name}"
    try:
        with fsspec.open(url, "rt", encoding="utf-8", newline="") as file:
            lines = [line.strip() for line in file.read().splitlines()]
    except FileNotFoundError:
        lines = []
    while lines and not lines[-1]:
        lines.pop()
    if needed and not lines:
        raise TrainingError(f"{url} is missing or empty: this is not a folder of CLIP_benchmark's webdataset layout")
    if "" in lines:
        raise TrainingError(f"{url}: line {lines.index('') + 1} is blank")
    return tuple(lines)


def _tar(url: str) -> Iterator[tuple[str, dict[str, bytes]]]:
    """(key, extension -> bytes) of neighbouring members with one key, read front to back without seeking."""
    try:
        with fsspec.open(url, "rb") as stream, tarfile.open(fileobj=stream, mode="r|") as tar:
            for key, members in itertools.groupby(_members(tar), key=lambda m: m[0]):
                yield key, {extension: data for _, extension, data in members}
    except FileNotFoundError:
        raise TrainingError(f"{url} is missing, but nshards.txt counts it: download it again") from None
    except tarfile.TarError as e:
        raise TrainingError(f"{url} is broken ({e}): download it again") from e


def _members(tar: tarfile.TarFile) -> Iterator[tuple[str, str, bytes]]:
    for member in tar:
        named = MEMBER.fullmatch(member.name)
        content = tar.extractfile(member) if named and member.isfile() else None
        if named and content:
            yield named[1], named[2].lower(), content.read()
