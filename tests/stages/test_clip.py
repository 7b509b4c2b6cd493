"""Vectors of pictures and texts: those of the model itself, in any company, and their cosine."""

from __future__ import annotations

import io
import pickle
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from curate.run.prints import Prints
from stages.base import IMAGE, TEXT, Batch, Column
from stages.clip import ClipEmbedding, ClipScore, cosine
from stages.clip_pixels import Fit
from tests.stages.clip_parts import DIM, MODEL, TEXTS, Weights, batch, embedding, make_weights, matrix, picture, scored


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Weights:
    return make_weights(tmp_path_factory.mktemp("clip"))


@pytest.fixture(scope="module")
def theirs(weights: Weights) -> ClipEmbedding:
    return embedding(model=MODEL, weights=weights.open_clip)


@pytest.fixture(scope="module")
def ours(weights: Weights) -> ClipEmbedding:
    return embedding(weights=weights.ours)


def test_vectors_are_open_clips(theirs: ClipEmbedding, weights: Weights) -> None:
    import open_clip
    import torch

    model, _, prepare = open_clip.create_model_and_transforms(MODEL, pretrained=weights.open_clip)
    model.eval()
    found = theirs.run(batch())
    assert found.schema == theirs.writes()
    assert found.schema.field("clip_image").type == pa.list_(pa.float16(), DIM)
    for row, text in enumerate(TEXTS):
        with torch.no_grad():
            if row != 3:
                pixels = prepare(Image.open(io.BytesIO(picture(row, 20 + 9 * row))))[None]
                expected = model.encode_image(pixels, normalize=True)[0].numpy()
                np.testing.assert_allclose(matrix(found, "clip_image")[row], expected, atol=5e-4)
            if text is not None:
                expected = model.encode_text(open_clip.get_tokenizer(MODEL)([text]), normalize=True)[0].numpy()
                np.testing.assert_allclose(matrix(found, "clip_text")[row], expected, atol=5e-4)


def test_towers_trained_here_need_no_model(ours: ClipEmbedding, weights: Weights) -> None:
    import torch

    from training_smoke.evaluate.encode import pixels
    from training_smoke.evaluate.folders import Sample
    from training_smoke.towers_file import load_towers

    towers = load_towers(weights.ours)
    found = ours.run(batch())
    with torch.no_grad():
        text = towers.encode_texts(towers.tokenize(["a red bicycle"]))[0].numpy()
        square = torch.from_numpy(
            pixels(Sample("0", picture(0, 20), None), 16)[None].copy()
        )  # as evaluation prepares it
        image = towers.encode_images(square)[0].numpy()
    np.testing.assert_allclose(matrix(found, "clip_text")[0], text, atol=5e-4)
    np.testing.assert_allclose(matrix(found, "clip_image")[0], image, atol=5e-4)


@pytest.mark.parametrize("kind", ["theirs", "ours"])
def test_what_is_missing_is_null_and_says_why(kind: str, request: pytest.FixtureRequest) -> None:
    found = request.getfixturevalue(kind).run(batch())
    assert [v is None for v in found.column("clip_image").to_pylist()] == [i == 3 for i in range(7)]
    assert [v is None for v in found.column("clip_text").to_pylist()] == [i == 1 for i in range(7)]
    errors = found.column("error").to_pylist()
    assert errors[3].startswith("not_image: ")
    assert [e for i, e in enumerate(errors) if i != 3] == [None] * 6
    lengths = np.linalg.norm(matrix(found, "clip_text").astype(np.float64), axis=1)
    assert np.nanmax(np.abs(lengths - 1)) < 1e-3


def test_a_batch_of_nothing(theirs: ClipEmbedding) -> None:
    empty = theirs.run(batch([], ()))
    assert (empty.num_rows, empty.schema) == (0, theirs.writes())
    lost = theirs.run(batch([None, None], (0, 1)))
    assert lost.column("clip_image").null_count == lost.column("clip_text").null_count == 2


def test_same_batch_same_bytes_and_one_shape(theirs: ClipEmbedding, monkeypatch: pytest.MonkeyPatch) -> None:
    from stages.clip_model import Clip

    shapes = set()
    given = Clip._there
    monkeypatch.setattr(Clip, "_there", lambda s, rows: shapes.add(rows.shape) or given(s, rows))
    first = theirs.run(batch())
    fresh = embedding(model=MODEL, weights=theirs.weights)
    assert fresh.run(batch()).equals(first)
    assert shapes == {(4, 32, 32, 3), (4, 16)}  # though seven rows do not divide by four


def test_what_is_prepared_ahead_is_the_same(theirs: ClipEmbedding, monkeypatch: pytest.MonkeyPatch) -> None:
    ahead, now = batch(), batch()
    theirs.prepare(ahead)
    monkeypatch.setattr(Batch, "images", lambda self: pytest.fail("decoded again"))
    found = theirs.run(ahead)
    monkeypatch.undo()
    assert found.equals(theirs.run(now))
    assert found.equals(theirs.run(ahead))  # what was prepared is used once


def test_one_model_for_all_stages_that_hold_it(weights: Weights, tmp_path: Path) -> None:
    one, other = embedding(weights=weights.ours), embedding(weights=weights.ours, name="b", batch=9)
    assert one.clip() is other.clip()
    copy = shutil.copy(weights.ours, tmp_path / "copy.pt")
    assert embedding(weights=str(copy)).clip() is not one.clip()


def test_vectors_do_not_depend_on_their_company(theirs: ClipEmbedding) -> None:
    whole = matrix(theirs.run(batch()), "clip_image")
    alone = [
        matrix(theirs.run(Batch.of(pa.table({"text": ["a"]}), [picture(i, 20 + 9 * i)])), "clip_image")[0]
        for i in (0, 6)
    ]
    np.testing.assert_allclose(whole[[0, 6]], alone, atol=1e-3)


def test_threads_are_put_back(theirs: ClipEmbedding) -> None:
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(2)
    theirs.run(batch())
    assert torch.get_num_threads() == 2
    torch.set_num_threads(before)
    assert embedding(weights="w.pt", cpus=3).need().cpus == 3


def test_bf16_is_near(theirs: ClipEmbedding, weights: Weights) -> None:
    low = embedding(model=MODEL, weights=weights.open_clip, precision="bf16").run(batch())
    exact = theirs.run(batch())
    a, b = (np.nan_to_num(matrix(t, "clip_image")) for t in (low, exact))
    assert 0 < np.abs(a - b).max() < 0.02
    assert np.array_equal(matrix(low, "clip_text"), matrix(exact, "clip_text"), equal_nan=True)  # float32 all the same


def test_vectors_that_are_no_numbers_are_null(weights: Weights, tmp_path: Path) -> None:
    import torch

    from training_smoke.config import Towers
    from training_smoke.towers import build
    from training_smoke.towers_file import save_towers

    tiny = Towers("tiny-conv", image_size=16, context=8)
    towers = build(tiny, 3)
    with torch.no_grad():
        towers.image_projection.weight.fill_(float("nan"))
    save_towers(tmp_path / "bad.pt", towers, tiny, {})
    rows = batch()
    table, scores = scored(ClipScore(weights=str(tmp_path / "bad.pt"), batch=4), rows)
    assert table.column("clip_image").null_count == 7
    assert table.column("error").to_pylist()[0] == "clip: the model's vector of the picture is not finite"
    assert table.column("error").to_pylist()[3].startswith("not_image")
    assert scores == [None] * 7


def test_no_gpu_is_said(weights: Weights) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a GPU here")
    stage = embedding(weights=weights.ours, device="cuda")
    assert stage.need().gpus == 1
    with pytest.raises(ValueError, match="no GPU is seen here"):
        stage.open()


def test_weights_of_another_model_are_told(weights: Weights) -> None:
    stage = embedding(model="ViT-S-32-alt", weights=weights.open_clip)
    with pytest.raises(ValueError, match=r"open_clip cannot load /.*weights\.pt as ViT-S-32-alt: "):
        stage.open()


def test_a_file_of_siglip_is_preprocessed_as_its_tags_say() -> None:
    pytest.importorskip("open_clip", reason="open_clip is not installed")
    from stages.clip_model import _tags_agree

    found = _tags_agree("ViT-B-16-SigLIP")
    assert (found["resize_mode"], found["mean"], found["interpolation"]) == ("squash", (0.5, 0.5, 0.5), "bicubic")
    assert _tags_agree(MODEL) == {}


def test_a_file_gets_the_preprocessing_of_its_models_tags(weights: Weights, monkeypatch: pytest.MonkeyPatch) -> None:
    from open_clip import pretrained

    from stages.clip_model import load

    assert load(MODEL, weights.open_clip).fit == Fit(32, "shortest")
    monkeypatch.setitem(pretrained._PRETRAINED, MODEL, {"webli": pretrained._slpcfg(hf_hub="a/b/")})
    found = load(MODEL, weights.open_clip)
    assert found.fit == Fit(32, "squash")
    assert found.images.mean.flatten().tolist() == found.images.std.flatten().tolist() == [0.5] * 3


# ---------------------------------------------------------------------------------------------- what names the columns


def test_fingerprint_covers_the_file_and_not_its_place(weights: Weights, tmp_path: Path) -> None:
    copy = shutil.copy(weights.ours, tmp_path / "elsewhere.pt")

    def hashed(**parameters: object) -> tuple[str, str]:
        said = {"weights": weights.ours, **parameters}
        return Prints().base(ClipEmbedding(**said)), Prints().base(ClipScore(**said))

    plain = hashed()
    assert hashed(weights=str(copy)) == hashed(device="cuda") == hashed(cpus=2) == plain
    for other in ({"batch": 8}, {"precision": "bf16"}, {"name": "dfn"}):
        changed = hashed(**other)
        assert changed[0] != plain[0]
        assert changed[1] != plain[1]
    Path(copy).write_bytes(Path(weights.ours).read_bytes() + b"\0")
    assert hashed(weights=str(copy))[0] != plain[0]


def test_score_reads_the_vectors_of_the_same_parameters(weights: Weights) -> None:
    stage = ClipScore(weights=weights.ours, name="dfn", batch=8)
    made = ClipEmbedding(weights=weights.ours, name="dfn", batch=8)
    assert stage.embedding() == made
    assert stage.reads() == (Column(made, "dfn_image"), Column(made, "dfn_text"))
    assert made.reads() == (IMAGE, TEXT)
    assert stage.writes() == pa.schema([("dfn_score", pa.float32())])
    assert made.writes().names == ["dfn_image", "dfn_text", "error"]


@pytest.mark.parametrize("name", ["", "A", "a b", "é", "1a", "a" * 40])
def test_names_are_plain(name: str) -> None:
    with pytest.raises(ValueError, match="name"):
        ClipScore(weights="/w.pt", name=name)


def test_what_is_opened_stays_here(ours: ClipEmbedding) -> None:
    ours.open()
    copy = pickle.loads(pickle.dumps(ours))
    assert copy == ours
    assert copy._loaded is None


# ---------------------------------------------------------------------------------------------- scores


def test_scores_are_cosines_of_the_vectors(ours: ClipEmbedding, weights: Weights) -> None:
    table, scores = scored(ClipScore(weights=weights.ours, batch=4), batch())
    image, text = (matrix(table, name).astype(np.float64) for name in ("clip_image", "clip_text"))
    expected = (image * text).sum(1) / np.linalg.norm(image, axis=1) / np.linalg.norm(text, axis=1)
    assert [s is None for s in scores] == [i in (1, 3) for i in range(7)]
    assert [s for s in scores if s is not None] == pytest.approx(expected[np.isfinite(expected)], abs=6e-5)
    assert all(abs(s * 1e4 - round(s * 1e4)) < 1e-3 for s in scores if s is not None)


def vectors(rows: list[list[float] | None], dim: int = 2) -> pa.Array:
    return pa.array(rows, pa.list_(pa.float16(), dim))


def test_cosines_by_hand() -> None:
    a = vectors([[1, 0], [3, 4], None, [1, 0], [0, 0], [1, 1], [-2, 0]])
    b = vectors([[0, 1], [4, 3], [1, 0], None, [1, 0], [1, 0], [5, 0]])
    found = cosine(a, b)
    assert found.type == pa.float32()
    assert found.to_pylist() == pytest.approx([0, 0.96, None, None, None, 0.7071, -1])
    assert cosine(a.slice(1, 2), b.slice(1, 2)).to_pylist() == pytest.approx([0.96, None])
    assert cosine(a.slice(0, 0), b.slice(0, 0)).to_pylist() == []


@given(st.lists(st.tuples(*[st.floats(-1, 1, width=16)] * 6), min_size=1, max_size=8))
def test_a_cosine_is_one_whatever_the_length(rows: list[tuple[float, ...]]) -> None:
    a = vectors([list(r[:3]) for r in rows], 3)
    b = vectors([list(r[3:]) for r in rows], 3)
    found, again = cosine(a, b).to_pylist(), cosine(b, a).to_pylist()
    assert found == again
    for one, x, y in zip(found, a.to_pylist(), b.to_pylist(), strict=True):
        assert (one is None) == (not any(x) or not any(y))
        assert one is None or -1 <= one <= 1
    own = cosine(a, a).to_pylist()
    assert all(v is None or v == 1 for v in own)
