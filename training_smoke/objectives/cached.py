"""A large batch in little memory: accumulation that is right for objectives which compare samples with each other.

A contrastive loss is no mean over micro-batches: the mean of small batches' losses has fewer negatives for each sample,
and is another objective. So that one is not offered here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor

from training_smoke.errors import TrainingError

MicroBatch = TypeVar("MicroBatch")
Features = tuple[Tensor, Tensor]

# How far an entry may lie from itself when computed with and without gradient, of a unit vector or else as a share of
# the largest entry: bf16 resolves 0.004, and compiled code rounds elsewhere. Another draw of dropout is well beyond.
SAME = 0.05


def cached_step(
    encode: Callable[[MicroBatch], Features],
    micro_batches: Sequence[MicroBatch],
    objective: Callable[[Tensor, Tensor], Tensor],
    *,
    no_sync: Callable[[], AbstractContextManager[object]] = nullcontext,
) -> Tensor:
    """Add to `.grad` the gradient of one large batch that is encoded in small ones; equal to it but for rounding.

    Encode all without gradient, take the objective's gradient in the features, then encode each micro-batch again and
    go backward from there: GradCache, Gao et al. 2021 (arXiv:2101.06983), section 3.2. Costs one more forward pass of
    the encoders; activations are held for one micro-batch at a time.

    Args:
        encode: micro-batch -> image_features, text_features, both [micro-batch, dim]; its draws must come from
            torch's generators, which are wound back for the second pass, and no layer may couple samples (batch norm)
        micro_batches: together this process's rows of the batch, in the order of the objective's `groups`
        objective: features of all those rows, [batch, dim] -> loss; close over `groups` and `world`
        no_sync: entered around all micro-batches but the last, so that gradients travel once: DDP's `no_sync`, or a
            context that turns FSDP2's `set_requires_gradient_sync` off and on

    Returns:
        The loss, detached. The generators stand where one pass over the micro-batches leaves them.

    Raises:
        TrainingError: a micro-batch's features differed between the passes, so the gradient is wrong
    """
    if len(micro_batches) == 1:
        loss = objective(*encode(micro_batches[0]))
        loss.backward()
        return loss.detach()
    draws, cache = _encode_all(encode, micro_batches)
    loss, gradients = _gradients_in_features(objective, cache)
    drifts = []
    for i, micro_batch in enumerate(micro_batches):
        with no_sync() if i < len(micro_batches) - 1 else nullcontext():
            draws[i].restore()
            features = encode(micro_batch)
            _backward_from(features, gradients[i])
        drifts.append(_distance(features, cache[i]))
    _check_same(torch.stack(drifts).max())
    return loss


class _Draws(NamedTuple):
    """States of torch's generators: the CPU's, and the current CUDA device's where one is in use."""

    cpu: Tensor
    cuda: Tensor | None

    @classmethod
    def now(cls) -> _Draws:
        return cls(torch.get_rng_state(), torch.cuda.get_rng_state() if torch.cuda.is_initialized() else None)

    def restore(self) -> None:
        torch.set_rng_state(self.cpu)
        if self.cuda is not None:
            torch.cuda.set_rng_state(self.cuda)


def _encode_all(
    encode: Callable[[MicroBatch], Features], micro_batches: Sequence[MicroBatch]
) -> tuple[list[_Draws], list[Features]]:
    """Of each micro-batch, what its draws started from, and its features without gradient."""
    draws, cache = [], []
    with torch.no_grad():
        for micro_batch in micro_batches:
            draws.append(_Draws.now())
            cache.append(encode(micro_batch))
    return draws, cache


def _gradients_in_features(
    objective: Callable[[Tensor, Tensor], Tensor], cache: list[Features]
) -> tuple[Tensor, list[Features]]:
    """The loss, and its gradient in the features of each micro-batch; the objective's own parameters get theirs."""
    image_features, text_features = (torch.cat(side).requires_grad_() for side in zip(*cache, strict=True))
    loss = objective(image_features, text_features)
    loss.backward()
    sizes = [len(features) for features, _ in cache]
    of_images, of_texts = (_gradient(side).split(sizes) for side in (image_features, text_features))
    return loss.detach(), list(zip(of_images, of_texts, strict=True))


def _gradient(leaf: Tensor) -> Tensor:
    return torch.zeros_like(leaf) if leaf.grad is None else leaf.grad


def _backward_from(features: Features, gradients: Features) -> None:
    """Backward through a number whose gradient in the features is the given one; a frozen tower's take none."""
    torch.stack([(f * g).sum() for f, g in zip(features, gradients, strict=True)]).sum().backward()


def _distance(features: Features, others: Features) -> Tensor:
    apart = [(f.detach() - o).abs().max() / o.abs().max().clamp(min=1) for f, o in zip(features, others, strict=True)]
    return torch.stack(apart).max()


def _check_same(drift: Tensor) -> None:
    if drift > SAME:  # the one time that the host waits for the device
        raise TrainingError(
            f"encoding a micro-batch twice gave features {drift.item():.2g} apart, so its gradient would be wrong: "
            "encode must draw from torch's generators only and must not change between calls"
        )
