"""A batch in micro-batches, by cached features, is the batch: loss, every gradient, and the draws of dropout."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

import pytest
import torch
from objective_parts import GROUPS, MAKE, PIXELS, WORDS, LinearTowers
from torch import Tensor, nn
from torch.nn import functional as F

from training_smoke.errors import TrainingError
from training_smoke.objectives import CLIP, cached_step

SIZES = (3, 1, 4)
MicroBatch = tuple[Tensor, Tensor]
MICRO_BATCHES: list[MicroBatch] = list(zip(PIXELS.split(SIZES), WORDS.split(SIZES), strict=True))


def encoder(towers: nn.Module) -> Callable[[MicroBatch], tuple[Tensor, Tensor]]:
    return lambda micro_batch: towers(*micro_batch)


def gradients(*modules: nn.Module) -> list[Tensor | None]:
    return [p.grad for module in modules for p in module.parameters()]


@pytest.mark.parametrize("dropout", [0.0, 0.5])
@pytest.mark.parametrize("grouped", [False, True])
@pytest.mark.parametrize("name", MAKE)
def test_cached_is_one_large_batch(name: str, grouped: bool, dropout: float) -> None:
    groups = GROUPS if grouped else None

    towers, objective = LinearTowers(dropout), MAKE[name]()
    torch.manual_seed(0)
    features = [towers(*micro_batch) for micro_batch in MICRO_BATCHES]  # all activations held: what is to be saved
    expected = objective(*(torch.cat(side) for side in zip(*features, strict=True)), groups)
    expected.backward()
    draw_after = torch.rand(())

    cached_towers, cached_objective = LinearTowers(dropout), MAKE[name]()
    torch.manual_seed(0)
    loss = cached_step(encoder(cached_towers), MICRO_BATCHES, partial(cached_objective, groups=groups))

    assert not loss.requires_grad
    torch.testing.assert_close(loss, expected.detach(), rtol=0, atol=1e-13)
    torch.testing.assert_close(
        gradients(cached_towers, cached_objective), gradients(towers, objective), rtol=0, atol=1e-13
    )
    assert torch.rand(()) == draw_after


@pytest.mark.parametrize("name", MAKE)
def test_the_mean_over_micro_batches_is_another_loss(name: str) -> None:
    """Why nothing offers it: on these samples neither the loss nor a gradient is the batch's."""
    towers, naive_towers, objective = LinearTowers(), LinearTowers(), MAKE[name]()
    loss = cached_step(encoder(towers), MICRO_BATCHES, objective)
    naive = torch.stack([objective(*naive_towers(*b)) * len(b[0]) / len(PIXELS) for b in MICRO_BATCHES]).sum()
    naive.backward()
    assert abs(naive - loss) > 0.1
    for cached, wrong in zip(gradients(towers), gradients(naive_towers), strict=True):
        assert cached is not None
        assert wrong is not None
        assert F.cosine_similarity(cached.flatten(), wrong.flatten(), dim=0) < 0.99


def test_gradients_are_added_to_those_there() -> None:
    towers, objective = LinearTowers(), MAKE["clip"]()
    cached_step(encoder(towers), MICRO_BATCHES, objective)
    once = [g.clone() for g in gradients(towers, objective) if g is not None]
    cached_step(encoder(towers), MICRO_BATCHES, objective)
    torch.testing.assert_close(gradients(towers, objective), [2 * g for g in once])


def test_one_micro_batch_is_encoded_once() -> None:
    towers, objective, calls = LinearTowers(), MAKE["clip"](), []

    def encode(micro_batch: MicroBatch) -> tuple[Tensor, Tensor]:
        calls.append(torch.is_grad_enabled())
        return towers(*micro_batch)

    loss = cached_step(encode, [(PIXELS, WORDS)], objective)
    assert calls == [True]
    assert not loss.requires_grad
    assert all(g is not None for g in gradients(towers, objective))


def test_a_frozen_tower_gets_no_gradient_and_the_other_gets_its_own() -> None:
    towers, frozen, objective = LinearTowers(), LinearTowers(), MAKE["clip"]()
    frozen.image.requires_grad_(False)
    cached_step(encoder(towers), MICRO_BATCHES, objective)
    cached_step(encoder(frozen), MICRO_BATCHES, objective)
    assert frozen.image.weight.grad is None
    torch.testing.assert_close(frozen.text.weight.grad, towers.text.weight.grad)


def test_all_but_the_last_micro_batch_hold_their_gradients_back() -> None:
    towers, entered, held = LinearTowers(), [], []

    @contextmanager
    def no_sync() -> Iterator[None]:
        entered.append(True)
        yield
        entered.append(False)

    def encode(micro_batch: MicroBatch) -> tuple[Tensor, Tensor]:
        if torch.is_grad_enabled():
            held.append(bool(entered and entered[-1]))
        return towers(*micro_batch)

    cached_step(encode, MICRO_BATCHES, MAKE["clip"](), no_sync=no_sync)
    assert held == [True, True, False]


def test_autocast_around_the_step_does_not_lose_gradients() -> None:
    """Before torch 2.11, autocast kept weights that the first pass had cast without gradient for the second."""

    def gradients_by(step: Callable[[nn.Module, nn.Module], object]) -> list[Tensor | None]:
        torch.manual_seed(0)
        towers, objective = nn.ModuleList(nn.Linear(6, 5) for _ in range(2)), CLIP()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            step(towers, objective)
        return gradients(towers, objective)

    def encode(towers: nn.Module, micro_batch: MicroBatch) -> tuple[Tensor, Tensor]:
        images, texts = (F.normalize(tower(x.float())) for tower, x in zip(towers, micro_batch, strict=True))
        return images, texts

    cached = gradients_by(lambda towers, objective: cached_step(partial(encode, towers), MICRO_BATCHES, objective))
    at_once = gradients_by(lambda towers, objective: objective(*encode(towers, (PIXELS, WORDS))).backward())
    torch.testing.assert_close(cached, at_once, rtol=0.02, atol=0.02)


def test_an_encoder_that_does_not_repeat_itself_is_refused() -> None:
    towers, own_draws = LinearTowers(), torch.Generator().manual_seed(0)

    def encode(micro_batch: MicroBatch) -> tuple[Tensor, Tensor]:
        pixels, words = micro_batch
        return towers(pixels + torch.randn(pixels.shape, generator=own_draws), words)

    with pytest.raises(TrainingError, match="apart"):
        cached_step(encode, MICRO_BATCHES, MAKE["clip"]())
