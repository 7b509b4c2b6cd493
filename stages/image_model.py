"""An image model, loaded to be asked for vectors: SSCD as TorchScript, ISC, anything of timm or of transformers.

    model = load(PRESETS["sscd_disc_mixup"], "given/sscd_disc_mixup.torchscript.pt")
    model.vectors([rgb, rgb], 8)                # float32 (2, 512), rows of length one

Weights are read as data only: pickles as tensors, folders without the code that may lie beside them. A TorchScript file
is a program, which runs in PyTorch's own interpreter. Weights that do not fill the model are refused: the rest would be
random numbers.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from stages.clip_model import Device
from stages.clip_weights import INSTALL, reason
from stages.image_presets import Look
from stages.image_weights import config, files

if TYPE_CHECKING:
    from torch import Tensor

Precision = Literal["fp32", "bf16"]


@dataclass(frozen=True, eq=False)
class ImageModel:
    """A model, ready. `encode`: (n, 3, rows, columns), normalised, of the precision's type -> (n, dim)."""

    look: Look
    encode: Callable[[Tensor], Tensor]
    precision: Precision
    device: Device

    def pixels(self, pictures: Sequence[np.ndarray]) -> list[np.ndarray]:
        """uint8 (height, width, 3) each, of any size -> as the model wants them."""
        cut = self.look.cut()
        return [cut(picture) for picture in pictures]

    def vectors(self, pixels: Sequence[np.ndarray], batch: int) -> np.ndarray:
        """What `pixels` gave -> float32 (n, dim), unit rows; `batch` in a forward pass.

        Every pass has one shape, filled up where there are fewer, so that a picture's vector does not hang on its
        company. Where pictures keep their shape (`resize: shorter`), each has a pass of its own.
        """
        import torch

        step = 1 if self.look.resize == "shorter" else batch
        parts: list[Tensor] = [] if pixels else [torch.empty(0, 0)]
        with torch.inference_mode():
            for start in range(0, len(pixels), step):
                some = pixels[start : start + step]
                rows = np.stack([*some, *[some[0]] * (step - len(some))])
                parts.append(self._unit(rows)[: len(some)])
            found: np.ndarray = torch.cat(parts).cpu().numpy()
        return found

    def width(self) -> int:
        """Length of the vectors, by asking for one."""
        gray = np.full((self.look.size, self.look.size, 3), 128, np.uint8)
        return int(self.vectors([gray], 1).shape[1])

    def _unit(self, rows: np.ndarray) -> Tensor:
        import torch
        from torch.nn import functional as F

        x = torch.from_numpy(rows).to(self.device, non_blocking=True).permute(0, 3, 1, 2).float() / 255
        mean, std = (torch.tensor(n, device=self.device).view(1, 3, 1, 1) for n in (self.look.mean, self.look.std))
        x = ((x - mean) / std).contiguous()
        found = self.encode(x.bfloat16() if self.precision == "bf16" else x)
        if found.ndim != 2 or len(found) != len(rows):
            raise ValueError(
                f"the model gives numbers of shape {tuple(found.shape)} for {len(rows)} pictures, no vectors"
            )
        return F.normalize(found.float(), dim=-1)


def load(
    look: Look, weights: str, model: str | None = None, precision: Precision = "fp32", device: Device = "cpu"
) -> ImageModel:
    """The model with its weights, in evaluation mode on the device.

    Args:
        model: kind timm: a name of timm's; None: the config.json beside the weights says it.
        precision: bf16: weights and activations in bfloat16; not of TorchScript, whose types are fixed.

    Raises:
        ValueError: packages, weights or device are missing, or the weights do not fit; says what to do.
    """
    try:
        import torch
    except ImportError as e:
        raise ValueError(f"{weights} needs torch ({e}): {INSTALL}") from e
    if device == "cuda" and not torch.cuda.is_available():
        raise ValueError("`device: cuda`, and no GPU is seen here; say `device: cpu`, or run where there is one")
    found = files(look, weights, model)
    try:
        net = _READERS[look.kind](look, found, weights, model)
    except Exception as e:  # whatever torch, timm, transformers or a damaged file throws
        raise ValueError(f"cannot load {weights} as {look.kind}: {reason(e)}") from e
    net = net.to(device).eval()
    if precision == "bf16":
        net = net.bfloat16()
    return ImageModel(look, _encoder(look, net), precision, device)


def _encoder(look: Look, net: Any) -> Callable[[Tensor], Tensor]:
    """What the model says of normalised pictures, as (n, dim)."""
    if look.kind != "transformers":
        return lambda x: net(x)  # type: ignore[no-any-return]

    def encode(x: Tensor) -> Tensor:
        said = net(pixel_values=x)
        pooled: Tensor | None = getattr(said, "pooler_output", None)
        return said.last_hidden_state[:, 0] if pooled is None else pooled  # type: ignore[no-any-return]

    return encode


# ---------------------------------------------------------------- kinds of files


def _torchscript(look: Look, found: tuple[str, ...], weights: str, model: str | None) -> Any:
    import warnings

    import torch

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=FutureWarning)  # deprecated, and the form that SSCD is published in
        return torch.jit.load(found[0], map_location="cpu")


def _isc(look: Look, found: tuple[str, ...], weights: str, model: str | None) -> Any:
    """A checkpoint of ISC21's winner: `arch` of timm, and `state_dict`."""
    import torch

    from stages.image_isc import isc_net

    with torch.serialization.safe_globals([argparse.Namespace]):  # its training's arguments lie beside the weights
        said = torch.load(found[0], map_location="cpu", weights_only=True)
    lack = [key for key in ("arch", "state_dict") if key not in said]
    if lack:
        raise ValueError(f"no {lack[0]!r} in it, so it is no checkpoint of ISC21's")
    state = {key.replace("module.", ""): value for key, value in said["state_dict"].items()}
    return isc_net(said["arch"], state)


def _timm(look: Look, found: tuple[str, ...], weights: str, model: str | None) -> Any:
    import sys

    import timm
    from timm.models import load_state_dict

    name = model or str(config(weights)["architecture"])
    about = timm.get_pretrained_cfg(name)
    sized: dict[str, Any] = {"img_size": look.size} if about is not None and about.fixed_input_size else {}
    net = timm.create_model(name, pretrained=False, num_classes=0, **sized)
    state = load_state_dict(found[-1], weights_only=True)
    convert = getattr(sys.modules[type(net).__module__], "checkpoint_filter_fn", None)
    lost = net.load_state_dict(state if convert is None else convert(state, net), strict=False).missing_keys
    if lost:
        raise ValueError(f"they are not of {name}: they lack {', '.join(lost[:3])}")
    return net


def _transformers(look: Look, found: tuple[str, ...], weights: str, model: str | None) -> Any:
    import transformers

    transformers.utils.logging.disable_progress_bar()
    net, about = transformers.AutoModel.from_pretrained(
        Path(found[0]).parent, output_loading_info=True, local_files_only=True, trust_remote_code=False
    )
    if lost := sorted(about["missing_keys"]):
        raise ValueError(f"they lack {', '.join(lost[:3])}")
    return net.float()


_READERS: dict[str, Callable[[Look, tuple[str, ...], str, str | None], Any]] = {
    "torchscript": _torchscript,
    "isc": _isc,
    "timm": _timm,
    "transformers": _transformers,
}
