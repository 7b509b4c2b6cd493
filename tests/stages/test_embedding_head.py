"""Heads on vectors: the numbers of the networks they stand for, whatever file those come in."""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from curate.run.prints import Prints
from stages.base import Batch, Column, fact
from stages.clip import ClipEmbedding
from stages.embedding_head import EmbeddingHead
from stages.head_weights import head_layers

DIM = 12
torch = pytest.importorskip("torch", reason="torch is not installed: nothing to compare heads with")


def vectors(n: int = 9, dim: int = DIM, seed: int = 0) -> np.ndarray:
    rows = np.random.default_rng(seed).normal(size=(n, dim))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float16)


def column(rows: np.ndarray, null: tuple[int, ...] = (2,)) -> pa.Array:
    mask = pa.array([i in null for i in range(len(rows))], pa.bool_())
    return pa.FixedSizeListArray.from_arrays(pa.array(rows.ravel(), pa.float16()), rows.shape[1], mask=mask)


def scored(stage: EmbeddingHead, given: pa.Array) -> list[float | None]:
    table = stage.run(Batch({stage.vectors: given}, len(given)))
    assert table.schema == pa.schema([("score", pa.float32())])
    return table.column(0).to_pylist()


def head(weights: Path, kind: Any, **more: Any) -> EmbeddingHead:
    return EmbeddingHead(**{"vectors": "v", "weights": str(weights), "kind": kind, "name": "score", **more})


class Aesthetic(torch.nn.Module):
    """Layers as improved-aesthetic-predictor names them, with its dropout, and smaller."""

    def __init__(self) -> None:
        super().__init__()
        nn = torch.nn
        self.layers = nn.Sequential(
            nn.Linear(DIM, 32), nn.Dropout(0.2), nn.Linear(32, 16), nn.Dropout(0.2), nn.Linear(16, 8), nn.Dropout(0.1),
            nn.Linear(8, 4), nn.Linear(4, 1),
        )  # fmt: skip


def nsfw() -> torch.nn.Sequential:
    """As dataset2metadata has it, with its names, eps 0, and smaller."""
    nn = torch.nn
    widths = {"dense": (DIM, 6), "dense1": (6, 20), "dense2": (20, 10), "dense3": (10, 1)}
    parts: list[tuple[str, torch.nn.Module]] = [("norm", nn.BatchNorm1d(DIM, eps=0.0))]
    for i, (name, (a, b)) in enumerate(widths.items()):
        parts += [(name, nn.Linear(a, b)), (f"relu{i}" if i < 3 else "sigmoid", nn.ReLU() if i < 3 else nn.Sigmoid())]
    net = nn.Sequential(OrderedDict(parts))
    net.norm.running_mean.uniform_(-0.1, 0.1)
    net.norm.running_var.uniform_(0.05, 2)
    net.norm.weight.data.uniform_(0.5, 2)
    net.norm.bias.data.uniform_(-1, 1)
    return net.eval()


def answers(net: Any, rows: np.ndarray) -> np.ndarray:
    unit = rows.astype(np.float64) / np.linalg.norm(rows.astype(np.float64), axis=1, keepdims=True)
    with torch.no_grad():
        found: np.ndarray = net.double()(torch.from_numpy(unit))[:, 0].numpy()
    return found


def saved(net: Any, path: Path) -> Path:
    torch.manual_seed(5)
    torch.save(net.state_dict(), path)
    return path


def test_aesthetic_v2_is_one_affine_map(tmp_path: Path) -> None:
    torch.manual_seed(1)
    net = Aesthetic().eval()
    path = saved(net, tmp_path / "v2.pth")
    (folded,) = head_layers(str(path), "aesthetic_v2")
    assert folded.weight.shape == (1, DIM)
    found = scored(head(path, "aesthetic_v2"), column(vectors()))
    expected = answers(net.layers, vectors())
    assert found[2] is None
    assert [f for f in found if f is not None] == pytest.approx(np.delete(expected, 2), abs=6e-5)
    assert all(round(f, 4) == pytest.approx(f, abs=1e-7) for f in found if f is not None)


@pytest.mark.parametrize("form", ["pt", "npz", "safetensors"])
def test_nsfw_in_every_kind_of_file(form: str, tmp_path: Path) -> None:
    torch.manual_seed(2)
    net = nsfw()
    path = tmp_path / f"nsfw.{form}"
    state = {n: t.numpy() for n, t in net.state_dict().items()}
    if form == "pt":
        saved(net, path)
    elif form == "npz":
        np.savez(path, **state)
    else:
        pytest.importorskip("safetensors.numpy", reason="safetensors is not installed").save_file(state, path)
    found = scored(head(path, "nsfw"), column(vectors(), null=()))
    assert found == pytest.approx(list(answers(net, vectors())), abs=6e-5)
    assert len({*found}) > 3


def test_aesthetic_v1_is_affine_on_the_vector(tmp_path: Path) -> None:
    np.savez(tmp_path / "v1.npz", weight=np.arange(3.0), bias=np.array([0.5]))
    stage = head(tmp_path / "v1.npz", "affine")
    assert scored(stage, column(np.array([[0, 0, 2], [3, 4, 0]], np.float16), null=())) == pytest.approx([2.5, 1.3])
    raw = head(tmp_path / "v1.npz", "affine", normalise=False)
    assert scored(raw, column(np.array([[0, 0, 2], [3, 4, 0]], np.float16), null=())) == pytest.approx([4.5, 4.5])


def test_mlp_has_relu_between_and_the_output_that_is_named(tmp_path: Path) -> None:
    torch.manual_seed(3)
    net = torch.nn.Sequential(torch.nn.Linear(DIM, 7), torch.nn.ReLU(), torch.nn.Linear(7, 1))
    path = saved(net, tmp_path / "water.pt")
    plain = answers(net, vectors())
    assert scored(head(path, "mlp"), column(vectors(), null=())) == pytest.approx(list(plain), abs=6e-5)
    found = scored(head(path, "mlp", output="sigmoid"), column(vectors(), null=()))
    assert found == pytest.approx(list(1 / (1 + np.exp(-plain))), abs=6e-5)


def test_company_changes_nothing(tmp_path: Path) -> None:
    torch.manual_seed(4)
    stage = head(saved(nsfw(), tmp_path / "n.pt"), "nsfw")
    rows = vectors(64, seed=9)
    whole = scored(stage, column(rows, null=()))
    assert [scored(stage, column(rows[i : i + 1], null=()))[0] for i in range(64)] == whole


def test_zeros_nulls_and_nothing(tmp_path: Path) -> None:
    np.savez(tmp_path / "w.npz", weight=np.ones(3), bias=np.zeros(1))
    stage = head(tmp_path / "w.npz", "affine")
    assert scored(stage, column(np.zeros((2, 3), np.float16), null=(1,))) == [None, None]
    assert scored(stage, column(np.zeros((0, 3), np.float16), null=())) == []


def test_what_does_not_fit_is_said_before_anything_runs(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no weights at /nowhere/h\.pt; give a file"):
        head(Path("/nowhere/h.pt"), "nsfw").files()
    np.savez(tmp_path / "w.npz", weight=np.ones((1, 9)), bias=np.zeros(1))
    with pytest.raises(ValueError, match="has 1 linear layers, and kind nsfw"):
        head(tmp_path / "w.npz", "nsfw").open()
    (tmp_path / "bad.pt").write_bytes(b"no weights")
    with pytest.raises(ValueError, match="cannot be read as weights"):
        head(tmp_path / "bad.pt", "affine").open()
    np.savez(tmp_path / "c.npz", **{"a.weight": np.ones((4, 9)), "b.weight": np.ones((1, 5))})
    with pytest.raises(ValueError, match="no chain that ends in one number"):
        head(tmp_path / "c.npz", "mlp").open()
    flat = {"norm.running_mean": np.zeros(9), "norm.running_var": np.zeros(9), "a.weight": np.ones((1, 9))}
    np.savez(tmp_path / "z.npz", **flat)
    with pytest.raises(ValueError, match="cannot be divided by"):
        head(tmp_path / "z.npz", "nsfw").open()
    with pytest.raises(ValueError, match="name"):
        head(tmp_path / "w.npz", "affine", name="A b")


def test_vectors_of_another_clip(tmp_path: Path) -> None:
    from tests.stages.clip_parts import DIM as WIDE
    from tests.stages.clip_parts import MODEL, make_weights

    weights = make_weights(tmp_path)
    source = Column(ClipEmbedding(model=MODEL, weights=weights.open_clip), "clip_image")
    np.savez(tmp_path / "w.npz", weight=np.ones((1, WIDE + 1)))
    with pytest.raises(ValueError, match=f"for vectors of {WIDE + 1} numbers, and 'clip_image' has {WIDE}"):
        head(tmp_path / "w.npz", "affine", vectors=source).open()
    with pytest.raises(ValueError, match="'v' has 3"):  # where nobody says it before
        scored(head(tmp_path / "w.npz", "affine"), column(vectors(2, 3), null=()))
    assert head(tmp_path / "w.npz", "affine").reads() == (fact("v"),)


def test_fingerprint_covers_what_is_in_the_file(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", weight=np.ones((1, 9)))
    (tmp_path / "b.npz").write_bytes((tmp_path / "a.npz").read_bytes())
    prints = Prints()
    plain = prints.base(head(tmp_path / "a.npz", "affine"))
    assert prints.base(head(tmp_path / "b.npz", "affine")) == plain
    assert prints.base(head(tmp_path / "a.npz", "mlp")) != plain
    np.savez(tmp_path / "b.npz", weight=np.zeros((1, 9)))
    assert Prints().base(head(tmp_path / "b.npz", "affine")) != plain
