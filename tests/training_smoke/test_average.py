"""Averages of weights: what counts how much, and the same again after a stop."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch.optim.optimizer import register_optimizer_step_post_hook

from tests.training_smoke.pack_parts import thirty
from training_smoke import train as loop
from training_smoke.average import PARTS, Average, averaging
from training_smoke.config import Config, Optimiser, Towers
from training_smoke.errors import TrainingError
from training_smoke.packs import Pack

SMALL = Config(
    towers=Towers("tiny-conv", image_size=16, context=8),
    optimiser=Optimiser(lr=1e-2, warmup=8),
    samples=96,
    batch=8,
    log_every=4,
    save_every=5,
)


@pytest.fixture(scope="module")
def pack(tmp_path_factory: pytest.TempPathFactory) -> Pack:
    return Pack.open(thirty(tmp_path_factory.mktemp("pack")))


@pytest.fixture(autouse=True)
def _cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CURATE_CACHE", str(tmp_path_factory.getbasetemp() / "averages"))
    torch.set_num_threads(1)


@pytest.mark.parametrize("said", ["ema:0.999", "ema:0.5", "last:2", "last:20"])
def test_said_again_as_it_was_said(said: str) -> None:
    assert str(Average.parse(said)) == said


@pytest.mark.parametrize(
    "said", ["", "ema", "ema:", "ema:1", "ema:0", "ema:x", "last:1", "last:21", "last:2.5", "mean:3"]
)
def test_what_makes_no_sense_is_refused(said: str) -> None:
    with pytest.raises(TrainingError, match=r"it is ema:D with D between 0 and 1, .*or last:K"):
        Average.parse(said)


def mean_of(average: Average, values: list[float]) -> float:
    found = 0.0
    for step, value in enumerate(values, 1):
        found += (value - found) * average.share(step, len(values))
    return found


@pytest.mark.parametrize("steps", [1, 2, 7, 19, 20, 40, 100])
def test_shares_are_those_of_a_mean(steps: int) -> None:
    values = [float(i) for i in range(1, steps + 1)]
    for last in range(2, PARTS + 1):
        points = {steps - round(part * steps / PARTS) for part in range(last)} - {0}
        assert mean_of(Average(last=last), values) == pytest.approx(sum(points) / len(points))
    assert mean_of(Average(decay=1 - 1e-9), values) == pytest.approx(sum(values) / steps)
    assert mean_of(Average(decay=0.5), [3.0] * steps) == pytest.approx(3.0)


def test_an_exponential_mean_by_hand() -> None:
    # shares 1, 1/2, 1/3, 1/4, 1/4: decay 0.75 rules from the fourth step on
    assert mean_of(Average(decay=0.75), [1, 2, 3, 4, 8]) == pytest.approx(2.5 + (8 - 2.5) / 4)


@pytest.mark.parametrize("said", ["ema:0.8", "last:5"])
def test_the_mean_is_of_the_weights_that_were_trained(tmp_path: Path, pack: Pack, said: str) -> None:
    average, seen = Average.parse(said), []

    def keep(optimiser: torch.optim.Optimizer, *_: object) -> None:
        seen.append({id(p): p.detach().double() for group in optimiser.param_groups for p in group["params"]})

    handle = register_optimizer_step_post_hook(keep)
    with averaging(tmp_path / "run", SMALL, average) as mean:
        towers = loop.train(tmp_path / "run", SMALL, {pack: 1.0}, device="cpu")
        handle.remove()
        last = {name: p.detach().clone() for name, p in towers.named_parameters()}
        mean.put_into(towers)
    assert len(seen) == SMALL.steps == 12
    for name, parameter in towers.named_parameters():
        expected = seen[0][id(parameter)]
        for step, now in enumerate(seen[1:], 2):
            expected = expected + (now[id(parameter)] - expected) * average.share(step, SMALL.steps)
        torch.testing.assert_close(parameter.detach().double(), expected, rtol=0, atol=1e-6)
        assert not torch.equal(last[name], parameter)


def test_a_stop_half_way_changes_nothing(tmp_path: Path, pack: Pack, monkeypatch: pytest.MonkeyPatch) -> None:
    def averaged(folder: Path) -> dict[str, torch.Tensor]:
        with averaging(folder, SMALL, Average(decay=0.8)) as mean:
            towers = loop.train(folder, SMALL, {pack: 1.0}, device="cpu")
            mean.put_into(towers)
        return towers.state_dict()

    class Cut(Exception):
        pass

    whole, plain, calls = averaged(tmp_path / "whole"), loop.one_step, 0

    def cut(*arguments: object) -> object:
        nonlocal calls
        calls += 1
        if calls > 8:  # three steps after the checkpoint: they are done again
            raise Cut
        return plain(*arguments)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(loop, "one_step", cut)
        with pytest.raises(Cut):
            averaged(tmp_path / "cut")
    for _ in range(2):  # goes on; and, finished, is the same again
        again = averaged(tmp_path / "cut")
        assert all(torch.equal(again[name], whole[name]) for name in whole)
    assert len(list((tmp_path / "cut/checkpoints").glob("average-*.pt"))) == 2


def test_a_run_without_an_average_cannot_have_one_later(tmp_path: Path, pack: Pack) -> None:
    loop.train(tmp_path / "run", SMALL, {pack: 1.0}, device="cpu")
    with pytest.raises(TrainingError, match="was trained without this average"):
        with averaging(tmp_path / "run", SMALL, Average(decay=0.9)):
            pass


def test_nothing_is_averaged_outside_the_block(tmp_path: Path, pack: Pack) -> None:
    with averaging(tmp_path / "run", SMALL, Average(decay=0.8)) as mean:
        pass
    loop.train(tmp_path / "run", SMALL, {pack: 1.0}, device="cpu")
    assert mean.step == 0
