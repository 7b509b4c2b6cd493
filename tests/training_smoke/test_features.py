"""Hand-made features say what they should, are kept once a pack, and train as pixels do, to the bit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.training_smoke.pack_parts import TWO, packed, pictures, thirty
from tests.training_smoke.test_loader import loader
from tests.training_smoke.test_resident import held
from training_smoke import features
from training_smoke import train as loop
from training_smoke.config import SCALES, Config, Towers
from training_smoke.errors import TrainingError
from training_smoke.evaluate.encoders import TowerEncoders
from training_smoke.features import BINS, DIM, GRID, PATCHES, described
from training_smoke.packs import Pack
from training_smoke.resident import resident_features
from training_smoke.towers import Frozen, build
from training_smoke.writers import read_metrics

SMALL = SCALES["feature"].but(
    towers={"image_size": 16, "context": 8}, samples=96, batch=8, log_every=2, save_every=2, spike=None
)


@pytest.fixture(scope="module")
def pack(tmp_path_factory: pytest.TempPathFactory) -> Pack:
    return Pack.open(thirty(tmp_path_factory.mktemp("pack")))


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CURATE_CACHE", str(tmp_path / "cache"))
    torch.set_num_threads(1)


def noise(n: int, size: int = 32) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (n, size, size, 3), dtype=np.uint8)


def parts(image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(edges [GRID, GRID, BINS], colours [PATCHES, PATCHES, 3]) of one picture."""
    row = described(image[None])[0]
    return row[: -PATCHES * PATCHES * 3].reshape(GRID, GRID, BINS), row[-PATCHES * PATCHES * 3 :].reshape(4, 4, 3)


# ---------------------------------------------------------------------------------------------- what they say


@pytest.mark.parametrize("size", [8, 16, 32, 64])
def test_as_many_numbers_at_any_size(size: int) -> None:
    found = described(noise(3, size))
    assert (found.shape, found.dtype) == ((3, DIM), np.float16)
    assert np.isfinite(found).all()


def test_a_size_that_cells_do_not_divide_is_refused() -> None:
    with pytest.raises(TrainingError, match="multiple of 8, not 30"):
        described(noise(1, 30))


@pytest.mark.parametrize(("turn", "number"), [(0, 0), (1, 4)])
def test_an_edge_is_told_where_it_is_and_by_its_direction(turn: int, number: int) -> None:
    """Brightness changes from left to right: direction 0. From top to bottom: 90 degrees, between bins 4 and 5."""
    image = np.zeros((32, 32, 3), np.uint8)
    image[:, 16:] = 255  # columns 15 and 16 differ from their neighbours: cells 3 and 4
    edges, _ = parts(np.rot90(image, -turn).copy())
    nothing = described(np.zeros((1, 32, 32, 3), np.uint8))[0, 0]
    edges = np.rot90(edges, turn)
    assert (edges[:, [0, 1, 2, 5, 6, 7]] == nothing).all()
    told = {number} if number == 0 else {number, number + 1}
    for bin_number in range(BINS):
        assert (edges[:, 3:5, bin_number] > nothing).all() == (bin_number in told)


def test_edges_know_no_brightness_and_colours_no_edges() -> None:
    image = noise(1)[0] // 2
    dark, bright = parts(image), parts(image + 100)
    assert np.array_equal(dark[0], bright[0])
    assert np.allclose(bright[1].astype(float) - dark[1], 100 / 60, atol=2e-3)


def test_mirrored_pictures_have_mirrored_features() -> None:
    image = noise(1)[0]
    edges, colours = parts(image)
    mirrored, swapped = parts(image[:, ::-1].copy())
    turned = edges[:, ::-1][..., [0, *range(BINS - 1, 0, -1)]]  # an angle becomes 180 degrees less itself
    assert np.allclose(mirrored.astype(float), turned, atol=5e-3)
    assert np.allclose(swapped.astype(float), colours[:, ::-1], atol=2e-3)


def test_a_picture_is_described_as_if_alone() -> None:
    images = noise(5)
    assert np.array_equal(described(images), np.concatenate([described(images[i : i + 1]) for i in range(5)]))


# ---------------------------------------------------------------------------------------------- kept


def test_kept_features_are_those_of_the_pixels(pack: Pack, tmp_path: Path) -> None:
    frozen = build(SMALL.towers, 0).frozen
    assert frozen is not None
    other = Pack.open(packed(tmp_path, pictures(20, 100, emit=TWO)))
    mixture = {pack: 1.0, other: 2.0}
    for ours, plain in zip(held(mixture, tmp_path, frozen=frozen), loader(mixture), strict=True):
        assert np.array_equal(ours.images.numpy(), described(plain.images.permute(0, 2, 3, 1).numpy()))
        assert (ours.uids, ours.tokens.tolist()) == (plain.uids, plain.tokens.tolist())


def test_they_are_computed_once_and_another_part_is_another_file(pack: Pack, tmp_path: Path) -> None:
    seen: list[int] = []

    def mean(images: np.ndarray) -> np.ndarray:
        seen.append(len(images))
        return images.mean(axis=(1, 2)).astype(np.float16)

    first, again, other = (resident_features(pack, 8, Frozen(n, 3, mean), tmp_path) for n in ("a-v1", "a-v1", "b-v1"))
    assert sum(seen) == 2 * len(pack)
    assert np.array_equal(first, again)
    assert np.array_equal(first, other)
    names = sorted(p.name.removeprefix(pack.digest[:32]) for p in tmp_path.glob("*.npy"))
    assert names == ["-8px-v1-a-v1.npy", "-8px-v1-b-v1.npy", "-8px-v1.npy"]


# ---------------------------------------------------------------------------------------------- trained


def trained(folder: Path, pack: Pack, config: Config = SMALL) -> dict[str, Any]:
    return loop.train(folder, config, {pack: 1.0}, device="cpu").state_dict()


def same(a: dict[str, Any], b: dict[str, Any]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_pixels_on_the_way_or_features_kept_before_are_one_run(tmp_path: Path, pack: Pack) -> None:
    assert same(trained(tmp_path / "a", pack), trained(tmp_path / "b", pack, SMALL.but(resident=False)))


def test_a_stop_half_way_changes_nothing(tmp_path: Path, pack: Pack, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = trained(tmp_path / "whole", pack)

    class Cut(Exception):
        pass

    with monkeypatch.context() as patch:
        patch.setattr(loop, "save", _saved_until(4, loop.save, Cut))
        with pytest.raises(Cut):
            trained(tmp_path / "cut", pack)
    assert same(trained(tmp_path / "cut", pack), whole)
    ours, theirs = ([line["loss"] for line in read_metrics(tmp_path / name)] for name in ("cut", "whole"))
    assert ours == theirs


def _saved_until(last: int, save: Any, error: type[Exception]) -> Any:
    def saved(folder: Path, step: int, *rest: Any) -> None:
        save(folder, step, *rest)
        if step == last:
            raise error

    return saved


def test_it_learns_and_evaluates_from_pixels(tmp_path: Path, pack: Pack) -> None:
    config = SMALL.but(samples=8 * 200, log_every=10, save_every=None)
    towers = loop.train(tmp_path / "run", config, {pack: 1.0}, device="cpu")
    losses = [line["loss"] for line in read_metrics(tmp_path / "run")]
    assert losses[-1] < 0.5 * losses[0]
    images = noise(4, 16)
    with torch.no_grad():
        from_pixels = TowerEncoders(towers).encode_images(torch.from_numpy(images.transpose(0, 3, 1, 2).copy()))
        from_features = towers.encode_images(torch.from_numpy(described(images)))
    assert torch.equal(from_pixels, from_features)


def test_the_order_of_words_says_nothing_and_no_words_are_fine() -> None:
    towers = build(Towers("feature-mlp"), 0)
    with torch.no_grad():
        one, other, none = towers.encode_texts(towers.tokenize(["a red dog", "dog a red", ""]))
    assert torch.allclose(one, other, atol=1e-6)
    assert torch.isfinite(none).all()


def test_the_name_of_the_kept_file_says_the_version() -> None:
    frozen = build(Towers("feature-mlp"), 0).frozen
    assert frozen is not None
    assert frozen.name.endswith(f"-v{features.VERSION}")
