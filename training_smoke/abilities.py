"""What a trained model can do, whatever it is made of. Evaluation and stages ask for abilities, not for classes.

    if isinstance(model, Captioner):
        model.caption(images, Sampling("greedy"), keys)

All take pixels as bytes in main memory, uint8 [n, 3, size, size], and strings; all compute without gradient.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from torch import Tensor

from training_smoke.sampling import Sampling


@runtime_checkable
class Encoders(Protocol):
    """Vectors of pictures and of texts in one space."""

    @property
    def image_size(self) -> int: ...

    def encode_images(self, images: Tensor) -> Tensor:
        """uint8 [n, 3, size, size] -> float [n, dim]."""
        ...

    def encode_texts(self, texts: Sequence[str]) -> Tensor:
        """Strings -> float [n, dim]."""
        ...


@runtime_checkable
class ImageVectors(Protocol):
    """Vectors of pictures that no text is compared with: for probes, of models without `Encoders`."""

    @property
    def image_size(self) -> int: ...

    def image_vectors(self, images: Tensor) -> Tensor:
        """uint8 [n, 3, size, size] -> float [n, dim]."""
        ...


@runtime_checkable
class Captioner(Protocol):
    """Writes texts for pictures, and says how likely given ones are."""

    @property
    def image_size(self) -> int: ...

    def caption(self, images: Tensor, how: Sampling, keys: Sequence[str]) -> list[str]:
        """A text for each picture. keys: n names; draws for a picture are functions of how.seed and its name."""
        ...

    def caption_loss(self, images: Tensor, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """(float32 [n], int64 [n]) in main memory: minus the log likelihood of each picture's text, in nats, the sum
        over its tokens, end included; and how many tokens."""
        ...


@runtime_checkable
class Matcher(Protocol):
    """Says whether a text belongs to a picture."""

    @property
    def image_size(self) -> int: ...

    def match(self, images: Tensor, texts: Sequence[str]) -> Tensor:
        """The probability that text i belongs to picture i: float32 [n] in main memory."""
        ...


@runtime_checkable
class Answerer(Protocol):
    """Answers questions about pictures."""

    @property
    def image_size(self) -> int: ...

    def answer(self, images: Tensor, questions: Sequence[str], how: Sampling, keys: Sequence[str]) -> list[str]:
        """An answer for each picture and question; keys as of `Captioner.caption`."""
        ...
