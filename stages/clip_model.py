"""A CLIP, loaded to be asked for vectors: any configuration of open_clip, or towers that were trained here.

    clip = load("ViT-B-32", "/weights.pt")              # or load(None, "filters/dfn/filter.pt")
    clip.image_vectors(clip.squares([rgb, rgb]), 32)    # float32 (2, dim), rows of length one
    clip.text_vectors(clip.tokens(["a red bicycle"]), 32)

Every forward pass of pictures has one shape, and of texts one of three (stages/clip_text.py), filled up where there are
fewer: on one kind of machine the same batch then gives the same bytes. On a GPU the towers are compiled, copies go
ahead of the computation, and nothing is waited for but the vectors at the end.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple
from weakref import WeakValueDictionary

import numpy as np

from stages.clip_colours import normaliser
from stages.clip_pixels import Fit
from stages.clip_text import lengths, text_encoders
from stages.clip_weights import is_tag, plain, reason, weights_file

if TYPE_CHECKING:
    from torch import Tensor

    from training_smoke.towers import TwoTowers

Precision = Literal["fp32", "bf16"]
Device = Literal["cpu", "cuda"]


@dataclass(frozen=True, eq=False)
class Clip:
    """Two towers, ready. `images` and `texts` are one module, or two where pictures are computed in bf16.

    fit: makes squares of pictures. device: where it computes. compiled: what torch.compile makes of the towers is run.
    """

    images: TwoTowers
    texts: TwoTowers
    fit: Fit
    device: Device
    compiled: bool = False

    def squares(self, pictures: Sequence[np.ndarray]) -> np.ndarray:
        """uint8 (height, width, 3) each, of any size -> uint8 (n, size, size, 3), as the image tower wants them."""
        made = self._room((len(pictures), self.fit.size, self.fit.size, 3))
        for square, picture in zip(made, pictures, strict=True):
            square[:] = self.fit(picture)
        return made

    def _room(self, shape: tuple[int, ...]) -> np.ndarray:
        """uint8; for a GPU in pages that stay where they are, from which it copies by itself."""
        import torch

        room: np.ndarray = torch.empty(shape, dtype=torch.uint8, pin_memory=self.device == "cuda").numpy()
        return room

    def tokens(self, texts: Sequence[str]) -> np.ndarray:
        """int64 (n, context). What is longer than the model's context is cut."""
        if not texts:
            return np.zeros((0, self.texts.context), np.int64)
        tokens: np.ndarray = self.texts.tokenize(list(texts)).numpy()
        return tokens

    def image_vectors(self, squares: np.ndarray, batch: int, unit: bool = True) -> np.ndarray:
        """`squares` -> float32 (n, dim), unit rows, or as the tower gives them; `batch` in a forward pass."""
        return self._vectors([_Asked(self._encode_images, squares, batch)], unit)

    def text_vectors(self, tokens: np.ndarray, batch: int, unit: bool = True) -> np.ndarray:
        """`tokens` -> float32 (n, dim), unit rows, or as the tower gives them; `batch` of the shortest length in a
        forward pass, of longer ones fewer, so that each has about as many tokens."""
        places = np.array([*self._encode_texts])
        which = np.searchsorted(places, lengths(self.texts, tokens))  # the shortest that holds it
        groups = [np.flatnonzero(which == i) for i in range(len(places))]
        asked = [
            _Asked(encode, tokens[group, :n], max(1, batch * int(places[0]) // n))
            for (n, encode), group in zip(self._encode_texts.items(), groups, strict=True)
        ]
        return self._vectors(asked, unit)[np.argsort(np.concatenate(groups), kind="stable")]

    def _vectors(self, asked: Sequence[_Asked], unit: bool) -> np.ndarray:
        """Vectors of all that is asked, one below the other; waited for once, at the end."""
        import torch

        parts: list[Tensor] = [] if any(len(a.rows) for a in asked) else [torch.empty(0, 0)]
        with torch.inference_mode():
            for encode, rows, batch in asked:
                for start in range(0, len(rows), batch):
                    some = rows[start : start + batch]
                    vectors = encode(self._there(_filled(some, batch)))
                    parts.append((_unit(vectors) if unit else vectors.float())[: len(some)])
            found: np.ndarray = torch.cat(parts).cpu().numpy()
        return found

    def _there(self, rows: np.ndarray) -> Tensor:
        import torch

        return torch.from_numpy(rows).to(self.device, non_blocking=True)

    @cached_property
    def _encode_images(self) -> Callable[[Tensor], Tensor]:
        """uint8 (batch, size, size, 3) -> (batch, dim)."""
        if self.device == "cpu" and self.images.frozen is None:
            normalise = normaliser(self.images)
            return self._maybe_compiled(lambda squares: self.images.image_features(normalise(squares)))
        return self._maybe_compiled(lambda squares: self.images.encode_images(squares.permute(0, 3, 1, 2)))

    @cached_property
    def _encode_texts(self) -> dict[int, Callable[[Tensor], Tensor]]:
        return {places: self._maybe_compiled(e) for places, e in text_encoders(self.texts).items()}

    def _maybe_compiled(self, encode: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
        import torch

        return torch.compile(encode, dynamic=False) if self.compiled else encode


class _Asked(NamedTuple):
    """Rows for an encoder, `batch` of them in a forward pass."""

    encode: Callable[[Tensor], Tensor]
    rows: np.ndarray
    batch: int


_LOADED: WeakValueDictionary[tuple[Any, ...], Clip] = WeakValueDictionary()


def shared(
    model: str | None, weights: str, precision: Precision = "fp32", device: Device = "cpu", compiled: bool = False
) -> Clip:
    """`load`, once for all stages of this process that ask for the same model and still hold it."""
    file = Path(weights_file(model, weights))
    key = (model, weights, precision, device, compiled, file.stat().st_mtime_ns, file.stat().st_size)
    found = _LOADED.get(key)
    if found is None:
        found = _LOADED[key] = load(model, weights, precision, device, compiled)
    return found


def load(
    model: str | None, weights: str, precision: Precision = "fp32", device: Device = "cpu", compiled: bool = False
) -> Clip:
    """The model with its weights, in evaluation mode on the device.

    Args:
        model: a configuration of open_clip; None: `weights` is a file of towers trained here.
        weights: a file, or a tag of open_clip's.
        precision: bf16: the image tower has weights and activations in bfloat16, four times as fast where the
            processor computes in it; on a GPU the text tower has too.
        compiled: by torch.compile, at the first forward pass of each shape.

    Raises:
        ValueError: weights, model or device are missing, or the weights do not fit; says what to do.
    """
    import torch

    if device == "cuda" and not torch.cuda.is_available():
        raise ValueError("clip: `device: cuda`, and no GPU is seen here; say `device: cpu`, or run where there is one")
    towers, fit = _ours(weights) if model is None else _open_clip(model, weights)
    towers = towers.to(device).eval().requires_grad_(False)
    if precision == "fp32":
        return Clip(towers, towers, fit, device, compiled)
    low = copy.deepcopy(towers).bfloat16()
    return Clip(low, towers if device == "cpu" else low, fit, device, compiled)


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


def _filled(rows: np.ndarray, batch: int) -> np.ndarray:
    """As many rows as a forward pass has; those of no sample are copies of the first."""
    short = batch - len(rows)
    return np.concatenate([rows, np.repeat(rows[:1], short, axis=0)]) if short else rows


def _unit(vectors: Tensor) -> Tensor:
    """float32, rows of length one whatever precision they were made in."""
    from torch.nn import functional as F

    return F.normalize(vectors.float(), dim=-1)


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
