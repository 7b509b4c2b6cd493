"""A CLIP, loaded to be asked for vectors: any configuration of open_clip, or towers that were trained here.

    clip = load("ViT-B-32", "/weights.pt")         # or load(None, "filters/dfn/filter.pt")
    clip.image_vectors([rgb, rgb], batch=32)       # float32 (2, dim), rows of length one
    clip.text_vectors(["a red bicycle"], batch=32)

Every forward pass has the same shape, filled up where there are fewer: on one kind of machine the same batch then
gives the same bytes.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from stages.clip_pixels import Fit
from stages.clip_weights import is_tag, plain, reason, weights_file

if TYPE_CHECKING:
    from training_smoke.towers import TwoTowers

Precision = Literal["fp32", "bf16"]
Device = Literal["cpu", "cuda"]


@dataclass(frozen=True)
class Clip:
    """Two towers, ready. `images` and `texts` are one module, or two where pictures are computed in bf16.

    fit: makes squares of pictures. device: where it computes.
    """

    images: TwoTowers
    texts: TwoTowers
    fit: Fit
    device: Device

    def image_vectors(self, pictures: Sequence[np.ndarray], batch: int) -> np.ndarray:
        """At most `batch` pictures, uint8 (height, width, 3) of any size -> float32 (n, dim), unit rows."""
        import torch

        squares = np.zeros((batch, self.fit.size, self.fit.size, 3), np.uint8)
        for square, picture in zip(squares, pictures, strict=False):
            square[:] = self.fit(picture)
        pixels = torch.from_numpy(squares).to(self.device).permute(0, 3, 1, 2)
        with torch.inference_mode():
            return _unit(self.images.encode_images(pixels))[: len(pictures)]

    def text_vectors(self, texts: Sequence[str], batch: int) -> np.ndarray:
        """At most `batch` texts -> float32 (n, dim), unit rows. What is longer than the model's context is cut."""
        import torch

        filled = [*texts, *[""] * (batch - len(texts))]
        with torch.inference_mode():
            return _unit(self.texts.encode_texts(self.texts.tokenize(filled).to(self.device)))[: len(texts)]


def load(model: str | None, weights: str, precision: Precision = "fp32", device: Device = "cpu") -> Clip:
    """The model with its weights, in evaluation mode on the device.

    Args:
        model: a configuration of open_clip; None: `weights` is a file of towers trained here.
        weights: a file, or a tag of open_clip's.
        precision: bf16: the image tower has weights and activations in bfloat16, four times as fast where the
            processor computes in it; on a GPU the text tower has too.

    Raises:
        ValueError: weights, model or device are missing, or the weights do not fit; says what to do.
    """
    import torch

    if device == "cuda" and not torch.cuda.is_available():
        raise ValueError("clip: `device: cuda`, and no GPU is seen here; say `device: cpu`, or run where there is one")
    towers, fit = _ours(weights) if model is None else _open_clip(model, weights)
    towers = towers.to(device).eval()
    if precision == "fp32":
        return Clip(towers, towers, fit, device)
    low = copy.deepcopy(towers).bfloat16()
    return Clip(low, towers if device == "cpu" else low, fit, device)


def _ours(weights: str) -> tuple[TwoTowers, Fit]:
    from training_smoke.errors import TrainingError
    from training_smoke.towers_file import load_towers

    try:
        towers = load_towers(weights_file(None, weights))
    except TrainingError as e:
        raise ValueError(f"clip: {e}") from e
    return towers, Fit(towers.image_size)


def _open_clip(model: str, weights: str) -> tuple[TwoTowers, Fit]:
    import open_clip

    from training_smoke.towers import OpenClip

    name, path = plain(model), weights_file(model, weights)
    said = open_clip.get_pretrained_cfg(name, weights) if is_tag(weights) else _tags_agree(name)
    try:
        net = open_clip.create_model(name, pretrained=str(path), force_preprocess_cfg=_preprocessing(said))
        tokenizer = open_clip.get_tokenizer(name)
    except Exception as e:  # whatever torch, the hub or a damaged file throws
        raise ValueError(f"clip: open_clip cannot load {path} as {model}: {reason(e)}") from e
    about = net.visual.preprocess_cfg
    sides = {about["size"]} if isinstance(about["size"], int) else set(about["size"])
    if len(sides) > 1:
        raise ValueError(f"clip: {model} looks at pictures of {about['size']} pixels; only squares are supported")
    (size,) = sides
    fit = Fit(size, about["resize_mode"], about["interpolation"] == "bilinear", about["fill_color"])
    return OpenClip(net, tokenizer, size, int(tokenizer.context_length)), fit


def _tags_agree(name: str) -> dict[str, Any]:
    """The preprocessing of a model whose weights come as a file: that of its tags, where they all have the same.

    A file does not say it. open_clip then takes CLIP's, under which a SigLIP sees other colours and cut pictures.
    """
    import open_clip

    found = [open_clip.get_pretrained_cfg(name, t) for t in open_clip.list_pretrained_tags_by_model(name)]
    kinds = [_preprocessing(about) for about in found]
    return dict(kinds[0]) if kinds and all(kind == kinds[0] for kind in kinds) else {}


def _preprocessing(about: dict[str, Any]) -> dict[str, Any]:
    return {key: about[key] for key in ("mean", "std", "interpolation", "resize_mode") if key in about}


def _unit(vectors: Any) -> np.ndarray:
    """float32 in main memory, rows of length one whatever precision they were made in."""
    from torch.nn import functional as F

    rows: np.ndarray = F.normalize(vectors.float(), dim=-1).cpu().numpy()
    return rows


@contextmanager
def threads(count: int) -> Iterator[None]:
    """torch computes with so many threads in the block; the number is the whole process's, so it is put back."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
