"""BLIP writes: transformers' BlipForConditionalGeneration, by our own attention. See `stages.captioner_blip_decode`.

Li et al. 2022 (BLIP, arXiv:2201.12086), section 3; a text is what follows the prompt, as in BLIP's own code.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from stages.captioner_blip_decode import FEW, BlipDecoder, see
from stages.captioner_decode import Ends, written
from stages.captioner_models import Asking
from stages.captioner_pixels import Squares

if TYPE_CHECKING:
    from training_smoke.sampling import Sampling

ROWS = 256  # texts that are written at a time: weights are read once a token for all of them


class BlipWriter:
    """As `stages.captioner_models.Writer`."""

    def __init__(self, model: Any, processor: Any, asking: Asking) -> None:
        text = model.config.text_config
        self.model, self.tokenizer, self.batch = model, processor.tokenizer, asking.batch
        self.squares = Squares(processor.image_processor, model.device, model.dtype, asking.batch)
        self.ends = Ends(text.bos_token_id, (text.sep_token_id,), text.pad_token_id)
        said = self.tokenizer(asking.prompt, add_special_tokens=False)["input_ids"] if asking.prompt else []
        self.prompt = [text.bos_token_id, *said]
        self.places = int(text.max_position_embeddings)
        if len(self.prompt) >= self.places:
            raise ValueError(f"the prompt has {len(said)} tokens, and the model has places for {self.places} in all")

    def shown(self, picture: np.ndarray) -> Tensor:
        """uint8 [3, size, size]."""
        return self.squares.cut(picture)

    def length(self, shown: Tensor) -> int:
        """One for all: pictures are squares."""
        return 1

    def together(self, texts: int, length: int) -> int:
        """See `pictures_at_once`."""
        return pictures_at_once(texts, self.batch)

    @torch.inference_mode()
    def texts(self, shown: Sequence[Tensor], how: Sampling, keys: Sequence[Sequence[str]]) -> list[list[str]]:
        """See `stages.captioner_models.Writer`."""
        seen = torch.cat([see(self.model.vision_model, pixels) for pixels in self.squares.passes(shown)])[: len(shown)]
        how, count = how.within(self.places - len(self.prompt)), len(keys[0])
        decoder = BlipDecoder(self.model.text_decoder, seen, count, self.prompt[:-1])
        tokens = written(decoder, self.model.device, how, keys, self.ends, self.prompt[-1])
        return grouped(self.tokenizer.batch_decode(tokens, skip_special_tokens=True), count)


def pictures_at_once(texts: int, batch: int) -> int:
    """How many pictures are written about at a time: whole batches, of as many texts each as fit.

    One batch where the texts of a picture are many: its keys and values, which those need, are many times what was
    seen of it.
    """
    return batch if texts > FEW else max(1, ROWS // (texts * batch)) * batch


def grouped(texts: Sequence[str], count: int) -> list[list[str]]:
    """Texts of pictures, so many each."""
    return [list(texts[i : i + count]) for i in range(0, len(texts), count)]
