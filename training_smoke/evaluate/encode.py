"""From encoded pictures and texts to features: decoded in threads, encoded in batches, checked.

    for features, samples in image_batches(model, folder.samples()):
        ...                                                       # float [batch, dim], the samples behind its rows

Pictures are prepared as open_clip prepares them for evaluation: RGB, the shorter side to the model's size with Pillow's
bicubic filter, the centre cut out. Training may decode faster and less exactly; evaluation has to agree with others.
"""

from __future__ import annotations

import io
import itertools
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Protocol

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from training_smoke.errors import TrainingError
from training_smoke.evaluate.folders import Sample
from training_smoke.evaluate.ranks import require_finite

BATCH = 256


class ImageEncoder(Protocol):
    """A model that has vectors of pictures, if only for probes; see `Encoders`."""

    @property
    def image_size(self) -> int: ...

    def encode_images(self, images: Tensor) -> Tensor: ...


class Encoders(Protocol):
    """A model with two towers, whatever stands behind them: ours, open_clip's, transformers'; in evaluation mode.

    image_size: pixels a side that `encode_images` takes. Tensors may come back on any device and in any float type.
    Where it has an attribute `unit` that is False, the lengths of its vectors count, and they are left as they are.
    """

    @property
    def image_size(self) -> int: ...

    def encode_images(self, images: Tensor) -> Tensor:
        """uint8 [n, 3, size, size] in main memory -> [n, dim]; scales and normalises the pixels itself."""
        ...

    def encode_texts(self, texts: Sequence[str]) -> Tensor:
        """Strings -> [n, dim]; tokenizes them itself."""
        ...


def image_batches(
    model: ImageEncoder, samples: Iterable[Sample], batch: int = BATCH
) -> Iterator[tuple[Tensor, list[Sample]]]:
    """Features of all samples, in order: float32 [up to batch, dim], in main memory; of unit length, see `Encoders`.

    One batch is decoded while another is encoded; no more than two are held.

    Raises:
        TrainingError: a picture cannot be decoded (named), or features are NaN or infinite.
    """
    source = iter(samples)
    with ThreadPoolExecutor(torch.get_num_threads()) as pool:  # as many cores as this process may use
        waiting: deque[tuple[list[Sample], list[Future[np.ndarray]]]] = deque()
        while some := list(itertools.islice(source, batch)):
            waiting.append((some, [pool.submit(pixels, s, model.image_size) for s in some]))
            if len(waiting) == 2:
                yield _encoded(model, *waiting.popleft())
        if waiting:
            yield _encoded(model, *waiting.popleft())


def encode_texts(model: Encoders, texts: Sequence[str], batch: int = BATCH) -> Tensor:
    """Features of texts: float32 [n, dim], in main memory; of unit length, see `Encoders`.

    Raises:
        TrainingError: features are NaN or infinite.
    """
    with torch.no_grad():
        parts = [texts[i : i + batch] for i in range(0, len(texts), batch)]
        return torch.cat([_checked(model, model.encode_texts(part)) for part in parts])


def pixels(sample: Sample, size: int) -> np.ndarray:
    """uint8 [3, size, size].

    Raises:
        TrainingError: the picture cannot be decoded.
    """
    try:
        image = Image.open(io.BytesIO(sample.image)).convert("RGB")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as e:  # Pillow's SyntaxError: a broken PNG
        raise TrainingError(f"{sample.name}: the picture cannot be decoded ({e})") from e
    short = min(image.size)
    width, height = (size if side == short else int(size * side / short) for side in image.size)
    if (width, height) != image.size:
        image = image.resize((width, height), Image.Resampling.BICUBIC)
    left, top = round((width - size) / 2), round((height - size) / 2)
    return np.asarray(image.crop((left, top, left + size, top + size))).transpose(2, 0, 1)


def _encoded(
    model: ImageEncoder, samples: list[Sample], decoded: list[Future[np.ndarray]]
) -> tuple[Tensor, list[Sample]]:
    images = torch.from_numpy(np.stack([d.result() for d in decoded]))  # uint8 [n, 3, size, size]
    with torch.no_grad():
        return _checked(model, model.encode_images(images)), samples


def _checked(model: ImageEncoder | Encoders, features: Tensor) -> Tensor:
    """float32 [n, dim] in main memory; rows of length one, whatever precision they were made in, where that is it."""
    features = features.float()
    features = (F.normalize(features, dim=-1) if getattr(model, "unit", True) else features).cpu()
    require_finite(features)
    return features
