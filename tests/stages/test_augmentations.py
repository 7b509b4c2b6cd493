"""Augmentations: torchvision's crops and operations, drawn by uid alone, and the pixels that come of them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from curate.run.prints import Prints
from stages.augment import augmented, operated
from stages.augmentations import SPANS, Augmentations, cut_of, magnitude
from stages.base import Batch


def rows(sizes: Sequence[tuple[int | None, int | None]], first: int = 0) -> Batch:
    uid = pa.array([(first + i).to_bytes(16, "big") for i in range(len(sizes))], pa.binary(16))
    sides = {n: pa.array([s[k] for s in sizes], pa.int32()) for k, n in enumerate(("width", "height"))}
    return Batch.of(pa.table({"uid": uid} | sides))


def photo(height: int = 60, width: int = 90) -> np.ndarray:
    y, x = np.mgrid[0:height, 0:width]
    return np.stack([x * 2 % 256, y * 3 % 256, (x * y) % 256], -1).astype(np.uint8)


def test_a_row_has_as_many_as_were_asked_for_and_null_where_its_size_is_unknown() -> None:
    stage = Augmentations(count=3)
    found = stage.run(rows([(90, 60), (None, 60), (0, 5)]))
    assert found.schema == stage.writes()
    first, *others = found.column("augmentations").to_pylist()
    assert others == [None, None]
    assert len(first) == 3
    assert all(len(a["operations"]) == 2 for a in first)
    assert len({(a["left"], a["width"]) for a in first}) == 3  # each number has draws of its own


def test_files_of_all_samples_lie_elsewhere() -> None:
    """Its first version was asked about all samples, and no fingerprint covers who is asked."""
    assert Augmentations.sparse
    assert Prints().stage_folder(Augmentations()) != "columns/augmentations@c9c780861a8a"


def test_a_row_keeps_its_augmentations_whatever_its_company() -> None:
    stage = Augmentations(count=2)
    sizes = [(90 + i, 60) for i in range(20)]
    whole = stage.run(rows(sizes)).column(0).to_pylist()
    assert stage.run(rows(sizes[7:9], first=7)).column(0).to_pylist() == whole[7:9]
    assert (
        Augmentations(count=5).run(rows(sizes)).column(0).to_pylist()[3][:2] == whole[3]
    )  # more do not change the first
    assert Augmentations(count=2, seed=1).run(rows(sizes)).column(0).to_pylist() != whole


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 5000), st.integers(1, 5000), st.integers(0, 2**60))
def test_a_crop_lies_inside_of_the_picture(width: int, height: int, uid: int) -> None:
    (found,) = Augmentations(count=4).run(rows([(width, height)], first=uid)).column(0).to_pylist()
    for one in found:
        left, top, wide, high = cut_of(one, width, height)
        assert min(left, top) >= 0
        assert min(wide, high) >= 1
        assert left + wide <= width
        assert top + high <= height


def test_crops_are_spread_as_torchvisions_are() -> None:
    """Mean area, and quartiles of position, of 4,000 crops of one size, against torchvision's own generator."""
    transforms = pytest.importorskip("torchvision.transforms")
    import torch

    drawn = Augmentations(count=1).run(rows([(640, 480)] * 4000)).column(0).to_pylist()
    ours = np.array([cut_of(a, 640, 480) for (a,) in drawn], float)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        image = Image.new("RGB", (640, 480))
        theirs = np.array(
            [transforms.RandomResizedCrop.get_params(image, [0.08, 1.0], [3 / 4, 4 / 3]) for _ in range(4000)], float
        )[:, [1, 0, 3, 2]]
    for column in range(4):
        for quantile in (0.25, 0.5, 0.75):
            a, b = (np.quantile(x[:, column], quantile) for x in (ours, theirs))
            assert abs(a - b) < 0.03 * 640, (column, quantile, a, b)
    areas = [(x[:, 2] * x[:, 3]).mean() / (640 * 480) for x in (ours, theirs)]
    assert areas[0] == pytest.approx(areas[1], abs=0.02)


def test_operations_are_equally_likely_and_signs_as_often_minus() -> None:
    drawn = Augmentations(count=7).run(rows([(640, 480)] * 2000)).column(0).to_pylist()
    operations = [o for row in drawn for a in row for o in a["operations"]]
    counts = np.array([sum(o["name"] == name for o in operations) for name in SPANS])
    expected = len(operations) / len(SPANS)
    assert ((counts - expected) ** 2 / expected).sum() < 34.5  # chi-square, 13 degrees of freedom, p = 0.001
    turned = [o["magnitude"] for o in operations if o["name"] == "Rotate"]
    assert set(turned) == {9.0, -9.0}
    assert abs(np.mean(np.array(turned) > 0) - 0.5) < 0.06


@pytest.mark.parametrize(
    ("name", "sign"), [(n, s) for n, span in SPANS.items() for s in ((1, -1) if span[2] else (1,))]
)
@pytest.mark.parametrize("of_thirty", [0, 4, 9, 30])
def test_operations_give_torchvisions_pixels(name: str, of_thirty: int, sign: int) -> None:
    autoaugment = pytest.importorskip("torchvision.transforms.autoaugment")
    image = Image.fromarray(photo(48, 72))
    magnitudes, signed = autoaugment.RandAugment()._augmentation_space(31, (48, 72))[name]
    assert signed == SPANS[name][2]
    theirs = sign * (float(magnitudes[of_thirty]) if magnitudes.ndim else 0.0)
    nearest = autoaugment.InterpolationMode.NEAREST
    wanted = autoaugment._apply_op(image, name, theirs, interpolation=nearest, fill=None)
    stored = float(np.float32(sign * magnitude(name, of_thirty)))  # as it comes back out of a column
    assert np.array_equal(np.asarray(operated(image, name, stored)), np.asarray(wanted))


def test_what_is_done_is_the_crop_at_the_size_and_then_the_operations() -> None:
    crop = {"left": 0.5, "top": 0.0, "width": 0.5, "height": 0.5}
    square = augmented(photo(), crop | {"operations": []}, 32)
    part = Image.fromarray(photo()[:30, 45:]).resize((32, 32), Image.Resampling.BICUBIC)
    assert np.array_equal(square, np.asarray(part))
    moved = augmented(photo(), crop | {"operations": [{"name": "TranslateX", "magnitude": 0.25}]}, 32)
    assert np.array_equal(moved[:, 8:], square[:, :-8])
    assert not moved[:, :8].any()


def test_an_operation_that_nobody_knows_is_refused() -> None:
    with pytest.raises(ValueError, match="'Twirl': there are Identity, ShearX"):
        operated(Image.new("RGB", (4, 4)), "Twirl", 1.0)


@pytest.mark.parametrize("wrong", [{"scale": (0.5, 0.1)}, {"ratio": (0, 1)}, {"count": 0}, {"magnitude": 31}])
def test_parameters_that_mean_nothing_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Augmentations(**wrong)
