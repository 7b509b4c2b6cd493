"""Where the weights of a CLIP lie and how long its vectors are, known before anything runs and without loading it.

weights_file("ViT-B-32", "laion2b_s34b_b79k")       # the file of a tag of open_clip; fetched where it is not here
weights_file(None, "filters/dfn/filter.pt")         # a file of `curate train-filter`, which says what it is of
width("ViT-B-32", "...")                            # 512
"""

from __future__ import annotations

import difflib
import hashlib
import json
import re
import sys
import uuid
from collections.abc import Mapping
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from stages.fetching import may_fetch

_FILE = re.compile(r"[/\\~]|\.(pt|pth|bin|ckpt|safetensors)$")
INSTALL = "pip install 'curate[models]'"
WIDTHS = 1  # version of what is kept of files: raise it when their reading changes


def settled(weights: str) -> str:
    """A path made absolute, so that it means the same file in every worker; a tag as it is."""
    path = Path(weights).expanduser()
    return str(path.absolute()) if _FILE.search(weights) or path.is_file() else weights


def is_tag(weights: str) -> bool:
    """No path, but a name of open_clip's for weights that it can fetch."""
    return not Path(weights).is_absolute()


def weights_file(model: str | None, weights: str) -> Path:
    """The file. What a tag names is fetched into open_clip's cache where it is not there yet.

    Args:
        model: a configuration of open_clip; None: the file is one of ours and says it itself.

    Raises:
        ValueError: there is no such file, model or tag, or it cannot be fetched; says what to do.
    """
    if is_tag(weights):
        return Path(_fetched(model or "", weights))
    path = Path(weights)
    if path.is_dir():
        raise ValueError(f"clip: {path} is a folder; name the file of weights in it, as {path / 'filter.pt'}")
    if not path.is_file():
        raise ValueError(
            f"clip: no weights at {path}; give a file, or `model:` and a tag of open_clip. Files that need no `model:` "
            "are made by curate train-filter"
        )
    if model is None:
        _width_of_ours(str(path), path.stat().st_size, path.stat().st_mtime_ns)  # raises, where it is none of ours
    elif _config(model) is None:
        raise ValueError(_no_model(model))
    return path


def width(model: str | None, weights: str) -> int | None:
    """Length of the vectors; None where there is no such model or file yet, which `weights_file` tells."""
    if model is not None:
        found = _config(model)
        return None if found is None else int(found["embed_dim"])
    try:
        path = weights_file(None, weights)
    except ValueError:  # asked for by whoever looks at a recipe; whoever runs it asks for the file
        return None
    return _width_of_ours(str(path), path.stat().st_size, path.stat().st_mtime_ns)


def _config(model: str) -> Mapping[str, Any] | None:
    """The configuration as open_clip has it. Importing open_clip would cost ten seconds: the file is read instead."""
    folder = _configs()
    if folder is not None and (file := folder / f"{plain(model)}.json").is_file():
        said: Mapping[str, Any] = json.loads(file.read_text())
        return said
    if "open_clip" in sys.modules:  # somebody may have added one of their own
        import open_clip

        added: Mapping[str, Any] | None = open_clip.get_model_config(plain(model))
        return added
    return None


def plain(model: str) -> str:
    """ "ViT-B/32" as open_clip's files have it."""
    return model.replace("/", "-")


def _configs() -> Path | None:
    """The folder of open_clip's configurations; None where it is not installed."""
    package = find_spec("open_clip")
    return None if package is None or package.origin is None else Path(package.origin).parent / "model_configs"


def _no_model(model: str) -> str:
    folder = _configs()
    if folder is None:
        return f"clip: model {model!r} needs open_clip, which is not installed: {INSTALL}"
    near = difflib.get_close_matches(plain(model), [p.stem for p in folder.glob("*.json")], 3)
    return f"clip: open_clip has no model {model!r}" + (f"; nearest: {', '.join(near)}" if near else "")


@lru_cache(maxsize=64)
def _fetched(model: str, tag: str) -> str:
    if _config(model) is None:
        raise ValueError(_no_model(model))
    import open_clip
    from open_clip import pretrained

    name = plain(model)
    tags = open_clip.list_pretrained_tags_by_model(name)
    if not pretrained.is_pretrained_cfg(name, tag):
        said = f"it has {', '.join(tags)}; or give a file" if tags else "it has none: give a file"
        raise ValueError(f"clip: {model} has no weights {tag!r}; {said}")
    about = pretrained.get_pretrained_cfg(name, tag)
    quick = bool(about.get("quick_gelu"))
    if quick != bool((_config(model) or {}).get("quick_gelu")):
        other = name + "-quickgelu" if quick else name.removesuffix("-quickgelu")
        raise ValueError(f"clip: {tag} of {model} was trained with another activation; say `model: {other}`")
    may_fetch(f"{tag} of {model}")
    try:
        return str(pretrained.download_pretrained(about))
    except Exception as e:  # whatever the hub, a proxy or a full disk throws
        raise ValueError(
            f"clip: the weights {tag} of {model} are not here and cannot be fetched ({reason(e)}); with the file from "
            "elsewhere, say `weights: /path/to/it`"
        ) from e


def reason(error: Exception) -> str:
    """``TypeOfError: first line of what it says``."""
    return ": ".join([type(error).__name__, *str(error).strip().splitlines()[:1]])


@lru_cache(maxsize=64)
def _width_of_ours(path: str, size: int, changed: int) -> int:
    """By the file as it is now; `size` and `changed` only tell files apart.

    Kept beside other things that can be had again: reading the file takes torch, whose import takes seconds, and a
    recipe whose columns are there needs no more of the file than this.
    """
    from training_smoke.files import cache_root

    key = hashlib.sha256(f"{WIDTHS}|{path}|{size}|{changed}".encode()).hexdigest()[:32]
    note = cache_root() / "widths" / key
    if note.is_file():
        return int(note.read_text())
    found = _measured_width(path)
    note.parent.mkdir(parents=True, exist_ok=True)
    temporary = note.with_suffix(f".{uuid.uuid4().hex}")
    temporary.write_text(str(found))
    temporary.replace(note)
    return found


def _measured_width(path: str) -> int:
    import torch

    from training_smoke.errors import TrainingError
    from training_smoke.towers_file import load_towers, read_file

    try:
        config = _config(str(read_file(path)["towers"]["name"]))
        if config is not None:  # large towers are not built to be measured
            return int(config["embed_dim"])
        towers = load_towers(path)
    except TrainingError as e:
        raise ValueError(f"clip: {e}; weights of open_clip need `model:` beside them") from e
    with torch.inference_mode():
        return int(towers.encode_texts(towers.tokenize(["a"])).shape[1])
