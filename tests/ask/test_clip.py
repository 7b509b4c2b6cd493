"""clip_text('...'): what open_clip itself gives, by a tiny model whose random weights are made here."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

import curate
from curate.ask.clip import Clip
from curate.errors import UserError
from tests import pools

DIM = 24
CONFIG = {
    "embed_dim": DIM,
    "vision_cfg": {"image_size": 32, "layers": 1, "width": 64, "patch_size": 16},
    "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1},
}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory) -> str:
    """MODEL:WEIGHTS of a model that this process has registered."""
    torch = pytest.importorskip("torch", reason="torch is not installed: clip_text is not tested")
    open_clip = pytest.importorskip("open_clip", reason="open_clip is not installed: clip_text is not tested")
    folder = tmp_path_factory.mktemp("clip")
    (folder / "tiny-for-tests.json").write_text(json.dumps(CONFIG))
    open_clip.add_model_config(folder / "tiny-for-tests.json")
    torch.manual_seed(7)
    torch.save(open_clip.create_model("tiny-for-tests").state_dict(), folder / "weights.pt")
    return f"tiny-for-tests:{folder / 'weights.pt'}"


def reference(spec: str, text: str) -> np.ndarray:
    """open_clip, by itself."""
    import open_clip
    import torch

    model_name, weights = spec.split(":", 1)
    model = open_clip.create_model(model_name, pretrained=weights).eval()
    with torch.no_grad():
        raw = model.encode_text(open_clip.get_tokenizer(model_name)([text]))[0].numpy()
    return raw / np.linalg.norm(raw)


def vectors(kind: pa.DataType, dim: int = DIM):
    """A column maker: unit vectors drawn by shard, every fifth null."""

    def make(shard: int, uid: pa.Array) -> pa.Table:
        drawn = np.random.default_rng(shard).normal(size=(len(uid), dim))
        drawn /= np.linalg.norm(drawn, axis=1, keepdims=True)
        rows = [None if i % 5 == 4 else list(row.astype(kind.to_pandas_dtype())) for i, row in enumerate(drawn)]
        return pa.table({"vector": pa.array(rows, pa.list_(kind, dim))})

    return make


@pytest.mark.parametrize("text", ["a dog on a beach", "it's 'quoted' \\ and \"odd\"; DROP", "犬 🐕", ""])
def test_the_vector_is_that_of_open_clip(tmp_path, tiny, text):
    pools.synthetic(tmp_path / "pool", [3])
    handle = curate.open(str(tmp_path / "pool"), clip=tiny)
    said = text.replace("'", "''")
    answer = handle.sql(f"SELECT clip_text('{said}') AS v, typeof(clip_text('{said}')) AS kind")
    assert answer.to_arrow().schema.field("v").type == pa.list_(pa.float32(), DIM)
    ((vector, kind),) = answer.fetchall()
    assert kind == f"FLOAT[{DIM}]"
    assert np.linalg.norm(vector) == pytest.approx(1, abs=1e-6)
    np.testing.assert_allclose(vector, reference(tiny, text), atol=1e-6)


@pytest.mark.parametrize("kind", [pa.float16(), pa.float32()], ids=["float16", "float32"])
def test_pictures_by_caption(tmp_path, tiny, kind):
    """Nearest first, between a column and a text and between two columns, null where there is no vector."""
    pool = pools.synthetic(tmp_path / "pool", [6, 7])
    pools.add_column(pool, "tower", vectors(kind))
    handle = curate.open(str(tmp_path / "pool"), clip=tiny)
    assert handle.views()["samples"]["vector"] == f"FLOAT[{DIM}]"
    query = (
        "SELECT shard, row, array_cosine_similarity(vector, clip_text('a dog')) AS s, "
        "array_cosine_similarity(vector, vector) AS own FROM samples WHERE vector IS NOT NULL ORDER BY s DESC"
    )
    found = handle.sql(query).fetchall()
    text = reference(tiny, "a dog").astype(np.float64)
    expected = {
        (shard, row): float(np.dot(v, text) / np.linalg.norm(v))
        for shard, rows in enumerate([6, 7])
        for row, v in enumerate(vectors(kind)(shard, pools.uids(shard, rows)).column("vector").to_pylist())
        if v is not None
    }
    assert {(s, r) for s, r, _, _ in found} == expected.keys()
    assert [x for *_, x, _ in found] == pytest.approx([expected[s, r] for s, r, _, _ in found], abs=1e-4)
    assert [x for *_, x, _ in found] == sorted((x for *_, x, _ in found), reverse=True)
    assert all(own == pytest.approx(1, abs=1e-3) for *_, own in found)
    table = handle.sql("SELECT vector FROM samples").to_arrow()
    assert table.schema.field("vector").type == pa.list_(pa.float32(), DIM)


def test_several_texts_each_asked_once(tmp_path, tiny, monkeypatch):
    pools.synthetic(tmp_path / "pool", [3])
    handle = curate.open(str(tmp_path / "pool"), clip=tiny)
    handle.sql("SELECT clip_text('one')")
    tower = handle._session.clip._tower[0]
    seen = []
    monkeypatch.setattr(tower, "encode_text", lambda *a, f=tower.encode_text, **k: seen.append(1) or f(*a, **k))
    query = "SELECT array_cosine_similarity(clip_text('one'), CLIP_TEXT('one')), clip_text('two') FROM samples"
    ((same, _), *_rest) = handle.sql(query).fetchall()
    assert same == pytest.approx(1)
    handle.sql(query).fetchall()
    assert len(seen) == 1  # 'two', once; 'one' was known


def test_another_length_names_both(tmp_path, tiny):
    pool = pools.synthetic(tmp_path / "pool", [3])
    pools.add_column(pool, "tower", vectors(pa.float32(), 10))
    handle = curate.open(str(tmp_path / "pool"), clip=tiny)
    with pytest.raises(UserError, match=rf"clip_text of {tiny} is FLOAT\[{DIM}\]; vector is FLOAT\[10\]: compare"):
        handle.sql("SELECT array_cosine_similarity(vector, clip_text('x')) FROM samples")


def test_without_a_clip_it_says_how(tmp_path):
    pools.synthetic(tmp_path / "pool", [3])
    handle = curate.open(str(tmp_path / "pool"))
    with pytest.raises(
        UserError, match=r"clip_text needs a CLIP: --clip MODEL:WEIGHTS on the command line, curate.open"
    ):
        handle.sql("SELECT clip_text('x')")
    assert handle.sql("SELECT 'clip_text(1)'").fetchall() == [("clip_text(1)",)]


@pytest.mark.parametrize(
    ("call", "why"),
    [
        ("clip_text(text)", "takes one text in single quotes"),
        ("clip_text('a' || 'b')", "takes one text in single quotes"),
        ("clip_text(1)", "takes one text in single quotes"),
        ("clip_text(NULL)", "takes one text in single quotes"),
        ("clip_text()", "takes one text in single quotes"),
        ("clip_text('a', 'b')", "takes one text in single quotes"),
        ("clip_text((SELECT content FROM read_text('/etc/passwd')))", "refused|takes one text"),
        (f"clip_text('{'x' * 10_001}')", "a text of 10,001 characters; at most 10,000"),
    ],
)
def test_clip_text_takes_a_text_and_nothing_else(tmp_path, tiny, call, why):
    pools.synthetic(tmp_path / "pool", [3])
    with pytest.raises(UserError, match=why):
        curate.open(str(tmp_path / "pool"), clip=tiny).sql(f"SELECT {call} FROM samples")


@pytest.mark.parametrize(
    ("spec", "why"),
    [
        ("", "it is MODEL or MODEL:WEIGHTS"),
        (":x", "it is MODEL or MODEL:WEIGHTS"),
        ("ViT-B-32:/nowhere/weights.pt", "no weights at /nowhere/weights.pt"),
        ("ViT-B-32:weights.safetensors", "no weights at weights.safetensors"),
        ("local-dir:/nowhere", "no folder at /nowhere"),
    ],
)
def test_what_cannot_be_a_clip_is_refused_when_the_pool_is_opened(tmp_path, spec, why):
    pytest.importorskip("open_clip", reason="open_clip is not installed: that is said first")
    pools.synthetic(tmp_path / "pool", [3])
    with pytest.raises(UserError, match=why):
        curate.open(str(tmp_path / "pool"), clip=spec)


@pytest.mark.parametrize(
    ("spec", "why"),
    [
        ("ViT-B-33:x", "no model of this name; nearest: ViT-B-32"),
        ("ViT-B-32", "say which weights; ViT-B-32:WEIGHTS with one of openai"),
        ("ViT-B-32:laion9b", "'laion9b' is neither a file nor a tag of it; ViT-B-32:WEIGHTS with one of openai"),
    ],
)
def test_what_open_clip_does_not_know(spec, why):
    pytest.importorskip("open_clip", reason="open_clip is not installed: names are not known")
    with pytest.raises(UserError, match=why):
        Clip.named(spec).vectors(["x"])


def test_weights_that_are_none_are_told(tmp_path, tiny):
    wrong = tmp_path / "wrong.pt"
    wrong.write_bytes(b"cos\nsystem\n(S'touch /tmp/curate-pwned'\ntR.")
    with pytest.raises(UserError, match="open_clip cannot load it"):
        Clip.named(f"tiny-for-tests:{wrong}").vectors(["x"])
    assert not Path("/tmp/curate-pwned").exists()


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"torch is not installed; pip install 'curate\[models\]'"):
        Clip.named("ViT-B-32:openai")


def test_torch_waits_until_a_text_is_asked_for(tmp_path):
    """Neither opening with a CLIP nor other queries load it, nor a clip_text without a CLIP."""
    pools.synthetic(tmp_path / "pool", [3])
    script = (
        "import sys, curate\nfrom curate.errors import UserError\n"
        f"h = curate.open({str(tmp_path / 'pool')!r}, clip='ViT-B-32:openai')\n"
        "h.sql('SELECT count(*) FROM samples').fetchall()\n"
        f"try:\n    curate.open({str(tmp_path / 'pool')!r}).sql(\"SELECT clip_text('x')\")\n"
        "except UserError as e:\n    print(e)\n"
        "print([m for m in ('torch', 'open_clip', 'ray') if m in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "[]"
    assert "clip_text needs a CLIP" in done.stdout
