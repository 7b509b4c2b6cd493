"""LLaVA's loss is transformers', of answers only; stages freeze to the bit; micro-batches change nothing."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.training_smoke.families.llava_parts import FIRST, SECOND, TEXTS, config, mini, pictures
from tests.training_smoke.families.waits import waits_after_pictures
from tests.training_smoke.pack_parts import thirty
from training_smoke import checkpoint
from training_smoke.config import Optimiser, Towers, scale
from training_smoke.distributed import World
from training_smoke.errors import TrainingError
from training_smoke.families import family
from training_smoke.families.base import Moment
from training_smoke.families.llava import PLAIN, TALK, Llava
from training_smoke.families.llava_generate import expanded
from training_smoke.learners import learner_of
from training_smoke.loader import Batch
from training_smoke.objectives.caption import IGNORED
from training_smoke.packs import Pack
from training_smoke.sampling import Sampling
from training_smoke.train import batches, train

torch.set_num_threads(1)
GREEDY = (Sampling("greedy", max_tokens=6), ["a"])


@pytest.fixture(scope="module")
def pack(tmp_path_factory: pytest.TempPathFactory) -> Pack:
    return Pack.open(thirty(tmp_path_factory.mktemp("pack")))


@pytest.fixture(autouse=True)
def _cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CURATE_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))


def by_hand(model: Llava, images: Tensor, form: Tensor) -> float:
    """From transformers' own forward over prompts with as many <image> as there are patches, token by token."""
    total, count = 0.0, 0
    for image, (ids, labels) in zip(images, form.tolist(), strict=True):
        at = ids.index(model.chat.image)
        ids = ids[:at] + [model.chat.image] * model.patches + ids[at + 1 :]
        labels = labels[:at] + [IGNORED] * model.patches + labels[at + 1 :]
        with torch.no_grad():
            logits = model.model(
                input_ids=torch.tensor([ids]), pixel_values=model.normalised(image[None])
            ).logits[0].double()  # fmt: skip
        for place, label in enumerate(labels[1:]):
            if label != IGNORED:
                odds = [math.exp(x - float(logits[place].max())) for x in logits[place].tolist()]
                total -= math.log(odds[label] / sum(odds))
                count += 1
    return total / count


# ---------------------------------------------------------------- the loss


@pytest.mark.parametrize(("moment", "form"), [(FIRST, PLAIN), (SECOND, TALK)])
@pytest.mark.parametrize("settings", [{}, {"layer": -1, "cls": True, "template": "vicuna", "questions": 1.0}])
def test_it_is_the_likelihood_of_answers(moment: Moment, form: int, settings: dict[str, Any]) -> None:
    model = mini(context=128, **settings).eval()
    tokens, images = model.tokenize(TEXTS), pictures()
    assert tokens.shape == (4, 2, 2, 128)
    with torch.no_grad():
        (loss,) = model(images, tokens, None, moment).values()
    assert loss.item() == pytest.approx(by_hand(model, images, tokens[:, form]), abs=1e-5)
    assert model(images, tokens[:, form], None, moment)["loss"].item() == pytest.approx(loss.item(), abs=1e-6)


def test_transformers_own_loss_is_the_same() -> None:
    model = mini().eval()
    images, (ids, labels) = pictures(), model.tokenize(TEXTS)[:, TALK].unbind(dim=1)
    ids, was = expanded(ids, model.chat.image, model.patches)
    pixels = model.normalised(images)
    theirs = model.model(input_ids=ids, pixel_values=pixels, labels=labels.gather(1, was)).loss
    ours = model(images, torch.stack([*model.tokenize(TEXTS)[:, TALK].unbind(dim=1)], dim=1), None, SECOND)["loss"]
    assert ours.item() == pytest.approx(theirs.item(), abs=1e-5)
    ours.backward()
    found = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    theirs.backward()
    for name, gradient in found.items():
        torch.testing.assert_close(gradient, model.get_parameter(name).grad, atol=1e-5, rtol=1e-4)


def test_the_picture_matters_and_so_does_what_was_asked() -> None:
    model = mini().eval()
    tokens, images = model.tokenize(TEXTS[:2]), pictures(2)
    losses = [model(i, tokens, None, SECOND)["loss"].item() for i in (images, images.flip(0))]
    assert abs(losses[0] - losses[1]) > 1e-3
    assert model.answer(images[:1], ["what is it?"], *GREEDY) != model.answer(images[:1], ["where is this?"], *GREEDY)


def test_padding_changes_nothing() -> None:
    short, long = mini(context=48).eval(), mini(context=96).eval()
    images = pictures()
    ours, theirs = (m(images, m.tokenize(TEXTS), None, SECOND)["loss"].item() for m in (short, long))
    assert ours == theirs


def test_expanded() -> None:
    ids, was = expanded(torch.tensor([[1, 4, 7, 8], [4, 5, 6, 9]]), image=4, patches=3)
    assert ids.tolist() == [[1, 4, 4, 4, 7, 8], [4, 4, 4, 5, 6, 9]]
    assert was.tolist() == [[0, 1, 1, 1, 2, 3], [0, 0, 0, 1, 2, 3]]


def test_a_text_that_learns_nothing_is_no_nan() -> None:
    model = mini(context=16)
    long = ['[{"from": "human", "value": "' + "why " * 20 + '"}, {"from": "gpt", "value": "so"}]']
    loss = model(pictures(1), model.tokenize(long), None, SECOND)["loss"]
    assert loss.item() == 0
    loss.backward()


# ---------------------------------------------------------------- parts of a batch


@pytest.mark.parametrize("moment", [FIRST, SECOND])
def test_micro_batches_are_the_batch(moment: Moment) -> None:
    """Though they are of other lengths, and sorted by them."""
    world = World(0, 1, torch.device("cpu"), None)
    found = []
    for micro_batch in (None, 2, 1):
        learner = learner_of(config(micro_batch=micro_batch), world)
        learner.wrap()
        model = learner.model
        assert isinstance(model, Llava)
        losses = learner.backward(Batch(0, pictures(), model.tokenize(TEXTS), [], None, 0.0), moment)
        learner.before_update(moment)
        gradients = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
        found.append((losses["loss"].item(), gradients))
    for loss, gradients in found[1:]:
        assert loss == pytest.approx(found[0][0], abs=1e-5)
        assert gradients.keys() == found[0][1].keys()
        for name, gradient in gradients.items():
            torch.testing.assert_close(gradient, found[0][1][name], atol=1e-6, rtol=1e-3)


def test_lengths_and_weights_are_of_what_is_learned() -> None:
    model = mini()
    tokens = model.tokenize(TEXTS)
    for form in (tokens[:, PLAIN], tokens[:, TALK], tokens):
        rows = form if form.ndim == 3 else form[:, TALK]
        last = [max(i for i, label in enumerate(row) if label != IGNORED) + 1 for row in rows[:, 1].tolist()]
        assert model.lengths(form).tolist() == last
        assert model.weight(form) == sum(label != IGNORED for label in rows[:, 1].flatten().tolist())
    assert model.read(tokens, FIRST).equal(tokens[:, PLAIN])
    assert model.read(tokens, SECOND).equal(tokens[:, TALK])


# ---------------------------------------------------------------- stages


def parts_changed(before: dict[str, Tensor], after: dict[str, Tensor]) -> set[str]:
    names = ("vision_tower", "multi_modal_projector", "language_model", "lm_head")
    return {next(n for n in names if n in key) for key in before if not torch.equal(before[key], after[key])}


@pytest.mark.parametrize("train_vision", [False, True])
def test_stages_freeze_to_the_bit(tmp_path: Path, pack: Pack, train_vision: bool) -> None:
    said = config(settings={"train_vision": train_vision})
    start = Llava.build(said.towers, said.settings, said.init_seed).state_dict()
    train(tmp_path / "run", said, {pack: 1.0}, device="cpu")
    second = checkpoint.load(checkpoint.path_of(tmp_path / "run/checkpoints", 8))
    train(tmp_path / "half", said.but(samples=16, settings={"alignment": 1.0}), {pack: 1.0}, device="cpu")
    first = checkpoint.load(checkpoint.path_of(tmp_path / "half/checkpoints", 4))
    assert parts_changed(start, first["towers"]) == {"multi_modal_projector"}
    assert len(first["optimiser"]["state"]) == 4  # two layers, weight and bias: no other has moments
    after = {"multi_modal_projector", "language_model", "lm_head"} | ({"vision_tower"} if train_vision else set())
    assert parts_changed(start, second["towers"]) == after
    steps = {float(kept["step"]) for kept in second["optimiser"]["state"].values()}
    assert steps == {4.0, 8.0}  # of what stage 2 trains alone, and of the projector


@pytest.mark.parametrize(("left", "resident"), [(3, True), (5, True), (5, False)])
def test_a_stop_in_either_stage_changes_nothing(
    tmp_path: Path, pack: Pack, monkeypatch: pytest.MonkeyPatch, left: int, resident: bool
) -> None:
    from training_smoke import train as loop

    said, plain, calls = config(settings={"group_steps": 3}, resident=resident), loop.one_step, 0
    whole = train(tmp_path / "whole", said, {pack: 1.0}, device="cpu").state_dict()

    def cut(*arguments: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls > left:
            raise KeyboardInterrupt
        return plain(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(loop, "one_step", cut)
        with pytest.raises(KeyboardInterrupt):
            train(tmp_path / "cut", said, {pack: 1.0}, device="cpu")
    found = train(tmp_path / "cut", said, {pack: 1.0}, device="cpu").state_dict()
    assert all(torch.equal(found[name], value) for name, value in whole.items())


def test_texts_are_put_together_by_length_whether_pixels_are_resident_or_not(pack: Pack) -> None:
    def uids(**changes: Any) -> list[str]:
        said, world = config(**changes), World(0, 1, torch.device("cpu"), None)
        model = Llava.build(said.towers, said.settings, 0)
        return [uid for batch in batches({pack: 1.0}, said, model, world, start=0) for uid in batch.uids]

    grouped, plain = uids(settings={"group_steps": 8}, resident=False), uids(resident=False)
    assert grouped == uids(settings={"group_steps": 8}) != plain
    assert sorted(grouped) == sorted(plain)


def test_in_stage_one_no_other_gradient_is_computed() -> None:
    model = mini(alignment=0.5)
    needed = {n for n, p in model.named_parameters() if p.requires_grad}
    model(pictures(), model.tokenize(TEXTS), None, FIRST)["loss"].backward()
    assert {n for n, p in model.named_parameters() if p.requires_grad} == needed
    assert all(("projector" in n) == (p.grad is not None) for n, p in model.named_parameters())


def test_each_stage_has_its_rate() -> None:
    model = mini(alignment=0.5, second_rate=0.1)
    settings = Optimiser(lr=2.0, warmup=20)  # of 200 samples: a tenth of each stage
    rates = [model.rate(settings, samples, 200) for samples in (5, 10, 55, 100, 105, 110, 155, 200)]
    expected = [1.0, 2.0, 1.0, 0.0, 0.1, 0.2, 0.1, 0.0]
    assert rates == pytest.approx(expected, abs=1e-12)
    alone = mini(alignment=0.0)
    assert [alone.rate(settings, s, 200) for s in (10, 110, 200)] == pytest.approx(
        [settings.lr * settings.multiple(s, 200) for s in (10, 110, 200)]
    )


@pytest.mark.parametrize("layer", [-1, -2])
def test_what_features_do_not_come_from_is_not_trained(layer: int) -> None:
    """DDP waits for gradients of all that is."""
    model = mini(layer=layer)
    model(pictures(), model.tokenize(TEXTS), None, SECOND)["loss"].backward()
    assert all((p.grad is not None) == p.requires_grad for p in model.parameters())
    frozen = {n for n, p in model.named_parameters() if not p.requires_grad}
    assert all("vision_tower" in n for n in frozen)
    assert any("layers.1." in n for n in frozen) == (layer == -2)


def test_checkpointing_changes_no_gradient() -> None:
    found = []
    for checkpointing in (False, True):
        model = Llava.build(Towers("mini", context=64, checkpointing=checkpointing), {"alignment": 0.5}, 0).train()
        assert isinstance(model, Llava)
        loss = model(pictures(), model.tokenize(TEXTS), None, FIRST)["loss"]
        loss.backward()
        found.append({n: p.grad for n, p in model.named_parameters() if "projector" in n})
    for name, gradient in found[0].items():
        torch.testing.assert_close(gradient, found[1][name])


# ---------------------------------------------------------------- what it refuses


def test_no_text_of_the_web_ends_a_training() -> None:
    """A system's turn would stand before the picture, which a row has to have: such turns are a caption, as others."""
    long = '[{"from": "system", "value": "' + "be brief " * 20 + '"}, ' + TEXTS[3][1:]
    model = mini(context=32)
    tokens = model.tokenize([long, '[{"from": "gpt", "value": "x"}]', *TEXTS])
    assert (tokens[:, :, 0] == model.chat.image).sum(dim=2).tolist() == [[1, 1]] * (2 + len(TEXTS))


def test_of_nan_nothing_is_said() -> None:
    model = mini()
    for parameter in model.parameters():
        parameter.data.fill_(math.nan)
    with pytest.raises(TrainingError, match="logits of the next token have NaN"):
        model.answer(pictures(1), ["what is it?"], *GREEDY)


@pytest.mark.parametrize(
    ("towers", "settings", "said"),
    [
        ({"name": "/no/such-llava"}, {}, "llava of /no/such-llava: "),
        ({"name": "mini", "image_size": 48}, {}, None),
        ({"name": "mini", "image_size": 40}, {}, "image_size 40 is no multiple of the patch, 16"),
        ({"name": "mini", "context": 400}, {}, "beside 4 patches of the picture this .* positions for 253 tokens"),
        ({"name": "mini", "context": 4}, {}, "context 4: template roles has 13 tokens"),
        ({"name": "tiny"}, {"template": "vicuna"}, "context 40: template vicuna has 61 tokens with a request"),
        ({"name": "mini"}, {"layer": 3}, r"settings.layer 3: this vision tower has 2 layers"),
        ({"name": "mini"}, {"layer": -4}, r"settings.layer -4: this vision tower has 2 layers"),
        ({"name": "mini"}, {"template": "alpaca"}, "template 'alpaca': there are roles, vicuna, chatml"),
        ({"name": "mini"}, {"alignment": 1.5}, "between 0 and 1"),
        ({"name": "mini"}, {"language": "/no/such-model"}, "llava of mini, /no/such-model: "),
        ({"name": "mini", "weights": "/no/such-weights"}, {}, "llava of mini, /no/such-weights: "),
        ({"name": "mini"}, {"colour": 1}, "has no settings colour"),
    ],
)
def test_what_is_not_there_is_said(towers: dict[str, Any], settings: dict[str, Any], said: str | None) -> None:
    if said is None:
        assert Llava.build(Towers(**towers), settings, 0).image_size == 48
        return
    with pytest.raises(TrainingError, match=said):
        Llava.build(Towers(**towers), settings, 0)


@pytest.mark.parametrize("name", Llava.scales)
def test_scales_are_configurations(name: str) -> None:
    found = scale(name, "llava")
    checked = family("llava").checked(found.settings)
    assert checked.group_steps == (1 if name == "tiny" else 50)
    assert found.samples % found.batch == 0


@pytest.mark.parametrize(("name", "least", "most"), [("half-billion", 0.55e9, 0.95e9), ("7b", 6.5e9, 7.5e9)])
def test_sizes_have_as_many_parameters_as_their_names_say(name: str, least: float, most: float) -> None:
    with torch.device("meta"):
        model = Llava.build(Towers(name), {}, 0)
    assert all(p.is_meta for p in model.parameters())
    assert least < sum(p.numel() for p in model.parameters()) < most


def test_the_device_is_asked_before_pictures_are_on_their_way() -> None:
    """Afterwards by transformers alone, once: whether several texts stand in one row."""
    model = mini()
    tokens = model.tokenize(TEXTS)
    before, after = waits_after_pictures(lambda: model(pictures(), tokens, None, SECOND))
    assert before
    assert after <= 1
