"""A run goes on exactly where it stopped, belongs to one folder, freezes what it says, and stops when it diverges."""

from __future__ import annotations

import json
import os
from importlib.metadata import version
from pathlib import Path

import pytest
import torch

from tests.training_smoke.pack_parts import thirty
from training_smoke import checkpoint
from training_smoke import train as loop
from training_smoke.config import SCALES, Config, Optimiser, Towers
from training_smoke.errors import TrainingError
from training_smoke.guard import Diverged, Guard
from training_smoke.optimiser import adamw
from training_smoke.packs import Pack
from training_smoke.towers import TwoTowers, build
from training_smoke.writers import read_metrics

SMALL = Config(
    towers=Towers("tiny-conv", image_size=16, context=8),
    optimiser=Optimiser(lr=1e-3, warmup=8),
    samples=96,
    batch=8,
    log_every=2,
    save_every=2,
)


@pytest.fixture(scope="module")
def pack(tmp_path_factory: pytest.TempPathFactory) -> Pack:
    return Pack.open(thirty(tmp_path_factory.mktemp("pack")))


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CURATE_CACHE", str(tmp_path / "cache"))
    torch.set_num_threads(1)


def trained(folder: Path, pack: Pack, config: Config = SMALL) -> TwoTowers:
    return loop.train(folder, config, {pack: 1.0}, device="cpu")


def same(a: TwoTowers, b: TwoTowers) -> bool:
    ours, theirs = a.state_dict(), b.state_dict()
    return ours.keys() == theirs.keys() and all(torch.equal(ours[k], theirs[k]) for k in ours)


@pytest.mark.parametrize("objective", ["clip", "siglip"])
@pytest.mark.parametrize("micro_batch", [None, 4])
def test_a_stop_half_way_changes_nothing(
    tmp_path: Path, pack: Pack, monkeypatch: pytest.MonkeyPatch, objective: str, micro_batch: int | None
) -> None:
    config = SMALL.but(objective=objective, micro_batch=micro_batch)
    whole = trained(tmp_path / "whole", pack, config)

    class Cut(Exception):
        pass

    plain, calls = loop.one_step, 0

    def cut(*arguments: object) -> object:
        nonlocal calls
        calls += 1
        if calls > 7:  # a step after the checkpoint: it is done again
            raise Cut
        return plain(*arguments)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(loop, "one_step", cut)
        with pytest.raises(Cut):
            trained(tmp_path / "cut", pack, config)
    assert [p.name for p in checkpoint.checkpoints(tmp_path / "cut/checkpoints")][-1] == "step-000000006.pt"
    assert same(trained(tmp_path / "cut", pack, config), whole)
    ours, theirs = (
        [{k: line[k] for k in ("step", "samples", "loss", "lr", "grad_norm", "scale")} for line in read_metrics(folder)]
        for folder in (tmp_path / "cut", tmp_path / "whole")
    )
    assert ours == theirs
    assert [line["step"] for line in ours] == [2, 4, 6, 8, 10, 12]


def test_a_finished_run_is_not_done_again(tmp_path: Path, pack: Pack) -> None:
    first = trained(tmp_path / "run", pack)
    before = (tmp_path / "run/metrics.jsonl").read_bytes()
    assert same(trained(tmp_path / "run", pack), first)
    assert (tmp_path / "run/metrics.jsonl").read_bytes() == before


def test_a_folder_is_one_runs(tmp_path: Path, pack: Pack) -> None:
    trained(tmp_path / "run", pack)
    with pytest.raises(TrainingError, match=r"another run.*init_seed: 0 there, 1 now"):
        trained(tmp_path / "run", pack, SMALL.but(init_seed=1))
    said = json.loads((tmp_path / "run/environment.json").read_text())
    assert (len(said["source"]), said["processes"], said["packages"]["torch"]) == (16, 1, version("torch"))
    assert (said["device_count"], said["sharding"]) == (os.cpu_count(), "none")  # tests train on the CPU
    assert json.loads((tmp_path / "run/packs.json").read_text()) == {pack.url: pack.digest}
    assert Config.load(tmp_path / "run/config.json") == SMALL


def test_it_learns(tmp_path: Path, pack: Pack) -> None:
    config = SMALL.but(samples=8 * 200, optimiser={"lr": 5e-4}, log_every=10, save_every=None)
    trained(tmp_path / "run", pack, config)
    losses = [line["loss"] for line in read_metrics(tmp_path / "run")]
    assert losses[-1] < 0.5 * losses[0]


def test_frozen_is_frozen(tmp_path: Path, pack: Pack) -> None:
    config = SMALL.but(optimiser={"groups": ((r"^image\.", 0.0), (r"^text\.", 0.1))})
    before = build(config.towers, config.init_seed).state_dict()
    after = trained(tmp_path / "run", pack, config).state_dict()
    changed = {name.split(".")[0] for name in before if not torch.equal(before[name], after[name])}
    assert changed == {"text", "image_projection", "text_projection"}


@pytest.mark.parametrize(
    ("groups", "said"), [(((r"^imgae\.", 0.0),), "no parameter has a name"), (((r"", 0.0),), "nothing is left")]
)
def test_patterns_that_make_no_sense_are_refused(groups: tuple[tuple[str, float], ...], said: str) -> None:
    with pytest.raises(TrainingError, match=said):
        adamw({"": build(SMALL.towers, 0)}, Optimiser(groups=groups))


def test_gains_and_biases_have_no_decay() -> None:
    towers = build(SMALL.towers, 0)
    optimiser = adamw({"": towers}, Optimiser(weight_decay=0.3))
    for group in optimiser.param_groups:
        assert {p.ndim > 1 for p in group["params"]} == {group["weight_decay"] == 0.3}
    assert sum(len(g["params"]) for g in optimiser.param_groups) == len(list(towers.parameters()))


@pytest.mark.parametrize(("loss", "said"), [(float("nan"), "the loss is nan"), (90.0, "leapt from 2 to 90")])
def test_divergence_names_the_samples_of_its_step(loss: float, said: str) -> None:
    guard = Guard(spike=5.0)
    for step in range(60):
        guard.step(step, torch.tensor(2.0), ["good"])
    guard.step(60, torch.tensor(loss), ["a" * 32, "b" * 32])
    guard.step(61, torch.tensor(2.0), ["good"])
    with pytest.raises(Diverged, match=said) as stopped:
        guard.look()
    assert (stopped.value.step, stopped.value.uids) == (60, ["a" * 32, "b" * 32])
    assert "a" * 32 in str(stopped.value)


def test_the_rate_warms_up_and_goes_to_nothing() -> None:
    settings = Optimiser(warmup=100)
    assert [settings.multiple(n, 1100) for n in (0, 50, 100, 600, 1100)] == pytest.approx([0, 0.5, 1, 0.5, 0])


def test_sizes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(TrainingError, match="must be a multiple of batch"):
        SMALL.but(samples=97)
    with pytest.raises(TrainingError, match="micro_batch, log_every and workers must be at least 1"):
        SMALL.but(micro_batch=0)
    with pytest.raises(TrainingError, match="must divide batch"):
        SMALL.but(micro_batch=3)
    with pytest.raises(TrainingError, match="no such setting"):
        SMALL.but(lr=1.0)


def test_scales_are_datacomps() -> None:
    """scale_configs.py of mlfoundations/datacomp: samples, batch, rate, warm-up in steps."""
    known = {
        "small": ("ViT-B-32", 12_800_000, 4096, 5e-4, 500),
        "medium": ("ViT-B-32", 128_000_000, 4096, 5e-4, 500),
        "large": ("ViT-B-16", 1_280_000_000, 8192, 5e-4, 500),
        "xlarge": ("ViT-L-14", 12_800_000_000, 90_112, 1e-3, 10_000),
    }
    for name, (model, samples, batch, lr, warmup) in known.items():
        config = SCALES[name]
        assert (config.towers.name, config.batch, config.optimiser.lr) == (model, batch, lr)
        assert 0 <= samples - config.samples < batch
        assert config.optimiser.warmup == warmup * batch


def test_a_checkpoint_that_is_none_is_named(tmp_path: Path) -> None:
    (tmp_path / "step-000000001.pt").write_bytes(b"nothing")
    with pytest.raises(TrainingError, match=r"step-000000001\.pt cannot be read"):
        checkpoint.load_newest(tmp_path)


def test_old_checkpoints_go_and_the_one_before_the_last_stays(tmp_path: Path) -> None:
    for step in range(1, 6):
        checkpoint.save(tmp_path, {"step": step})
    assert [p.name for p in checkpoint.checkpoints(tmp_path)] == ["step-000000004.pt", "step-000000005.pt"]
    assert [p.name for p in tmp_path.iterdir() if "part" in p.name] == []
