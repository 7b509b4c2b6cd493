"""Where the weights of an image model lie and how long its vectors are, known before anything runs.

files(look, "given/sscd.pt")                    # ("/.../sscd.pt",): one file, of kinds torchscript, isc and timm
files(look, "facebook/dinov2-large")            # configuration and weights of a folder, or of a name on the hub
width(look, "given/sscd.pt", None)              # 512

A name of the Hugging Face hub ("org/name", "org/name@revision") is fetched where it is not here; one that was taken
stays so for the process, and `pinned` gives it with its commit to workers. `stages.hub_weights` does the same for
models of texts, which need a tokenizer beside them.
"""

from __future__ import annotations

import hashlib
import json
import re
import uuid
from functools import cache
from pathlib import Path
from typing import Any

from stages.clip_weights import INSTALL, reason
from stages.fetching import may_fetch
from stages.image_presets import Kind, Look

FOLDERS: tuple[Kind, ...] = ("timm", "transformers")
"""Kinds that may come as a folder with config.json and *.safetensors, which is how the hub has them."""

NOTES = 1  # version of what is kept of files: raise it when their reading changes
_HUB_NAME = re.compile(r"^[\w.-]+/[\w.-]+(@[\w.-]+)?$")
_COMMIT = re.compile(r"^[0-9a-f]{40}$")
_FILE = re.compile(r"\.(pt|pth|tar|bin|ckpt|safetensors)$")
_TAKEN: dict[str, Path] = {}


def settled(weights: str) -> str:
    """A path made absolute, so that it means the same in every worker; a name of the hub as it is."""
    path = Path(weights).expanduser()
    name = _HUB_NAME.match(weights) and not _FILE.search(weights) and not path.exists()
    return weights if name else str(path.absolute())


def files(look: Look, weights: str, model: str | None = None) -> tuple[str, ...]:
    """Every file of the model.

    Raises:
        ValueError: there is no such file, folder or name, or it is not complete; says what to do.
    """
    if look.kind in FOLDERS and (not Path(weights).is_absolute() or Path(weights).is_dir()):
        return _of_folder(_folder(weights))
    if Path(weights).is_file():
        if look.kind == "transformers":
            raise ValueError(f"{weights} is a file; name the folder that has it beside its config.json")
        if look.kind == "timm" and model is None:
            raise ValueError(f"{weights} does not say what it is of: say `model:`, a name of timm's")
        return (weights,)
    what = "file of weights" if look.kind not in FOLDERS else "folder or file of weights"
    at = f"; it is to be had at {look.where}" if look.where else ""
    raise ValueError(f"no {what} at {weights}{at}; say `weights: /path/to/it`")


def config(weights: str) -> dict[str, Any]:
    """The config.json of a folder or of a name that was taken; nothing of a file."""
    folder = Path(weights) if Path(weights).is_absolute() else _TAKEN.get(weights)
    file = folder and folder / "config.json"
    return dict(json.loads(file.read_text())) if file and file.is_file() else {}


def pinned(weights: str) -> str:
    """The name with the commit that this process took it for; what has none yet as it is."""
    folder = _TAKEN.get(weights)
    if folder is None or not _COMMIT.match(folder.name):
        return weights
    return f"{weights.partition('@')[0]}@{folder.name}"


def width(look: Look, weights: str, model: str | None) -> int | None:
    """Length of the vectors; None where the weights are not there yet, which `files` tells.

    Where neither the preset nor a configuration says it, the model is asked, once: that is kept beside other things
    that can be had again.
    """
    if look.dim is not None:
        return look.dim
    try:
        found = files(look, weights, model)
    except ValueError:  # asked for by whoever looks at a recipe; whoever runs it asks for the files
        return None
    if look.kind == "transformers" and isinstance(size := config(weights).get("hidden_size"), int):
        return size
    return _noted(look, weights, model, tuple((path, *_stamp(path)) for path in found))


def _stamp(path: str) -> tuple[int, int]:
    about = Path(path).stat()
    return about.st_size, about.st_mtime_ns


@cache
def _noted(look: Look, weights: str, model: str | None, state: tuple[Any, ...]) -> int:
    from stages.image_model import load
    from training_smoke.files import cache_root

    key = hashlib.sha256(repr((NOTES, look.kind, look.size, model, state)).encode()).hexdigest()[:32]
    note = cache_root() / "widths" / f"image-{key}"
    if note.is_file():
        return int(note.read_text())
    found = load(look, weights, model).width()
    note.parent.mkdir(parents=True, exist_ok=True)
    temporary = note.with_suffix(f".{uuid.uuid4().hex}")
    temporary.write_text(str(found))
    temporary.replace(note)
    return found


# ---------------------------------------------------------------- folders


def _of_folder(folder: Path) -> tuple[str, ...]:
    """config.json and the files of the weights.

    Raises:
        ValueError: what it lacks.
    """
    lack, tensors = _tensors(folder)
    if not (folder / "config.json").is_file():
        lack = ["config.json", *lack]
    if lack:
        raise ValueError(f"{folder} lacks {', '.join(lack[:3])}: save or copy the whole model there")
    return tuple(str(path) for path in (folder / "config.json", *tensors))


def _tensors(folder: Path) -> tuple[list[str], list[Path]]:
    """(names of the files that are missing, the files that are there)."""
    whole, index = folder / "model.safetensors", folder / "model.safetensors.index.json"
    if whole.is_file():
        return [], [whole]
    if not index.is_file():
        return ["model.safetensors"], []
    names = sorted(set(json.loads(index.read_text())["weight_map"].values()))
    return [n for n in names if not (folder / n).is_file()], [index, *(folder / n for n in names)]


def _folder(weights: str) -> Path:
    if Path(weights).is_absolute():
        return Path(weights)
    if weights not in _TAKEN:
        _TAKEN[weights] = _snapshot(weights)
    return _TAKEN[weights]


def _snapshot(name: str) -> Path:
    """The snapshot of a name, from the hub's cache where it is whole there; else it is fetched."""
    try:
        from huggingface_hub import snapshot_download
    except ImportError as e:
        raise ValueError(f"no folder {name!r} here, and a name of the hub needs huggingface_hub: {INSTALL}") from e
    repo, _, revision = name.partition("@")
    wanted: dict[str, Any] = {"repo_id": repo, "revision": revision or None}
    wanted["allow_patterns"] = ["config.json", "model*.safetensors", "model.safetensors.index.json"]
    cached = _cached(wanted)
    if cached is not None:
        return cached
    may_fetch(name)
    try:
        found = Path(snapshot_download(**wanted))
        _of_folder(found)  # without a network it gives what it has
        return found
    except Exception as e:  # whatever the hub, a proxy or a full disk throws
        raise ValueError(
            f"there is no folder {name!r} here, and the hub's model of that name cannot be fetched ({reason(e)}); "
            f"where there is a network say `hf download {repo}`, for each machine that works on it; with a copy from "
            "elsewhere, say `weights: /path/to/its/folder`"
        ) from e


def _cached(wanted: dict[str, Any]) -> Path | None:
    """The snapshot as it lies in the hub's cache; None where it is not there, or not whole."""
    from huggingface_hub import snapshot_download

    try:
        found = Path(snapshot_download(**wanted, local_files_only=True))
        _of_folder(found)
    except Exception:  # noqa: BLE001 - whatever the hub calls that; fetching says what is wrong
        return None
    return found
