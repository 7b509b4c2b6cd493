"""Pictures become the pixels that open_clip's evaluation transform makes, and features keep the order of samples."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from PIL import Image

from tests.training_smoke.evaluate.evalsets import COLOURS, BrokenModel, ColourModel, picture
from training_smoke.errors import TrainingError
from training_smoke.evaluate.encode import encode_texts, image_batches, pixels
from training_smoke.evaluate.folders import Sample


def encoded(image: Image.Image, form: str = "PNG") -> Sample:
    stream = io.BytesIO()
    image.save(stream, form)
    return Sample("x", stream.getvalue(), 0)


@pytest.mark.parametrize("size", [(32, 32), (33, 57), (57, 33), (7, 100), (31, 32), (224, 149), (1, 1), (1, 50)])
@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA", "P", "1", "CMYK"])
def test_pixels_are_those_of_torchvision(size: tuple[int, int], mode: str) -> None:
    transforms = pytest.importorskip("torchvision.transforms", reason="no torchvision: pixels are not compared with it")
    noise = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    sample = encoded(Image.fromarray(noise).convert(mode), "TIFF" if mode == "CMYK" else "PNG")
    theirs = transforms.Compose(
        [
            transforms.Resize(32, interpolation=transforms.InterpolationMode.BICUBIC),
            transforms.CenterCrop(32),
            transforms.PILToTensor(),
        ]
    )(Image.open(io.BytesIO(sample.image)).convert("RGB"))
    np.testing.assert_array_equal(pixels(sample, 32), theirs.numpy())


@pytest.mark.parametrize("data", [b"", b"no picture", picture((1, 2, 3), (64, 64), "JPEG")[:640]], ids=len)
def test_a_broken_picture_is_named(data: bytes) -> None:
    with pytest.raises(TrainingError, match=r"7.tar:s000: the picture cannot be decoded"):
        pixels(Sample("7.tar:s000", data, 0), 8)


@pytest.mark.parametrize("batch", [1, 3, 4, 100])
def test_features_are_in_order_and_of_unit_length(batch: int) -> None:
    colours = [*COLOURS.values()] * 3
    samples = [Sample(str(i), picture(c), i) for i, c in enumerate(colours)]
    batches = list(image_batches(ColourModel(), iter(samples), batch))
    assert [s.answer for _, some in batches for s in some] == list(range(9))
    assert [len(f) for f, _ in batches[:-1]] == [batch] * (len(batches) - 1)
    features = torch.cat([f for f, _ in batches])
    torch.testing.assert_close(features.norm(dim=1), torch.ones(9))
    assert features.argmax(1).tolist() == [0, 1, 2] * 3


def test_no_samples_are_no_batches() -> None:
    assert list(image_batches(ColourModel(), [])) == []


def test_an_error_in_a_later_batch_comes_out() -> None:
    samples = [Sample("good", picture((1, 2, 3)), 0)] * 5 + [Sample("bad", b"", 0)]
    with pytest.raises(TrainingError, match="bad"):
        list(image_batches(ColourModel(), samples, 2))


def test_a_diverged_model_is_refused() -> None:
    with pytest.raises(TrainingError, match="NaN"):
        list(image_batches(BrokenModel(), [Sample("x", picture((1, 2, 3)), 0)]))


def test_texts_in_batches() -> None:
    texts = ["a red thing", "blue", "green", "red", "something"]
    whole, parts = encode_texts(ColourModel(), texts), encode_texts(ColourModel(), texts, batch=2)
    torch.testing.assert_close(whole, parts)
    torch.testing.assert_close(whole.norm(dim=1), torch.ones(5))
