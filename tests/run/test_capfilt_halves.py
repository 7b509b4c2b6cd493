"""CapFilt's halves of a BLIP: what each learns and what it leaves, what their files are, and going on after a stop."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.optim.optimizer import register_optimizer_step_post_hook

from curate.run.capfilt.half import JUDGING, WRITING, Half, HalfSettings, halves
from curate.run.capfilt.start import KINDS, Kind, Start
from curate.run.capfilt.tune import tuned
from stages import hub_weights
from tests.run.capfilt_parts import blip, clean_pack, config
from tests.stages.test_hub_weights import in_cache
from tests.training_smoke.families.blip_cases import CAPTIONS, MOMENT, SETTINGS, TOWERS, made, pictures
from training_smoke.errors import TrainingError
from training_smoke.export import export_model
from training_smoke.families import FAMILIES, family
from training_smoke.families.blip import Blip
from training_smoke.packs import Pack
from training_smoke.sampling import Sampling
from training_smoke.towers_file import load_model, read_file


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("capfilt")


@pytest.fixture(scope="module")
def clean(root: Path) -> Pack:
    return clean_pack(root)


@pytest.fixture(scope="module")
def weights(root: Path, clean: Pack) -> Path:
    return blip(root, clean)


@pytest.fixture(autouse=True)
def cache(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CURATE_CACHE", str(root / "cache"))


def half(losses: tuple[str, ...]) -> Half:
    built = Half.build(TOWERS, SETTINGS | {"losses": list(losses)}, seed=0)
    assert isinstance(built, Half)
    return built


def learned(losses: dict[str, Tensor], model: Blip) -> dict[str, Tensor]:
    losses["loss"].backward()  # type: ignore[no-untyped-call]
    return {n: p.grad for n, p in model.named_parameters() if p.grad is not None}


# ---------------------------------------------------------------------------------------------- losses


def test_the_halves_losses_are_those_of_the_whole() -> None:
    """To the bit, and their gradients add up to its gradient."""
    tokens, images = made().tokenize(CAPTIONS), pictures()
    whole, writer, judge = made(), half(WRITING), half(JUDGING)
    found = [model.train()(images, tokens, None, MOMENT) for model in (whole, writer, judge)]
    for name in JUDGING:
        assert torch.equal(found[0][name], found[2][name])
    torch.testing.assert_close(found[0]["lm"], found[1]["lm"], rtol=0, atol=0)
    assert (set(found[1]), set(found[2])) == ({"loss", "lm"}, {"loss", "itc", "itm"})
    torch.testing.assert_close(found[1]["loss"] + found[2]["loss"], found[0]["loss"])
    of_whole, *parts = (learned(f, m) for f, m in zip(found, (whole, writer, judge), strict=True))
    for name, gradient in of_whole.items():
        total = sum(part[name] for part in parts if name in part)
        torch.testing.assert_close(total, gradient, rtol=1e-4, atol=1e-6)


def test_with_all_losses_it_is_the_family() -> None:
    tokens = made().tokenize(CAPTIONS)
    one, other = (m.eval()(pictures(), tokens, None, MOMENT) for m in (made(), half((*JUDGING, *WRITING))))
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("losses", [(), ("itm",), ("lm", "itc", "itm"), ("itc",), ("mlm",)])
def test_other_losses_are_refused(losses: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match=r"losses are \[lm\]"):
        HalfSettings(losses=losses)


def test_the_setting_is_there_in_the_block_alone() -> None:
    before = dict(FAMILIES)
    with halves():
        assert family("blip") is Half
    assert before == FAMILIES
    with pytest.raises(TrainingError, match="no towers"), halves():
        raise TrainingError("no towers")
    assert before == FAMILIES
    assert family("blip") is Blip


# ---------------------------------------------------------------------------------------------- fine-tuning


def moved(weights: Path, path: Path) -> set[str]:
    """Names of parameters that are other than they were; those of momentum encoders left out."""
    before, after = (dict(load_model(p).named_parameters()) for p in (weights, path))
    return {n for n in before if not n.startswith("slow") and not torch.equal(before[n], after[n])}


def test_each_half_moves_what_its_losses_look_at(root: Path, weights: Path, clean: Pack) -> None:
    start = Start.of(str(weights), batch=4)
    captioner, judge = (tuned(root / "halves", kind, start, clean, epochs=2) for kind in KINDS)
    written, read = moved(weights, captioner), moved(weights, judge)
    assert any("decoder" in n for n in written)
    assert not any("decoder" in n for n in read)
    for only in ("encoders.text.encoder.layer.0.attention", "matching", "encoders.text_projection", "tau"):
        assert any(n.startswith(only) for n in read)
        assert not any(n.startswith(only) for n in written)
    for both in ("encoders.vision", "encoders.text.encoder.layer.0.crossattention"):
        assert any(n.startswith(both) for n in read)
        assert any(n.startswith(both) for n in written)


def test_a_half_is_a_model_of_the_family(root: Path, weights: Path, clean: Pack) -> None:
    """Which says nothing of losses, so that all that reads models of the judge reads it; its training's own folder
    does, and says what it began with and on which pairs."""
    start = Start.of(str(weights), batch=4)
    path = tuned(root / "kinds", "filter", start, clean, epochs=1)
    said = read_file(path)["about"]
    assert type(load_model(path)) is Blip
    assert "losses" not in said["config"]["settings"]
    assert said["tuned"]["settings"]["losses"] == ["itc", "itm"]
    assert (said["began"], said["digest"], said["capfilt"]) == (start.digest, clean.digest, "filter")
    kept = json.loads((root / "kinds" / "filter" / "config.json").read_text())
    assert kept == said["tuned"]
    assert kept["towers"]["weights"] == str(weights)
    assert not list((root / "kinds" / "filter" / "checkpoints").iterdir())


@pytest.mark.parametrize("what", ["run", "export", "retrieval", "captioning"])
@pytest.mark.filterwarnings("ignore:.*its weights are drawn at random")
def test_of_whatever_a_blip_lies_in(what: str, root: Path, weights: Path, clean: Pack) -> None:
    if not (root / "exported").exists():
        export_model(weights, root / "exported")
    folder = {"run": root / "blip", "export": root / "exported"}.get(what, root / "exported" / what)
    start = Start.of(str(folder), batch=4)
    path = tuned(root / what, "captioner", start, clean, epochs=1)
    model = load_model(path)
    assert isinstance(model, Blip)
    assert len(model.caption(pictures(2), Sampling("nucleus", max_tokens=5), ["a", "b"])) == 2
    again = Start.of(str(path), batch=4)  # and of what came of it
    assert again.digest != start.digest
    assert tuned(root / f"{what}-again", "filter", again, clean, epochs=1).exists()


def test_sizes_and_rates(weights: Path, clean: Pack) -> None:
    """A cosine over whole epochs of the pairs that there are."""
    plain = Start.of(str(weights)).config("captioner", clean)
    assert (plain.batch, plain.samples) == (12, 5 * 12)  # 64 in a batch, and there are 12 pairs
    assert plain.optimiser.lr == pytest.approx(3e-4)
    asked = Start.of(str(weights), batch=4, rate=1e-5).config("filter", clean, epochs=3, seed=5)
    assert (asked.batch, asked.samples, asked.optimiser.lr) == (4, 36, 1e-5)
    assert (asked.init_seed, asked.order_seed, asked.settings["losses"]) == (5, 5, ["itc", "itm"])
    assert asked.optimiser.warmup <= asked.samples // 10


@pytest.mark.parametrize("kind", KINDS)
def test_a_stopped_training_goes_on_to_the_same_weights(
    kind: Kind, root: Path, weights: Path, clean: Pack, tmp_path: Path
) -> None:
    start = Start.of(str(weights), batch=4)
    steps = 0

    def stop(*_: Any) -> None:
        nonlocal steps
        steps += 1
        if steps == 4:
            raise KeyboardInterrupt

    handle = register_optimizer_step_post_hook(stop)
    try:
        with pytest.raises(KeyboardInterrupt):
            tuned(tmp_path / "stopped", kind, start, clean, epochs=2)
    finally:
        handle.remove()
    assert not (tmp_path / "stopped" / f"{kind}.pt").exists()
    assert len(list((tmp_path / "stopped" / kind / "checkpoints").glob("*.pt"))) == 2
    one = tuned(tmp_path / "stopped", kind, start, clean, epochs=2)
    other = tuned(tmp_path / "whole", kind, start, clean, epochs=2)
    first, second = (load_model(p).state_dict() for p in (one, other))
    assert all(torch.equal(first[n], second[n]) for n in first)


def test_what_is_there_is_not_trained_again_and_another_is_refused(
    weights: Path, clean: Pack, root: Path, tmp_path: Path
) -> None:
    start = Start.of(str(weights), batch=4)
    path = tuned(tmp_path, "captioner", start, clean, epochs=1)
    before = path.stat().st_mtime_ns
    assert tuned(tmp_path, "captioner", start, clean, epochs=1).stat().st_mtime_ns == before
    with pytest.raises(TrainingError, match=r"another fine-tuning \(another tuned\): give another --out"):
        tuned(tmp_path, "captioner", start, clean, epochs=2)


def test_another_machine_goes_on_with_it(weights: Path, clean: Pack, tmp_path: Path) -> None:
    """One without a GPU computes in fp32, and the model may lie elsewhere: that is no other fine-tuning."""
    there = Start.of(str(weights), batch=4)
    path = tuned(tmp_path, "captioner", replace(there, base=there.base.but(precision="bf16")), clean, epochs=1)
    before = path.stat().st_mtime_ns
    moved = tmp_path / "moved.pt"
    moved.write_bytes(weights.read_bytes())
    here = Start.of(str(moved), batch=4)
    assert (here.base.precision, here.weights) != ("bf16", there.weights)
    (tmp_path / "captioner" / "config.json").unlink()
    assert tuned(tmp_path, "captioner", here, clean, epochs=1).stat().st_mtime_ns == before


def test_a_training_goes_on_in_the_precision_that_it_began_with(weights: Path, clean: Pack, tmp_path: Path) -> None:
    start = Start.of(str(weights), batch=4)

    def stop(*_: Any) -> None:
        raise KeyboardInterrupt

    handle = register_optimizer_step_post_hook(stop)
    try:
        with pytest.raises(KeyboardInterrupt):
            tuned(tmp_path, "captioner", replace(start, base=start.base.but(precision="bf16")), clean, epochs=1)
    finally:
        handle.remove()
    path = tuned(tmp_path, "captioner", start, clean, epochs=1)
    assert read_file(path)["about"]["tuned"]["precision"] == "bf16"


@pytest.mark.filterwarnings("ignore:.*its weights are drawn at random")
def test_a_name_of_the_hub_is_one_commit(
    root: Path, weights: Path, clean: Pack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`main` that has moved between the halves is another model, and said to be."""
    if not (root / "exported").exists():
        export_model(weights, root / "exported")
    hub, constants = tmp_path / "hub", pytest.importorskip("huggingface_hub").constants
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(hub))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(hub_weights, "_TAKEN", {})
    first = in_cache(hub, "some-org/blip", str(root / "exported" / "retrieval"), "a" * 40)
    start = Start.of("some-org/blip", batch=4)
    assert (start.weights, start.base.towers.weights) == (str(first), str(first))
    tuned(tmp_path, "captioner", start, clean, epochs=1)
    monkeypatch.setattr(hub_weights, "_TAKEN", {})
    in_cache(hub, "some-org/blip", str(root / "exported" / "captioning"), "b" * 40)
    with pytest.raises(TrainingError, match="another began"):
        tuned(tmp_path, "captioner", Start.of("some-org/blip", batch=4), clean, epochs=1)
    with pytest.raises(TrainingError, match="no folder 'some-org/none' here"):
        Start.of("some-org/none")


def test_what_is_no_blip_is_refused(root: Path, clean: Pack, tmp_path: Path) -> None:
    from training_smoke.models import build_model
    from training_smoke.towers_file import save_model

    other = config(objective="albef", settings={}, towers={"image_size": 16})
    other = type(other)(**{**vars(other), "settings": {k: v for k, v in other.settings.items() if k != "smoothing"}})
    save_model(tmp_path / "albef.pt", build_model(other), other, {})
    with pytest.raises(TrainingError, match="a model of albef: CapFilt begins with a BLIP"):
        Start.of(str(tmp_path / "albef.pt"))
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    (tmp_path / "run" / "config.json").write_text(json.dumps(config().as_json()))
    with pytest.raises(TrainingError, match="no checkpoint yet"):
        Start.of(str(tmp_path / "run"))


def test_several_processes_are_refused(
    weights: Path, clean: Pack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(TrainingError, match="without torchrun"):
        tuned(tmp_path, "filter", Start.of(str(weights)), clean)
