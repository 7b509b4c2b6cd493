"""One global batch that lies over several processes, seen from one of them.

Rank r of W holds rows r * batch to (r + 1) * batch of the global batch. A contrastive loss compares its own rows with
those of all ranks, and averages over its own rows. With the two operations below,

    loss of the global batch                   =  mean over ranks of their losses,
    gradient of that loss in every parameter   =  mean over ranks of their gradients,

and the mean over ranks is what DDP and FSDP make of gradients. A gather without gradient would give the same loss and
a wrong gradient (too small by W, or even of another direction), so there is none here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


@dataclass(frozen=True)
class Shards:
    """The processes that hold one global batch: those of `group`, or this one alone where it is None.

    All methods are collective: every rank calls them in the same order, with tensors of equal shape and dtype.
    """

    group: dist.ProcessGroup | None

    def row_numbers(self, rows: Tensor) -> Tensor:
        """Where rows [batch, ...] of this rank lie in the global batch: int64 [batch]."""
        first = 0 if self.group is None else dist.get_rank(self.group) * len(rows)
        return torch.arange(first, first + len(rows), device=rows.device)

    def gather(self, rows: Tensor) -> Tensor:
        """Rows [batch, ...] of all ranks in the order of the global batch: [W * batch, ...], with gradient."""
        return rows if self.group is None else _Gather.apply(rows, self.group)

    def replicated(self, parameter: Tensor) -> Tensor:
        """A parameter of which every rank has the same copy, with the gradient averaged over ranks.

        Objectives own a scalar or two that no wrapper looks after: FSDP2 refuses scalars, and DDP knows only what its
        module's forward uses. Where a wrapper does average them as well, a mean of equal numbers changes nothing.
        """
        return parameter if self.group is None else _Replicated.apply(parameter, self.group)


class _Gather(torch.autograd.Function):
    """Backward, the rows of a rank get the sum of what the losses of all ranks make of them."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, group: dist.ProcessGroup) -> Tensor:
        ctx.group = group
        gathered = rows.new_empty(dist.get_world_size(group) * len(rows), *rows.shape[1:])
        dist.all_gather_into_tensor(gathered, rows.contiguous(), group=group)
        return gathered

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:  # type: ignore[override]
        own = gradient.new_empty(len(gradient) // dist.get_world_size(ctx.group), *gradient.shape[1:])
        dist.reduce_scatter_tensor(own, gradient.contiguous(), group=ctx.group)
        return own, None


class _Replicated(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, parameter: Tensor, group: dist.ProcessGroup) -> Tensor:
        ctx.group = group
        return parameter.view_as(parameter)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:  # type: ignore[override]
        mean = gradient / dist.get_world_size(ctx.group)
        dist.all_reduce(mean, group=ctx.group)
        return mean, None
