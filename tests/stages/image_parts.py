"""Image models as they are published, small and with random weights: a TorchScript, a checkpoint of ISC21, folders."""

from __future__ import annotations

import argparse
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from stages.base import Batch
from stages.image_embedding import ImageEmbedding

ARCH = "test_efficientnet"  # timm's own for tests
VIT = "test_vit"
SIDE = 64


@dataclass(frozen=True)
class Models:
    """Paths: of files of SSCD's and ISC's kind and of a ViT of timm's, and of folders."""

    sscd: str
    isc: str
    timm_file: str
    timm: str
    dinov2: str


def make_models(folder: Path) -> Models:
    torch = pytest.importorskip("torch", reason="torch is not installed: image_embedding is not tested")
    pytest.importorskip("timm", reason="timm is not installed: image_embedding is not tested")
    pytest.importorskip("transformers", reason="transformers is not installed: image_embedding is not tested")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        return Models(_sscd(folder), _isc(folder), *_timm(folder), save_dinov2(folder / "dinov2"))


def _sscd(folder: Path, dim: int = 512) -> str:
    """Takes pictures of any shape, as SSCD's ResNet does, and gives rows of length one."""
    import torch
    from torch import nn
    from torch.nn import functional as F

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.seen, self.said = nn.Conv2d(3, 16, 8, stride=4), nn.Linear(16, dim)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return F.normalize(self.said(self.seen(x).relu().mean(dim=[2, 3])), dim=1)

    path = folder / f"sscd_{dim}.torchscript.pt"
    torch.jit.script(Net().eval()).save(path)
    return str(path)


def sscd_of(folder: Path, dim: int) -> str:
    """A TorchScript with vectors of another length."""
    return _sscd(folder, dim)


def _isc(folder: Path) -> str:
    import timm
    import torch

    from stages.image_isc import IscNet

    net = IscNet(timm.create_model(ARCH, features_only=True))
    torch.nn.init.normal_(net.bn.running_mean)
    state = {f"module.{name}": value for name, value in net.state_dict().items()}
    path = folder / "isc_ft_v107.pth.tar"
    torch.save({"arch": ARCH, "args": argparse.Namespace(input_size=512), "state_dict": state, "epoch": 3}, path)
    return str(path)


def _timm(folder: Path) -> tuple[str, str]:
    import timm
    from safetensors.torch import save_file

    place = folder / "timm"
    place.mkdir()
    net = timm.create_model(VIT, img_size=SIDE)
    save_file(net.state_dict(), place / "model.safetensors")
    (place / "config.json").write_text(json.dumps({"architecture": VIT, "num_classes": 1000}))
    return str(place / "model.safetensors"), str(place)


def save_dinov2(place: Path, spread: float = 0.02) -> str:
    """A DINOv2 of transformers, as its `save_pretrained` leaves it; `spread` is of its random weights."""
    import torch
    from transformers import Dinov2Config, Dinov2Model

    sizes: dict[str, Any] = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        Dinov2Model(Dinov2Config(**sizes, image_size=28, patch_size=14, initializer_range=spread)).save_pretrained(
            place
        )
    return str(place)


CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "sscd": ("sscd", {"preset": "sscd_disc_mixup", "size": 40}),
    "sscd_320": ("sscd", {"preset": "sscd_disc_mixup_320", "size": 48}),
    "isc": ("isc", {"preset": "isc_ft_v107", "size": SIDE}),
    "timm": ("timm", {"preset": "dinov2_timm", "size": SIDE, "shorter": 70}),
    "timm_file": ("timm_file", {"preset": "dinov2_timm", "model": VIT, "size": SIDE, "shorter": 70}),
    "dinov2": ("dinov2", {"preset": "dinov2", "size": 28, "shorter": 32}),
}


def stage_of(models: Models, case: str, **more: Any) -> ImageEmbedding:
    path, given = CASES[case]
    return ImageEmbedding(weights=getattr(models, path), **{"batch": 3, **given, **more})


def picture(number: int, width: int = 90, height: int = 70) -> bytes:
    """Noise in a few colours, as PNG."""
    rng = np.random.default_rng(number)
    small = Image.fromarray(rng.integers(0, 256, (7, 9, 3), np.uint8))
    out = io.BytesIO()
    small.resize((width, height), Image.Resampling.BICUBIC).save(out, "PNG")
    return out.getvalue()


def pictures(count: int = 5) -> list[bytes]:
    """Of several shapes."""
    return [picture(i, 60 + 17 * i, 90 - 5 * i) for i in range(count)]


def asked(stage: ImageEmbedding, images: Sequence[bytes]) -> tuple[np.ndarray, list[str | None]]:
    """(float32 (n, dim), NaN where null; errors)."""
    found = stage.run(Batch.of(pa.table({"text": ["a"] * len(images)}), list(images)))
    assert found.schema == stage.writes()
    column = found.column(stage.image)
    dim = found.schema.field(stage.image).type.list_size
    rows = [[np.nan] * dim if v is None else v for v in column.to_pylist()]
    return np.array(rows, np.float32).reshape(-1, dim), found.column("error").to_pylist()
