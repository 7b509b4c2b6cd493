"""Every family and pair of towers at its smallest: configurations, batches, steps whose numbers are kept, and ranks."""

from __future__ import annotations

import dataclasses
import itertools
import multiprocessing
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor

from curate.demo.scenes import english, scene
from tests.training_smoke.ranks import Cut, flat, last_state
from training_smoke import train as loop
from training_smoke.abilities import Answerer, Captioner, Encoders, Matcher
from training_smoke.config import Config, scale
from training_smoke.distributed import World
from training_smoke.evaluate.encoders import Able, able
from training_smoke.families import FAMILIES, NAMES, PAIRS, family
from training_smoke.families.base import Moment, NoSettings
from training_smoke.learners import Learner, learner_of
from training_smoke.loader import Batch
from training_smoke.optimiser import adamw, set_rate
from training_smoke.packs import Pack
from training_smoke.sampling import Sampling
from training_smoke.writers import read_metrics

BATCH = 8
STEPS = 2  # of `steps_of`: the second sees what the first left, and lies in the second half of the run
RATE = (
    0.05  # of plain descent in `steps_of`: a gradient of another size is seen in what follows, as under AdamW it is not
)
PAIRS_BY_HEART, STEPS_BY_HEART = 32, 200
SAMPLINGS = (
    Sampling("greedy", max_tokens=6),
    Sampling("beam", max_tokens=6),
    Sampling("nucleus", max_tokens=6, seed=1),
)
SPEEDS = ("samples_per_s", "wait_share", "mfu", "left_s")
SMALLER: dict[str, dict[str, Any]] = {
    "blip": {"width": 32, "queue": 12},
    "albef": {"width": 32, "queue": 12},
    "blip2": {"matched": 1.0},
    "llava": {"alignment": 0.5},
}
"""Settings of families whose `tiny` is larger than such tests need; of queues, so few that they are full at
once; of BLIP-2 all rows, of LLaVA both stages."""

BY_HEART = {"llava": {"questions": 0.0}}  # captions are described, as they are asked for
SIDES = {"blip2": 24, "blip2_generate": 24}
"""Pixels a side of families whose patches ask for another number than 32."""


def small(name: str, smaller: bool = True, **changes: Any) -> Config:
    """The scale `tiny` with small pictures, short texts and batches of eight; a checkpoint every other step. smaller:
    with the settings of `SMALLER`."""
    towers = {"image_size": SIDES.get(name, 16 if name in PAIRS else 32), "context": 8 if name in PAIRS else 12}
    config = scale("tiny", name).but(
        towers=towers, samples=4 * BATCH, batch=BATCH, micro_batch=None, log_every=1, save_every=2,
        optimiser={"warmup": 0}, settings=SMALLER.get(name, {}) if smaller else {},
    )  # fmt: skip
    return config.but(**changes)


# ------------------------------------------------------------------------------------------- batches


def texts(count: int) -> list[str]:
    """Captions, no two alike."""
    return [f"{i} {english(scene(i), i)}" for i in range(count)]


def drawn_images(count: int, size: int) -> Tensor:
    """uint8 [count, 3, size, size]: a colour and a slope each, with noise."""
    draws = torch.Generator().manual_seed(5)
    colour = torch.randint(0, 200, (count, 3, 1, 1), generator=draws)
    noise = torch.randint(0, 56, (count, 3, size, size), generator=draws)
    return (colour + noise).to(torch.uint8)


@cache
def all_images(size: int) -> Tensor:
    return drawn_images(STEPS * BATCH, size)


def batch_of(learner: Learner, step: int, rows: slice = slice(None)) -> Batch:
    """Rows of the global batch of a step; two pairs of it are duplicates of each other, one of them over both ranks."""
    whole = slice(step * BATCH, (step + 1) * BATCH)
    images = all_images(learner.model.image_size)[whole][rows]
    tokens = learner.model.tokenize(texts(STEPS * BATCH)[whole])[rows]
    groups = torch.tensor([0, 1, 2, 3, 4, 1, 2, 5])
    assert len(groups) == BATCH
    return Batch(step, images, tokens, [f"{i:032x}" for i in range(len(images))], groups[rows], 0.0)


# ------------------------------------------------------------------------------------------- steps


def alone() -> World:
    return World(0, 1, torch.device("cpu"), None)


def started(config: Config, world: World) -> Learner:
    """The learner as the loop has it before its first step."""
    learner = learner_of(config, world)
    learner.wrap()
    for module in learner.modules.values():
        module.train()
    return learner


def steps_of(config: Config, world: World) -> dict[str, Tensor]:
    """Losses, gradients and, at the end, weights and buffers of two steps of plain descent, by name."""
    learner, found = started(config, world), {}
    part = BATCH // world.size
    rows = slice(world.rank * part, (world.rank + 1) * part)
    for step in range(STEPS):
        moment = Moment(step, STEPS, seed=3, world=world.group)
        losses = learner.backward(batch_of(learner, step, rows), moment)
        learner.before_update(moment)
        found |= {f"{step}/loss/{name}": value for name, value in losses.items()}
        with torch.no_grad():
            for name, parameter in trained(learner).items():
                if parameter.grad is not None:
                    found[f"{step}/gradient/{name}"] = whole(parameter.grad)
                    parameter -= RATE * parameter.grad
                    parameter.grad = None
        learner.after_step(moment)
    kept = {f"{part}/{n}": v for part, module in learner.kept.items() for n, v in module.state_dict().items()}
    return found | {f"state/{name}": whole(value) for name, value in kept.items()}


def trained(learner: Learner) -> dict[str, torch.nn.Parameter]:
    """What an optimiser is to be given, by its name in a checkpoint."""
    return {
        f"{part}/{name}": parameter
        for part, module in learner.kept.items()
        for name, parameter in module.named_parameters()
        if parameter.requires_grad
    }


def whole(value: Tensor) -> Tensor:
    """All of a tensor, a copy, also where FSDP holds a part of it."""
    value = value.detach()
    return (value.full_tensor() if hasattr(value, "full_tensor") else value).clone()


@dataclass(frozen=True)
class SameDraws(Moment):
    """A moment that draws the same for every row, so that rows can change places."""

    def uniform(self, salt: str, rows: int, width: int = 1, device: torch.device | str = "cpu") -> Tensor:
        one = super().uniform(salt, 1, width)
        return one.expand(rows, width).to(device)


def losses_of(learner: Learner, images: Tensor | None = None, tokens: Tensor | None = None) -> dict[str, float]:
    """Losses of the first batch, its pictures or texts in another order (int64 [batch]); nothing is learned."""
    batch = batch_of(learner, 0)
    here = torch.arange(BATCH)
    i, t = (here if order is None else order for order in (images, tokens))
    groups = batch.groups[i] if batch.groups is not None and torch.equal(i, t) else None
    batch = replace(batch, images=batch.images[i], tokens=batch.tokens[t], groups=groups)
    found = learner.backward(batch, SameDraws(0, STEPS, seed=3))
    for module in learner.modules.values():
        module.zero_grad(set_to_none=True)
    return {name: value.item() for name, value in found.items()}


# ------------------------------------------------------------------------------------------- what a model says


def said_by(model: Able, rows: slice = slice(None)) -> dict[str, Any]:
    """All that a model is able to say of four pictures and texts, or some of them: tensors or strings, a row each."""
    images, captions, keys = (
        drawn_images(4, model.image_size)[rows],
        texts(4)[rows],
        [f"key {i}" for i in range(4)][rows],
    )
    found: dict[str, Any] = {}
    if isinstance(model, Encoders):
        with torch.no_grad():
            found |= {"images": model.encode_images(images), "texts": model.encode_texts(captions)}
    if isinstance(model, Captioner):
        sums, counts = model.caption_loss(images, captions)
        found |= {"caption_loss": sums, "caption_tokens": counts}
        found |= {how.kind: model.caption(images, how, keys) for how in SAMPLINGS}
    if isinstance(model, Matcher):
        found["match"] = model.match(images, captions)
    if isinstance(model, Answerer):
        questions = ["is there a circle?", "what colour is it?", "how many are there?", "is there a star?"][rows]
        found["answer"] = model.answer(images, questions, SAMPLINGS[0], keys)
    return found


def similarities(model: Encoders, images: Tensor, captions: list[str]) -> Tensor:
    """float [n, n], higher is nearer: as evaluation ranks them."""
    with torch.no_grad():
        return vectors(model.encode_images(images)) @ vectors(model.encode_texts(captions)).T


def vectors(features: Tensor) -> Tensor:
    return features.float().cpu()


def overfitted(name: str) -> Able:
    """A model after two hundred steps over the same pairs, without decay and without smoothing of targets."""
    smoothing = {f.name: 0.0 for f in dataclasses.fields(settings_of(name)) if "smoothing" in f.name}
    rate = 2e-3 if name == "blip" else 1e-3  # captions are one of its three tasks
    changes = {"lr": rate, "weight_decay": 0.0, "warmup": 10 * PAIRS_BY_HEART, "clip_norm": 1.0}
    config = small(
        name, smaller=False, batch=PAIRS_BY_HEART, samples=STEPS_BY_HEART * PAIRS_BY_HEART, optimiser=changes,
        settings={**smoothing, **BY_HEART.get(name, {})}, towers={"context": 40 if name == "llava" else 24},
    )  # fmt: skip
    learner = started(config, alone())
    optimiser = adamw(learner.modules, config.optimiser)
    images = drawn_images(PAIRS_BY_HEART, learner.model.image_size)
    tokens = learner.model.tokenize(texts(PAIRS_BY_HEART))
    batch = Batch(0, images, tokens, [f"{i:032x}" for i in range(PAIRS_BY_HEART)], None, 0.0)
    for step in range(config.steps):
        set_rate(optimiser, learner.rate((step + 1) * config.batch))
        torch.manual_seed(step)
        loop.one_step(learner, optimiser, batch, Moment(step, config.steps, 0))
    return able(learner.model)


def settings_of(name: str) -> type:
    return NoSettings if name in PAIRS else family(name).Settings


# ------------------------------------------------------------------------------------------- runs


def run(folder: Path, config: Config, pack: Pack, cut: int | None = None) -> None:
    """Train on the CPU; cut: leave it when so many steps are done."""
    if cut is None:
        loop.train(folder, config, {pack: 1.0}, device="cpu")
        return
    plain, left = loop.one_step, iter(range(cut))

    def one_step(*arguments: Any) -> Any:
        if next(left, None) is None:
            raise Cut
        return plain(*arguments)

    loop.one_step = one_step  # type: ignore[assignment]
    try:
        loop.train(folder, config, {pack: 1.0}, device="cpu")
    except Cut:
        return
    finally:
        loop.one_step = plain
    raise AssertionError("it was not cut off")


def told(folder: Path) -> list[dict[str, Any]]:
    """Metrics without what clocks say."""
    return [{n: v for n, v in line.items() if n not in SPEEDS} for line in read_metrics(folder)]


def state_of(folder: Path) -> dict[str, Any]:
    """Leaves of a run's last checkpoint: weights, optimiser and guard."""
    return flat(last_state(folder))


# ------------------------------------------------------------------------------------------- ranks


def by_two(folder: Path, names: Sequence[str] = NAMES) -> None:
    """`steps_of` of every name by two processes, under DDP and FSDP, saved as <sharding>-<name>.pt."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(
        [
            "torch._dynamo",
            "torch.distributed.fsdp",
            "training_smoke.train",
            *(f.split(":")[0] for f in FAMILIES.values()),
        ]
    )
    mp.start_processes(_be_rank, args=(str(folder), tuple(names)), nprocs=2, start_method="forkserver")


def _be_rank(rank: int, folder: str, names: tuple[str, ...]) -> None:
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    world = World(rank, 2, torch.device("cpu"), dist.group.WORLD)
    for name, how in itertools.product(names, ("ddp", "fsdp")):
        try:
            found = steps_of(small(name, sharding=how), world)
        except Exception as e:
            e.add_note(f"{name} under {how}")
            raise
        if rank == 0:
            torch.save(found, f"{folder}/{how}-{name}.pt")
    dist.destroy_process_group()
