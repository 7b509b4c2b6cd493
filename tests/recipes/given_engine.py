"""What a user gives to `lvd_142m`: a copy descriptor, a DINOv2, and vectors of pictures by both; all made here, small.

The descriptor is no network that was trained, but colours of a picture's regions less their mean, which is near for
copies and far for others: with random weights all pictures would be alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tests.recipes.material import Picture
from tests.stages.image_parts import save_dinov2

SIDE, GRID, DIM = 48, 6, 512


def engine(folder: Path, pictures: Sequence[Picture]) -> dict[str, str]:
    """name -> path: sscd, dinov2, imagenet_sscd, curated_dinov2, flowers_dinov2."""
    given = {"sscd": save_descriptor(folder / "sscd.torchscript.pt"), "dinov2": save_dinov2(folder / "dinov2", 0.5)}
    shown = {"imagenet_sscd": pictures[40:55], "curated_dinov2": pictures[300:330], "flowers_dinov2": pictures[700:760]}
    for name, some in shown.items():
        by = {"preset": name.partition("_")[2], "size": SIDE, "batch": 8}
        by |= {"preset": "sscd_disc_mixup"} if name.endswith("sscd") else {"size": 28, "shorter": 32}
        weights = given["sscd" if name.endswith("sscd") else "dinov2"]
        np.save(folder / f"{name}.npy", described(some, weights, by))
        given[name] = str(folder / f"{name}.npy")
    return given


def described(pictures: Sequence[Picture], weights: str, by: dict[str, object]) -> np.ndarray:
    """float32 (n, dim): as the pool's stage describes them."""
    from stages.image_embedding import ImageEmbedding

    stage = ImageEmbedding.model_validate({"weights": weights, **by})
    stage.open()
    model = stage._model()
    return model.vectors(model.pixels([np.asarray(p.open()) for p in pictures]), stage.batch)


def save_descriptor(path: Path) -> str:
    """A TorchScript that gives 512 numbers for pictures of any shape, as SSCD's does."""
    import warnings

    import torch
    from torch import nn
    from torch.nn import functional as F

    class Colours(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            turn, _ = torch.linalg.qr(torch.randn(DIM, 3 * GRID * GRID, generator=torch.Generator().manual_seed(1)))
            self.turn = nn.Parameter(turn.T.contiguous())

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            regions = F.adaptive_avg_pool2d(x, [6, 6])
            regions = regions - regions.mean(dim=[1, 2, 3], keepdim=True)
            return F.normalize(regions.flatten(1) @ self.turn, dim=1)

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=FutureWarning)  # TorchScript is deprecated, and SSCD's form
        torch.jit.script(Colours().eval()).save(path)
    return str(path)
