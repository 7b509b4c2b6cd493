"""Models that write, match and answer by colour alone: what they should score can be said beforehand."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from tests.training_smoke.evaluate.evalsets import COLOURS, ColourModel
from training_smoke.sampling import Sampling


def seen(images: Tensor) -> list[str]:
    """The colour that is most in each picture; of grey ones "grey"."""
    means = images.double().mean((2, 3))  # [n, 3]
    names = [list(COLOURS)[i] for i in means.argmax(1).tolist()]
    return [
        "grey" if flat else name
        for name, flat in zip(names, ((means.amax(1) - means.amin(1)) < 1).tolist(), strict=True)
    ]


class Writer:
    """Writes "a <colour> thing", drawn texts with the picture's name; likelihoods prefer texts with the colour.

    asked: pictures that it was given to write of.
    """

    image_size = 8

    def __init__(self) -> None:
        self.asked: list[tuple[str, int]] = []

    def caption(self, images: Tensor, how: Sampling, keys: Sequence[str]) -> list[str]:
        assert images.dtype == torch.uint8
        assert len(keys) == len(images)
        self.asked.append((how.kind, len(images)))
        end = [f" {key}" if how.kind == "nucleus" else "" for key in keys]
        return [f"a {colour} thing{e}" for colour, e in zip(seen(images), end, strict=True)]

    def caption_loss(self, images: Tensor, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """A nat for each word, two more where the colour is not said."""
        tokens = torch.tensor([len(text.split()) for text in texts])
        wrong = torch.tensor([colour not in text for colour, text in zip(seen(images), texts, strict=True)])
        return tokens.float() + 2.0 * wrong, tokens


class Judge(ColourModel):
    """Vectors that mix up green and blue, and matches that do not."""

    def encode_images(self, images: Tensor) -> Tensor:
        return self._mixed(super().encode_images(images))

    def encode_texts(self, texts: Sequence[str]) -> Tensor:
        return self._mixed(super().encode_texts(texts))

    def _mixed(self, features: Tensor) -> Tensor:
        return torch.stack([features[:, 0], features[:, 1:].sum(1), torch.ones(len(features))], dim=1)

    def match(self, images: Tensor, texts: Sequence[str]) -> Tensor:
        return torch.tensor([0.9 if c in t else 0.2 for c, t in zip(seen(images), texts, strict=True)])


class Answers:
    """Says the colour to every question, "yes" where it is asked about."""

    image_size = 8

    def answer(self, images: Tensor, questions: Sequence[str], how: Sampling, keys: Sequence[str]) -> list[str]:
        assert len({*keys}) == len(keys) == len(questions)
        said = []
        for colour, question in zip(seen(images), questions, strict=True):
            named = [name for name in COLOURS if name in question]
            said.append(("Yes." if colour in named else "no") if named else f"The {colour}!")
        return said
