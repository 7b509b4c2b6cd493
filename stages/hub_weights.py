"""Models in the layout of transformers: a folder, or a name on the Hugging Face hub, known before anything runs.

    files("models/gpt2")                       # config, tokenizer and weights in a folder: ("/.../config.json", ...)
    files("unitary/toxic-bert@main")           # a name, and a revision if wanted; fetched where it is not here
    model, tokenizer = load("AutoModelForCausalLM", "models/gpt2", "fp32", "cpu")

Weights are loaded as data only: no code that lies beside them is run, and weights that do not fill the model are
refused (transformers would fill the rest at random and only warn).
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from stages.base import Need
from stages.fetching import may_fetch

Precision = Literal["fp32", "bf16"]
Device = Literal["cpu", "cuda"]
Kind = Literal["AutoModelForCausalLM", "AutoModelForSequenceClassification"]

TEXTS = ("*.json", "*.txt", "*.model")  # configuration and tokenizer
TEMPLATE = "*.jinja"  # of a chat: fetched along, part of the fingerprint of stages that read it
TENSORS = ("*.safetensors", "*.bin")  # the first kind that is there
DAY_S = 86_400.0
INSTALL = "pip install 'curate[models]'"
_PIECE = re.compile(r"-\d+-of-\d+\.\w+$")  # of weights in several files, which an index names
_COMMIT = re.compile(r"^[0-9a-f]{40}$")
_TAKEN: dict[str, Path] = {}  # names of the hub that this process has looked up
_HUB_NAME = re.compile(r"^[\w.-]+(/[\w.-]+)?(@[\w.-]+)?$")


def settled(weights: str) -> str:
    """A folder made absolute, so that it means the same in every worker; a name of the hub as it is."""
    path = Path(weights).expanduser()
    return str(path.absolute()) if path.is_dir() or not _HUB_NAME.match(weights) else weights


def files(weights: str) -> tuple[str, ...]:
    """Every file of the model, by name: configuration, tokenizer, weights.

    Raises:
        ValueError: there is no such folder or name, or it is not complete; says what to do.
    """
    folder = _folder(weights)
    texts, (tensors, lost) = [p for kind in TEXTS for p in _there(folder, kind)], _tensors(folder)
    if not (tensors or lost) or folder / "config.json" not in texts:
        lack = "config.json" if tensors or lost else "weights (*.safetensors)"
        raise ValueError(f"{folder} has no {lack}: save a model there with `model.save_pretrained(folder)`")
    if not _has_tokenizer(texts):
        raise ValueError(f"{folder} has no tokenizer: save it there with `tokenizer.save_pretrained(folder)`")
    if lost:
        raise ValueError(f"{folder} has a part of the weights only: it lacks {_some(lost)}; copy the whole model again")
    return tuple(str(path) for path in (*sorted(texts), *tensors))


def _there(folder: Path, kind: str) -> list[Path]:
    """Files of that kind; not links to what the hub's cache has let go."""
    return sorted(path for path in folder.glob(kind) if path.is_file())


def _has_tokenizer(texts: list[Path]) -> bool:
    return any(path.name.startswith(("tokenizer", "vocab", "spiece", "sentencepiece")) for path in texts)


def _tensors(folder: Path) -> tuple[list[Path], list[str]]:
    """(files of the weights, names of those that are missing), of the first kind that is complete, else the first."""
    kinds = [(found, lost) for kind in TENSORS for found, lost in [_of_kind(folder, kind)] if found or lost]
    return next((kind for kind in kinds if not kind[1]), kinds[0] if kinds else ([], []))


def _of_kind(folder: Path, kind: str) -> tuple[list[Path], list[str]]:
    found = _there(folder, kind)
    have = {path.name for path in found}
    if have & {"model.safetensors", "pytorch_model.bin"}:
        return found, []  # in one piece
    wanted: set[str] = set()
    for index in _there(folder, f"{kind}.index.json"):
        try:
            wanted |= set(json.loads(index.read_text())["weight_map"].values())
        except (ValueError, KeyError, AttributeError) as e:
            raise ValueError(f"{index} is no index of weights ({_reason(e)}): copy the whole model again") from e
    if not wanted and any(_PIECE.search(name) for name in have):
        return found, [f"{kind.replace('*', 'model')}.index.json"]
    return found, sorted(wanted - have)


def _lacking(folder: Path) -> list[str]:
    """What of a complete model is not in the folder."""
    tensors, lost = _tensors(folder)
    lack = [] if (folder / "config.json").is_file() else ["config.json"]
    lack += [] if _has_tokenizer([p for kind in TEXTS for p in _there(folder, kind)]) else ["a tokenizer"]
    return lack + (lost if tensors or lost else ["weights (*.safetensors)"])


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def vocabulary(weights: str) -> int:
    """How many tokens the model knows, by its configuration; 250,000, as many as any has, where that is not here."""
    said = _config(weights)
    return int({**said, **said.get("text_config", {})}.get("vocab_size", 250_000))


def _config(weights: str) -> dict[str, Any]:
    """The model's configuration; nothing where that is not here, which `files` tells whoever is about to run."""
    folder = Path(weights) if Path(weights).is_absolute() else _TAKEN.get(weights)
    file = folder and folder / "config.json"
    return dict(json.loads(file.read_text())) if file and file.is_file() else {}


def need(weights: str, precision: Precision, device: Device, cpus: int, work_gb: Callable[[], float]) -> Need:
    """What a worker wants: the weights as they are stored and, beside them, as they are computed with, and
    `work_gb`, which is asked when the model is here.

    A name of the hub is fetched for it, since nothing else says how large it is. What cannot be fetched counts as
    nothing: `files` refuses it, so that it is never run.
    """
    try:
        size_gb = sum(Path(path).stat().st_size for path in files(weights)) / 1e9
    except ValueError:
        size_gb = 0.0
    said = _config(weights)
    half = str(said.get("dtype", said.get("torch_dtype"))) in ("float16", "bfloat16")
    copies = 3.0 if half and precision == "fp32" else 2.0
    return Need(cpus, 1 if device == "cuda" else 0, 1.5 + 1.1 * copies * size_gb + work_gb(), DAY_S)


def load(kind: Kind, weights: str, precision: Precision, device: Device) -> tuple[Any, Any]:
    """(model in evaluation mode on the device, tokenizer).

    Raises:
        ValueError: packages, weights or device are missing, or the weights are of another kind of model.
    """
    try:
        import torch
        import transformers
    except ImportError as e:
        raise ValueError(f"{weights} needs torch and transformers ({e}): {INSTALL}") from e
    if device == "cuda" and not torch.cuda.is_available():
        raise ValueError("`device: cuda`, and no GPU is seen here; say `device: cpu`, or run where there is one")
    folder = Path(files(weights)[0]).parent
    transformers.utils.logging.disable_progress_bar()
    dtype = torch.float32 if precision == "fp32" else torch.bfloat16
    local: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
    try:
        model, about = getattr(transformers, kind).from_pretrained(
            folder, dtype=dtype, output_loading_info=True, **local
        )
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder, **local)
    except Exception as e:  # whatever transformers or a damaged file throws
        raise ValueError(f"transformers cannot load {folder} as {kind}: {_reason(e)}") from e
    if lost := sorted(about["missing_keys"]):
        raise ValueError(f"the weights in {folder} are not of {kind}: they lack {', '.join(lost[:3])}")
    return model.to(device).eval(), tokenizer


def _folder(weights: str) -> Path:
    path = Path(weights)
    if path.is_absolute():
        if not path.is_dir():
            raise ValueError(f"no folder of weights at {path}; give one, or a name of the Hugging Face hub")
        return path
    return _fetched(weights)


def pinned(weights: str) -> str:
    """The name with the commit that this process took it for, "org/name@0123..."; what has none yet as it is.

    A name alone is what the hub has at the moment, and may be another model in the next worker's cache.
    """
    folder = _TAKEN.get(weights)
    if folder is None or not _COMMIT.match(folder.name):
        return weights
    return f"{weights.partition('@')[0]}@{folder.name}"


def _fetched(name: str) -> Path:
    """The snapshot of a name of the hub, from the cache where it is complete there; else it is fetched.

    One that was taken stays so for the process.
    """
    if name not in _TAKEN:
        _TAKEN[name] = _snapshot(name)
    return _TAKEN[name]


def _snapshot(name: str) -> Path:
    try:
        from huggingface_hub import snapshot_download
    except ImportError as e:
        raise ValueError(f"no folder {name!r} here, and a name of the hub needs huggingface_hub: {INSTALL}") from e
    repo, _, revision = name.partition("@")
    wanted: dict[str, Any] = {"repo_id": repo, "revision": revision or None}
    cached = _cached(wanted)
    if cached is not None:
        return cached
    may_fetch(name)
    try:
        found = Path(snapshot_download(**wanted, allow_patterns=[*TEXTS, TEMPLATE, TENSORS[0]]))
        if not _there(found, TENSORS[0]):  # older models have pickled tensors only
            found = Path(snapshot_download(**wanted, allow_patterns=[*TEXTS, TEMPLATE, TENSORS[1]]))
        if lack := _lacking(found):  # without a network it gives what it has
            raise FileNotFoundError(f"{found} lacks {_some(lack)}")
        return found
    except Exception as e:  # whatever the hub, a proxy or a full disk throws
        at = f" --revision {revision}" if revision else ""
        raise ValueError(
            f"there is no folder {name!r} here, and the hub's model of that name cannot be fetched ({_reason(e)}); "
            f"where there is a network say `hf download {repo}{at}`, for each machine that works on it; with a copy "
            "from elsewhere, say `weights: /path/to/its/folder`"
        ) from e


def _cached(wanted: dict[str, Any]) -> Path | None:
    """The snapshot as it lies in the hub's cache; None where it is not there, or not whole."""
    from huggingface_hub import snapshot_download

    try:
        found = Path(snapshot_download(**wanted, local_files_only=True))
    except Exception:  # noqa: BLE001 - not in the cache, whatever the hub calls that; fetching says what is wrong
        return None
    return None if _lacking(found) else found


def _reason(error: Exception) -> str:
    return ": ".join([type(error).__name__, *str(error).strip().splitlines()[:1]])
