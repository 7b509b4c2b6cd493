"""Momentum encoders, and queues of what they made of earlier batches.

    self.slow = slow_copy(self.vision)               # at first equal; no gradient
    follow(self.slow, self.vision, 0.995)            # after each step
    self.queue.push(image_features, text_features)

He et al. 2020 (MoCo, arXiv:1911.05722), section 3.2, as ALBEF and BLIP have it.
"""

from __future__ import annotations

import copy
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Module = TypeVar("Module", bound=nn.Module)


def slow_copy(model: Module) -> Module:
    """The same module with weights of its own that no optimiser moves."""
    return copy.deepcopy(model).requires_grad_(False)


@torch.no_grad()
def follow(slow: nn.Module, model: nn.Module, momentum: float) -> None:
    """slow <- momentum * slow + (1 - momentum) * model, parameter by parameter.

    Each parameter of `slow` has one of the same name in `model`, which may have more. Under FSDP each process moves its
    share.

    >>> slow, model = nn.Linear(1, 1, bias=False), nn.Linear(1, 1, bias=False)
    >>> _ = slow.weight.data.fill_(1), model.weight.data.fill_(2)
    >>> follow(slow, model, 0.995)
    >>> round(slow.weight.item(), 6)
    1.005
    """
    own = dict(slow.named_parameters())
    theirs = dict(model.named_parameters())
    if not own:
        return
    torch._foreach_lerp_([_here(p) for p in own.values()], [_here(theirs[name]) for name in own], 1 - momentum)


def _here(parameter: Tensor) -> Tensor:
    """What this process holds of a parameter, which FSDP may have spread."""
    local: Tensor = parameter.to_local() if hasattr(parameter, "to_local") else parameter
    return local


class Queue(nn.Module):
    """Features of the last pairs, first in, first out; at first random unit vectors, as in the references.

    images, texts: float32 [size, dim]; place: int64, where the next pair goes. All are in checkpoints, none ever has a
    gradient.
    """

    images: Tensor
    texts: Tensor
    place: Tensor

    def __init__(self, size: int, dim: int) -> None:
        super().__init__()
        self.size = size
        self.register_buffer("images", F.normalize(torch.randn(size, dim), dim=-1))
        self.register_buffer("texts", F.normalize(torch.randn(size, dim), dim=-1))
        self.register_buffer("place", torch.tensor(0))

    @torch.no_grad()
    def push(self, images: Tensor, texts: Tensor) -> None:
        """Put in pairs, float [n, dim] each, of all processes, for the oldest; of more than fit, the last."""
        if self.size == 0:
            return
        n = len(images)
        index = (self.place + torch.arange(n, device=images.device)) % self.size  # without waiting for the device
        for queue, rows in ((self.images, images), (self.texts, texts)):
            queue.index_copy_(0, index[-self.size :], rows[-self.size :].to(queue.dtype))
        self.place.copy_((self.place + n) % self.size)
