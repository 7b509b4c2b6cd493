"""Vectors of pictures are those of the model itself, whatever kind of file it comes as, and in any company."""

from __future__ import annotations

import io
import shutil
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from curate.run.prints import Prints
from stages import image_weights
from stages.base import IMAGE, Batch
from stages.image_embedding import ImageEmbedding
from stages.image_presets import IMAGENET_MEAN, IMAGENET_STD
from tests.stages.image_parts import CASES, SIDE, VIT, Models, asked, make_models, pictures, sscd_of, stage_of

pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit:FutureWarning")  # the form that SSCD is published in


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Models:
    return make_models(tmp_path_factory.mktemp("models"))


@pytest.fixture(autouse=True)
def _notes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CURATE_CACHE", str(tmp_path / "cache"))


# ---------------------------------------------------------------- the vectors


def prepared(stage: ImageEmbedding, image: bytes) -> Any:
    """A picture as the published code of each model prepares it: (1, 3, rows, columns)."""
    from torchvision import transforms

    look = stage.look
    kind = transforms.InterpolationMode(look.interpolation)
    to_size = {
        "shorter": [transforms.Resize(look.size, kind)],
        "squash": [transforms.Resize([look.size, look.size], kind)],
        "crop": [transforms.Resize(look.shorter or look.size, kind), transforms.CenterCrop(look.size)],
    }[look.resize]
    steps = [*to_size, transforms.ToTensor(), transforms.Normalize(look.mean, look.std)]
    return transforms.Compose(steps)(Image.open(io.BytesIO(image)).convert("RGB"))[None]


def by_hand(models: Models, case: str, x: Any) -> Any:
    import timm
    import torch
    from torch.nn import functional as F
    from transformers import AutoModel

    with torch.inference_mode():
        if case.startswith("sscd"):
            return torch.jit.load(models.sscd)(x)[0]
        if case == "dinov2":
            return AutoModel.from_pretrained(models.dinov2).eval()(pixel_values=x).last_hidden_state[0, 0]
        if case.startswith("timm"):
            net = timm.create_model(VIT, img_size=SIDE, checkpoint_path=models.timm_file).eval()
            return net.forward_head(net.forward_features(x), pre_logits=True)[0]
        said = torch.load(models.isc, weights_only=False)
        state = {name.removeprefix("module."): value for name, value in said["state_dict"].items()}
        backbone = timm.create_model(said["arch"], features_only=True).eval()
        backbone.load_state_dict({n[9:]: v for n, v in state.items() if n.startswith("backbone.")})
        seen = backbone(x)[-1]
        mean = F.avg_pool2d(seen.clamp(min=1e-6).pow(1.0), (seen.size(-2), seen.size(-1))).view(1, -1)
        bn = {n: state[f"bn.{n}"] for n in ("running_mean", "running_var", "weight", "bias")}
        return F.batch_norm(mean @ state["fc.weight"].T, **bn)[0]


@pytest.mark.parametrize("case", CASES)
def test_vectors_are_the_models_own(models: Models, case: str) -> None:
    stage, images = stage_of(models, case), pictures()
    found, errors = asked(stage, images)
    assert errors == [None] * len(images)
    for image, vector in zip(images, found, strict=True):
        own = by_hand(models, case, prepared(stage, image)).numpy()
        np.testing.assert_allclose(vector, own / np.linalg.norm(own), atol=5e-4)
    assert len(np.unique(found, axis=0)) == len(images)


@pytest.mark.parametrize("case", CASES)
def test_a_vector_does_not_hang_on_its_company(models: Models, case: str) -> None:
    stage, images = stage_of(models, case), pictures()
    together, _ = asked(stage, images)
    alone = np.concatenate([asked(stage, [image])[0] for image in images[::-1]])[::-1]
    assert together.tobytes() == alone.tobytes()


def test_what_threads_prepared_is_used_once(models: Models) -> None:
    stage = stage_of(models, "sscd_320")
    stage.open()
    batch = Batch.of(pa.table({"text": ["a"] * 5}), pictures())
    plain = stage.run(batch)
    thread = threading.Thread(target=stage.prepare, args=(batch,))
    thread.start()
    thread.join()
    assert stage.run(batch).equals(plain)
    assert stage.run(batch).equals(plain)


def test_where_there_is_no_picture_there_is_no_vector(models: Models) -> None:
    first, last = pictures(2)
    found, errors = asked(stage_of(models, "sscd"), [first, b"no picture", last])
    assert np.isnan(found[1]).all()
    assert errors[0] is None
    assert errors[1]
    assert np.isfinite(found[[0, 2]]).all()
    none, said = asked(stage_of(models, "sscd"), [b"no picture", b""])
    assert np.isnan(none).all()
    assert none.shape == (2, 512)
    assert all(said)


def test_a_vector_that_is_no_number_is_null_and_says_so(models: Models, tmp_path: Path) -> None:
    import torch

    class Dark(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            bright = x.mean(dim=[1, 2, 3])[:, None]
            return torch.cat([bright / (bright - bright), bright], dim=1)

    torch.jit.script(Dark()).save(tmp_path / "dark.pt")
    stage = ImageEmbedding(weights=str(tmp_path / "dark.pt"), kind="torchscript", size=16, resize="squash")
    found, errors = asked(stage, pictures(2))
    assert np.isnan(found).all()
    assert errors == ["image_embedding: the model's vector is not finite, or zeros"] * 2


def test_bf16_is_near(models: Models) -> None:
    plain, _ = asked(stage_of(models, "dinov2"), pictures())
    low, _ = asked(stage_of(models, "dinov2", precision="bf16"), pictures())
    assert (plain != low).any()
    assert ((plain * low).sum(axis=1) > 0.99).all()


# ---------------------------------------------------------------- presets and parameters


def test_presets_are_the_published_ones() -> None:
    looks = {name: ImageEmbedding(preset=name, weights="w.pt").look for name in ("sscd_disc_mixup", "isc_ft_v107")}
    sscd, isc = looks["sscd_disc_mixup"], looks["isc_ft_v107"]
    assert (sscd.kind, sscd.size, sscd.resize, sscd.interpolation) == ("torchscript", 288, "shorter", "bilinear")
    assert (sscd.mean, sscd.std, sscd.dim) == (IMAGENET_MEAN, IMAGENET_STD, 512)
    assert (isc.size, isc.resize, isc.mean, isc.std, isc.dim) == (512, "squash", (0.5,) * 3, (0.5,) * 3, 256)
    squashed = ImageEmbedding(preset="sscd_disc_mixup_320", weights="w.pt").look
    assert (squashed.size, squashed.resize) == (320, "squash")
    dino = ImageEmbedding(preset="dinov2", weights="facebook/dinov2-large").look
    assert (dino.shorter, dino.size, dino.resize, dino.interpolation) == (256, 224, "crop", "bicubic")


def test_a_preset_and_what_it_stands_for_are_one_stage(models: Models) -> None:
    preset = stage_of(models, "isc")
    spelled = ImageEmbedding(
        weights=models.isc, kind="isc", size=SIDE, resize="squash", mean=(0.5,) * 3, std=(0.5,) * 3, name="isc",
        interpolation="bilinear", batch=3,
    )  # fmt: skip
    assert preset.identity() == spelled.identity()
    assert Prints().base(preset) == Prints().base(spelled)
    assert Prints().base(preset) == Prints().base(stage_of(models, "isc", cpus=2))
    others = [{"batch": 4}, {"size": 72}, {"name": "other"}, {"mean": (0.4, 0.5, 0.5)}]
    assert len({Prints().base(stage_of(models, "isc", **other)) for other in [{}, *others]}) == 5


def test_weights_count_and_not_where_they_lie(models: Models, tmp_path: Path) -> None:
    shutil.copy(models.sscd, tmp_path / Path(models.sscd).name)
    moved = ImageEmbedding(preset="sscd_disc_mixup", weights=str(tmp_path / Path(models.sscd).name))
    here = ImageEmbedding(preset="sscd_disc_mixup", weights=models.sscd)
    assert Prints().base(moved) == Prints().base(here)
    other = ImageEmbedding(preset="sscd_disc_mixup", weights=sscd_of(tmp_path, 24))
    assert Prints().base(other) != Prints().base(here)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({}, "give a preset (sscd_disc_mixup, "),
        ({"kind": "timm", "size": 224}, "resize"),
        ({"preset": "sscd"}, "sscd_disc_mixup_320"),
        ({"preset": "dinov2", "shorter": 200}, "not below size: 224"),
        ({"preset": "isc_ft_v107", "shorter": 600}, "goes with `resize: crop`"),
        ({"preset": "dinov2", "model": "resnet50"}, "goes with `kind: timm`"),
        ({"preset": "sscd_disc_mixup", "precision": "bf16"}, "leave precision out"),
        ({"preset": "isc_ft_v107", "std": (0.5, 0, 0.5)}, "above 0"),
    ],
)
def test_parameters_that_do_not_go_together_are_refused(given: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError) as e:
        ImageEmbedding(weights="w.pt", **given)
    assert said in str(e.value)


def test_the_length_of_vectors_is_known_without_the_model(models: Models, monkeypatch: pytest.MonkeyPatch) -> None:
    image_weights._noted.cache_clear()
    assert stage_of(models, "timm").writes().field(0).type == pa.list_(pa.float16(), 64)  # by asking it, once

    def refuse(*_: Any) -> None:
        raise AssertionError("the model is loaded")

    monkeypatch.setattr("stages.image_model.load", refuse)
    image_weights._noted.cache_clear()
    for case, dim in {"sscd": 512, "isc": 256, "dinov2": 32, "timm": 64}.items():
        assert stage_of(models, case).writes().field(0).type == pa.list_(pa.float16(), dim)
    away = ImageEmbedding(preset="dinov2", weights="/nowhere/dinov2")
    assert away.writes() == pa.schema([("dinov2_image", pa.list_(pa.float16())), ("error", pa.string())])
    assert stage_of(models, "sscd").reads() == (IMAGE,)
