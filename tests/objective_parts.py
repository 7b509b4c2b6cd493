"""Objectives on small batches: features of the specification's table, definitions as loops, and ranks that train."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from training_smoke.objectives import CLIP, MERU, SigLIP, cached_step
from training_smoke.objectives.blip2 import query_contrast
from training_smoke.objectives.caption import caption_loss
from training_smoke.objectives.coca import coca_loss
from training_smoke.objectives.gather import Shards
from training_smoke.objectives.itc import Contrast, itc_loss
from training_smoke.objectives.itm import hard_negatives, itm_loss
from training_smoke.objectives.mlm import mlm_loss

IMAGES = torch.tensor([[0.6, 0.8], [1, 0], [0, 1]], dtype=torch.float64)
TEXTS = F.normalize(torch.tensor([[0.8, 0.6], [1, 1], [-1, 1]], dtype=torch.float64))


def double(value: float) -> Tensor:
    return torch.tensor(value, dtype=torch.float64)


def unit_rows(rows: int, dim: int, seed: int) -> Tensor:
    return F.normalize(torch.from_numpy(np.random.default_rng(seed).normal(size=(rows, dim))))


# ------------------------------------------------------------------------------------------- definitions, pair by pair


def clip_by_loops(images: Tensor, texts: Tensor, scale: float, groups: Tensor) -> float:
    def one_way(queries: Tensor, answers: Tensor) -> float:
        total = 0.0
        for i in range(len(queries)):
            allowed = [j for j in range(len(answers)) if j == i or groups[j] != groups[i]]
            odds = [math.exp(scale * float(queries[i] @ answers[j])) for j in allowed]
            total -= math.log(odds[allowed.index(i)] / sum(odds))
        return total / len(queries)

    return (one_way(images, texts) + one_way(texts, images)) / 2


def siglip_by_loops(images: Tensor, texts: Tensor, scale: float, bias: float, groups: Tensor) -> float:
    total = 0.0
    for i in range(len(images)):
        for j in range(len(texts)):
            if i == j or groups[i] != groups[j]:
                sign = 1 if i == j else -1
                total += math.log1p(math.exp(-sign * (scale * float(images[i] @ texts[j]) + bias)))
    return total / len(images)


class Lorentz(NamedTuple):
    """What MERU learns beside its towers, as factors."""

    scale: float = 1 / 0.07
    curvature: float = 1.0
    image: float = 1.0
    text: float = 1.0


def meru_by_loops(images: Tensor, texts: Tensor, groups: Tensor, at: Lorentz, weight: float = 0.2) -> float:
    """By hyperbolic trigonometry: a pair and the origin are a triangle with two sides and an angle known."""
    images, texts = at.image * images / math.sqrt(images.shape[1]), at.text * texts / math.sqrt(texts.shape[1])
    n, root = len(images), math.sqrt(at.curvature)

    def sides(i: int, j: int) -> tuple[float, float, float, float]:
        """(to image, to text, between them, angle at the text), sides times root."""
        a, b = root * float(images[i].norm()), root * float(texts[j].norm())
        cosine = float(images[i] @ texts[j] / (images[i].norm() * texts[j].norm()))
        d = math.acosh(max(math.cosh(a) * math.cosh(b) - math.sinh(a) * math.sinh(b) * cosine, 1.0))
        law = (math.cosh(b) * math.cosh(d) - math.cosh(a)) / (math.sinh(b) * math.sinh(d))
        return a, b, d, math.acos(min(max(law, -1.0), 1.0))

    def one_way(odds: Callable[[int, int], float]) -> float:
        total = 0.0
        for i in range(n):
            allowed = [j for j in range(n) if j == i or groups[j] != groups[i]]
            total -= odds(i, i) - math.log(sum(math.exp(odds(i, j)) for j in allowed))
        return total / n

    def likeness(i: int, j: int) -> float:
        return -at.scale * sides(i, j)[2] / root

    outside = 0.0
    for i in range(n):
        _, b, _, angle = sides(i, i)
        cone = math.asin(min(0.2 / math.sinh(b), 1.0))
        outside += max(0.0, math.pi - angle - cone) / n
    return (one_way(likeness) + one_way(lambda i, j: likeness(j, i))) / 2 + weight * outside


# ------------------------------------------------------------------------------------ one training step, on many ranks

BATCH = 8
PIXELS, WORDS = unit_rows(BATCH, 6, seed=1), unit_rows(BATCH, 6, seed=2)
GROUPS = torch.tensor([0, 1, 0, 2, 3, 3, 4, 0])  # duplicates within ranks and across them


class LinearTowers(nn.Module):
    """Two linear maps with dropout between unit vectors, in double precision."""

    def __init__(self, dropout: float = 0.0) -> None:
        super().__init__()
        self.image, self.text = (nn.Linear(6, 5, bias=False, dtype=torch.float64) for _ in range(2))
        self.dropout = nn.Dropout(dropout)
        for seed, tower in enumerate((self.image, self.text), 3):
            tower.weight.data = unit_rows(5, 6, seed)

    def forward(self, pixels: Tensor, words: Tensor) -> tuple[Tensor, Tensor]:
        images, texts = self.image(self.dropout(pixels)), self.text(self.dropout(words))
        return F.normalize(images), F.normalize(texts)


class Whole(nn.Module):
    """Towers and objective as one module with a loss, as one may give it to DDP."""

    def __init__(self, towers: nn.Module, objective: nn.Module) -> None:
        super().__init__()
        self.towers, self.objective = towers, objective

    def forward(self, pixels: Tensor, words: Tensor, groups: Tensor | None, world: dist.ProcessGroup) -> Tensor:
        loss: Tensor = self.objective(*self.towers(pixels, words), groups, world)
        return loss


class Case(NamedTuple):
    """Which objective; whether duplicates are masked; step: the objective beside DDP, inside it, or features cached."""

    objective: str
    grouped: bool
    step: str

    def __str__(self) -> str:
        return f"{self.objective} {'groups' if self.grouped else 'plain'} {self.step}"


class Written(nn.Module):
    """A loss of families as an objective on features: what else it reads are functions of each pair."""

    def __init__(self, loss: Callable[..., Tensor]) -> None:
        super().__init__()
        self.loss = loss

    def forward(
        self, images: Tensor, texts: Tensor, groups: Tensor | None = None, world: dist.ProcessGroup | None = None
    ) -> Tensor:
        return self.loss(images, texts, groups, world)


def _contrast(images: Tensor, texts: Tensor, groups: Tensor | None, world: dist.ProcessGroup | None) -> Contrast:
    slow = [F.normalize(side.detach() + 0.4 * side.detach().roll(1, 1)) for side in (images, texts)]
    queues = {"image_queue": unit_rows(4, 5, seed=7), "text_queue": unit_rows(4, 5, seed=8)}
    return itc_loss(images, texts, *slow, double(0.3), alpha=0.3, groups=groups, world=world, **queues)


def _itc(images: Tensor, texts: Tensor, groups: Tensor | None, world: dist.ProcessGroup | None) -> Tensor:
    return _contrast(images, texts, groups, world).loss


def _itm(images: Tensor, texts: Tensor, groups: Tensor | None, world: dist.ProcessGroup | None) -> Tensor:
    """Head and fusion are a product; negatives are drawn, by a number that each text gives, and gathered."""
    uniform = texts.detach().abs()[:, :2].clamp(max=0.999)
    wrong = hard_negatives(_contrast(images, texts, groups, world), uniform, groups=groups, world=world)
    shards = Shards(world)
    all_images, all_texts = shards.gather(images), shards.gather(texts)
    seen = torch.cat([images, all_images[wrong.images], images])
    read = torch.cat([texts, texts, all_texts[wrong.texts]])
    match = 3 * (seen * read).sum(dim=1)
    return itm_loss(torch.stack([-match, match], dim=1), wrong.labels, world=world)


def _caption(images: Tensor, texts: Tensor, groups: Tensor | None, world: dist.ProcessGroup | None) -> Tensor:
    """Two places a sample, one of them without a label in some: ranks have different numbers of labels."""
    return caption_loss(*_said(images, texts), smoothing=0.1, world=world)


def _mlm(images: Tensor, texts: Tensor, groups: Tensor | None, world: dist.ProcessGroup | None) -> Tensor:
    logits, labels = _said(images, texts)
    return mlm_loss(logits, labels, logits.detach().roll(1, 2), alpha=0.4, world=world)


def _said(images: Tensor, texts: Tensor) -> tuple[Tensor, Tensor]:
    logits = 4 * torch.stack([images, images * texts], dim=1)  # [batch, 2, vocabulary]
    labels = torch.stack([texts, images], dim=1).detach().argmax(dim=2)
    labels[:, 1].masked_fill_(texts[:, 0].detach() > 0, -100)
    return logits, labels


def _queries(images: Tensor, texts: Tensor, groups: Tensor | None, world: dist.ProcessGroup | None) -> Tensor:
    queries = torch.stack([images, F.normalize(images.roll(1, 1) + images)], dim=1)
    return query_contrast(queries, texts, double(0.2), groups=groups, world=world).loss


def _coca(images: Tensor, texts: Tensor, groups: Tensor | None, world: dist.ProcessGroup | None) -> Tensor:
    return coca_loss(images, texts, double(1.5), *_said(images, texts), groups=groups, world=world).loss


MAKE: dict[str, Callable[[], nn.Module]] = {
    "clip": lambda: CLIP().double(),
    "siglip": lambda: SigLIP(init_bias=-2.0).double(),
    "meru": lambda: MERU(init_scale=3.0, init_curvature=1.5).double(),
    "siglip-chunked": lambda: SigLIP(init_bias=-2.0, chunk=3).double(),
}
OF_FAMILIES: dict[str, Callable[[], nn.Module]] = {
    "itc": lambda: Written(_itc),
    "itm": lambda: Written(_itm),
    "caption": lambda: Written(_caption),
    "mlm": lambda: Written(_mlm),
    "blip2": lambda: Written(_queries),
    "coca": lambda: Written(_coca),
}
CASES = [
    Case(o, grouped, step)
    for o in (*MAKE, *OF_FAMILIES)
    for grouped in (False, True)
    for step in ("beside", "inside", "cached")
]


def step_alone(case: Case) -> dict[str, Tensor]:
    """The loss of the whole batch and its gradient in every parameter, in one process, without a cache."""
    towers, objective = LinearTowers(), (MAKE | OF_FAMILIES)[case.objective]()
    loss = objective(*towers(PIXELS, WORDS), GROUPS if case.grouped else None)
    loss.backward()
    return {"loss": loss.detach()} | _gradients(towers, objective)


def step_sharded(case: Case, world: dist.ProcessGroup) -> dict[str, Tensor]:
    """The same, as a rank of `world` sees it after its step."""
    towers, objective = LinearTowers(), (MAKE | OF_FAMILIES)[case.objective]()
    batch, rank = BATCH // dist.get_world_size(world), dist.get_rank(world)
    rows = slice(rank * batch, (rank + 1) * batch)
    pixels, words, groups = PIXELS[rows], WORDS[rows], GROUPS[rows] if case.grouped else None
    if case.step == "inside":
        whole = DistributedDataParallel(Whole(towers, objective), process_group=world)
        loss = whole(pixels, words, groups, world)
        loss.backward()
    else:
        wrapped = DistributedDataParallel(towers, process_group=world)
        criterion = partial(objective, groups=groups, world=world)
        if case.step == "beside":
            loss = criterion(*wrapped(pixels, words))
            loss.backward()
        else:
            halves = list(zip(pixels.chunk(2), words.chunk(2), strict=True))
            loss = cached_step(lambda half: wrapped(*half), halves, criterion, no_sync=wrapped.no_sync)
    mean = loss.detach().clone()
    dist.all_reduce(mean, group=world)
    return {"loss": mean / dist.get_world_size(world)} | _gradients(towers, objective)


def _gradients(*modules: nn.Module) -> dict[str, Tensor]:
    return {name: p.grad for module in modules for name, p in module.named_parameters() if p.grad is not None}


def be_rank(rank: int, folder: Path) -> None:
    """One process of four: every case over worlds of four ranks, of two (their own pair), and of one; saved by rank."""
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder / 'store'}", rank=rank, world_size=4)
    worlds = {size: dist.new_subgroups(size)[0] for size in (4, 2, 1)}
    found = {size: {str(case): step_sharded(case, world) for case in CASES} for size, world in worlds.items()}
    torch.save(found, folder / f"{rank}.pt")
    dist.destroy_process_group()
