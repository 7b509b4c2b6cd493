"""Weights of small networks on vectors, read from the file that they come in, and folded to as few layers as will do.

layers = head_layers("/heads/nsfw.pt", "nsfw")      # (Layer(weight (64, 768), bias (64,)), ...), ReLU between them
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from stages.clip_weights import INSTALL, reason

SHAPES = {"affine": (1,), "aesthetic_v2": (5,), "nsfw": (4,), "mlp": range(1, 33)}
"""How many linear layers a head of each kind has."""
BATCH_NORM_EPS = {"nsfw": 0.0}
"""Of the others torch's 1e-5."""


@dataclass(frozen=True)
class Layer:
    """y = weight x + bias, float64: (out, in) and (out,)."""

    weight: np.ndarray
    bias: np.ndarray

    def after(self, first: Layer) -> Layer:
        """The one layer that computes this one of the other."""
        return Layer(self.weight @ first.weight, self.weight @ first.bias + self.bias)


def file_of(weights: str) -> Path:
    """The file.

    Raises:
        ValueError: there is none.
    """
    path = Path(weights)
    if not path.is_file():
        raise ValueError(f"embedding_head: no weights at {path}; give a file (.pt, .pth, .safetensors or .npz)")
    return path


def head_layers(weights: str, kind: str) -> tuple[Layer, ...]:
    """The layers of a head, ReLU between each two; what has nothing between it is folded into one.

    Raises:
        ValueError: the file cannot be read, or what is in it is no head of this kind.
    """
    linear = _linear(_tensors(file_of(weights)), weights, BATCH_NORM_EPS.get(kind, 1e-5))
    if len(linear) not in SHAPES[kind]:
        raise ValueError(f"embedding_head: {weights} has {len(linear)} linear layers, and kind {kind} {SHAPES[kind]}")
    chain = [linear[0].weight.shape[1], *(layer.weight.shape[0] for layer in linear)]
    if any(a.weight.shape[0] != b.weight.shape[1] for a, b in pairwise(linear)) or chain[-1] != 1:
        shapes = ", ".join(str(layer.weight.shape) for layer in linear)
        raise ValueError(f"embedding_head: {weights}: layers of {shapes} are no chain that ends in one number")
    if kind != "aesthetic_v2":
        return tuple(linear)
    folded = linear[0]
    for layer in linear[1:]:
        folded = layer.after(folded)
    return (folded,)


def _linear(tensors: Mapping[str, np.ndarray], weights: str, eps: float) -> list[Layer]:
    """Linear layers in the order of the file; batch normalisation is folded into the layer after it."""
    found: list[Layer] = []
    waiting: Layer | None = None
    for prefix in dict.fromkeys(name.rpartition(".")[0] for name in tensors):
        part = {n.rpartition(".")[2]: t for n, t in tensors.items() if n.rpartition(".")[0] == prefix}
        if "running_var" in part:
            waiting = _normalisation(part, eps, f"{weights}, {prefix}")
        elif "weight" in part and part["weight"].size:
            weight = np.atleast_2d(part["weight"]).astype(np.float64)
            layer = Layer(weight, np.reshape(part.get("bias", np.zeros(len(weight))), -1).astype(np.float64))
            found.append(layer if waiting is None else layer.after(waiting))
            waiting = None
    if not found or waiting is not None:
        raise ValueError(f"embedding_head: {weights} has no linear layers, or ends without one: {list(tensors)[:8]}")
    return found


def _normalisation(part: Mapping[str, np.ndarray], eps: float, where: str) -> Layer:
    mean, variance = (part[f"running_{what}"].astype(np.float64) for what in ("mean", "var"))
    if (variance + eps <= 0).any():
        raise ValueError(f"embedding_head: {where}: a variance of {variance.min():g} cannot be divided by")
    scale = part.get("weight", np.ones(len(mean))).astype(np.float64) / np.sqrt(variance + eps)
    return Layer(np.diag(scale), part.get("bias", np.zeros(len(mean))).astype(np.float64) - mean * scale)


def _tensors(path: Path) -> dict[str, np.ndarray]:
    """Name -> array, in the order of the layers."""
    try:
        if path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as file:
                return {name: file[name] for name in file.files}
        if path.suffix == ".safetensors":
            from safetensors.numpy import load_file

            return dict(sorted(load_file(path).items(), key=lambda item: _natural(item[0])))
        import torch

        state = torch.load(path, map_location="cpu", weights_only=True)
        state = state.get("state_dict", state) if isinstance(state, Mapping) else state.state_dict()
        return {name: tensor.float().numpy() for name, tensor in state.items() if torch.is_tensor(tensor)}
    except ImportError as e:
        raise ValueError(f"embedding_head: {path} needs {e.name}: {INSTALL}") from e
    except Exception as e:  # whatever pickles, zips and headers of other people's files throw
        raise ValueError(f"embedding_head: {path} cannot be read as weights ({reason(e)[:200]})") from e


def _natural(name: str) -> tuple[Any, ...]:
    """Normalisation first, numbers by value: safetensors are kept in the order of the alphabet."""
    parts = re.findall(r"[0-9]+|[^0-9]+", name.rpartition(".")[0])
    return not name.startswith("norm"), [(int(p), "") if p[0] in "0123456789" else (-1, p) for p in parts]
