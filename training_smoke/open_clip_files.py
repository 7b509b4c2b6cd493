"""Models of open_clip as folders that it loads by itself, and what lies in such folders, for us to load.

    write_model(Path("out"), config, state, tokenizer, mean, std)
    open_clip.create_model_and_transforms("local-dir:out")         # elsewhere, with no code of ours

A folder has open_clip_config.json (the model's configuration and how pictures are prepared), the weights, the learned
scale and bias among them, and the tokenizer's files where it is not the one that open_clip carries.
"""

from __future__ import annotations

import dataclasses
import json
import pickle
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from training_smoke.errors import TrainingError
from training_smoke.towers import CLIP_MEAN, CLIP_STD

CONFIG = "open_clip_config.json"
WEIGHTS = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")
"""Names under which open_clip looks for weights first, ours before the older one."""


def write_model(
    folder: Path,
    config: Mapping[str, Any],
    state: Mapping[str, Tensor],
    mean: Sequence[float],
    std: Sequence[float],
    save_tokenizer: Callable[[Path], object] | None = None,
) -> None:
    """Write a model; the configuration comes last, so that a folder which has it is whole.

    Args:
        config: as in open_clip's model_configs: embed_dim, vision_cfg, text_cfg, ...
        state: of its module, whatever the device.
        mean, std: of the pixels, by channel, in [0, 1].
        save_tokenizer: writes its files into the folder; None: open_clip's own tokenizer, which needs none.

    Raises:
        TrainingError: the folder has files.
    """
    from safetensors.torch import save_file

    if folder.exists() and any(folder.iterdir()):
        raise TrainingError(f"{folder} is not empty: a model is written into a new folder")
    folder.mkdir(parents=True, exist_ok=True)
    save_file(_apart(state), folder / WEIGHTS[0])
    if save_tokenizer is not None:
        save_tokenizer(folder)
    # As our evaluation prepares pictures: the shorter side by Pillow's bicubic filter, the centre.
    pictures = {"mean": list(mean), "std": list(std), "interpolation": "bicubic", "resize_mode": "shortest"}
    (folder / CONFIG).write_text(json.dumps({"model_cfg": config, "preprocess_cfg": pictures}, indent=2) + "\n")


def _apart(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Copies where tensors lie in one memory (weights that are tied): safetensors has no names for that."""
    found, seen = {}, set()
    for name, value in state.items():
        value = value.detach().cpu().contiguous()
        place = value.untyped_storage().data_ptr()
        found[name] = value.clone() if place in seen else value
        seen.add(place)
    return found


def names_in(weights: Path) -> set[str]:
    """Names of the tensors in a checkpoint, as open_clip reads it; next to none of its bytes are read where its format
    allows.

    Raises:
        TrainingError: it is no checkpoint.
    """
    if weights.suffix == ".safetensors":
        from safetensors import safe_open

        with safe_open(weights, "pt") as file:
            return set(file.keys())
    try:
        try:
            said = torch.load(weights, map_location="cpu", weights_only=True, mmap=True)
        except (RuntimeError, ValueError):  # of before torch 1.6, or an archive of TorchScript: no memory to map
            from open_clip.factory import load_state_dict

            said = load_state_dict(str(weights))
        said = said.get("state_dict", said)
        return {name.removeprefix("module.") for name in said}
    except (OSError, RuntimeError, ValueError, AttributeError, EOFError, pickle.UnpicklingError) as e:
        raise TrainingError(f"{weights} is no checkpoint of open_clip ({type(e).__name__}: {e})") from e


def check_folder(folder: Path, config: Mapping[str, Any], name: str) -> None:
    """Has a folder weights of the model `name`, whose configuration is `config`, prepared for pixels as CLIP's are?

    Raises:
        TrainingError: they are another model's; what is other is named.
    """
    said = _read(folder)
    others = differences(config, said["model_cfg"])
    for what, ours in (("mean", CLIP_MEAN), ("std", CLIP_STD)):
        theirs = said.get("preprocess_cfg", {}).get(what, ours)
        if any(abs(a - b) > 1e-6 for a, b in zip(ours, theirs, strict=True)):
            others.append(f"{what} of pixels {tuple(theirs)} in place of {ours}")
    if others:
        raise TrainingError(f"{folder} has another model than {name}: {'; '.join(others)}")


def _read(folder: Path) -> dict[str, Any]:
    try:
        said: dict[str, Any] = json.loads((folder / CONFIG).read_text())
        said["model_cfg"]["embed_dim"]
    except (OSError, ValueError, KeyError, TypeError) as e:
        raise TrainingError(f"{folder} has no {CONFIG} of a model of open_clip ({type(e).__name__}: {e})") from e
    return said


def weights_in(folder: Path) -> Path:
    """The file of weights in a folder.

    Raises:
        TrainingError: there is none, or it cannot be told which.
    """
    for name in WEIGHTS:
        if (folder / name).is_file():
            return folder / name
    found = sorted(p for kind in ("safetensors", "bin", "pth", "pt") for p in folder.glob(f"*.{kind}"))
    if len(found) != 1:
        said = ", ".join(p.name for p in found) or "none"
        raise TrainingError(f"{folder}: expected one file of weights ({' or '.join(WEIGHTS)}), there are: {said}")
    return found[0]


def differences(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> list[str]:
    """Where two configurations are of different models, whether or not their weights have the same shapes.

    Left out is what says nothing of the model: tokenizers, sizes of pictures and lengths of texts, whose positions can
    be fitted, and initial values.
    """
    a, b = _flat(ours), _flat(theirs)
    return [
        f"{name} {b.get(name)!r} in place of {a.get(name)!r}" for name in sorted({*a, *b}) if a.get(name) != b.get(name)
    ]


_SAYS_NOTHING = {
    "custom_text", "init_logit_scale", "init_logit_bias", "nonscalar_logit_scale", "hf_tokenizer_name",
    "tokenizer_mode", "tokenizer_kwargs", "image_size", "context_length", "hf_model_pretrained",
    "timm_model_pretrained", "dim_head", "n_queries",
}  # fmt: skip


def _flat(config: Mapping[str, Any]) -> dict[str, Any]:
    """{"text_cfg.width": 512, ...}, with what open_clip takes where nothing is said."""
    from open_clip import CLIPTextCfg, CLIPVisionCfg
    from open_clip.coca_model import MultimodalCfg

    kinds = {"vision_cfg": CLIPVisionCfg, "text_cfg": CLIPTextCfg, "multimodal_cfg": MultimodalCfg}
    found = {"quick_gelu": False}
    for name, value in config.items():
        if name in kinds:
            defaults = {f.name: f.default for f in dataclasses.fields(kinds[name])}
            found |= {f"{name}.{key}": v for key, v in (defaults | value).items() if key not in _SAYS_NOTHING}
        elif name not in _SAYS_NOTHING:
            found[name] = value
    return found
