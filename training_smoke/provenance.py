"""What a run's folder says of where its numbers come from: config.json, environment.json, packs.json.

Written once; a folder that says something else is another run's, and is refused.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from training_smoke.config import Config
from training_smoke.distributed import World
from training_smoke.errors import TrainingError

PACKAGES = (
    "torch", "open_clip_torch", "transformers", "tokenizers", "peft", "numpy", "pillow", "opencv-python-headless",
    "simplejpeg",
)  # fmt: skip


def begin_folder(folder: Path, config: Config, packs: dict[str, str], world: World) -> None:
    """Make the folder, or find that it is this run's.

    Args:
        packs: digest of each pack by its URL.

    Raises:
        TrainingError: the folder belongs to another configuration or other packs; says what differs.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "checkpoints").mkdir(exist_ok=True)
    _keep(folder / "config.json", config.as_json())
    _keep(folder / "packs.json", packs)
    if not (folder / "environment.json").exists():
        _write(folder / "environment.json", environment(world, config))


def environment(world: World, config: Config) -> dict[str, Any]:
    """What, beside configuration and data, could make numbers differ.

    device: what the run computes on; device_count: how many of them this machine shows it (GPUs, or else cores).
    sharding: how parameters lie on the processes, "none" where there is one. processes: of the run, on all machines.
    """
    on_gpu = world.device.type == "cuda"
    return {
        "source": source_digest(),
        "packages": {name: _version(name) for name in PACKAGES},
        "python": platform.python_version(),
        "machine": platform.platform(),
        "device": torch.cuda.get_device_name(world.device) if on_gpu else platform.processor() or "cpu",
        "device_count": torch.cuda.device_count() if on_gpu else os.cpu_count() or 1,
        "threads": torch.get_num_threads(),
        "processes": world.size,
        "sharding": config.sharding if world.size > 1 else "none",
    }


def source_digest() -> str:
    """sha256 of this package's source, 16 hex digits."""
    found = hashlib.sha256()
    root = Path(__file__).parent
    for path in sorted(root.rglob("*.py")):
        found.update(f"{path.relative_to(root)}\0".encode() + path.read_bytes())
    return found.hexdigest()[:16]


def _keep(path: Path, said: dict[str, Any]) -> None:
    said = json.loads(json.dumps(said))
    if not path.exists():
        _write(path, said)
        return
    before = json.loads(path.read_text())
    differing = sorted(k for k in said.keys() | before.keys() if said.get(k) != before.get(k))
    if differing:
        what = "; ".join(f"{k}: {before.get(k)!r} there, {said.get(k)!r} now" for k in differing)
        raise TrainingError(f"{path.parent} is the folder of another run ({what}): give another folder, or remove it")


def _write(path: Path, said: dict[str, Any]) -> None:
    part = path.with_name(f"{path.name}.part-{os.getpid()}")
    part.write_text(json.dumps(said, indent=1, sort_keys=True) + "\n")
    part.replace(path)


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
