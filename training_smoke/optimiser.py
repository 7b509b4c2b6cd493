"""AdamW over named groups of parameters: what is frozen, what decays, and by how much each group's rate differs.

adamw({"": model}, Optimiser(groups=((r"^image\\.", 0.0),)))      # LiT: the image tower is frozen
"""

from __future__ import annotations

import re
from collections import defaultdict

import torch
from torch import nn

from training_smoke.config import Optimiser
from training_smoke.errors import TrainingError


def adamw(modules: dict[str, nn.Module], settings: Optimiser) -> torch.optim.AdamW:
    """An optimiser of all parameters that are to be trained; the others lose `requires_grad`.

    Args:
        modules: by the name that stands before those of their parameters ("" for the towers).

    Raises:
        TrainingError: a pattern that matches nothing, or nothing is left to train.
    """
    found: dict[tuple[float, float], list[nn.Parameter]] = defaultdict(list)
    unused = {pattern for pattern, _ in settings.groups}
    for prefix, module in modules.items():
        for name, parameter in module.named_parameters():
            whole = f"{prefix}.{name}" if prefix else name
            pattern, multiple = next(((p, m) for p, m in settings.groups if re.search(p, whole)), (None, 1.0))
            unused.discard(pattern or "")
            if multiple == 0:
                parameter.requires_grad_(False)
            if parameter.requires_grad:
                # Gains, biases and scales are no directions that shrinking would regularise.
                decay = settings.weight_decay if parameter.ndim > 1 else 0.0
                found[multiple, decay].append(parameter)
    if unused:
        raise TrainingError(f"optimiser.groups: no parameter has a name with {', '.join(sorted(map(repr, unused)))}")
    if not found:
        raise TrainingError("optimiser.groups freeze every parameter: nothing is left to train")
    groups = [
        {"params": parameters, "weight_decay": decay, "multiple": multiple}
        for (multiple, decay), parameters in sorted(found.items(), key=lambda item: item[0])
    ]
    return torch.optim.AdamW(groups, lr=settings.lr, betas=settings.betas, eps=settings.eps, fused=_fused(groups))


def set_rate(optimiser: torch.optim.Optimizer, rate: float) -> None:
    """The learning rate of this step, times each group's multiple."""
    for group in optimiser.param_groups:
        group["lr"] = rate * group["multiple"]


def _fused(groups: list[dict[str, object]]) -> bool | None:
    on_gpu = all(p.device.type == "cuda" for g in groups for p in g["params"])  # type: ignore[attr-defined]
    return True if on_gpu else None
