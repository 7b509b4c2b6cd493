"""AdamW over named groups of parameters: what is frozen, what decays, and by how much each group's rate differs.

modules, settings = {"": model}, Optimiser(groups=((r"^image\\.", 0.0),))       # LiT: the image tower is frozen
freeze(modules, settings)            # before the model is wrapped for many processes
optimiser = adamw(modules, settings)
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping

import torch
import torch.distributed as dist
from torch import Tensor, nn

from training_smoke.config import Optimiser
from training_smoke.errors import TrainingError

FUSED = ("cpu", "cuda")  # devices on which one kernel updates all parameters


def freeze(modules: Mapping[str, nn.Module], settings: Optimiser) -> None:
    """Take `requires_grad` from parameters whose rate is 0. DDP has to know of it when it wraps a model.

    Args:
        modules: by the name that stands before those of their parameters ("" for the towers).

    Raises:
        TrainingError: a pattern that matches nothing.
    """
    for _, parameter, multiple in _rates(modules, settings):
        if multiple == 0:
            parameter.requires_grad_(False)


def adamw(modules: Mapping[str, nn.Module], settings: Optimiser) -> torch.optim.AdamW:
    """An optimiser of all parameters that are to be trained; the others lose `requires_grad`.

    Raises:
        TrainingError: as `freeze`, or nothing is left to train.
    """
    freeze(modules, settings)
    # By module too: FSDP spreads the towers and not the objective, and one update takes tensors of one kind.
    found: dict[tuple[str, float, float], list[nn.Parameter]] = defaultdict(list)
    for prefix, parameter, multiple in _rates(modules, settings):
        if parameter.requires_grad:
            # Gains, biases and scales are no directions that shrinking would regularise.
            decay = settings.weight_decay if parameter.ndim > 1 else 0.0
            found[prefix, multiple, decay].append(parameter)
    if not found:
        raise TrainingError("optimiser.groups freeze every parameter: nothing is left to train")
    groups = [
        {"params": parameters, "weight_decay": decay, "multiple": multiple}
        for (_, multiple, decay), parameters in sorted(found.items(), key=lambda item: item[0])
    ]
    fused = all(p.device.type in FUSED for parameters in found.values() for p in parameters)
    return torch.optim.AdamW(groups, lr=settings.lr, betas=settings.betas, eps=settings.eps, fused=fused or None)


def set_rate(optimiser: torch.optim.Optimizer, rate: float) -> None:
    """The learning rate of this step, times each group's multiple."""
    for group in optimiser.param_groups:
        group["lr"] = rate * group["multiple"]


@torch.no_grad()
def clip(optimiser: torch.optim.Optimizer, limit: float | None, world: dist.ProcessGroup | None) -> Tensor:
    """The norm of the whole gradient, a scalar on its device; the gradient is shrunk to `limit` where it is longer.

    Parts that FSDP spread over `world` are summed over it; the others are the same on all processes already.
    """
    gradients = [p.grad for group in optimiser.param_groups for p in group["params"] if p.grad is not None]
    here = [g for g in gradients if not hasattr(g, "to_local")]
    spread = [g.to_local() for g in gradients if hasattr(g, "to_local")]
    square = nn.utils.get_total_norm(spread).square()
    if spread:
        dist.all_reduce(square, group=world)
    norm = (square.to(gradients[0].device) + nn.utils.get_total_norm(here).square()).sqrt()
    if limit is not None:
        torch._foreach_mul_([*here, *spread], (limit / (norm + 1e-6)).clamp(max=1.0))
    return norm


def _rates(modules: Mapping[str, nn.Module], settings: Optimiser) -> Iterator[tuple[str, nn.Parameter, float]]:
    """(name of the module, parameter, multiple of the learning rate) of each parameter."""
    unused = {pattern for pattern, _ in settings.groups}
    for prefix, module in modules.items():
        for name, parameter in module.named_parameters():
            whole = f"{prefix}.{name}" if prefix else name
            pattern, multiple = next(((p, m) for p, m in settings.groups if re.search(p, whole)), (None, 1.0))
            unused.discard(pattern or "")
            yield prefix, parameter, multiple
    if unused:
        raise TrainingError(f"optimiser.groups: no parameter has a name with {', '.join(sorted(map(repr, unused)))}")
