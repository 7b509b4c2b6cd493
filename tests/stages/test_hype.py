"""HYPE's parts: against hyperbolic trigonometry, on towers that were trained with MERU; what is refused."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from stages.base import Batch
from stages.clip import ClipEmbedding, cosine
from stages.hype import Hype, parts
from stages.hype_reference import Reference, make_reference
from stages.hyperbolic_embedding import HyperbolicEmbedding
from stages.hyperbolic_weights import Space, space
from stages.vectors import as_column
from tests.stages.clip_parts import TEXTS, picture
from tests.training_smoke.pack_parts import packed, pictures
from training_smoke.packs import Pack

LEARNED = {"logit_scale": 2.5, "log_curvature": math.log(1.7), "image_scale": 0.4, "text_scale": -0.3}
IMAGES = [picture(0), picture(1), b"no picture", picture(3), picture(4), picture(5), picture(6)]


def save(folder: Path, objective: str, learned: dict[str, float]) -> str:
    from training_smoke.config import Config, Towers
    from training_smoke.models import build_model
    from training_smoke.towers_file import save_model

    config = Config(objective=objective, towers=Towers("tiny-conv", image_size=16, context=8), init_seed=3)
    path = folder / f"{objective}.pt"
    save_model(path, build_model(config), config, {"objective": learned})
    return str(path)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> str:
    pytest.importorskip("torch", reason="torch is not installed: HYPE is not tested")
    return save(tmp_path_factory.mktemp("meru"), "meru", LEARNED)


@pytest.fixture(scope="module")
def pack(tmp_path_factory: pytest.TempPathFactory) -> Pack:
    return Pack.open(packed(tmp_path_factory.mktemp("pack"), pictures(12), samples=8))


@pytest.fixture(scope="module")
def reference(weights: str, pack: Pack, tmp_path_factory: pytest.TempPathFactory) -> str:
    out = tmp_path_factory.mktemp("reference") / "reference.npz"
    assert make_reference(weights, pack, out, count=9, seed=1) == 9
    return str(out)


def batch() -> Batch:
    return Batch.of(pa.table({"text": TEXTS}), IMAGES)


def embedded(stage: ClipEmbedding) -> pa.Table:
    return stage.run(batch())


def scored(stage: Hype) -> dict[str, list[Any]]:
    found, given = embedded(stage.embedding()), batch()
    given.add({column: found.column(column.field).combine_chunks() for column in stage.reads()})
    return stage.run(given).to_pydict()


# ---------------------------------------------------------------- vectors


def test_vectors_are_the_towers_features_times_what_was_learned(weights: str) -> None:
    import torch

    from training_smoke.towers_file import load_towers

    table = embedded(HyperbolicEmbedding(weights=weights))
    towers = load_towers(weights)
    assert not towers.unit
    said = [i for i, text in enumerate(TEXTS) if text is not None]
    with torch.inference_mode():
        features = towers.encode_texts(towers.tokenize([str(TEXTS[i]) for i in said])).numpy()
    expected = features * math.exp(LEARNED["text_scale"]) / math.sqrt(features.shape[1])
    rows = table.column("hype_text").to_pylist()
    found = np.array([rows[i] for i in said], np.float64)
    assert np.abs(found - expected).max() < 2e-3 * np.abs(expected).max()
    assert [row is None for row in rows] == [text is None for text in TEXTS]
    assert table.column("hype_image").to_pylist()[2] is None
    assert table.column("error").to_pylist()[2]
    assert found.std(axis=0).max() > 0


def test_their_directions_are_those_of_clip_embedding(weights: str) -> None:
    tangent, unit = embedded(HyperbolicEmbedding(weights=weights)), embedded(ClipEmbedding(weights=weights))
    for side in ("image", "text"):
        alike = cosine(
            tangent.column(f"hype_{side}").combine_chunks(), unit.column(f"clip_{side}").combine_chunks()
        ).to_pylist()
        assert all(value is None or value > 0.9999 for value in alike)
        assert sum(value is not None for value in alike) >= 5


# ---------------------------------------------------------------- parts


def by_trigonometry(x: np.ndarray, y: np.ndarray, c: float) -> tuple[float, float]:
    """(distance, xi(x, y)) of two tangent vectors: a triangle with the origin."""
    a, b = math.sqrt(c) * np.linalg.norm(x), math.sqrt(c) * np.linalg.norm(y)
    angle = math.acos(np.clip(x @ y / np.linalg.norm(x) / np.linalg.norm(y), -1, 1))
    d = math.acosh(max(math.cosh(a) * math.cosh(b) - math.sinh(a) * math.sinh(b) * math.cos(angle), 1))
    at_x = (math.cosh(a) * math.cosh(d) - math.cosh(b)) / (math.sinh(a) * math.sinh(d))
    outside = math.pi - math.acos(np.clip(at_x, -1, 1)) - math.asin(min(0.2 / math.sinh(a), 1))
    return d / math.sqrt(c), outside


def test_parts_are_those_of_the_paper(weights: str, reference: str) -> None:
    stage = Hype(weights=weights, reference=reference)
    found, table = scored(stage), embedded(stage.embedding())
    assert list(found) == ["hype_eps_i", "hype_eps_t", "hype_neg_d", "hype_cos"]
    pictures, texts = (table.column(f"hype_{side}").to_pylist() for side in ("image", "text"))
    about, c = np.load(reference), math.exp(LEARNED["log_curvature"])
    assert about["image"].shape == about["text"].shape == (9, 128)
    for i, (image, text) in enumerate(zip(pictures, texts, strict=True)):
        x, y = (None if v is None else np.array(v, np.float64) for v in (image, text))
        eps_i = None if x is None else np.mean([by_trigonometry(t, x, c)[1] for t in about["text"].astype(float)])
        eps_t = None if y is None else np.mean([by_trigonometry(y, v, c)[1] for v in about["image"].astype(float)])
        both = x is not None and y is not None
        neg_d = -by_trigonometry(x, y, c)[0] if both else None
        cos = x @ y / np.linalg.norm(x) / np.linalg.norm(y) if both else None
        for name, value in (("eps_i", eps_i), ("eps_t", eps_t), ("neg_d", neg_d), ("cos", cos)):
            got = found[f"hype_{name}"][i]
            assert (got is None) == (value is None)
            assert got is None or got == pytest.approx(value, abs=6e-5)


def test_what_is_specific_lies_outside_of_general_cones() -> None:
    """A short text holds long pictures around it; a long one holds next to nothing."""
    draw = np.random.default_rng(0)
    direction = draw.normal(size=(64, 16)) / 4
    known = Reference(direction.astype(np.float16), (0.3 * direction).astype(np.float16), Space(1, 1, 1, 16))
    general, specific = 0.05 * draw.normal(size=(8, 16)), 1.0 * draw.normal(size=(8, 16))
    found = parts(np.concatenate([general, specific]), np.concatenate([general, specific]), known)
    assert found["eps_t"][8:].min() > found["eps_t"][:8].max()
    assert np.abs(found["neg_d"]).max() == 0
    assert found["cos"] == pytest.approx(1)


def test_how_many_rows_are_looked_at_together_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    draw = np.random.default_rng(1)
    known = Reference(draw.normal(size=(50, 8)), draw.normal(size=(40, 8)), Space(0.5, 1, 1, 8))
    image, text = draw.normal(size=(2, 30, 8))
    whole = parts(image, text, known)
    monkeypatch.setattr("stages.hype.PAIRS", 120)
    for name, values in parts(image, text, known).items():
        assert values == pytest.approx(whole[name], abs=1e-12)


def test_a_vector_of_length_zero_has_no_cosine(weights: str, reference: str) -> None:
    vectors = np.zeros((2, 128), np.float16)
    vectors[1] = 0.1
    stage = Hype(weights=weights, reference=reference)
    given = Batch.of(pa.table({"text": ["a", "b"]}), [b"", b""])
    given.add({column: as_column(vectors) for column in stage.reads()})
    found = stage.run(given)
    assert found.column("hype_cos").to_pylist() == [None, 1.0]
    assert found.column("hype_neg_d").to_pylist() == [0.0, 0.0]


def test_vectors_of_any_length_have_parts() -> None:
    known = Reference(np.eye(4), np.eye(4), Space(1, 1, 1, 4))
    rows = np.stack([length * np.ones(4) for length in (0.0, 1e-12, 1.0, 1e4)])
    found = parts(rows, rows[::-1].copy(), known)
    assert all(np.isfinite(found[name]).all() for name in ("eps_i", "eps_t", "neg_d"))
    assert found["cos"] == pytest.approx([math.nan, 1, 1, math.nan], nan_ok=True)  # rows 0 and 3 meet a zero


# ---------------------------------------------------------------- the reference, and what is refused


def test_the_draw_is_of_the_seed_and_a_smaller_one_lies_within(weights: str, pack: Pack, tmp_path: Path) -> None:
    def made(name: str, count: int, seed: int) -> set[bytes]:
        make_reference(weights, pack, tmp_path / name, count=count, seed=seed)
        return {row.tobytes() for row in np.load(tmp_path / name)["image"]}

    five, nine, other = made("5.npz", 5, 0), made("9.npz", 9, 0), made("other.npz", 5, 7)
    assert five < nine
    assert five != other
    first = (tmp_path / "5.npz").read_bytes()
    made("5.npz", 5, 0)
    assert (tmp_path / "5.npz").read_bytes() == first
    assert make_reference(weights, pack, tmp_path / "all.npz", count=1000) == len(pack)
    assert not list(tmp_path.glob("*.part-*"))


def test_samples_without_a_text_are_left_out(weights: str, pack: Pack, tmp_path: Path) -> None:
    class Silent:
        """Every other sample says nothing."""

        url, digest = pack.url, pack.digest

        def __len__(self) -> int:
            return len(pack)

        def texts(self, row: int) -> Any:
            return pack.texts(row) if row % 2 else []

        def image_bytes(self, row: int) -> bytes:
            return pack.image_bytes(row)

    silent: Any = Silent()
    assert make_reference(weights, silent, tmp_path / "half.npz") == len(pack) // 2
    assert len(np.load(tmp_path / "half.npz")["text"]) == len(pack) // 2
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Silent, "texts", lambda self, row: [])
        with pytest.raises(ValueError, match=r"no pair of .* has a picture that decodes and a text"):
            make_reference(weights, silent, tmp_path / "none.npz")


def test_the_last_digit_of_a_learned_number_is_no_other_space(weights: str, reference: str, tmp_path: Path) -> None:
    """exp differs in it between machines."""
    with np.load(reference) as found:
        held, about = dict(found), json.loads(str(found["about"]))
    known = about["space"]

    def changed(by: float) -> str:
        space = known | {"curvature": known["curvature"] * by}
        np.savez(tmp_path / "changed.npz", **(held | {"about": json.dumps(about | {"space": space})}))
        return str(tmp_path / "changed.npz")

    assert known["curvature"] * (1 + 2e-15) != known["curvature"]
    assert Hype(weights=weights, reference=changed(1 + 2e-15)).files()
    with pytest.raises(ValueError, match="by other towers"):
        Hype(weights=weights, reference=changed(1 + 1e-9)).files()


def test_other_weights_are_refused(tmp_path: Path, reference: str) -> None:
    clip = save(tmp_path, "clip", {"logit_scale": 2.0})
    with pytest.raises(ValueError, match=r"trained with clip; `curate train-filter --objective meru` makes one"):
        Hype(weights=clip, reference=reference).files()
    with pytest.raises(ValueError, match="no weights at"):
        HyperbolicEmbedding(weights=str(tmp_path / "none.pt")).files()
    with pytest.raises(ValueError, match="leave it out"):
        HyperbolicEmbedding(weights=clip, model="ViT-B-32")  # type: ignore[arg-type]


def test_a_reference_of_other_towers_is_refused(weights: str, reference: str, tmp_path: Path) -> None:
    other = save(tmp_path, "meru", LEARNED | {"log_curvature": 0.0})
    with pytest.raises(ValueError, match="by other towers"):
        Hype(weights=other, reference=reference).files()
    (tmp_path / "text.npz").write_text("x")
    with pytest.raises(ValueError, match="no file of reference vectors"):
        Hype(weights=weights, reference=str(tmp_path / "text.npz")).files()
    with pytest.raises(ValueError, match="`curate hype-reference` makes one"):
        Hype(weights=weights, reference=str(tmp_path / "none.npz")).files()


def test_what_a_file_says_of_its_space(weights: str) -> None:
    found = space(weights)
    assert found.curvature == pytest.approx(1.7)
    assert found.image == pytest.approx(math.exp(0.4) / math.sqrt(128))
    assert found.dim == 128


def test_another_reference_is_another_column_and_another_name_too(weights: str, reference: str, tmp_path: Path) -> None:
    other = tmp_path / "other.npz"
    other.write_bytes(Path(reference).read_bytes())
    stage = Hype(weights=weights, reference=reference)
    assert stage.files() == (weights, reference)
    assert stage.identity() != Hype(weights=weights, reference=str(other)).identity()
    assert Hype(weights=weights, reference=reference, name="mine").writes().names[0] == "mine_eps_i"
    assert stage.embedding() == HyperbolicEmbedding(weights=weights)
