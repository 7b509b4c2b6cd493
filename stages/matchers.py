"""Models that say whether a text belongs to a picture, ready to be asked: BLIP, BLIP-2 and ALBEF.

    matcher = load("runs/blip", "fp32", "cpu")        # towers.pt, a run's folder, a folder of transformers' BLIP
    seen = matcher.see(matcher.squares([rgb, rgb]))   # each picture encoded once, for all of its texts
    matcher.logits(seen[[0, 0, 1]], matcher.tokens(["a cat", "a dog", "a red bus"]))     # (no, yes) of three pairs

Li et al. 2022 (BLIP, arXiv:2201.12086), section 3.2: the image-grounded text encoder and its head of two classes. A
folder of transformers is read by the judge's own families, so that what was trained here and what was published are
asked in one way: with the token that matching was trained with at the text's beginning ([ENC] of BLIP's code, where
transformers' own `forward` leaves [CLS]), and at most 35 tokens, as in BLIP's retrieval.
"""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from stages import hub_weights
from stages.clip_pixels import Fit
from stages.clip_weights import reason
from stages.hub_weights import Device, Precision
from stages.matcher_files import files, of_the_judge

if TYPE_CHECKING:
    from torch import Tensor

CLASSES = ("BlipForImageTextRetrieval", "Blip2ForImageTextRetrieval")
TOKENS = 35  # of a text, at most: models/blip_itm.py of BLIP's code
_NONE = "image_text_match needs a head that matches: a BLIP, BLIP-2 or ALBEF of the judge, or a folder of transformers'"


@dataclass(frozen=True, eq=False)
class Matcher:
    """A model, ready. fit: makes squares of pictures. pad: the token behind a text."""

    model: Any
    fit: Fit
    pad: int
    _logits: Callable[[Any, Tensor, Tensor], Tensor]

    def squares(self, pictures: Sequence[np.ndarray]) -> np.ndarray:
        """uint8 (height, width, 3) each, of any size -> uint8 (n, 3, size, size)."""
        size = self.fit.size
        if not pictures:
            return np.zeros((0, 3, size, size), np.uint8)
        return np.stack([self.fit(picture).transpose(2, 0, 1) for picture in pictures])

    def tokens(self, texts: Sequence[str]) -> np.ndarray:
        """int64 (n, context), `pad` behind a text; of a longer one the first, its last token still the end."""
        if not texts:
            return np.full((0, self.model.context), self.pad)
        found: np.ndarray = self.model.tokenize(list(texts)).numpy()
        return found

    def lengths(self, tokens: np.ndarray) -> np.ndarray:
        """int64 (n, context) -> int64 (n,): tokens of each text, special ones among them."""
        return np.asarray((tokens != self.pad).sum(axis=1))

    def see(self, squares: np.ndarray) -> Tensor:
        """uint8 (n, 3, size, size) -> what matching looks at of each picture: float [n, places, width]."""
        import torch

        given = torch.from_numpy(squares).to(self.model.mean.device, non_blocking=True)
        with self.model.inference():
            return _seen(self.model, given)

    def logits(self, seen: Tensor, tokens: np.ndarray) -> np.ndarray:
        """Of (no, yes), float32 (n, 2); seen: a row of `see` for each text. tokens: int64 (n, at most context)."""
        import torch

        given = torch.from_numpy(tokens).to(seen.device, non_blocking=True)
        with self.model.inference():
            found: np.ndarray = self._logits(self.model, seen, given).float().cpu().numpy()
        return found


def probability(logits: np.ndarray, *, fair: bool = False) -> np.ndarray:
    """Logits (n, 2) of (no, yes) -> float64 (n,): the softmax's second; `fair`: as if half of the pairs were true.

    In training two pairs are wrong for each true one, so that the softmax of a model that cannot tell them is 1/3.
    """
    odds = logits[:, 1].astype(np.float64) - logits[:, 0] + (math.log(2) if fair else 0)
    with np.errstate(over="ignore"):
        return np.asarray(1 / (1 + np.exp(-odds)))


# ---------------------------------------------------------------------------------------------- loading


def load(weights: str, precision: Precision, device: Device) -> Matcher:
    """The model with its weights, in evaluation mode on the device.

    Args:
        weights: an absolute path of a file or run of ours or of a folder in transformers' format, or a name on its hub.
        precision: bf16 computes in bfloat16, weights stay as they are.

    Raises:
        ValueError: packages, weights or device are missing, or the model has no head that matches; says what to do.
    """
    try:
        import torch
        import transformers  # noqa: F401 - the families' modules are its
    except ImportError as e:
        raise ValueError(f"{weights} needs torch and transformers ({e}): {hub_weights.INSTALL}") from e
    if device == "cuda" and not torch.cuda.is_available():
        raise ValueError("`device: cuda`, and no GPU is seen here; say `device: cpu`, or run where there is one")
    path = of_the_judge(weights)
    try:
        model, fit = _of_ours(path) if path is not None else _of_theirs(Path(files(weights)[0]).parent)
    except Exception as e:  # whatever torch, transformers, the judge or a damaged file throws
        raise ValueError(f"cannot load {weights}: {reason(e)}") from e
    asked = _asked(model, weights)
    for unasked in ("slow", "decoder", "writer"):  # momentum encoders, and what writes: two thirds of the memory
        model._modules.pop(unasked, None)
    model.low = precision == "bf16"
    return Matcher(model.to(device).eval().requires_grad_(False), fit, model.words.pad, asked)


def _of_ours(path: Path) -> tuple[Any, Fit]:
    from training_smoke.towers_file import load_model

    model: Any = load_model(path)
    return model, Fit(model.image_size)  # the shorter side, the centre: as the judge's evaluation cuts pictures


def _of_theirs(folder: Path) -> tuple[Any, Fit]:
    """Of BlipForImageTextRetrieval or Blip2ForImageTextRetrieval, with the pictures that their processors make."""
    import torch

    from training_smoke.config import Towers
    from training_smoke.families import family

    said = json.loads((folder / "config.json").read_text())
    name = (said.get("architectures") or ["none"])[0]
    if name not in CLASSES:
        raise ValueError(f"{folder} is of class {name}; {_NONE} of class {' or '.join(CLASSES)}")
    kind = "blip" if name == CLASSES[0] else "blip2"
    part = said.get("text_config" if kind == "blip" else "qformer_config", {})
    towers = Towers(str(folder), weights=str(folder), context=min(TOKENS, part.get("max_position_embeddings", 512)))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*at random")  # the head that writes, which is not asked
        model: Any = family(kind).build(towers, {}, seed=0)
    fit, mean, std = _pictures(folder, model)
    for buffer, values in ((model.mean, mean), (model.std, std)):
        buffer.copy_(torch.tensor(values).view(1, 3, 1, 1))
    return model, fit


def _pictures(folder: Path, model: Any) -> tuple[Fit, Sequence[float], Sequence[float]]:
    """(how a picture becomes a square, mean and deviation of colours), as the folder's processor has them; where it
    says nothing, as BLIP's: both sides brought to size by Pillow's bicubic filter, CLIP's colours."""
    file = folder / "preprocessor_config.json"
    said = json.loads(file.read_text()) if file.is_file() else {}
    size = said.get("size", {})
    short = isinstance(size, dict) and "shortest_edge" in size
    sides = {size} if isinstance(size, int) else set(size.values()) or {model.image_size}
    if sides != {model.image_size} or (short and not said.get("do_center_crop")):
        raise ValueError(f"{file} prepares pictures of {size}, and the model takes squares of {model.image_size}")
    if said.get("resample", 3) not in (2, 3):
        raise ValueError(f"{file} scales pictures by filter {said['resample']} of Pillow's; known are 2 and 3")
    fit = Fit(model.image_size, "shortest" if short else "squash", bilinear=said.get("resample", 3) == 2)
    mean, std = (said.get(f"image_{what}") or getattr(model, what).flatten().tolist() for what in ("mean", "std"))
    return fit, mean, std


def _asked(model: Any, weights: str) -> Callable[[Any, Tensor, Tensor], Tensor]:
    from training_smoke.families.albef import Albef
    from training_smoke.families.blip import Blip
    from training_smoke.families.blip2 import Blip2

    if isinstance(model, Blip):
        return lambda blip, seen, tokens: blip._matched(seen, tokens)  # type: ignore[no-any-return]
    if isinstance(model, Albef):
        return _by_albef
    if isinstance(model, Blip2):
        return lambda blip2, seen, tokens: blip2._match(seen, tokens)  # type: ignore[no-any-return]
    raise ValueError(f"{weights} is a {type(model).__name__}; {_NONE}")


def _by_albef(model: Any, seen: Tensor, tokens: Tensor) -> Tensor:
    there = model.words.there(tokens)
    found: Tensor = model._matched(seen, model.reader.encoders.texts(tokens, there)[0], there)
    return found


def _seen(model: Any, images: Tensor) -> Tensor:
    from training_smoke.families.blip2 import Blip2

    if isinstance(model, Blip2):
        seen: Tensor = model.see(images)
        return seen
    encoders = getattr(model, "reader", model).encoders
    return encoders.images(model.normalised(images))[0]  # type: ignore[no-any-return]
