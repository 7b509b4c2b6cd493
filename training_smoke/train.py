"""Train two towers, or a family, on packs: one loop, on one process or many, from nothing or from where it was.

    python -m training_smoke.train runs/a --pack packs/none@0123456789ab --scale tiny
    torchrun --nproc-per-node 8 -m training_smoke.train runs/a --pack s3://bucket/packs/x --scale small

The folder says all about the run: config.json, packs.json, environment.json, metrics.jsonl (a line per interval),
checkpoints/. Run again, with as many processes or others, it goes on from its last checkpoint: on a CPU k steps, a stop
and k more are 2k steps, bit for bit on up to two processes (of more, gloo adds in an order of its own), as the order of
samples and all random draws are functions of the step and all else that matters is in the checkpoint.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from training_smoke import checkpoint
from training_smoke.checkpoint import alone
from training_smoke.config import SCALES, Config, scale
from training_smoke.distributed import World
from training_smoke.errors import TrainingError
from training_smoke.families import NAMES
from training_smoke.families.base import Family, Losses, Moment
from training_smoke.guard import Guard
from training_smoke.learners import Learner, learner_of
from training_smoke.loader import Batch, Loader
from training_smoke.models import Model
from training_smoke.optimiser import adamw, clip, set_rate
from training_smoke.packs import Pack
from training_smoke.provenance import begin_folder
from training_smoke.resident import ResidentLoader
from training_smoke.speed import Speed, flops_per_sample, matmul_flops
from training_smoke.writers import Metrics

Packs = Mapping[Pack, float]
"""Packs and the shares of a batch that they give."""


def train(
    folder: Path, config: Config, packs: Packs, *, device: str | None = None, to: Sequence[str] = (), quiet: bool = True
) -> Model:
    """Train to the horizon; the model, on this process's device (under FSDP its share of them: `load_towers` has all).

    Args:
        to: further writers of metrics: "tensorboard", "wandb".

    Raises:
        TrainingError: the folder is another run's or being trained, the number of processes does not divide the batch
            or micro-batch, a sample cannot be read, or the loss diverged.
    """
    with ExitStack() as ends:
        world = ends.enter_context(World.join(device))
        ends.enter_context(world.own_draws())
        if world.first:
            ends.enter_context(alone(folder))

        # ------------------------------------------------------------------------------ what is trained
        check_parts(config, world)
        learner = learner_of(config, world)
        flops = flops_per_sample(learner.model)
        learner.wrap()
        optimiser = adamw(learner.modules, config.optimiser)
        guard = Guard(config.spike)

        # ------------------------------------------------------------------------------ where it stands
        if world.first:
            begin_folder(folder, config, {pack.url: pack.digest for pack in packs}, world)
        world.wait()
        trained = {**learner.kept, "optimiser": optimiser}
        step = restored(folder, trained, guard, world)
        metrics = ends.enter_context(Metrics(folder, step, to, quiet)) if world.first else None
        left = config.samples - step * config.batch
        speed = Speed(flops, peak(world, config), config.batch, left)

        # ------------------------------------------------------------------------------ the loop
        for batch in batches(packs, config, learner.model, world, start=step):
            rate = learner.rate((step + 1) * config.batch)
            set_rate(optimiser, rate)
            world.draw_by(config.order_seed, step)
            losses, norm = one_step(
                learner, optimiser, batch, Moment(step, config.steps, config.order_seed, world.group)
            )
            guard.step(step, losses["loss"], batch.uids)
            speed.step(batch.wait_s)
            step += 1

            last = step == config.steps
            if step % config.log_every == 0 or last:
                loss_now = guard.look()[-1]
                if metrics is not None:
                    about = {**told(losses), "loss": loss_now, "lr": rate, "grad_norm": norm.item(), **learner.told()}
                    metrics.add(step=step, samples=step * config.batch, **about, **speed.told())
            if last or (config.save_every and step % config.save_every == 0):
                guard.look()
                if metrics is not None:
                    metrics.settle()
                save(folder, step, trained, guard, world)
        return learner.model


def one_step(learner: Learner, optimiser: torch.optim.Optimizer, batch: Batch, moment: Moment) -> tuple[Losses, Tensor]:
    """Forward, backward, step; (losses of the global batch, norm of the gradient), all still on the device."""
    losses = learner.backward(batch, moment)
    learner.before_update(moment)
    norm = clip(optimiser, learner.config.optimiser.clip_norm, moment.world)
    optimiser.step()
    optimiser.zero_grad(set_to_none=True)
    learner.after_step(moment)
    return losses, norm


def told(losses: Losses) -> dict[str, float]:
    """Of a step, for the log; the device is waited for."""
    return {name: value.item() for name, value in losses.items()}


def batches(packs: Packs, config: Config, model: Model, world: World, start: int) -> Iterator[Batch]:
    """This process's part of each step from `start` to the horizon."""
    course: dict[str, Any] = {
        "packs": packs,
        "batch": config.batch,
        "size": model.image_size,
        "seed": config.order_seed,
        "steps": config.steps,
        "start_step": start,
        "tokenize": model.tokenize,
        "rank": world.rank,
        "world": world.size,
        "groups": config.mask_duplicates,
        "workers": config.workers,
    }
    if isinstance(model, Family):
        course |= {"lengths": model.lengths, "group_steps": model.group_steps}
    if not config.resident:
        return iter(Loader(**course))
    return iter(ResidentLoader(**course, device=world.device, frozen=getattr(model, "frozen", None)))


def restored(folder: Path, trained: Mapping[str, Any], guard: Guard, world: World) -> int:
    """Take up the last checkpoint where there is one; how many steps it has behind it."""
    found = checkpoint.checkpoints(folder / "checkpoints") if world.first else []
    step = world.agreed(checkpoint.step_of(found[-1]) if found else 0)
    if step == 0:
        return 0
    state = checkpoint.load(checkpoint.path_of(folder / "checkpoints", step))
    checkpoint.restore(trained, state)
    guard.mean, guard.seen = state["guard"]
    return step


def save(folder: Path, step: int, trained: Mapping[str, Any], guard: Guard, world: World) -> None:
    """All that the next step depends on."""
    state = {name: part.state_dict() for name, part in trained.items()}
    state = checkpoint.gathered(state | {"step": step, "guard": (guard.mean, guard.seen)}, keep=world.first)
    if world.first:
        checkpoint.save(folder / "checkpoints", state)
    world.wait()


def check_parts(config: Config, world: World) -> None:
    """Each process has an equal part of all that is encoded at a time."""
    for name, rows in (("batch", config.batch), ("micro_batch", config.micro_batch)):
        if rows is not None and rows % world.size:
            raise TrainingError(f"{world.size} processes cannot share a {name} of {rows} equally")


def peak(world: World, config: Config) -> float:
    """Floating-point operations a second that MFU is told of, over all processes."""
    return world.size * matmul_flops(world.device, torch.bfloat16 if config.precision == "bf16" else torch.float32)


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m training_smoke.train", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("folder", type=Path, help="of the run; one that was begun goes on")
    parser.add_argument("--pack", action="append", required=True, help="path or URL; several: equal shares")
    parser.add_argument("--scale", choices=sorted(SCALES), default="tiny", help="model, batch and samples seen")
    parser.add_argument("--config", type=Path, help="a config.json in place of --scale")
    parser.add_argument("--objective", choices=NAMES, help="what is trained; default: clip")
    parser.add_argument("--seed", type=int, help="of weights and order both")
    parser.add_argument("--to", action="append", default=[], choices=("tensorboard", "wandb"))
    said = parser.parse_args(arguments)
    try:
        config = Config.load(said.config) if said.config else scale(said.scale, said.objective)
        if said.config and said.objective:
            config = replace(config, objective=said.objective)
        if said.seed is not None:
            config = replace(config, init_seed=said.seed, order_seed=said.seed)
        train(said.folder, config, {Pack.open(url): 1.0 for url in said.pack}, to=said.to, quiet=False)
    except TrainingError as e:
        print(f"error: {e}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
