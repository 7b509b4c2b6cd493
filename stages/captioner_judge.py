"""Models that were trained here, and CoCa of open_clip, which the judge has a family for: all write texts.

of_judge("runs/judge", files, asking)                              # the folder of a run, or its towers.pt
of_open_clip("coca_ViT-L-14", "laion2b_s13b_b90k", files, asking)

files: as `stages.captioner_weights.files` has them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from stages.captioner_blip import grouped, pictures_at_once
from stages.captioner_blip_decode import BlipDecoder
from stages.captioner_decode import Ends, filled, written
from stages.captioner_models import Asking, Writer, once
from stages.clip_pixels import Fit
from training_smoke.abilities import Captioner
from training_smoke.errors import TrainingError
from training_smoke.families.coca import CoCa

if TYPE_CHECKING:
    from training_smoke.families.blip import Blip
    from training_smoke.sampling import Sampling


def of_judge(weights: str, files: Sequence[str], asking: Asking) -> Writer:
    """The model of a run, by what it can do.

    Raises:
        ValueError: it is no file or run of the judge's, or writes no texts, or goes on from no prompt.
    """
    from training_smoke.families.blip import Blip
    from training_smoke.towers_file import load_model

    try:
        model = once(files, asking, lambda: load_model(weights, asking.device))
    except TrainingError as e:
        raise ValueError(str(e)) from e
    if isinstance(model, Blip):
        return OfBlip(_ready(model, asking), asking)
    if isinstance(model, CoCa):
        return OfCoCa(_ready(model, asking), asking)
    if not isinstance(model, Captioner):
        raise ValueError(f"{weights} has a {type(model).__name__}, which writes no texts: train blip, coca or llava")
    if asking.prompt:
        raise ValueError(f"prompt: a {type(model).__name__} of the judge's goes on from none; leave it out")
    return OfCaptioner(_ready(model, asking), asking)


def of_open_clip(name: str, weights: str, files: Sequence[str], asking: Asking) -> Writer:
    """A CoCa of open_clip's.

    Raises:
        ValueError: no such model or weights.
    """
    from training_smoke.config import Towers

    try:
        model = once((*files,), asking, lambda: CoCa.build(Towers(name, weights=weights), {}, seed=0).to(asking.device))
    except TrainingError as e:
        raise ValueError(str(e)) from e
    return OfCoCa(_ready(model, asking), asking)


def _ready(model: Any, asking: Asking) -> Any:
    model.low = asking.precision == "bf16"  # by autocast: pixel statistics stay what they are
    return model.eval().requires_grad_(False)


class OfSquares:
    """What all of them share: pictures are squares in bytes."""

    def __init__(self, model: Any, asking: Asking) -> None:
        self.model, self.batch, self.device = model, asking.batch, torch.device(asking.device)
        self.fit = Fit(model.image_size)

    def shown(self, picture: np.ndarray) -> Tensor:
        """uint8 [3, size, size]."""
        return torch.from_numpy(np.ascontiguousarray(self.fit(picture).transpose(2, 0, 1)))

    def length(self, shown: Tensor) -> int:
        """One for all."""
        return 1

    def together(self, texts: int, length: int) -> int:
        """One forward pass of pictures."""
        return self.batch

    def passes(self, shown: Sequence[Tensor], see: Callable[[Tensor], Tensor]) -> Tensor:
        """What `see` gives for uint8 [batch, 3, size, size], the last pass filled up: [pictures, ...]."""
        stacks = [torch.stack(list(shown[i : i + self.batch])) for i in range(0, len(shown), self.batch)]
        return torch.cat([see(filled(stack, self.batch)) for stack in stacks])[: len(shown)]


class OfCaptioner(OfSquares):
    """Any `training_smoke.abilities.Captioner`; it looks at a picture for each of its texts."""

    def texts(self, shown: Sequence[Tensor], how: Sampling, keys: Sequence[Sequence[str]]) -> list[list[str]]:
        """See `stages.captioner_models.Writer`."""
        count, images = len(keys[0]), torch.stack(list(shown))
        by_number = []
        for number in range(count):
            names = [of_picture[number] for of_picture in keys]
            names += names[:1] * (self.batch - len(shown))
            by_number.append(self.model.caption(filled(images, self.batch), how, names)[: len(shown)])
        return [list(texts) for texts in zip(*by_number, strict=True)]


class OfBlip(OfSquares):
    """A BLIP that was trained here."""

    model: Blip

    def __init__(self, model: Blip, asking: Asking) -> None:
        super().__init__(model, asking)
        words = model.words
        self.ends = Ends(words.begin, (words.end,), words.pad)
        said = words.tokenizer(asking.prompt, add_special_tokens=False)["input_ids"] if asking.prompt else []
        self.prompt = [words.begin, *said]
        _check_room(self.prompt, model.context)

    def together(self, texts: int, length: int) -> int:
        """As of `stages.captioner_blip`."""
        return pictures_at_once(texts, self.batch)

    def texts(self, shown: Sequence[Tensor], how: Sampling, keys: Sequence[Sequence[str]]) -> list[list[str]]:
        """See `stages.captioner_models.Writer`."""
        model, count = self.model, len(keys[0])
        how = how.within(model.context - 1 - len(self.prompt))
        with model.inference():
            seen = self.passes(shown, lambda images: model.encoders.images(model.normalised(images))[0])
            decoder = BlipDecoder(model.decoder, seen, count, self.prompt[:-1])
            tokens = written(decoder, self.device, how, keys, self.ends, self.prompt[-1])
        return grouped(model.words.decode(tokens), count)


class OfCoCa(OfSquares):
    """CoCa, of open_clip or trained here."""

    model: CoCa

    def __init__(self, model: CoCa, asking: Asking) -> None:
        super().__init__(model, asking)
        words = model.words
        self.ends = Ends(words.bos, (words.eos,), words.pad)
        said = words.encode([asking.prompt], model.context)[0].tolist() if asking.prompt else []
        self.prompt = [words.bos, *(said[1 : said.index(words.eos)] if said else [])]
        _check_room(self.prompt, model.context)

    def texts(self, shown: Sequence[Tensor], how: Sampling, keys: Sequence[Sequence[str]]) -> list[list[str]]:
        """See `stages.captioner_models.Writer`."""
        from training_smoke.families.coca_generate import CachedDecoder

        model, count = self.model, len(keys[0])
        how = how.within(model.context - 1 - len(self.prompt))
        with model.inference():
            seen = self.passes(shown, lambda images: model.model.visual(model.normalised(images))[1])
            decoder = Prompted(CachedDecoder(model.model, seen), self.prompt[:-1], len(shown), self.device)
            tokens = written(decoder, self.device, how, keys, self.ends, self.prompt[-1])
        return grouped(model.words.decode(tokens), count)


class Prompted:
    """A `training_smoke.generation.Decoder` that has been fed the same tokens in all rows before it begins."""

    def __init__(self, decoder: Any, prompt: Sequence[int], count: int, device: torch.device) -> None:
        self.decoder, self.prompt, self.count, self.device = decoder, prompt, count, device

    def begin(self) -> Any:
        state = self.decoder.begin()
        for token in self.prompt:
            _, state = self.decoder.next(torch.full((self.count,), token, device=self.device), state)
        return state

    def next(self, tokens: Tensor, state: Any) -> tuple[Tensor, Any]:
        return self.decoder.next(tokens, state)  # type: ignore[no-any-return]

    def rows(self, state: Any, index: Tensor) -> Any:
        return self.decoder.rows(state, index)


def _check_room(prompt: Sequence[int], context: int) -> None:
    if context - 1 - len(prompt) < 1:
        raise ValueError(f"the prompt has {len(prompt) - 1} tokens, and the model was trained on texts of {context}")
