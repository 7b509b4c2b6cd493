"""CLIP_benchmark and we give the same numbers: the real package, real pictures and captions, one model.

CLIP_BENCHMARK_PYTHON names an interpreter that has clip_benchmark, open_clip and webdataset; without it this one is
tried. Where neither has the package, the test says so and is skipped.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch
from torch import Tensor

from tests.training_smoke.evaluate.evalsets import write_folder
from training_smoke.evaluate import evaluate

CONFIG = {
    "embed_dim": 64,
    "vision_cfg": {"image_size": 64, "layers": 2, "width": 64, "head_width": 32, "patch_size": 16},
    "text_cfg": {"context_length": 32, "vocab_size": 49408, "width": 64, "heads": 2, "layers": 2},
}


@pytest.fixture
def clip_benchmark() -> str:
    python = os.environ.get("CLIP_BENCHMARK_PYTHON")
    if not python and importlib.util.find_spec("clip_benchmark") is None:
        pytest.skip("no clip_benchmark here: set CLIP_BENCHMARK_PYTHON to an interpreter that has it")
    return python or sys.executable


class OpenClip:
    """Any model of open_clip behind our protocol."""

    def __init__(self, configs: Path, name: str) -> None:
        open_clip = pytest.importorskip("open_clip")
        open_clip.add_model_config(configs)
        torch.manual_seed(0)
        self.model = open_clip.create_model(name).eval()
        with torch.no_grad():
            for parameter in self.model.parameters():
                parameter.mul_(1 + parameter.ndim)  # random towers of the usual size give all pictures one feature
        self.tokenizer = open_clip.get_tokenizer(name)
        self.mean, self.std = (
            torch.tensor(v).view(3, 1, 1) for v in (self.model.visual.image_mean, self.model.visual.image_std)
        )
        self.image_size = 64

    def encode_images(self, images: Tensor) -> Tensor:
        return self.model.encode_image((images.float() / 255 - self.mean) / self.std)

    def encode_texts(self, texts: Sequence[str]) -> Tensor:
        return self.model.encode_text(self.tokenizer(list(texts)))


def imagenette(shared_data: Path, folder: Path) -> str:
    """Ten classes of ImageNet, 699 pictures, under their own labels."""
    rows = pq.read_table(
        shared_data / "images" / "labelled_eval.parquet", filters=[("source", "=", "imagenette")]
    ).to_pylist()
    names = sorted({row["label"] for row in rows})
    samples = [{"jpg": row["image"], "cls": str(names.index(row["label"])).encode()} for row in rows]
    return write_folder(folder, samples, classnames=names, templates=["a photo of a {c}.", "a bad photo of the {c}."])


def flickr8k(shared_data: Path, folder: Path, images: int = 300) -> str:
    """Pictures of the official test split, five captions each."""
    table = shared_data / "images" / "pairs_flickr8k-00000.parquet"
    rows = pq.read_table(table, filters=[("upstream_split", "=", "test")]).slice(0, images).to_pylist()
    samples = [{"jpg": row["image"], "txt": "\n".join(row["captions"]).encode()} for row in rows]
    return write_folder(folder, samples, kind="retrieval")


def test_the_numbers_are_those_of_clip_benchmark(clip_benchmark: str, shared_data: Path, tmp_path: Path) -> None:
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "parity.json").write_text(json.dumps(CONFIG))
    model = OpenClip(tmp_path / "configs", "parity")
    torch.save(model.model.state_dict(), tmp_path / "weights.pt")
    folders = [imagenette(shared_data, tmp_path / "imagenette"), flickr8k(shared_data, tmp_path / "flickr8k")]

    script = Path(__file__).with_name("clip_benchmark_says.py")
    command = [clip_benchmark, str(script), str(tmp_path / "configs"), "parity", str(tmp_path / "weights.pt"), *folders]
    said = subprocess.run(command, capture_output=True, text=True, check=False)
    assert said.returncode == 0, said.stderr[-2000:]

    for folder, theirs in zip(folders, json.loads(said.stdout.splitlines()[-1]), strict=True):
        ours = evaluate(model, folder)["metrics"]
        assert {name: ours[name] for name in theirs} == {name: pytest.approx(value) for name, value in theirs.items()}
