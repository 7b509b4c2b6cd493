"""Where weights of a model that matches lie: a file or run of the judge, a folder of transformers, a name on its hub.

files("runs/blip")                                  # config.json and the last checkpoint
files("/models/export")                             # of an export the part that matches
files("Salesforce/blip-itm-base-coco")              # fetched where it is not here
"""

from __future__ import annotations

from pathlib import Path

from stages import hub_weights

RETRIEVAL = "retrieval"
"""Folder of a judge's export that has the parts which match."""
WHOLE = ("filter.pt", "towers.pt")
"""As `training_smoke.towers_file` has them, whose import takes seconds: who looks at a recipe wants no model."""


def settled(weights: str) -> str:
    """A path made absolute, so that it means the same in every worker; a name of the hub as it is."""
    path = Path(weights).expanduser()
    return str(path.absolute()) if path.exists() or path.suffix == ".pt" else hub_weights.settled(weights)


def files(weights: str) -> tuple[str, ...]:
    """Every file of the model.

    Raises:
        ValueError: there is no such file, folder or name, it is not complete, or not trained yet; says what to do.
    """
    path = of_the_judge(weights)
    if path is None:
        return hub_weights.files(_theirs(weights))
    if path.is_file():
        return (str(path),)
    found = sorted((path / "checkpoints").glob("step-*.pt"))
    if not found:
        raise ValueError(f"{path} has no checkpoint yet: train it to its end first")
    return (str(path / "config.json"), str(found[-1]))


def of_the_judge(weights: str) -> Path | None:
    """The judge's file, or a run's folder; None: transformers' folder, or a name on its hub."""
    path = Path(weights)
    if path.is_dir():
        whole = [path / name for name in WHOLE if (path / name).is_file()]
        return whole[0] if whole else path if (path / "checkpoints").is_dir() else None
    if path.is_absolute() and not path.is_file():
        raise ValueError(f"nothing at {path}; give a file or folder of weights, or a name of the Hugging Face hub")
    return path if path.is_file() else None


def _theirs(weights: str) -> str:
    inner = Path(weights) / RETRIEVAL
    return str(inner) if inner.is_dir() else weights
