"""Packs through the readers that people use, with their default settings."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.run.packing import WEB, Packer, build, samples_of
from tests.tiny import sample


@pytest.fixture
def packer(tmp_path: Path) -> Packer:
    samples = [*samples_of(33), *(sample(i, emit=WEB, text=t) for i, t in enumerate(["", "a\nb", "x" * 1_000_000], 33))]
    return Packer(build(tmp_path / "pool", [samples[:20], samples[20:]]))


def folder(packer: Packer) -> Path:
    return Path(packer.pool.storage.url) / "packs" / packer.folders[0]


def expected(packer: Packer) -> dict[str, tuple[bytes, str]]:
    """uid -> image and text, straight from the pool."""
    found = {}
    for shard in packer.pool.shards():
        table, footer = packer.pool.facts(shard)
        data = packer.pool.storage.read(f"pixels/{footer['tar']}")
        for row in table.to_pylist():
            image = data[row["tar_offset"] : row["tar_offset"] + row["bytes"]]
            found[row["uid"].hex()] = (image, row["text"])
    return found


def pixels(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


def test_webdataset(packer: Packer) -> None:
    import webdataset

    packer.pack(samples=12)
    tars = sorted(str(p) for p in folder(packer).glob("*.tar"))
    want = expected(packer)
    raw = {s["__key__"]: (s["jpg"], s["txt"].decode()) for s in webdataset.WebDataset(tars, shardshuffle=False)}
    assert raw == want
    decoded = list(webdataset.WebDataset(tars, shardshuffle=False).decode("rgb8"))
    assert len(decoded) == len(want)
    for s in decoded:
        image, text = want[s["__key__"]]
        assert np.array_equal(s["jpg"], pixels(image))
        assert (s["txt"], s["json"]["uid"]) == (text, s["__key__"])
    sizes = json.loads((folder(packer) / "sizes.json").read_text())
    assert sizes == {Path(t).name: sum(1 for _ in webdataset.WebDataset(t, shardshuffle=False)) for t in tars}


@pytest.mark.parametrize(("kind", "suffix"), [("webdataset", "tar"), ("parquet", "parquet")])
def test_hugging_face_datasets(
    packer: Packer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: Any, suffix: str
) -> None:
    import datasets

    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    packer.pack(samples=12, format=kind)
    files = [str(p) for p in folder(packer).glob(f"*.{suffix}")]
    assert len(files) == 3
    found = datasets.load_dataset(
        kind, data_files={"train": sorted(files)}, split="train", cache_dir=str(tmp_path / "hf")
    )
    want = expected(packer)
    assert len(found) == len(want)
    for s in found:
        uid = s["uid"] if kind == "parquet" else s["__key__"]
        image, text = want.pop(uid)
        picture = s["image"] if kind == "parquet" else s["jpg"]
        assert np.array_equal(np.asarray(picture.convert("RGB")), pixels(image))
        line = json.loads(s["json"]) if kind == "parquet" else s["json"]
        assert (s["text"] if kind == "parquet" else s["txt"]) == text
        assert (line["uid"], line["texts"][0]["text"]) == (uid, text)
    assert want == {}


def test_the_folder_itself_is_a_hugging_face_dataset(
    packer: Packer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import datasets

    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    packer.pack(samples=12)
    found = datasets.load_dataset(str(folder(packer)), split="train", cache_dir=str(tmp_path / "hf"))
    assert {s["__key__"]: s["txt"] for s in found} == {u: t for u, (_, t) in expected(packer).items()}
