"""Where a captioner's weights lie, and of what kind they are, known before anything runs.

files("Salesforce/blip-image-captioning-base", None)    # a folder of transformers, or a name on its hub
files("laion2b_s13b_b90k", "coca_ViT-B-32")             # with a model: a tag, file or folder of open_clip
files("runs/judge", None)                               # a run of `curate judge`, or its towers.pt
"""

from __future__ import annotations

import json
import re
from functools import cache
from pathlib import Path
from typing import Any, Literal

from stages import clip_weights, hub_weights
from stages.fetching import may_fetch

Kind = Literal["transformers", "open_clip", "judge"]
WITHOUT_CHAT = ("blip", "blip-2")  # models of transformers that are asked without a chat template
_FILE = re.compile(r"\.(pt|pth|bin|ckpt|safetensors)$")


def settled(weights: str) -> str:
    """A path made absolute, so that it means the same in every worker; a name or tag as it is."""
    path = Path(weights).expanduser()
    said_as_path = weights[:1] in ("/", ".", "~") or _FILE.search(weights)
    return str(path.absolute()) if said_as_path or path.exists() else weights


def kind_of(weights: str, model: str | None) -> Kind:
    """What program the weights are of."""
    path = Path(weights)
    if model is not None:
        return "open_clip"
    if not path.is_absolute() or (path.is_dir() and not (path / "checkpoints").is_dir()):
        return "transformers"
    return "judge"


def files(weights: str, model: str | None) -> tuple[str, ...]:
    """Every file that texts depend on, by name.

    Raises:
        ValueError: they are not there, or not whole; says what to do.
    """
    kind = kind_of(weights, model)
    if kind == "transformers":
        return (*hub_weights.files(weights), *(str(path) for path in _templates(weights)))
    return _of_open_clip(weights, str(model)) if kind == "open_clip" else _of_judge(Path(weights))


def config(weights: str) -> dict[str, Any]:
    """The config.json of a model of transformers, which is fetched where it is not here.

    Raises:
        ValueError: as `files`.
    """
    folder = Path(hub_weights.files(weights)[0]).parent
    return dict(json.loads((folder / "config.json").read_text()))


def _of_open_clip(weights: str, model: str) -> tuple[str, ...]:
    if not Path(weights).is_dir():
        return (str(clip_weights.weights_file(model, weights)),)
    from training_smoke.errors import TrainingError
    from training_smoke.open_clip_files import weights_in

    try:
        return tuple(str(p) for p in (*sorted(Path(weights).glob("*.json")), weights_in(Path(weights))))
    except TrainingError as e:
        raise ValueError(str(e)) from e


def _of_judge(path: Path) -> tuple[str, ...]:
    if path.is_file():
        return (str(path),)
    if not path.is_dir():
        raise ValueError(
            f"no weights at {path}; give a folder of transformers, a name on its hub, a run of `curate judge` or its "
            "towers.pt, or `model:` and weights of open_clip"
        )
    from training_smoke.checkpoint import checkpoints

    found = checkpoints(path / "checkpoints")
    if not found:
        raise ValueError(f"{path} has no checkpoint yet: train it to its end first")
    return (str(path / "config.json"), str(found[-1]))


@cache
def _templates(weights: str) -> tuple[Path, ...]:
    """Files that say how a model is asked, which lie beside the tokenizer; fetched where a name has them elsewhere."""
    folder = Path(hub_weights.files(weights)[0]).parent
    found = tuple(sorted(folder.glob("*.jinja")))
    if found or Path(weights).is_absolute() or config(weights).get("model_type") in WITHOUT_CHAT or _said(folder):
        return found
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    name = weights.partition("@")[0]
    may_fetch(f"and the chat template of {name}")
    try:
        return (Path(hf_hub_download(name, "chat_template.jinja", revision=folder.name)),)
    except LocalEntryNotFoundError as e:
        raise ValueError(
            f"the chat template of {name} cannot be fetched; where there is a network say `hf download {name}`"
        ) from e
    except EntryNotFoundError:  # it has none: the prompt is all that it is asked
        return ()


def _said(folder: Path) -> bool:
    """Whether a JSON file beside the weights has the template."""
    return (folder / "chat_template.json").is_file() or any(
        "chat_template" in json.loads(path.read_text())
        for path in (folder / "tokenizer_config.json", folder / "processor_config.json")
        if path.is_file()
    )
