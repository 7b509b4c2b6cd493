"""A captioner, loaded: BLIP, BLIP-2 and chat models of transformers, CoCa of open_clip, any `Captioner` of the judge.

    writer = load("Salesforce/blip-image-captioning-base", None, Asking(prompt="a photo of"))
    shown = [writer.shown(rgb) for rgb in pictures]
    writer.texts(shown, Sampling("nucleus"), [["uid/0"], ["uid/1"]])       # [["a dog on grass"], ["two men"]]

Weights are read as data only: no code that lies beside them is run, and weights that do not fill the model are refused.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any, Protocol
from weakref import WeakValueDictionary

import numpy as np

from stages import captioner_weights
from stages.clip_weights import INSTALL, reason
from stages.hub_weights import Device, Precision

if TYPE_CHECKING:
    from training_smoke.sampling import Sampling


USED = {"nucleus": {"p", "temperature", "seed"}, "top_k": {"k", "temperature", "seed"}, "beam": {"beams"}}
"""Of p, k, beams, temperature and seed those that a kind of sampling looks at."""

_NETS: WeakValueDictionary[tuple[Any, ...], Any] = WeakValueDictionary()
_NETS_LOCK = Lock()
_LOCAL: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}


class Writer(Protocol):
    """A model that writes texts for pictures."""

    def shown(self, picture: np.ndarray) -> Any:
        """uint8 (height, width, 3) -> what the model is given of it; threads may ask beside `texts`.

        Raises:
            ValueError: the model does not take pictures of such a shape.
        """
        ...

    def length(self, shown: Any) -> int:
        """Tokens that it counts for: pictures of about one length are written about together."""
        ...

    def together(self, texts: int, length: int) -> int:
        """How many pictures of at most that length, with so many texts each, `texts` takes at a time."""
        ...

    def texts(self, shown: Sequence[Any], how: Sampling, keys: Sequence[Sequence[str]]) -> list[list[str]]:
        """For each picture as many texts as it has keys, of which there are as many for all.

        Raises:
            training_smoke.errors.TrainingError: the model's logits are no numbers.
        """
        ...


@dataclass(frozen=True)
class Asking:
    """prompt: what texts begin behind, or the question of a chat. batch: pictures in a forward pass. max_pixels: of a
    picture that a chat model is shown; larger ones are made smaller."""

    prompt: str = ""
    batch: int = 16
    precision: Precision = "fp32"
    device: Device = "cpu"
    max_pixels: int = 1_048_576


def once(files: Sequence[str], asking: Asking, make: Callable[[], Any]) -> Any:
    """The model of these files, made by the first who asks and shared as long as anybody has it: stages that ask one
    model different things hold it once."""
    stats = [Path(file).stat() for file in files]
    key = (tuple(files), tuple((s.st_size, s.st_mtime_ns) for s in stats), asking.precision, asking.device)
    with _NETS_LOCK:
        net = _NETS.get(key)
        if net is None:
            net = _NETS[key] = make()
    return net


def load(weights: str, model: str | None, asking: Asking) -> Writer:
    """The model with its weights, in evaluation mode on the device.

    Args:
        weights, model: as `stages.captioner_weights` has them.

    Raises:
        ValueError: packages, weights or device are missing, or do not fit; says what to do.
    """
    try:
        import torch
        import transformers  # noqa: F401
    except ImportError as e:
        raise ValueError(f"captions need torch and transformers ({e}): {INSTALL}") from e
    if asking.device == "cuda" and not torch.cuda.is_available():
        raise ValueError("`device: cuda`, and no GPU is seen here; say `device: cpu`, or run where there is one")
    found = captioner_weights.files(weights, model)
    kind = captioner_weights.kind_of(weights, model)
    if kind != "transformers":
        from stages.captioner_judge import of_judge, of_open_clip

        return of_judge(weights, found, asking) if kind == "judge" else of_open_clip(str(model), weights, found, asking)
    return _of_transformers(Path(found[0]).parent, found, asking)


def _of_transformers(folder: Path, files: Sequence[str], asking: Asking) -> Writer:
    net = once(files, asking, lambda: _loaded(folder, asking))
    processor = _processor(folder)
    kind = net.config.model_type
    if kind == "blip":
        from stages.captioner_blip import BlipWriter

        return BlipWriter(net, processor, asking)
    if kind == "blip-2":
        from stages.captioner_blip2 import Blip2Writer

        return Blip2Writer(net, processor, asking)
    if kind == "instructblip":  # the question goes to its Q-Former as well, which no writer here does
        raise ValueError(f"{folder} is an InstructBLIP, which is not known here: give a BLIP-2 or a LLaVA in its place")
    from stages.captioner_chat import ChatWriter

    if not processor.chat_template:  # of a name, fetched by itself
        processor.chat_template = next((Path(f).read_text() for f in files if f.endswith("chat_template.jinja")), None)
    return ChatWriter(net, processor, asking)


def _loaded(folder: Path, asking: Asking) -> Any:
    import torch
    import transformers

    transformers.utils.logging.disable_progress_bar()
    dtype = torch.float32 if asking.precision == "fp32" else torch.bfloat16
    try:
        kind: Any = transformers.AutoModelForImageTextToText
        net, about = kind.from_pretrained(folder, dtype=dtype, output_loading_info=True, **_LOCAL)
    except Exception as e:  # whatever transformers or a damaged file throws
        raise _unknown(folder, e) from e
    if lost := sorted(about["missing_keys"]):
        raise ValueError(f"the weights in {folder} are not of {type(net).__name__}: they lack {', '.join(lost[:3])}")
    return net.to(asking.device).eval().requires_grad_(False)


def _processor(folder: Path) -> Any:
    import transformers

    try:
        processor: Any = transformers.AutoProcessor.from_pretrained(folder, **_LOCAL)
    except Exception as e:
        raise _unknown(folder, e) from e
    if not hasattr(processor, "image_processor"):
        raise ValueError(f"{folder} has no preprocessor_config.json: save its processor there as well")
    return processor


def _unknown(folder: Path, error: Exception) -> ValueError:
    return ValueError(f"transformers cannot load {folder} as a model that writes about pictures: {reason(error)}")
