"""MERU under evaluation: products of its vectors are Lorentz's, classes are lifted means, losses are the training's."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from curate.run.compare.model import open_model
from tests.training_smoke.evaluate.evalsets import coloured, picture, write_folder
from training_smoke.config import Config, Towers
from training_smoke.evaluate import evaluate
from training_smoke.evaluate.continuous import class_loss, held_out_loss
from training_smoke.evaluate.encode import encode_texts
from training_smoke.evaluate.encoders import TowerEncoders
from training_smoke.evaluate.hyperbolic import HyperbolicEncoders, OnHyperboloid, on_hyperboloid
from training_smoke.evaluate.run import evaluate_probe
from training_smoke.evaluate.zero_shot import predict
from training_smoke.hyperbolic import distances, expm0, inners
from training_smoke.models import build_model
from training_smoke.objectives import MERU
from training_smoke.towers import TwoTowers
from training_smoke.towers_file import save_model

CONFIG = Config(objective="meru", towers=Towers("tiny-conv", image_size=16, context=8))
SAID = ["a red thing", "green", "the blue one", "red", "a dog", "nothing at all"]


def learned() -> MERU:
    objective = MERU(init_scale=4.0, init_curvature=1.6)
    objective.image_scale.data.fill_(1.2)
    objective.text_scale.data.fill_(0.7)
    return objective


@pytest.fixture(scope="module")
def towers() -> TwoTowers:
    model = build_model(CONFIG)
    assert isinstance(model, TwoTowers)
    return model.eval()


@pytest.fixture(scope="module")
def measured(towers: TwoTowers) -> tuple[HyperbolicEncoders, OnHyperboloid]:
    return on_hyperboloid(TowerEncoders(towers), learned())


@pytest.fixture(scope="module")
def images() -> Tensor:
    return torch.from_numpy(np.random.default_rng(0).integers(0, 256, (6, 3, 16, 16), np.uint8))


def features(towers: TwoTowers, images: Tensor, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
    with torch.no_grad():
        return towers.encode_images(images), towers.encode_texts(towers.tokenize(texts))


def points(towers: TwoTowers, images: Tensor, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
    """Lifted by the definition."""
    image, text = features(towers, images, texts)
    root, c = image.shape[1] ** 0.5, 1.6
    return expm0(image * float(np.exp(1.2)) / root, c), expm0(text * float(np.exp(0.7)) / root, c)


def test_products_of_vectors_are_the_inner_products_of_the_space(
    towers: TwoTowers, measured: tuple[HyperbolicEncoders, OnHyperboloid], images: Tensor
) -> None:
    model, _ = measured
    x, y = points(towers, images, SAID)
    with torch.no_grad():
        found = model.encode_images(images) @ model.encode_texts(SAID).T
    torch.testing.assert_close(found, 1.6 * inners(x, y, 1.6) + 1, rtol=1e-5, atol=1e-5)
    assert torch.equal(found.argsort(dim=1, descending=True), distances(x, y, 1.6).argsort(dim=1))


def test_near_the_origin_products_rank_as_distances(towers: TwoTowers) -> None:
    """Points .01 from the origin: -cosh of their distances is -1 to float32's last digits, and ranks nothing."""
    objective = MERU(init_curvature=1.0)
    objective.image_scale.data.fill_(0.0)
    objective.text_scale.data.fill_(0.0)
    x, y = torch.randn(2, 400, 16, generator=torch.Generator().manual_seed(0))

    class Given:
        device = torch.device("cpu")

        def encode_images(self, images: Tensor) -> Tensor:
            return 0.01 * x

        def encode_texts(self, texts: Sequence[str]) -> Tensor:
            return 0.01 * y

    model = HyperbolicEncoders(Given(), objective)  # type: ignore[arg-type]
    with torch.no_grad():
        found = model.encode_images(x) @ model.encode_texts([]).T
        wanted = -distances(objective.lift_images(0.01 * x).double(), objective.lift_texts(0.01 * y).double(), 1.0)
    places, right = (rows.argsort(dim=1).argsort(dim=1).double() for rows in (found, wanted))
    assert (places - right).abs().mean() < 1e-3


def test_the_towers_give_vectors_of_any_length_and_evaluation_leaves_them(
    towers: TwoTowers, measured: tuple[HyperbolicEncoders, OnHyperboloid]
) -> None:
    model, _ = measured
    assert not towers.unit
    assert encode_texts(model, SAID).norm(dim=1).std() > 1e-3
    with torch.no_grad():
        assert torch.equal(encode_texts(model, SAID), model.encode_texts(SAID))
    torch.testing.assert_close(encode_texts(model.flat, SAID).norm(dim=1), torch.ones(len(SAID)))


def test_the_held_out_loss_is_that_of_training(
    towers: TwoTowers, measured: tuple[HyperbolicEncoders, OnHyperboloid], images: Tensor
) -> None:
    model, objective = measured
    with torch.no_grad():
        wanted = learned()(*features(towers, images, SAID)).item()
        found = held_out_loss(objective, model.encode_images(images), model.encode_texts(SAID), batch=len(SAID))
    assert found == pytest.approx(wanted, rel=1e-5)


def test_a_class_is_the_mean_of_its_prompts_in_the_tangent_space(
    towers: TwoTowers, measured: tuple[HyperbolicEncoders, OnHyperboloid], images: Tensor
) -> None:
    model, objective = measured
    with torch.no_grad():
        prompts = model.encode_texts(SAID).view(2, 3, -1)
        head = model.class_vectors(prompts)
        _, text = features(towers, images, SAID)
        tangent = (text * float(np.exp(0.7)) / text.shape[1] ** 0.5).view(2, 3, -1).mean(dim=1)
        classes = expm0(tangent, 1.6)
        x, _ = points(towers, images, SAID)
        torch.testing.assert_close(head[:, :-2], classes * 1.6**0.5, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(model.class_vectors(prompts.flip(1)), head, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(model.class_vectors(prompts[:, :1]), prompts[:, 0], rtol=1e-4, atol=1e-5)
        labels = np.array([0, 1, 1, 0, 0, 1])
        logits = -4 * distances(x, classes, 1.6)
        vectors = model.encode_images(images)
    wanted = F.cross_entropy(logits, torch.from_numpy(labels)).item()
    assert class_loss(objective, vectors, head, labels) == pytest.approx(wanted, rel=1e-5)
    assert (predict(vectors, head, labels).predicted == logits.argmax(dim=1).numpy()).all()


# ---------------------------------------------------------------- whole sets, from a file


@pytest.fixture
def file(towers: TwoTowers, tmp_path: Path) -> str:
    about = {"objective": {name: value.item() for name, value in learned().state_dict().items()}}
    save_model(tmp_path / "towers.pt", towers, CONFIG, about)
    return str(tmp_path / "towers.pt")


def test_a_file_of_meru_is_measured_in_its_space(file: str, tmp_path: Path) -> None:
    found = open_model(file, "cpu")
    assert isinstance(found.encoders, HyperbolicEncoders)
    assert isinstance(found.objective, OnHyperboloid)
    rows = [{"png": picture((40 * i, 250 - 40 * i, 90)), "txt": t.encode()} for i, t in enumerate(SAID)]
    captions = write_folder(tmp_path / "captions", rows, kind="retrieval")
    record = evaluate(found.encoders, captions, objective=found.objective)
    assert record["task"] == "zeroshot_retrieval"
    assert {"mean_recall@1", "loss", "positive_rank", "auroc"} <= record["metrics"].keys()
    assert np.isfinite(record["metrics"]["loss"])


def test_classes_and_probes_of_a_file(file: str, tmp_path: Path) -> None:
    found = open_model(file, "cpu")
    folder = write_folder(tmp_path / "colours", coloured([0, 1, 2] * 6))
    write_folder(tmp_path / "colours", coloured([0, 1, 2] * 6), split="train")
    record = evaluate(found.encoders, folder, objective=found.objective)
    assert 0 <= record["metrics"]["acc1"] <= 1
    assert np.isfinite(record["metrics"]["loss"])
    assert evaluate_probe(found.encoders, folder)["lp_acc1"] == 1  # flat colours: their directions tell them apart
