"""What holds for everything that the judge trains: exact resume, many processes as one, frozen to the bit, and that it
learns."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.training_smoke.families.family_parts import (
    BATCH,
    PAIRS_BY_HEART,
    SIDES,
    alone,
    batch_of,
    by_two,
    drawn_images,
    losses_of,
    overfitted,
    run,
    said_by,
    similarities,
    small,
    started,
    state_of,
    steps_of,
    texts,
    told,
    trained,
)
from tests.training_smoke.pack_parts import thirty
from training_smoke.abilities import Captioner, Encoders, Matcher
from training_smoke.checkpoint import path_of
from training_smoke.config import scale
from training_smoke.errors import TrainingError
from training_smoke.evaluate.encoders import able
from training_smoke.families import FAMILIES, NAMES, PAIRS, family
from training_smoke.families.base import Moment
from training_smoke.learners import Learner, grey, learner_of
from training_smoke.models import build_model
from training_smoke.optimiser import adamw
from training_smoke.packs import Pack
from training_smoke.towers_file import load_model, save_model

every = pytest.mark.parametrize("name", NAMES)


@pytest.fixture(scope="module")
def pack(tmp_path_factory: pytest.TempPathFactory) -> Pack:
    return Pack.open(thirty(tmp_path_factory.mktemp("pack")))


@pytest.fixture(scope="module", autouse=True)
def _cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CURATE_CACHE", str(tmp_path_factory.mktemp("cache")))
        torch.set_num_threads(1)
        yield


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of whole runs, <name>, made when first asked for."""
    return tmp_path_factory.mktemp("runs")


def whole(runs: Path, name: str, pack: Pack) -> Path:
    if not path_of(runs / name / "checkpoints", 4).exists():
        run(runs / name, small(name), pack)
    return runs / name


# ------------------------------------------------------------------------------------------- going on


@every
def test_a_stop_changes_nothing(runs: Path, pack: Pack, tmp_path: Path, name: str) -> None:
    """Stopped a step after a checkpoint: that step is done again; weights, queues, optimiser and metrics are equal."""
    folder = whole(runs, name, pack)
    run(tmp_path / "cut", small(name), pack, cut=3)
    run(tmp_path / "cut", small(name), pack)
    ours, theirs = state_of(tmp_path / "cut"), state_of(folder)
    assert ours.keys() == theirs.keys()
    differing = [n for n in ours if not _equal(ours[n], theirs[n])]
    assert differing == []
    assert told(tmp_path / "cut") == told(folder)
    assert [line["step"] for line in told(folder)] == [1, 2, 3, 4]


def _equal(a: object, b: object) -> bool:
    return torch.equal(a, b) if isinstance(a, torch.Tensor) and isinstance(b, torch.Tensor) else a == b


# ------------------------------------------------------------------------------------------- many processes


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ranks")
    by_two(folder)
    return folder


@pytest.mark.parametrize("how", ["ddp", "fsdp"])
@every
def test_two_processes_are_as_one(ranks: Path, name: str, how: str) -> None:
    """Losses, gradients, and what two steps leave of weights, momentum encoders and queues: each tensor to a
    thousandth of its length, as fp32 sums in another order. What is gathered without gradient, or has negatives of one
    rank only, is off by tenths.
    """
    check_same(torch.load(ranks / f"{how}-{name}.pt"), steps_of(small(name), alone()))


def check_same(ours: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor]) -> None:
    """What `steps_of` gives, each tensor to a thousandth of its length."""
    assert ours.keys() == theirs.keys()
    assert any("/gradient/" in n for n in theirs)
    for kind in ("loss", "0/gradient", "1/gradient", "state"):
        mine = {n: v.double() for n, v in theirs.items() if kind in n}
        length = sum(float(v.square().sum()) for v in mine.values()) ** 0.5
        apart = {n: float((ours[n].double() - v).norm()) for n, v in mine.items()}
        assert [n for n, v in mine.items() if apart[n] > 1e-3 * float(v.norm()) + 1e-6 * length] == []


@pytest.mark.parametrize("name", FAMILIES)
def test_micro_batches_are_the_batch_or_are_refused(name: str) -> None:
    """The mean of contrastive losses of small batches would be another objective."""
    cut = small(name, micro_batch=BATCH // 2)
    if not family(name).separable:
        with pytest.raises(TrainingError, match=f"micro_batch: {name} compares samples of a batch with each other"):
            learner_of(cut, alone())
        return
    check_same(steps_of(cut, alone()), steps_of(small(name), alone()))


# ------------------------------------------------------------------------------------------- order in a batch


@every
def test_the_order_of_a_batch_changes_no_loss(name: str) -> None:
    """Draws being the same for all rows: of hard negatives too, which are drawn by likeness and not by place."""
    learner = started(small(name), alone())
    order = torch.randperm(BATCH, generator=torch.Generator().manual_seed(1))
    first, other = losses_of(learner), losses_of(learner, order, order)
    assert first.keys() == other.keys()
    for n, value in first.items():
        assert other[n] == pytest.approx(value, rel=1e-4), n


@every
def test_texts_of_other_pictures_have_another_loss(name: str) -> None:
    learner = started(small(name), alone())
    assert losses_of(learner, tokens=torch.arange(BATCH).roll(1))["loss"] != losses_of(learner)["loss"]


# ------------------------------------------------------------------------------------------- what is seen


@every
def test_a_blind_step_is_of_texts_alone(name: str) -> None:
    """Its losses and gradients are those of any other pictures, to the bit; a plain one's are not."""
    size = SIDES.get(name, 16 if name in PAIRS else 32)
    pictures = [drawn_images(BATCH, size), drawn_images(BATCH, size).flip(0)]
    for blind in (True, False):
        learner = started(small(name, blind=blind), alone())
        assert learner.model.image_size == size
        ours, theirs = (step_of(learner, images) for images in pictures)
        assert ours.keys() == theirs.keys()
        same = {n for n, value in ours.items() if torch.equal(value, theirs[n])}
        assert same == ours.keys() if blind else "loss" not in same


def step_of(learner: Learner, images: torch.Tensor) -> dict[str, torch.Tensor]:
    """Losses and gradients of a step with these pictures; nothing is learned."""
    found = learner.backward(replace(batch_of(learner, 0), images=images), Moment(1, 2, seed=3))
    for name, parameter in trained(learner).items():
        if parameter.grad is not None:
            found[f"gradient of {name}"] = parameter.grad
            parameter.grad = None
    return found


def test_grey_is_one_picture_for_all() -> None:
    """Of bytes, and of what a frozen first part made of them."""
    assert grey(torch.randint(0, 256, (2, 3, 4, 4), dtype=torch.uint8)).unique().tolist() == [127]
    assert grey(torch.randn(2, 8).half()).unique().tolist() == [0]


# ------------------------------------------------------------------------------------------- what is trained


@every
def test_frozen_is_frozen_to_the_bit(pack: Pack, tmp_path: Path, name: str) -> None:
    """The largest parameter, by a pattern: it leaves the optimiser too, as does what a family does not train."""
    plain = trained(started(small(name), alone()))
    largest = max(plain, key=lambda n: plain[n].numel())
    pattern = f"^{re.escape(largest.removeprefix('towers/'))}$"
    config = small(name, optimiser={"groups": ((pattern, 0.0),)})
    learner = started(config, alone())
    rest = {n: p.detach().clone() for n, p in trained(learner).items()}
    assert rest.keys() == plain.keys() - {largest}
    given = {id(p) for group in adamw(learner.modules, config.optimiser).param_groups for p in group["params"]}
    assert given == {id(p) for p in trained(learner).values()}
    run(tmp_path / "run", config, pack)
    after = state_of(tmp_path / "run")
    assert torch.equal(after[f"/{largest}"], plain[largest])
    assert any(not torch.equal(after[f"/{n}"], before) for n, before in rest.items())


@every
def test_weights_are_a_function_of_the_seed(name: str) -> None:
    """And torch's own generator is left where it was."""
    torch.manual_seed(11)
    before = torch.get_rng_state()
    first = build_model(small(name)).state_dict()
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(12)
    again, other = (build_model(small(name, init_seed=seed)).state_dict() for seed in (0, 1))
    assert first.keys() == again.keys()
    assert [n for n in first if not torch.equal(first[n], again[n])] == []
    assert any(not torch.equal(first[n], other[n]) for n in first)


@every
def test_a_forward_pass_changes_nothing_of_the_model(name: str) -> None:
    learner = started(small(name), alone())
    before = {n: v.clone() for n, v in learner.model.state_dict().items()}
    losses_of(learner)
    assert [n for n, v in learner.model.state_dict().items() if not torch.equal(v, before[n])] == []


@pytest.mark.parametrize("name", FAMILIES)
def test_settings_that_are_none_are_refused(name: str) -> None:
    with pytest.raises(TrainingError, match="has no settings no_such_thing"):
        family(name).checked({"no_such_thing": 1})


@pytest.mark.parametrize(
    ("name", "setting", "value"),
    [("llava", "train_vision", "false"), ("llava", "lora", 1.5), ("blip", "queue", True), ("blip2", "itc", "1")],
)
def test_settings_of_another_type_are_refused(name: str, setting: str, value: Any) -> None:
    """A word in quotes is no truth value, which "false" would else be."""
    with pytest.raises(TrainingError, match=f"{setting} is {value!r}, and no "):
        family(name).checked({setting: value})


def test_whole_numbers_are_numbers() -> None:
    assert family("llava").checked({"questions": 1, "vision": None}).questions == 1


@pytest.mark.parametrize("name", FAMILIES)
def test_every_scale_of_a_family_is_a_configuration(name: str) -> None:
    """Of each the settings are the family's, and the file of a run keeps them."""
    found = {said: scale(said, name) for said in family(name).scales}
    assert "tiny" in found
    for config in found.values():
        assert config.objective == name
        family(name).checked(config.settings)
    with pytest.raises(TrainingError, match=f"{name} is not trained at scale feature"):
        scale("feature", name)


# ------------------------------------------------------------------------------------------- files and abilities


@every
def test_a_file_is_the_model(runs: Path, pack: Pack, tmp_path: Path, name: str) -> None:
    """A run's folder and the file of its weights give one model, which says the same of pictures and texts."""
    ours = load_model(whole(runs, name, pack))
    save_model(tmp_path / "towers.pt", ours, small(name), {})
    theirs = load_model(tmp_path / "towers.pt")
    assert type(theirs) is type(ours)
    first, again = ours.state_dict(), theirs.state_dict()
    assert first.keys() == again.keys()
    assert [n for n in first if not torch.equal(first[n], again[n])] == []
    said, told_again = said_by(able(ours)), said_by(able(theirs))
    assert said.keys() == told_again.keys() != set()
    assert [n for n in said if not _equal(said[n], told_again[n])] == []


@every
def test_neighbours_in_a_batch_change_nothing_that_is_said(runs: Path, pack: Pack, name: str) -> None:
    """Draws go by a picture's name, padding by its own text; numbers differ by what sums of other shapes do."""
    model = able(load_model(whole(runs, name, pack)))
    four, two = said_by(model), said_by(model, slice(2, 4))
    for what, value in two.items():
        if isinstance(value, torch.Tensor):
            torch.testing.assert_close(four[what][2:4], value, rtol=1e-4, atol=1e-4, msg=lambda m, n=what: f"{n}: {m}")
        else:
            assert four[what][2:4] == value, what


# ------------------------------------------------------------------------------------------- learning


@pytest.mark.slow  # two hundred steps of each; bench/families.py runs it
@every
def test_thirty_two_pairs_are_learned_by_heart(name: str) -> None:
    model = overfitted(name)
    images, captions = drawn_images(PAIRS_BY_HEART, model.image_size), texts(PAIRS_BY_HEART)
    checked = 0
    if isinstance(model, Encoders):
        similar = similarities(model, images, captions)
        own = torch.arange(PAIRS_BY_HEART)
        assert torch.equal(similar.argmax(1), own)
        assert torch.equal(similar.argmax(0), own)
        checked += 1
    if isinstance(model, Captioner):
        sums, counts = model.caption_loss(images, captions)
        assert float(sums.sum() / counts.sum()) < 0.1
        checked += 1
    if isinstance(model, Matcher):
        right, wrong = model.match(images, captions), model.match(images, captions[1:] + captions[:1])
        assert float((right > 0.5).float().mean() + (wrong < 0.5).float().mean()) / 2 > 0.9
        checked += 1
    assert checked
