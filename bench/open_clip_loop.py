"""open_clip's own way to train, as open_clip_train 3.3.0 does it: what our loop is measured beside."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from training_smoke.config import Optimiser


def open_clip_adamw(model: nn.Module, said: Optimiser, fused: bool | None = None) -> torch.optim.AdamW:
    """Two groups by name and shape (open_clip_train/main.py); fused: None, as there."""
    named = dict(model.named_parameters())
    plain = {n: p for n, p in named.items() if p.ndim < 2 or any(w in n for w in ("bn", "ln", "bias", "logit_scale"))}
    rest = [p for n, p in named.items() if n not in plain]
    groups = [{"params": [*plain.values()], "weight_decay": 0.0}, {"params": rest, "weight_decay": said.weight_decay}]
    return torch.optim.AdamW(groups, lr=said.lr, betas=said.betas, eps=said.eps, fused=fused)


def open_clip_step(
    model: nn.Module, encode: Callable[..., tuple[Tensor, Tensor, Tensor]], optimiser: torch.optim.Optimizer, low: bool
) -> Callable[[Tensor, Tensor], Tensor]:
    """A step over float images and tokens (open_clip_train/train.py); gives the loss, not waited for.

    Args:
        encode: the model, or what torch.compile made of it. low: bf16 autocast (--precision amp_bf16).
    """
    from open_clip.loss import ClipLoss

    loss_of = ClipLoss()

    def step(images: Tensor, tokens: Tensor) -> Tensor:
        optimiser.zero_grad()
        with torch.autocast(images.device.type, torch.bfloat16, enabled=low):
            loss: Tensor = loss_of(*encode(images, tokens)[:3])
        loss.backward()
        optimiser.step()
        with torch.no_grad():
            model.logit_scale.clamp_(0, math.log(100))  # type: ignore[operator]
        return loss.detach()

    return step
