"""Weights of image models: found by path or by name, and refused in words where they are missing or do not fit."""

from __future__ import annotations

import pickle
import shutil
from pathlib import Path
from typing import Any

import pytest

from curate.run.prints import Prints
from stages import image_weights
from stages.image_embedding import ImageEmbedding
from tests.stages.image_parts import CASES, Models, make_models, sscd_of, stage_of

pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit:FutureWarning")  # the form that SSCD is published in


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Models:
    return make_models(tmp_path_factory.mktemp("models"))


@pytest.fixture(autouse=True)
def _notes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CURATE_CACHE", str(tmp_path / "cache"))


@pytest.mark.parametrize("preset", ["sscd_disc_mixup", "isc_ft_v107", "dinov2", "dinov2_timm"])
def test_missing_weights_are_told_before_anything_runs(preset: str, tmp_path: Path) -> None:
    stage = ImageEmbedding(preset=preset, weights=str(tmp_path / "given" / "model"))
    with pytest.raises(ValueError, match=f"image_embedding: .*{tmp_path}"):
        stage.files()
    with pytest.raises(ValueError, match=f"image_embedding: .*{tmp_path}"):
        stage.open()
    assert stage.need().memory_gb > 1


def test_where_published_weights_are_to_be_had_is_told() -> None:
    with pytest.raises(ValueError, match=r"sscd_disc_mixup.torchscript.pt; say `weights: /path/to/it`"):
        ImageEmbedding(preset="sscd_disc_mixup", weights="/nowhere/sscd.pt").files()


def test_a_name_that_the_hub_does_not_give_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    hub = pytest.importorskip("huggingface_hub", reason="huggingface_hub is not installed")

    def nothing(*_: Any, **__: Any) -> str:
        raise OSError("no network")

    monkeypatch.setattr(hub, "snapshot_download", nothing)
    with pytest.raises(ValueError, match=r"cannot be fetched \(OSError: no network\); .*hf download some/model"):
        ImageEmbedding(preset="dinov2", weights="some/model").files()


def test_a_name_is_taken_with_its_commit(models: Models, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hub = pytest.importorskip("huggingface_hub", reason="huggingface_hub is not installed")
    commit = "0123456789" * 4
    shutil.copytree(models.dinov2, tmp_path / commit)
    wanted = []

    def local(repo_id: str, revision: str | None = None, **_: Any) -> str:
        wanted.append((repo_id, revision))
        return str(tmp_path / commit)

    monkeypatch.setattr(hub, "snapshot_download", local)
    monkeypatch.setattr(image_weights, "_TAKEN", {})
    stage = ImageEmbedding(preset="dinov2", weights="org/model", size=28, shorter=32)
    assert Prints().base(stage) == Prints().base(stage_of(models, "dinov2", batch=8))
    worker = pickle.loads(pickle.dumps(stage))
    assert worker.place == f"org/model@{commit}"
    assert worker.files() == stage.files()
    assert wanted == [("org/model", None), ("org/model", commit)]


def test_folders_that_lack_something_are_told(models: Models, tmp_path: Path) -> None:
    shutil.copytree(models.dinov2, tmp_path / "a")
    (tmp_path / "a" / "model.safetensors").unlink()
    with pytest.raises(ValueError, match=r"lacks model\.safetensors"):
        ImageEmbedding(preset="dinov2", weights=str(tmp_path / "a")).files()
    index = '{"weight_map": {"x": "model-00001-of-00002.safetensors"}}'
    (tmp_path / "a" / "model.safetensors.index.json").write_text(index)
    with pytest.raises(ValueError, match=r"lacks model-00001-of-00002.safetensors"):
        ImageEmbedding(preset="dinov2", weights=str(tmp_path / "a")).files()
    with pytest.raises(ValueError, match="name the folder that has it"):
        ImageEmbedding(preset="dinov2", weights=models.sscd).files()
    with pytest.raises(ValueError, match="say `model:`"):
        ImageEmbedding(preset="dinov2_timm", weights=models.timm_file).files()


def without_a_tensor(models: Models, tmp_path: Path, case: str) -> ImageEmbedding:
    import torch
    from safetensors.torch import load_file, save_file

    if case == "isc":
        said = torch.load(models.isc, weights_only=False)
        del said["state_dict"]["module.fc.weight"]
        torch.save(said, tmp_path / "isc.pt")
        return ImageEmbedding(weights=str(tmp_path / "isc.pt"), **CASES["isc"][1])
    folder = tmp_path / case
    shutil.copytree(getattr(models, case), folder)
    state = load_file(folder / "model.safetensors")
    del state[sorted(n for n in state if "norm" in n)[0]]
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    return ImageEmbedding(weights=str(folder), **CASES[case][1])


@pytest.mark.parametrize("case", ["isc", "timm", "dinov2"])
def test_weights_that_do_not_fill_the_model_are_refused(models: Models, tmp_path: Path, case: str) -> None:
    with pytest.raises(ValueError, match=r"image_embedding: cannot load .* they lack "):
        without_a_tensor(models, tmp_path, case).open()


def test_weights_of_another_model_are_refused(models: Models, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="gives 24 numbers, and sscd_disc_mixup has 512"):
        ImageEmbedding(preset="sscd_disc_mixup", weights=sscd_of(tmp_path, 24)).open()
    with pytest.raises(ValueError, match=r"cannot load .* as torchscript"):
        ImageEmbedding(preset="sscd_disc_mixup", weights=models.isc).open()
    with pytest.raises(ValueError, match=r"cannot load .* as isc"):
        ImageEmbedding(preset="isc_ft_v107", weights=models.timm_file).open()


class Trap:
    """What a pickle would do to whoever opens it."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (Path("sprung"),))


def test_a_checkpoint_that_would_run_code_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch = pytest.importorskip("torch", reason="torch is not installed")
    monkeypatch.chdir(tmp_path)
    torch.save({"arch": "resnet18", "state_dict": {}, "more": Trap()}, "trap.pth.tar")
    with pytest.raises(ValueError, match=r"cannot load .*trap.pth.tar as isc"):
        ImageEmbedding(preset="isc_ft_v107", weights="trap.pth.tar").open()
    assert not Path("sprung").exists()


def test_a_gpu_that_is_not_there_is_told(models: Models) -> None:
    torch = pytest.importorskip("torch", reason="torch is not installed")
    if torch.cuda.is_available():
        pytest.skip("a GPU is here")
    with pytest.raises(ValueError, match="no GPU is seen here"):
        stage_of(models, "sscd", device="cuda").open()
