"""What others have published in transformers' format, loaded without running any code that came with it.

config = published(AutoConfig, "folders/opt-125m")
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from training_smoke.errors import TrainingError


def published(kind: Any, name: str | Path, **how: Any) -> Any:
    """`kind.from_pretrained(name)` of one of transformers' Auto classes.

    Left to itself, transformers asks on the terminal whether a folder's own code may run: nobody answers a run.

    Raises:
        TrainingError: it is nothing without code of its own.
        OSError, ValueError, KeyError: transformers', for what is not there or cannot be read.
    """
    try:
        return kind.from_pretrained(name, trust_remote_code=False, **how)
    except ValueError as e:
        if "trust_remote_code" not in str(e):
            raise
        raise TrainingError(
            f"{name} needs Python code that lies beside its weights, and such code is never run here: take a model of "
            "a class that transformers has itself"
        ) from e
