"""Captioning as one writes it with transformers alone: what our captioner is measured beside; and a BLIP to do it with.

    folder = made_blip("base", 384, WORK / "blip-base")        # transformers' folder: model and processor
    plain = Plain(folder, "cpu")
    texts = plain.captions(jpegs, batch=16, sampling=SAMPLING)

The loop is of transformers' examples: decode, processor, `generate`, `batch_decode`, a batch after another. Weights
are random: of published ones none may be fetched here, and time does not hang on what they say, but on how many tokens
there are. So the end is as likely as captions of COCO have it (about ten tokens), at every place alike.
"""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from training_smoke.config import Towers
from training_smoke.sampling import Sampling

END = 1 / 9  # odds of the end at each place that may be one


def made_blip(size: str, side: int, folder: Path) -> Path:
    """A BLIP of this size with random weights in transformers' format; made once."""
    if (folder / "config.json").exists():
        return folder
    from training_smoke.families.blip import Blip, BlipSettings
    from training_smoke.families.blip_files import CAPTIONING, export

    torch.manual_seed(0)
    settings = BlipSettings(queue=64)
    family = Blip.make(Towers(size, image_size=side, context=30), settings).eval()
    end_as_often(family, END)
    export(family, folder.parent)
    (folder.parent / CAPTIONING).rename(folder)
    return folder


@torch.no_grad()
def end_as_often(family: Any, odds: float) -> None:
    """Make the end's logit a constant such that it has these odds against all other tokens, on average."""
    head, words = family.decoder.cls.predictions, family.words
    images = torch.randint(0, 256, (4, 3, family.image_size, family.image_size), dtype=torch.uint8)
    tokens = family.tokenize(["a dog on grass", "two men", "a red bus in a street", "it"])
    pictures = family.encoders.images(family.normalised(images))[0]
    hidden, labels = family._written(pictures, tokens)
    before = family.decoder.cls(hidden)[labels >= 0]
    others = torch.cat([before[:, : words.end], before[:, words.end + 1 :]], dim=1).logsumexp(dim=1).mean()
    head.decoder.weight[words.end] = 0
    head.bias[words.end] = others + math.log(odds)


class Plain:
    """transformers' BLIP and its processor. low: bf16 weights, as one has them on a GPU."""

    def __init__(self, folder: Path, device: str, low: bool = False) -> None:
        from transformers import AutoProcessor, BlipForConditionalGeneration

        self.processor = AutoProcessor.from_pretrained(folder)
        kind = torch.bfloat16 if low else torch.float32
        self.model = BlipForConditionalGeneration.from_pretrained(folder, dtype=kind).to(device).eval()
        self.device, self.kind = device, kind

    @torch.inference_mode()
    def captions(self, jpegs: Sequence[bytes], batch: int, sampling: Sampling) -> list[str]:
        """One each, `batch` at a time."""
        said: list[str] = []
        for start in range(0, len(jpegs), batch):
            pictures = [Image.open(io.BytesIO(jpeg)).convert("RGB") for jpeg in jpegs[start : start + batch]]
            pixels = self.processor(images=pictures, return_tensors="pt")["pixel_values"].to(self.device, self.kind)
            found = self.model.generate(pixel_values=pixels, **asked(sampling))
            said += self.processor.batch_decode(found, skip_special_tokens=True)
        return [text.strip() for text in said]


def asked(sampling: Sampling) -> dict[str, Any]:
    """The same for `generate`."""
    about: dict[str, Any] = {"min_new_tokens": sampling.min_tokens, "max_new_tokens": sampling.max_tokens}
    if sampling.kind == "greedy":
        return about | {"do_sample": False, "num_beams": 1}
    if sampling.kind == "beam":
        return about | {"do_sample": False, "num_beams": sampling.beams}
    own = {"top_p": sampling.p, "top_k": 0} if sampling.kind == "nucleus" else {"top_k": sampling.k}
    return about | {"do_sample": True, "temperature": sampling.temperature} | own
