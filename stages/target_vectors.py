"""Vectors that a user gives as a .npy file: those of ImageNet's training images, say.

    for start, block in target_blocks("imagenet_train_l14.npy", "norm_sim"):       # float32 (up to MANY, dim)
        ...

The file is mapped, not read: rows come a block at a time.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from stages.vectors import MANY, as_column, unit


def npy_file(path: str) -> str:
    """A path made absolute, so that it means the same file in every worker."""
    return str(Path(path).expanduser().absolute())


def checked_npy(path: str, of: str) -> str:
    """The path, of a file with vectors.

    Raises:
        ValueError: there is none, or it holds something else; says what to do.
    """
    _opened(path, of)
    return path


def _opened(path: str, of: str) -> np.ndarray:
    if not Path(path).is_file():
        raise ValueError(
            f"{of}: no target vectors at {path}; give a .npy file of shape (n, dim): vectors of the target images "
            "(ImageNet's train split, say) by the same model as the column"
        )
    try:
        found = np.load(path, mmap_mode="r", allow_pickle=False)
    except ValueError as e:
        raise ValueError(f"{of}: {path} is no .npy file of numbers ({e})") from e
    if not isinstance(found, np.ndarray) or found.ndim != 2 or found.dtype.kind != "f" or not found.size:
        shape = getattr(found, "shape", "several arrays")
        raise ValueError(f"{of}: {path} must hold floats of shape (n, dim), both above 0; it has {shape}")
    return found


def targets(path: str, of: str) -> np.ndarray:
    """float32 (n, dim) of length one, on the grid: the rows of a .npy file.

    Raises:
        ValueError: as `checked_npy`; or a row has no direction.
    """
    out = np.zeros(_opened(path, of).shape, np.float32)
    for start, block in target_blocks(path, of):
        out[start : start + len(block)] = block
    return out


def target_blocks(path: str, of: str) -> Iterator[tuple[int, np.ndarray]]:
    """(first row, float32 (up to MANY, dim)) of `targets`, a block at a time: the file stays on disk.

    Raises:
        ValueError: as `targets`.
    """
    found = _opened(path, of)
    for start in range(0, len(found), MANY):
        block, there = unit(as_column(np.asarray(found[start : start + MANY])), of)
        if not there.all():
            raise ValueError(f"{of}: {path}, row {start + int(np.argmin(there))}: zeros, or not finite")
        yield start, block


def target_shape(path: str, of: str) -> tuple[int, int]:
    """(n, dim) of a file of targets.

    Raises:
        ValueError: as `checked_npy`.
    """
    rows, dim = _opened(path, of).shape
    return rows, dim


def same_length(x: np.ndarray, dim: int, of: str, path: str) -> None:
    """Refuse vectors of another model than the targets', which have `dim` dimensions."""
    if len(x) and x.shape[1] not in (0, dim):
        raise ValueError(
            f"{of}: the column has {x.shape[1]} dimensions and {path} has {dim}; take vectors of one model"
        )
