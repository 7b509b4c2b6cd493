"""Which file a CLIP is read from, and what is said before anything runs where there is none."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from stages import clip_weights
from stages.clip import ClipEmbedding, ClipScore
from stages.clip_weights import settled, weights_file, width
from tests.stages.clip_parts import DIM, MODEL, Weights, make_weights


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Weights:
    return make_weights(tmp_path_factory.mktemp("clip"))


def test_a_path_means_the_same_everywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "plain").write_bytes(b"")
    assert settled("a/b.pt") == str(tmp_path / "a/b.pt")
    assert settled("b.safetensors") == str(tmp_path / "b.safetensors")
    assert settled("plain") == str(tmp_path / "plain")
    assert settled("~/b.pt") == str(Path.home() / "b.pt")
    assert settled("laion2b_s34b_b79k") == "laion2b_s34b_b79k"


def test_length_of_vectors_is_known_without_loading(weights: Weights, tmp_path: Path) -> None:
    assert width("ViT-B-32", "anything") == width("ViT-B/32", "anything") == 512
    assert width("ViT-L-14", "anything") == 768
    assert width(MODEL, weights.open_clip) == DIM
    assert width(None, weights.ours) == 128
    assert width("no-such-model", "anything") is None
    assert width(None, str(tmp_path / "not-yet.pt")) is None
    vector = ClipEmbedding(weights=str(tmp_path / "not-yet.pt")).writes().field("clip_image").type
    assert not hasattr(vector, "list_size")


def test_another_file_at_the_same_path_is_looked_at_anew(weights: Weights, tmp_path: Path) -> None:
    path = tmp_path / "filter.pt"
    path.write_bytes(b"nothing")
    assert width(None, str(path)) is None
    path.write_bytes(Path(weights.ours).read_bytes())
    assert width(None, str(path)) == 128


@pytest.mark.parametrize(
    ("model", "name", "said"),
    [
        (None, "nowhere.pt", r"no weights at /.*/nowhere\.pt; give a file, or `model:` and a tag .*train-filter"),
        (MODEL, "nowhere.pt", r"no weights at /.*/nowhere\.pt"),
        (None, "here.pt", r"here\.pt is no file of towers.*weights of open_clip need `model:`"),
        (None, "", r"is a folder; name the file of weights in it, as .*filter\.pt"),
        ("ViT-B-23", "here.pt", r"open_clip has no model 'ViT-B-23'; nearest: .*ViT-B-32"),
        ("ViT-B-23", "openai", r"open_clip has no model 'ViT-B-23'"),
        ("ViT-B-32", "laion", r"ViT-B-32 has no weights 'laion'; it has openai, laion400m_e31, .*or give a file"),
        (MODEL, "openai", r"has no weights 'openai'; it has none: give a file"),
        ("ViT-B-32", "openai", r"another activation; say `model: ViT-B-32-quickgelu`"),
        ("ViT-B-32-quickgelu", "laion2b_s34b_b79k", r"has no weights 'laion2b_s34b_b79k'"),
    ],
)
def test_what_is_missing_is_said(weights: Weights, tmp_path: Path, model: str | None, name: str, said: str) -> None:
    (tmp_path / "here.pt").write_bytes(b"nothing")
    path = str(tmp_path / name) if name == "" or name.endswith(".pt") else name
    with pytest.raises(ValueError, match=said):
        weights_file(model, path)
    if model is not None:
        for kind in (ClipEmbedding, ClipScore):
            with pytest.raises(ValueError, match=said):
                kind(model=model, weights=path).files()


def test_an_open_clip_file_without_its_model_is_told(weights: Weights) -> None:
    with pytest.raises(ValueError, match="need `model:` beside them"):
        weights_file(None, weights.open_clip)


def test_a_tag_needs_a_model() -> None:
    with pytest.raises(ValueError, match="'openai' is no file: give its path, or `model:` if it is a tag"):
        ClipScore(weights="openai")


def test_a_tag_is_fetched_once(weights: Weights, monkeypatch: pytest.MonkeyPatch) -> None:
    from open_clip import pretrained

    asked = []
    monkeypatch.setattr(pretrained, "download_pretrained", lambda about: asked.append(about) or "/cache/w.safetensors")
    clip_weights._fetched.cache_clear()
    stage = ClipEmbedding(model="ViT-B-32", weights="laion2b_s34b_b79k")
    assert stage.files() == stage.files() == ("/cache/w.safetensors",)
    assert stage.identity()["parameters"]["weights"] == "/cache/w.safetensors"
    assert [about["hf_hub"] for about in asked] == ["laion/CLIP-ViT-B-32-laion2B-s34B-b79K/"]
    clip_weights._fetched.cache_clear()


def test_memory_goes_by_the_file_that_a_tag_names(
    weights: Weights, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from open_clip import pretrained

    large = tmp_path / "bigG.safetensors"
    with large.open("wb") as file:
        file.truncate(10_000_000_000)  # a hole
    monkeypatch.setattr(pretrained, "download_pretrained", lambda about: str(large))
    clip_weights._fetched.cache_clear()
    by_tag = ClipEmbedding(model="ViT-bigG-14", weights="laion2b_s39b_b160k").need()
    clip_weights._fetched.cache_clear()
    assert by_tag == ClipEmbedding(model="ViT-bigG-14", weights=str(large)).need()
    assert by_tag.memory_gb == pytest.approx(31.5)
    assert ClipEmbedding(model="ViT-bigG-14", weights="no_such_tag").need().memory_gb == 1.5


def test_without_a_network_the_remedy_is_named(weights: Weights, monkeypatch: pytest.MonkeyPatch) -> None:
    from open_clip import pretrained

    def unreachable(about: object) -> str:
        raise ConnectionError("[Errno -3] name resolution\nand a page of advice")

    monkeypatch.setattr(pretrained, "download_pretrained", unreachable)
    clip_weights._fetched.cache_clear()
    with pytest.raises(ValueError, match=r"not here and cannot be fetched \(ConnectionError: .*resolution\); with the"):
        weights_file("ViT-B-32", "laion2b_s34b_b79k")


def test_without_open_clip_its_models_are_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "w.pt").write_bytes(b"")
    monkeypatch.setattr(clip_weights, "find_spec", lambda name: None)
    monkeypatch.delitem(sys.modules, "open_clip", raising=False)
    with pytest.raises(ValueError, match=r"needs open_clip, which is not installed: pip install 'curate\[models\]'"):
        weights_file("ViT-B-32", str(tmp_path / "w.pt"))


def test_a_file_whose_width_is_known_is_asked_without_torch(weights: Weights) -> None:
    """A recipe whose columns are all there must not wait for it."""
    assert width(None, weights.ours) == 128
    asked = f"""
import subprocess
import sys
from stages.clip import ClipScore
stage = ClipScore(weights={weights.ours!r})
assert stage.embedding().files() == ({weights.ours!r},)
print(stage.embedding().writes().field("clip_image").type, "torch" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "fixed_size_list<item: halffloat>[128] False"
